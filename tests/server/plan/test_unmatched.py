"""Messages that nobody is ever handed: told of before by `validate`, and by `status` where they are stored."""

from __future__ import annotations

from pathlib import Path

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.lint.lint import lint
from cyborg_infra.manifest.load import loads
from tests.support.agents import fetch, nothing_comes, publish
from tests.support.cli import Cli
from tests.support.scenario import Scenario

CASE = (Path(__file__).parents[2] / "cases/lint/unmatched-subject.yaml").read_text(encoding="utf-8")


def test_what_the_warning_names_is_handed_to_nobody_and_all_else_is(scenario: Scenario) -> None:
    """Each task is marked with what becomes of it: a subject of its own, a transform to or away from the filter, a source."""
    scenario.converge(CASE)
    for subject in ("gen.agents.cto.tasks", "gen.urgent.cto", "gen.agents.cso.tasks", "gen.urgent.cso"):
        publish(scenario.api, subject, subject.encode())
    publish(scenario.api, "gen.agents.ceo.tasks", b"gen.agents.ceo.tasks")
    handed = {
        role: fetch(scenario.api, f"AGENT_{role.upper()}_TASKS/{role}-worker").data for role in ("cto", "dev")
    }
    assert handed == {"cto": b"gen.agents.cto.tasks", "dev": b"gen.urgent.cto"}
    both = {fetch(scenario.api, "AGENT_CSO_TASKS/cso-worker").data for _ in range(2)}
    assert both == {b"gen.agents.cso.tasks", b"gen.urgent.cso"}
    for role in ("cto", "ceo", "ops"):
        assert nothing_comes(scenario.api, f"AGENT_{role.upper()}_TASKS/{role}-worker")
    stored = {
        f"{subject} of {ref}"
        for ref in scenario.refs()
        if "/" not in ref
        for subject in scenario.ask(f"STREAM.INFO.{ref}", {"subjects_filter": ">"})["state"].get("subjects")
        or ()
    }
    org = loads(CASE)
    told = {each.message.partition(":")[0] for each in lint(org, expand(org))}
    gone = "gen.events.deploy.failed of ORG_EVENTS"
    assert told == {
        "gen.urgent.cto of AGENT_CTO_TASKS",
        "gen.urgent.cto of AGENT_OPS_TASKS",
        "work.ceo of AGENT_CEO_TASKS",
        gone,
    }
    assert told - {gone} <= stored
    assert publish(scenario.api, "gen.events.deploy.failed") == 1
    assert scenario.info("ORG_EVENTS")["state"]["messages"] == 0


def test_what_is_stored_for_nobody_is_an_alarm_unless_the_manifest_ignores_it(
    scenario: Scenario, cli: Cli, project: Path
) -> None:
    """Also where the manifest promises all well: an inbox of no role, and what is left of a subject that is gone."""

    def alarms(manifest: str) -> list[str]:
        (project / "org.yaml").write_text(manifest, encoding="utf-8")
        scenario.converge(manifest)
        ended = cli("status", "--check", "--server", scenario.url)
        assert ended.code == (2 if ended.out else 0), ended
        return ended.out.splitlines()

    manifest = "org: gen\nroles: [cto, cso]\n"
    second = f"{manifest}streams: {{inboxes: {{subjects: ['gen.agents.*.inbox', gen.mail.cto]}}}}\n"
    assert alarms(second) == []
    for subject in (
        "gen.agents.cto.tasks",
        "gen.agents.cto.inbox",
        "gen.agents.nobody.inbox",
        "gen.mail.cto",
    ):
        publish(scenario.api, subject)
    publish(scenario.api, "gen.mail.cto")
    told = "3 messages that none of its consumers reads, under gen.agents.nobody.inbox, gen.mail.cto"
    assert alarms(second) == [f"unmatched-subject: AGENT_INBOXES: {told}"]
    assert alarms(manifest) == [f"unmatched-subject: AGENT_INBOXES: {told}"]
    ignoring = "lint: {ignore: {unmatched-subject: a person reads them}}\n"
    assert alarms(second + ignoring) == []
    read = "consumers: {inbox_reader: {filter_subject: ''}}\n"
    assert alarms(manifest + read) == []
