"""What is promised of messages holds with three replicas as well: what verify tries, and that nothing refused counts as stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import TASK, fetch, give_back, nothing_comes, publish, until
from cluster import running_cluster
from command import Cli
from scene import Scene
from servers import VERSIONS

CHECKS = (
    "task-reaches-worker-once",
    "failures-become-a-dead-letter",
    "same-id-is-one-task",
    "back-pressure-refuses",
    "broadcast-reaches-every-role",
    "status-wildcard-sees-every-role",
    "event-reaches-subscribers",
)
MANIFEST = """
org: acme
roles: [cto, cso]
defaults: {replicas: 3}
events: {a.stored: {durable: true, subscribers: [cso]}}
streams: {tasks: {admission: {max_pending: 1}}}
"""
SUBJECT, WORKER = "acme.agents.cto.tasks", "AGENT_CTO_TASKS/cto-worker"


@pytest.fixture(scope="module", params=VERSIONS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of each version, shared by the tests here."""
    with running_cluster(tmp_path_factory.mktemp("messages"), str(request.param)) as servers:
        yield servers[0].url


@pytest.fixture
def scene(url: str, project: Path) -> Iterator[Scene]:
    """Empty again afterwards; its manifest is the one in the working directory."""
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    with Scene(url, project) as opened:
        yield opened
        for name in opened.ask("STREAM.NAMES")["streams"] or ():
            opened.ask(f"STREAM.DELETE.{name}")


def test_verify_passes_and_leaves_nothing(scene: Scene, cli: Cli) -> None:
    words = (word for name in CHECKS for word in ("--check", name))
    ended = cli("verify", *words, "--server", scene.url)
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "7 checks passed."), ended.out
    assert scene.refs() == []


def test_what_a_full_role_refused_is_never_said_to_be_stored(scene: Scene, cli: Cli, project: Path) -> None:
    """Before 2.12 a stream with replicas remembers the id of what it refused, and calls it a duplicate."""
    scene.converge(MANIFEST)
    publish(scene.api, SUBJECT, b"hopeless")
    give_back(scene.api, WORKER, times=3)
    assert nothing_comes(scene.api, WORKER)
    until(lambda: scene.info("DEAD_LETTERS")["state"]["messages"] == 1)
    server = ("--server", scene.url)
    assert cli("dlq", "keep", *server).code == 0
    publish(scene.api, SUBJECT, b"in the way")
    (project / "task.json").write_text(json.dumps(TASK), encoding="utf-8")
    sends = ("send", "task", "cto", "task.json", *server)
    assert (cli("dlq", "replay", "--all", *server).code, cli(*sends).code) == (3, 3)
    again = cli("dlq", "replay", "--all", *server, "--format", "json"), cli(*sends)
    assert ["Sent" in again[1].out, again[1].code != 0] == [False, True]
    told = again[0].json["results"][0]["problem"]["code"]
    assert again[0].code == (3 if told == "over-limit" else 1)
    assert len(cli("dlq", "list", *server, "--format", "json").json["dead_letters"]) == 1
    assert fetch(scene.api, WORKER).data == b"in the way"
