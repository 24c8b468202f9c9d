"""Resources that a listing names without telling of them: read them again, or find that they are foreign.

A cluster lists a stream whose servers do not answer by its name alone, or with zeroes for what it holds. To a plan it
would not exist. So either it is read after all, or there is no plan; unless it is certain to be somebody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from cyborg_infra.live import timing
from cyborg_infra.live.api.errors import NOBODY_HOLDS, ApiError, Retry
from cyborg_infra.live.api.paging import ConcurrentModification, MissingRow, RequestApi
from cyborg_infra.live.connection.errors import PermissionDenied, Unanswered
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.metadata_keys import OWNER_KEY, RENAMED_FROM_KEY
from cyborg_infra.model.problems import Problem, ServerFault, SnapshotIncomplete
from cyborg_infra.model.ref import PLACEHOLDER_PREFIX, TEMPORARY_PREFIX, Ref
from cyborg_infra.model.resources import Resource, State
from cyborg_infra.model.subjects import covers

_READS_IN_FLIGHT = 128
_MAX_NAMED = 3  # are told by name

MissingRows = Mapping[str, MissingRow]
ReadOne = Callable[[Ref, float], Awaitable[dict[str, Any]]]
"""Reads one stream or consumer, once, within so many seconds."""

RowsByRef = dict[Ref, dict[str, Any]]
Problems = dict[Ref, Problem]


async def find_foreign_streams(
    ask: RequestApi, absent: MissingRows, owner: str, desired: State[Resource]
) -> set[str]:
    """Return those that are certain not to be the owner's: neither by name, nor by label, nor by a subject that they store.

    A cluster knows the subjects of streams whose servers are down (2.10.26 to 2.15.1). Whose is ours and has none, a
    copy, goes by a name of ours. Raises SnapshotIncomplete where it may not be asked.
    """
    names = {stream.ref.stream for stream in desired.streams()}
    unknown = {
        name
        for name, row in absent.items()
        if name.removeprefix(TEMPORARY_PREFIX) not in names and _owner(row) != owner
    }
    if not unknown:
        return unknown
    stored = (_storing(ask, subject) for subject in _subjects(owner, desired))
    try:
        return unknown.difference(*await asyncio.gather(*stored))
    except PermissionDenied as denied:
        raise SnapshotIncomplete(
            Problem(
                "missing",
                f"{', '.join(sorted(unknown)[:_MAX_NAMED])} could not be read, and whose it is not told: {denied.problems[0].message}",
                None,
                "allow it, or bring its servers back",
            )
        ) from None


def find_foreign_consumers(
    absent: MissingRows, listed: Iterable[str], stream: str, owner: str, desired: State[Resource]
) -> set[str]:
    """Return those that are certain not to be the owner's: neither by name nor by label.

    Where a role has another name now and its consumer does not exist, one whose labels are not known may be that one.
    """
    wanted = {reader.ref.consumer: reader for reader in desired.consumers(stream)}
    there = {*listed, *absent}
    renamed = any(RENAMED_FROM_KEY in reader.metadata for name, reader in wanted.items() if name not in there)
    return {
        name
        for name, row in absent.items()
        if wanted
        and name.removeprefix(PLACEHOLDER_PREFIX) not in wanted
        and _owner(row) != owner
        and (row.row is not None or not renamed)
    }


async def read_missing(
    absent: Mapping[Ref, MissingRow], look: ReadOne, begun: float
) -> tuple[RowsByRef, Problems]:
    """Return the rows that can be read after all, and why the others cannot. `begun` is when the listing began, by the loop's clock."""
    end = max(
        begun + timing.UNREACHABLE_SEARCH_SECONDS,
        asyncio.get_running_loop().time() + 2 * timing.UNREACHABLE_ANSWER_SECONDS,
    )
    return await _looked(absent, look, begun, end)


