"""Channels and names that a manifest makes up live as the built-in ones do: applied, read, failed, renamed, removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import Action, Cause, HazardName
from tests.support.agents import fetch, nack, nothing_comes, publish, until
from tests.support.cli import Cli, assert_fits
from tests.support.scenario import EVERY_HAZARD, Scenario

OWN = """\
org: acme
roles: [ceo, cto, cso]
channels:
  control: {of: role, durable: true, stream: {retention: interest, max_age: 1h}, publishers: [ceo], reader: {ack_wait: 1m}}
  heartbeat: {of: role}
  outbox: {of: role, durable: true, publishers: self, readers: [cso]}
  meetings: {of: org, subject: "meetings.*.messages", durable: true, stream: {storage: memory, max_age: 24h}, readers: [ceo, cto]}
  inbox: false
"""
BARE = "org: acme\nroles: [ceo, cto, cso]\nchannels: {inbox: false}\n"


@pytest.fixture
def scenario(any_server: EmbeddedServer, project: Path) -> Iterator[Scenario]:
    with Scenario(any_server.url, project) as opened:
        yield opened


def in_json(cli: Cli, scenario: Scenario, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = cli(*words, "--format", "json", "--server", scenario.url, "--no-context").json
    return found


def test_channels_of_its_own_are_applied_and_need_no_second_plan(scenario: Scenario) -> None:
    scenario.converge(OWN)
    assert not scenario.plan(scenario.request(OWN))
    assert "AGENT_INBOXES" not in scenario.refs()
    readers = [ref for ref in scenario.refs() if ref.startswith("AGENT_CONTROL/")]
    assert readers == [f"AGENT_CONTROL/{role}-control-reader" for role in ("ceo", "cso", "cto")]
    assert scenario.config("AGENT_CONTROL")["subjects"] == ["acme.agents.*.control"]
    assert scenario.config("AGENT_CONTROL/cto-control-reader")["filter_subject"] == "acme.agents.cto.control"
    assert scenario.config("AGENT_OUTBOX/cso-outbox-reader")["filter_subject"] == "acme.agents.*.outbox"
    assert scenario.config("ORG_MEETINGS")["storage"] == "memory"
    publish(scenario.api, "acme.agents.cto.outbox", b"done")
    publish(scenario.api, "acme.meetings.standup.messages", b"hello")
    assert fetch(scenario.api, "AGENT_OUTBOX/cso-outbox-reader").data == b"done"
    assert fetch(scenario.api, "ORG_MEETINGS/cto-meetings-reader").data == b"hello"


def test_what_is_ephemeral_is_stored_by_nobody(scenario: Scenario) -> None:
    scenario.converge(OWN)
    with pytest.raises(RuntimeError, match="no responders"):
        scenario.api.ask("acme.agents.cto.heartbeat", b"{}")


def test_what_became_ephemeral_is_answered_by_no_stream_that_is_left(
    scenario: Scenario, cli: Cli, project: Path
) -> None:
    before = BARE.replace("{inbox: false}", "{inbox: false, control: {of: role, durable: true}}")
    after = before.replace("durable: true", "durable: false")
    scenario.converge(before)
    publish(scenario.api, "acme.agents.cto.control")
    for name, subject in (("EARS", "acme.agents.*.requests"), ("ELSEWHERE", "other.agents.*.requests")):
        scenario.ask(f"STREAM.CREATE.{name}", {"name": name, "subjects": [subject]})
    (project / "org.yaml").write_text(after, encoding="utf-8")
    planned = cli("plan", "--server", scenario.url, "--no-context")
    said = " ".join((planned.out + planned.err).split())
    assert planned.code == 3, said
    assert "apply with --prune deletes it and its messages (1)" in said
    assert "stream EARS, which is not managed, captures acme.agents.ceo.requests" in said
    assert "No changes" not in said
    assert "ELSEWHERE" not in said
    drift = cli("drift", "--pending", "--server", scenario.url, "--no-context")
    assert (drift.code, "captures" in drift.out) == (2, True)
    scenario.ask("STREAM.DELETE.EARS")
    scenario.converge(after, prune=True)
    with pytest.raises(RuntimeError, match="no responders"):
        scenario.api.ask("acme.agents.cto.control", b"{}")


def test_what_somebody_changed_of_a_channel_is_drift(scenario: Scenario) -> None:
    scenario.converge(OWN)
    scenario.ask(
        "STREAM.UPDATE.AGENT_CONTROL", {**scenario.config("AGENT_CONTROL"), "max_age": 7200_000_000_000}
    )
    scenario.ask("CONSUMER.DELETE.ORG_MEETINGS.cto-meetings-reader")
    found = {
        str(change.ref): (change.action, change.cause)
        for change in scenario.plan(scenario.request(OWN)).changes
    }
    assert found == {
        "AGENT_CONTROL": (Action.UPDATE, Cause.DRIFT),
        "ORG_MEETINGS/cto-meetings-reader": (Action.CREATE, Cause.DRIFT),
    }


def test_a_new_channel_is_a_change_of_the_manifest(scenario: Scenario) -> None:
    scenario.converge(BARE)
    changes = scenario.plan(scenario.request(OWN)).changes
    assert {change.cause for change in changes} == {Cause.MANIFEST}
    scenario.converge(OWN)


def test_what_waits_on_a_channel_is_a_queue_of_its_readers(scenario: Scenario, cli: Cli) -> None:
    """What is the operator's is on the row of the operator, under a threshold like others."""
    audited = OWN + "  audit: {of: org, durable: true, readers: operator}\n"
    scenario.converge(audited)
    for _ in range(7):
        publish(scenario.api, "acme.agents.cto.outbox")
        publish(scenario.api, "acme.org.audit")
    status = in_json(cli, scenario, "status")
    assert_fits("status", status)
    waiting = {
        (role["name"], queue["channel"]): queue["waiting"]
        for role in status["roles"]
        for queue in role["queues"]
        if queue["waiting"]
    }
    assert waiting == {("cso", "outbox"): 7, ("operator", "audit"): 7}
    assert [alarm["code"] for alarm in status["alarms"]] == ["lag", "lag"]
    louder = audited + "alerts: {outbox: {lag: 7}, audit: {lag: 7}}\n"
    (scenario.directory / "org.yaml").write_text(louder, encoding="utf-8")
    assert in_json(cli, scenario, "status")["alarms"] == []


