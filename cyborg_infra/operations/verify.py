"""Verify an organisation on a server: provision a sandbox copy of the manifest, run the checks, remove it.

Whatever happens in between, the copy is removed, or it is said that it could not be. The organisation itself is not
touched: neither its streams nor its subjects, nor the lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cyborg_infra.core.desired import naming
from cyborg_infra.core.desired import sandbox as core
from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.core.planning.preflight import CAPTURE
from cyborg_infra.interrupts import end_in_order
from cyborg_infra.live.api.fencing import require_stored
from cyborg_infra.live.api.jetstream import JetStream, connect_account
from cyborg_infra.live.connection.reconnecting import open_connection
from cyborg_infra.live.connection.target import Target
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.permissions import find_denied
from cyborg_infra.live.execute.scheduler import run_plan
from cyborg_infra.live.verify.agent import Agent
from cyborg_infra.live.verify.runner import check_restart, run_checks
from cyborg_infra.live.verify.sandbox import Sandbox
from cyborg_infra.manifest.load import load
from cyborg_infra.model import channels
from cyborg_infra.model.changes import Action
from cyborg_infra.model.channels import Scope
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.plan import Plan, ResultStatus
from cyborg_infra.model.problems import CyborgError, Problem, UsageInvalid
from cyborg_infra.model.resources import DesiredState, LiveResource, LiveState
from cyborg_infra.model.server import ServerInfo, require_server_info
from cyborg_infra.model.subjects import overlap
from cyborg_infra.model.units import age
from cyborg_infra.model.verification import (
    AuthCheckName,
    CheckName,
    CheckResult,
    Verdict,
    Verification,
    VerifyStage,
)
from cyborg_infra.model.wording import Command, Option, worded
from cyborg_infra.operations.event_loop import run_coroutine
from cyborg_infra.operations.expected_server import OnServer, require_expected_server

__all__ = ["OnProgress", "carry_out", "clean", "verify"]

OnProgress = Callable[[VerifyStage | CheckResult], None]


def verify(
    path: str,
    env: str | None,
    target: Target,
    on_server: OnServer,
    checks: Collection[CheckName] = (),
    *,
    embedded: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> Verification:
    """Verify the organisation, and return the result of each wanted check, or of all; `on_server` hears of the server before, `on_progress` of each as it ends.

    With `embedded` on a nats-server of our own instead of `target`, which is restarted as well. Raises CyborgError
    where the copy could not be provisioned or not be removed, the server went away, or the user interrupted.
    """
    org = load(path, env)
    if CheckName.RESTART in checks and not embedded:
        said = worded("{}: only with {}", Option("check", CheckName.RESTART), Option("embedded"))
        raise UsageInvalid(Problem("usage", said))
    with ExitStack() as stack:
        own = _own_server(stack) if embedded else None
        where = Target(urls=(own.url,)) if own else target
        one = _Run(
            org,
            core.sandbox_org(org, secrets.token_hex(3), alone=embedded),
            where,
            on_server,
            on_progress,
            own,
        )
        try:
            return run_coroutine(one.run(set(checks) or set(CheckName)))
        except KeyboardInterrupt:
            raise CyborgError(*one.interrupted()) from None


def clean(path: str, env: str | None, target: Target, on_server: OnServer) -> list[str]:
    """Remove the copies that runs which were killed have left, and return their names. Raises CyborgError.

    Those of runs under way stay, but what is not known to be one is removed.
    """
    org = load(path, env)

    async def cleaned() -> list[str]:

        async with connect_account(target) as server:
            await require_expected_server(server, org, on_server)
            found = sorted(
                {name for name, _ in _sandbox_streams(await server.snapshot(org.name, DesiredState()), org)}
            )
            running = [name for name in found if await server.has_interest(_presence_subject(name))]
        left = [name for name in found if name not in running]
        for name in left:
            await _remove(target, name)
        return left

    return run_coroutine(cleaned())


@dataclass(slots=True)
class _Run:
    """One run: a copy of `org` on one server. `may_exist` as long as anything of the copy may be on it."""

    org: Org
    copy: Org
    target: Target
    on_server: OnServer
    on_progress: OnProgress
    embedded_server: EmbeddedServer | None = None
    may_exist: bool = field(default=False, init=False)

    async def run(self, checks: Collection[CheckName]) -> Verification:
        """Try the copy, and delete it. Raises CyborgError."""
        async with connect_account(self.target) as server:
            await server.hold_interest(_presence_subject(self.copy.name))
            account = await server.snapshot(self.copy.name, DesiredState())
            facts = require_server_info(account.server_info)
            self.on_server(self.org, facts)
            self.on_progress(VerifyStage.PROVISIONING)
            if removed := await _remove_abandoned(server, self.target, account, self.org):
                account = await server.snapshot(self.copy.name, DesiredState())
            desired, known = self._desired(facts)
            plan = make_plan(account, desired, owner=self.copy.name, org=self.copy)
            _refuse_unless_new(plan)
            await _refuse_unless_permitted(server, plan)
            await _refuse_unless_reached(server, self.copy)
            self.may_exist = True
            try:
                await carry_out(server, plan)
                self.on_progress(VerifyStage.CHECKING)
                results = await self._run_checks(desired, _stored_requests(account, self.org), checks)
            except BaseException as error:
                await self._remove(error)
                raise
        await self._remove()
        return Verification(
            self.org.name,
            self.copy.name,
            facts.url,
            str(facts.version),
            _sort_results([*([known] if CheckName.SETTINGS_KNOWN in checks else []), *results], self.org),
            _abandoned_copies(account, self.org),
            tuple(removed),
        )

    def interrupted(self) -> tuple[Problem, ...]:
        """Return what to say when somebody wanted no more."""
        if not self.may_exist:
            return (Problem("interrupted", "interrupted; nothing is left of the scratch copy"),)
        return (Problem("interrupted", "interrupted"), self._left_behind())

    def _left_behind(self) -> Problem:
        return Problem(
            "scratch-left",
            f"the scratch copy {self.copy.name} may still be there, in whole or in part",
            None,
            worded("`{} {}` removes it", Command("verify"), Option("clean")),
        )

    def _desired(self, server_info: ServerInfo) -> tuple[DesiredState, CheckResult]:
        desired, unknown = core.supported_by(expand(self.copy, server_info.level), server_info.level)
        verdict = Verdict.NOT_SUPPORTED if unknown else Verdict.PASSED
        law = "the server knows every setting of the manifest"
        return core.scale_times(desired), CheckResult(
            CheckName.SETTINGS_KNOWN, verdict, law, "; ".join(unknown)
        )

    async def _run_checks(
        self, desired: DesiredState, stored: list[str], checks: Collection[CheckName]
    ) -> list[CheckResult]:

        own = self.embedded_server
        async with AsyncExitStack() as stack:
            trial = await self._open_sandbox(stack, desired, stored)
            results = await run_checks(trial, checks, self.on_progress)
            if own is None or CheckName.RESTART not in checks:
                return results

            async def restart() -> Sandbox:
                await asyncio.to_thread(own.stop)
                await asyncio.to_thread(own.start)
                return await self._open_sandbox(stack, desired, stored)

            return results + await check_restart(trial, restart, self.on_progress)

    async def _open_sandbox(self, stack: AsyncExitStack, desired: DesiredState, stored: list[str]) -> Sandbox:
        """Return the copy with an agent on it, as long as the stack is."""
        connection = await stack.enter_async_context(open_connection(self.target))
        server = JetStream(connection, self.target)
        agent = await stack.enter_async_context(Agent(self.target, connection.url))
        return Sandbox(
            self.copy,
            naming.list_subjects(self.copy, desired),
            desired,
            server,
            agent,
            agent.new_agent,
            tuple(stored),
        )

    async def _remove(self, cause: BaseException | None = None) -> None:
        """Delete the copy. Raises CyborgError if something may be, with the problems of `cause` before."""
        self.on_progress(VerifyStage.REMOVING)
        try:
            await _remove(self.target, self.copy.name)
        except CyborgError as error:
            before = cause.problems if isinstance(cause, CyborgError) else ()
            raise CyborgError(*dict.fromkeys((*before, *error.problems)), self._left_behind()) from cause
        self.may_exist = False


def _own_server(stack: ExitStack) -> EmbeddedServer:

    end_in_order()
    store = stack.enter_context(tempfile.TemporaryDirectory(prefix="cyborg-infra-verify-"))
    return stack.enter_context(EmbeddedServer(Path(store), is_temporary=True))


def _refuse_unless_new(plan: Plan) -> None:
    """Raise CyborgError where the copy cannot be made, or would meet something that is there: nothing was written.

    What would answer its requests does not keep it from being made: the check of requests finds that.
    """
    obstacles = [problem for problem in plan.blocking_problems if problem.code != CAPTURE]
    met = [change.ref for change in plan.changes if change.action not in (Action.CREATE, Action.IMPOSSIBLE)]
    in_the_way = [
        Problem("scratch-met", f"the scratch copy would not be new: there is {ref} already") for ref in met
    ]
    if obstacles or in_the_way:
        raise CyborgError(*obstacles, *in_the_way)


async def _refuse_unless_permitted(server: JetStream, plan: Plan) -> None:
    """Raise CyborgError where the user may not make the copy: nothing was written."""
    denied = await find_denied(server, plan)
    if denied is not None and denied.problems:
        raise CyborgError(*denied.problems)


async def _refuse_unless_reached(server: JetStream, copy: Org) -> None:
    """Raise NotReached where requests get to JetStream and what the copy's agents publish does not: nothing was written."""
    if server.is_remote:
        stored = (each for each in copy.channels if each.stream and each.scope in (Scope.ROLE, Scope.ORG))
        if first := next(stored, None):
            await require_stored(server, copy.subject(first.send_subject_of("trial", "trial")))


