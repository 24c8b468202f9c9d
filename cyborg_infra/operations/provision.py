"""Provisioning: load a manifest, plan it against a live server, apply the plan. Read this module first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyborg_infra import __version__
from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.together import Planned, check_together
from cyborg_infra.core.planning import last_applied, rehearsal
from cyborg_infra.core.planning.gate import (
    fail_unverified,
    refuse_unless_allowed,
    refuse_unless_same,
    refuse_unless_shown,
    verify_outcomes,
)
from cyborg_infra.core.planning.notes import UNKNOWN_PERMISSIONS, permission_notes
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.core.planning.server_values import with_learned_values
from cyborg_infra.live import timing
from cyborg_infra.live.api.jetstream import JetStream, connect_account
from cyborg_infra.live.connection.target import Flags, Target, resolve
from cyborg_infra.live.records.last_applied import read_applied_record, save_applied_record
from cyborg_infra.manifest.load import load
from cyborg_infra.manifest.saved_plan import is_saved, load_saved
from cyborg_infra.model.counting import CountKind
from cyborg_infra.model.plan import Outcome, Plan, PlanRequest, ResultStatus
from cyborg_infra.model.problems import (
    ManifestInvalid,
    Problem,
    ServerFault,
    SnapshotIncomplete,
    UsageInvalid,
)
from cyborg_infra.model.resources import DesiredState, LiveState
from cyborg_infra.model.server import Limits, require_server_info
from cyborg_infra.model.server_versions import NEWEST_LEVEL
from cyborg_infra.model.valueclass import valueclass
from cyborg_infra.model.wording import Option, worded
from cyborg_infra.operations.event_loop import run_coroutine

if TYPE_CHECKING:  # what a plan does not need is imported where it is needed: see docs/decisions/0013
    from cyborg_infra.live.embedded import EmbeddedServer
    from cyborg_infra.live.execute.consumer.options import ApplyOptions
    from cyborg_infra.live.records.lease import Holder
    from cyborg_infra.operations.dead_letter_store import DeadLetterStore

__all__ = [
    "ApplyRequest",
    "Flags",
    "PlanRequest",
    "Target",
    "apply",
    "destroy_request",
    "embedded_server",
    "is_saved",
    "lease_holder",
    "load_request",
    "load_requests",
    "needs_record",
    "plan",
    "refuse_unless_allowed",
    "resolve",
    "unlock",
]


def load_request(
    path: str, env: str | None = None, *, prune: bool = False, targets: Sequence[str] = ()
) -> PlanRequest:
    """Return what the manifest or saved plan at `path` asks for. Raises ManifestInvalid, or PlanStale for a damaged plan."""
    if is_saved(path):
        saved = load_saved(path)
        return PlanRequest(saved.org, saved.desired, None, saved, saved.prune, saved.targets)
    org = load(path, env)
    return PlanRequest(org.name, expand(org), org, None, prune, tuple(targets))


def load_requests(
    paths: Sequence[str], env: str | None = None, *, prune: bool = False, targets: Sequence[str] = ()
) -> list[PlanRequest]:
    """Return what each manifest asks for, or the one saved plan. Several of them are held to being in nobody's way.

    Raises ManifestInvalid with the problems of all of them, UsageInvalid for what goes with one alone.
    """
    if len(paths) == 1:
        return [load_request(paths[0], env, prune=prune, targets=targets)]
    saved = next((path for path in paths if is_saved(path)), None)
    if saved or targets:
        what = f"the saved plan {saved}" if saved else Option("target")
        raise UsageInvalid(Problem("usage", worded("{} cannot be used with several manifests", what)))
    requests, problems = list[PlanRequest](), list[Problem]()
    for path in paths:
        try:
            requests.append(load_request(path, env, prune=prune))
        except ManifestInvalid as error:
            problems += error.problems
    if problems:
        raise ManifestInvalid(*problems)
    check_together(
        [
            Planned(path, request.org, request.desired)
            for path, request in zip(paths, requests, strict=True)
            if request.org is not None
        ]
    )
    return requests


def destroy_request(path: str, env: str | None = None) -> PlanRequest:
    """Return the request to delete all that the manifest's organisation owns. Raises ManifestInvalid."""
    org = load(path, env)
    return PlanRequest(org.name, DesiredState(), org, prune=True)


