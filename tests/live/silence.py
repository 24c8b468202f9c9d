"""A reply that is lost on its way."""

from __future__ import annotations

from typing import Any

import pytest

from cyborg_infra.live import again
from cyborg_infra.live.connect import Connection
from cyborg_infra.live.faults import NoReply


class Silence:
    """The reply to a request is lost; `executed` says whether the server has got it. Once per subject.

    Who asked hears that there is none, or meets his `end`.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, ending: str, *, executed: bool, end: Exception | None = None
    ) -> None:
        self.lost: list[str] = []
        original = Connection.request

        async def request(connection: Connection, subject: str, *arguments: Any, **more: Any) -> bytes:
            if ending not in subject or subject in self.lost:
                return await original(connection, subject, *arguments, **more)
            self.lost.append(subject)
            if executed:
                await original(connection, subject, *arguments, **more)
            raise end or NoReply(subject, 0)

        monkeypatch.setattr(Connection, "request", request)
        monkeypatch.setattr(again, "PAUSE", 0.0)