async def carry_out(server: JetStream, plan: Plan) -> None:
    """Apply the plan. Raises CyborgError with every problem; it is then done in part."""
    options = ApplyOptions(require_server_info(plan.server_info).version, 0)
    outcomes = [outcome async for outcome in run_plan(server, plan, options)]
    if any(outcome.status is not ResultStatus.SUCCEEDED for outcome in outcomes):
        raise CyborgError(*(outcome.problem for outcome in outcomes if outcome.problem))


async def _remove(target: Target, owner: str) -> None:
    """Delete everything of this owner, by a connection of its own, since another one may be broken."""
    async with connect_account(target) as server:
        live = await server.snapshot(owner, DesiredState())
        await carry_out(server, make_plan(live, DesiredState(), owner=owner, prune=True))


def _sandbox_streams(account: LiveState, org: Org) -> list[tuple[str, LiveResource]]:
    """Return the streams of copies of the organisation, with the copy's name."""
    return [
        (stream.owner or "", stream) for stream in account.streams() if core.is_sandbox_of(org, stream.owner)
    ]


def _presence_subject(copy: str) -> str:
    """Return the subject on which a run listens as long as it has a copy of this name, among those that its agents may use."""
    return f"{copy}.running"


async def _remove_abandoned(server: JetStream, target: Target, account: LiveState, org: Org) -> list[str]:
    """Remove the copies of runs that are certainly over, and return their names; one that cannot be removed stays."""
    removed = []
    for name in sorted({name for name, _ in _sandbox_streams(account, org)}):
        if await server.has_interest(_presence_subject(name)) is False:
            with contextlib.suppress(CyborgError):
                await _remove(target, name)
                removed.append(name)
    return removed


