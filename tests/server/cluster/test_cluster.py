"""A cluster of three: replicas converge, one loss is survived, and what cannot be read is never taken for absent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import Action
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.problems import CyborgError, SnapshotIncomplete
from cyborg_infra.model.resources import LiveState
from cyborg_infra.operations import provision
from tests.support.cluster import lead_by_another, running_cluster
from tests.support.faults import Faults
from tests.support.lost_replies import LostReply
from tests.support.scenario import Scenario, published

EXAMPLE = (Path(__file__).parents[3] / "org.yaml").read_text(encoding="utf-8")
REPLICATED = EXAMPLE + "environments: {production: {defaults: {replicas: 3}}}\n"
MORE = REPLICATED.replace("\ngroups:", "  sales: {reports_to: ceo}\n\ngroups:", 1)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[EmbeddedServer]]:
    with running_cluster(tmp_path / "cluster") as running:
        yield running


@pytest.fixture
def scenario(servers: list[EmbeddedServer], tmp_path: Path) -> Iterator[Scenario]:
    """Yield what is said and asked goes to the first server."""
    with Scenario(servers[0].url, tmp_path) as opened:
        yield opened


def test_an_organisation_with_three_replicas_converges_and_survives_the_loss_of_one_server(
    scenario: Scenario, servers: list[EmbeddedServer]
) -> None:
    scenario.converge(REPLICATED, "production")
    assert not scenario.plan(scenario.request(REPLICATED, "production"))
    assert [scenario.config(ref)["num_replicas"] for ref in ("AGENT_CTO_TASKS", "DEAD_LETTERS")] == [3, 3]
    servers[2].kill()
    assert not scenario.plan(scenario.request(REPLICATED, "production"))
    scenario.converge(MORE, "production")
    assert not scenario.plan(scenario.request(MORE, "production"))


def test_without_a_quorum_there_is_an_error_and_no_plan(
    scenario: Scenario, servers: list[EmbeddedServer]
) -> None:
    small = "org: acme\nroles: [cto]\ndefaults: {replicas: 3}\n"
    scenario.converge(small)
    plan = scenario.plan(scenario.request(small.replace("cto", "cto, cso")))
    for server in servers[1:]:
        server.kill()
    with pytest.raises(CyborgError) as failure:
        scenario.plan(scenario.request(small))
    assert {problem.code for problem in failure.value.problems} <= {
        "no-reply",
        "no-leader",
        "api-error",
        "missing",
    }
    with pytest.raises(CyborgError):
        assert [
            outcome
            for outcome in scenario.apply(scenario.request(small), plan)
            if outcome.status is ResultStatus.SUCCEEDED
        ]


def test_a_stream_whose_only_server_was_killed_is_not_planned_to_be_created(
    scenario: Scenario, servers: list[EmbeddedServer]
) -> None:
    small = "org: acme\nroles: [cto]\nstreams: {tasks: {placement: {tags: [n2]}}}\n"
    scenario.converge(small)
    assert scenario.info("AGENT_CTO_TASKS")["cluster"]["leader"] == "n2"
    lead_by_another(servers, "n2")
    servers[2].kill()
    with pytest.raises(SnapshotIncomplete, match="AGENT_CTO_TASKS could not be read"):
        scenario.plan(scenario.request(small))


MIRRORED = (
    "org: acme\nroles: [ops, {name: cto, tasks: {mirror: {name: AGENT_OPS_TASKS}, duplicate_window: 1m}}]\n"
)


def test_a_mirror_has_no_duplicate_window_whatever_it_is_told(scenario: Scenario) -> None:
    """A cluster answers OK and drops it; so does a single server at its next start (2.10.26 to 2.15.1)."""
    scenario.converge(MIRRORED)
    assert not scenario.config("AGENT_CTO_TASKS").get("duplicate_window")
    assert not scenario.plan(scenario.request(MIRRORED))


def test_a_copy_is_created_once_where_the_answer_is_lost(scenario: Scenario, faults: Faults) -> None:
    """With a duplicate_window it is not recognised, and a second creation is refused (10058): no apply gets through."""
    stored = "org: acme\nroles: [cto]\ndefaults: {replicas: 3}\nstreams: {tasks: {storage: %s}}\n"
    scenario.converge(stored % "file")
    published("acme.agents.cto.tasks", 20)(scenario)
    silence = LostReply(faults, "STREAM.CREATE.", executed=True)
    scenario.converge(stored % "memory")
    assert len(silence.lost) == 3  # of the one that is tried, of the temporary one, and of the new one
    assert scenario.info("AGENT_CTO_TASKS")["state"]["messages"] == 20


@pytest.mark.parametrize("after", ["storage: memory", "retention: workqueue"])
def test_a_message_sent_again_after_a_replace_is_stored_once(scenario: Scenario, after: str) -> None:
    """Though a cluster keeps no ids of what a mirror copies. Nothing of how they are told is left."""
    manifest = "org: acme\nroles: [cto]\ndefaults: {replicas: 3}\nstreams: {tasks: {%s}}\n"
    scenario.converge(manifest % "storage: file")
    names = [f"task-{number}" for number in range(150)]
    first = [sent(scenario, name) for name in names]
    assert not any(answer.get("duplicate") for answer in first)
    scenario.converge(manifest % after)
    again = [sent(scenario, name) for name in names]
    assert all(answer["duplicate"] for answer in again)
    assert not sent(scenario, "another").get("duplicate")
    subjects = scenario.ask("STREAM.INFO.AGENT_CTO_TASKS", {"subjects_filter": ">"})["state"]["subjects"]
    assert subjects == {"acme.agents.cto.tasks": len(names) + 1}
    assert scenario.config("AGENT_CTO_TASKS")["subjects"] == ["acme.agents.cto.tasks"]


def sent(scenario: Scenario, name: str) -> dict[str, Any]:
    """Return the server's answer to a task with this id."""
    reply = scenario.api.ask("acme.agents.cto.tasks", name.encode(), headers={"Nats-Msg-Id": name})
    answer: dict[str, Any] = reply.json
    return answer


