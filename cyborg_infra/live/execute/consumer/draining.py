"""Drain a consumer: wait until nobody works on what it has handed out, or until it is known what stays under way."""

from __future__ import annotations

import asyncio

from cyborg_infra.live import timing
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import NoReply, NoResponders, PermissionDenied
from cyborg_infra.live.execute.consumer.ack_listener import AckListener
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.pausing import require_consumer
from cyborg_infra.live.execute.consumer.placeholder import retention_of
from cyborg_infra.live.execute.consumer.redeliveries import (
    count_redeliveries,
    drain_timeout_error,
    interrupted_error,
    require_announced,
)
from cyborg_infra.live.execute.consumer.strategy import ReplacementStrategy
from cyborg_infra.live.execute.consumer.unacknowledged import find_unacknowledged, list_delivered
from cyborg_infra.model.consumer_position import (
    MAX_UNFINISHED,
    READS_EARLIER,
    Position,
    finished_up_to,
    max_open,
    open_limit_obstacle,
    position_obstacle,
    read_patterns,
    reads_more,
    stands_by_its_note,
)
from cyborg_infra.model.fields import Config
from cyborg_infra.model.metadata_keys import READ_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import ConsumerCounts, LiveResource, Resource, consumer_counts

LATE_ACK_TEXT = "what agents answer after a rename counts no more"


class DrainWatch:
    """What becomes of work under way while nothing is handed out, from the first look on."""

    def __init__(self, timeout: float, steady: float = 0.0) -> None:
        """Start a drain of `timeout` seconds at most; after `steady` seconds without a delivery there are no more."""
        self._clock = asyncio.get_running_loop().time
        self._steady, self._deadline = steady, self._clock() + timeout
        self._counts = ConsumerCounts(delivered_stream_seq=-1)
        self._delivered = self._finished = self._clock()

    def observe(self, counts: ConsumerCounts) -> ConsumerCounts:
        """Note what has changed since the last look, and return the counts."""
        if counts.delivered_stream_seq != self._counts.delivered_stream_seq:
            self._delivered = self._clock()
        if counts.num_ack_pending != self._counts.num_ack_pending:
            self._finished = self._clock()
        self._counts = counts
        return counts

    @property
    def has_stopped_delivering(self) -> bool:
        """Whether nothing is handed out any more."""
        return self._clock() >= self._delivered + self._steady

    @property
    def is_stuck(self) -> bool:
        """Whether nobody has finished anything for a while, or there is no more time."""
        return self.is_over or self._clock() >= self._finished + timing.PROGRESS_TIMEOUT_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether there is no more time."""
        return self._clock() >= self._deadline


async def drain(
    strategy: ReplacementStrategy,
    server: JetStream,
    old: LiveResource,
    desired: Resource | None,
    options: ApplyOptions,
    *,
    renumbered: bool = False,
    target: Config | None = None,
    fits: bool = True,
) -> Position:
    """Drain the consumer, and return its position once nobody works on an earlier message, or once it is known on which.

    It is held, where it can be, a little longer than the drain takes, or as long as it was paused. A paused consumer
    hands out nothing again, so that what an agent gave up stays open: it is not waited for to the end where it can
    stay open in the next one. `desired` is that one, or None where there is none; `target` is the configuration of its
    stream, where that is another one, and `fits` says whether all that is open fits in its journal. Raises ServerFault,
    with the consumer serving again, if work under way did not end in time and more would come again than was announced.
    """
    if target is None:
        stream = await server.info(Ref(old.ref.stream))
        target = stream.config if stream else {}
    paused_until = await strategy.hold(server, old, options.drain_timeout + timing.PAUSE_GRACE_SECONDS)
    obstacle = position_obstacle(
        old, desired or old, options.version, stream=target, renumbered=renumbered, fits=fits
    )
    most_late = _most_late_acks(old, desired, options)
    watch = DrainWatch(options.drain_timeout, strategy.steady_seconds(server))
    while True:
        now = await require_consumer(server, old.ref)
        counts = watch.observe(consumer_counts(now))
        is_costly = most_late is not None and counts.num_ack_pending > most_late
        if watch.has_stopped_delivering:
            if not counts.num_ack_pending:
                if desired is not None:
                    await require_announced(server, now, options)
                return Position(_end_of_finished(strategy, now) + 1)
            if (watch.is_stuck or options.is_interrupted()) and obstacle is None and not is_costly:
                found = await _find_open(server, now, desired or old, options.ack_listener, max_open(target))
                if not isinstance(found, str):
                    return Position(counts.delivered_stream_seq + 1, found)
                obstacle = found
        if options.is_interrupted() or (watch.has_stopped_delivering and watch.is_over):
            break
        await asyncio.sleep(timing.CONSUMER_POLL_SECONDS)
    why = obstacle or LATE_ACK_TEXT if is_costly else obstacle
    return await _accept_redelivery(
        strategy, server, now, options, why, paused_until, is_replaced=desired is not None
    )


def _most_late_acks(old: LiveResource, desired: Resource | None, options: ApplyOptions) -> int | None:
    """Return how many messages may stay open under a new name, where their acknowledgements no longer count; None for any number."""
    is_renamed = desired is not None and desired.ref != old.ref
    return options.allowed_redeliveries.get(old.ref, 0) if is_renamed else None


def _end_of_finished(strategy: ReplacementStrategy, drained: LiveResource) -> int:
    """Return the last sequence number that a consumer is done with and behind which nothing is open."""
    if stands_by_its_note(drained) or strategy.is_stopped_for_good(drained):
        return finished_up_to(drained)
    return consumer_counts(drained).delivered_stream_seq


async def _accept_redelivery(
    strategy: ReplacementStrategy,
    server: JetStream,
    now: LiveResource,
    options: ApplyOptions,
    why: str | None,
    paused_until: str,
    *,
    is_replaced: bool,
) -> Position:
    """Return the consumer's position although work is open, if that redelivery was announced. Raises ServerFault, with the consumer serving again."""
    if not options.is_interrupted():
        allowed = options.allowed_redeliveries.get(now.ref, 0)
        if strategy.is_stopped_for_good(now) or await count_redeliveries(server, now) <= allowed:
            if is_replaced:
                await require_announced(server, now, options)
            return Position(finished_up_to(now) + 1)
    await strategy.release(server, now.ref, paused_until)
    raise interrupted_error(now) if options.is_interrupted() else drain_timeout_error(now, options, why)


