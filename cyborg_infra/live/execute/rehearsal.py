"""Run the rehearsals of a plan (`core.planning.rehearsal`): create each configuration under a temporary name, and delete it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.idempotent import (
    create_consumer,
    create_stream,
    delete,
    update_consumer,
    update_stream,
)
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import NoReply, PermissionDenied
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import FIELDS, Config, Kind
from cyborg_infra.model.problems import PlanRefused, PlanStale, Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.rehearsal import Part, Rehearsal
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.server import Limits
from cyborg_infra.model.server_values import as_open
from cyborg_infra.model.units import format_duration, format_size, parse_duration

REHEARSALS_IN_FLIGHT = 4  # each takes room for a moment

NO_ROOM_CODES = frozenset(
    {
        ErrorCode.JSAccountResourcesExceededErr,
        ErrorCode.JSInsufficientResourcesErr,
        ErrorCode.JSMaximumStreamsLimitErr,
        ErrorCode.JSMemoryResourcesExceededErr,
        ErrorCode.JSStorageResourcesExceededErr,
    }
)
"""There is no room for it beside what is there, which will be gone by then: the plan has counted that."""

_NO_STORAGE_CODES = frozenset(
    {ErrorCode.JSMemoryResourcesExceededErr, ErrorCode.JSStorageResourcesExceededErr}
)

_LIMIT = re.compile(r"limit of (\S+)")

_SERVER_LIMITS: Mapping[int, tuple[str, str]] = {
    ErrorCode.JSStreamInvalidConfigF: ("duplicate_window", "duplicate_window"),
    ErrorCode.JSConsumerMaxPendingAckExcessErrF: ("max_ack_pending", "max_ack_pending"),
    ErrorCode.JSConsumerMaxRequestBatchExceededF: ("max_batch", "max_request_batch"),
}
"""err_code -> the field, and what an administrator calls its limit."""

ServerValues = Mapping[bytes, Mapping[str, int]]
"""Kind of a resource -> what the server's own limits make of what it leaves open; see `model.server_values`."""


@dataclass
class _Trial:
    """What came of one rehearsal."""

    rehearsal: Rehearsal
    problems: list[Problem] = field(default_factory=list)
    without_room: list[Problem] = field(default_factory=list)
    values: dict[bytes, Mapping[str, int]] = field(default_factory=dict)


async def rehearse(
    server: JetStream, rehearsals: Iterable[Rehearsal], leftovers: Iterable[Ref], limits: Limits
) -> ServerValues:
    """Create and delete every rehearsal, and delete what is `leftovers` of an earlier time. Returns what the server makes of what is left open.

    What takes nothing away is not tried where this user may not, or where the server does not answer: then its refusal
    comes later. So it is with what somebody deletes meanwhile, as another apply without the lease does at its end.
    Raises PlanRefused with everything that it does not accept, ServerFault if it does not say, and PlanStale if what
    takes another's place was deleted meanwhile: nothing else was changed then.
    """
    for ref in leftovers:
        with contextlib.suppress(PermissionDenied):  # who left it could not delete it, either
            await delete(server, ref)
    allowed = await _allowed(server, list(rehearsals))
    free = limits.max_streams - limits.streams if limits.max_streams > 0 else REHEARSALS_IN_FLIGHT
    turns = asyncio.Semaphore(max(1, min(free, REHEARSALS_IN_FLIGHT)))

    async def tried(rehearsal: Rehearsal) -> _Trial:
        async with turns:
            return await _try(server, rehearsal)

    results = await asyncio.gather(*map(tried, allowed), return_exceptions=True)
    problems: list[Problem] = []
    values: dict[bytes, Mapping[str, int]] = {}
    for result in results:
        if isinstance(result, BaseException):
            raise result
        trial = result
        if trial.without_room and trial.rehearsal.takes_room:  # or another one had taken it
            trial = await _try(server, trial.rehearsal)
            problems += trial.without_room
        problems += trial.problems
        values |= trial.values
    if problems:
        raise PlanRefused(*problems)
    return values


async def _allowed(server: JetStream, rehearsals: Sequence[Rehearsal]) -> list[Rehearsal]:
    """Return the required rehearsals, and of the others those that this user may send, as far as that is known."""
    if all(rehearsal.is_required for rehearsal in rehearsals):
        return list(rehearsals)
    may = await server.permissions()
    if may is None or not may.are_limited:
        return list(rehearsals)
    return [
        rehearsal
        for rehearsal in rehearsals
        if rehearsal.is_required
        or all(may.may_publish(f"{server.api_prefix}.{verb}") for verb in _verbs(rehearsal))
    ]


def _verbs(rehearsal: Rehearsal) -> Iterator[str]:
    stream = rehearsal.stream.candidate.ref
    yield from (f"STREAM.{verb}.{stream}" for verb in ("CREATE", "INFO", "DELETE"))
    if rehearsal.stream.before is not None:
        yield f"STREAM.UPDATE.{stream}"
    for part in rehearsal.consumers:
        yield from (f"CONSUMER.{verb}.{stream}.{part.candidate.ref.consumer}" for verb in ("CREATE", "INFO"))


