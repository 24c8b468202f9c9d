"""What the monitor costs: its readings beside the same requests bare, the server's work beside publishing, and its memory over an hour."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import watcher
from benchmarks.figures import Figure
from benchmarks.floor import Wire
from benchmarks.latency import latencies
from benchmarks.measure import by_turns, run, say
from benchmarks.nodes import Workplace
from benchmarks.organisation import NAME, Organisation, role

PART = "the monitor"
READINGS = 240
"""An hour of them, one every fifteen seconds."""
FEW = 10
PUBLISHED = 1000
BIG = 5000
"""From so many roles on, an hour of readings would take an hour."""


def watching(place: Workplace, roles: int, repeats: int) -> Iterator[Figure]:
    """Yield what a reading takes, and what it takes from the server and from those who publish meanwhile."""
    organisation = Organisation(place.home, roles)
    readings = READINGS if roles < BIG else FEW
    with place.server() as server:
        organisation.floor("create", server.url)
        bare = by_turns(repeats, {"bare read": lambda: organisation.floor("read", server.url)})["bare read"]
        say(f"  {readings} readings")
        before = _processor(server.pid)
        told = _watched(organisation, server.url, readings)
        reading = (_processor(server.pid) - before) / readings
        before = _processor(server.pid)
        _publish(server.url, roles)
        publishing = _processor(server.pid) - before
        say("  messages while it reads")
        alone = latencies(server.url, roles)
        process = subprocess.Popen(
            [sys.executable, "-m", watcher.__name__, str(organisation.manifest), server.url],
            stdout=subprocess.DEVNULL,
        )
        try:
            beside = latencies(server.url, roles)
        finally:
            process.kill()
            process.wait()
    floor = tuple(each.seconds for each in bare)
    yield Figure(PART, "reading", roles, "s", tuple(told["seconds"]), "bare read", floor)
    yield Figure(PART, "requests of a reading", roles, "", (told["requests"],))
    yield Figure(
        PART,
        "processor time of the server: a reading",
        roles,
        "ms",
        (reading * 1000,),
        f"{PUBLISHED:,} published tasks",
        (publishing * 1000,),
    )
    first, last = (told[f"memory_{when}"] / 1e6 for when in ("first", "last"))
    yield Figure(
        PART, f"memory after {readings} readings", roles, "MB", (last,), "after a tenth", (first,), 1.1
    )
    for what in ("to a task subject", "to the broadcasts"):
        yield Figure(
            PART,
            f"{what}, while it reads without a rest",
            roles,
            "ms",
            (beside[what][0],),
            "without it",
            (alone[what][0],),
        )


def _watched(organisation: Organisation, url: str, readings: int) -> dict[str, Any]:
    printed = organisation.home / "watched"
    command = (sys.executable, "-m", watcher.__name__, str(organisation.manifest), url, str(readings))
    run(command, organisation.home, output=printed)
    found: dict[str, Any] = json.loads(printed.read_bytes())
    return found


def _publish(url: str, roles: int) -> None:
    with Wire(url) as wire:
        for number in range(PUBLISHED):
            wire.ask(f"{NAME}.agents.{role(number % roles)}.tasks", b"x" * 256)


def _processor(pid: int) -> float:
    """Return the processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
