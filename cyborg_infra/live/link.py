"""One connection to one server, which fails at once and in one line; carries requests, knows nothing of their content.

nats-py connects, authenticates and frames. Requests have a multiplexer of their own, because nats-py's lets
them run into their timeout when the connection is lost or a permission is missing. Once lost, it stays lost.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyborg_infra.live.faults import (
    ClosedDuringLogin,
    ConnectionLost,
    NoReply,
    NoResponders,
    PermissionDenied,
    TooLarge,
)
from cyborg_infra.live.login import login_options, tls_context
from cyborg_infra.live.target import Target
from cyborg_infra.model.problems import ServerFault

if TYPE_CHECKING:
    from cyborg_infra.live.client import SafeClient

_CLOSE_TIMEOUT = 1.0  # seconds; a peer that is gone never ends TLS in order
_DENIED = re.compile(r'permissions violation for (publish to|subscription to) "(.*)"')


@dataclass(slots=True, eq=False)
class _Pending:
    """A request under way. Ends once; a fault is a result, so that nobody has to fetch an exception."""

    subject: str
    outcome: asyncio.Future[bytes | ServerFault]

    def end(self, outcome: bytes | ServerFault) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def expire(self, timeout: float) -> None:
        self.end(NoReply(self.subject, timeout))


class Link:
    """Open, after `open`. Requests may overlap freely; each ends with its reply or with the reason why not."""

    def __init__(self, target: Target, url: str) -> None:
        self.url = url
        self.server_version = ""
        self.server_name = ""
        self.cluster = ""
        self.peers = 0  # servers of the cluster that clients are told of; 0 where they are not told
        self.max_payload = 0
        self.headers = False
        self.broken: ServerFault | None = None  # why every request fails
        self._target = target
        self._client: SafeClient | None = None
        self._inbox = ""
        self._ids = itertools.count(1)
        # What nats-py raises of a connection that is gone.
        self._gone: tuple[type[Exception], ...] = (OSError,)
        self._pending: dict[str, _Pending] = {}

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: Mapping[str, str] | None,
        timeout: float,  # noqa: ASYNC109 - part of the request, and named in its error
    ) -> bytes:
        """The reply's payload; `timeout` in seconds.

        Raises:
            NoReply: none in time; the request may have been executed.
            NoResponders: nobody listens on the subject.
            PermissionDenied: the user may not publish to it, or not receive replies.
            ConnectionLost: the connection ended before the reply; the request may have been executed.
            TooLarge: headers and payload are more than the server accepts; nothing was sent.
        """
        size = _size(headers) + len(payload)
        if size > self.max_payload:  # the server would end the connection
            raise TooLarge(subject, size, self.max_payload)
        reply_to = f"{self._inbox}.{next(self._ids)}"
        loop = asyncio.get_running_loop()
        pending = self._pending[reply_to] = _Pending(subject, loop.create_future())
        # Publishing only queues, so this covers all of the wait, at a third of what asyncio.timeout takes.
        timer = loop.call_later(timeout, pending.expire, timeout)
        try:
            await self._publish(subject, payload, reply_to, headers)
            outcome = await pending.outcome
        finally:
            timer.cancel()
            del self._pending[reply_to]
        if isinstance(outcome, ServerFault):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Closed; what was pending has failed with ConnectionLost. Quick; never raises."""
        self._fail_all(ConnectionLost(self.url, "closed by us"))
        if self._client is not None:
            await self._client.end(_CLOSE_TIMEOUT)

    async def _publish(
        self, subject: str, payload: bytes, reply_to: str, headers: Mapping[str, str] | None
    ) -> None:
        if self.broken or self._client is None:
            raise self.broken or ConnectionLost(self.url)
        try:
            await self._client.publish(subject, payload, reply=reply_to, headers=dict(headers or {}) or None)
        except self._gone:
            raise ConnectionLost(self.url) from None

    async def open(self) -> None:
        """Connected and listening for replies. Raises whatever nats-py, ssl or the system raise."""
        from nats.errors import ConnectionClosedError, OutboundBufferLimitError

        from cyborg_infra.live.client import SafeClient

        self._gone = ConnectionClosedError, OutboundBufferLimitError, OSError
        client = self._client = SafeClient(tls_wanted=self._target.tls_wanted)
        async with asyncio.timeout(self._target.timeout):
            await client.connect(
                self.url,
                error_cb=self._on_error,
                disconnected_cb=self._on_close,
                **client_options(self._target),
            )
        if not client.is_connected:
            raise ClosedDuringLogin  # nats-py takes an end of file for a success
        self.server_version = client.info.get("version", "")
        self.server_name = client.info.get("server_name", "")
        self.cluster = client.info.get("cluster", "")
        self.peers = len(client.info.get("connect_urls") or ()) if self.cluster else 0
        self.headers = bool(client.info.get("headers"))
        self.max_payload = client.max_payload
        self._inbox = client.new_inbox()
        await client.hear(self._inbox, self._on_reply)

    def _on_reply(self, subject: str, payload: bytes, nobody: bool) -> None:  # noqa: FBT001
        pending = self._pending.get(subject)
        if pending is None:
            return  # it came too late
        pending.end(NoResponders(pending.subject) if nobody else payload)

    async def _on_error(self, error: Exception) -> None:
        assert self._client is not None  # noqa: S101 - set by _open
        if not (self._client.is_connected or self._client.is_closed):
            raise error  # still connecting: nats-py would go on trying for two minutes
        denied = _DENIED.search(str(error))
        if denied is None:
            return  # whatever ends the connection comes by _on_close as well
        if denied[1].startswith("sub"):
            self._fail_all(PermissionDenied(f"{self._inbox}.*", receiving=True))
            return
        subject = denied[2].replace('\\"', '"')
        for pending in self._pending.values():
            if pending.subject.lower() == subject:  # nats-py tells it in lower case only
                pending.end(PermissionDenied(pending.subject))

    async def _on_close(self) -> None:
        self._fail_all(ConnectionLost(self.url))

    def _fail_all(self, fault: ServerFault) -> None:
        self.broken = self.broken or fault
        for pending in self._pending.values():
            pending.end(self.broken)


def _size(headers: Mapping[str, str] | None) -> int:
    """Of the header block as nats-py writes it, in bytes."""
    if not headers:
        return 0
    lines = (f"{name.strip()}: {value.strip()}\r\n" for name, value in headers.items())
    return len(b"NATS/1.0\r\n\r\n") + sum(len(text.encode()) for text in lines)


def client_options(target: Target) -> dict[str, Any]:
    """What nats-py is told of every connection of ours. Raises ConnectFailed for a key or certificate that is unusable."""
    return {
        "name": "cyborg-infra",
        "allow_reconnect": False,
        "connect_timeout": math.ceil(target.timeout) + 1,  # ours ends first, and covers every step
        "pending_size": 0,  # a forced flush swallows the cancellation that a timeout is made of
        "inbox_prefix": target.inbox_prefix,
        "tls_handshake_first": target.tls_first,
        "tls": tls_context(target),
        **login_options(target),
    }
