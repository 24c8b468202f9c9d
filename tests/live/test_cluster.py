"""A cluster of three: replicas converge, one loss is survived, and what cannot be read is never taken for absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import running_cluster
from scene import Scene, published
from silence import Silence

from cyborg_infra import pipeline
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.plan import Done
from cyborg_infra.model.problems import CyborgError, SnapshotIncomplete
from cyborg_infra.model.state import State

EXAMPLE = (Path(__file__).parents[2] / "org.yaml").read_text(encoding="utf-8")
REPLICATED = EXAMPLE + "environments: {production: {defaults: {replicas: 3}}}\n"
MORE = REPLICATED.replace("devops]", "devops, sales]", 1)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[EmbeddedServer]]:
    with running_cluster(tmp_path / "cluster") as running:
        yield running


@pytest.fixture
def scene(servers: list[EmbeddedServer], tmp_path: Path) -> Iterator[Scene]:
    """What is said and asked goes to the first server."""
    with Scene(servers[0].url, tmp_path) as opened:
        yield opened


def test_an_organisation_with_three_replicas_converges_and_survives_the_loss_of_one_server(
    scene: Scene, servers: list[EmbeddedServer]
) -> None:
    scene.converge(REPLICATED, "production")
    assert not scene.plan(scene.wish(REPLICATED, "production"))
    assert [scene.config(ref)["num_replicas"] for ref in ("AGENT_CTO_TASKS", "DEAD_LETTERS")] == [3, 3]
    servers[2].kill()
    assert not scene.plan(scene.wish(REPLICATED, "production"))
    scene.converge(MORE, "production")
    assert not scene.plan(scene.wish(MORE, "production"))


def test_without_a_quorum_there_is_an_error_and_no_plan(scene: Scene, servers: list[EmbeddedServer]) -> None:
    small = "org: acme\nroles: [cto]\ndefaults: {replicas: 3}\n"
    scene.converge(small)
    plan = scene.plan(scene.wish(small.replace("cto", "cto, cso")))
    for server in servers[1:]:
        server.kill()
    with pytest.raises(CyborgError) as failure:
        scene.plan(scene.wish(small))
    assert {problem.code for problem in failure.value.problems} <= {"no-reply", "api-error", "missing"}
    with pytest.raises(CyborgError):
        assert [outcome for outcome in scene.apply(scene.wish(small), plan) if outcome.done is Done.DONE]


def test_a_stream_whose_only_server_was_killed_is_not_planned_to_be_created(
    scene: Scene, servers: list[EmbeddedServer]
) -> None:
    small = "org: acme\nroles: [cto]\nstreams: {tasks: {placement: {tags: [n2]}}}\n"
    scene.converge(small)
    assert scene.info("AGENT_CTO_TASKS")["cluster"]["leader"] == "n2"
    servers[2].kill()
    with pytest.raises(SnapshotIncomplete, match="AGENT_CTO_TASKS could not be read"):
        scene.plan(scene.wish(small))


MIRRORED = (
    "org: acme\nroles: [ops, {name: cto, tasks: {mirror: {name: AGENT_OPS_TASKS}, duplicate_window: 1m}}]\n"
)


def test_a_mirror_has_no_duplicate_window_whatever_it_is_told(scene: Scene) -> None:
    """A cluster answers OK and drops it; so does a single server at its next start (2.10.26 to 2.15.1)."""
    scene.converge(MIRRORED)
    assert not scene.config("AGENT_CTO_TASKS").get("duplicate_window")
    assert not scene.plan(scene.wish(MIRRORED))


def test_a_copy_is_created_once_where_the_answer_is_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a duplicate_window it is not recognised, and a second creation is refused (10058): no apply gets through."""
    stored = "org: acme\nroles: [cto]\ndefaults: {replicas: 3}\nstreams: {tasks: {storage: %s}}\n"
    scene.converge(stored % "file")
    published("acme.agents.cto.tasks", 20)(scene)
    silence = Silence(monkeypatch, "STREAM.CREATE.", executed=True)
    scene.converge(stored % "memory")
    assert len(silence.lost) == 2  # of the temporary one, and of the new one
    assert scene.info("AGENT_CTO_TASKS")["state"]["messages"] == 20


@pytest.mark.parametrize("after", ["storage: memory", "retention: workqueue"])
def test_a_message_sent_again_after_a_replace_is_stored_once(scene: Scene, after: str) -> None:
    """Though a cluster keeps no ids of what a mirror copies. Nothing of how they are told is left."""
    manifest = "org: acme\nroles: [cto]\ndefaults: {replicas: 3}\nstreams: {tasks: {%s}}\n"
    scene.converge(manifest % "storage: file")
    names = [f"task-{number}" for number in range(150)]
    first = [sent(scene, name) for name in names]
    assert not any(answer.get("duplicate") for answer in first)
    scene.converge(manifest % after)
    again = [sent(scene, name) for name in names]
    assert all(answer["duplicate"] for answer in again)
    assert not sent(scene, "another").get("duplicate")
    subjects = scene.ask("STREAM.INFO.AGENT_CTO_TASKS", {"subjects_filter": ">"})["state"]["subjects"]
    assert subjects == {"acme.agents.cto.tasks": len(names) + 1}
    assert scene.config("AGENT_CTO_TASKS")["subjects"] == ["acme.agents.cto.tasks"]


def sent(scene: Scene, name: str) -> dict[str, Any]:
    """The server's answer to a task with this id."""
    reply = scene.api.ask("acme.agents.cto.tasks", name.encode(), headers={"Nats-Msg-Id": name})
    answer: dict[str, Any] = reply.json
    return answer


@pytest.mark.parametrize("times", [1, 9])
def test_what_a_server_has_not_heard_of_is_read_again_before_it_has_failed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Once it is heard of, it holds; what stays away has failed."""
    wish = scene.wish("org: acme\nroles: [cto]\n")
    plan, states = scene.plan(wish), list[State]()
    original = JetStream.snapshot

    async def snapshot(server: JetStream, *arguments: Any) -> State:
        states.append(await original(server, *arguments))
        return states[0] if len(states) <= 1 + times else states[-1]  # the first is from before all writes

    monkeypatch.setattr(JetStream, "snapshot", snapshot)
    monkeypatch.setattr(pipeline, "_AGAIN", (0.1, 0.1))
    outcomes = pipeline.apply(plan, wish, scene.target)
    assert {outcome.done for outcome in outcomes} == {Done.DONE if times == 1 else Done.FAILED}
