"""Where an operation works: on the server that the manifest expects, and the user is told which one that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cyborg_infra.core.preflight import of_server
from cyborg_infra.model.org import Org
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.state import Facts

if TYPE_CHECKING:  # asyncio and nats cost 100 ms
    from cyborg_infra.live.jetstream import JetStream

Meet = Callable[[Org, Facts], None]
"""Hears of the organisation and the server before anything is done."""


async def meet(server: JetStream, org: Org, tell: Meet) -> None:
    """`tell` has heard of the server. Raises ServerFault, with nothing done, if the manifest expects another one."""
    facts = await server.facts()
    refuse_unless_expected(org, facts)
    tell(org, facts)


def refuse_unless_expected(org: Org, facts: Facts) -> None:
    """Returns if the manifest says nothing else of its server. Raises ServerFault."""
    if problems := list(of_server(org, facts)):
        raise ServerFault(*problems)