async def _looked(
    absent: Mapping[Ref, MissingRow], look: ReadOne, begun: float, end: float
) -> tuple[RowsByRef, Problems]:
    """Read each missing row until `end`, at least once; return as `read_missing`."""
    found: RowsByRef = {}
    problems: Problems = {}
    turn, clock = asyncio.Semaphore(_READS_IN_FLIGHT), asyncio.get_running_loop().time

    async def one(ref: Ref, row: MissingRow) -> None:
        async with turn:
            try:  # a row tells that all its servers have said that they go: one look is enough
                found[ref] = await _read(partial(look, ref), clock, begun if row.row else end)
            except ServerFault as fault:
                if isinstance(fault, ApiError) and fault.err_code in (
                    ErrorCode.JSStreamNotFoundErr,
                    ErrorCode.JSConsumerNotFoundErr,
                ):
                    raise ConcurrentModification from None  # the listing still knew what is being deleted
                problems[ref] = _problem(ref, row, fault)

    looks = await asyncio.gather(*(one(ref, row) for ref, row in absent.items()), return_exceptions=True)
    for fault in looks:  # when all have ended: none is left behind
        if fault is not None:
            raise fault
    return found, dict(sorted(problems.items()))


async def looked_at(
    absent: Mapping[Ref, MissingRow], look: ReadOne, begun: float
) -> tuple[RowsByRef, Problems]:
    """Return as `read_missing`, reading each row once: the listing has waited, and an election that ended meanwhile has a leader now."""
    return await _looked(absent, look, begun, begun)


async def _read(
    look: Callable[[float], Awaitable[dict[str, Any]]], clock: Callable[[], float], end: float
) -> dict[str, Any]:
    while True:
        try:
            return await look(timing.UNREACHABLE_ANSWER_SECONDS)
        except ServerFault as fault:
            passes = isinstance(fault, Unanswered) or (
                isinstance(fault, ApiError) and fault.retry is not Retry.NEVER
            )
            if not passes or clock() + timing.UNREACHABLE_POLL_SECONDS >= end:
                raise
        await asyncio.sleep(timing.UNREACHABLE_POLL_SECONDS)


def _subjects(owner: str, desired: State[Resource]) -> set[str]:
    """Return patterns of all subjects that streams of the owner store, those that are fenced included; dead letters have one of its own."""
    whole = f"{owner}.>"
    others = {
        subject
        for stream in desired.streams()
        for subject in stream.get("subjects")
        if not covers(whole, subject) and not subject.startswith("$JS.")
    }
    return {whole, "_parked.>", *others}


async def _storing(ask: RequestApi, subject: str) -> set[str]:
    """Return the names of the streams that store some of these subjects."""
    found: set[str] = set()
    while True:
        doing = f"asking which streams store {subject}"
        page = await ask("STREAM.NAMES", {"subject": subject, "offset": len(found)}, doing=doing)
        names = page.get("streams") or ()
        if found.issuperset(names):
            return found
        found.update(names)


def _owner(absent: MissingRow) -> str | None:
    metadata = (absent.row or {}).get("config", {}).get("metadata") or {}
    owner: str | None = metadata.get(OWNER_KEY)
    return owner


def _problem(ref: Ref, absent: MissingRow, fault: ServerFault | None = None) -> Problem:
    refused = isinstance(fault, ApiError) and fault.retry is Retry.NEVER
    if absent.reason or (fault is not None and refused):
        why = absent.reason or str(fault)
        way = "it was written by a newer server version: bring that one back"
    else:
        why = _is_down(absent.row) or (
            fault.problems[0].message if isinstance(fault, ApiError) else NOBODY_HOLDS
        )
        gone, removal = "its messages", f"nats stream rm {ref}"
        if ref.consumer:
            gone, removal = "the place where it stands", f"nats consumer rm {ref.stream} {ref.consumer}"
        way = f"bring its servers back; if they are gone for good, so is {gone}: `{removal}`, and apply makes it anew"
    return Problem("missing", f"{ref} could not be read: {why}", None, way)


def _is_down(row: Mapping[str, Any] | None) -> str:
    copies = [copy["name"] for copy in ((row or {}).get("cluster") or {}).get("replicas") or ()]
    if len(copies) == 1:
        return f"its only copy is on {copies[0]}, which is down"
    if copies:
        return f"of its copies on {', '.join(copies)} too many are down"
    return ""
