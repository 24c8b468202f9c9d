"""The checks of one role's tasks: handed out once, again after a failure, never lost, never beyond the limit."""

from __future__ import annotations

import asyncio

from nats.js.errors import APIError

from cyborg_infra.live.agent import id_of
from cyborg_infra.live.trial import LOOK, PATIENCE, NotConfigured, NotSupported, TooSlow, Trial, Unmet, named
from cyborg_infra.model.org import ConsumerKind
from cyborg_infra.model.state import Ref
from cyborg_infra.model.units import SECOND, format_duration
from cyborg_infra.model.verification import SCALE, WORK

RETRY = 1.0  # seconds after which a publisher without an answer tries again
BURST = 20  # tasks that wait for a worker that is away
ORDERED = 10
ENDLESS = 10  # deliveries after which an unlimited max_deliver is believed
MOST = 1000  # a limit up to which back-pressure is tried


async def reaches_once(trial: Trial, role: str) -> None:
    """With a second worker at hand; what was acknowledged does not come again."""
    ref = await trial.worker(role)
    task = await trial.publish_task(role)
    begun = trial.clock()
    message = await trial.take(ref, task)
    await trial.nothing_more(ref, begun)
    await message.ack_sync(PATIENCE)
    await trial.nothing_more(ref, begun)


async def not_redelivered(trial: Trial, role: str) -> None:
    """A second worker pulls while the first one works."""
    ref = await trial.worker(role)
    task = await trial.publish_task(role)
    begun = trial.clock()
    message = await trial.take(ref, task)
    again = await trial.agent.take(ref, max(begun + WORK - trial.clock(), 0))
    took = trial.clock() - begun
    if again is not None and took < WORK:
        real = format_duration(round(took * SCALE) * SECOND)
        raise Unmet(f"{named(again)} was handed out again after what stands for {real} of work")
    await message.ack_sync(PATIENCE)


async def redelivered(trial: Trial, role: str) -> None:
    """The worker neither acknowledges nor refuses."""
    ref = await trial.worker(role)
    if trial.setting(ref, "max_deliver") == 1:
        raise NotConfigured("max_deliver is 1: a task is handed out once and never again")
    task = await trial.publish_task(role)
    await trial.take(ref, task)
    await _comes_again(trial, ref, task)


async def survives_crash(trial: Trial, role: str) -> None:
    """The worker's connection ends in the middle of the work."""
    ref = await trial.worker(role)
    task = await trial.publish_task(role)
    async with trial.hire() as worker:
        await trial.take(ref, task, agent=worker)
        await worker.die()
    await _comes_again(trial, ref, task)


async def _comes_again(trial: Trial, ref: Ref, task: str) -> None:
    wait = trial.ack_wait(ref)
    again = await trial.agent.take(ref, wait + PATIENCE)
    if again is None:
        raise Unmet(
            f"{task} did not come again within {wait + PATIENCE:.3g}s; ack_wait is {wait:.3g}s in the copy"
        )
    if id_of(again) != task:
        raise Unmet(f"{ref} handed out {named(again)} instead of {task}")
    await again.ack_sync(PATIENCE)


async def fails_for_good(trial: Trial, role: str) -> None:
    """Refused as often as max_deliver allows."""
    ref = await trial.worker(role)
    wanted = trial.setting(ref, "max_deliver", -1)
    task = await trial.publish_task(role)
    sequence, begun = 0, trial.clock()
    for attempt in range(wanted if wanted > 0 else ENDLESS):
        try:
            message = await trial.take(ref, task)
        except Unmet as unmet:
            if attempt and trial.clock() - begun > trial.ack_wait(ref) + PATIENCE:
                raise TooSlow from None  # some deliveries have ended by ack_wait before they were refused
            raise Unmet(f"{unmet}, after {attempt} failures of {wanted}") from None
        sequence = message.metadata.sequence.stream
        await message.nak()
    if wanted <= 0:
        raise Unmet(f"{task} failed {ENDLESS} times and is still handed out: max_deliver is unlimited")
    await _told(trial, ref, sequence, "max_deliver")


