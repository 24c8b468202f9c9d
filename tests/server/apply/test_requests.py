"""What applies send, captured on the wire and held against the field table: a server of any version understands every word."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.fields import FIELDS, Config, Kind, Unit
from cyborg_infra.model.server_versions import Version
from tests.support.acceptance_cases import ORG, ROWS, Row
from tests.support.scenario import EVERY_HAZARD, READS, Request, Scenario
from tests.support.servers import NEWEST, OLDEST, VERSIONS, StartServer

TYPES: Mapping[Unit, type] = {
    Unit.SIZE: int,
    Unit.DURATION: int,
    Unit.COUNT: int,
    Unit.FLAG: bool,
    Unit.TEXT: str,
    Unit.CHOICE: str,
    Unit.SUBJECT: str,
    Unit.TIME: str,
    Unit.DURATIONS: list,
    Unit.SUBJECTS: list,
    Unit.NAMES: list,
    Unit.OBJECT: dict,
    Unit.OBJECTS: list,
    Unit.METADATA: dict,
}
ITEMS: Mapping[Unit, type] = {
    Unit.DURATIONS: int,
    Unit.SUBJECTS: str,
    Unit.NAMES: str,
    Unit.OBJECTS: dict,
}
TRANSFORM = {"src": Unit.SUBJECT, "dest": Unit.TEXT}
IDENTITY = {"name", "durable_name"}
VERBS = ("STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "CONSUMER.CREATE", "CONSUMER.DELETE")
# What carries a position or messages over a replace, and the first API level and body of each.
CARRYING: Mapping[str, tuple[int, Mapping[str, type]]] = {
    "CONSUMER.PAUSE": (1, {"pause_until": str}),
    "CONSUMER.RESET": (4, {"seq": int}),
    "STREAM.PURGE": (0, {"seq": int, "filter": str}),
}


def complaints(request: Request, level: int, held: Mapping[str, Config]) -> Iterator[str]:
    """Yield what is wrong with a write, on a server of this API level that held these configurations before."""
    verb, stream, *rest = _split(request.verb)
    if verb in CARRYING:
        since, body = CARRYING[verb]
        if level < since or any(type(value) is not body.get(key) for key, value in request.body.items()):
            yield f"{verb} {request.body} means nothing to this server"
        return
    if verb not in VERBS:
        yield f"{request.verb} is no way to write"
    if verb.endswith("DELETE"):
        if request.body is not None:
            yield "a deletion says nothing"
        return
    if verb == "CONSUMER.CREATE":
        ref, config = "/".join((stream, *rest)), request.body["config"]
        if request.body["stream_name"] != stream or set(request.body) != {"stream_name", "config", "action"}:
            yield "the envelope is not what it should be"
        if {"create", "update"}.isdisjoint({request.body["action"]}):
            yield f"the action {request.body['action']!r} would do either"
        if config["durable_name"] != rest[0]:
            yield "the subject and durable_name differ"
        yield from _of_config(Kind.CONSUMER, ref, config, level, held.get(ref, {}))
    else:
        yield from _of_config(Kind.STREAM, stream, request.body, level, held.get(stream, {}))


def _split(verb: str) -> list[str]:
    what, action, *names = verb.split(".")
    return [f"{what}.{action}", *names]


def _of_config(kind: Kind, ref: str, config: Config, level: int, held: Config) -> Iterator[str]:
    if config["name"] != ref.rpartition("/")[2]:
        yield "the subject and the name differ"
    known = {field.name: field for field in FIELDS[kind].values() if field.since <= level}
    paused = {"pause_until"} if kind is Kind.CONSUMER and level >= 1 else set()
    for name in config.keys() - known.keys() - IDENTITY - paused - held.keys():
        yield f"{name} is newer than the server"
    for name in config.keys() & known.keys():
        yield from _of_value(name, known[name].unit, config[name], known[name].parts or {})
    yield from (f"{key} is the server's" for key in config["metadata"] if key.startswith("_nats."))


def _of_value(name: str, unit: Unit, value: Any, parts: Mapping[str, Unit]) -> Iterator[str]:
    kind: type = type(value)  # exactly: a bool is no int here, nor is a float
    if kind is not TYPES[unit]:
        yield f"{name} is {value!r}, and should be of type {TYPES[unit].__name__}"
        return
    if unit in ITEMS:
        yield from (f"{name} holds {item!r}" for item in value if type(item) is not ITEMS[unit])
    for item in _objects(unit, value):
        for part, inner in item.items():
            yield from _of_value(f"{name}.{part}", parts.get(part, Unit.TEXT), inner, TRANSFORM)


def _objects(unit: Unit, value: Any) -> list[dict[str, Any]]:
    if unit is Unit.OBJECT:
        return [value]
    return list(value) if unit is Unit.OBJECTS else []


def assert_updates_are_of_what_is_there(writes: Sequence[Request], there: set[str]) -> None:
    """Write by write, in their order: a consumer is created where there is none, and updated where there is one."""
    for request in writes:
        what, _, name = request.verb.partition(".")
        verb, _, ref = name.partition(".")
        ref = ref.replace(".", "/", 1) if what == "CONSUMER" else ref
        if (what, verb) == ("CONSUMER", "CREATE"):
            assert request.body["action"] == ("update" if ref in there else "create"), request.verb
        if verb in ("CREATE", "UPDATE"):
            there.add(ref)
        elif verb == "DELETE":
            there -= {found for found in there if found == ref or found.startswith(f"{ref}/")}


def assert_understood(scenario: Scenario, manifest: str, *, prune: bool = False) -> int:
    """Applies the manifest, looks at every write, and returns how many there were."""
    level = scenario.ask("INFO").get("api", {}).get("level", 0)
    held = {ref: info["config"] for ref, info in scenario.everything().items()}
    with scenario.requests() as made:
        scenario.apply(scenario.request(manifest, prune=prune), allow=EVERY_HAZARD)
    writes = [request for request in made if not request.verb.startswith(READS)]
    assert [
        (request.verb, complaint) for request in writes for complaint in complaints(request, level, held)
    ] == []
    assert_updates_are_of_what_is_there(writes, set(held))
    return sum(request.writes for request in writes)  # without what is tried beside it


APPLIED = [row for row in ROWS if row.plan and not row.problems and not row.targets and not row.env]


@pytest.mark.versions
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("part", range(4))
def test_every_write_is_understood_by_the_server_it_goes_to(
    part: int, version: str, start_server: StartServer, tmp_path: Path
) -> None:
    counted = 0
    for row in APPLIED[part::8]:
        if not _runs_on(row, version):
            continue
        server = start_server(version=version, config=row.config)
        with Scenario(server.url, tmp_path) as scene:
            for step in row.before:
                step(scene)
            counted += assert_understood(scene, row.manifest, prune=row.prune)
        server.kill()
    assert counted > 10


def _runs_on(row: Row, version: str) -> bool:
    """Rows of the newest version alone need what came with it; those of the oldest alone are about its limits."""
    if version in (NEWEST, OLDEST):
        return version in row.versions
    return len(row.versions) > 1 or (row.versions == [NEWEST] and Version.parse(version) >= (2, 14, 6))


@pytest.mark.versions
def test_a_change_of_one_thing_is_one_write(any_server: EmbeddedServer, tmp_path: Path) -> None:
    with Scenario(any_server.url, tmp_path) as scene:
        assert assert_understood(scene, ORG) == 8
        assert assert_understood(scene, ORG + "streams: {tasks: {max_age: 80h}}\n") == 1
        assert assert_understood(scene, ORG + "streams: {tasks: {max_age: 80h}}\n") == 0
        assert assert_understood(scene, ORG + "consumers: {worker: {ack_wait: 40m}}\n") == 2


@pytest.mark.parametrize("seed", range(2))
def test_every_write_of_a_walk_over_random_manifests_is_understood(
    seed: int, any_server: EmbeddedServer, tmp_path: Path
) -> None:
    choice = random.Random(seed)  # noqa: S311 - nothing secret
    with Scenario(any_server.url, tmp_path) as scene:
        for _ in range(4):
            roles = choice.sample(["ceo", "cto", "dev", "ops"], choice.randint(1, 4))
            age, wait, storage = (
                choice.randint(1, 99),
                choice.randint(1, 99),
                choice.choice(["file", "memory"]),
            )
            manifest = (
                f"org: gen\nroles: [{', '.join(roles)}]\n"
                f"streams: {{tasks: {{max_age: {age}h, storage: {storage}}}}}\n"
                f"consumers: {{worker: {{ack_wait: {wait}m}}}}\n"
            )
            assert_understood(scene, manifest, prune=True)
