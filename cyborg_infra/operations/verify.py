"""Proves on a server that the patterns work: provisions a scratch copy of the manifest, tries it, and removes it.

Whatever happens in between, the copy is removed, or it is said that it could not be. The organisation itself is not
touched: neither its streams nor its subjects, nor the lease.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cyborg_infra.core import namespace
from cyborg_infra.core import scratch as core
from cyborg_infra.core.expand import expand
from cyborg_infra.core.plan import make_plan
from cyborg_infra.live.target import Target
from cyborg_infra.manifest.load import load
from cyborg_infra.model.org import Org
from cyborg_infra.model.plan import Action, Done, Plan
from cyborg_infra.model.problems import CyborgError, Problem, UsageInvalid
from cyborg_infra.model.state import Facts, Resource, State
from cyborg_infra.model.subjects import overlap
from cyborg_infra.model.verification import CheckName, Result, Stage, Verdict, Verification
from cyborg_infra.operations.place import Meet, meet

if TYPE_CHECKING:  # asyncio and nats cost 100 ms
    from cyborg_infra.live.embedded import EmbeddedServer
    from cyborg_infra.live.jetstream import JetStream
    from cyborg_infra.live.trial import Trial

__all__ = ["clean", "verify"]

AT_WORK = timedelta(minutes=10)
"""A copy that is younger may belong to a run that is still under way."""

Tell = Callable[[Stage | Result], None]


def verify(
    path: str,
    env: str | None,
    target: Target,
    told: Meet,
    wanted: Collection[CheckName] = (),
    *,
    embedded: bool = False,
    tell: Tell = lambda _: None,
) -> Verification:
    """What became of each wanted check, or of all; `told` hears of the server before, `tell` of each as it ends.

    With `embedded` on a nats-server of our own instead of `target`, which is restarted as well. Raises CyborgError
    where the copy could not be provisioned or not be removed, the server went away, or the user interrupted.
    """
    import asyncio

    org = load(path, env)
    if CheckName.RESTART in wanted and not embedded:
        raise UsageInvalid(Problem("usage", f"--check {CheckName.RESTART}: only with --embedded"))
    with ExitStack() as stack:
        own = _own_server(stack) if embedded else None
        where = Target(urls=(own.url,)) if own else target
        run = _Run(org, core.scratch(org, secrets.token_hex(3), alone=embedded), where, told, tell, own)
        try:
            return asyncio.run(run.verification(set(wanted) or set(CheckName)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise CyborgError(*run.interrupted()) from None


def clean(path: str, env: str | None, target: Target, told: Meet) -> list[str]:
    """Removes the copies that runs which were killed have left, and returns their names. Raises CyborgError."""
    import asyncio

    org = load(path, env)

    async def run() -> list[str]:
        from cyborg_infra.live.jetstream import opened

        async with opened(target) as server:
            await meet(server, org, told)
            found = sorted({name for name, _ in _copies(await server.snapshot(org.name, ()), org)})
        for name in found:
            await _remove(target, name)
        return found

    return asyncio.run(run())


@dataclass(slots=True)
class _Run:
    """One run: a copy of `org` on one server. `there` as long as anything of the copy may be on it."""

    org: Org
    copy: Org
    target: Target
    told: Meet
    tell: Tell
    own: EmbeddedServer | None = None
    there: bool = field(default=False, init=False)

    async def verification(self, wanted: Collection[CheckName]) -> Verification:
        """The copy was tried and is gone. Raises CyborgError."""
        from cyborg_infra.live.jetstream import opened

        _cancel_on_sigterm()
        async with opened(self.target) as server:
            account = await server.snapshot(self.copy.name, ())
            facts = account.facts
            if facts is None:
                raise ValueError("a snapshot has the facts of its server")
            self.told(self.org, facts)
            self.tell(Stage.PROVISIONING)
            desired, known = self._desired(facts)
            plan = make_plan(account, desired, owner=self.copy.name, org=self.copy)
            _refuse_unless_new(plan)
            self.there = True
            try:
                await _carry_out(server, plan)
                self.tell(Stage.CHECKING)
                results = await self._checked(desired, _stored_requests(account, self.org), wanted)
            except BaseException as error:
                await self._removed(error)
                raise
        await self._removed()
        return Verification(
            self.org.name,
            self.copy.name,
            facts.url,
            str(facts.version),
            _ordered([*([known] if CheckName.KNOWN in wanted else []), *results], self.org),
            _left(account, self.org),
        )

    def interrupted(self) -> tuple[Problem, ...]:
        """What to say when somebody wanted no more."""
        if not self.there:
            return (Problem("interrupted", "interrupted; nothing is left of the scratch copy"),)
        return (Problem("interrupted", "interrupted"), self._left_behind())

    def _left_behind(self) -> Problem:
        return Problem(
            "scratch-left",
            f"the scratch copy {self.copy.name} may still be there, in whole or in part",
            None,
            "`cyborg-infra verify --clean` removes it",
        )

    def _desired(self, facts: Facts) -> tuple[State, Result]:
        desired, unknown = core.known(expand(self.copy, facts.level), facts.level)
        verdict = Verdict.NOT_SUPPORTED if unknown else Verdict.PASSED
        law = "the server knows every setting of the manifest"
        return core.scaled(desired), Result(CheckName.KNOWN, verdict, law, "; ".join(unknown))

    async def _checked(
        self, desired: State, stored: list[str], wanted: Collection[CheckName]
    ) -> list[Result]:
        import asyncio

        from cyborg_infra.live.probe import probe, restarted

        own = self.own
        async with AsyncExitStack() as stack:
            trial = await self._trial(stack, desired, stored)
            results = await probe(trial, wanted, self.tell)
            if own is None or CheckName.RESTART not in wanted:
                return results

            async def restart() -> Trial:
                await asyncio.to_thread(own.stop)
                await asyncio.to_thread(own.start)
                return await self._trial(stack, desired, stored)

            return results + await restarted(trial, restart, self.tell)

    async def _trial(self, stack: AsyncExitStack, desired: State, stored: list[str]) -> Trial:
        """The copy with an agent on it, as long as the stack is."""
        from cyborg_infra.live.agent import Agent
        from cyborg_infra.live.connect import connect
        from cyborg_infra.live.jetstream import JetStream
        from cyborg_infra.live.trial import Trial

        connection = await stack.enter_async_context(connect(self.target))
        server = JetStream(connection, self.target)
        agent = await stack.enter_async_context(Agent(self.target, connection.url))
        return Trial(
            namespace.subjects(self.copy, desired),
            desired,
            server,
            agent,
            lambda: Agent(self.target, connection.url),
            tuple(stored),
        )

    async def _removed(self, cause: BaseException | None = None) -> None:
        """Nothing is left of the copy. Raises CyborgError if something may be, with the problems of `cause` before."""
        self.tell(Stage.REMOVING)
        try:
            await _remove(self.target, self.copy.name)
        except CyborgError as error:
            before = cause.problems if isinstance(cause, CyborgError) else ()
            raise CyborgError(*dict.fromkeys((*before, *error.problems)), self._left_behind()) from cause
        self.there = False


def _own_server(stack: ExitStack) -> EmbeddedServer:
    import tempfile
    from pathlib import Path

    from cyborg_infra.live.embedded import EmbeddedServer

    store = stack.enter_context(tempfile.TemporaryDirectory(prefix="cyborg-infra-verify-"))
    return stack.enter_context(EmbeddedServer(Path(store)))


def _cancel_on_sigterm() -> None:
    """A CI job that is given up ends as by Ctrl-C, which asyncio.run understands by itself."""
    import asyncio

    task = asyncio.current_task()
    with contextlib.suppress(
        NotImplementedError, RuntimeError, ValueError
    ):  # not the main thread, or not POSIX
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _refuse_unless_new(plan: Plan) -> None:
    """Raises CyborgError where the copy cannot be made, or would meet something that is there: nothing was written."""
    met = [change.ref for change in plan.changes if change.action not in (Action.CREATE, Action.IMPOSSIBLE)]
    in_the_way = [
        Problem("scratch-met", f"the scratch copy would not be new: there is {ref} already") for ref in met
    ]
    if plan.impossible or in_the_way:
        raise CyborgError(*plan.impossible, *in_the_way)


async def _carry_out(server: JetStream, plan: Plan) -> None:
    """The plan is carried out. Raises CyborgError with every problem; it is then done in part."""
    import asyncio

    from cyborg_infra.live.apply import apply
    from cyborg_infra.live.carry import Manner

    if plan.facts is None:
        raise ValueError("a plan that can be carried out was made from a server")
    manner = Manner(plan.facts.version, 0)
    outcomes = [outcome async for outcome in apply(server, plan, asyncio.Event(), manner)]
    if any(outcome.done is not Done.DONE for outcome in outcomes):
        raise CyborgError(*(outcome.problem for outcome in outcomes if outcome.problem))


async def _remove(target: Target, owner: str) -> None:
    """The server holds nothing of this owner; by a connection of its own, since another one may be broken."""
    from cyborg_infra.live.jetstream import opened

    async with opened(target) as server:
        live = await server.snapshot(owner, ())
        await _carry_out(server, make_plan(live, State(), owner=owner, prune=True))


def _copies(account: State, org: Org) -> list[tuple[str, Resource]]:
    """The streams of copies of the organisation, with the copy's name."""
    return [
        (stream.owner or "", stream) for stream in account.streams() if core.is_scratch_of(org, stream.owner)
    ]


def _left(account: State, org: Org) -> tuple[str, ...]:
    """The copies that are too old for a run under way."""
    latest = datetime.now(UTC) - AT_WORK
    return tuple(
        sorted(
            {
                name
                for name, stream in _copies(account, org)
                if datetime.fromisoformat(stream.created) < latest
            }
        )
    )


def _stored_requests(account: State, org: Org) -> list[str]:
    """The streams that store requests of the organisation itself: its scratch copy would not meet them."""
    requests = namespace.agent_subject(org, "*", "requests")
    return [
        f"{stream.ref} ({pattern})"
        for stream in account.streams()
        for pattern in stream.config.get("subjects") or ()
        if overlap(pattern, requests)
    ]


def _ordered(results: Collection[Result], org: Org) -> tuple[Result, ...]:
    """By check, and within one by role as the manifest has them."""
    checks, roles = list(CheckName), [role.name for role in org.roles]
    return tuple(
        sorted(
            results,
            key=lambda result: (checks.index(result.check), roles.index(result.role) if result.role else -1),
        )
    )
