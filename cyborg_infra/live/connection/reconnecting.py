"""A connection to a cluster that connects anew, to any of its servers, after it was lost.

A connection that is lost fails what was under way: nobody knows what was executed, and the caller has to read
again. The next request makes a new one, to any of the target's URLs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from nats.errors import Error

from cyborg_infra.live import timing
from cyborg_infra.live.connection.connection import Connection
from cyborg_infra.live.connection.errors import (
    ClosedDuringLogin,
    ConnectionLost,
    NoReply,
    NoResponders,
    NotNats,
    PlaintextOnly,
    why_not_connected,
)
from cyborg_infra.live.connection.login import expired_since
from cyborg_infra.live.connection.nats_client import OnMessage
from cyborg_infra.live.connection.replies import ServerIdentity, decode_permissions, server_identity
from cyborg_infra.live.connection.target import DEFAULT, Target
from cyborg_infra.live.interception import WIRE_REQUESTS, WireRequest
from cyborg_infra.model.permissions import Permissions
from cyborg_infra.model.problems import ConnectFailed, Problem, ServerFault
from cyborg_infra.model.wording import Command, Option, worded


@contextlib.asynccontextmanager
async def open_connection(target: Target) -> AsyncIterator[ReconnectingConnection]:
    """Return a connection by way of the first of the target's URLs that takes us, closed after the block.

    Raises:
        ConnectFailed: none did, one problem for each; or a key or certificate is unusable.
    """
    connection = ReconnectingConnection(target, await _first(target))
    try:
        yield connection
    finally:
        await connection.close()


class ReconnectingConnection:
    """An open connection. Requests may overlap freely; each ends with its reply or with the reason why not."""

    def __init__(self, target: Target, link: Connection) -> None:
        self._target = target
        self._link = link
        self._closed = False
        self._reconnect_lock = asyncio.Lock()
        self._attended: list[str] = []

    @property
    def url(self) -> str:
        """Where we are connected to at the moment."""
        return self._link.url

    @property
    def is_lost(self) -> bool:
        """Whether the connection was lost, and no server has taken us since."""
        return isinstance(self._link.broken, ConnectionLost)

    @property
    def server_name(self) -> str:
        """The name of the server that we are connected to at the moment."""
        return self._link.server_name

    @property
    def incarnation(self) -> str:
        """The id of this run of the server that we are connected to: each start has another one. Empty if that server has no JetStream."""
        return self._link.server_id if self._link.jetstream else ""

    @property
    def server_version(self) -> str:
        """Its version."""
        return self._link.server_version

    @property
    def cluster(self) -> str:
        """The name of its cluster; empty for a single server, and its own name for a single one that is a leaf node."""
        return self._link.cluster

    @property
    def peers(self) -> int:
        """Servers of the cluster that were up when we connected, as clients are told; 0 where they are not told."""
        return self._link.peers

    @property
    def headers(self) -> bool:
        """Whether messages may have headers."""
        return self._link.headers

    @property
    def max_payload(self) -> int:
        """Bytes that a request may have at most."""
        return self._link.max_payload

    def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        at_once: bool = False,
    ) -> Coroutine[Any, Any, bytes]:
        """Return the reply's payload. `timeout` in seconds, by default the target's; connecting anew is not part of it.

        `at_once`: once connected, sent before anything else happens here, at a higher price.

        Raises:
            NoReply: none in time; the request may have been executed.
            NoResponders: nobody listens on the subject.
            PermissionDenied: the user may not publish to it, or not receive replies.
            ConnectionLost: the connection ended before the reply; the request may have been executed.
            TooLarge: headers and payload are more than the server accepts; nothing was sent.
        """
        seconds = self._target.timeout if timeout is None else timeout

        async def send(request: WireRequest) -> bytes:
            if self.is_lost:
                await self._reconnect()
            return await self._link.request(
                request.subject, request.payload, headers=headers, timeout=request.timeout, at_once=at_once
            )

        return WIRE_REQUESTS.send(WireRequest(subject, payload, seconds), send)

    async def request_together(
        self,
        requests: Sequence[tuple[str, bytes]],
        *,
        timeout: float,  # noqa: ASYNC109 - as in `request`
    ) -> list[bytes | ServerFault]:
        """Connect if need be, and return as `Connection.request_together`."""
        await self.ensure_connected()
        return await self._link.request_together(requests, timeout=timeout)

    async def ensure_connected(self) -> None:
        """Connect anew if the connection was lost, so that the next request does not have to."""
        if self.is_lost:
            await self._reconnect()

    async def permissions(self) -> Permissions | None:
        """Return what the user may do on the server that we are connected to; None where it does not say, after a second at most."""
        link = self._link
        wait = min(timing.IDENTITY_TIMEOUT_SECONDS, self._target.timeout)

        def ours(reply: bytes) -> bool:
            with contextlib.suppress(ServerFault):
                return server_identity(reply).server == link.server_name
            return False

        with contextlib.suppress(ServerFault):
            asked = "$SYS.REQ.USER.INFO"
            reply = await link.request(asked, b"", headers=None, timeout=wait, accepts=ours)
            return decode_permissions(reply) if ours(reply) else None
        return None

    async def hold_interest(self, subject: str) -> None:
        """Hold a subscription to the subject as long as this is open, on whatever server, without answering: see `has_interest`."""
        self._attended.append(subject)
        await self._link.hold_interest(subject)

    async def has_interest(self, subject: str) -> bool | None:
        """Return whether somebody listens on a subject on which nobody answers; None where that cannot be told.

        The server says at once if there is nobody. Who is there lets a second pass.
        """
        try:
            await self.request(subject, timeout=timing.INTEREST_TIMEOUT_SECONDS)
        except NoResponders:
            return False
        except NoReply:
            return True
        except ServerFault:
            pass
        return None  # a stream that stores the subject has answered, or we may not ask

    async def subscribe(self, subject: str, heard: OnMessage) -> Callable[[], Awaitable[None]]:
        """Subscribe as `Connection.subscribe` does. The subscription ends with this connection: a new one does not listen."""
        return await self._link.subscribe(subject, heard)

    @property
    def current_connection(self) -> object:
        """What connects us at the moment: it is another object after a connection was lost."""
        return self._link

    def may_subscribe(self, subject: str) -> bool:
        """Return as `Connection.may_subscribe`."""
        return self._link.may_subscribe(subject)

    def inbox(self) -> str:
        """Return as `Connection.inbox`."""
        return self._link.inbox()

    async def send(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send as `Connection.send` does."""
        await self._link.send(subject, payload, reply)

    async def send_all(self, subjects: Sequence[str], payload: bytes) -> None:
        """Send as `Connection.send_all` does."""
        await self._link.send_all(subjects, payload)

    async def server_identity(self) -> ServerIdentity:
        """Return the server that can tell most of the JetStream we use; the one that we are connected to where no other does, after a second at most.

        Over a leaf node the servers on both sides answer, each with its own account (2.10.26 to 2.15.1): what counts is
        the domain's side. Behind an API prefix, it is the account that imports.
        """
        link = self._link
        known = ServerIdentity("", link.server_name, link.cluster, link.domain, link.jetstream)
        wait = min(timing.IDENTITY_TIMEOUT_SECONDS, self._target.timeout)

        def knows(reply: bytes) -> bool:
            with contextlib.suppress(ServerFault):
                identity = server_identity(reply)
                if self._target.domain not in ("", link.domain):
                    return identity.domain == self._target.domain
                return identity.server == link.server_name if link.jetstream else identity.jetstream
            return False

        with contextlib.suppress(ServerFault):
            asked = "$SYS.REQ.USER.INFO"
            identity = server_identity(
                await link.request(asked, b"", headers=None, timeout=wait, accepts=knows)
            )
            return (
                known._replace(account=identity.account) if identity.server == link.server_name else identity
            )
        return known

    async def close(self) -> None:
        """Close for good; what was pending fails with ConnectionLost. Quick; never raises."""
        self._closed = True
        await self._link.close()

    async def _reconnect(self) -> None:
        """Connect to another server of the same cluster, or to the same server; if none takes us, all stays as it was."""
        async with self._reconnect_lock:
            lost = self._link
            if self._closed or not isinstance(lost.broken, ConnectionLost):
                return  # another request has been here
            await lost.close()
            with contextlib.suppress(ConnectFailed):
                found = await _first(self._target)
                if found.cluster == lost.cluster and (found.cluster or found.url == lost.url):
                    self._link = found
                    for subject in self._attended:
                        await found.hold_interest(subject)
                else:
                    await found.close()


async def _first(target: Target) -> Connection:

    # ValueError: a first line without end, or no UTF-8.
    faults = (Error, OSError, ValueError, PlaintextOnly, NotNats, ClosedDuringLogin)
    problems = []
    for url in target.urls:
        link = Connection(target, url)
        try:
            await link.open()
        except faults as error:
            await link.close()
            reason = why_not_connected(error, target)
            if isinstance(error, Error) and (expired := expired_since(target)):
                reason = worded("{}: these credentials expired on {}", reason, expired)
            hint = None
            if isinstance(error, OSError) and target.sources.get("url") == DEFAULT:
                hint = worded(
                    "this is the default: name the server with {} or NATS_URL, or start one with {}",
                    Option("server"),
                    Command("dev"),
                )
            problems.append(
                Problem("connect-failed", worded("cannot connect to {}: {}", url, reason), hint=hint)
            )
        except BaseException:
            await link.close()
            raise
        else:
            return link
    raise ConnectFailed(*problems)