def plan(request: PlanRequest, target: Target) -> Plan:
    """Return the plan from what the server holds now to what is wanted. Writes nothing. Raises PlanStale for a stale saved plan."""

    async def run_plan() -> Plan:
        async with connect_account(target) as server:
            return await plan_on(server, request)

    return run_coroutine(run_plan())


async def plan_on(server: JetStream, request: PlanRequest) -> Plan:
    """Plan as `plan` does, by a connection that is open."""
    return await _with_permissions(server, await _make_plan(server, request))


def apply(request: ApplyRequest, target: Target) -> list[Outcome]:
    """Apply a plan as `apply_on` does. Ctrl-C, SIGTERM and SIGHUP interrupt it; a second one ends it at once, and so does the first before anything is written."""
    interrupt = Interrupt()

    async def run_apply() -> list[Outcome]:
        async with connect_account(target) as server:
            return await apply_on(server, request, interrupt)

    return run_coroutine(run_apply(), interrupt.request)


async def apply_on(bare: JetStream, request: ApplyRequest, interrupt: Interrupt) -> list[Outcome]:
    """Apply a plan by a connection that is open. Returns one outcome per change.

    Reads the server again first: raises PlanStale if it is no longer as planned, and PlanRefused for what may
    be lost and is not allowed, or is made anew and not accepted by the server; nothing is written then. At the end it reads back: what the server does not
    hold after all has failed. An `interrupt` lets what is under way finish, but waits for nobody.

    Where nothing of the manifest is left to do, the account remembers that.
    """
    from cyborg_infra.live.execute.rehearsal import rehearse
    from cyborg_infra.live.execute.scheduler import run_plan
    from cyborg_infra.live.records.lease import lease
    from cyborg_infra.live.records.stream_backups import restore_forgotten_streams

    owner = request.plan.org
    async with lease(bare, owner, wait=request.lock_timeout) as server:
        await restore_forgotten_streams(server, owner)
        now = await _allowed(server, request)
        interrupt.has_begun = True
        learned = await rehearse(
            server,
            rehearsal.plan_rehearsals(now),
            rehearsal.leftover_rehearsals(now.live or LiveState(), owner),
            now.server_info.limits if now.server_info else Limits(),
        )
        now = with_learned_values(now, learned)
        await save_applied_record(server, owner, last_applied.record_at_start(now, __version__))
        options = _apply_options(server, request, now, interrupt)
        outcomes = list[Outcome]()
        try:
            async with contextlib.aclosing(run_plan(server, now, options)) as ended:
                async for outcome in ended:
                    request.on_outcome(outcome)
                    outcomes.append(outcome)
        finally:
            await options.ack_listener.close()
        return await _ended(server, request, now, outcomes)


@valueclass(frozen=True, slots=True)
class ApplyRequest:
    """What the user asks of an apply: which plan, which hazards are allowed, how long it may wait, and who hears what.

    The plan is one that `plan` has made: it knows what was asked for, and is made again. `allow` are names of hazards. A
    consumer is replaced once nobody works on its messages, after at most `drain_timeout` seconds. The organisation's lease
    is held meanwhile if `lock_timeout` says how many seconds to wait for it. `on_outcome` hears of each change as it ends,
    `on_wait` in words of what takes long, `on_warning` if the account cannot remember that it was applied. Raises
    ValueError for a plan that was read from a file.
    """

    plan: Plan
    _: KW_ONLY
    allow: Collection[str] = ()
    drain_timeout: float = 60.0
    lock_timeout: float | None = None
    on_outcome: Callable[[Outcome], None] = lambda _: None
    on_wait: Callable[[str], None] = lambda _: None
    on_warning: Callable[[str], None] = lambda _: None
    plan_request: PlanRequest = field(init=False)
    """What the plan was asked for."""

    def __post_init__(self) -> None:
        if self.plan.request is None:
            raise ValueError(
                "a plan is applied that was made by `plan`, and not one that was read from a file"
            )
        object.__setattr__(self, "plan_request", self.plan.request)

    @property
    def announced(self) -> Plan:
        """The plan whose costs were reviewed."""
        return self.plan_request.announced(self.plan)


