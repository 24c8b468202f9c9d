"""`python -m benchmarks.watcher MANIFEST URL READINGS`: a monitor in a process of its own, which reads without a rest.

Prints as JSON what each reading took, how many requests they sent, and how much memory the process occupied after the
first tenth of them and at the end. Without READINGS it reads until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from cyborg_infra.live.connection.target import Flags, resolve
from cyborg_infra.live.interception import WIRE_REQUESTS
from cyborg_infra.operations.monitor import Monitor, MonitorRequest
from cyborg_infra.operations.status import load_status_request
from cyborg_infra.render.prometheus import observation_metrics

_NEVER_AGAIN = 1e9  # seconds until the next plan


async def watched(manifest: str, url: str, readings: int) -> dict[str, Any]:
    """Return what so many readings took, each judged and turned into metrics as for a scraper."""
    target = resolve(Flags(server=url, no_context=True), {})
    request = MonitorRequest(load_status_request(manifest), interval=0.0, drift_interval=_NEVER_AGAIN)
    monitor = Monitor(request, target)
    seconds, occupied, asked, planned = list[float](), list[int](), 0, 0

    async def count(request: Any, send: Any) -> Any:
        nonlocal asked
        asked += 1
        return await send(request)

    with WIRE_REQUESTS.through(count):
        reading = asyncio.create_task(monitor.run())
        done = 0
        async for seen in monitor.changes():
            if seen.problem:
                raise RuntimeError(str(seen.problem))
            if seen.plans.done and not planned:
                planned, asked, done = 1, 0, seen.readings.done  # from here on readings alone
            elif planned and seen.readings.done > done and seen.status:
                done = seen.readings.done
                seconds.append(seen.read_seconds or 0.0)
                for _, samples in observation_metrics(seen, 0.0).values():
                    sum(1 for _ in samples)
                occupied.append(_resident())
                if len(seconds) == readings:
                    break
        requests = asked
        reading.cancel()
        await asyncio.wait([reading])
    return {
        "seconds": seconds,
        "requests": requests / readings,
        "memory_first": max(occupied[: max(1, readings // 10)]),
        "memory_last": max(occupied[-max(1, readings // 10) :]),
    }


def _resident() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    manifest, url, *number = sys.argv[1:]
    print(json.dumps(asyncio.run(watched(manifest, url, int(number[0]) if number else 0))))
