"""The whole product as a handful of calls: a wish, the plan that leads there, and making it true. Read this first."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyborg_infra.core.expand import expand
from cyborg_infra.core.guard import refuse_unless_allowed, refuse_unless_same, unread, verified
from cyborg_infra.core.plan import make_plan
from cyborg_infra.live.target import Flags, Target, resolve
from cyborg_infra.manifest.load import load
from cyborg_infra.manifest.saved import is_saved, load_saved
from cyborg_infra.model.fields import NEWEST_LEVEL, Version
from cyborg_infra.model.org import Org
from cyborg_infra.model.plan import Cause, Done, Outcome, Plan
from cyborg_infra.model.problems import ServerFault, SnapshotIncomplete
from cyborg_infra.model.state import State
from cyborg_infra.model.valueclass import valueclass

if TYPE_CHECKING:  # asyncio and nats cost 100 ms: `show` and `validate` need neither
    import asyncio

    from cyborg_infra.live.embedded import EmbeddedServer
    from cyborg_infra.live.jetstream import JetStream
    from cyborg_infra.live.lease import Holder

__all__ = [
    "Flags",
    "Target",
    "Wish",
    "apply",
    "destruction",
    "drifted",
    "embedded",
    "plan",
    "refuse_unless_allowed",
    "resolve",
    "unlock",
    "wish",
]


_AGAIN = (0.5, 1.0, 2.0)
"""Seconds until what does not hold in a cluster is read again."""


@valueclass(frozen=True, slots=True)
class Wish:
    """What a plan shall lead to: the organisation of a manifest, or the desired state of a saved plan."""

    owner: str
    desired: State
    org: Org | None = None
    saved: Plan | None = None
    prune: bool = False
    targets: tuple[str, ...] = ()

    def at(self, level: int) -> State:
        """The desired state for a server of this API level."""
        return expand(self.org, level) if self.org and level < NEWEST_LEVEL else self.desired


def wish(path: str, env: str | None = None, *, prune: bool = False, targets: Sequence[str] = ()) -> Wish:
    """What the manifest or saved plan at `path` asks for. Raises ManifestInvalid, or PlanStale for a damaged plan."""
    if is_saved(path):
        saved = load_saved(path)
        return Wish(saved.org, saved.desired, None, saved, saved.prune, saved.targets)
    org = load(path, env)
    return Wish(org.name, expand(org), org, None, prune, tuple(targets))


def destruction(path: str, env: str | None = None) -> Wish:
    """The wish that nothing is left of what the manifest's organisation owns. Raises ManifestInvalid."""
    return Wish(load(path, env).name, State(), prune=True)


def plan(wanted: Wish, target: Target) -> Plan:
    """The plan from what the server holds now to what is wanted. Writes nothing. Raises PlanStale for a stale saved plan."""
    from cyborg_infra.live.run import run

    async def planned() -> Plan:
        async with _server(target) as server:
            return await _plan(server, wanted)

    return run(planned())


def apply(
    plan: Plan,
    wanted: Wish,
    target: Target,
    *,
    allow: Sequence[str] = (),
    drain: float = 60.0,
    lock: float | None = None,
    tell: Callable[[Outcome], None] = lambda _: None,
    waits: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """One outcome per change of `plan`; `tell` hears of each as it ends, `waits` in words of what takes long meanwhile.

    Holds the organisation's lease meanwhile if `lock` says how many seconds to wait for it. A consumer is replaced
    once nobody works on its messages, after at most `drain` seconds.

    Reads the server again first: raises PlanStale if it is no longer as planned, and PlanRefused for what may
    be lost and is not in `allow`; nothing is written then. At the end it reads back: what the server does not
    hold after all has failed. Ctrl-C lets what is under way finish.
    """
    from cyborg_infra.live.apply import apply as run_plan
    from cyborg_infra.live.carry import Manner
    from cyborg_infra.live.lease import lease
    from cyborg_infra.live.run import run

    async def applied() -> list[Outcome]:
        stop = _stop_on_interrupt()
        async with _server(target) as server, lease(server, wanted.owner, wait=lock, lost=stop):
            now = await _plan(server, wanted, known=plan)
            refuse_unless_same(plan, now)
            refuse_unless_allowed(now, allow)
            outcomes = []
            sized = now.facts is not None and now.facts.limits.max_bytes_required
            manner = Manner(_version(now), drain, "repeats-work" in allow, waits, sized)
            async for outcome in run_plan(server, now, stop, manner):
                tell(outcome)
                outcomes.append(outcome)
            if not outcomes or any(outcome.done is not Done.DONE for outcome in outcomes):
                return outcomes
            try:
                return await _read_back(server, wanted, outcomes)
            except (ServerFault, SnapshotIncomplete) as error:
                return unread(outcomes, error)

    return run(applied())


async def _read_back(server: JetStream, wanted: Wish, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, failed where the server does not hold them.

    In a cluster it is read again before that: another server may still answer for a stream that is gone, and one of
    the same name was just made (seen on 2.12.8 under load).
    """
    import asyncio

    for pause in (0.0, *(_AGAIN if server.clustered else ())):
        await asyncio.sleep(pause)
        found = verified(outcomes, await _plan(server, replace(wanted, targets=()), fresh=True))
        if found == outcomes:
            break
    return found


def unlock(wanted: Wish, target: Target) -> Holder | None:
    """The organisation's lease is free; returns who held it, or None if nobody did."""
    from cyborg_infra.live import lease
    from cyborg_infra.live.run import run

    async def freed() -> Holder | None:
        async with _server(target) as server:
            return await lease.unlock(server, wanted.owner)

    return run(freed())


def drifted(found: Plan) -> bool:
    """Whether somebody changed the server, whatever else the manifest wants."""
    return any(change.cause is not Cause.PENDING for change in found.changes)


def embedded(store: Path, port: int = 0) -> EmbeddedServer:
    """A nats-server of our own with JetStream, to be used as a context manager; its data stays in `store`."""
    from cyborg_infra.live.embedded import EmbeddedServer

    return EmbeddedServer(store, port=port)


def _version(plan: Plan) -> Version:
    if plan.facts is None:
        raise ValueError("a plan that can be applied was made from a server")
    return plan.facts.version


async def _plan(server: JetStream, wanted: Wish, *, fresh: bool = False, known: Plan | None = None) -> Plan:
    live = await server.snapshot(wanted.owner, {stream.ref.stream for stream in wanted.desired.streams()})
    if known is not None and known.holds_for(live):
        return known
    desired = wanted.at(live.facts.level if live.facts else NEWEST_LEVEL)

    def planned(live: State) -> Plan:
        return make_plan(
            live, desired, owner=wanted.owner, org=wanted.org, prune=wanted.prune, targets=wanted.targets
        )

    now = planned(live)
    if now.questions:  # only a plan that costs something is worth a second, closer look
        from cyborg_infra.live.measure import measured

        now = planned(await measured(server, live, now.questions))
    if wanted.saved is not None and not fresh:
        refuse_unless_same(wanted.saved, now)
    return now


@contextlib.asynccontextmanager
async def _server(target: Target) -> AsyncIterator[JetStream]:
    from cyborg_infra.live.jetstream import opened

    async with opened(target) as server:
        yield server


def _stop_on_interrupt() -> asyncio.Event:
    """Set by the first Ctrl-C; the second one ends the program at once."""
    import asyncio

    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def interrupted() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    with contextlib.suppress(
        NotImplementedError, RuntimeError, ValueError
    ):  # not the main thread, or not POSIX
        loop.add_signal_handler(signal.SIGINT, interrupted)
    return stop
