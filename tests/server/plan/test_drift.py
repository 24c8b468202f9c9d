"""What counts as drift, told without a state file: by the marks and the digest of what was last applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model import fields
from cyborg_infra.model.changes import UPGRADED, Cause
from cyborg_infra.model.fields import Kind
from cyborg_infra.render.change_lines import cause
from tests.support.cli import Cli
from tests.support.scenario import (
    Scenario,
    Step,
    changed,
    consumer,
    deleted,
    published,
    stream,
    with_metadata,
)
from tests.support.servers import NEWEST, OLDEST, server_binary

pytestmark = pytest.mark.servers(NEWEST)


APPLIED = "org: acme\nroles: [cto, cso]\n"
OTHER = "org: acme\nroles: [cto, cso]\nstreams: {tasks: {max_age: 48h}}\n"
MORE = "org: acme\nroles: [cto, cso, ceo]\n"
FEWER = "org: acme\nroles: [cto]\n"
MERGED = APPLIED + "naming: {streams: {tasks: WORK}}\n"
FREED = APPLIED + "naming: {streams: {broadcasts: RADIO}}\n"
CHAINED = APPLIED + "naming: {streams: {inboxes: ORG_BROADCASTS, broadcasts: RADIO}}\n"
TASKS = "AGENT_CTO_TASKS"
WORKER = "AGENT_CTO_TASKS/cto-worker"
IN_SYNC, DIFFERENT = 0, 2


def tagged(scenario: Scenario) -> None:
    """A label is put beside ours."""
    changed(TASKS, metadata={**scenario.config(TASKS)["metadata"], "team": "platform"})(scenario)


class Case(NamedTuple):
    """What happened on the server, what the manifest says now, and how `drift` ends, without and with --pending."""

    steps: Sequence[Step] = ()
    manifest: str = APPLIED
    drift: int = IN_SYNC
    pending: int = IN_SYNC


CASES = {
    "nothing happened": Case(),
    "a stream was changed by hand": Case([changed(TASKS, max_msgs=5)], APPLIED, DIFFERENT, DIFFERENT),
    "a consumer was changed by hand": Case([changed(WORKER, max_deliver=9)], APPLIED, DIFFERENT, DIFFERENT),
    "a field was set that the manifest leaves open": Case(
        [changed(TASKS, description="do not touch")], APPLIED, DIFFERENT, DIFFERENT
    ),
    "a label of somebody else's was added": Case([tagged]),
    "an agent updated its own consumer, and its labels are gone": Case(
        [changed(WORKER, metadata=None)], APPLIED, IN_SYNC, DIFFERENT
    ),
    "an agent updated its own consumer to something else": Case(
        [changed(WORKER, metadata=None, max_deliver=9)], APPLIED, DIFFERENT, DIFFERENT
    ),
    "only the manifest has changed": Case([], OTHER, IN_SYNC, DIFFERENT),
    "both have changed": Case([changed(TASKS, max_msgs=5)], OTHER, DIFFERENT, DIFFERENT),
    "the hand did what the manifest says now": Case(
        [
            changed(TASKS, max_age=172_800_000_000_000),
            changed("AGENT_CSO_TASKS", max_age=172_800_000_000_000),
        ],
        OTHER,
        DIFFERENT,
        DIFFERENT,
    ),
    "a stream was deleted by hand": Case([deleted(TASKS)], APPLIED, DIFFERENT, DIFFERENT),
    "a consumer was deleted by hand": Case([deleted(WORKER)], APPLIED, DIFFERENT, DIFFERENT),
    "a role is new in the manifest": Case([], MORE, IN_SYNC, DIFFERENT),
    "a role has left the manifest": Case([], FEWER, IN_SYNC, DIFFERENT),
    "one stream for all roles instead of one for each": Case([], MERGED, IN_SYNC, DIFFERENT),
    "a stream shall have the name of one that is renamed": Case([], CHAINED, IN_SYNC, DIFFERENT),
    "the digest was removed": Case([with_metadata(TASKS, applied=None)], APPLIED, DIFFERENT, DIFFERENT),
    "the digest was altered": Case([with_metadata(TASKS, applied="0" * 16)], APPLIED, DIFFERENT, DIFFERENT),
    "the owner was removed": Case([with_metadata(TASKS, org=None)], APPLIED, DIFFERENT, DIFFERENT),
    "the owner was altered": Case([with_metadata(TASKS, org="other")], APPLIED, DIFFERENT, DIFFERENT),
    "all marks were removed": Case(
        [with_metadata(TASKS, org=None, kind=None, role=None, applied=None)], APPLIED, DIFFERENT, DIFFERENT
    ),
    "somebody reads our stream": Case([consumer(f"{TASKS}/monitor")]),
    "somebody has a stream of their own": Case([stream("THEIRS", "theirs.>")]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_drift_is_what_somebody_did_to_the_server(
    scenario: Scenario, cli: Cli, project: Path, case: Case
) -> None:
    scenario.converge(APPLIED)
    for step in case.steps:
        step(scenario)
    (project / "org.yaml").write_text(case.manifest)
    before = scenario.everything()
    ends = [
        cli("drift", "--server", scenario.url, "--no-context", *more).code for more in ((), ("--pending",))
    ]
    assert ends == [case.drift, case.pending]
    assert scenario.everything() == before


def test_an_organisation_that_was_never_applied_is_a_difference(
    scenario: Scenario, cli: Cli, project: Path
) -> None:
    """It may as well have been, and all of it be gone; all changes are the manifest's as far as anybody knows."""
    (project / "org.yaml").write_text(APPLIED)
    assert cli("drift", "--server", scenario.url, "--no-context").code == DIFFERENT
    assert {change.cause for change in scenario.plan(scenario.request(APPLIED)).changes} == {Cause.MANIFEST}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Kind.STREAM, "allow_batched"), (Kind.STREAM, "compression"), (Kind.CONSUMER, "max_batch")],
)
def test_a_new_row_in_the_field_table_changes_no_digest_and_plans_nothing(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, kind: Kind, name: str
) -> None:
    """An upgrade of the tool alone leaves an organisation in sync."""
    with monkeypatch.context() as older:
        rows = {row: field for row, field in fields.FIELDS[kind].items() if row != name}
        older.setitem(fields.FIELDS, kind, rows)
        scenario.converge(APPLIED)
        digests = {ref: found.digest() for ref, found in scenario.request(APPLIED).desired.resources.items()}
    wish = scenario.request(APPLIED)
    assert digests == {ref: found.digest() for ref, found in wish.desired.resources.items()}
    assert not scenario.plan(wish)


