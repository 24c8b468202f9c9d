"""Every row of the acceptance table on real servers: the plan is as expected; applied, it holds; planned again, it is empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from acceptance import (
    BROADCASTS,
    CEO_TASKS,
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
from scene import Scene, changed
from servers import StartServer

from cyborg_infra.core.diff import is_mark
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.fields import FIELDS, Kind
from cyborg_infra.model.plan import Action, Done, Plan
from cyborg_infra.model.problems import PlanRefused, ServerFault, UsageInvalid
from cyborg_infra.model.state import OWNER, State
from cyborg_infra.pipeline import Wish

RUNS = [pytest.param(row, version, id=f"{row.name} ({version})") for row in ROWS for version in row.versions]


@pytest.fixture
def scene(row: Row, version: str, start_server: StartServer, tmp_path: Path) -> Iterator[Scene]:
    """A server of this version on which everything before the plan has happened."""
    with Scene(start_server(version=version, config=row.config).url, tmp_path) as found:
        for step in row.before:
            step(found)
        yield found


@pytest.mark.parametrize(("row", "version"), RUNS)
def test_a_plan_is_as_expected_and_true_once_applied(row: Row, scene: Scene) -> None:
    wish = scene.wish(row.manifest, row.env, prune=row.prune, targets=row.targets)
    untouched = scene.everything()
    with scene.requests() as made:
        plan = scene.plan(wish)
    assert [request for request in made if request.writes] == []
    assert row.plan == summary(plan)
    assert row.problems == {problem.code for problem in plan.impossible}
    assert sorted(row.orphans) == sorted(str(orphan.ref) for orphan in plan.orphans)

    hazards = sorted({hazard.name for hazard in plan.hazards})
    if plan.impossible:
        assert row.problems == refusal(scene, wish, plan, allow=hazards)
        assert untouched == scene.everything()
        return
    for missing in hazards:
        assert {missing} == refusal(scene, wish, plan, allow=[name for name in hazards if name != missing])
        assert untouched == scene.everything()

    outcomes = scene.apply(wish, plan, allow=hazards)
    assert sorted(map(str, (change.ref for change in plan.changes))) == sorted(
        str(outcome.change.ref) for outcome in outcomes
    )
    assert [outcome for outcome in outcomes if outcome.done is not Done.DONE] == []
    assert_as_planned(scene, plan, untouched)
    assert row.after(scene)
    assert_in_sync(scene, wish)


def summary(plan: Plan) -> dict[str, Expected]:
    """A plan in the words of the table."""
    return {
        str(change.ref): Expected(
            change.action,
            frozenset(field.field for field in change.fields if not is_mark(field)),
            change.cause,
            {hazard.name.value: hazard.count for hazard in change.hazards},
        )
        for change in plan.changes
    }


def refusal(scene: Scene, wish: Wish, plan: Plan, allow: Sequence[str]) -> set[str]:
    """The codes that an apply is refused with, without a single write."""
    with scene.requests() as made, pytest.raises(PlanRefused) as refused:
        scene.apply(wish, plan, allow=allow)
    assert [request for request in made if request.writes] == []
    return {problem.code for problem in refused.value.problems}


def assert_as_planned(scene: Scene, plan: Plan, before: dict[str, Any]) -> None:
    """Every change holds, field by field, and nothing else was touched."""
    changes = {str(change.ref): change for change in plan.changes}
    desired = {change.ref: change.after for change in plan.changes if change.after}
    assert scene.differences(State(desired)) == {}
    after = scene.everything()
    renamed = {ref: str(change.place) for ref, change in changes.items() if change.place != change.ref}
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
        if before[stream]["config"].get("metadata", {}).get(OWNER) != plan.org and ref not in changes:
            assert info == after[ref]


def assert_in_sync(scene: Scene, wish: Wish) -> None:
    """Planned and applied once more: no change, and only requests that read."""
    with scene.requests() as made:
        again = scene.plan(wish)
        assert summary(again) == {}
        assert not again
        assert scene.apply(wish, again) == []
    assert made
    assert [request for request in made if request.writes] == []


def test_the_leftovers_of_one_role_can_be_pruned_alone(server: EmbeddedServer, tmp_path: Path) -> None:
    with Scene(server.url, tmp_path) as scene:
        scene.converge(TWO)
        changed(TASKS, description="drift elsewhere")(scene)
        wish = scene.wish(ORG, prune=True, targets=["ceo"])
        plan = scene.plan(wish)
        assert {ref: delete(stops_capture=1) if ref == CEO_TASKS else delete() for ref in OF_CEO} == summary(
            plan
        )
        assert {Done.DONE} == {outcome.done for outcome in scene.apply(wish, plan)}
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
    with Scene(server.url, tmp_path) as scene:
        scene.converge(ORG)
        changed(TASKS, **{kept: True})(scene)
        scene.converge(tasks("max_age: 80h"))
        assert (scene.config(TASKS)[kept], scene.config(TASKS)["max_age"]) == (True, 80 * HOUR)


def test_a_consumer_field_newer_than_our_table_survives_an_update(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch, Kind.CONSUMER, "max_batch")
    with Scene(server.url, tmp_path) as scene:
        scene.converge(ORG)
        changed(WORKER, max_batch=7)(scene)
        scene.converge(worker("ack_wait: 40m"))
        assert scene.config(WORKER)["max_batch"] == 7


def test_more_than_a_thousand_roles_read_one_stream(server: EmbeddedServer, tmp_path: Path) -> None:
    """2.15 gives a stream 1000 consumers unless it says more."""
    roles = ", ".join(f"r{number}" for number in range(1001))
    with Scene(server.url, tmp_path) as scene:
        manifest = f"org: gen\nroles: [{roles}]\nstreams: {{tasks: {{max_bytes: 1MB}}}}\n"
        scene.converge(manifest)
        assert [scene.info(name)["state"]["consumer_count"] for name in (INBOXES, BROADCASTS)] == [1001, 1001]
        assert not scene.plan(scene.wish(manifest))


def test_a_server_without_jetstream_is_told_apart_from_an_empty_one(
    start_server: StartServer, tmp_path: Path
) -> None:
    with Scene(start_server(jetstream=False).url, tmp_path) as scene, pytest.raises(ServerFault) as fault:
        scene.plan(scene.wish(ORG))
    assert fault.value.problems[0].code == "no-responders"
