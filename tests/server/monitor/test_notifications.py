"""People are told of alarms and dead letters, on real servers, through webhooks that fail, hang and answer late."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from cyborg_infra.live.embedded import EmbeddedServer
from tests.chaos import kills
from tests.support.agents import nack, nothing_comes, publish, until
from tests.support.cli import Cli, run_process
from tests.support.monitor import RunningMonitor, alarm, value
from tests.support.permissions import config, user
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST, VERSIONS, StartServer
from tests.support.webhook import HANG, webhook

MANIFEST = """
org: acme
roles: [cto, backend]
consumers: {worker: {ack_wait: 30s}, dead_letter_alerts: {ack_wait: 2s}}
alerts: {lag: 2, broadcast_ack: 1s}
environments: {production: {}}
"""
WORKER, ALERTS = "AGENT_CTO_TASKS/cto-worker", "DEAD_LETTERS/dead-letter-alerts"
SECRET = "s3cr3t-t0ken"


@pytest.fixture
def scenario(server: EmbeddedServer, project: Path) -> Iterator[Scenario]:
    """Yield the newest server with the organisation on it; its manifest is the one in the working directory."""
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    with Scenario(server.url, project) as opened:
        opened.converge(MANIFEST)
        yield opened


def task(scenario: Scenario, name: str) -> None:
    told = {"task_id": name, "title": f"Do {name}"}
    publish(scenario.api, "acme.agents.cto.tasks", json.dumps(told).encode())


def hand_in(scenario: Scenario, *names: str) -> None:
    """Let an agent give these tasks up."""
    for name in names:
        letter = {"task_id": name, "title": f"Do {name}", "assigned_to": "cto", "reason": "no such branch"}
        publish(scenario.api, "acme.org.deadletter", json.dumps(letter).encode())


def acknowledged(scenario: Scenario) -> int:
    """Return up to which dead letter all are acknowledged."""
    found = scenario.info(ALERTS)
    return 0 if found["num_ack_pending"] else int(found["ack_floor"]["stream_seq"])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dead_letter_and_an_alarm_are_told_with_whose_they_are_and_what_to_do(
    start_server: StartServer, project: Path, cli: Cli, version: str
) -> None:
    """As the derived identity `monitor`, whose rights are enough."""
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    server = start_server(version=version, config=config())
    admin = server.url.replace("nats://", "nats://admin:admin@")
    with Scenario(admin, project) as scenario, webhook() as hook:
        scenario.converge(MANIFEST, "production")
        words = ("--env", "production", "--notify", f"oncall={hook.url}", *user(server.url, "monitor"))
        with RunningMonitor(*words, cwd=project) as running:
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
            until(lambda: acknowledged(scenario) == 1)
            # A copy of what was told is acknowledged, and not told.
            kept = cli("dlq", "keep", "--env", "production", "--server", admin)
            assert (kept.code, scenario.info("DEAD_LETTERS")["state"]["last_seq"]) == (0, 2)
            until(lambda: acknowledged(scenario) == 2)
            for number in range(3):
                task(scenario, f"waits{number}")
            until(lambda: len(hook.taken) > 1)
            alarm_told = hook.taken[1]
            assert (alarm_told.title, alarm_told.kind) == ("acme (production): cto: lag", "failure")
            assert alarm_told.body.splitlines()[:3] == [
                "lag: cto: tasks: 3 waiting, more than 2",
                "what to do about lag: more agents, less work, or another threshold",
                "see: cyborg-infra status --env production",
            ]
            publish(scenario.api, "acme.org.broadcasts", b'{"type": "policy_update"}')
            until(lambda: len(hook.taken) > 2)
            late = hook.taken[2]
            assert late.title == "acme (production): broadcast-ack"
            assert late.body.splitlines()[0].endswith(" old, is not acknowledged by cto, backend")
            ended = running.end()
        assert (ended.code, ended.out, ended.err) == (0, "", "Stopped.\n")
        assert len(hook.taken) == 3


def test_a_receiver_that_fails_or_hangs_is_an_alarm_and_holds_nobody_up_and_no_secret_is_seen(
    scenario: Scenario, project: Path
) -> None:
    with webhook() as good, webhook() as failing, webhook() as hanging:
        failing.behaves, hanging.behaves = lambda: (0, 503), lambda: HANG
        at = failing.url.replace("json://", f"json://operator:{SECRET}@")
        secret = f"{at}{SECRET}?+Authorization={SECRET}&:token={SECRET}"
        (project / "hanging").write_text(f"{hanging.url}{SECRET}?rto=1\n", encoding="utf-8")
        notify = ("--notify", f"good={good.url}", "--notify", "env:FAILING_URL", "--notify", "file:hanging")
        state = ("--state", "told.db")
        words = ("--server", scenario.url, *notify, *state)
        with RunningMonitor(*words, cwd=project, env={"FAILING_URL": secret}) as running:
            hand_in(scenario, "t1", "t2")
            until(lambda: acknowledged(scenario) == 2)
            until(lambda: sum("notification" in title for title in good.titles) >= 2)
            assert sorted(title for title in good.titles if "dead letter" in title) == [
                "acme: cto: dead letter 1: Do t1",
                "acme: cto: dead letter 2: Do t2",
            ]
            about = "\n".join(each.body for each in good.taken)
            assert "receiver FAILING_URL: it answered 503" in about
            assert "receiver hanging: it refused the message, or could not be reached" in about
            found = running.until(lambda now: alarm(now, "notification") == 2)
            assert value(found, "notifications_total", receiver="FAILING_URL", result="done") == 0
            assert (value(found, "notifications_waiting", receiver="FAILING_URL") or 0) >= 2
            assert (value(found, "notifications_total", receiver="good", result="done") or 0) >= 4
            served = "".join(running.get(path).text for path in ("/metrics", "/"))
            failing.behaves = lambda: (0, 200)
            until(lambda: sum("dead letter" in title for title in failing.titles) == 2)
            ended = running.end()
        remembered = (project / "told.db").read_bytes()
        assert SECRET.encode() not in remembered
        told = "".join(f"{each.title}{each.body}" for each in good.taken)
        assert SECRET not in served + ended.err + ended.out + told


def test_in_quiet_hours_what_is_urgent_is_told_and_all_else_when_they_are_over(
    scenario: Scenario, project: Path
) -> None:
    now = datetime.now(UTC)
    begin, end = ((now + timedelta(hours=hours)).strftime("%H:%M") for hours in (-2, 2))
    quiet = {"from": begin, "to": end, "timezone": "Etc/UTC", "urgent": ["lag"]}
    manifest = yaml.safe_load(MANIFEST)
    manifest["environments"]["loud"] = {"alerts": {"quiet": False}}
    manifest["alerts"]["quiet"] = quiet
    (project / "org.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    with webhook() as hook:
        words = ("--server", scenario.url, "--notify", f"oncall={hook.url}", "--state", "told.db")
        with RunningMonitor(*words, cwd=project) as running:
            hand_in(scenario, "t1")
            scenario.ask("CONSUMER.DELETE.AGENT_BACKEND_TASKS.backend-worker")
            running.until(lambda now: alarm(now, "missing") and alarm(now, "dead-letters"))
            for number in range(3):
                task(scenario, f"waits{number}")
            until(lambda: hook.taken)
            running.until(lambda now: alarm(now, "lag"))
            assert hook.titles == ["acme: cto: lag"]
            assert acknowledged(scenario) == 0
        with RunningMonitor(*words, "--env", "loud", cwd=project):
            until(lambda: acknowledged(scenario) == 1)
            until(lambda: any("missing" in title for title in hook.titles))
        assert "acme (loud): cto: dead letter 1: Do t1" in hook.titles


def test_of_a_storm_each_is_counted_and_few_messages_are_sent(scenario: Scenario, project: Path) -> None:
    for number in range(1_200):
        scenario.api.publish("acme.org.deadletter", b'{"assigned_to": "cto", "task_id": "t%d"}' % number)
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 1_200)
    with webhook() as hook:
        words = ("--server", scenario.url, "--notify", f"oncall={hook.url}")
        with RunningMonitor(*words, cwd=project):
            until(lambda: acknowledged(scenario) == 1_200)
            assert [each.title for each in hook.taken[:4]] == [
                f"acme: cto: dead letter {number}" for number in range(1, 5)
            ]
            lines = hook.taken[4].body.splitlines()
            assert hook.taken[4].title == "acme: 996 dead letters"
            assert lines[:2] == ["cto: 996", "5: cto; t4; given up by an agent"]
            assert lines[51:53] == ["and 946 more, up to 1000", "200 more wait to be told"]
            assert [each.title for each in hook.taken[5:]] == ["acme: 200 dead letters"]


def test_of_two_monitors_one_tells_each_and_each_has_a_file_of_its_own(
    scenario: Scenario, project: Path
) -> None:
    with webhook() as hook:
        words = ("--server", scenario.url, "--notify", f"oncall={hook.url}", "--state")
        with (
            RunningMonitor(*words, "one.db", cwd=project) as one,
            RunningMonitor(*words, "two.db", cwd=project) as two,
        ):
            hand_in(scenario, *(f"t{number}" for number in range(6)))
            until(lambda: acknowledged(scenario) == 6)
            third = run_process("monitor", "--listen", "127.0.0.1:0", *words, "one.db", cwd=project)
            assert (third.code, "another monitor uses one.db" in third.err) == (1, True)
            for each in (one, two):
                assert each.end().code == 0
        assert [sum(f"Do t{number}" in each.body for each in hook.taken) for number in range(6)] == [1] * 6


def test_who_is_killed_while_a_receiver_takes_a_message_tells_it_again_with_its_id(
    scenario: Scenario, project: Path
) -> None:
    with webhook() as hook:
        hook.behaves = lambda: (600, 200)
        words = ("--server", scenario.url, "--notify", f"oncall={hook.url}", "--state", "told.db")
        killed = RunningMonitor(*words, cwd=project)
        hand_in(scenario, "t1")
        until(lambda: hook.taken)
        killed.kill()
        hook.behaves = lambda: (0, 200)
        with RunningMonitor(*words, cwd=project) as running:
            until(lambda: acknowledged(scenario) == 1)
            assert [each.title for each in hook.taken] == ["acme: cto: dead letter 1: Do t1"] * 2
            assert hook.taken[0] == hook.taken[1]
            # A position that is lost hands it out again: it was told.
            scenario.ask(f"CONSUMER.DELETE.{ALERTS.replace('/', '.')}")
            scenario.converge(MANIFEST)
            until(lambda: acknowledged(scenario) == 1)
            running.end()
        assert len([title for title in hook.titles if "dead letter" in title]) == 2


def test_who_ends_in_order_waits_a_moment_for_what_is_under_way_and_gives_back_the_rest(
    scenario: Scenario, project: Path
) -> None:
    with webhook() as hook:
        hook.behaves = lambda: (1, 200)
        words = ("--server", scenario.url, "--notify", f"oncall={hook.url}")
        with RunningMonitor(*words, cwd=project) as running:
            hand_in(scenario, "t1")
            until(lambda: hook.taken)
            assert running.end().code == 0
        assert acknowledged(scenario) == 1
        hook.behaves = lambda: (0, 503)
        with RunningMonitor(*words, cwd=project) as running:
            hand_in(scenario, "t2")
            until(lambda: hook.requests > 2)
            assert running.end().code == 0
        hook.behaves = lambda: (0, 200)
        with RunningMonitor(*words, cwd=project):
            until(lambda: acknowledged(scenario) == 2)
        assert [title for title in hook.titles if "dead letter" in title] == [
            "acme: cto: dead letter 1: Do t1",
            "acme: cto: dead letter 2: Do t2",
        ]


@pytest.mark.parametrize("version", VERSIONS)
def test_over_kills_no_dead_letter_is_lost_and_none_is_told_twice_but_by_the_same_id(
    start_server: StartServer, project: Path, version: str
) -> None:
    """At length by `python -m tests.chaos.kills`."""
    server = start_server(version=version)
    found = kills.run(server.url, project, kills=4 if version == NEWEST else 2, seed=7)
    assert (found.lost, found.unknown_twice) == (0, 0), found
    assert found.published > 0