def test_what_a_newer_server_is_told_is_no_change_of_the_manifest(tmp_path: Path) -> None:
    """Before 2.14 a stream with sources cannot be told that it shall know no message ids."""
    sourced = "streams: {inboxes: {sources: [{name: THEIRS}], duplicate_window: 0s}}\n"
    for version in (OLDEST, NEWEST):
        server = EmbeddedServer(tmp_path / "store", binary=server_binary(version))
        with server, Scenario(server.url, tmp_path) as scene:
            plan = scene.plan(scene.request(APPLIED + sourced))
            if version == OLDEST:
                scene.converge(APPLIED + sourced)
                continue
            (change,) = plan.changes
            assert [field.field for field in change.fields][:1] == ["duplicate_window"]
            assert (change.cause, change.reason) == (Cause.MANIFEST, UPGRADED)
            assert cause(change) == "pending: not changed in the manifest"
            other = scene.plan(scene.request(APPLIED + sourced.replace("0s", "1m")))
            assert [cause(each) for each in other.changes] == ["pending: changed in the manifest"]


def test_what_belongs_to_another_organisation_is_advised_once(server: EmbeddedServer, tmp_path: Path) -> None:
    """An organisation has no other name: whoever changes it is told once of all of them, and what to do."""
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(APPLIED)
        plan = scene.plan(scene.request(APPLIED.replace("acme", "acme2")))
        (problem,) = plan.blocking_problems
        assert f"and so do {len(plan.changes) - 1} more" in problem.message
        assert "an organisation cannot be renamed: if this one was acme, leave org: acme" in str(problem.hint)


def test_a_name_that_is_taken_over_is_refused_and_the_two_applies_that_are_told_do_it(
    scenario: Scenario,
) -> None:
    scenario.converge(APPLIED)
    published("acme.org.broadcasts", 2)(scenario)
    published("acme.agents.cto.inbox", 3)(scenario)
    (problem,) = scenario.plan(scenario.request(CHAINED)).blocking_problems
    assert str(problem.hint).startswith("rename in two applies: first ORG_BROADCASTS to RADIO")
    scenario.converge(FREED)
    scenario.converge(CHAINED)
    held = {name: scenario.info(name)["state"]["messages"] for name in ("RADIO", "ORG_BROADCASTS")}
    assert held == {"RADIO": 2, "ORG_BROADCASTS": 3}
    assert "AGENT_INBOXES" not in scenario.refs()