async def _find_open(
    server: JetStream, consumer: LiveResource, desired: Resource, ack_listener: AckListener, room: int
) -> tuple[int, ...] | str:
    """Return the sequence numbers that are open, or why they cannot stay open in `desired`. Asked before anything is deleted for it."""
    found = await _open_messages(server, consumer, desired, ack_listener)
    if isinstance(found, str):
        return found
    return open_limit_obstacle(room, len(found)) or found


async def _open_messages(
    server: JetStream, consumer: LiveResource, desired: Resource, ack_listener: AckListener
) -> tuple[int, ...] | str:
    """Return the sequence numbers that are open, or why nobody can tell or they cannot stay open.

    On a workqueue all is open that is stored, also what was given up and nobody has kept.
    """
    try:
        await server.require_pull_permission(consumer.ref)
        if ack_listener.is_denied(server, consumer.ref):
            return "permission denied: this user may not hear acknowledgements ($JS.ACK.>)"
        if await retention_of(server, consumer.ref) == "workqueue":
            return await _stored_messages(server, consumer, desired)
        found = await find_unacknowledged(server, consumer)
    except (PermissionDenied, NoResponders) as fault:
        return fault.problems[0].message
    except NoReply:
        return "acknowledgements are not answered"
    return "agents are at work on them" if found is None else found


async def _stored_messages(
    server: JetStream, consumer: LiveResource, desired: Resource
) -> tuple[int, ...] | str:
    """Return the open messages of a workqueue's consumer. An earlier message that only `desired` reads is not open: it was never handed out."""
    found = await list_delivered(server, consumer, read_patterns(desired), MAX_UNFINISHED)
    if found is None:
        return "there are too many"
    known = not consumer.is_stopped or READ_KEY in consumer.metadata
    if known and reads_more(consumer, desired):
        mine = await list_delivered(server, consumer, read_patterns(consumer), MAX_UNFINISHED)
        return found if mine == found else READS_EARLIER
    return found
