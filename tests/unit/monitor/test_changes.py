"""Whoever follows what the monitor knows gets the newest, in any event loop, and holds nobody up."""

from __future__ import annotations

import asyncio
import threading

from cyborg_infra.live.connection.target import Target
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.status import Alarm, Condition
from cyborg_infra.operations.monitor import Monitor, MonitorRequest
from cyborg_infra.operations.status import status_request
from tests.support.cli import SMALL

CHANGES = 1000


def test_who_is_slow_misses_what_was_in_between_and_then_has_the_newest() -> None:
    """In a thread of its own, as the page is."""
    org = loads(SMALL)
    monitor = Monitor(MonitorRequest(status_request(org, org.alerts)), Target())
    begun, may_go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    async def follow() -> None:
        async for observation in monitor.changes():
            seen.append(", ".join(alarm.message for alarm in observation.alarms))
            if len(seen) == 2:
                return
            begun.set()
            may_go_on.wait(60)

    async def change() -> None:
        for number in range(CHANGES):
            monitor.report_alarms("test", [Alarm(Condition.NOTIFICATION, str(number))])

    follower = threading.Thread(target=lambda: asyncio.run(follow()))
    follower.start()
    assert begun.wait(60)
    asyncio.run(change())
    may_go_on.set()
    follower.join(60)
    assert seen == ["", str(CHANGES - 1)]
