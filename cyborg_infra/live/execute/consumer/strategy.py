"""What differs between servers in the replacement of a consumer: how the old one stands still, how the new one begins.

The steps are the same everywhere (`live.execute.consumer.replacement`). One strategy does each of them for one line of
servers; `live.execute.consumer.strategies` has the table that chooses it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.starting import ConsumerStart
from cyborg_infra.model.consumer_position import Position
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, Resource
from cyborg_infra.model.valueclass import NamedTuple


class FinalPosition(NamedTuple):
    """Where a consumer stands for good, if that has to be known, and until when somebody had paused it."""

    position: Position = Position()
    paused_until: str = ""


class ReplacementStrategy(ABC):
    """How a consumer is replaced on one line of servers."""

    pauses: bool  # whether a consumer stands still without being changed, and goes on by itself

    @abstractmethod
    async def settle(
        self, server: JetStream, old: LiveResource, desired: Resource, options: ApplyOptions
    ) -> FinalPosition:
        """Bring the old consumer to a position that is final, and save it where it has to be known.

        Raises ServerFault, with the consumer serving as before, where work under way can neither end nor stay under way.
        """

    @abstractmethod
    async def hold(self, server: JetStream, consumer: LiveResource, seconds: float) -> str:
        """Have the consumer hand out nothing for `seconds`, if that can be; return until when somebody had paused it."""

    @abstractmethod
    async def release(self, server: JetStream, ref: Ref, paused_until: str = "") -> None:
        """Have a consumer that was held serve again, or be paused as somebody had paused it."""

    @abstractmethod
    async def keep_still(self, server: JetStream, consumer: LiveResource, position: Position) -> bool:
        """Hold a drained consumer for good, if that can be; return whether it surely still stands at `position`."""

    @abstractmethod
    async def listen(self, server: JetStream, ref: Ref, options: ApplyOptions) -> None:
        """Listen to the acknowledgements of a consumer, or of all of a stream, if they can be passed on to the new consumer."""

    @abstractmethod
    def to_stop(self, consumers: Iterable[LiveResource]) -> list[LiveResource]:
        """Return the consumers that must be stopped before their stream is fenced: only a new consumer goes on from there."""

    @abstractmethod
    def steady_seconds(self, server: JetStream) -> float:
        """Return the seconds without a delivery after which a consumer that is held has told of all that it handed out."""

    @abstractmethod
    def is_stopped_for_good(self, consumer: LiveResource) -> bool:
        """Return whether the consumer is stopped, and only its ack floor tells where it stands: its cursor runs on to the end."""

    @abstractmethod
    def start_of(self, desired: Resource) -> ConsumerStart:
        """Return how a consumer like this one is made to begin at another's position."""
