"""Deliver what waits in the outbox: to each receiver on its own, oldest first, and again until it has taken it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cyborg_infra.model.notifications import Message, ReceiverStatus
from cyborg_infra.monitor.outbox import Outbox
from cyborg_infra.monitor.receivers import NotTaken, Receiver

FAILING_AFTER = 3
"""After so many tries in a row that failed, that is an alarm."""
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 300.0
"""How long it is waited after a try that failed; twice as long after each further one."""
GRACE_SECONDS = 5.0
"""How long a delivery that is under way may go on when the monitor ends."""


@dataclass(slots=True)
class _Progress:
    """How it goes with one receiver."""

    delivered: int = 0
    failed: int = 0
    in_a_row: int = 0  # failures since the last success
    reason: str = ""


class Courier:
    """Delivers for as long as `run` runs. Nothing that one receiver does holds up another."""

    def __init__(self, outbox: Outbox, receivers: Sequence[Receiver]) -> None:
        self._outbox = outbox
        self._receivers = receivers
        self._progress = {receiver.name: _Progress() for receiver in receivers}
        self._added = {receiver.name: asyncio.Event() for receiver in receivers}
        self._moved = asyncio.Event()
        self.moves = 0  # tries that have ended
        self.under_way = 0  # tries that have not

    @property
    def statuses(self) -> tuple[ReceiverStatus, ...]:
        """How it goes with each receiver."""
        return tuple(
            ReceiverStatus(
                name,
                found.delivered,
                found.failed,
                self._outbox.waiting(name),
                found.in_a_row >= FAILING_AFTER,
                found.reason,
            )
            for name, found in self._progress.items()
        )

    def wake(self) -> None:
        """Look into the outbox: something was put there."""
        for added in self._added.values():
            added.set()

    async def wait_for_move(self, since: int, seconds: float) -> None:
        """Wait until a delivery has succeeded or failed `since` so many had, or for so long."""
        if self.moves == since:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._moved.wait()

    def _move(self) -> None:
        self.moves += 1
        self._moved.set()
        self._moved = asyncio.Event()

    async def run(self, on_change: Callable[[], object]) -> None:
        """Deliver until cancelled; `on_change` hears of each try."""
        async with asyncio.TaskGroup() as group:
            for receiver in self._receivers:
                group.create_task(self._serve(receiver, on_change))

    async def _serve(self, receiver: Receiver, on_change: Callable[[], object]) -> None:
        added, progress = self._added[receiver.name], self._progress[receiver.name]
        while True:
            added.clear()
            if (found := self._outbox.next(receiver.name)) is None:
                await added.wait()
                continue
            self.under_way += 1
            try:
                await self._try(receiver, *found)
            finally:
                self.under_way -= 1
            self._move()
            on_change()
            if progress.in_a_row:
                wait = FIRST_RETRY_SECONDS * 2 ** min(progress.in_a_row - 1, 20)
                await asyncio.sleep(min(wait, LAST_RETRY_SECONDS))

    async def _try(self, receiver: Receiver, number: int, message: Message) -> None:
        """Deliver one message, and write down that it was taken. Cancelled, it waits a moment for what is under way."""
        progress = self._progress[receiver.name]
        under_way = asyncio.ensure_future(receiver.deliver(message))
        try:
            await asyncio.shield(under_way)
        except NotTaken as refused:
            progress.failed += 1
            progress.in_a_row += 1
            progress.reason = str(refused)
            self._outbox.refused(receiver.name, number, self._failing())
            return
        except asyncio.CancelledError:
            with contextlib.suppress(NotTaken, TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await under_way
                self._outbox.taken(receiver.name, number, self._failing())
                self._move()
            raise
        progress.delivered += 1
        progress.in_a_row, progress.reason = 0, ""
        self._outbox.taken(receiver.name, number, self._failing())

    def _failing(self) -> list[str]:
        return [name for name, progress in self._progress.items() if progress.in_a_row]