def test_what_a_reader_of_a_channel_failed_with_is_a_dead_letter_of_its_role(
    scenario: Scenario, cli: Cli
) -> None:
    scenario.converge(OWN)
    reader = "AGENT_OUTBOX/cso-outbox-reader"
    publish(scenario.api, "acme.agents.cto.outbox", b'{"audit": 1}')
    nack(scenario.api, reader, times=3)
    assert nothing_comes(scenario.api, reader)
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 1)
    (letter,) = in_json(cli, scenario, "dlq", "list")["dead_letters"]
    assert (letter["role"], letter["consumer"], letter["original"]) == ("cso", "cso-outbox-reader", "stored")
    (result,) = in_json(cli, scenario, "dlq", "replay", "--all", "--yes")["results"]
    assert result["place"] == "AGENT_OUTBOX/2"
    assert fetch(scenario.api, reader).data == b'{"audit": 1}'


def test_a_channel_that_left_the_manifest_stays_until_it_is_pruned_by_name(scenario: Scenario) -> None:
    scenario.converge(OWN)
    publish(scenario.api, "acme.agents.cto.outbox", b"unread")
    left = scenario.plan(scenario.request(BARE))
    assert {"AGENT_OUTBOX", "AGENT_CONTROL", "ORG_MEETINGS"} <= {str(orphan.ref) for orphan in left.orphans}
    scenario.converge(BARE)
    routes = scenario.config("DEAD_LETTERS")["subjects"]
    assert any(".AGENT_OUTBOX." in subject for subject in routes)  # its reader may be at work still
    pruning = scenario.plan(scenario.request(BARE, prune=True))
    (cost,) = (
        hazard
        for change in pruning.changes
        for hazard in change.hazards
        if hazard.name is HazardName.DELETES_MESSAGES
    )
    assert (cost.count, cost.unfinished and cost.unfinished.messages) == (1, 1)
    scenario.converge(BARE, prune=True)
    assert not [
        ref for ref in scenario.refs() if ref.startswith(("AGENT_OUTBOX", "AGENT_CONTROL", "ORG_MEET"))
    ]
    assert not any(".AGENT_OUTBOX." in subject for subject in scenario.config("DEAD_LETTERS")["subjects"])
    assert not scenario.plan(scenario.request(BARE, prune=True))