def _abandoned_copies(account: LiveState, org: Org) -> tuple[str, ...]:
    """Return the copies that are too old for a run under way."""
    now = max((stream.activity.read_at for stream in account.streams()), default="")
    return tuple(
        sorted(
            {
                name
                for name, stream in _sandbox_streams(account, org)
                if (age(stream.created, now) or 0) > core.MAX_RUN_NS
            }
        )
    )


def _stored_requests(account: LiveState, org: Org) -> list[str]:
    """Return the streams that store requests of the organisation itself: its scratch copy would not meet them."""
    if org.channel(channels.REQUESTS) is None:
        return []
    requests = naming.channel_subject(org, channels.REQUESTS, "*")
    return [
        f"{stream.ref} ({pattern})"
        for stream in account.streams()
        for pattern in stream.get("subjects")
        if overlap(pattern, requests)
    ]


def _sort_results(results: Collection[CheckResult], org: Org) -> tuple[CheckResult, ...]:
    """Return the results sorted by check, and within a check by role as in the manifest."""
    checks: list[CheckName | AuthCheckName] = list(CheckName)
    roles = [role.name for role in org.roles]
    return tuple(
        sorted(
            results,
            key=lambda result: (checks.index(result.check), roles.index(result.role) if result.role else -1),
        )
    )
