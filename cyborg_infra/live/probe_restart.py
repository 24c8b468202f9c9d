"""The check that a restart of the server in the middle of the work loses nothing; for a server of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from nats.js.errors import APIError

from cyborg_infra.live.agent import PullRefused, id_of
from cyborg_infra.live.trial import PATIENCE, Trial, Unmet
from cyborg_infra.model.org import ConsumerKind
from cyborg_infra.model.state import Ref

TASKS = 6  # of each role: one is done, one is being worked on, the others wait


@dataclass(frozen=True, slots=True)
class Before:
    """What stood when the server went down: by consumer what is unfinished, and what is done."""

    open: dict[Ref, set[str]]
    done: set[str]


async def prepare(trial: Trial) -> Before:
    """Every role is in the middle of its work, and has a message and a broadcast to read."""
    before = Before({}, set())
    await asyncio.gather(*(_prepare_tasks(trial, role, before) for role in trial.roles()))
    inboxes, broadcasts = (
        {role: trial.reader(kind, role) for role in trial.roles()}
        for kind in (ConsumerKind.INBOX_READER, ConsumerKind.BROADCAST_READER)
    )
    for readers in (inboxes, broadcasts):
        await trial.emptied(next(iter(readers.values())).stream)
    for role, ref in inboxes.items():
        before.open[ref] = {message_id := trial.new_id(f"message-to-{role}")}
        await trial.agent.publish(trial.subject(role, "inbox"), {"text": "before the restart"}, message_id)
    await trial.publish_broadcast(told := trial.new_id("broadcast"))
    before.open.update({ref: {told} for ref in broadcasts.values()})
    return before


async def _prepare_tasks(trial: Trial, role: str, before: Before) -> None:
    ref = await trial.worker(role)
    tasks = []
    for _ in range(TASKS):
        try:
            tasks.append(await trial.publish_task(role))
        except APIError:  # a limit that refuses loses nothing
            break
    first = await trial.take(ref, tasks[0])
    await first.ack_sync(PATIENCE)
    before.done.add(tasks[0])
    if tasks[1:]:
        await trial.take(ref, tasks[1])
    before.open[ref] = set(tasks[1:])


async def loses_nothing(before: Before, restart: Callable[[], Awaitable[Trial]]) -> None:
    """Restarts; then everything unfinished comes, and nothing that was done. Raises Unmet."""
    trial = await restart()
    seen = await asyncio.gather(*(_after(trial, ref, ids) for ref, ids in before.open.items()))
    problems = []
    for ref, wanted, got in zip(before.open, before.open.values(), seen, strict=True):
        if lost := wanted - got:
            problems.append(f"{ref} lost {len(lost)} of {len(wanted)}: {', '.join(sorted(lost))}")
        if again := got & before.done:
            problems.append(f"{ref} repeated {', '.join(sorted(again))}, which was acknowledged")
    if problems:
        raise Unmet("; ".join(problems))


async def _after(trial: Trial, ref: Ref, wanted: set[str]) -> set[str]:
    got: set[str] = set()
    patience = trial.ack_wait(ref) + PATIENCE  # what was being worked on comes again after ack_wait
    with suppress(PullRefused):  # the consumer is gone as well: then so is whatever did not come
        while not wanted <= got and (message := await trial.agent.take(ref, patience)):
            await message.ack_sync(PATIENCE)
            got.add(id_of(message))
    return got
