"""A role takes so many unfinished tasks and no more, and the server alone sees to it: no publisher has to count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import fetch, give_back, nothing_comes, publish
from scene import Scene, published, worked
from servers import NEWEST, StartServer

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.faults import ADVICE
from cyborg_infra.model.plan import Action

FULL = 10077
STREAM, WORKER, TASK = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker", "gen.agents.cto.tasks"
ORG = "org: gen\nroles: [cto]\n"
ADMITTED = f"{ORG}streams: {{tasks: {{admission: {{max_pending: 5}}}}}}\n"

pytestmark = pytest.mark.versions


@pytest.fixture
def scene(any_server: EmbeddedServer, tmp_path: Path) -> Iterator[Scene]:
    with Scene(any_server.url, tmp_path) as opened:
        yield opened


def answer(scene: Scene, data: bytes = b"one more") -> Any:
    """What the server says to a task."""
    return scene.api.ask(TASK, data).json


def refused(scene: Scene) -> bool:
    return bool(answer(scene).get("error", {}).get("err_code") == FULL)


def test_the_sixth_unfinished_task_is_refused_until_one_is_done(scene: Scene) -> None:
    scene.converge(ADMITTED)
    published(TASK, 5)(scene)
    assert answer(scene)["error"]["description"] == "maximum messages exceeded"
    in_work = fetch(scene.api, WORKER)
    assert refused(scene)  # a task that is worked on is unfinished
    scene.api.ask(in_work.reply, b"+ACK")
    assert answer(scene)["seq"] == 6
    assert refused(scene)
    assert "acknowledged" in ADVICE[FULL].text


def test_a_task_that_failed_for_good_keeps_its_place_until_it_is_taken_out(scene: Scene) -> None:
    """What `dlq keep` has to do, by hand."""
    scene.converge(ADMITTED)
    dead = [publish(scene.api, TASK, b"too hard") for _ in range(5)]
    for _ in dead:
        give_back(scene.api, WORKER, times=3)
    assert nothing_comes(scene.api, WORKER)
    waiting = scene.info(WORKER)
    assert (waiting["num_pending"], waiting["num_ack_pending"]) == (0, 0)  # nobody will ever work on them
    assert scene.info(STREAM)["state"]["messages"] == len(dead)
    assert refused(scene)
    scene.ask(f"STREAM.MSG.DELETE.{STREAM}", {"seq": dead[0]})
    assert "seq" in answer(scene)
    assert refused(scene)


def test_a_role_may_have_another_limit_or_none(scene: Scene) -> None:
    scene.converge(
        "org: gen\nroles: {cto: {tasks: {admission: {max_pending: 1}}}, ops: {tasks: {admission: {}}}, dev: }\n"
        "streams: {tasks: {admission: {max_pending: 5}}}\n"
    )
    told = ("retention", "discard", "max_msgs")
    assert {
        role: tuple(scene.config(f"AGENT_{role}_TASKS")[name] for name in told)
        for role in ("CTO", "OPS", "DEV")
    } == {"CTO": ("workqueue", "new", 1), "OPS": ("limits", "old", -1), "DEV": ("workqueue", "new", 5)}


def test_switched_on_with_more_unfinished_than_admitted_nothing_is_lost(
    start_server: StartServer, tmp_path: Path
) -> None:
    with Scene(start_server(version=NEWEST).url, tmp_path) as scene:
        scene.converge(ORG)
        published(TASK, 9)(scene)
        worked(WORKER, 2)(scene)
        plan = scene.plan(scene.wish(ADMITTED))
        assert {str(change.ref): change.action for change in plan.changes} == {
            STREAM: Action.REPLACE,
            WORKER: Action.REPLACE,
        }
        assert plan.hazards == ()
        (note,) = plan.notes
        assert note.startswith(f"{STREAM} holds 9 messages (the worked ones included): as long as 5 or more")
        scene.converge(ADMITTED)
        assert not scene.plan(scene.wish(ADMITTED))
        assert scene.info(STREAM)["state"]["messages"] == 7
        assert refused(scene)
        worked(WORKER, 3)(scene)
        assert "seq" in answer(scene)
        scene.converge(ADMITTED.replace("5", "3"))  # in place
        assert scene.info(STREAM)["state"]["messages"] == 5
        assert refused(scene)
