"""Replace a consumer where none can be paused (before 2.11): it is stopped by a filter that nothing matches.

Promises that nothing is skipped, and that no more is handed out again than the plan announced. A consumer that is
stopped cannot be left as it was any more: so it is stopped only when what would come again is within what was
announced. One that nobody worked with in the plan is refused, untouched, if a worker has come by then; it is stopped as
well, since a worker may come at any moment until it is. What agents were handed between the last look and the stop
has to end. Where it does not, the consumer stays stopped, and the next plan counts what would come again: served as it
was, it could skip what its cursor has passed; made anew, it would hand out what somebody is at work on.

What is being worked on is not open in the new consumer: an agent that finishes too late has finished nothing, and the
message comes again. The new one begins by a start sequence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cyborg_infra.live import timing
from cyborg_infra.live.api.idempotent import delete
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.consumer.draining import DrainWatch, drain
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.pausing import require_consumer
from cyborg_infra.live.execute.consumer.placeholder import (
    needs_placeholder,
    placeholder_ref,
    retention_of,
    save_position,
)
from cyborg_infra.live.execute.consumer.redeliveries import (
    archive_given_up,
    count_redeliveries,
    drain_timeout_error,
    interrupted_error,
    stays_stopped_error,
)
from cyborg_infra.live.execute.consumer.starting import BY_START_SEQUENCE, ConsumerStart
from cyborg_infra.live.execute.consumer.stopping import slow, speed_up, stop_before_pauses
from cyborg_infra.live.execute.consumer.strategy import FinalPosition, ReplacementStrategy
from cyborg_infra.model.consumer_position import Position, finished_up_to, may_have_forgotten
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, Resource, consumer_counts


class StopByFilter(ReplacementStrategy):
    """Stop the old consumer by its filter; start the new one by a sequence."""

    pauses = False

    async def settle(
        self, server: JetStream, old: LiveResource, desired: Resource, options: ApplyOptions
    ) -> FinalPosition:
        """Stop the consumer, drain it and save its position. One that nobody worked with in the plan is left as it is if somebody does."""
        idle_at = None
        if options.allowed_redeliveries.get(old.ref) or old.is_stopped:
            await ensure_stoppable(server, old, options)
        else:
            idle_at = await drain(self, server, old, desired, options)
        await stop_with_placeholder(server, old, desired, options, idle_at=idle_at)
        position = await drain(self, server, old, desired, options)
        needed = await needs_placeholder(server, desired, position)
        if needed:
            interest = await retention_of(server, desired.ref) == "interest"
            await save_position(server, desired, position, passed=interest)
        await archive_given_up(server, desired.ref, options)
        return FinalPosition(position) if needed else FinalPosition()

    async def hold(self, _server: JetStream, _consumer: LiveResource, _seconds: float) -> str:
        """Do nothing: one that is worked with is stopped already."""
        return ""

    async def release(self, _server: JetStream, _ref: Ref, _paused_until: str = "") -> None:
        """Do nothing: it was not held."""

    async def keep_still(self, _server: JetStream, _consumer: LiveResource, _position: Position) -> bool:
        """Do nothing: it is stopped after this."""
        return True

    async def listen(self, _server: JetStream, _ref: Ref, _options: ApplyOptions) -> None:
        """Do nothing: nothing is open in the new consumer."""

    def to_stop(self, consumers: Iterable[LiveResource]) -> list[LiveResource]:
        """Return those that still wait for their subjects."""
        return [found for found in consumers if not found.ref.is_placeholder and not found.is_stopped]

    def steady_seconds(self, _server: JetStream) -> float:
        """Return none: what it hands out until it is stopped is noted."""
        return 0.0

    def is_stopped_for_good(self, consumer: LiveResource) -> bool:
        """Return whether it is stopped: its cursor runs on as soon as somebody pulls."""
        return consumer.is_stopped

    def start_of(self, _desired: Resource) -> ConsumerStart:
        """Return a start sequence: nothing else moves a consumer."""
        return BY_START_SEQUENCE


async def stop_with_placeholder(
    server: JetStream,
    old: LiveResource,
    desired: Resource,
    options: ApplyOptions,
    *,
    idle_at: Position | None = None,
) -> None:
    """Create the consumer's placeholder and stop it, before 2.11: an interest stream keeps what the placeholder waits for.

    An interest stream would forget it; and for 2.10 a consumer that was made on one stays so when the stream gets
    limits retention, until it is made anew or the server restarts: its next update deletes what nobody waits for.
    A workqueue refuses a second consumer, and deletes nothing at an update.

    With `idle_at` nobody works with it, and it stands there. Raises ServerFault if somebody has come, with it serving as
    before; or if more would come again of what agents were handed until it was stopped than was announced: it stays
    stopped then.
    """
    if (retention := await retention_of(server, desired.ref)) != "workqueue":
        await save_position(
            server, desired, Position(finished_up_to(old) + 1), passed=retention == "interest"
        )
    if not old.is_stopped:
        latest = await require_consumer(server, old.ref)
        if idle_at is not None:
            await _refuse_if_active(server, latest, desired.ref, idle_at.next)
        options.stopped_consumers[old.ref] = latest
    elif old.ref in options.stopped_consumers:  # by an attempt before this one, in a cluster that elects
        latest = options.stopped_consumers[old.ref]
    else:
        return  # an earlier apply has stopped it, and this plan has counted
    noted = old.stopped_at
    unknown = 0 if noted and noted.exact else await stop_before_pauses(server, old, latest)
    await _require_end(server, old.ref, options, unknown)


async def ensure_stoppable(server: JetStream, old: LiveResource, options: ApplyOptions) -> None:
    """Refuse, before 2.11, to stop a consumer if more would be redelivered than was announced: it could not be left as it was.

    What has used up its deliveries holds its ack floor there until nothing is open, while all that is finished behind it
    counts. So where it is more by now, it hands out nothing for a while until what is open has ended: where nothing is
    open, nothing comes again. Raises ServerFault, with it serving as before, if that does not help.
    """
    announced, watch = options.allowed_redeliveries.get(old.ref, 0), DrainWatch(options.drain_timeout)
    if old.is_stopped or await count_redeliveries(server, old) <= announced:
        return
    await slow(server, old)
    while True:
        now = await require_consumer(server, old.ref)
        if not consumer_counts(now).num_ack_pending or await count_redeliveries(server, now) <= announced:
            return
        if options.is_interrupted() or watch.is_over:
            break
        await asyncio.sleep(timing.CONSUMER_POLL_SECONDS)
    await speed_up(server, old)
    raise interrupted_error(now) if options.is_interrupted() else drain_timeout_error(now, options, None)


async def _require_end(server: JetStream, ref: Ref, options: ApplyOptions, unknown: int) -> None:
    """Wait until no more would come again from a consumer that was just stopped than was announced. Raises ServerFault if that takes too long.

    It hands out nothing new, so that it only becomes less. Of what is `unknown` nothing tells whether it was finished.
    """
    announced, watch = options.allowed_redeliveries.get(ref, 0), DrainWatch(options.drain_timeout)
    while True:
        now = await require_consumer(server, ref)
        again = await count_redeliveries(server, now) + unknown
        if again <= announced:
            return
        if options.is_interrupted():
            raise interrupted_error(now)
        if watch.is_over or unknown > announced or may_have_forgotten(now):
            raise stays_stopped_error(
                now, "agents were handed messages until it was stopped", again, announced
            )
        await asyncio.sleep(timing.CONSUMER_POLL_SECONDS)


async def _refuse_if_active(server: JetStream, latest: LiveResource, desired: Ref, position: int) -> None:
    """Refuse, before 2.11, if a worker was handed something since the plan was made, which said that there is none.

    One that waits for the first message is no reason: what it is handed until the stop has to end.
    """
    counts = consumer_counts(latest)
    if counts.num_ack_pending or counts.delivered_stream_seq >= position:
        await delete(server, placeholder_ref(desired))
        raise ServerFault(
            Problem(
                "at-work",
                f"{latest.ref}: a worker has come since the plan was made; it was left as it is",
                None,
                "plan again: it counts what could be handed out again",
            )
        )
