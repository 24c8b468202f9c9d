"""A role takes so many unfinished tasks and no more, and the server alone sees to it: no publisher has to count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.api.errors import ERROR_HELP
from cyborg_infra.model.changes import Action, HazardName
from cyborg_infra.model.counting import Share
from cyborg_infra.model.error_codes import ErrorCode
from tests.support.agents import fetch, nack, nothing_comes, publish
from tests.support.scenario import Scenario, acked, published
from tests.support.servers import NEWEST, StartServer

FULL = ErrorCode.JSStreamStoreFailedF
STREAM, WORKER, TASK = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker", "gen.agents.cto.tasks"
ORG = "org: gen\nroles: [cto]\n"
ADMITTED = f"{ORG}streams: {{tasks: {{admission: {{max_pending: 5}}}}}}\n"

pytestmark = pytest.mark.versions


def answer(scenario: Scenario, data: bytes = b"one more") -> Any:
    """Return what the server says to a task."""
    return scenario.api.ask(TASK, data).json


def refused(scenario: Scenario) -> bool:
    return bool(answer(scenario).get("error", {}).get("err_code") == FULL)


def test_the_sixth_unfinished_task_is_refused_until_one_is_done(scenario: Scenario) -> None:
    scenario.converge(ADMITTED)
    published(TASK, 5)(scenario)
    assert answer(scenario)["error"]["description"] == "maximum messages exceeded"
    in_work = fetch(scenario.api, WORKER)
    assert refused(scenario)  # a task that is worked on is unfinished
    scenario.api.ask(in_work.reply, b"+ACK")
    assert answer(scenario)["seq"] == 6
    assert refused(scenario)
    assert "acknowledged" in ERROR_HELP[FULL].text


def test_a_task_that_failed_for_good_keeps_its_place_until_it_is_taken_out(scenario: Scenario) -> None:
    """What `dlq keep` has to do, by hand."""
    scenario.converge(ADMITTED)
    dead = [publish(scenario.api, TASK, b"too hard") for _ in range(5)]
    for _ in dead:
        nack(scenario.api, WORKER, times=3)
    assert nothing_comes(scenario.api, WORKER)
    waiting = scenario.info(WORKER)
    assert (waiting["num_pending"], waiting["num_ack_pending"]) == (0, 0)  # nobody will ever work on them
    assert scenario.info(STREAM)["state"]["messages"] == len(dead)
    assert refused(scenario)
    scenario.ask(f"STREAM.MSG.DELETE.{STREAM}", {"seq": dead[0]})
    assert "seq" in answer(scenario)
    assert refused(scenario)


def test_a_role_may_have_another_limit_or_none(scenario: Scenario) -> None:
    scenario.converge(
        "org: gen\nroles: {cto: {tasks: {admission: {max_pending: 1}}}, ops: {tasks: {admission: {}}}, dev: }\n"
        "streams: {tasks: {admission: {max_pending: 5}}}\n"
    )
    told = ("retention", "discard", "max_msgs")
    assert {
        role: tuple(scenario.config(f"AGENT_{role}_TASKS")[name] for name in told)
        for role in ("CTO", "OPS", "DEV")
    } == {"CTO": ("workqueue", "new", 1), "OPS": ("limits", "old", -1), "DEV": ("workqueue", "new", 5)}


def test_switched_on_with_more_unfinished_than_admitted_nothing_is_lost(
    start_server: StartServer, tmp_path: Path
) -> None:
    with Scenario(start_server(version=NEWEST).url, tmp_path) as scene:
        scene.converge(ORG)
        published(TASK, 9)(scene)
        acked(WORKER, 2)(scene)
        plan = scene.plan(scene.request(ADMITTED))
        assert {str(change.ref): change.action for change in plan.changes} == {
            STREAM: Action.REPLACE,
            WORKER: Action.REPLACE,
        }
        assert [(hazard.name, hazard.count, hazard.unfinished) for hazard in plan.hazards] == [
            (HazardName.DELETES_MESSAGES, 2, Share(0))
        ]
        held, ended = sorted(plan.notes)
        assert held.startswith(f"{STREAM} holds 9 messages (the worked ones included): as long as 5 or more")
        assert ended.startswith(f"what an agent terminates is deleted from {STREAM}")
        scene.converge(ADMITTED)
        assert not scene.plan(scene.request(ADMITTED))
        assert scene.info(STREAM)["state"]["messages"] == 7
        assert refused(scene)
        acked(WORKER, 3)(scene)
        assert "seq" in answer(scene)
        scene.converge(ADMITTED.replace("5", "3"))  # in place
        assert scene.info(STREAM)["state"]["messages"] == 5
        assert refused(scene)