class Interrupt:
    """A request to end an apply early and in order. One for each apply."""

    def __init__(self) -> None:
        self.has_begun = False  # something may have been written
        self._requested = False

    def is_requested(self) -> bool:
        """Return whether the end was requested."""
        return self._requested

    def request(self) -> bool:
        """Ask for the end. Returns whether the apply comes to it by itself; if it has not begun, it is to be cancelled."""
        self._requested = True
        return self.has_begun


async def _allowed(server: JetStream, request: ApplyRequest) -> Plan:
    """Return the plan made again, once it is the same as before and allowed. Raises PlanStale and PlanRefused."""
    now = await _make_plan(server, request.plan_request, expected=request.plan)
    refuse_unless_same(request.plan, now)
    refuse_unless_allowed(replace(now, forbidden=request.plan.forbidden), request.allow)
    refuse_unless_shown(request.announced, now)
    return now


def _apply_options(server: JetStream, request: ApplyRequest, now: Plan, interrupt: Interrupt) -> ApplyOptions:
    """Return how what makes room for another is replaced: with what the plan that was shown has announced."""
    from cyborg_infra.live.execute.consumer.options import ApplyOptions

    return ApplyOptions(
        version=require_server_info(now.server_info).version,
        drain_timeout=request.drain_timeout,
        allowed_redeliveries=request.announced.announced_redeliveries,
        on_wait=request.on_wait,
        max_bytes_required=now.server_info is not None and now.server_info.limits.max_bytes_required,
        archive_dead_letters=_dead_letter_store(server, request.plan_request).archive_of_stream,
        is_interrupted=interrupt.is_requested,
    )


async def _ended(
    server: JetStream, request: ApplyRequest, now: Plan, outcomes: list[Outcome]
) -> list[Outcome]:
    """Return the outcomes as they read back; if all is done, save the applied record in the account."""
    if any(outcome.status is not ResultStatus.SUCCEEDED for outcome in outcomes):
        return outcomes
    if outcomes:
        try:
            outcomes, now = await _read_back(server, request.plan_request, outcomes)
        except (ServerFault, SnapshotIncomplete) as error:
            return fail_unverified(outcomes, error)
    ended = last_applied.record_at_end(now, __version__, changed=bool(outcomes))
    await save_applied_record(server, request.plan.org, ended, request.on_warning)
    return outcomes


async def _read_back(
    server: JetStream, request: PlanRequest, outcomes: Sequence[Outcome]
) -> tuple[list[Outcome], Plan]:
    """Return the outcomes, turned into failures where the server does not hold them, and a plan of what is left of the whole manifest.

    In a cluster it is read again before that: another server may still answer for a stream that is gone, and one of
    the same name was just made (seen on 2.12.8 under load).
    """
    for pause in (0.0, *(timing.REREAD_BACKOFF_SECONDS if server.is_clustered else ())):
        await asyncio.sleep(pause)
        remaining = await _make_plan(server, replace(request, targets=()), ignore_saved=True)
        own = await _part_of_targets(server, request, remaining)
        verified_outcomes = verify_outcomes(outcomes, own)
        if verified_outcomes == outcomes:
            break
    return verified_outcomes, remaining


async def _part_of_targets(server: JetStream, request: PlanRequest, remaining: Plan) -> Plan:
    """Return what is left to do for the targets alone: of the whole manifest a consumer may be replaced with its stream, which is no target's.

    Roles of which nothing is left may be unknown by now.
    """
    roles = {side.role for change in remaining.changes for side in (change.before, change.after) if side}
    left = tuple(role for role in request.targets if role in roles)
    return await _make_plan(server, replace(request, targets=left), ignore_saved=True) if left else remaining


def lease_holder(request: PlanRequest, target: Target) -> Holder | None:
    """Return who holds the organisation's lease now, or None. Writes nothing."""
    from cyborg_infra.live.records import lease

    async def run_read() -> Holder | None:
        async with connect_account(target) as server:
            return await lease.read_holder(server, request.owner)

    return run_coroutine(run_read())


