"""What is promised of messages holds with three replicas as well: what verify tries, and that nothing refused counts as stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.migrate.test_dead_letter_handover import handing_in
from tests.server.migrate.test_dead_letter_order import entries
from tests.support.agents import TASK, fetch, nack, nothing_comes, publish, until
from tests.support.cli import Cli
from tests.support.cluster import running_cluster
from tests.support.scenario import Scenario
from tests.support.servers import VERSIONS

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
    """Yield a cluster of each version, shared by the tests here."""
    with running_cluster(tmp_path_factory.mktemp("messages"), str(request.param)) as servers:
        yield servers[0].url


@pytest.fixture
def scenario(url: str, project: Path) -> Iterator[Scenario]:
    """Empty again afterwards; its manifest is the one in the working directory."""
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    with Scenario(url, project) as opened:
        yield opened
        for name in opened.ask("STREAM.NAMES")["streams"] or ():
            opened.ask(f"STREAM.DELETE.{name}")


def test_verify_passes_and_leaves_nothing(scenario: Scenario, cli: Cli) -> None:
    words = (word for name in CHECKS for word in ("--check", name))
    ended = cli("verify", *words, "--server", scenario.url)
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "7 checks passed."), ended.out
    assert scenario.refs() == []


def test_what_is_handed_in_while_dead_letters_are_handed_over_is_there_once(scenario: Scenario) -> None:
    """Twice: into the temporary stream, and into the new one."""
    stored = "org: acme\nroles: [cto]\ndefaults: {replicas: 3}\nstreams: {dead_letters: {storage: %s}}\n"
    scenario.converge(stored % "file")
    with handing_in(scenario.url) as letters:
        until(lambda: len(letters) > 20)
        scenario.converge(stored % "memory")
        before = len(letters)
        until(lambda: len(letters) > before)
    held = Counter(entries(scenario))
    assert {letter: held[letter] for letter in letters if held[letter] != 1} == {}


def test_what_a_full_role_refused_is_never_said_to_be_stored(
    scenario: Scenario, cli: Cli, project: Path
) -> None:
    """Before 2.12 a stream with replicas remembers the id of what it refused, and calls it a duplicate."""
    scenario.converge(MANIFEST)
    publish(scenario.api, SUBJECT, b"hopeless")
    nack(scenario.api, WORKER, times=3)
    assert nothing_comes(scenario.api, WORKER)
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 1)
    server = ("--server", scenario.url)
    assert cli("dlq", "keep", *server).code == 0
    publish(scenario.api, SUBJECT, b"in the way")
    (project / "task.json").write_text(json.dumps(TASK), encoding="utf-8")
    sends = ("send", "task", "cto", "-f", "task.json", *server)
    assert (cli("dlq", "replay", "--all", "--yes", *server).code, cli(*sends).code) == (3, 3)
    again = cli("dlq", "replay", "--all", "--yes", *server, "--format", "json"), cli(*sends)
    assert ["Sent" in again[1].out, again[1].code != 0] == [False, True]
    told = again[0].json["results"][0]["problem"]["code"]
    assert again[0].code == (3 if told == "over-limit" else 1)
    assert len(cli("dlq", "list", *server, "--format", "json").json["dead_letters"]) == 1
    assert fetch(scenario.api, WORKER).data == b"in the way"