@pytest.mark.parametrize("left_out", ["inbox", "broadcasts", "dead_letters", "tasks", "events", "requests"])
def test_an_organisation_may_do_without_a_channel(scenario: Scenario, cli: Cli, left_out: str) -> None:
    manifest = f"org: acme\nroles: [ceo, cto]\nchannels: {{{left_out}: false}}\n"
    scenario.converge(manifest)
    assert not scenario.plan(scenario.request(manifest))
    status = in_json(cli, scenario, "status")
    assert_fits("status", status)
    assert status["alarms"] == []
    assert cli("show").code == 0
    if left_out == "dead_letters":
        (problem,) = in_json(cli, scenario, "dlq", "list")["problems"]
        assert (problem["code"], problem["hint"]) == (
            "no-dead-letters",
            "its manifest leaves them out, under channels",
        )


def test_nothing_is_sent_to_a_channel_that_there_is_not(scenario: Scenario, cli: Cli) -> None:
    scenario.converge(BARE)
    (scenario.directory / "note.json").write_text('{"type": "note"}', encoding="utf-8")
    found = in_json(cli, scenario, "send", "inbox", "cto", "--file", "note.json", "--type", "alert")
    assert found["problems"][0]["code"] in ("no-channel", "bad-message", "missing-key")


NAMED = """\
naming:
  streams: {tasks: "T_{ROLE}", broadcasts: ALL, outbox: AUDITS, dead_letters: FAILED}
  consumers: {worker: "w-{role}", outbox_reader: "{role}-audits"}
"""


def test_another_template_is_a_rename_that_keeps_messages_and_positions(scenario: Scenario, cli: Cli) -> None:
    scenario.converge(OWN)
    for number in range(3):
        publish(scenario.api, "acme.agents.cto.tasks", str(number).encode())
        publish(scenario.api, "acme.agents.cto.outbox", str(number).encode())
    for ref in ("AGENT_CTO_TASKS/cto-worker", "AGENT_OUTBOX/cso-outbox-reader"):
        for _ in range(2):
            scenario.api.publish(fetch(scenario.api, ref).reply, b"+ACK")
        until(lambda ref=ref: scenario.info(ref)["ack_floor"]["stream_seq"] == 2)  # type: ignore[misc]
    plan = scenario.plan(scenario.request(OWN + NAMED))
    moved = {
        str(change.current_ref): str(change.ref)
        for change in plan.changes
        if change.current_ref != change.ref
    }
    assert moved["AGENT_CTO_TASKS/cto-worker"] == "T_CTO/w-cto"
    assert moved["AGENT_OUTBOX"] == "AUDITS"
    assert not plan.orphans
    assert not [hazard for change in plan.changes for hazard in change.hazards]
    scenario.converge(OWN + NAMED)
    assert not scenario.plan(scenario.request(OWN + NAMED))
    assert not {"AGENT_CTO_TASKS", "AGENT_OUTBOX", "DEAD_LETTERS", "ORG_BROADCASTS"} & {*scenario.refs()}
    assert fetch(scenario.api, "AUDITS/cso-audits").data == b"2"
    nack(scenario.api, "T_CTO/w-cto", times=3)
    assert nothing_comes(scenario.api, "T_CTO/w-cto")
    until(lambda: scenario.info("FAILED")["state"]["messages"] == 1)
    (letter,) = in_json(cli, scenario, "dlq", "list")["dead_letters"]
    assert (letter["role"], letter["original"]) == ("cto", "stored")


