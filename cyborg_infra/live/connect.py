"""A way to a cluster that outlives any one of its servers; carries requests, knows nothing of their content.

A connection that is lost fails what was under way: nobody knows what was executed, and the caller has to read
again. The next request makes a new one, to any of the target's URLs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping

from cyborg_infra.live.faults import ClosedDuringLogin, ConnectionLost, PlaintextOnly, why_not_connected
from cyborg_infra.live.link import Link
from cyborg_infra.live.target import Target
from cyborg_infra.model.problems import ConnectFailed, Problem, ServerFault

_ACCOUNT_TIMEOUT = 1.0  # seconds; the account's name is a nicety


@contextlib.asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Connection]:
    """A connection by way of the first of the target's URLs that takes us, closed after the block.

    Raises:
        ConnectFailed: none did, one problem for each; or a key or certificate is unusable.
    """
    connection = Connection(target, await _first(target))
    try:
        yield connection
    finally:
        await connection.close()


class Connection:
    """An open connection. Requests may overlap freely; each ends with its reply or with the reason why not."""

    def __init__(self, target: Target, link: Link) -> None:
        self._target = target
        self._link = link
        self._closed = False
        self._relinking = asyncio.Lock()

    @property
    def url(self) -> str:
        """Where we are connected to at the moment."""
        return self._link.url

    @property
    def server_name(self) -> str:
        """The name of the server that we are connected to at the moment."""
        return self._link.server_name

    @property
    def server_version(self) -> str:
        """Its version."""
        return self._link.server_version

    @property
    def cluster(self) -> str:
        """The name of its cluster; empty for a single server."""
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

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - part of the request, and named in its error
    ) -> bytes:
        """The reply's payload. `timeout` in seconds, by default the target's; connecting anew is not part of it.

        Raises:
            NoReply: none in time; the request may have been executed.
            NoResponders: nobody listens on the subject.
            PermissionDenied: the user may not publish to it, or not receive replies.
            ConnectionLost: the connection ended before the reply; the request may have been executed.
            TooLarge: headers and payload are more than the server accepts; nothing was sent.
        """
        if isinstance(self._link.broken, ConnectionLost):
            await self._relink()
        seconds = self._target.timeout if timeout is None else timeout
        return await self._link.request(subject, payload, headers=headers, timeout=seconds)

    async def account(self) -> str:
        """The name of the account that we are in; empty where the server does not tell, after a second at most."""
        with contextlib.suppress(ServerFault, ValueError):
            wait = min(_ACCOUNT_TIMEOUT, self._target.timeout)
            told = json.loads(await self.request("$SYS.REQ.USER.INFO", timeout=wait))
            data = told.get("data", {})
            return str(data.get("account_name") or data.get("account", ""))
        return ""

    async def close(self) -> None:
        """Closed for good; what was pending has failed with ConnectionLost. Quick; never raises."""
        self._closed = True
        await self._link.close()

    async def _relink(self) -> None:
        """Connected to another server of the same cluster, or to the same server; or all is as it was."""
        async with self._relinking:
            lost = self._link
            if self._closed or not isinstance(lost.broken, ConnectionLost):
                return  # another request has been here
            await lost.close()
            with contextlib.suppress(ConnectFailed):
                found = await _first(self._target)
                if found.cluster == lost.cluster and (found.cluster or found.url == lost.url):
                    self._link = found
                else:
                    await found.close()


async def _first(target: Target) -> Link:
    from nats.errors import Error

    # ValueError: a first line without end, or no UTF-8.
    faults = (Error, OSError, ValueError, PlaintextOnly, ClosedDuringLogin)
    problems = []
    for url in target.urls:
        link = Link(target, url)
        try:
            await link.open()
        except faults as error:
            await link.close()
            reason = why_not_connected(error, target)
            problems.append(Problem("connect-failed", f"cannot connect to {url}: {reason}"))
        except BaseException:
            await link.close()
            raise
        else:
            return link
    raise ConnectFailed(*problems)