def test_a_task_document_is_read_as_it_was_written_also_after_an_update_of_a_bucket_from_before(
    scenario: Scenario, servers: list[EmbeddedServer]
) -> None:
    """With allow_direct one read in six was stale here. Other writers keep the copies busy; nobody waits for anything."""
    manifest = "org: acme\nroles: [cto]\ndefaults: {replicas: 3}\ntask_state: true\n"
    scenario.converge(f"{manifest}key_value: {{acme-tasks: {{allow_direct: true}}}}\n")
    plan = scenario.plan(scenario.request(manifest))
    (change,) = plan.changes
    assert (change.action, change.fields[0].field) == (Action.UPDATE, "allow_direct")
    assert sum("KV_acme-tasks: who has this bucket open" in note for note in plan.notes) == 1
    scenario.converge(manifest)
    assert asyncio.run(stale_reads([server.url for server in servers])) == 0


async def stale_reads(urls: list[str]) -> int:
    """Return how many of 100 reads through each server are not of what was just written there."""
    stale = 0
    for url in urls:
        connection = await nats.connect(url)
        documents = await connection.jetstream().key_value("acme-tasks")
        for number in range(100):
            for other in range(20):
                await connection.publish(f"$KV.acme-tasks.other.{other}", bytes(2000))
            revision = await documents.put("T-17", str(number).encode())
            stale += (await documents.get("T-17")).revision != revision
        await connection.close()
    return stale


@pytest.mark.parametrize("times", [1, 9])
def test_what_a_server_has_not_heard_of_is_read_again_before_it_has_failed(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, faults: Faults, times: int
) -> None:
    """Once it is heard of, it holds; what stays away has failed."""
    wish = scenario.request("org: acme\nroles: [cto]\n")
    plan, states = scenario.plan(wish), list[LiveState]()
    original = JetStream.snapshot

    async def snapshot(server: JetStream, *arguments: Any) -> LiveState:
        states.append(await original(server, *arguments))
        return states[0] if len(states) <= 1 + times else states[-1]  # the first is from before all writes

    monkeypatch.setattr(JetStream, "snapshot", snapshot)
    faults.waits(REREAD_BACKOFF_SECONDS=(0.1, 0.1))
    outcomes = provision.apply(provision.ApplyRequest(plan), scenario.target)
    assert {outcome.status for outcome in outcomes} == {
        ResultStatus.SUCCEEDED if times == 1 else ResultStatus.FAILED
    }