def test_a_plan_of_renames_can_be_saved_and_applied(scenario: Scenario, cli: Cli) -> None:
    scenario.converge(OWN)
    publish(scenario.api, "acme.agents.cto.tasks", b"work")
    nack(scenario.api, "AGENT_CTO_TASKS/cto-worker", times=3)
    assert nothing_comes(scenario.api, "AGENT_CTO_TASKS/cto-worker")
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 1)
    request = scenario.request(OWN + NAMED)
    words = ("--server", scenario.url, "--no-context")
    assert cli("plan", "--out", "saved.plan", *words).code == 0
    allowed = [word for hazard in EVERY_HAZARD for word in ("--allow", str(hazard))]
    assert cli("apply", "saved.plan", "--yes", "--drain-timeout", "1s", *allowed, *words).code == 0
    assert not scenario.plan(request)
    (letter,) = in_json(cli, scenario, "dlq", "list")["dead_letters"]
    assert (letter["role"], letter["original"]) == ("cto", "kept")


@pytest.mark.parametrize("prefix", ["", "eu", "acme.eu.west"])
def test_everything_works_behind_any_prefix(scenario: Scenario, cli: Cli, prefix: str) -> None:
    manifest = OWN + f'naming: {{subject_prefix: "{prefix}"}}\n'
    begin = f"{prefix}." if prefix else ""
    scenario.converge(manifest)
    assert not scenario.plan(scenario.request(manifest))
    publish(scenario.api, f"{begin}agents.cto.tasks", b'{"task_id": "t"}')
    nack(scenario.api, "AGENT_CTO_TASKS/cto-worker", times=3)
    assert nothing_comes(scenario.api, "AGENT_CTO_TASKS/cto-worker")
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 1)
    publish(scenario.api, f"{begin}org.deadletter", b'{"assigned_to": "cso"}')
    letters = in_json(cli, scenario, "dlq", "list")["dead_letters"]
    assert [(letter["role"], letter["original"]) for letter in letters] == [
        ("cto", "stored"),
        ("cso", "kept"),
    ]
    (result,) = in_json(cli, scenario, "dlq", "replay", "1", "--yes")["results"]
    assert result["place"] == "AGENT_CTO_TASKS/2"
    status = in_json(cli, scenario, "status")
    assert {alarm["code"] for alarm in status["alarms"]} == {"dead-letters"}


def test_another_prefix_is_no_rename_and_stops_what_was_captured(scenario: Scenario) -> None:
    scenario.converge(OWN)
    publish(scenario.api, "acme.agents.cto.tasks", b"work")
    moved = OWN + "naming: {subject_prefix: acme.eu}\n"
    plan = scenario.plan(scenario.request(moved))
    assert {change.action for change in plan.changes} == {Action.UPDATE}
    hazards = {hazard.name for change in plan.changes for hazard in change.hazards}
    assert HazardName.STOPS_CAPTURE in hazards
    scenario.converge(moved)
    assert not scenario.plan(scenario.request(moved))


@pytest.mark.parametrize("prefix", ["acme", "", "acme.eu.west"])
def test_verify_tries_channels_of_ones_own(scenario: Scenario, cli: Cli, prefix: str) -> None:
    manifest = (
        OWN
        + f'  tasks: {{subject: "agents.{{role}}.tasks.>", send_to: assigned}}\nnaming: {{subject_prefix: "{prefix}"}}\n'
    )
    (scenario.directory / "org.yaml").write_text(manifest, encoding="utf-8")
    checks = (
        "channel-reaches-its-readers",
        "request-answered-by-agent",
        "status-wildcard-sees-every-role",
        "broadcast-reaches-every-role",
        "failures-become-a-dead-letter",
    )
    wanted = [word for check in checks for word in ("--check", check)]
    found = in_json(cli, scenario, "verify", *wanted)
    assert_fits("verify", found)
    assert {(each["check"], each["outcome"]) for each in found["results"]} == {
        (check, "passed") for check in checks
    }
    assert scenario.refs() == []


