"""A cluster's OK is not the end of it: what it does only later is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from cyborg_infra.live.api.copying import MIRROR
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.consumer import pausing
from cyborg_infra.live.execute.migrate.catch_up import wait_until_complete
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, StreamCounts
from tests.support.faults import Faults

ORIGIN, COPY, WORKER = Ref("S"), Ref("T"), Ref("S", "w")


class Streams:
    """A parked origin with a message under way, stored when the next one is acknowledged; its copy follows at once."""

    def __init__(self) -> None:
        self.last = 5

    async def info(self, ref: Ref) -> LiveResource:
        config = {"num_replicas": 3, "retention": "limits"}
        return LiveResource(ref, config, counts=StreamCounts(messages=self.last, last_seq=self.last))

    async def publish(self, _subject: str, _body: object, _headers: object, *, doing: str) -> dict[str, int]:
        assert doing
        self.last += 2
        return {"seq": self.last}


def test_a_message_that_a_fenced_stream_still_stores_is_waited_for() -> None:
    streams = Streams()
    asyncio.run(wait_until_complete(cast("JetStream", streams), ORIGIN, COPY, MIRROR))
    assert streams.last == 7


class Consumers:
    """Answers OK to every pause, and keeps the `kept`-th alone: before, its leader died."""

    def __init__(self, kept: int) -> None:
        self.asked, self._kept = 0, kept
        self.config: dict[str, Any] = {"pause_until": pausing.PAUSED_UNTIL}

    async def request(self, _verb: str, body: dict[str, Any], *, doing: str, **_more: Any) -> dict[str, Any]:
        assert doing
        self.asked += 1
        if self.asked == self._kept:
            self.config = body
        return {}

    async def retry(self, attempt: Callable[[], Awaitable[object]]) -> object:
        return await attempt()

    async def info(self, ref: Ref) -> LiveResource:
        return LiveResource(ref, self.config)


def test_a_consumer_is_resumed_when_it_says_so_itself(faults: Faults) -> None:
    faults.waits(CONSUMER_POLL_SECONDS=0)
    consumers = Consumers(kept=3)
    asyncio.run(pausing.resume(cast("JetStream", consumers), WORKER))
    assert consumers.asked == 3
    with pytest.raises(ServerFault, match="resuming S/w: the server answered OK, and does not do it"):
        asyncio.run(pausing.resume(cast("JetStream", Consumers(kept=0)), WORKER))
