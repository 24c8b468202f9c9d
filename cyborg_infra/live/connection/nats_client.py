"""A safer nats-py client with a fast path for replies; the only module that uses nats-py's private names.

Imports nats (110 ms), so it is imported only where a connection is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nats.aio.client import Client, Srv
from nats.aio.transport import TcpTransport
from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from cyborg_infra.live.connection.errors import NotNats, PlaintextOnly
from cyborg_infra.live.connection.replies import info_fault

if TYPE_CHECKING:
    from nats.aio.msg import Msg

# nats-py logs tracebacks that Python would print for want of a handler; what matters comes by its callbacks.
logging.getLogger("nats").addHandler(logging.NullHandler())


MAX_MESSAGE_BYTES = 65 * 1024**2  # bytes; no server takes a max_payload of more than 64 MiB
MAX_LINE_BYTES = 1024**2  # bytes; the INFO of a cluster of a thousand servers is some 30 KB


class _SafeParser(Parser):
    """Ends the connection where nats-py's would stop reading in silence, or go on collecting what never ends."""

    async def parse(self, data: bytes = b"") -> None:
        try:
            await super().parse(data)
        except (ProtocolError, OSError):
            raise
        except Exception:  # noqa: BLE001 - whatever nats-py meets in what is no NATS protocol
            raise ProtocolError from None
        endless = self.state == AWAITING_CONTROL_LINE and len(self.buf) > MAX_LINE_BYTES
        if endless or self.needed > MAX_MESSAGE_BYTES:
            raise ProtocolError


OnMessage = Callable[[str, str, bytes, bytes], None]
"""Called at once with what arrives: its subject, the subject for a reply, the payload and the block of headers."""


async def _nothing(_message: Msg) -> None:
    """Stand for a callback that is never called."""


async def _drop_message(_message: Msg) -> None:
    """Drop a message: whoever sent it learns by the silence that somebody is there."""


class _Transport(TcpTransport):
    """Tells asyncio that a stream is TLS once it was upgraded; else asyncio logs a warning at the end of each."""

    async def connect_tls(self, *arguments: Any, **keywords: Any) -> None:
        await super().connect_tls(*arguments, **keywords)
        if self._io_writer is not None:
            # The transport has none any more once it was closed.
            protocol: Any = vars(self._io_writer)["_protocol"]
            protocol._over_ssl = True  # noqa: SLF001 - asyncio has no other way to say so


def header_block(headers: Mapping[str, str] | None) -> bytes:
    """Return the headers as the protocol has them; empty if there are none. Spaces around a name or value go."""
    if not headers:
        return b""
    pairs = ((name.strip(), value.strip()) for name, value in headers.items())
    lines = (": ".join(pair).replace("\r\n", " ") for pair in pairs)
    return "".join(f"{line}\r\n" for line in ("NATS/1.0", *lines, "")).encode()


class SafeClient(Client):
    """Sends nothing in plain text when TLS is wanted; nats-py would log in without it if the server offers none."""

    def __init__(self, *, tls_wanted: bool) -> None:
        super().__init__()
        self._ps = _SafeParser(self)
        self._tls_wanted = tls_wanted
        self._heard: dict[int, OnMessage] = {}

    async def subscribe_raw(self, subject: str, heard: OnMessage) -> Callable[[], Awaitable[None]]:
        """Call `heard` for all that arrives on the subject, until the function that is returned is called.

        nats-py would make a message of it, queue it and wake a task for it, which is most of what a reply costs.
        """
        subscription = await self.subscribe(subject, cb=_nothing)
        number = subscription._id  # noqa: SLF001 - see above
        self._heard[number] = heard

        async def end() -> None:
            self._heard.pop(number, None)
            with contextlib.suppress(Exception):  # the connection is gone, and the subscription with it
                await subscription.unsubscribe()

        return end

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        """Send the headers as they are: nats-py refuses names that servers take, and changes line feeds in values."""
        if not headers:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        block = header_block(headers)
        sizes = b"%d %d" % (len(block), len(block) + payload_size)
        line = b" ".join(part for part in (b"HPUB", subject.encode(), reply.encode(), sizes) if part)
        await self._send_command(b"%b\r\n%b%b\r\n" % (line, block, payload))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def publish_all(self, subjects: Sequence[str], payload: bytes) -> None:
        """Publish the same payload on every subject, in order: twenty times as fast as one by one."""
        end = b" %d\r\n%b\r\n" % (len(payload), payload)
        await self._send_command(b"".join(b"PUB " + subject.encode() + end for subject in subjects))
        if written := await self._flush_pending():
            await written

    async def hold_interest(self, subject: str) -> None:
        """Subscribe to the subject, and drop what comes."""
        await self.subscribe(subject, cb=_drop_message)

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself on connecting."""
        return self._server_info

    def send_at_once(self) -> None:
        """Hand what was published to the operating system at once, without another round of the event loop, unless its buffer is full."""
        if self._transport is not None:
            queued, self._pending, self._pending_data_size = self._pending, [], 0
            self._transport.writelines(queued)

    async def flush_both_ways(self, timeout: float) -> None:  # noqa: ASYNC109 - nats-py's way to say it
        """Flush in both directions: the server has seen all that we sent, and we all that it sent before. Raises TimeoutError.

        nats-py's flush alone ensures neither (2.16): its PING overtakes what its writer has not written yet; and where
        the server's INFO on connecting came before its PONG, that PONG answers the first flush, and each answers the next.
        """
        async with asyncio.timeout(timeout):
            if written := await self._flush_pending():
                await written
        for _ in range(2):
            await self.flush(timeout=max(1, round(timeout)))

    async def close_within(self, timeout: float) -> None:  # noqa: ASYNC109 - a grace, not a failure
        """Close in order, or after `timeout` seconds abruptly where the peer reads nothing. Never raises."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(timeout):
                await self.close()
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
            await asyncio.sleep(0)  # the socket is closed in the next round of the loop

    async def _connect_to_server(self, s: Srv) -> None:
        await super()._connect_to_server(s)
        ours = _Transport()  # type: ignore[no-untyped-call]
        vars(ours).update(vars(self._transport))
        self._transport = ours

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except AttributeError:  # its INFO is no object
            raise NotNats("it is no object") from None

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - nats-py's signature
        if (reason := info_fault(info)) is not None:
            raise NotNats(reason)
        if initial_connection and self._tls_wanted:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise PlaintextOnly
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        heard = self._heard.get(sid)
        if heard is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        heard(subject.decode(errors="replace"), (reply or b"").decode(errors="replace"), data, headers or b"")

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002 - nats-py's signature
        """Close, also if the peer has gone: nats-py would stop at sending what is pending, and call nobody back."""
        try:
            await super()._close(status, do_cbs)
        except OSError:
            # Else its task outlives the connection, and Python says so.
            for subscription in self._subs.values():
                subscription._stop_processing()  # noqa: SLF001 - see above
            self._subs.clear()
            if do_cbs and self._disconnected_cb is not None:
                await self._disconnected_cb()
