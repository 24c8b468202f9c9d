"""A cluster of three: replicas converge, one loss is survived, and what cannot be read is never taken for absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import running_cluster
from scene import Scene

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.plan import Done
from cyborg_infra.model.problems import CyborgError, SnapshotIncomplete

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
