"""Tries again what a cluster cannot do for a moment, while it elects; decides nothing else."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cyborg_infra.live.faults import ApiError, Retry, Unanswered
from cyborg_infra.model.problems import ServerFault

PAUSE = 0.5  # seconds between two attempts
ELECTION = (
    15.0  # seconds after the first fault: a leader is elected in 4 to 9, and a lost quorum noticed after 10
)

Result = TypeVar("Result")


def may_pass(fault: ServerFault) -> bool:
    """Whether the fault may be gone at the next attempt."""
    return isinstance(fault, Unanswered) or (isinstance(fault, ApiError) and fault.retry is not Retry.NONE)


class Outage:
    """Since when nothing has worked. All who wait for its end wait together: once they have given up, nobody begins anew."""

    def __init__(self) -> None:
        self._since: float | None = None

    def begun(self) -> None:
        """Something did not work, now."""
        if self._since is None:
            self._since = asyncio.get_running_loop().time()

    def ended(self) -> None:
        """Something worked."""
        self._since = None

    async def outlast(
        self, attempt: Callable[[], Awaitable[Result]], worth: Callable[[ServerFault], bool]
    ) -> Result:
        """What `attempt` returns, as soon as it does.

        Raises a fault that is not `worth` another attempt, or that comes ELECTION seconds after the first one or
        after the beginning of the outage.
        """
        end = math.inf
        while True:
            try:
                return await attempt()
            except ServerFault as fault:
                now = asyncio.get_running_loop().time()
                end = min(end, (self._since or now) + ELECTION)
                if not worth(fault) or now >= end:
                    raise
            await asyncio.sleep(PAUSE)
