"""nats-py's client with two holes stopped and a short way for replies; the only file that uses nats-py's private names.

Imports nats (110 ms), so it is imported only where a connection is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nats.aio.client import Client

from cyborg_infra.live.faults import PlaintextOnly

if TYPE_CHECKING:
    from nats.aio.msg import Msg

# nats-py logs tracebacks that Python would print for want of a handler; what matters comes by its callbacks.
logging.getLogger("nats").addHandler(logging.NullHandler())
# nats-py upgrades a plain stream to TLS, and asyncio warns at the end of such a stream.
logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in record.getMessage())


async def _nothing(_message: Msg) -> None:
    """Never called."""


class SafeClient(Client):
    """Sends nothing in plain text when TLS is wanted; nats-py would log in without it if the server offers none."""

    def __init__(self, *, tls_wanted: bool) -> None:
        super().__init__()
        self._tls_wanted = tls_wanted
        self._replies: tuple[int, Callable[[str, bytes, bool], None]] | None = None

    async def hear(self, inbox: str, reply: Callable[[str, bytes, bool], None]) -> None:
        """`reply` is called at once for all that arrives below `inbox`: its subject, payload, and whether it says that nobody listens.

        nats-py would make a message of it, queue it and wake a task for it, which is most of what a reply costs.
        """
        subscription = await self.subscribe(f"{inbox}.*", cb=_nothing)
        self._replies = subscription._id, reply  # noqa: SLF001 - see above

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself on connecting."""
        return self._server_info

    async def settle(self, timeout: float) -> None:  # noqa: ASYNC109 - nats-py's way to say it
        """The server has seen all that we sent, and we all that it sent before. Raises TimeoutError.

        nats-py's flush alone ensures neither (2.16): its PING overtakes what its writer has not written yet; and where
        the server's INFO on connecting came before its PONG, that PONG answers the first flush, and each answers the next.
        """
        async with asyncio.timeout(timeout):
            if written := await self._flush_pending():
                await written
        for _ in range(2):
            await self.flush(timeout=max(1, round(timeout)))

    async def end(self, timeout: float) -> None:  # noqa: ASYNC109 - a grace, not a failure
        """Closed in order, or after `timeout` seconds without regard for a peer that reads nothing. Never raises."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(timeout):
                await self.close()
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
            await asyncio.sleep(0)  # the socket is closed in the next round of the loop

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - nats-py's signature
        if initial_connection and self._tls_wanted:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise PlaintextOnly
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if self._replies is None or sid != self._replies[0]:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        nobody = not data and (headers or b"").startswith(b"NATS/1.0 503")
        self._replies[1](subject.decode(errors="replace"), data, nobody)

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002 - nats-py's signature
        """Nats-py sends what is pending first; if the peer has gone, it stops there and tells nobody that it is closed."""
        try:
            await super()._close(status, do_cbs)
        except OSError:
            # Else its task outlives the connection, and Python says so.
            for subscription in self._subs.values():
                subscription._stop_processing()  # noqa: SLF001 - see above
            self._subs.clear()
            if do_cbs and self._disconnected_cb is not None:
                await self._disconnected_cb()
