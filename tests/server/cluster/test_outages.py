"""One server of three is down: what is not the organisation's stops nothing, and what is, is told by name and soon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import Action
from cyborg_infra.model.problems import Problem, SnapshotIncomplete
from tests.support.cli import Cli
from tests.support.cluster import lead_by_another, running_cluster
from tests.support.faults import Faults
from tests.support.scenario import Scenario, consumer, deleted, stream
from tests.support.servers import VERSIONS

HEALTHY = "org: acme\nroles: [cto]\ndefaults: {replicas: 3}\n"
MORE = HEALTHY.replace("cto", "cto, cso")
CHANGED = HEALTHY + "streams: {tasks: {max_age: 96h}}\n"
OTHERS = "org: beta\nroles: [cto]\nnaming: {stream_prefix: B_}\ndefaults: {placement: {tags: [n2]}}\n"
ON_N2 = {"placement": {"tags": ["n2"]}}


@pytest.fixture(params=VERSIONS)
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[EmbeddedServer]]:
    with running_cluster(tmp_path / "cluster", str(request.param)) as running:
        yield running


@pytest.fixture
def scenario(servers: list[EmbeddedServer], tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(servers[0].url, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_foreign_resources_on_a_server_that_is_down_stop_no_plan(
    scenario: Scenario, servers: list[EmbeddedServer], how: str, cli: Cli, faults: Faults
) -> None:
    """A server that was killed is not known to be down for minutes, and one that was stopped has said so."""
    scenario.converge(HEALTHY)
    scenario.converge(OTHERS)
    stream("FOREIGN", "foreign.>", **ON_N2)(scenario)
    _strange_consumer_on("n2", scenario)
    lead_by_another(servers, "n2")  # one who elects its leader meanwhile does not list in time
    servers[2].kill() if how == "killed" else servers[2].stop()

    plan = scenario.plan(scenario.request(MORE))
    # A bucket of the tool's own has three copies, and may be electing a leader at this moment: it is one of them then.
    assert re.search(
        r"^B_AGENT_CTO_TASKS, B_AGENT_INBOXES, B_DEAD_LETTERS and [345] more cannot be read",
        "\n".join(plan.notes),
        re.MULTILINE,
    ), plan.notes
    assert [change.action for change in plan.changes].count(Action.CREATE) == 4
    assert not plan.blocking_problems
    if how == "stopped":  # else every reading takes as long as a server waits for another one
        scenario.converge(CHANGED)
        assert not scenario.plan(scenario.request(CHANGED))

    names = ("B_AGENT_CTO_TASKS", "B_AGENT_INBOXES", "B_DEAD_LETTERS", "B_ORG_BROADCASTS")
    faults.waits(UNREACHABLE_SEARCH_SECONDS=5.0)  # the listing has waited for four of them
    with scenario.requests() as requests:
        problems = _problems(scenario, OTHERS)
    assert [problem.message.split(" could not be read: ")[0] for problem in problems] == [*names]
    assert all("`nats stream rm B_" in str(problem.hint) for problem in problems)
    looks = [request.verb for request in requests if request.verb.startswith("STREAM.INFO.")]
    assert len(names) <= len(looks) <= 3 * len(names)
    if how == "killed":
        return
    assert all("its only copy is on n2, which is down" in problem.message for problem in problems)
    # Under names that nobody has, they are known by their subjects.
    assert _problems(scenario, OTHERS.replace("B_", "C_")) == problems
    Path("beta.yaml").write_text(OTHERS, encoding="utf-8")
    login = ("--server", scenario.url)
    assert cli("drift", "beta.yaml", *login).code == 1
    ended = cli("status", "beta.yaml", "--check", *login)
    (alarm,) = [line for line in ended.out.splitlines() if line.startswith("no-leader")]
    assert (ended.code, "B_DEAD_LETTERS" in alarm, "its only copy is on n2" in alarm) == (2, True, True)


def _strange_consumer_on(name: str, scenario: Scenario) -> None:
    """Somebody has a consumer with one copy, on this server, of a stream of the organisation's."""
    for number in range(100):
        ref = f"ORG_BROADCASTS/strange{number}"
        consumer(ref, num_replicas=1)(scenario)
        if scenario.info(ref)["cluster"]["leader"] == name:
            return
        deleted(ref)(scenario)
    raise AssertionError(f"no consumer of 100 was put on {name}")


def _problems(scenario: Scenario, manifest: str) -> tuple[Problem, ...]:
    with pytest.raises(SnapshotIncomplete) as failure:
        scenario.plan(scenario.request(manifest))
    return failure.value.problems
