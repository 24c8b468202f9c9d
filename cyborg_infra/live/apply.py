"""Run a plan: what depends waits, what is independent runs in parallel, nothing starts after the first fault."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from graphlib import TopologicalSorter

from cyborg_infra.live.carry import Manner
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.perform import perform
from cyborg_infra.model.plan import Action, Change, Done, Outcome, Plan
from cyborg_infra.model.problems import CyborgError

WRITES_IN_FLIGHT = 32
REPLICATED_WRITES_IN_FLIGHT = 8  # measured: more only makes an R3 cluster slower


async def apply(server: JetStream, plan: Plan, stop: asyncio.Event, manner: Manner) -> AsyncIterator[Outcome]:
    """One outcome per change, as it ends.

    After a fault, or once `stop` is set, what is under way still finishes, nothing new starts, and the rest is
    reported as not reached.
    """
    for changes in _phases(plan):
        async for outcome in _run(server, changes, stop, _limit(plan), manner):
            if outcome.done is Done.FAILED:
                stop.set()
            yield outcome


async def _run(
    server: JetStream, changes: Sequence[Change], stop: asyncio.Event, limit: int, manner: Manner
) -> AsyncIterator[Outcome]:
    waiting = {change.ref: change for change in changes}
    order = TopologicalSorter({ref: waiting.keys() & set(change.needs) for ref, change in waiting.items()})
    order.prepare()
    ready = deque(order.get_ready())
    running: dict[asyncio.Task[None], Change] = {}
    ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
    try:
        while True:
            while ready and len(running) < limit and not stop.is_set():
                change = waiting.pop(ready.popleft())
                task = asyncio.create_task(perform(server, change, manner))
                task.add_done_callback(ended.put_nowait)
                running[task] = change
            if not running:
                break
            task = await ended.get()
            outcome = _outcome(running.pop(task), task)
            yield outcome
            if outcome.done is Done.DONE:
                order.done(outcome.change.ref)
                ready += order.get_ready()
    finally:
        await asyncio.gather(*running, return_exceptions=True)  # even a bug of ours leaves no write half done
    for change in waiting.values():
        yield Outcome(change, Done.NOT_REACHED)


def _outcome(change: Change, task: asyncio.Task[None]) -> Outcome:
    error = task.exception()
    if error is None:
        return Outcome(change, Done.DONE)
    if isinstance(error, CyborgError):
        return Outcome(change, Done.FAILED, error.problems[0])
    raise error  # a bug of ours keeps its traceback


def _phases(plan: Plan) -> tuple[Sequence[Change], Sequence[Change]]:
    """Everything, and then the deletions at the plan's end, which nothing waits for."""
    end = len(plan.changes)
    while end and plan.changes[end - 1].action is Action.DELETE:
        end -= 1
    return plan.changes[:end], plan.changes[end:]


def _limit(plan: Plan) -> int:
    replicated = any(
        change.after is not None and change.after.config.get("num_replicas", 1) > 1 for change in plan.changes
    )
    return REPLICATED_WRITES_IN_FLIGHT if replicated else WRITES_IN_FLIGHT
