"""A role with a new name, or streams behind a new prefix, keep their tasks, their inbox and their progress."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.changes import Action
from cyborg_infra.model.metadata_keys import JOURNAL_KEY
from cyborg_infra.model.plan import Outcome, Plan, PlanRequest, ResultStatus
from cyborg_infra.model.problems import PlanRefused, Problem, ServerFault
from cyborg_infra.operations.imports import import_manifest
from tests.server.migrate.test_migration import Killed, die_at
from tests.support.faults import Faults, Send
from tests.support.scenario import Request, Scenario, acked, fetched, published
from tests.support.servers import NEWEST, OLDEST, VERSIONS
from tests.support.traffic import Publisher, Worker, eventually

pytestmark = pytest.mark.servers(NEWEST)


OLD = "org: acme\nroles: [ceo, backend]\n"
NEW = "org: acme\nroles: {ceo: , core: {renamed_from: backend}}\n"
DROPPED = "org: acme\nroles: [ceo, core]\n"
BEHIND = OLD + "naming: {stream_prefix: P_}\n"
TASKS, INBOX = "acme.agents.backend.tasks", "acme.agents.backend.inbox"
WORKER, NEW_WORKER = "AGENT_BACKEND_TASKS/backend-worker", "AGENT_CORE_TASKS/core-worker"
READER, NEW_READER = "AGENT_INBOXES/backend-inbox-reader", "AGENT_INBOXES/core-inbox-reader"
HALF_DONE = (published(TASKS, 9), acked(WORKER, 4), published(INBOX, 7), acked(READER, 2))
WRITES = 24  # at least as many as a rename of one role takes


def prepared(scenario: Scenario, manifest: str = OLD) -> None:
    scenario.converge(manifest)
    for step in HALF_DONE:
        step(scenario)


def places(plan: Plan) -> dict[str, str]:
    """New name -> old name of everything that the plan renames."""
    return {
        str(change.ref): str(change.current_ref)
        for change in plan.changes
        if change.current_ref != change.ref
    }


def assert_half_done(scenario: Scenario, worker: str, reader: str) -> None:
    """What was waiting is waiting, and nothing that was done."""
    assert (scenario.info(worker)["num_pending"], scenario.info(reader)["num_pending"]) == (5, 5)
    assert not scenario.info(worker).get("paused")
    assert not scenario.info(reader).get("paused")
    leftovers = [ref for ref in scenario.refs() if "cyborg-infra" in ref]
    assert leftovers == []


def refuse_at(faults: Faults, step: int) -> None:
    """The server refuses the n-th request that would change a task stream, once."""
    reached = 0

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        nonlocal reached
        reached += Request(verb, None).writes and "_TASKS" in verb and "NAMES" not in verb
        if reached == step:
            reached += 1
            raise ServerFault(Problem("api-error", "the server would not"))
        return await send(request)

    faults.intercept(call)


def die_when(faults: Faults, holds: Callable[[], bool]) -> None:
    """The tool dies at its first request after that."""

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        if holds():
            raise Killed
        return await send(request)

    faults.intercept(call)


def apply_until_done(scenario: Scenario, manifest: str) -> None:
    """No plan on the way costs anything, also where it removes what the manifest no longer has."""
    wish = scenario.request(manifest, prune=True)
    for _ in range(3):
        plan = scenario.plan(wish)
        assert {hazard.name for hazard in plan.hazards} <= {"mass-change"}
        with suppress(Killed):
            outcomes = scenario.apply(wish, plan)
            if all(outcome.status is ResultStatus.SUCCEEDED for outcome in outcomes):
                break
    assert not scenario.plan(wish)


@pytest.mark.servers(OLDEST)
def test_what_was_an_interest_stream_takes_everything_along(scenario: Scenario) -> None:
    """Its consumers do not know that it is one no more: stopped, they would delete what waits for them (2.10.26)."""
    interest, limits = (f"streams: {{tasks: {{retention: {name}}}}}\n" for name in ("interest", "limits"))
    scenario.converge(OLD + interest)
    scenario.converge(OLD + limits)
    for step in HALF_DONE:
        step(scenario)
    scenario.converge(NEW + limits)
    assert_half_done(scenario, NEW_WORKER, NEW_READER)


def test_a_renamed_role_takes_tasks_inbox_and_progress_along(scenario: Scenario) -> None:
    prepared(scenario)
    plan = scenario.plan(scenario.request(NEW))
    assert places(plan) == {
        "AGENT_CORE_TASKS": "AGENT_BACKEND_TASKS",
        NEW_WORKER: WORKER,
        NEW_READER: READER,
        "ORG_BROADCASTS/core-broadcast-reader": "ORG_BROADCASTS/backend-broadcast-reader",
    }
    assert (plan.hazards, plan.orphans) == ((), ())
    assert plan.summary.startswith("Plan: 0 to add, ")
    assert plan.summary.endswith(" 0 to destroy, 4 to rename.")
    scenario.converge(NEW)
    assert_half_done(scenario, NEW_WORKER, NEW_READER)
    assert [ref for ref in scenario.refs() if "backend" in ref.lower()] == []
    assert not scenario.plan(scenario.request(NEW))


def test_what_is_still_sent_to_the_old_name_reaches_the_role(scenario: Scenario) -> None:
    scenario.converge(OLD)
    scenario.converge(NEW)
    for subject in (TASKS, INBOX, "acme.agents.core.tasks", "acme.agents.core.inbox"):
        published(subject, 1)(scenario)
    assert eventually(
        lambda: [scenario.info(ref)["num_pending"] for ref in (NEW_WORKER, NEW_READER)] == [2, 2]
    )


def test_dropping_the_old_name_costs_what_waits_under_it(scenario: Scenario) -> None:
    """And nothing but the old subject once that has been worked off."""
    prepared(scenario)
    scenario.converge(NEW)
    costs = [(hazard.name, hazard.count) for hazard in scenario.plan(scenario.request(DROPPED)).hazards]
    assert sorted(costs) == [("resets-progress", 5), ("resets-progress", 5), ("stops-capture", 1)]
    for step in (acked(NEW_WORKER, 5), acked(NEW_READER, 5)):
        step(scenario)
    plan = scenario.plan(scenario.request(DROPPED))
    assert [hazard.reason for hazard in plan.hazards] == [f"no stream would store {TASKS} any more"]
    scenario.converge(DROPPED)
    assert not scenario.plan(scenario.request(DROPPED))


def applied_between_two_tasks(
    scenario: Scenario, wish: PlanRequest, allowed: tuple[str, ...]
) -> list[Outcome]:
    """Return how an apply ended that was asked for again, as an operator would, while its plan saw a task being worked on."""
    for _ in range(30):
        try:
            return scenario.apply(wish, allow=allowed)
        except PlanRefused as refused:
            if {problem.code for problem in refused.problems} != {"repeats-work"}:
                raise
    raise AssertionError("there was always a task being worked on")


def test_agents_go_on_while_their_role_is_renamed(scenario: Scenario) -> None:
    """Publishers under both names and workers under both: each message is worked on once."""
    scenario.converge(OLD)
    wish = scenario.request(NEW)
    allowed = ("mass-change",)
    with Worker(scenario.url, WORKER) as before, Worker(scenario.url, NEW_WORKER) as after:
        with Publisher(scenario.url, TASKS) as old:
            assert eventually(lambda: len(old.acknowledged) > 20)
            outcomes = applied_between_two_tasks(scenario, wish, allowed)
            assert [outcome.problem for outcome in outcomes if outcome.problem] == []
            seen = len(old.acknowledged)
            assert eventually(lambda: len(old.acknowledged) > seen + 20)
        wanted = set(old.acknowledged)
        assert eventually(lambda: wanted <= before.worked.keys() | after.worked.keys())
    assert {name: times for name, times in (before.worked + after.worked).items() if times > 1} == {}
    assert before.worked
    assert after.worked


def test_an_organisation_behind_a_new_prefix_is_the_same_organisation(scenario: Scenario) -> None:
    prepared(scenario)
    plan = scenario.plan(scenario.request(BEHIND))
    assert {change.action for change in plan.changes} == {Action.REPLACE}
    assert [hazard.name for hazard in plan.hazards] == ["mass-change"]
    assert any("becomes no dead letter" in note for note in plan.notes)
    scenario.converge(BEHIND)
    assert_half_done(scenario, f"P_{WORKER}", f"P_{READER}")
    assert [ref for ref in scenario.refs() if not ref.startswith("P_")] == []
    assert not scenario.plan(scenario.request(BEHIND))


def test_a_new_spelling_of_the_same_stream_renames_its_consumers_alone(scenario: Scenario) -> None:
    old = "org: acme\nroles: [data_eng]\n"
    scenario.converge(old)
    for step in (
        published("acme.agents.data_eng.tasks", 3),
        acked("AGENT_DATA_ENG_TASKS/data_eng-worker", 2),
    ):
        step(scenario)
    new = "org: acme\nroles: [{name: data-eng, renamed_from: data_eng}]\n"
    plan = scenario.plan(scenario.request(new))
    actions = {str(change.ref): change.action for change in plan.changes}
    assert actions["AGENT_DATA_ENG_TASKS"] is Action.UPDATE
    assert actions["AGENT_DATA_ENG_TASKS/data-eng-worker"] is Action.REPLACE
    assert plan.hazards == ()
    scenario.converge(new)
    assert scenario.info("AGENT_DATA_ENG_TASKS/data-eng-worker")["num_pending"] == 1


def test_work_that_does_not_end_and_was_not_announced_is_left_as_it_was(scenario: Scenario) -> None:
    """An answer after the rename would not count: what an agent took since the plan was made has to end."""
    prepared(scenario)
    wish = scenario.request(NEW)
    plan = scenario.plan(wish)
    fetched(WORKER, 2)(scenario)
    before = scenario.everything(lambda ref: ref.startswith("AGENT_BACKEND_TASKS"))
    outcomes = scenario.apply(wish, plan, allow=("mass-change", "repeats-work"))
    problems = {str(outcome.change.ref): outcome.problem for outcome in outcomes if outcome.problem}
    assert problems["AGENT_CORE_TASKS"].code == "not-drained"
    assert scenario.everything(lambda ref: ref.startswith("AGENT_BACKEND_TASKS")) == before
    assert not scenario.info(WORKER).get("paused")
    assert "AGENT_CORE_TASKS" not in scenario.refs()


@pytest.mark.parametrize(
    ("scenario", "step"),
    [(version, step) for version in VERSIONS for step in range(1, WRITES + 1)],
    indirect=["scenario"],
)
def test_killed_at_any_step_a_rename_goes_on_at_the_next_apply(
    scenario: Scenario, faults: Faults, step: int
) -> None:
    prepared(scenario)
    die_at(faults, step)
    apply_until_done(scenario, NEW)
    assert_half_done(scenario, NEW_WORKER, NEW_READER)


def test_a_fault_before_the_new_stream_has_everything_leaves_the_old_one_as_it_was(
    scenario: Scenario, faults: Faults
) -> None:
    """At each of the requests up to the promotion: the role goes on under its old name, and the next apply renames it."""
    prepared(scenario)
    before = scenario.everything(lambda ref: ref.startswith("AGENT_BACKEND_TASKS"))
    undone = 0
    for step in range(1, 7):
        with faults.context() as patched:
            refuse_at(patched, step)
            scenario.apply(scenario.request(NEW, targets=["core"]), allow=("mass-change",))
        if "AGENT_BACKEND_TASKS" in scenario.refs() and "AGENT_CORE_TASKS" not in scenario.refs():
            undone += 1
            assert scenario.everything(lambda ref: ref.startswith("AGENT_BACKEND_TASKS")) == before
            assert not scenario.info(WORKER).get("paused")
    assert undone >= 4
    apply_until_done(scenario, NEW)
    assert_half_done(scenario, NEW_WORKER, NEW_READER)


def test_a_manifest_that_went_back_is_told_that_a_rename_was_interrupted(
    scenario: Scenario, faults: Faults
) -> None:
    prepared(scenario)
    with faults.context() as patched, suppress(Killed):
        die_when(patched, lambda: JOURNAL_KEY in scenario.config("AGENT_BACKEND_TASKS")["metadata"])
        scenario.apply(scenario.request(NEW))
    plan = scenario.plan(scenario.request(OLD))
    assert [problem.code for problem in plan.blocking_problems] == ["being-renamed"]
    apply_until_done(scenario, NEW)
    assert_half_done(scenario, NEW_WORKER, NEW_READER)
    back = "org: acme\nroles: {ceo: , backend: {renamed_from: core}}\n"
    scenario.converge(back)
    assert_half_done(scenario, WORKER, READER)


def test_a_role_that_goes_while_another_comes_may_be_the_same(scenario: Scenario) -> None:
    """The plan of a rename that the manifest does not tell says how to tell it."""
    scenario.converge(OLD)
    (note,) = scenario.plan(scenario.request(DROPPED)).notes
    assert note.startswith("backend left the manifest and core came")


def test_a_renamed_role_is_imported_as_one(scenario: Scenario) -> None:
    scenario.converge(OLD)
    scenario.converge(NEW)
    manifest, unsaid = import_manifest("acme", "", scenario.target)
    assert "renamed_from: backend" in manifest
    assert (list(unsaid), bool(scenario.plan(scenario.request(manifest)))) == ([], False)


@pytest.mark.parametrize("prefix", ["", "subject_prefix: acme.eu, "], ids=["same subjects", "other subjects"])
def test_two_streams_that_swap_their_names_do_it_by_way_of_a_third_one(
    scenario: Scenario, prefix: str
) -> None:
    """Also where their subjects change, and so stand in nobody's way: the one would take in the other's messages, and lose its own."""
    text = f"org: acme\nroles: [cto]\nnaming: {{{prefix}streams: {{inboxes: %s, broadcasts: %s}}}}\n"
    scenario.converge("org: acme\nroles: [cto]\n")
    published("acme.agents.cto.inbox", 3)(scenario)
    published("acme.org.broadcasts", 2)(scenario)
    swapped = scenario.request(text % ("ORG_BROADCASTS", "AGENT_INBOXES"))
    plan = scenario.plan(swapped)
    assert {problem.code for problem in plan.blocking_problems} == {"order"}
    assert {str(change.ref) for change in plan.changes if change.action is Action.IMPOSSIBLE} == {
        "ORG_BROADCASTS",
        "AGENT_INBOXES",
    }
    assert any("by way of a third name" in (problem.hint or "") for problem in plan.blocking_problems)
    with scenario.requests() as made, pytest.raises(PlanRefused):
        scenario.apply(swapped)
    assert [request.verb for request in made if request.writes] == []
    for names in (
        ("THIRD", "ORG_BROADCASTS"),
        ("THIRD", "AGENT_INBOXES"),
        ("ORG_BROADCASTS", "AGENT_INBOXES"),
    ):
        scenario.converge(text % names)
        assert not scenario.plan(scenario.request(text % names))
    assert [scenario.info(name)["state"]["messages"] for name in ("ORG_BROADCASTS", "AGENT_INBOXES")] == [
        3,
        2,
    ]
