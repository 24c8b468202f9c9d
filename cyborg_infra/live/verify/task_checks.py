"""The checks of one role's tasks: handed out once, again after a failure, never lost, never beyond the limit."""

from __future__ import annotations

import asyncio

from nats.js.errors import APIError

from cyborg_infra.live import timing
from cyborg_infra.live.verify.agent import message_id_of
from cyborg_infra.live.verify.sandbox import (
    CheckFailed,
    Inconclusive,
    NotConfigured,
    NotSupported,
    Sandbox,
    describe_message,
)
from cyborg_infra.model.channels import ConsumerKind
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.units import SECOND, format_duration
from cyborg_infra.model.verification import TIME_SCALE, WORK_SECONDS

BURST_COUNT = 20  # tasks that wait for a worker that is away
ORDERED_COUNT = 10
MAX_DELIVERIES_TRIED = 10  # deliveries after which an unlimited max_deliver is believed
MAX_TASKS_TRIED = 1000  # a limit up to which back-pressure is tried


async def check_reaches_once(sandbox: Sandbox, role: str) -> None:
    """Check that a task reaches one of two workers once, and does not come again after its acknowledgement."""
    ref = await sandbox.worker(role)
    task = await sandbox.publish_task(role)
    begun = sandbox.clock()
    message = await sandbox.expect_message(ref, task)
    await sandbox.expect_no_more(ref, begun)
    await message.ack_sync(timing.CHECK_WAIT_SECONDS)
    await sandbox.expect_no_more(ref, begun)


async def check_not_redelivered(sandbox: Sandbox, role: str) -> None:
    """Check that a second worker does not get a task while the first one works on it."""
    ref = await sandbox.worker(role)
    task = await sandbox.publish_task(role)
    begun = sandbox.clock()
    message = await sandbox.expect_message(ref, task)
    again = await sandbox.agent.pull(ref, max(begun + WORK_SECONDS - sandbox.clock(), 0))
    took = sandbox.clock() - begun
    if again is not None and took < WORK_SECONDS:
        real = format_duration(round(took * TIME_SCALE) * SECOND)
        raise CheckFailed(
            f"{describe_message(again)} was handed out again after what stands for {real} of work"
        )
    await message.ack_sync(timing.CHECK_WAIT_SECONDS)


async def check_redelivered(sandbox: Sandbox, role: str) -> None:
    """Check that a task is redelivered after ack_wait when its worker neither acknowledges nor refuses."""
    ref = await sandbox.worker(role)
    if sandbox.setting(ref, "max_deliver") == 1:
        raise NotConfigured("max_deliver is 1: a task is handed out once and never again")
    task = await sandbox.publish_task(role)
    await sandbox.expect_message(ref, task)
    await _expect_again(sandbox, ref, task)


async def check_survives_crash(sandbox: Sandbox, role: str) -> None:
    """Check that a task is redelivered when its worker's connection ends in the middle of the work."""
    ref = await sandbox.worker(role)
    task = await sandbox.publish_task(role)
    async with sandbox.connect_agent() as worker:
        await sandbox.expect_message(ref, task, agent=worker)
        await worker.abort()
    await _expect_again(sandbox, ref, task)


async def _expect_again(sandbox: Sandbox, ref: Ref, task: str) -> None:
    wait = sandbox.ack_wait(ref)
    again = await sandbox.agent.pull(ref, wait + timing.CHECK_WAIT_SECONDS)
    if again is None:
        raise CheckFailed(
            f"{task} did not come again within {wait + timing.CHECK_WAIT_SECONDS:.3g}s; ack_wait is {wait:.3g}s in the copy"
        )
    if message_id_of(again) != task:
        raise CheckFailed(f"{ref} handed out {describe_message(again)} instead of {task}")
    await again.ack_sync(timing.CHECK_WAIT_SECONDS)


async def check_failures_become_dead_letter(sandbox: Sandbox, role: str) -> None:
    """Check that a task that is refused as often as max_deliver allows becomes a dead letter."""
    ref = await sandbox.worker(role)
    wanted = sandbox.setting(ref, "max_deliver")
    task = await sandbox.publish_task(role)
    sequence, begun = 0, sandbox.clock()
    for attempt in range(wanted if wanted > 0 else MAX_DELIVERIES_TRIED):
        try:
            message = await sandbox.expect_message(ref, task)
        except CheckFailed as unmet:
            if attempt and sandbox.clock() - begun > sandbox.ack_wait(ref) + timing.CHECK_WAIT_SECONDS:
                raise Inconclusive from None  # some deliveries have ended by ack_wait before they were refused
            raise CheckFailed(f"{unmet}, after {attempt} failures of {wanted}") from None
        sequence = message.metadata.sequence.stream
        await message.nak()
    if wanted <= 0:
        raise CheckFailed(
            f"{task} failed {MAX_DELIVERIES_TRIED} times and is still handed out: max_deliver is unlimited"
        )
    await _expect_dead_letter(sandbox, ref, sequence, "max_deliver")


