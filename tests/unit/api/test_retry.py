"""How long is waited for a cluster that has no leader: as long as an election takes, once for all who wait."""

from __future__ import annotations

import asyncio

import pytest

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.retry import RetryPolicy, is_transient
from cyborg_infra.live.connection.errors import NoReply
from cyborg_infra.model.error_codes import ErrorCode
from tests.support.faults import Faults


async def silent() -> None:
    raise NoReply("S", 0)


def test_outage_deadline_is_shared_by_all_requests(faults: Faults) -> None:
    faults.waits(RETRY_INTERVAL_SECONDS=0.01)
    attempts = 0

    async def run() -> None:
        nonlocal attempts
        outage = RetryPolicy()

        async def attempt() -> None:
            nonlocal attempts
            attempts += 1
            outage.record_failure()
            await silent()

        with pytest.raises(NoReply):
            await outage.run(attempt, is_transient, max_wait=0.1)
        tried, attempts = attempts, 0
        assert tried > 1
        with pytest.raises(NoReply):
            await outage.run(attempt, is_transient, max_wait=0.1)
        assert attempts == 1
        outage.record_success()
        with pytest.raises(NoReply):
            await outage.run(attempt, is_transient, max_wait=0.1)
        assert attempts > 2

    asyncio.run(run())


def test_an_error_that_stays_is_not_waited_for() -> None:
    assert not is_transient(
        ApiError("doing", code=400, err_code=ErrorCode.JSStreamNameExistErr, description="name in use")
    )
    assert is_transient(
        ApiError("doing", code=503, err_code=ErrorCode.JSClusterNotAvailErr, description="no leader")
    )