GROUPS = """\
org: acme
roles: [ceo, cto, cso]
groups: {engineering: [cto], heads: [ceo, cto]}
channels: {group_broadcasts: true}
"""


def test_a_broadcast_to_a_group_is_for_its_members_alone(cli: Cli, project: Path, scenario: Scenario) -> None:
    (project / "org.yaml").write_text(GROUPS, encoding="utf-8")
    scenario.converge(GROUPS)
    assert scenario.config("ORG_GROUP_BROADCASTS")["subjects"] == [
        "acme.org.broadcasts.engineering",
        "acme.org.broadcasts.heads",
    ]
    readers = [ref for ref in scenario.refs() if ref.startswith("ORG_GROUP_BROADCASTS/")]
    assert readers == [f"ORG_GROUP_BROADCASTS/{role}-group-broadcast-reader" for role in ("ceo", "cto")]
    policy = {"type": "policy_update", "policy": "p", "effective_immediately": True, "issued_by": "ceo"}
    (project / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
    server = ("--server", scenario.url, "--no-context")
    for words in (("--group", "engineering"), ("--group", "heads"), ()):
        assert cli("send", "broadcast", "-f", "policy.json", *words, *server).code == 0
    refused = cli("send", "broadcast", "-f", "policy.json", "--group", "heds", *server)
    assert (refused.code, refused.out) == (1, "")
    assert "groups: engineering, heads" in " ".join(refused.err.split())
    assert fetch(scenario.api, readers[0]).subject == "acme.org.broadcasts.heads"
    for _ in range(2):
        message = fetch(scenario.api, readers[1])
        scenario.api.ask(message.reply, b"+ACK")
    status = in_json(cli, scenario, "status")
    assert_fits("status", status)
    told = {found["group"]: (found["acknowledged"], found["open"]) for found in status["broadcasts"]}
    assert told == {
        "engineering": (["cto"], []),
        "heads": (["cto"], ["ceo"]),
        None: ([], ["ceo", "cto", "cso"]),
    }
    late = cli("status", "--broadcast-ack", "0s", *server).out
    assert "broadcast 2 to heads" in late
    without = GROUPS.replace("heads: [ceo, cto]", "heads: [cto]")
    scenario.converge(without, prune=True)
    assert not scenario.plan(scenario.request(without))
    assert readers[0] not in scenario.refs()


def test_a_dead_letter_outlives_another_prefix_and_other_names(
    cli: Cli, project: Path, scenario: Scenario
) -> None:
    """Its stream is renamed, and what it was published on is stored by nobody any more: it is replayed on what that is now."""
    old = "org: acme\nroles: [ceo, cto]\n"
    new = old + (
        "naming: {subject_prefix: acme.eu, streams: {tasks: 'WORK_{ROLE}', dead_letters: FAILED}}\n"
        "alerts: {lag: 9}\n"
    )
    scenario.converge(old)
    publish(scenario.api, "acme.agents.cto.tasks", b"poison")
    nack(scenario.api, "AGENT_CTO_TASKS/cto-worker", 3)
    nothing_comes(scenario.api, "AGENT_CTO_TASKS/cto-worker")
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 1)
    scenario.converge(new)
    assert not scenario.plan(scenario.request(new))
    (project / "org.yaml").write_text(new, encoding="utf-8")
    (letter,) = in_json(cli, scenario, "dlq", "list")["dead_letters"]
    assert (letter["role"], letter["original"], letter["message"]["data"]) == ("cto", "kept", "poison")
    ended = cli("dlq", "replay", "--all", "--yes", "--server", scenario.url, "--no-context")
    assert ended.code == 0, ended.err
    again = fetch(scenario.api, "WORK_CTO/cto-worker")
    assert (again.subject, again.data) == ("acme.eu.agents.cto.tasks", b"poison")
    assert scenario.info("FAILED")["state"]["messages"] == 0