async def terminated(trial: Trial, role: str) -> None:
    """A worker says that the task shall not be handed out again."""
    ref = await trial.worker(role)
    task = await trial.publish_task(role)
    message = await trial.take(ref, task)
    await message.term()
    await _told(trial, ref, message.metadata.sequence.stream, "terminated")


async def _told(trial: Trial, ref: Ref, sequence: int, kind: str) -> None:
    trial.reader(ConsumerKind.DEAD_LETTER_ALERTS)  # or nobody could read it here
    notice = await trial.dead_letter(ref, sequence)
    if not str(notice.get("type")).endswith(kind):
        raise Unmet(f"the notice is of {notice.get('type')}, not of {kind}")


async def same_id(trial: Trial, role: str) -> None:
    """A publisher that heard no answer publishes again a little later."""
    ref = await trial.worker(role)
    task = await trial.publish_task(role)
    await asyncio.sleep(RETRY)
    await trial.publish_task(role, task_id=task)
    first = await trial.take(ref, task)
    await first.ack_sync(PATIENCE)
    if any(message.metadata.num_delivered == 1 for message in await trial.agent.waiting(ref)):
        raise Unmet(f"{ref} handed out {task} as two tasks, published {RETRY:g}s apart under one id")


async def nothing_dropped(trial: Trial, role: str) -> None:
    """Whatever the stream acknowledged while the worker was away."""
    sent, got = await _burst(trial, role, BURST)
    if missing := [task for task in sent if task not in got]:
        raise Unmet(f"{len(missing)} of {len(sent)} tasks that the stream acknowledged never came")


async def in_order(trial: Trial, role: str) -> None:
    """As published, one worker."""
    sent, got = await _burst(trial, role, ORDERED)
    first = list(dict.fromkeys(got))
    if first != [task for task in sent if task in first]:
        raise Unmet(f"the tasks came in another order: {', '.join(first)}")


async def _burst(trial: Trial, role: str, count: int) -> tuple[list[str], list[str]]:
    """Which of `count` tasks the stream acknowledged, and what its worker then got."""
    ref = await trial.worker(role)
    sent = []
    for _ in range(count):
        try:
            sent.append(await trial.publish_task(role))
        except APIError:  # a limit that refuses loses nothing
            break
    got: list[str] = []
    while len(set(got)) < len(sent) and (message := await trial.agent.take(ref, _short(got))):
        await message.ack_sync(PATIENCE)
        got.append(id_of(message))
    return sent, got


def _short(got: list[str]) -> float:
    """Once the first has come, the others are there as well."""
    return PATIENCE / 3 if got else PATIENCE


async def back_pressure(trial: Trial, role: str) -> None:
    """A publisher hears of it when the stream is full, and what it holds stays."""
    ref = await trial.worker(role)
    stream = Ref(ref.stream)
    most = trial.setting(stream, "max_msgs", -1)
    if trial.setting(stream, "discard") != "new" or most <= 0:
        raise NotConfigured("no max_msgs with discard new: nothing is refused")
    if most > MOST:
        raise NotSupported(f"max_msgs is {most}, and verify publishes {MOST} tasks at most")
    sent = [await trial.publish_task(role) for _ in range(most)]
    try:
        beyond = await trial.publish_task(role)
    except APIError:
        pass
    else:
        raise Unmet(f"{beyond} was stored although {most} tasks were waiting")
    message = await trial.take(ref, sent[0])
    await message.ack_sync(PATIENCE)
    if trial.setting(stream, "retention") == "workqueue":
        await _has_room(trial, role)


async def _has_room(trial: Trial, role: str) -> None:
    """Soon: on replicas a finished task is deleted a little after its acknowledgement."""
    deadline = trial.clock() + PATIENCE
    while True:
        try:
            await trial.publish_task(role)
        except APIError as error:
            if trial.clock() > deadline:
                raise Unmet(f"a finished task made no room: {error.description}") from None
            await asyncio.sleep(LOOK)
        else:
            return