async def check_termination_becomes_dead_letter(sandbox: Sandbox, role: str) -> None:
    """Check that a task that a worker terminates becomes a dead letter."""
    ref = await sandbox.worker(role)
    task = await sandbox.publish_task(role)
    message = await sandbox.expect_message(ref, task)
    await message.term()
    await _expect_dead_letter(sandbox, ref, message.metadata.sequence.stream, "terminated")


async def _expect_dead_letter(sandbox: Sandbox, ref: Ref, sequence: int, kind: str) -> None:
    sandbox.reader(ConsumerKind.DEAD_LETTER_ALERTS)  # or nobody could read it here
    notice = await sandbox.expect_dead_letter(ref, sequence)
    if not str(notice.get("type")).endswith(kind):
        raise CheckFailed(f"the notice is of {notice.get('type')}, not of {kind}")


async def check_same_id(sandbox: Sandbox, role: str) -> None:
    """Check that a task published twice under one id is one task."""
    ref = await sandbox.worker(role)
    task = await sandbox.publish_task(role)
    await asyncio.sleep(timing.PUBLISHER_RETRY_SECONDS)
    await sandbox.publish_task(role, task_id=task)
    first = await sandbox.expect_message(ref, task)
    await first.ack_sync(timing.CHECK_WAIT_SECONDS)
    if any(message.metadata.num_delivered == 1 for message in await sandbox.agent.pull_all(ref)):
        raise CheckFailed(
            f"{ref} handed out {task} as two tasks, published {timing.PUBLISHER_RETRY_SECONDS:g}s apart under one id"
        )


async def check_nothing_dropped(sandbox: Sandbox, role: str) -> None:
    """Check that a worker gets whatever the stream acknowledged while it was away."""
    sent, got = await _burst(sandbox, role, BURST_COUNT)
    if missing := [task for task in sent if task not in got]:
        raise CheckFailed(f"{len(missing)} of {len(sent)} tasks that the stream acknowledged never came")


async def check_order(sandbox: Sandbox, role: str) -> None:
    """Check that one worker gets the tasks in the order of publishing."""
    sent, got = await _burst(sandbox, role, ORDERED_COUNT)
    first = list(dict.fromkeys(got))
    if first != [task for task in sent if task in first]:
        raise CheckFailed(f"the tasks came in another order: {', '.join(first)}")


async def _burst(sandbox: Sandbox, role: str, count: int) -> tuple[list[str], list[str]]:
    """Return which of `count` tasks the stream acknowledged, and what its worker then got."""
    ref = await sandbox.worker(role)
    sent = []
    for _ in range(count):
        try:
            sent.append(await sandbox.publish_task(role))
        except APIError:  # a limit that refuses loses nothing
            break
    got: list[str] = []
    while len(set(got)) < len(sent) and (message := await sandbox.agent.pull(ref, _next_wait_seconds(got))):
        await message.ack_sync(timing.CHECK_WAIT_SECONDS)
        got.append(message_id_of(message))
    return sent, got


def _next_wait_seconds(got: list[str]) -> float:
    """Return how long to wait for the next: once the first has come, the others are there as well."""
    return timing.CHECK_WAIT_SECONDS / 3 if got else timing.CHECK_WAIT_SECONDS


async def check_back_pressure(sandbox: Sandbox, role: str) -> None:
    """Check that a full stream refuses a publisher, and that what it holds stays."""
    ref = await sandbox.worker(role)
    stream = Ref(ref.stream)
    most = sandbox.setting(stream, "max_msgs")
    if sandbox.setting(stream, "discard") != "new" or most <= 0:
        raise NotConfigured("no max_msgs with discard new: nothing is refused")
    if most > MAX_TASKS_TRIED:
        raise NotSupported(f"max_msgs is {most}, and verify publishes {MAX_TASKS_TRIED} tasks at most")
    sent = [await sandbox.publish_task(role) for _ in range(most)]
    try:
        beyond = await sandbox.publish_task(role)
    except APIError:
        pass
    else:
        raise CheckFailed(f"{beyond} was stored although {most} tasks were waiting")
    message = await sandbox.expect_message(ref, sent[0])
    await message.ack_sync(timing.CHECK_WAIT_SECONDS)
    if sandbox.setting(stream, "retention") == "workqueue":
        await _wait_for_room(sandbox, role)


async def _wait_for_room(sandbox: Sandbox, role: str) -> None:
    """Wait until the stream takes messages again: on replicas a finished task is deleted a little after its acknowledgement."""
    deadline = sandbox.clock() + timing.CHECK_WAIT_SECONDS
    while True:
        try:
            await sandbox.publish_task(role)
        except APIError as error:
            if sandbox.clock() > deadline:
                raise CheckFailed(f"a finished task made no room: {error.description}") from None
            await asyncio.sleep(timing.CHECK_POLL_SECONDS)
        else:
            return
