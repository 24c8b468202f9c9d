"""The check that a restart of the server in the middle of the work loses nothing; for a server of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from nats.js.errors import APIError

from cyborg_infra.live import timing
from cyborg_infra.live.verify.agent import PullRefused, message_id_of
from cyborg_infra.live.verify.sandbox import CheckFailed, Sandbox
from cyborg_infra.model.channels import TASKS, ConsumerKind
from cyborg_infra.model.ref import Ref

TASKS_PER_ROLE = 6  # of each role: one is done, one is being worked on, the others wait


@dataclass(frozen=True, slots=True)
class StateBeforeRestart:
    """What stood when the server went down: by consumer what is unfinished, and what is done."""

    unfinished: dict[Ref, set[str]]
    done: set[str]


async def start_work(sandbox: Sandbox) -> StateBeforeRestart:
    """Return what every role has to read when it is in the middle of its work: tasks, a message, a broadcast, and one on each other channel.

    What the manifest keeps in memory is not expected back.
    """
    before = StateBeforeRestart({}, set())
    if sandbox.org.channel(TASKS):
        await asyncio.gather(*(_prepare_tasks(sandbox, role, before) for role in sandbox.roles()))
    inboxes, broadcasts = (
        {role: sandbox.reader(kind, role) for role in sandbox.roles() if sandbox.org.channel_of(kind)}
        for kind in (ConsumerKind.INBOX_READER, ConsumerKind.BROADCAST_READER)
    )
    for stream in {ref.stream for readers in (inboxes, broadcasts) for ref in readers.values()}:
        await sandbox.purge(stream)
    for role, ref in inboxes.items():
        before.unfinished[ref] = {message_id := sandbox.new_id(f"message-to-{role}")}
        await sandbox.agent.publish(
            sandbox.subject(role, "inbox"), {"text": "before the restart"}, message_id
        )
    if broadcasts:
        await sandbox.publish_broadcast(told := sandbox.new_id("broadcast"))
        before.unfinished.update({ref: {told} for ref in broadcasts.values()})
    for channel in sandbox.other_channels():
        if channel.stream:
            handed = await sandbox.publish_to_readers(channel)
            before.unfinished.update(
                {ref: ids for ref, ids in handed.items() if _is_expected_back(sandbox, ref)}
            )
    return before


def _is_expected_back(sandbox: Sandbox, reader: Ref) -> bool:
    """Return whether what waits for a consumer outlives a restart, and can be pulled then."""
    stored = sandbox.setting(Ref(reader.stream), "storage") != "memory"
    pulled = sandbox.setting(reader, "ack_policy") != "none" and not sandbox.setting(
        reader, "deliver_subject"
    )
    return stored and pulled


async def _prepare_tasks(sandbox: Sandbox, role: str, before: StateBeforeRestart) -> None:
    ref = await sandbox.worker(role)
    tasks = []
    for _ in range(TASKS_PER_ROLE):
        try:
            tasks.append(await sandbox.publish_task(role))
        except APIError:  # a limit that refuses loses nothing
            break
    first = await sandbox.expect_message(ref, tasks[0])
    await first.ack_sync(timing.CHECK_WAIT_SECONDS)
    before.done.add(tasks[0])
    if tasks[1:]:
        await sandbox.expect_message(ref, tasks[1])
    before.unfinished[ref] = set(tasks[1:])


async def check_restart_loses_nothing(
    before: StateBeforeRestart, restart: Callable[[], Awaitable[Sandbox]]
) -> None:
    """Restart the server, and check that everything unfinished comes, and nothing that was done. Raises CheckFailed."""
    sandbox = await restart()
    seen = await asyncio.gather(
        *(_expect_unfinished(sandbox, ref, ids) for ref, ids in before.unfinished.items())
    )
    problems = []
    for ref, wanted, got in zip(before.unfinished, before.unfinished.values(), seen, strict=True):
        if lost := wanted - got:
            problems.append(f"{ref} lost {len(lost)} of {len(wanted)}: {', '.join(sorted(lost))}")
        if again := got & before.done:
            problems.append(f"{ref} repeated {', '.join(sorted(again))}, which was acknowledged")
    if problems:
        raise CheckFailed("; ".join(problems))


async def _expect_unfinished(sandbox: Sandbox, ref: Ref, wanted: set[str]) -> set[str]:
    got: set[str] = set()
    # What was being worked on comes again after ack_wait.
    patience = sandbox.ack_wait(ref) + timing.CHECK_WAIT_SECONDS
    with suppress(PullRefused):  # the consumer is gone as well: then so is whatever did not come
        while not wanted <= got and (message := await sandbox.agent.pull(ref, patience)):
            await message.ack_sync(timing.CHECK_WAIT_SECONDS)
            got.add(message_id_of(message))
    return got
