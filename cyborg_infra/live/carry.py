"""Replace a consumer without loss: the new one goes on where the old one stood.

The position is kept in the account, never on the machine that applies: a durable placeholder consumer stands at
the next message to deliver from before the old consumer is deleted until the new one stands there too. On an
interest stream it also keeps the messages. Interrupted at any step, the next apply finds it and goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cyborg_infra.live.faults import ApiError
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.write import create_consumer, delete, update_consumer, write
from cyborg_infra.model.fields import PAUSE_SINCE, RESET_SINCE, Version
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.state import (
    KIND,
    OWNER,
    PLACEHOLDER,
    POSITION,
    START,
    STOPPED,
    ConsumerCounts,
    Ref,
    Resource,
    start_of,
    unused_subject,
)

PARKED = "2200-01-01T00:00:00Z"
"""A new consumer is paused until then while it does not stand where it shall: dead or alive, nobody is served."""

RESETTABLE = ("all", "by_start_sequence", "by_start_time")  # the others: 10204
BELOW_START = 10204
POLL = 0.1  # seconds between two looks at a consumer that drains
STEADY = 1.0  # seconds without a change after which a replicated consumer, paused, has told of all it has handed out
TRIES = 100  # looks at one that is paused or resumed; measured: 1, and 2 in a cluster under load
GRACE = 30  # seconds that a pause outlives the drain, so that it ends by itself if we die


@dataclass(frozen=True, slots=True)
class Manner:
    """How to replace: on which server, how many seconds to wait for work under way, whether it may come again instead.

    `waits` hears of what takes long. `sized`: the account takes no stream without max_bytes.
    """

    version: Version
    drain: float = 60.0
    repeats_work: bool = False
    waits: Callable[[str], None] = lambda _: None
    sized: bool = False


async def replace(server: JetStream, place: Ref, desired: Resource, manner: Manner) -> None:
    """The consumer is as desired and stands where the one called `place` stood, which is gone like its placeholder.

    Raises ServerFault, with the old consumer serving again, if work under way did not end in time and may not
    be repeated.
    """
    old, known = await server.info(place), 0
    if old is not None and old.config.get("pause_until") != PARKED:
        idle = manner.version < PAUSE_SINCE and not manner.repeats_work and not old.is_stopped
        if manner.version < PAUSE_SINCE and not idle:
            await stop(server, old, desired)
        position = await settled(server, old, manner)
        if await _needs_place(server, desired, position):
            await keep(server, desired, position)
            known = position
        if idle:
            await _refuse_if_at_work(server, old.ref, desired.ref, position)
    await delete(server, place)
    await finish(server, desired, manner.version, known)


async def finish(server: JetStream, desired: Resource, version: Version, known: int = 0) -> None:
    """The consumer exists, stands where its placeholder stands, and is served; the placeholder is gone.

    A server of a cluster that has not heard of it yet may tell an earlier position than is `known`.
    """
    ref, mark = desired.ref, placeholder(desired.ref)
    created, held = await server.info(ref) is not None, await server.info(mark)
    position = max(_kept(held) if held else 0, known)
    if not matters(desired, position):
        position = 0  # it begins there by itself
    resettable = version >= RESET_SINCE and desired.config["deliver_policy"] in RESETTABLE
    if not created:
        config = dict(desired.config)
        if position and resettable:
            config["pause_until"] = PARKED
        elif position:
            config = _noted(desired, position)
        await create_consumer(server, Resource(ref, config), f"creating {ref}")
    if position and resettable:
        await _reset(server, ref, position)
    await delete(server, mark)


def placeholder(ref: Ref) -> Ref:
    """The name under which a consumer's position is kept while it is replaced."""
    return Ref(ref.stream, f"{PLACEHOLDER}{ref.consumer}")


async def keep(server: JetStream, desired: Resource, position: int) -> None:
    """The consumer's placeholder says `position`, whatever it said before.

    One that waits for enough is left waiting: without it an interest stream would forget what it waits for.
    """
    mark, doing = placeholder(desired.ref), f"keeping the position of {desired.ref}"
    standing, held = Resource(mark, _standing(desired, mark, position)), await server.info(mark)
    if held is not None and _waits_for(held, standing):
        metadata = {**standing.metadata, POSITION: str(position)}
        await update_consumer(server, Resource(mark, {**held.config, "metadata": metadata}), doing)
        return
    await delete(server, mark)
    await create_consumer(server, standing, doing)


async def begin(server: JetStream, desired: Resource) -> None:
    """The consumer exists, if it has never been at work."""
    if await server.info(desired.ref) is None:
        await create_consumer(server, desired, f"creating {desired.ref}")


