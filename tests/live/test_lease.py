"""One writer at a time: the lease of an organisation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command import SMALL
from scene import Scene

from cyborg_infra import pipeline
from cyborg_infra.live import lease as leases
from cyborg_infra.live.connect import connect
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.lease import LeaseHeld, holder, lease, unlock

Two = Callable[[JetStream, JetStream], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def _short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LIFETIME", 1)
    monkeypatch.setattr(leases, "POLL", 0.05)


@pytest.fixture
def two(any_server: Any) -> Callable[[Two], None]:
    """Runs a function with two clients of one account."""
    target = pipeline.resolve(pipeline.Flags(server=any_server.url, no_context=True), {})

    def run(law: Two) -> None:
        async def main() -> None:
            async with connect(target) as one, connect(target) as other:
                await law(JetStream(one, target), JetStream(other, target))

        asyncio.run(main())

    return run


def test_a_lease_that_is_held_is_refused_with_its_holder(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        async with lease(one, "g", wait=0, lost=asyncio.Event()):
            with pytest.raises(
                LeaseHeld, match=r"being applied to by .*@.* since .*, until .* unless renewed"
            ):
                async with lease(other, "g", wait=0, lost=asyncio.Event()):
                    pytest.fail("two holders")
            async with lease(other, "another", wait=0, lost=asyncio.Event()):
                pass

    two(law)


def test_a_lease_is_free_after_its_block_even_if_it_was_renewed(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        lost = asyncio.Event()
        async with lease(one, "g", wait=0, lost=lost):
            await asyncio.sleep(1.5)  # longer than it lives unrenewed
            assert await holder(other, "g") is not None
        assert not lost.is_set()
        assert await holder(other, "g") is None

    two(law)


def test_who_waits_gets_the_lease_when_it_is_free(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        order = []

        async def wait() -> None:
            async with lease(other, "g", wait=20, lost=asyncio.Event()):
                order.append("other")

        async with lease(one, "g", wait=0, lost=asyncio.Event()):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.3)
            order.append("one")
        await waiting
        assert order == ["one", "other"]

    two(law)


def test_an_abandoned_lease_expires(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        await leases._bucket(one)  # noqa: SLF001 - whoever died after taking it
        assert await leases._put(one, "g", leases._holder("a dead one", datetime.now(UTC)), expected=0)  # noqa: SLF001
        async with lease(other, "g", wait=20, lost=asyncio.Event()):
            held = await holder(one, "g")
            assert held is not None
            assert held.holder != "a dead one"

    two(law)


def test_a_lease_that_was_taken_away_is_known_to_be_lost(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        lost = asyncio.Event()
        async with lease(one, "g", wait=0, lost=lost):
            freed = await unlock(other, "g")
            assert freed is not None
            async with lease(other, "g", wait=0, lost=asyncio.Event()):
                async with asyncio.timeout(20):
                    await lost.wait()
                assert await holder(one, "g") is not None
            assert await unlock(other, "g") is None

    two(law)


def test_an_apply_that_finds_the_lease_taken_changes_nothing(server: Any, tmp_path: Path) -> None:
    with Scene(server.url, tmp_path) as scene:
        wish = scene.wish(SMALL)
        plan = scene.plan(wish)

        async def hold() -> None:
            async with (
                connect(scene.target) as held,
                lease(JetStream(held, scene.target), wish.owner, wait=0, lost=asyncio.Event()),
            ):
                with pytest.raises(LeaseHeld):
                    await asyncio.to_thread(pipeline.apply, plan, wish, scene.target, lock=0)

        asyncio.run(hold())
        assert scene.refs() == ["KV_cyborg-infra"]
        assert pipeline.apply(plan, wish, scene.target, lock=0)
        assert not scene.plan(wish)
