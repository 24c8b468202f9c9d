"""Refuse to work on a server other than the manifest's `server:`, and report which one is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cyborg_infra.core.planning.preflight import check_server
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.server import ServerInfo

if TYPE_CHECKING:  # asyncio and nats cost 100 ms
    from cyborg_infra.live.api.jetstream import JetStream

OnServer = Callable[[Org, ServerInfo], None]
"""Hears of the organisation and the server before anything is done."""


async def require_expected_server(server: JetStream, org: Org, on_server: OnServer) -> None:
    """Report the server to `on_server`. Raises ServerFault, with nothing done, if the manifest expects another one."""
    facts = await server.server_info()
    check_expected_server(org, facts)
    on_server(org, facts)


def check_expected_server(org: Org, server_info: ServerInfo) -> None:
    """Raise ServerFault if this is not the server that the manifest expects."""
    if problems := list(check_server(org, server_info)):
        raise ServerFault(*problems)