async def settled(server: JetStream, old: Resource, manner: Manner, until: str | None = None) -> int:
    """The next sequence number to deliver, once nobody works on an earlier one.

    The consumer is paused, where it can be: `until` then, or by default a little longer than the drain takes.
    Raises ServerFault, with the consumer serving again, if work under way did not end in time and may not be
    repeated.
    """
    pauses = manner.version >= PAUSE_SINCE
    if pauses:
        pause = until or (datetime.now(UTC) + timedelta(seconds=manner.drain + GRACE)).isoformat()
        await _pause(server, old.ref, pause)
    steady = STEADY if pauses and server.clustered else 0.0
    clock = asyncio.get_running_loop().time
    deadline, since, counts = clock() + manner.drain, clock(), ConsumerCounts()
    while True:
        now = await _alive(server, old.ref)
        before, counts = counts, _counts(now)
        idle = not counts.num_ack_pending
        if not idle or counts.delivered_stream_seq != before.delivered_stream_seq:
            since = clock()
        if idle and clock() >= since + steady:
            return (floor(now) if now.is_stopped else counts.delivered_stream_seq) + 1
        if clock() >= deadline + (steady if idle else 0):
            break
        await asyncio.sleep(POLL)
    if manner.repeats_work:
        return floor(now) + 1
    if pauses:
        await resume(server, old.ref)
    raise ServerFault(
        Problem(
            "not-drained",
            f"{old.ref}: {counts.num_ack_pending} messages were still being worked on after {manner.drain:g}s; it was left as it is",
            None,
            "apply again with a longer --drain-timeout, or accept that they are handed out again with --allow repeats-work",
        )
    )


async def _stop(server: JetStream, old: Resource) -> None:
    """A consumer hands out nothing more, on a server that cannot pause one; to go on it has to be created anew.

    It waits for a subject that nobody uses. Where it stands is from then on its `floor`: its cursor runs on to the end
    as soon as somebody pulls. With room for one message only, it does not do so before the last one under way is
    finished, which would take its ack floor along (measured 2.10.26: 60 of 60 under load were exact). After that it
    does, and the end of an ack_wait takes the ack floor along all the same: so up to where it has handed out is noted
    while it is known, at first as what it was before it was stopped. Something else has to wait for its messages: see
    `stop`.
    """
    rest = {
        name: value for name, value in old.config.items() if name not in ("filter_subject", "filter_subjects")
    }
    if rest.get("ack_policy", "none") != "none":
        rest["max_ack_pending"] = 1

    async def note(number: int, exactly: str) -> None:
        metadata = {**old.metadata, STOPPED: f"{number}{exactly}"}
        config = {**rest, "filter_subject": unused_subject(old.ref), "metadata": metadata}
        await update_consumer(server, Resource(old.ref, config), f"stopping {old.ref}")

    latest = await _alive(server, old.ref)
    before = max(_counts(latest).delivered_stream_seq, floor(latest))
    await note(before, "+")
    now = await _in_force(server, old.ref)
    counts = _counts(now)
    handed_out = counts.delivered_stream_seq if counts.num_ack_pending else counts.ack_floor_stream_seq
    await note(max(before, handed_out), "")


async def _in_force(server: JetStream, ref: Ref) -> Resource:
    """The consumer, once it is stopped. Raises ServerFault if it is not: a cluster's OK is only the proposal."""
    for _ in range(TRIES):
        now = await _alive(server, ref)
        if now.is_stopped:
            return now
        await asyncio.sleep(POLL)
    raise _not_in_force(f"stopping {ref}")


def floor(consumer: Resource) -> int:
    """Everything up to this number is finished. Until its first acknowledgement a consumer of 2.10 says 0, wherever it began."""
    start: int = consumer.config.get("opt_start_seq", 0)
    finished = max(_counts(consumer).ack_floor_stream_seq, start - 1)
    stopped = consumer.stopped_at
    return finished if stopped is None else min(finished, stopped.number)


async def resume(server: JetStream, ref: Ref) -> None:
    """The consumer is served."""
    await _pause(server, ref, None)


async def _pause(server: JetStream, ref: Ref, until: str | None) -> None:
    """The consumer hands out nothing `until` then; None hands out again. Raises ServerFault if that does not come into force.

    A cluster's OK is only the proposal: the consumer goes on for a moment, and if the leader dies, for ever.
    """
    verb, doing = f"CONSUMER.PAUSE.{ref.stream}.{ref.consumer}", f"{'pausing' if until else 'resuming'} {ref}"

    async def holds() -> bool:
        live = await server.info(ref)
        return live is None or _instant(live.config.get("pause_until")) == _instant(until)

    for _ in range(TRIES):
        await write(server, verb, {"pause_until": until} if until else {}, doing=doing, holds=holds)
        if await holds():
            return
        await asyncio.sleep(POLL)
    raise _not_in_force(doing)


def _not_in_force(doing: str) -> ServerFault:
    return ServerFault(
        Problem("not-in-force", f"{doing}: the server answered OK, and does not do it", None, "apply again")
    )


def _instant(text: str | None) -> datetime | None:
    found = datetime.fromisoformat(text) if text else None
    return found if found and found.year > 1 else None  # Go's zero time is in the year 1


