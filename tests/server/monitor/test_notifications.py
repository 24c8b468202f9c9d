"""People are told of alarms and dead letters, on real servers, through a webhook that fails, hangs and answers late."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.agents import nack, nothing_comes, publish, until
from tests.support.monitor import RunningMonitor
from tests.support.scenario import Scenario
from tests.support.webhook import webhook

MANIFEST = """
org: acme
roles: [cto, cso]
consumers: {worker: {ack_wait: 30s}, dead_letter_alerts: {ack_wait: 2s}}
alerts: {lag: 2}
environments: {production: {}}
"""
WORKER, ALERTS = "AGENT_CTO_TASKS/cto-worker", "DEAD_LETTERS/dead-letter-alerts"


@pytest.fixture
def scenario(any_server: EmbeddedServer, project: Path) -> Iterator[Scenario]:
    """Yield its manifest is the one in the working directory."""
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    with Scenario(any_server.url, project) as opened:
        opened.converge(MANIFEST, "production")
        yield opened


def task(scenario: Scenario, name: str, role: str = "cto") -> None:
    publish(
        scenario.api,
        f"acme.agents.{role}.tasks",
        json.dumps({"task_id": name, "title": f"Do {name}"}).encode(),
    )


def test_a_dead_letter_and_an_alarm_are_told_with_whose_they_are_and_what_to_do(
    scenario: Scenario, project: Path
) -> None:
    with webhook() as hook:
        words = ("--env", "production", "--server", scenario.url)
        with RunningMonitor(*words, "--notify", f"oncall={hook.url}", cwd=project) as running:
            task(scenario, "t1")
            nack(scenario.api, WORKER, times=3)
            assert nothing_comes(scenario.api, WORKER)
            until(lambda: hook.taken)
            (letter,) = hook.taken
            assert letter.title == "acme (production): cto: dead letter 1: Do t1"
            *told, identity = letter.body.splitlines()
            assert told == [
                "role: cto",
                "task: t1",
                "title: Do t1",
                "reason: delivered as often as allowed, and never acknowledged, 3 deliveries",
                "message: AGENT_CTO_TASKS/1",
                "replay: cyborg-infra dlq replay 1 --env production",
                "show: cyborg-infra dlq show 1 --env production",
            ]
            assert identity == f"id: {letter.id}"
            until(lambda: scenario.info(ALERTS)["ack_floor"]["stream_seq"] == 1)
            for number in range(3):
                task(scenario, f"waits{number}")
            until(lambda: len(hook.taken) > 1)
            alarm = hook.taken[1]
            assert (alarm.title, alarm.kind) == ("acme (production): cto: lag", "failure")
            assert alarm.body.splitlines()[:3] == [
                "lag: cto: tasks: 3 waiting, more than 2",
                "what to do about lag: more agents, less work, or another threshold",
                "see: cyborg-infra status --env production",
            ]
            ended = running.end()
        assert (ended.code, ended.out, "Traceback" in ended.err) == (0, "", False)
        assert len(hook.taken) == 2
