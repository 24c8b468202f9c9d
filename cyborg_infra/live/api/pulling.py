"""Pull from a consumer that there is, as whoever reads it: what it hands out, and the subject by which that is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from cyborg_infra.live import timing
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.messages import decode_headers
from cyborg_infra.live.connection.errors import ConnectionLost, NoReply
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.stored_messages import StoredMessage
from cyborg_infra.model.units import SECOND
from cyborg_infra.model.valueclass import NamedTuple

ACK, NAK, IN_PROGRESS = b"+ACK", b"-NAK", b"+WPI"

_EMPTY = (b"404", b"408")
"""Statuses: nothing is waiting; the request has expired."""
_MOVED = (b"409", b"503")
"""Statuses: a new leader, a consumer that was deleted, or none that answers. Whoever pulls again learns what is so."""


class AckSubject(NamedTuple):
    """What the subject of an acknowledgement says of its delivery."""

    consumer: Ref
    deliveries: int
    sequence: int
    time_ns: int
    pending: int


def decode_ack_subject(subject: str) -> AckSubject | None:
    """Return what an ack subject says, or None for another subject.

    `$JS.ACK.<stream>.<consumer>.<deliveries>.<number>.<of the consumer>.<time>.<pending>`, or with domain and account before the stream.
    """
    parts = subject.split(".")
    names = parts[2:] if len(parts) == 9 else parts[4:]  # noqa: PLR2004 - the server's two forms
    numbers = names[2:7]
    if len(numbers) < 5 or not all(number.isdigit() for number in numbers):  # noqa: PLR2004
        return None
    deliveries, sequence, _, time_ns, pending = map(int, numbers)
    return AckSubject(Ref(names[0], names[1]), deliveries, sequence, time_ns, pending)


class PulledMessage(NamedTuple):
    """A message that was handed out, the subject by which it is acknowledged, and how many wait behind it."""

    message: StoredMessage
    reply: str
    pending: int


def rfc3339(time_ns: int) -> str:
    """Return a time as the server writes it: in UTC, with as many digits behind the second as it takes."""
    seconds, rest = divmod(time_ns, SECOND)
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


class Puller:
    """Asks one consumer for messages, by one request at a time."""

    def __init__(self, server: JetStream, consumer: Ref, inbox: str) -> None:
        self._server = server
        self._consumer = consumer
        self._inbox = inbox
        self._connection = server.current_connection
        self._arrived: asyncio.Queue[PulledMessage | bytes] = asyncio.Queue()

    async def batch(self, size: int, wait_seconds: float) -> list[PulledMessage]:
        """Return up to `size` messages; wait `wait_seconds` for a first one, and a moment for those that come with it.

        Raises ConnectionLost, NoReply, and ServerFault for what the server has against the request.
        """
        found = await self._pull(1, wait_seconds)
        if found and size > 1:
            await asyncio.sleep(timing.DEAD_LETTERS_GATHER_SECONDS)
            found += await self._pull(size - 1, 0)
        return found

    async def _pull(self, size: int, wait_seconds: float) -> list[PulledMessage]:
        if self._server.current_connection is not self._connection:
            raise ConnectionLost(str(self._consumer))
        ends = {"expires": int(wait_seconds * SECOND)} if wait_seconds else {"no_wait": True}
        await self._server.pull(self._consumer, {"batch": size, **ends}, self._inbox)
        found: list[PulledMessage] = []
        while len(found) < size:
            try:
                async with asyncio.timeout(wait_seconds + self._server.timeout):
                    arrived = await self._arrived.get()
            except TimeoutError:
                raise NoReply(f"CONSUMER.MSG.NEXT.{self._consumer}", self._server.timeout) from None
            if isinstance(arrived, PulledMessage):
                found.append(arrived)
            elif arrived.startswith(_EMPTY):
                break
            elif arrived.startswith(_MOVED):
                await asyncio.sleep(timing.RETRY_INTERVAL_SECONDS)
                break
            else:
                said = arrived.decode(errors="replace")
                raise ServerFault(
                    Problem("pull-refused", f"reading {self._consumer}: the server answers {said}")
                )
        return found

    def on_message(self, subject: str, reply: str, payload: bytes, headers: bytes) -> None:
        """Take what arrives: a message, or the status with which a request ends."""
        ack = decode_ack_subject(reply) if reply else None
        if ack is None:
            self._arrived.put_nowait(headers.partition(b"\r\n")[0].removeprefix(b"NATS/1.0 "))
            return
        message = StoredMessage(subject, ack.sequence, rfc3339(ack.time_ns), payload, decode_headers(headers))
        self._arrived.put_nowait(PulledMessage(message, reply, ack.pending))


@contextlib.asynccontextmanager
async def pulling(server: JetStream, consumer: Ref) -> AsyncIterator[Puller]:
    """Yield a puller of the consumer for the time of the block."""
    await server.require_pull_permission(consumer)
    puller = Puller(server, consumer, server.inbox())
    end = await server.subscribe(puller._inbox, puller.on_message)  # noqa: SLF001 - made here
    try:
        yield puller
    finally:
        with contextlib.suppress(ConnectionLost):
            await end()
