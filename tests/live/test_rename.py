"""A role with a new name, or streams behind a new prefix, keep their tasks, their inbox and their progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scene import Request, Scene, fetched, published, worked
from servers import NEWEST, OLDEST, VERSIONS, StartServer
from test_move import Killed, die_at
from traffic import Publisher, Worker, eventually

from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.plan import Action, Done, Plan
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.state import JOURNAL
from cyborg_infra.operations.imports import imported

OLD = "org: acme\nroles: [ceo, backend]\n"
NEW = "org: acme\nroles: {ceo: , core: {renamed_from: backend}}\n"
DROPPED = "org: acme\nroles: [ceo, core]\n"
BEHIND = OLD + "naming: {stream_prefix: P_}\n"
TASKS, INBOX = "acme.agents.backend.tasks", "acme.agents.backend.inbox"
WORKER, NEW_WORKER = "AGENT_BACKEND_TASKS/backend-worker", "AGENT_CORE_TASKS/core-worker"
READER, NEW_READER = "AGENT_INBOXES/backend-inbox-reader", "AGENT_INBOXES/core-inbox-reader"
HALF_DONE = (published(TASKS, 9), worked(WORKER, 4), published(INBOX, 7), worked(READER, 2))
WRITES = 24  # at least as many as a rename of one role takes


@pytest.fixture
def scene(request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path) -> Iterator[Scene]:
    with Scene(start_server(version=getattr(request, "param", NEWEST)).url, tmp_path) as opened:
        yield opened


def prepared(scene: Scene, manifest: str = OLD) -> None:
    scene.converge(manifest)
    for step in HALF_DONE:
        step(scene)


def places(plan: Plan) -> dict[str, str]:
    """New name -> old name of everything that the plan renames."""
    return {str(change.ref): str(change.place) for change in plan.changes if change.place != change.ref}


def assert_half_done(scene: Scene, worker: str, reader: str) -> None:
    """What was waiting is waiting, and nothing that was done."""
    assert (scene.info(worker)["num_pending"], scene.info(reader)["num_pending"]) == (5, 5)
    assert not scene.info(worker).get("paused")
    assert not scene.info(reader).get("paused")
    leftovers = [ref for ref in scene.refs() if "cyborg-infra" in ref]
    assert leftovers == []


def refuse_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The server refuses the n-th request that would change a task stream, once."""
    original, reached = JetStream.call, 0

    async def call(server: JetStream, verb: str, *args: Any, **named: Any) -> dict[str, Any]:
        nonlocal reached
        reached += Request(verb, None).writes and "_TASKS" in verb and "NAMES" not in verb
        if reached == step:
            reached += 1
            raise ServerFault(Problem("api-error", "the server would not"))
        return await original(server, verb, *args, **named)

    monkeypatch.setattr(JetStream, "call", call)


def die_when(monkeypatch: pytest.MonkeyPatch, holds: Callable[[], bool]) -> None:
    """The tool dies at its first request after that."""
    original = JetStream.call

    async def call(server: JetStream, verb: str, *args: Any, **named: Any) -> dict[str, Any]:
        if holds():
            raise Killed
        return await original(server, verb, *args, **named)

    monkeypatch.setattr(JetStream, "call", call)


def apply_until_done(scene: Scene, manifest: str) -> None:
    """No plan on the way costs anything, also where it removes what the manifest no longer has."""
    wish = scene.wish(manifest, prune=True)
    for _ in range(3):
        plan = scene.plan(wish)
        assert {hazard.name for hazard in plan.hazards} <= {"mass-change"}
        with suppress(Killed):
            outcomes = scene.apply(wish, plan)
            if all(outcome.done is Done.DONE for outcome in outcomes):
                break
    assert not scene.plan(wish)


@pytest.mark.parametrize("scene", [OLDEST], indirect=True)
def test_what_was_an_interest_stream_takes_everything_along(scene: Scene) -> None:
    """Its consumers do not know that it is one no more: stopped, they would delete what waits for them (2.10.26)."""
    interest, limits = (f"streams: {{tasks: {{retention: {name}}}}}\n" for name in ("interest", "limits"))
    scene.converge(OLD + interest)
    scene.converge(OLD + limits)
    for step in HALF_DONE:
        step(scene)
    scene.converge(NEW + limits)
    assert_half_done(scene, NEW_WORKER, NEW_READER)