def unlock(
    request: PlanRequest, target: Target, on_wait: Callable[[float], None] = lambda _: None
) -> Holder | None:
    """Free the organisation's lease; once this returns, whoever held it writes nothing any more. Returns who that was, or None.

    `on_wait` hears for how many seconds it waits for that.
    """
    from cyborg_infra.live.records import lease

    async def run_unlock() -> Holder | None:
        async with connect_account(target) as server:
            return await lease.unlock(server, request.owner, on_wait)

    return run_coroutine(run_unlock())


def needs_record(plan: Plan) -> bool:
    """Return whether a plan that changes nothing is to be applied all the same, for the account to remember what there is."""
    return not plan and last_applied.record_at_end(plan, __version__, changed=False) is not None


def embedded_server(
    store: Path, port: int = 0, config: str = "", *, is_temporary: bool = False
) -> EmbeddedServer:
    """Return a nats-server of our own with JetStream, to be used as a context manager; its data stays in `store`, unless that `is_temporary`.

    `config` is text in nats-server's own language.
    """
    from cyborg_infra.live.embedded import EmbeddedServer

    return EmbeddedServer(store, is_temporary=is_temporary, port=port, config=config)


async def _make_plan(
    server: JetStream, request: PlanRequest, *, ignore_saved: bool = False, expected: Plan | None = None
) -> Plan:
    live = await _read_live(server, request)
    if expected is not None and expected.is_valid_for(live):
        return expected
    desired = _desired_for(request, live.server_info.level if live.server_info else NEWEST_LEVEL)

    def planned(live: LiveState) -> Plan:
        return make_plan(
            live,
            desired,
            owner=request.owner,
            org=request.org,
            environment=request.environment,
            prune=request.prune,
            targets=request.targets,
        )

    now = planned(live)
    if now.count_queries:  # only a plan that costs something is worth a second, closer look
        from cyborg_infra.live.read.counting import count_messages

        counts_given_up = any(
            question.kind.of_stream or question.kind is CountKind.GIVEN_UP for question in now.count_queries
        )
        given_up = await _dead_letter_store(server, request).count_given_up() if counts_given_up else None
        now = planned(await count_messages(server, live, now.count_queries, given_up))
    if request.saved is not None and not ignore_saved:
        refuse_unless_same(request.saved, now)
    return replace(now, request=request)


def _desired_for(request: PlanRequest, level: int) -> DesiredState:
    """Return the desired state for a server of this API level."""
    if request.org and request.desired.resources and level < NEWEST_LEVEL:
        return expand(request.org, level)
    return request.desired


async def _with_permissions(server: JetStream, plan: Plan) -> Plan:
    """Return the plan, with what this user may not do of it."""
    if not plan.changes or plan.blocking_problems:
        return plan
    from cyborg_infra.live.execute.permissions import find_denied

    denied = await find_denied(server, plan)
    if denied is None:
        return replace(plan, notes=(*plan.notes, UNKNOWN_PERMISSIONS))
    notes = () if denied.is_read_only else tuple(permission_notes(denied.problems))
    return replace(plan, forbidden=denied.problems, notes=(*plan.notes, *notes))


def _dead_letter_store(server: JetStream, request: PlanRequest) -> DeadLetterStore:
    from cyborg_infra.core.operate.dead_letters import org_of_dead_letters
    from cyborg_infra.operations.dead_letter_store import DeadLetterStore

    return DeadLetterStore(server, request.org or org_of_dead_letters(request.owner, request.desired))


async def _read_live(server: JetStream, request: PlanRequest) -> LiveState:
    """Return what the server holds, and what the account remembers of the organisation."""
    live, recorded = await asyncio.gather(
        server.snapshot(request.owner, request.desired),
        read_applied_record(server, request.owner),
        return_exceptions=True,
    )
    if isinstance(live, BaseException):
        raise live
    if isinstance(recorded, BaseException):
        raise recorded
    record, record_error = recorded
    facts = (
        live.server_info._replace(applied_record=record, record_error=record_error)
        if live.server_info
        else None
    )
    return replace(live, server_info=facts)
