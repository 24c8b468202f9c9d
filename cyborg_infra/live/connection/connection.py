"""One connection to one server, with requests that fail at once when it is lost or a permission is missing.

nats-py connects, authenticates and frames. Requests have a multiplexer of their own, because nats-py's lets
them run into their timeout when the connection is lost or a permission is missing. Once lost, it stays lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nats.errors import ConnectionClosedError, OutboundBufferLimitError

from cyborg_infra.live import timing
from cyborg_infra.live.connection.errors import (
    ClosedDuringLogin,
    ConnectionLost,
    NoReply,
    NoResponders,
    PermissionDenied,
    TooLarge,
)
from cyborg_infra.live.connection.login import login_options, tls_context
from cyborg_infra.live.connection.nats_client import OnMessage, SafeClient, header_block
from cyborg_infra.live.connection.target import Target
from cyborg_infra.model.problems import ServerFault

DENIED_PATTERN = r'permissions violation for (publish to|subscription to) "(.*)"'


@dataclass(slots=True, eq=False)
class _Pending:
    """A request under way. Ends once; a fault is a result, so that nobody has to fetch an exception."""

    subject: str
    reply_to: str
    outcome: asyncio.Future[bytes | ServerFault]
    accepts: Callable[[bytes], bool] | None
    timeout: float
    due: float  # by the loop's clock; never, once it has timed out
    other: bytes | None = None  # the first reply that was not the one that is wanted

    def reply(self, payload: bytes) -> None:
        if self.accepts is None or self.accepts(payload):
            self.resolve(payload)
        elif self.other is None:
            self.other = payload

    def resolve(self, outcome: bytes | ServerFault) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def time_out(self) -> None:
        """End without the reply that is wanted, unless it has arrived and this process was not let to look at it."""
        self.due = math.inf
        fault = NoReply(self.subject, self.timeout) if self.other is None else self.other
        asyncio.get_running_loop().call_later(timing.ARRIVED_SECONDS, self.resolve, fault)


class Connection:
    """Open, after `open`. Requests may overlap freely; each ends with its reply or with the reason why not."""

    def __init__(self, target: Target, url: str) -> None:
        self.url = url
        self.server_version = ""
        self.server_name = ""
        self.server_id = ""  # another one each time that the server starts
        self.cluster = ""
        self.domain = ""
        self.jetstream = False
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
        # Of the request that is due first: a timer for each would be a fifth of its price.
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_due = math.inf
        self._deaf: set[str] = set()  # subjects that this user may not subscribe to

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: Mapping[str, str] | None,
        timeout: float,  # noqa: ASYNC109 - part of the request, and named in its error
        at_once: bool = False,
        accepts: Callable[[bytes], bool] | None = None,
    ) -> bytes:
        """Send a request, and return the reply's payload; `timeout` in seconds. `at_once`: sent before anything else happens here, at a higher price.

        Of several replies it is the first that is `accepts`, or else the first.

        Raises:
            NoReply: none in time; the request may have been executed.
            NoResponders: nobody listens on the subject.
            PermissionDenied: the user may not publish to it, or not receive replies.
            ConnectionLost: the connection ended before the reply; the request may have been executed.
            TooLarge: headers and payload are more than the server accepts; nothing was sent.
        """
        self._require_size(subject, len(header_block(headers)) + len(payload))
        pending = self._expect(subject, timeout, accepts)
        try:
            await self._publish(subject, payload, pending.reply_to, headers)
            if at_once and self._client is not None:
                self._client.send_at_once()
            answer = await pending.outcome
        finally:
            self._forget(pending)
        if isinstance(answer, ServerFault):
            raise answer
        return answer

    async def request_together(
        self,
        requests: Sequence[tuple[str, bytes]],
        *,
        timeout: float,  # noqa: ASYNC109 - as in `request`
    ) -> list[bytes | ServerFault]:
        """Send the requests in one write, in order, before anything else happens here; return each reply, or what `request` would raise for it.

        Raises ConnectionLost and TooLarge; then nothing was sent.
        """
        for subject, payload in requests:
            self._require_size(subject, len(payload))
        sent: list[_Pending] = []
        try:
            for subject, payload in requests:
                sent.append(self._expect(subject, timeout))
                await self._publish(subject, payload, sent[-1].reply_to, None)  # which only queues
            if self._client is not None:
                self._client.send_at_once()
            return list(await asyncio.gather(*(pending.outcome for pending in sent)))
        finally:
            for pending in sent:
                self._forget(pending)

    def _require_size(self, subject: str, size: int) -> None:
        if size > self.max_payload:  # the server would end the connection
            raise TooLarge(subject, size, self.max_payload)

    def _expect(
        self, subject: str, timeout: float, accepts: Callable[[bytes], bool] | None = None
    ) -> _Pending:
        """Register a request, so that its reply, or the reason why there is none, ends it."""
        reply_to = f"{self._inbox}.{next(self._ids)}"
        loop = asyncio.get_running_loop()
        due = loop.time() + timeout  # publishing only queues, so this covers all of the wait
        pending = self._pending[reply_to] = _Pending(
            subject, reply_to, loop.create_future(), accepts, timeout, due
        )
        if due < self._alarm_due:
            self._set_alarm(due)
        return pending

    def _set_alarm(self, due: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_due = due
        self._alarm = asyncio.get_running_loop().call_at(due, self._time_out) if due < math.inf else None

    def _time_out(self) -> None:
        """End all requests that are due by now, in one walk, and set the alarm for the next one."""
        now = max(
            asyncio.get_running_loop().time(), self._alarm_due
        )  # the loop may be early by its resolution
        following = math.inf
        for pending in self._pending.values():
            if pending.due <= now:
                pending.time_out()
            else:
                following = min(following, pending.due)
        self._set_alarm(following)

    def _forget(self, pending: _Pending) -> None:
        del self._pending[pending.reply_to]

    async def hold_interest(self, subject: str) -> None:
        """Hold a subscription to the subject, without answering, as long as this is open."""
        if self._client is not None:
            with contextlib.suppress(*self._gone):
                await self._client.hold_interest(subject)

    async def subscribe(self, subject: str, heard: OnMessage) -> Callable[[], Awaitable[None]]:
        """Call `heard` for all that arrives on the subject, until the function that is returned is called.

        Raises ConnectionLost. Whether the user may listen there, `may_subscribe` tells after the next reply.
        """
        client = self._open()
        try:
            return await client.subscribe_raw(subject, heard)
        except self._gone:
            raise ConnectionLost(self.url) from None

    def may_subscribe(self, subject: str) -> bool:
        """Return whether nothing has said that this user may not listen to the subject."""
        return subject.lower() not in self._deaf

    def inbox(self) -> str:
        """Return a subject of our own that nobody else uses."""
        return self._open().new_inbox()

    async def send(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send; nothing tells whether it arrives. An answer goes to `reply`. Raises ConnectionLost."""
        await self._publish(subject, payload, reply, None)

    async def send_all(self, subjects: Sequence[str], payload: bytes) -> None:
        """Send the same payload on every subject, in order. Raises ConnectionLost."""
        client = self._open()
        try:
            await client.publish_all(subjects, payload)
        except self._gone:
            raise ConnectionLost(self.url) from None

    async def close(self) -> None:
        """Close; what was pending fails with ConnectionLost. Quick; never raises."""
        self._fail_all(ConnectionLost(self.url, "closed by us"))
        self._set_alarm(math.inf)
        if self._client is not None:
            await self._client.close_within(timing.CLOSE_TIMEOUT_SECONDS)

    async def _publish(
        self, subject: str, payload: bytes, reply_to: str, headers: Mapping[str, str] | None
    ) -> None:
        client = self._open()
        try:
            await client.publish(subject, payload, reply=reply_to, headers=dict(headers or {}) or None)
        except self._gone:
            raise ConnectionLost(self.url) from None

    def _open(self) -> SafeClient:
        if self.broken or self._client is None:
            raise self.broken or ConnectionLost(self.url)
        return self._client

    async def open(self) -> None:
        """Connect and subscribe to replies. Raises whatever nats-py, ssl or the system raise."""
        self._gone = ConnectionClosedError, OutboundBufferLimitError, OSError
        client = self._client = SafeClient(tls_wanted=self._target.tls_wanted)
        await self._connect(client)
        if not client.is_connected:
            raise ClosedDuringLogin  # nats-py takes an end of file for a success
        self.server_version = client.info.get("version", "")
        self.server_name = client.info.get("server_name", "")
        self.server_id = client.info.get("server_id", "")
        self.cluster = client.info.get("cluster", "")
        self.peers = len(client.info.get("connect_urls") or ()) if self.cluster else 0
        self.domain = client.info.get("domain", "")
        self.jetstream = bool(client.info.get("jetstream"))
        self.headers = bool(client.info.get("headers"))
        self.max_payload = client.max_payload
        self._inbox = client.new_inbox()
        await client.subscribe_raw(f"{self._inbox}.*", self._on_reply)

    async def _connect(self, client: SafeClient) -> None:
        """Connect within the timeout.

        In a task of its own: nats-py waits by `asyncio.wait_for`, which forgets that it was cancelled if what it waits for
        is done at the same moment (Python 3.11). Ctrl-C would then wait for as long as the server says nothing.
        """
        options = client_options(self._target)
        connecting = asyncio.ensure_future(
            client.connect(self.url, error_cb=self._on_error, disconnected_cb=self._on_close, **options)
        )
        try:
            async with asyncio.timeout(self._target.timeout):
                await asyncio.wait((connecting,))
        finally:
            connecting.cancel()
            connecting.add_done_callback(_retrieve)
        connecting.result()

    def _on_reply(self, subject: str, _reply: str, payload: bytes, headers: bytes) -> None:
        pending = self._pending.get(subject)
        if pending is None:
            return  # it came too late
        if not payload and headers.startswith(b"NATS/1.0 503"):
            pending.resolve(NoResponders(pending.subject))
        else:
            pending.reply(payload)

    async def _on_error(self, error: Exception) -> None:
        assert self._client is not None  # noqa: S101 - set by _open
        if not (self._client.is_connected or self._client.is_closed):
            raise error  # still connecting: nats-py would go on trying for two minutes
        denied = re.search(DENIED_PATTERN, str(error))
        if denied is None:
            return  # whatever ends the connection comes by _on_close as well
        subject = denied[2].replace('\\"', '"')
        if denied[1].startswith("sub"):
            if subject != f"{self._inbox}.*".lower():
                self._deaf.add(subject)
                return
            self._fail_all(PermissionDenied(f"{self._inbox}.*", receiving=True))
            return
        for pending in self._pending.values():
            for known in (pending.subject, self._at_home(pending.subject)):
                if known.lower() == subject:  # nats-py tells it in lower case only
                    pending.resolve(PermissionDenied(known, asked=pending.subject))

    def _at_home(self, subject: str) -> str:
        """Return the name that a domain's own servers have for a subject of that domain: permissions are checked by that name (2.10.26, 2.15.1)."""
        if not self._target.domain:
            return subject
        there = subject.removeprefix(f"{self._target.api_prefix}.")
        return subject if there == subject else there if there.startswith("$KV.") else f"$JS.API.{there}"

    async def _on_close(self) -> None:
        self._fail_all(ConnectionLost(self.url))

    def _fail_all(self, fault: ServerFault) -> None:
        self.broken = self.broken or fault
        for pending in self._pending.values():
            pending.resolve(self.broken)


def _retrieve(ended: asyncio.Future[None]) -> None:
    """Take note of how it ended, so that asyncio does not print it."""
    if not ended.cancelled():
        ended.exception()


def client_options(target: Target) -> dict[str, Any]:
    """Return the options that nats-py gets for every connection of ours. Raises ConnectFailed for a key or certificate that is unusable."""
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
