"""An agent on nats-py in a thread of its own, which stays connected while a test does other things."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import nats
import nats.errors
from nats.aio.client import Client

Result = TypeVar("Result")
_PATIENCE = 60  # seconds


class ConnectedAgent:
    """Connected within the block. `violations` are what the server has refused, `losses` how often it has ended the connection."""

    def __init__(self, url: str, creds: Path, inbox_prefix: str) -> None:
        self.violations: list[str] = []
        self.losses = 0
        self.returns = 0
        self._options: dict[str, Any] = {
            "servers": [url],
            "user_credentials": str(creds),
            "inbox_prefix": inbox_prefix.encode(),
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.05,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_loss,
            "reconnected_cb": self._on_return,
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._client: Client

    def __enter__(self) -> Self:
        self._thread.start()
        self._client = self._run(nats.connect(**self._options))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    @property
    def is_connected(self) -> bool:
        """Whether it is, at the moment."""
        return self._client.is_connected

    def store(self, subject: str) -> int:
        """Return the sequence under which a stream stores a message; 0 if the server refuses it."""

        async def publish() -> int:
            before = len(self.violations)
            try:
                stored = await self._client.jetstream().publish(subject, b"{}", timeout=_PATIENCE_FOR_ACK)
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
                assert len(self.violations) > before, subject
                return 0
            return int(stored.seq)

        return self._run(publish())

    def work(self, consumer: str, stream: str) -> bytes:
        """Return the body of the next message of a consumer that is there already, worked on and acknowledged."""

        async def fetch() -> bytes:
            tasks = await self._client.jetstream().pull_subscribe_bind(consumer, stream=stream)
            (message,) = await tasks.fetch(1, timeout=_PATIENCE)
            await message.in_progress()
            await message.ack_sync()
            return bytes(message.data)

        return self._run(fetch())

    async def _end(self) -> None:
        """Close, and wait until nothing of it is left: an attempt to come back goes on for a moment."""
        await self._client.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def waiting(self, consumer: str, stream: str) -> int:
        """Return how many pulls of a consumer wait for a message."""
        asked = self._client.request(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}", timeout=_PATIENCE)
        told: int = json.loads(self._run(asked).data)["num_waiting"]
        return told

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE + 10)

    async def _on_error(self, error: Exception) -> None:
        if "permissions violation" in str(error):
            self.violations.append(str(error))

    async def _on_loss(self) -> None:
        self.losses += 1

    async def _on_return(self) -> None:
        self.returns += 1


_PATIENCE_FOR_ACK = 1.0  # seconds, after which what the server has refused is known to be refused
