"""What is left of a message that its agent terminates: nothing on a workqueue, and the tool says so; and what keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.agents import fetch, nothing_comes, publish, term, until
from tests.support.cli import Cli, CommandResult, assert_fits
from tests.support.scenario import Scenario, stream

ORG = "org: acme\nroles: [cto]\n"
FORGETFUL = ("workqueue", "interest")
TASKS, WORKER, TASK = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker", "acme.agents.cto.tasks"

Dlq = Callable[..., CommandResult]


def retaining(retention: str) -> str:
    return f"{ORG}streams: {{tasks: {{retention: {retention}}}}}\n"


@pytest.fixture
def scenario(any_server: EmbeddedServer, project: Path) -> Iterator[Scenario]:
    """Yield its manifest is the one in the working directory."""
    with Scenario(any_server.url, project) as opened:
        yield opened


@pytest.fixture
def dlq(scenario: Scenario, cli: Cli) -> Dlq:
    return lambda *words: cli("dlq", *words, "--server", scenario.url)


def letters(scenario: Scenario) -> int:
    found: int = scenario.info("DEAD_LETTERS")["state"]["messages"]
    return found


@pytest.mark.parametrize("retention", ["limits", *FORGETFUL])
def test_what_an_agent_terminates_is_gone_unless_its_stream_keeps_what_is_finished_and_dlq_says_why(
    scenario: Scenario, dlq: Dlq, retention: str
) -> None:
    scenario.converge(retaining(retention))
    publish(scenario.api, TASK, b'{"task_id": "t1"}')
    term(scenario.api, WORKER, "no such repository")
    until(lambda: letters(scenario) == 1)
    gone = retention in FORGETFUL
    assert scenario.info(TASKS)["state"]["messages"] == (0 if gone else 1)
    why = f"an agent terminated it, and {TASKS} deletes what is terminated"
    assert (why in dlq("show", "1").out) == gone
    kept = dlq("keep")
    assert kept.code == 0
    assert (f"No message is left of 1: {why}." in kept.out) == gone
    data = dlq("keep", "--format", "json").json
    assert_fits("dead-letters-handled", data)
    assert data["lost"] == ([{"number": 1, "why": why}] if gone else [])
    if gone:
        replayed = dlq("replay", "1")
        assert replayed.code == 1
        assert why in replayed.err
        assert "dlq keep` in time" not in replayed.err


def test_what_limits_took_is_not_said_to_be_terminated(scenario: Scenario, dlq: Dlq) -> None:
    """Also of a workqueue, and also what was terminated, where the stream keeps that."""
    scenario.converge(retaining("limits"))
    publish(scenario.api, TASK)
    term(scenario.api, WORKER)
    until(lambda: letters(scenario) == 1)
    scenario.ask(f"STREAM.PURGE.{TASKS}")
    assert "its stream has dropped it by its limits, or somebody has deleted it" in dlq("keep").out


@pytest.mark.parametrize("retention", FORGETFUL)
def test_a_plan_tells_what_a_change_of_retention_does_to_what_is_terminated(
    scenario: Scenario, retention: str
) -> None:
    scenario.converge(ORG)
    told = f"what an agent terminates is deleted from {TASKS} from then on"
    assert [note for note in scenario.plan(scenario.request(retaining(retention))).notes if told in note]
    scenario.converge(retaining(retention))
    assert not [note for note in scenario.plan(scenario.request(retaining(retention))).notes if told in note]


def test_what_an_agent_hands_in_before_it_acknowledges_is_kept_whole_and_replayed(
    scenario: Scenario, dlq: Dlq
) -> None:
    scenario.converge(retaining("workqueue"))
    publish(scenario.api, TASK, b'{"task_id": "t1"}')
    message = fetch(scenario.api, WORKER)
    headers = {"Cyborg-Infra-Subject": message.subject, "Cyborg-Infra-Reason": "no such repository"}
    assert "seq" in scenario.api.ask("acme.org.deadletter", message.data, headers=headers).json
    scenario.api.ask(message.reply, b"+ACK")
    (letter,) = dlq("list", "--format", "json").json["dead_letters"]
    told = ("type", "reason", "original", "task_id")
    assert [letter[name] for name in told] == ["given_up", "no such repository", "kept", "t1"]
    assert dlq("replay", "1").code == 0
    assert fetch(scenario.api, WORKER).data == b'{"task_id": "t1"}'


def test_a_stream_of_ones_own_keeps_what_tasks_republish(scenario: Scenario) -> None:
    """A copy of every task, with the stream and the number that the dead letter names."""
    stream("COPIES", "acme.copies.*")(scenario)
    scenario.converge(
        f"{ORG}streams:\n  tasks:\n    retention: workqueue\n"
        "    republish: {src: 'acme.agents.*.tasks', dest: 'acme.copies.{{wildcard(1)}}'}\n"
    )
    number = publish(scenario.api, TASK, b'{"task_id": "t1"}')
    term(scenario.api, WORKER)
    until(lambda: letters(scenario) == 1)
    assert nothing_comes(scenario.api, WORKER)
    until(lambda: scenario.info("COPIES")["state"]["messages"] == 1)
    body: Any = {"batch": 1, "expires": 10_000_000_000}
    scenario.ask("CONSUMER.CREATE.COPIES.reader", {"stream_name": "COPIES", "config": {"name": "reader"}})
    inbox = scenario.api.subscribe("_INBOX.copies")
    scenario.api.publish(
        "$JS.API.CONSUMER.MSG.NEXT.COPIES.reader", json.dumps(body).encode(), reply=inbox.subject
    )
    copy = inbox.next()
    assert copy.data == b'{"task_id": "t1"}'
    assert {f"Nats-Stream: {TASKS}", f"Nats-Sequence: {number}"} <= set(copy.headers.splitlines())
