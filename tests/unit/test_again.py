"""How long is waited for a cluster that has no leader: as long as an election takes, once for all who wait."""

from __future__ import annotations

import asyncio

import pytest

from cyborg_infra.live import again
from cyborg_infra.live.again import Outage, may_pass
from cyborg_infra.live.faults import ApiError, NoReply


async def silent() -> None:
    raise NoReply("S", 0)


def test_what_is_given_up_is_given_up_for_all_who_ask_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "PAUSE", 0.01)
    monkeypatch.setattr(again, "ELECTION", 0.1)
    attempts = 0

    async def run() -> None:
        nonlocal attempts
        outage = Outage()

        async def attempt() -> None:
            nonlocal attempts
            attempts += 1
            outage.begun()
            await silent()

        with pytest.raises(NoReply):
            await outage.outlast(attempt, may_pass)
        tried, attempts = attempts, 0
        assert tried > 1
        with pytest.raises(NoReply):
            await outage.outlast(attempt, may_pass)
        assert attempts == 1
        outage.ended()
        with pytest.raises(NoReply):
            await outage.outlast(attempt, may_pass)
        assert attempts > 2

    asyncio.run(run())


def test_an_error_that_stays_is_not_waited_for() -> None:
    assert not may_pass(ApiError("doing", code=400, err_code=10058, description="name in use"))
    assert may_pass(ApiError("doing", code=503, err_code=10008, description="no leader"))