def matters(desired: Resource, position: int) -> bool:
    """Whether a new consumer would start anywhere else by itself. One that begins with new messages always would."""
    policy, start = desired.config["deliver_policy"], desired.config.get("opt_start_seq", 0)
    return policy not in ("all", "by_start_sequence") or position > max(start, 1)


async def _reset(server: JetStream, ref: Ref, position: int) -> None:
    """Stands at `position` and is served. Only a consumer that is still parked before it is moved: another one has been at work.

    Parked may also be what a server says that has just become its leader, and has not heard that it is served.
    """
    live = await server.info(ref)
    if live is None or live.config.get("pause_until") != PARKED:
        return
    if _counts(live).delivered_stream_seq >= position:
        await resume(server, ref)
        return

    async def holds() -> bool:
        return _counts(await _alive(server, ref)).delivered_stream_seq + 1 == position

    verb, doing = f"CONSUMER.RESET.{ref.stream}.{ref.consumer}", f"moving {ref} to {position}"
    try:
        await write(server, verb, {"seq": position}, doing=doing, holds=holds)
    except ApiError as error:
        if error.err_code != BELOW_START:  # then the manifest's own start is further on, and holds
            raise
    await resume(server, ref)


async def stop(server: JetStream, old: Resource, desired: Resource) -> None:
    """The consumer is stopped, and what the stream still has for it is waited for all the same.

    An interest stream would forget it; and for 2.10 a consumer that was made on one stays so when the stream gets
    limits retention, until it is made anew or the server restarts: its next update deletes what nobody waits for.
    A workqueue refuses a second consumer, and deletes nothing at an update.
    """
    if await _retention(server, desired.ref) != "workqueue":
        await keep(server, desired, floor(old) + 1)
    if not old.is_stopped:
        await _stop(server, old)


async def _refuse_if_at_work(server: JetStream, place: Ref, desired: Ref, position: int) -> None:
    """Before 2.11 nothing keeps a worker from coming after the plan was made, which said that there is none."""
    counts = _counts(await _alive(server, place))
    if counts.num_waiting or counts.num_ack_pending or counts.delivered_stream_seq >= position:
        await delete(server, placeholder(desired))
        raise ServerFault(
            Problem(
                "at-work",
                f"{place}: a worker has come since the plan was made; it was left as it is",
                None,
                "plan again: it counts what could be handed out again",
            )
        )


async def _needs_place(server: JetStream, desired: Resource, position: int) -> bool:
    """Whether a placeholder has to stand for the consumer while there is none.

    On an interest stream always: what nobody waits for is deleted, also where nothing was handed out yet. On a
    workqueue never: what is acknowledged is gone, so the stream itself is the position, and refuses a placeholder.
    """
    retention = await _retention(server, desired.ref)
    return retention != "workqueue" and (retention == "interest" or matters(desired, position))


async def _retention(server: JetStream, consumer: Ref) -> str | None:
    stream = await server.info(Ref(consumer.stream))
    return stream.config.get("retention") if stream else None


def _kept(mark: Resource) -> int:
    """The position that a placeholder says."""
    start: int = mark.config["opt_start_seq"]
    return int(mark.metadata.get(POSITION, start))


def _waits_for(held: Resource, wanted: Resource) -> bool:
    """Whether a placeholder waits for all that another one would."""
    filters = ("filter_subject", "filter_subjects")
    alike = all(held.config.get(name) == wanted.config.get(name) for name in filters)
    return alike and held.config["opt_start_seq"] <= wanted.config["opt_start_seq"]


def _standing(desired: Resource, mark: Ref, position: int) -> dict[str, Any]:
    """The placeholder: the new consumer's filter at `position`, owned, serving nobody."""
    kept = (
        "filter_subject",
        "filter_subjects",
        "ack_policy",
        "num_replicas",
        "replay_policy",
        "deliver_policy",
    )
    return {
        **{name: desired.config[name] for name in kept if name in desired.config},
        "name": mark.consumer,
        "durable_name": mark.consumer,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": position,
        "metadata": {OWNER: desired.owner or "", KIND: PLACEHOLDER},
    }


def _noted(desired: Resource, position: int) -> dict[str, Any]:
    """Before 2.14 only a start sequence places a consumer; the note says what it stands for, so that it is no difference."""
    rest = {name: value for name, value in desired.config.items() if name != "opt_start_time"}
    metadata = {START: start_of(desired.config), **desired.metadata}
    return {**rest, "deliver_policy": "by_start_sequence", "opt_start_seq": position, "metadata": metadata}


async def _alive(server: JetStream, ref: Ref) -> Resource:
    live = await server.info(ref)
    if live is None:
        raise ServerFault(
            Problem("gone", "the consumer was deleted while it was replaced", None, "plan again")
        )
    return live


def _counts(consumer: Resource) -> ConsumerCounts:
    return consumer.counts if isinstance(consumer.counts, ConsumerCounts) else ConsumerCounts()
