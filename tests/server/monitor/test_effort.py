"""What a reading of the monitor costs, by counts: requests that grow with the streams, and memory that does not grow at all."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter

import pytest

from cyborg_infra.live.interception import WIRE_REQUESTS, WireRequest
from cyborg_infra.operations.monitor import Monitor, MonitorRequest
from cyborg_infra.operations.status import load_status_request
from tests.support.agents import publish
from tests.support.faults import SendWire
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST

AN_HOUR = 240
"""Readings, one every fifteen seconds."""


def lives(scene: Scenario, roles: int) -> None:
    """There is an organisation of so many roles, in which something waits and something has failed."""
    scene.converge(f"org: acme\nroles: [{', '.join(f'r{number}' for number in range(roles))}]\n")
    publish(scene.api, "acme.org.broadcasts")
    publish(scene.api, "acme.org.deadletter", b'{"task_id": "t-1"}')


def watching(scene: Scenario, interval: float, drift_interval: float) -> Monitor:
    subject = load_status_request(str(scene.directory / "org.yaml"))
    return Monitor(MonitorRequest(subject, interval=interval, drift_interval=drift_interval), scene.target)


async def read(monitor: Monitor, number: int) -> None:
    """Return after so many more readings, and a plan if one was due."""
    before = monitor.observation.readings.done
    reading = asyncio.create_task(monitor.run())
    async for seen in monitor.changes():
        assert not seen.problem, seen.problem
        if seen.readings.done >= before + number and seen.plans.done:
            break
    reading.cancel()
    await asyncio.wait([reading])


async def requests(monitor: Monitor, number: int) -> Counter[str]:
    """Return what so many readings ask, and the first one's plan."""
    asked: Counter[str] = Counter()

    async def count(request: WireRequest, send: SendWire) -> bytes:
        asked[".".join(request.subject.split(".")[2:4])] += 1
        return await send(request)

    with WIRE_REQUESTS.through(count):
        await read(monitor, number)
    return asked


@pytest.mark.servers(NEWEST)
def test_a_reading_asks_once_more_for_each_role_and_never_more_than_the_first_one(scenario: Scenario) -> None:
    """Of a role there is one stream, whose consumers are one request; all else is in listings, 256 to a request."""
    lives(scenario, 2)
    few = asyncio.run(requests(watching(scenario, 3600.0, 3600.0), 1))
    scenario.clear()
    lives(scenario, 12)
    many = asyncio.run(requests(watching(scenario, 3600.0, 3600.0), 1))
    # A reading and a plan, of five streams; what waits for all of them is one message, which is read once.
    assert few == Counter({"CONSUMER.LIST": 10, "STREAM.MSG": 5, "INFO": 2, "STREAM.LIST": 2})
    assert many == few + Counter({"CONSUMER.LIST": 2 * 10})
    again = asyncio.run(requests(watching(scenario, 0.0, 0.0), 5))
    assert all(again[name] <= 6 * number for name, number in many.items())  # one may have begun


@pytest.mark.servers(NEWEST)
def test_an_hour_of_readings_takes_no_more_memory(scenario: Scenario) -> None:
    lives(scenario, 2)
    monitor = watching(scenario, 0.0, 3600.0)
    taken: list[int] = []

    async def measured() -> None:
        await read(monitor, 20)
        tracemalloc.start()
        for readings in (5, AN_HOUR):
            await read(monitor, readings)
            gc.collect()
            taken.append(tracemalloc.get_traced_memory()[0])

    try:
        asyncio.run(measured())
    finally:
        tracemalloc.stop()
    first, last = taken
    assert last - first < 64 * 1024, taken