def test_a_renamed_role_takes_tasks_inbox_and_progress_along(scene: Scene) -> None:
    prepared(scene)
    plan = scene.plan(scene.wish(NEW))
    assert places(plan) == {
        "AGENT_CORE_TASKS": "AGENT_BACKEND_TASKS",
        NEW_WORKER: WORKER,
        NEW_READER: READER,
        "ORG_BROADCASTS/core-broadcast-reader": "ORG_BROADCASTS/backend-broadcast-reader",
    }
    assert ([hazard.name for hazard in plan.hazards], plan.orphans) == (["mass-change"], ())
    scene.converge(NEW)
    assert_half_done(scene, NEW_WORKER, NEW_READER)
    assert [ref for ref in scene.refs() if "backend" in ref.lower()] == []
    assert not scene.plan(scene.wish(NEW))


def test_what_is_still_sent_to_the_old_name_reaches_the_role(scene: Scene) -> None:
    scene.converge(OLD)
    scene.converge(NEW)
    for subject in (TASKS, INBOX, "acme.agents.core.tasks", "acme.agents.core.inbox"):
        published(subject, 1)(scene)
    assert eventually(lambda: [scene.info(ref)["num_pending"] for ref in (NEW_WORKER, NEW_READER)] == [2, 2])


def test_dropping_the_old_name_costs_what_waits_under_it(scene: Scene) -> None:
    """And nothing but the old subject once that has been worked off."""
    prepared(scene)
    scene.converge(NEW)
    costs = [(hazard.name, hazard.count) for hazard in scene.plan(scene.wish(DROPPED)).hazards]
    assert sorted(costs) == [("resets-progress", 5), ("resets-progress", 5), ("stops-capture", 1)]
    for step in (worked(NEW_WORKER, 5), worked(NEW_READER, 5)):
        step(scene)
    plan = scene.plan(scene.wish(DROPPED))
    assert [hazard.reason for hazard in plan.hazards] == [f"no stream would store {TASKS} any more"]
    scene.converge(DROPPED)
    assert not scene.plan(scene.wish(DROPPED))


def test_agents_go_on_while_their_role_is_renamed(scene: Scene) -> None:
    """Publishers under both names and workers under both: each message is worked on once."""
    scene.converge(OLD)
    wish = scene.wish(NEW)
    allowed = ("mass-change",)
    with Worker(scene.url, WORKER) as before, Worker(scene.url, NEW_WORKER) as after:
        with Publisher(scene.url, TASKS) as old:
            assert eventually(lambda: len(old.acknowledged) > 20)
            outcomes = scene.apply(wish, allow=allowed)
            assert [outcome.problem for outcome in outcomes if outcome.problem] == []
            seen = len(old.acknowledged)
            assert eventually(lambda: len(old.acknowledged) > seen + 20)
        wanted = set(old.acknowledged)
        assert eventually(lambda: wanted <= before.worked.keys() | after.worked.keys())
    assert {name: times for name, times in (before.worked + after.worked).items() if times > 1} == {}
    assert before.worked
    assert after.worked


def test_an_organisation_behind_a_new_prefix_is_the_same_organisation(scene: Scene) -> None:
    prepared(scene)
    plan = scene.plan(scene.wish(BEHIND))
    assert {change.action for change in plan.changes} == {Action.REPLACE}
    assert [hazard.name for hazard in plan.hazards] == ["mass-change"]
    assert any("become no dead letters" in note for note in plan.notes)
    scene.converge(BEHIND)
    assert_half_done(scene, f"P_{WORKER}", f"P_{READER}")
    assert [ref for ref in scene.refs() if not ref.startswith("P_")] == []
    assert not scene.plan(scene.wish(BEHIND))


