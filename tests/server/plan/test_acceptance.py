"""Every row of the acceptance table on real servers: the plan is as expected; applied, it holds; planned again, it is empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from cyborg_infra.core.planning.diff import is_ownership_change
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.execute.permissions import required_permissions
from cyborg_infra.model.changes import Action
from cyborg_infra.model.fields import FIELDS, Kind
from cyborg_infra.model.metadata_keys import OWNER_KEY
from cyborg_infra.model.plan import Plan, ResultStatus
from cyborg_infra.model.problems import PlanRefused, ServerFault, UsageInvalid
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.operations.provision import PlanRequest
from tests.support.acceptance_cases import (
    BROADCASTS,
    HOUR,
    INBOXES,
    OF_CEO,
    ORG,
    ROWS,
    TASKS,
    TWO,
    WORKER,
    Expected,
    Row,
    delete,
    tasks,
    worker,
)
from tests.support.scenario import Request, Scenario, changed
from tests.support.servers import StartServer

RUNS = [pytest.param(row, version, id=f"{row.name} ({version})") for row in ROWS for version in row.versions]


@pytest.fixture
def scenario(row: Row, version: str, start_server: StartServer, tmp_path: Path) -> Iterator[Scenario]:
    """Yield a server of this version on which everything before the plan has happened."""
    with Scenario(start_server(version=version, config=row.config).url, tmp_path) as found:
        for step in row.before:
            step(found)
        yield found


@pytest.mark.parametrize(("row", "version"), RUNS)
def test_a_plan_is_as_expected_and_true_once_applied(row: Row, scenario: Scenario) -> None:
    wish = scenario.request(row.manifest, row.env, prune=row.prune, targets=row.targets)
    untouched = scenario.everything()
    with scenario.requests() as made:
        plan = scenario.plan(wish)
    assert [request for request in made if request.writes] == []
    assert row.plan == summary(plan)
    assert row.problems == {problem.code for problem in plan.blocking_problems}
    assert sorted(row.orphans) == sorted(str(orphan.ref) for orphan in plan.orphans)

    hazards = sorted({hazard.name for hazard in plan.hazards})
    if plan.blocking_problems:
        assert row.problems == refusal(scenario, wish, plan, allow=hazards)
        assert untouched == scenario.everything()
        return
    for missing in hazards:
        assert {missing} == refusal(scenario, wish, plan, allow=[name for name in hazards if name != missing])
        assert untouched == scenario.everything()

    with scenario.requests() as made:
        outcomes = scenario.apply(wish, plan, allow=hazards)
    assert_predicted(plan, made)
    assert sorted(map(str, (change.ref for change in plan.changes))) == sorted(
        str(outcome.change.ref) for outcome in outcomes
    )
    assert [outcome for outcome in outcomes if outcome.status is not ResultStatus.SUCCEEDED] == []
    assert_as_planned(scenario, plan, untouched)
    assert row.after(scenario)
    assert_in_sync(scenario, wish)


def assert_predicted(plan: Plan, made: Sequence[Request]) -> None:
    """What is sent is what a user has to be allowed for this plan, and what is certain to be sent is."""
    predicted = {need.verb: need.is_certain for need in required_permissions(plan)}
    sent = {request.verb for request in made if request.writes or "cyborg-infra-" in request.verb}
    sent = {verb for verb in sent if "MSG.NEXT" not in verb}  # a right that can be done without
    assert sorted(sent - predicted.keys()) == []
    assert sorted({verb for verb, certain in predicted.items() if certain} - sent) == []


def summary(plan: Plan) -> dict[str, Expected]:
    """Return a plan in the words of the table."""
    return {
        str(change.ref): Expected(
            change.action,
            frozenset(field.field for field in change.fields if not is_ownership_change(field)),
            change.cause,
            {hazard.name.value: hazard.count for hazard in change.hazards},
        )
        for change in plan.changes
    }


def refusal(scenario: Scenario, plan_request: PlanRequest, plan: Plan, allow: Sequence[str]) -> set[str]:
    """Return the codes that an apply is refused with, without a single write."""
    with scenario.requests() as made, pytest.raises(PlanRefused) as refused:
        scenario.apply(plan_request, plan, allow=allow)
    assert [request for request in made if request.writes] == []
    return {problem.code for problem in refused.value.problems}


def assert_as_planned(scenario: Scenario, plan: Plan, before: dict[str, Any]) -> None:
    """Every change holds, field by field, and nothing else was touched."""
    changes = {str(change.ref): change for change in plan.changes}
    desired = {change.ref: change.after for change in plan.changes if change.after}
    assert scenario.differences(DesiredState(desired)) == {}
    after = scenario.everything()
    renamed = {
        ref: str(change.current_ref) for ref, change in changes.items() if change.current_ref != change.ref
    }
    gone = {ref for ref, change in changes.items() if change.action is Action.DELETE} | set(renamed.values())
    lost = {ref for ref, change in changes.items() if change.action in (Action.DELETE, Action.REPLACE)}
    new = {ref for ref, change in changes.items() if not change.before}
    assert set(after) - set(before) == new | renamed.keys()
    for ref, info in before.items():
        stream = ref.partition("/")[0]
        if ref in gone or (ref not in changes and stream in lost):
            assert ref not in after
        elif ref not in changes:
            assert (info["config"], info["created"]) == (after[ref]["config"], after[ref]["created"])
        if before[stream]["config"].get("metadata", {}).get(OWNER_KEY) != plan.org and ref not in changes:
            assert info == after[ref]


def assert_in_sync(scenario: Scenario, plan_request: PlanRequest) -> None:
    """Planned and applied once more: no change, and only requests that read."""
    with scenario.requests() as made:
        again = scenario.plan(plan_request)
        assert summary(again) == {}
        assert not again
        assert scenario.apply(plan_request, again) == []
    assert made
    assert [request for request in made if request.writes] == []


def test_the_leftovers_of_one_role_can_be_pruned_alone(server: EmbeddedServer, tmp_path: Path) -> None:
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(TWO)
        changed(TASKS, description="drift elsewhere")(scene)
        wish = scene.request(ORG, prune=True, targets=["ceo"])
        plan = scene.plan(wish)
        assert dict.fromkeys(OF_CEO, delete()) == summary(plan)
        assert {ResultStatus.SUCCEEDED} == {outcome.status for outcome in scene.apply(wish, plan)}
        assert scene.config(TASKS)["description"] == "drift elsewhere"
        with pytest.raises(UsageInvalid, match="no role is called ceo"):
            scene.plan(wish)


def forget(monkeypatch: pytest.MonkeyPatch, kind: Kind, name: str) -> None:
    """As if the table had no such row. The whole table is put back: a row that is put back goes to its end."""
    known = {row: field for row, field in FIELDS[kind].items() if row != name}
    monkeypatch.setitem(cast("dict[Kind, object]", FIELDS), kind, known)


@pytest.mark.parametrize("kept", ["allow_batched", "allow_atomic"])
def test_a_stream_field_newer_than_our_table_survives_an_update(
    kept: str, server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch, Kind.STREAM, kept)
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(ORG)
        changed(TASKS, **{kept: True})(scene)
        scene.converge(tasks("max_age: 80h"))
        assert (scene.config(TASKS)[kept], scene.config(TASKS)["max_age"]) == (True, 80 * HOUR)


def test_a_consumer_field_newer_than_our_table_survives_an_update(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch, Kind.CONSUMER, "max_batch")
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(ORG)
        changed(WORKER, max_batch=7)(scene)
        scene.converge(worker("ack_wait: 40m"))
        assert scene.config(WORKER)["max_batch"] == 7


def test_more_than_a_thousand_roles_read_one_stream(server: EmbeddedServer, tmp_path: Path) -> None:
    """2.15 gives a stream 1000 consumers unless it says more."""
    roles = ", ".join(f"r{number}" for number in range(1001))
    with Scenario(server.url, tmp_path) as scene:
        manifest = f"org: gen\nroles: [{roles}]\nstreams: {{tasks: {{max_bytes: 1MB}}}}\n"
        scene.converge(manifest)
        assert [scene.info(name)["state"]["consumer_count"] for name in (INBOXES, BROADCASTS)] == [1001, 1001]
        assert not scene.plan(scene.request(manifest))


def test_a_server_without_jetstream_is_told_apart_from_an_empty_one(
    start_server: StartServer, tmp_path: Path
) -> None:
    with Scenario(start_server(jetstream=False).url, tmp_path) as scene, pytest.raises(ServerFault) as fault:
        scene.plan(scene.request(ORG))
    assert fault.value.problems[0].code == "no-responders"
