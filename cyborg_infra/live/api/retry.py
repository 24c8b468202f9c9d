"""Retry requests that a cluster cannot answer while it elects a leader, within one deadline for all of a connection."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cyborg_infra.live import timing
from cyborg_infra.live.api.errors import ApiError, Retry
from cyborg_infra.live.connection.errors import Unanswered
from cyborg_infra.model.problems import ServerFault

Result = TypeVar("Result")


def is_transient(fault: ServerFault) -> bool:
    """Return whether the fault may be gone at the next attempt."""
    return isinstance(fault, Unanswered) or (isinstance(fault, ApiError) and fault.retry is not Retry.NEVER)


class RetryPolicy:
    """A retry deadline shared by all requests of a connection: it starts with the first failure, and once it has passed nobody retries."""

    def __init__(self) -> None:
        self._since: float | None = None

    def record_failure(self, ago: float = 0.0) -> None:
        """Record a failure, which began so many seconds ago."""
        if self._since is None:
            self._since = asyncio.get_running_loop().time() - ago

    def seconds_left(self, max_wait: float) -> float:
        """Return seconds of it that are left in this outage; all while there is none."""
        return max_wait if self._since is None else self._since + max_wait - asyncio.get_running_loop().time()

    def record_success(self) -> None:
        """Record a success: the deadline starts anew with the next failure."""
        self._since = None

    async def run(
        self,
        attempt: Callable[[], Awaitable[Result]],
        is_retryable: Callable[[ServerFault], bool],
        max_wait: float,
    ) -> Result:
        """Run `attempt` until it works, and return what it returns.

        Raises a fault that is not `is_retryable` another attempt, or that comes `max_wait` seconds after the first one or
        after the beginning of the outage.
        """
        end = math.inf
        while True:
            try:
                return await attempt()
            except ServerFault as fault:
                now = asyncio.get_running_loop().time()
                end = min(end, (self._since or now) + max_wait)
                if not is_retryable(fault) or now >= end:
                    raise
            await asyncio.sleep(timing.RETRY_INTERVAL_SECONDS)
