"""Two designs of what grows, side by side: how dead letters are routed, and how many streams the inboxes are.

The same organisation each time, made by the floor; only the stream in question differs. What a server would refuse
by default (a configuration of more than 1 MiB) is let through, so that it can be measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from benchmarks.figures import Figure, Measurement, gathered
from benchmarks.floor import CREATES_IN_FLIGHT, Request, Wire, creates
from benchmarks.latency import latencies
from benchmarks.measure import say
from benchmarks.nodes import Workplace, resident, restarted
from benchmarks.organisation import NAME, Organisation
from cyborg_infra.live.embedded import EmbeddedServer

SHARDS = 16
_LARGE = "max_payload: 8MB\n"
_NOTICES = "$JS.EVENT.ADVISORY.CONSUMER"
_WILDCARDS = [f"{_NOTICES}.MAX_DELIVERIES.>", f"{_NOTICES}.MSG_TERMINATED.>"]


def designs(place: Workplace, roles: int, repeats: int) -> Iterator[Figure]:
    """Yield every design by turns, at one size."""
    shown = Organisation(place.home, roles).content()

    def each() -> Iterator[Measurement]:
        for routes, change in (("2 subjects per role", per_role), ("2 wildcards", wildcards)):
            say(f"  dead letters by {routes}")
            yield from _named(f"dead letters by {routes}", _dead_letters(place, change(shown), roles))
        for shards in (1, SHARDS):
            say(f"  inboxes on {shards} streams")
            yield from _named(
                f"inboxes on {shards} streams", _inboxes(place, sharded(wildcards(shown), shards), roles)
            )

    yield from gathered("alternatives", roles, (each() for _ in range(repeats)))


def per_role(shown: Mapping[str, Any]) -> Any:
    """DEAD_LETTERS has two subjects for each stream of the organisation."""
    changed = deepcopy(shown)
    config = _config(changed, "DEAD_LETTERS")
    watched = [row["stream"] for row in changed["streams"] if row["stream"] != "DEAD_LETTERS"]
    routes = [
        f"{_NOTICES}.{kind}.{name}.*" for name in watched for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")
    ]
    config["subjects"] = [f"{NAME}.org.deadletter", *routes]
    return changed


def wildcards(shown: Mapping[str, Any]) -> Any:
    """DEAD_LETTERS takes the notices of every stream of the account."""
    changed = deepcopy(shown)
    _config(changed, "DEAD_LETTERS")["subjects"] = [f"{NAME}.org.deadletter", *_WILDCARDS]
    return changed


def sharded(shown: Mapping[str, Any], shards: int) -> Any:
    """Return the inboxes of the roles are spread over so many streams, by number; each stream then has to name its subjects."""
    changed = deepcopy(shown)
    if shards == 1:
        return changed
    (inboxes,) = (row for row in changed["streams"] if row["stream"] == "AGENT_INBOXES")
    changed["streams"].remove(inboxes)
    names = [f"AGENT_INBOXES_{number}" for number in range(shards)]
    subjects: dict[str, list[str]] = {name: [] for name in names}
    for row in changed["consumers"]:
        if row["stream"] == "AGENT_INBOXES":
            name = names[int(row["role"].rpartition("-")[2]) % shards]
            row["stream"] = name
            subjects[name].append(row["config"]["filter_subject"])
    for name in names:
        config = {**inboxes["config"], "name": name, "subjects": subjects[name]}
        changed["streams"].append({**inboxes, "stream": name, "config": config})
    return changed


def _dead_letters(place: Workplace, shown: Any, roles: int) -> Iterator[Measurement]:
    """Yield what making the stream costs and one role more, before and after everything else is there."""
    requests = creates(shown)
    (letters,) = (each for each in requests if each.subject.endswith(".DEAD_LETTERS"))
    others = [each for each in requests if each is not letters]
    config = {**json.loads(letters.body), "description": "changed"}
    update = Request("$JS.API.STREAM.UPDATE.DEAD_LETTERS", json.dumps(config).encode())
    yield "size of its configuration", "MB", len(letters.body) / 1e6
    with place.server(_LARGE) as server, Wire(server.url) as wire:
        yield "create everything else", "s", _seconds(wire, others)
        yield "create the stream", "s", _seconds(wire, [letters])
        yield "update the stream", "s", _seconds(wire, [update])
        yield from _living(server, roles)
    with place.server(_LARGE) as server, Wire(server.url) as wire:
        yield "create the stream first, then everything else", "s", _seconds(wire, [letters, *others])


def _inboxes(place: Workplace, shown: Any, roles: int) -> Iterator[Measurement]:
    """Yield what making the streams and their readers costs, and a message to one of them."""
    requests = creates(shown)
    inboxes = [each for each in requests if ".AGENT_INBOXES" in each.subject]
    others = [each for each in requests if ".AGENT_INBOXES" not in each.subject]
    with place.server(_LARGE) as server, Wire(server.url) as wire:
        yield "create everything else", "s", _seconds(wire, others)
        yield "create the inboxes", "s", _seconds(wire, inboxes)
        yield from _living(server, roles)


def _living(server: EmbeddedServer, roles: int) -> Iterator[Measurement]:
    yield "memory of the server", "MB", resident([server]) / 1e6
    for what, (median, slowest) in latencies(server.url, roles).items():
        yield f"{what}: median", "ms", median
        yield f"{what}: p99", "ms", slowest
    yield "restart", "s", restarted([server])


def _named(design: str, measurements: Iterator[Measurement]) -> Iterator[Measurement]:
    return ((f"{design}: {what}", unit, value) for what, unit, value in measurements)


def _seconds(wire: Wire, requests: Sequence[Request]) -> float:
    start = time.perf_counter()
    wire.exchange(requests, CREATES_IN_FLIGHT)
    return time.perf_counter() - start


def _config(shown: Any, stream: str) -> Any:
    (row,) = (row for row in shown["streams"] if row["stream"] == stream)
    return row["config"]
