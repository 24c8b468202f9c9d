"""Create a consumer at the position of another one, with the same messages pending acknowledgement.

A server creates a consumer at one place, before which everything is finished. So the new one is created at the first
open message, and handed out to nobody but us: it has a priority group of ours, and a request without it is refused
(since 2.11). We ask for all that the old one had handed out, and acknowledge what was finished. What was open is then
open in the new one: an agent that finishes its task acknowledges it there, since the subject of an acknowledgement
says nothing of which consumer of that name it is; and what nobody finishes comes again when its ack_wait is over.
Then it gets its own configuration, and is served. Deliveries are counted anew, and ack_wait begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.pulling import decode_ack_subject
from cyborg_infra.live.connection.errors import NoReply
from cyborg_infra.live.execute.consumer.ack_listener import DONE
from cyborg_infra.live.execute.consumer.pausing import require_consumer
from cyborg_infra.model.consumer_position import Position
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import REFILL_GROUP
from cyborg_infra.model.units import HOUR
from cyborg_infra.model.valueclass import NamedTuple

BATCH_SIZE = 500  # messages asked for at once, where the consumer may have so many open
MAX_ATTEMPTS = 5
NOTHING_MORE = (b"NATS/1.0 404 No Messages", b"NATS/1.0 408 Request Timeout")
"""How a request that does not wait ends early; in a cluster by the second (2.12.8, 2.15.1). No other status says that there is nothing."""

RESTRICTING_FIELDS = ("backoff", "priority_timeout", "max_batch")
"""What says how agents are served, and would hinder us."""


class UnexpectedDelivery(Exception):
    """It was handed something that the old consumer had not handed out: there are `number` messages before that."""

    def __init__(self, number: int) -> None:
        self.number = number


class PullFailed(Exception):
    """A request was not answered to its end, for this reason: more may be there."""


class Delivery(NamedTuple):
    """A message that was handed out to us."""

    number: int
    reply: str


def restore_config(config: Mapping[str, Any], room: int) -> dict[str, Any]:
    """Return a consumer's configuration while it is handed out to us alone: nothing comes again meanwhile, and nothing is given up."""
    rest = {name: value for name, value in config.items() if name not in RESTRICTING_FIELDS}
    return {
        **rest,
        "priority_groups": [REFILL_GROUP],
        "priority_policy": "overflow",
        "headers_only": True,
        "ack_wait": 24 * HOUR,
        "max_deliver": -1,
        "max_ack_pending": room,
    }


class PositionRestore:
    """One consumer, created as `restore_config` says and asked by nobody else."""

    def __init__(self, server: JetStream, consumer: Ref, position: Position, *, room: int) -> None:
        """Prepare a restore; at most `room` messages may be pending acknowledgement, any number if that is not positive."""
        self._server = server
        self._consumer = consumer
        self._position = position
        self._room = room
        self._most = BATCH_SIZE
        self._arrived: asyncio.Queue[Delivery | bytes] = asyncio.Queue()
        self.open: dict[int, str] = {}

    async def run(self, known: int | None) -> None:
        """Pull all that the old consumer had handed out, and acknowledge what was finished; `open` then holds the rest by sequence.

        `known`: how many messages there are, if that is known. Raises UnexpectedDelivery if it was one too many,
        PullFailed or NoReply if the server does not hand out, and what else a request may raise.
        """
        held = await require_consumer(self._server, self._consumer)
        # The server may have a limit for all.
        self._most = min(BATCH_SIZE, held.get("max_batch") or BATCH_SIZE)
        inbox = self._server.inbox()
        end = await self._server.subscribe(inbox, self._on_message)
        try:
            await self._pull_all(inbox, known)
        finally:
            await end()

    async def _pull_all(self, inbox: str, known: int | None) -> None:
        last, taken = self._position.first - 1, 0
        wanted = frozenset(self._position.unfinished)
        while True:
            left = self._position.next - 1 - last if known is None else known - taken
            batch = min(self._most, left, self._room - len(self.open) if self._room > 0 else BATCH_SIZE)
            if left <= 0:
                return
            if batch <= 0:
                raise ServerFault(
                    Problem(
                        "no-room",
                        f"{self._consumer}: it may not have as many messages open as it had",
                        None,
                        "raise max_ack_pending in the consumer_limits of its stream, and lower it when they are finished",
                    )
                )
            found = await self._pull_batch(inbox, batch)
            for index, delivery in enumerate(found):
                if delivery.number >= self._position.next:
                    raise UnexpectedDelivery(taken + index)
            done = [delivery.reply for delivery in found if delivery.number not in wanted]
            self.open |= {delivery.number: delivery.reply for delivery in found if delivery.number in wanted}
            if done:
                await self._server.acknowledge(done, DONE)
            if len(found) < batch:
                return  # there is nothing more
            taken, last = taken + len(found), found[-1].number

    async def _pull_batch(self, inbox: str, size: int) -> Sequence[Delivery]:
        body = {"batch": size, "no_wait": True, "group": REFILL_GROUP}
        await self._server.pull(self._consumer, body, inbox)
        found = list[Delivery]()
        while len(found) < size:
            try:
                async with asyncio.timeout(self._server.timeout):
                    delivery = await self._arrived.get()
            except TimeoutError:
                raise NoReply(f"CONSUMER.MSG.NEXT.{self._consumer}", self._server.timeout) from None
            if isinstance(delivery, Delivery):
                found.append(delivery)
            elif delivery in NOTHING_MORE:
                break
            else:
                raise PullFailed(delivery.decode(errors="replace"))
        return found

    def _on_message(self, _subject: str, reply: str, _payload: bytes, headers: bytes) -> None:
        ack = decode_ack_subject(reply) if reply else None
        self._arrived.put_nowait(Delivery(ack.sequence, reply) if ack else headers.partition(b"\r\n")[0])