async def _try(server: JetStream, rehearsal: Rehearsal) -> _Trial:
    """Try the rehearsal and delete it, whatever happens. Return why the server refuses it, and what it makes of the settings."""
    trial, name = _Trial(rehearsal), rehearsal.stream.candidate.ref
    try:
        for part in (rehearsal.stream, *rehearsal.consumers):
            try:
                config = await _put(server, part, is_required=rehearsal.is_required)
            except ApiError as error:
                if not part.is_background:
                    refusal = _refusal_problem(part, error)
                    if rehearsal.reserves and error.err_code in _NO_STORAGE_CODES:
                        refusal = _no_room_problem(rehearsal, error)
                    (trial.without_room if error.err_code in NO_ROOM_CODES else trial.problems).append(
                        refusal
                    )
                if part is rehearsal.stream:
                    break
            else:
                if config is None:
                    _refuse_untried(rehearsal, part)
                    break
                trial.problems += _unkept(part, config)
                trial.values[part.shape] = _server_values(part, config)
    except BaseException as error:
        with contextlib.suppress(ServerFault):  # the next apply deletes it
            await delete(server, name)
        if isinstance(error, PermissionDenied | NoReply) and not rehearsal.is_required:
            return trial
        raise
    await delete(server, name)
    return trial


def _refuse_untried(rehearsal: Rehearsal, part: Part) -> None:
    """Raise PlanStale if something would be taken away for what was deleted while it was tried: another apply has ended."""
    if rehearsal.is_required:
        raise PlanStale(
            Problem(
                "stale",
                f"somebody deleted {rehearsal.stream.candidate.ref} while the new configuration of {part.desired.ref} was tried; nothing was changed",
                part.desired.origin,
                "apply again when no other apply runs",
            )
        )


async def _put(server: JetStream, part: Part, *, is_required: bool) -> Config | None:
    """Create the candidate, if possible by an update of what lives now. Raises ApiError.

    Returns what the server has then; None if somebody has deleted it meanwhile. None as well if the server does not make
    what lives either, for the same reason, and nothing is taken away: a full disk or a server that is down says nothing
    of the change, which may be the cure.
    """
    doing, candidate = f"trying the new configuration of {part.desired.ref}", part.candidate
    is_stream = candidate.ref.kind is Kind.STREAM
    create, update = (create_stream, update_stream) if is_stream else (create_consumer, update_consumer)
    refused: ApiError | None = None
    try:
        if part.before is not None:
            refused = await _refusal_of(server, part.before, doing)
        if part.before is None or refused:
            await create(server, candidate, doing)
        else:
            await update(server, candidate, doing)
    except ApiError as error:
        same = refused and refused.err_code == error.err_code and error.err_code not in _SERVER_LIMITS
        if (is_required or not same) and error.err_code != ErrorCode.JSStreamNotFoundErr:
            raise
        return None
    found = await server.info(candidate.ref)
    return found.config if found else None


async def _refusal_of(server: JetStream, before: Resource, doing: str) -> ApiError | None:
    """Create the resource as it lives now. Return why the server refuses even that: it may be older than a limit that it exceeds."""
    create = create_stream if before.ref.kind is Kind.STREAM else create_consumer
    try:
        await create(server, before, doing)
    except ApiError as error:
        return error
    return None


def _unkept(part: Part, config: Config) -> Iterator[Problem]:
    """Yield a problem for each field that the server accepts, and makes something else of."""
    asked, held = part.candidate.normalised(), Resource(part.candidate.ref, config).normalised()
    for name in FIELDS[part.candidate.ref.kind]:
        if name in ("metadata", *part.desired.left_open) or asked.get(name) == held.get(name):
            continue
        if part.is_background:
            continue
        yield Problem(
            "refused-by-server",
            f"trying the new configuration of {part.desired.ref}: the server accepts {name}, and keeps {json.dumps(held.get(name))} instead of {json.dumps(asked.get(name))}; nothing was changed",
            part.desired.origin,
            f"write what it keeps, or take {name} out of the manifest: this server version may not know it",
        )


def _server_values(part: Part, config: Config) -> Mapping[str, int]:
    """Return what the server's own limits made of what is left open."""
    usual = as_open(part.desired.config)
    held = {name: config.get(name) or 0 for name in part.desired.left_open}
    return {name: value for name, value in held.items() if value and value != usual.get(name)}


def _no_room_problem(rehearsal: Rehearsal, error: ApiError) -> Problem:
    stream = rehearsal.stream.desired
    size, storage = format_size(rehearsal.reserves), stream.get("storage")
    return Problem(
        "refused-by-server",
        f"the server has no room for {size} in {storage} storage, which the streams of this plan reserve by max_bytes (err_code {error.err_code}); nothing was changed",
        stream.origin,
        f"lower max_bytes, or set it to -1, which reserves nothing; or raise max_{storage}_store in the server's configuration",
    )


def _refusal_problem(part: Part, error: ApiError) -> Problem:
    (problem,) = error.problems
    message, hint = problem.message, problem.hint
    name, limit = _SERVER_LIMITS.get(error.err_code, ("", ""))
    found = _LIMIT.search(error.description)
    wanted = part.desired.config
    if found and wanted.get(name):
        asked, most = str(wanted[name]), found[1]
        if name == "duplicate_window":
            asked, most = format_duration(wanted[name]), format_duration(parse_duration(most))
        message = f"trying the new configuration of {part.desired.ref}: {name} is {asked}, and the server allows {most} (err_code {error.err_code})"
        hint = f"write {name}: {most}, or less, or leave it out; or raise {limit} in jetstream {{ limits {{ ... }} }} of the server's configuration"
    return problem._replace(
        code="refused-by-server",
        message=f"{message}; nothing was changed",
        where=part.desired.origin,
        hint=hint,
    )
