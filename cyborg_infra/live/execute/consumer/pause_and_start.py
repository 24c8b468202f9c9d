"""Replace a consumer that can be paused (2.11 to 2.13): it is paused while its work ends, then stopped; the new one starts by a sequence.

Promises that nothing is skipped, and that nothing comes again but what the plan announced. While the old consumer is
paused it hands out nothing, and its agents finish what they have; what they do not finish in time is open in the new
consumer, where that can be, and what they say of it meanwhile is passed on. The pause ends by itself if the tool dies,
so that nobody is unserved for longer than the drain takes. Only when its position is saved the old consumer is stopped
for good: a pause that was over before is noticed there, and the position is read again.
"""

from __future__ import annotations

from collections.abc import Iterable

from cyborg_infra.live import timing
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.consumer.draining import drain
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.pausing import (
    PAUSED_UNTIL,
    manually_paused_until,
    pause,
    pause_for,
    require_consumer,
    resume,
)
from cyborg_infra.live.execute.consumer.placeholder import needs_placeholder, retention_of, save_position
from cyborg_infra.live.execute.consumer.redeliveries import archive_given_up
from cyborg_infra.live.execute.consumer.starting import BY_START_SEQUENCE, ConsumerStart
from cyborg_infra.live.execute.consumer.stopping import stop
from cyborg_infra.live.execute.consumer.strategy import FinalPosition, ReplacementStrategy
from cyborg_infra.model.consumer_position import Position
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, Resource, consumer_counts


class PauseAndStart(ReplacementStrategy):
    """Pause the old consumer, then stop it; start the new one by a sequence."""

    pauses = True

    async def settle(
        self, server: JetStream, old: LiveResource, desired: Resource, options: ApplyOptions
    ) -> FinalPosition:
        """Drain the paused consumer, save its position and stop it; again if it has handed out anything until then."""
        await self.listen(server, old.ref, options)
        paused_until = manually_paused_until(old)
        interest = await retention_of(server, desired.ref) == "interest"
        position = await drain(self, server, old, desired, options)
        while True:
            if needed := await needs_placeholder(server, desired, position):
                await save_position(server, desired, position, paused_until, passed=interest)
            try:
                await archive_given_up(server, desired.ref, options)
            except ServerFault:
                if not old.is_stopped:
                    await resume(server, old.ref, paused_until)
                raise
            if not old.is_stopped:
                old = await stop(server, old)
            # A pause that was over before the consumer was stopped, as when we stood still, is noticed here.
            again = await self._read_position(server, old, desired, options, position)
            if again == position:
                return FinalPosition(position if needed else Position(), paused_until)
            position = again

    async def _read_position(
        self,
        server: JetStream,
        stopped: LiveResource,
        desired: Resource,
        options: ApplyOptions,
        before: Position,
    ) -> Position:
        """Return the position of a consumer that hands out nothing new, and whose position was `before`."""
        now = await require_consumer(server, stopped.ref)
        counts = consumer_counts(now)
        as_before = (before.next - 1, len(before.unfinished))
        if (counts.delivered_stream_seq, counts.num_ack_pending) == as_before:
            return before  # what hands out nothing has nothing else open
        return await drain(self, server, now, desired, options)

    async def hold(self, server: JetStream, consumer: LiveResource, seconds: float) -> str:
        """Pause the consumer; a pause of ours ends by itself."""
        await pause_for(server, consumer.ref, seconds)
        return manually_paused_until(consumer)

    async def release(self, server: JetStream, ref: Ref, paused_until: str = "") -> None:
        """End the pause."""
        await resume(server, ref, paused_until)

    async def keep_still(self, server: JetStream, consumer: LiveResource, position: Position) -> bool:
        """Pause the consumer for good; return whether it surely still stands at `position`.

        It does not if a pause was over, as when we stood still. Where what was handed out may come again, nothing tells.
        Not before work has ended: that may take minutes, and who dies meanwhile leaves a pause that ends by itself.
        """
        if consumer.ref.is_placeholder:
            return True
        await pause(server, consumer.ref, PAUSED_UNTIL)
        now = consumer_counts(await require_consumer(server, consumer.ref))
        return now.delivered_stream_seq < position.next

    async def listen(self, server: JetStream, ref: Ref, options: ApplyOptions) -> None:
        """Listen to acknowledgements: what is open in the old consumer is open in the new one as well."""
        await options.ack_listener.start(server, ref)

    def to_stop(self, _consumers: Iterable[LiveResource]) -> list[LiveResource]:
        """Return no consumer: they stay paused."""
        return []

    def steady_seconds(self, server: JetStream) -> float:
        """Return the seconds that a replica may take to report a delivery."""
        return timing.STEADY_SECONDS if server.is_clustered else 0.0

    def is_stopped_for_good(self, _consumer: LiveResource) -> bool:
        """Return False: even when a consumer is stopped, `delivered` stays where it was."""
        return False

    def start_of(self, _desired: Resource) -> ConsumerStart:
        """Return a start sequence: nothing else moves a consumer."""
        return BY_START_SEQUENCE
