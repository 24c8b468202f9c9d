"""Run the changes of a plan in parallel, each after those that it depends on; start none after the first failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter

from cyborg_infra.live.api.fencing import require_end_marker
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.change import execute_change, update_dead_letter_subjects
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.model.changes import Adopt, Change, Delete, Replace, Update
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.problems import CyborgError
from cyborg_infra.model.ref import Ref

CHANGES_IN_FLIGHT = 32
REPLICATED_CHANGES_IN_FLIGHT = 8  # measured: more only makes an R3 cluster slower


async def run_plan(server: JetStream, plan: Plan, options: ApplyOptions) -> AsyncGenerator[Outcome, None]:
    """Run the plan, and yield one outcome per change as it ends.

    After a fault, or once it is interrupted, what is under way still finishes, the consumers of streams that were replaced
    are made, nothing else starts, and the rest is reported as not reached. What is under
    way has ended when it is closed early. Raises ServerFault, with nothing changed, where a migration could not mark what it has fenced.
    """
    if server.is_remote and any(_is_migration(change) for change in plan.changes):
        await require_end_marker(server)
    try:
        plan = await _with_early_subjects(server, plan)
    except CyborgError as error:
        for change in plan.changes:
            deaf = change.ref in plan.last and not change.ref.consumer
            yield (
                Outcome(change, ResultStatus.FAILED, error.problems[0])
                if deaf
                else Outcome(change, ResultStatus.NOT_REACHED)
            )
        return
    failed = False

    def is_stopped() -> bool:
        return failed or options.is_interrupted()

    for changes in _phases(plan):
        limit = _writes_in_flight(plan)
        async with contextlib.aclosing(_run_changes(server, changes, is_stopped, limit, options)) as ended:
            async for outcome in ended:
                if outcome.status is ResultStatus.FAILED:
                    failed = True
                yield outcome


async def _run_changes(
    server: JetStream,
    changes: Sequence[Change],
    is_stopped: Callable[[], bool],
    limit: int,
    options: ApplyOptions,
) -> AsyncGenerator[Outcome, None]:
    waiting = {change.ref: change for change in changes}
    order = TopologicalSorter(
        {ref: waiting.keys() & set(change.depends_on) for ref, change in waiting.items()}
    )
    order.prepare()
    ready = deque(order.get_ready())
    running: dict[asyncio.Task[None], Change] = {}
    ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
    made = set[Ref]()
    try:
        while True:
            if is_stopped():  # but nobody is served in a stream that was replaced without its consumers
                ready = deque(ref for ref in ready if ref.consumer and Ref(ref.stream) in made)
            while ready and len(running) < limit:
                change = waiting.pop(ready.popleft())
                task = asyncio.create_task(execute_change(server, change, options))
                task.add_done_callback(ended.put_nowait)
                running[task] = change
            if not running:
                break
            task = await ended.get()
            outcome = _outcome_of(running.pop(task), task)
            yield outcome
            if outcome.status is ResultStatus.SUCCEEDED:
                if isinstance(outcome.change, Replace) or outcome.change.preserves_messages:
                    made.add(outcome.change.ref)
                order.done(outcome.change.ref)
                ready += order.get_ready()
    finally:
        await asyncio.gather(*running, return_exceptions=True)  # even a bug of ours leaves no write half done
    for change in waiting.values():
        yield Outcome(change, ResultStatus.NOT_REACHED)


def _is_migration(change: Change) -> bool:
    return change.ref.kind is Kind.STREAM and (isinstance(change, Replace) or change.preserves_messages)


def _outcome_of(change: Change, task: asyncio.Task[None]) -> Outcome:
    error = task.exception()
    if error is None:
        return Outcome(change, ResultStatus.SUCCEEDED)
    if isinstance(error, CyborgError):
        return Outcome(change, ResultStatus.FAILED, error.problems[0])
    raise error  # a bug of ours keeps its traceback


async def _with_early_subjects(server: JetStream, plan: Plan) -> Plan:
    """Return the plan, with DEAD_LETTERS as it is once it hears also of the streams that the plan brings. Raises as `execute_change` does.

    Nothing else has been written then.
    """
    changes = list[Change]()
    for change in plan.changes:
        early = plan.early_subjects and change.ref in plan.last and not change.ref.consumer
        if early and isinstance(change, Adopt | Update | Replace):
            held = await update_dead_letter_subjects(server, change, plan.early_subjects)
            changes.append(replace(change, before=held or change.before))
        else:
            changes.append(change)
    return replace(plan, changes=tuple(changes))


def _phases(plan: Plan) -> Iterator[Sequence[Change]]:
    """Yield the changes in phases: those that come first, the others, deletions that nothing waits for, those that come last."""
    rest = [change for change in plan.changes if change.ref not in plan.first | plan.last]
    end = len(rest)
    while end and isinstance(rest[end - 1], Delete):
        end -= 1
    yield [change for change in plan.changes if change.ref in plan.first]
    yield from (rest[:end], rest[end:])
    yield [change for change in plan.changes if change.ref in plan.last]


def _writes_in_flight(plan: Plan) -> int:
    replicated = any(
        change.after is not None and change.after.get("num_replicas") > 1 for change in plan.changes
    )
    return REPLICATED_CHANGES_IN_FLIGHT if replicated else CHANGES_IN_FLIGHT
