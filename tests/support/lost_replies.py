"""A reply that is lost on its way."""

from __future__ import annotations

from cyborg_infra.live.connection.errors import NoReply
from cyborg_infra.live.interception import WireRequest
from tests.support.faults import Faults, SendWire


class LostReply:
    """The reply to a request is lost; `executed` says whether the server has got it. Once per subject.

    Who asked hears that there is none, or meets his `end`.
    """

    def __init__(self, faults: Faults, ending: str, *, executed: bool, end: Exception | None = None) -> None:
        self.lost: list[str] = []

        async def lose(request: WireRequest, send: SendWire) -> bytes:
            if ending not in request.subject or request.subject in self.lost:
                return await send(request)
            self.lost.append(request.subject)
            if executed:
                await send(request)
            raise end or NoReply(request.subject, 0)

        faults.intercept_wire(lose)
        faults.waits(RETRY_INTERVAL_SECONDS=0.0)