def test_a_new_spelling_of_the_same_stream_renames_its_consumers_alone(scene: Scene) -> None:
    old = "org: acme\nroles: [data_eng]\n"
    scene.converge(old)
    for step in (
        published("acme.agents.data_eng.tasks", 3),
        worked("AGENT_DATA_ENG_TASKS/data_eng-worker", 2),
    ):
        step(scene)
    new = "org: acme\nroles: [{name: data-eng, renamed_from: data_eng}]\n"
    plan = scene.plan(scene.wish(new))
    actions = {str(change.ref): change.action for change in plan.changes}
    assert actions["AGENT_DATA_ENG_TASKS"] is Action.UPDATE
    assert actions["AGENT_DATA_ENG_TASKS/data-eng-worker"] is Action.REPLACE
    assert plan.hazards == ()
    scene.converge(new)
    assert scene.info("AGENT_DATA_ENG_TASKS/data-eng-worker")["num_pending"] == 1


def test_work_under_way_is_waited_for_and_then_left_as_it_was(scene: Scene) -> None:
    prepared(scene)
    fetched(WORKER, 2)(scene)
    before = scene.everything(lambda ref: ref.startswith("AGENT_BACKEND_TASKS"))
    outcomes = scene.apply(scene.wish(NEW), allow=("mass-change",))
    problems = {str(outcome.change.ref): outcome.problem for outcome in outcomes if outcome.problem}
    assert problems["AGENT_CORE_TASKS"].code == "not-drained"
    assert scene.everything(lambda ref: ref.startswith("AGENT_BACKEND_TASKS")) == before
    assert not scene.info(WORKER).get("paused")
    assert "AGENT_CORE_TASKS" not in scene.refs()


@pytest.mark.parametrize(
    ("scene", "step"),
    [(version, step) for version in VERSIONS for step in range(1, WRITES + 1)],
    indirect=["scene"],
)
def test_killed_at_any_step_a_rename_goes_on_at_the_next_apply(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    prepared(scene)
    die_at(monkeypatch, step)
    apply_until_done(scene, NEW)
    assert_half_done(scene, NEW_WORKER, NEW_READER)


def test_a_fault_before_the_new_stream_has_everything_leaves_the_old_one_as_it_was(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of the requests up to the promotion: the role goes on under its old name, and the next apply renames it."""
    prepared(scene)
    before = scene.everything(lambda ref: ref.startswith("AGENT_BACKEND_TASKS"))
    undone = 0
    for step in range(1, 7):
        with monkeypatch.context() as patched:
            refuse_at(patched, step)
            scene.apply(scene.wish(NEW, targets=["core"]), allow=("mass-change",))
        if "AGENT_BACKEND_TASKS" in scene.refs() and "AGENT_CORE_TASKS" not in scene.refs():
            undone += 1
            assert scene.everything(lambda ref: ref.startswith("AGENT_BACKEND_TASKS")) == before
            assert not scene.info(WORKER).get("paused")
    assert undone >= 4
    apply_until_done(scene, NEW)
    assert_half_done(scene, NEW_WORKER, NEW_READER)


def test_a_manifest_that_went_back_is_told_that_a_rename_was_interrupted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(scene)
    with monkeypatch.context() as patched, suppress(Killed):
        die_when(patched, lambda: JOURNAL in scene.config("AGENT_BACKEND_TASKS")["metadata"])
        scene.apply(scene.wish(NEW))
    plan = scene.plan(scene.wish(OLD))
    assert [problem.code for problem in plan.impossible] == ["being-renamed"]
    apply_until_done(scene, NEW)
    assert_half_done(scene, NEW_WORKER, NEW_READER)
    back = "org: acme\nroles: {ceo: , backend: {renamed_from: core}}\n"
    scene.converge(back)
    assert_half_done(scene, WORKER, READER)


def test_a_role_that_goes_while_another_comes_may_be_the_same(scene: Scene) -> None:
    """The plan of a rename that the manifest does not tell says how to tell it."""
    scene.converge(OLD)
    (note,) = scene.plan(scene.wish(DROPPED)).notes
    assert note.startswith("backend left the manifest and core came")


def test_a_renamed_role_is_imported_as_one(scene: Scene) -> None:
    scene.converge(OLD)
    scene.converge(NEW)
    manifest, unsaid = imported("acme", "", scene.target)
    assert "renamed_from: backend" in manifest
    assert (list(unsaid), bool(scene.plan(scene.wish(manifest)))) == ([], False)
