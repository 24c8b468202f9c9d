"""A copy that cannot become current holds up nothing that does without it, and is told as it is: accepted, and not so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.execute import change
from tests.support.agents import until
from tests.support.cluster import lead_by_another, peer_removed, running_cluster
from tests.support.faults import Faults
from tests.support.scenario import Scenario, changed, published
from tests.support.servers import OLDEST, VERSIONS, StartServer

STREAMS = ("AGENT_CTO_TASKS", "AGENT_INBOXES", "DEAD_LETTERS", "ORG_BROADCASTS")
GONE = "n2"


@pytest.fixture(scope="module", params=VERSIONS)
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[EmbeddedServer]]:
    """Yield a cluster of each version; the tests here go from a server that is down to one that is removed."""
    with running_cluster(tmp_path_factory.mktemp("lost"), str(request.param)) as started:
        yield started


@pytest.fixture
def scenario(servers: list[EmbeddedServer], tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(servers[0].url, tmp_path) as opened:
        yield opened


def manifest(name: str, number: int, home: str = "") -> str:
    where = f", placement: {{tags: [{home}]}}" if home else ""
    defaults = f"defaults: {{replicas: {number}{where}}}"
    return f"org: {name}\nroles: [cto]\nnaming: {{stream_prefix: {name}_}}\n{defaults}\n"


def copies(scenario: Scenario, name: str) -> list[dict[str, Any]]:
    """Return the other copies of the organisation's streams, once all have a leader that answers."""
    found: list[dict[str, Any]] = []
    for stream in STREAMS:
        with suppress(Empty):
            answer = scenario.api.request(f"$JS.API.STREAM.INFO.{name}_{stream}", timeout=1)
            if (answer.get("cluster") or {}).get("leader"):
                found += answer["cluster"].get("replicas") or ()
                continue
        return []
    return found


def is_noticed(scenario: Scenario, name: str) -> bool:
    """Return every leader has found out that the server is gone."""
    gone = [one for one in copies(scenario, name) if one["name"] == GONE]
    return len(gone) == len(STREAMS) and not any(one.get("current") for one in gone)


async def never(*_: object) -> None:
    raise AssertionError("nothing has to be waited for first")


def test_a_replica_that_cannot_become_current_does_not_hold_up_an_apply_and_is_reported(
    servers: list[EmbeddedServer], scenario: Scenario, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    """One story, as a server takes 10 s to be noticed: it is down, and is removed for good."""
    for name, number, home in ("sinks", 3, ""), ("grows", 1, "n0"), ("stays", 3, ""):
        scenario.converge(manifest(name, number, home))
        published(f"{name}.agents.cto.tasks", 3)(scenario)
    scenario.converge(manifest("grows", 1))  # it stays where it is
    until(lambda: all(one.get("current") for one in copies(scenario, "sinks")))
    lead_by_another(servers, GONE)
    servers[2].kill()
    until(lambda: is_noticed(scenario, "sinks") and is_noticed(scenario, "stays"))

    with monkeypatch.context() as patched, faults.context() as shorter:
        shorter.waits(HOPELESS_TIMEOUT_SECONDS=2.0)
        grown = scenario.apply(scenario.request(manifest("grows", 3)))
        patched.setattr(change, "wait_until_idle", never)
        # The change is the cure, where the server lets it.
        sunk = scenario.apply(scenario.request(manifest("sinks", 1)))
    assert any(each.problem for each in grown)
    for problem in (each.problem for each in [*grown, *sunk] if each.problem):
        if "err_code 10005" in problem.message:
            continue  # a server that knows as much itself does not accept it
        assert problem.code == "not-settled"
        assert "has accepted the change, and it is not carried out" in problem.message
        assert f"nothing was heard of {GONE}" in problem.message
    assert {scenario.config(str(each.change.ref))["num_replicas"] for each in sunk if each.problem} <= {1}

    peer_removed(servers, GONE)
    until(lambda: bool(others := copies(scenario, "stays")) and all(one["name"] != GONE for one in others))
    with monkeypatch.context() as patched:
        patched.setattr(change, "wait_until_idle", never)
        for name in "sinks", "stays":
            scenario.converge(manifest(name, 1))
            assert scenario.info(f"{name}_AGENT_CTO_TASKS")["state"]["messages"] == 3
    assert copies(scenario, "stays") == []
    until(lambda: copies(scenario, "sinks") == [])  # what was accepted has been carried out, as it was told


def test_a_single_server_that_took_three_copies_takes_one_again(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Before 2.14 an update to three is accepted there, and none of them ever comes."""
    text = "org: acme\nroles: [cto]\n"
    with Scenario(start_server(version=OLDEST).url, tmp_path) as alone:
        alone.converge(text)
        changed("AGENT_CTO_TASKS", num_replicas=3)(alone)
        assert [str(change.ref) for change in alone.plan(alone.request(text)).changes] == ["AGENT_CTO_TASKS"]
        alone.converge(text)
        assert alone.config("AGENT_CTO_TASKS")["num_replicas"] == 1
