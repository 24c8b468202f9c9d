"""A disk that is full in the middle of an apply: it fails with what to do, loses nothing, and the next one converges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from disk import DiskServer
from scene import Scene, published, worked
from servers import VERSIONS, server_binary

from cyborg_infra.model.plan import Done

TASKS, WORKER = "AGENT_A_TASKS", "AGENT_A_TASKS/a-worker"
SUBJECT = "g.agents.a.tasks"
TELLS_OF_UPDATES = (2, 15)  # before, the update of a stream that cannot be written is answered with OK


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def disk(version: str, tmp_path: Path) -> Iterator[DiskServer]:
    server = DiskServer(tmp_path / "server", binary=server_binary(version))
    yield server.start()
    server.kill()


def manifest(tasks: str = "", worker: str = "", roles: str = "a") -> str:
    return f"org: g\nroles: [{roles}]\nstreams: {{tasks: {{{tasks}}}}}\nconsumers: {{worker: {{{worker}}}}}\n"


def test_every_write_that_fails_on_a_full_disk_is_made_up_for(
    disk: DiskServer, version: str, tmp_path: Path
) -> None:
    """What the server has in memory alone is not called done, and no restart takes anything back.

    2.10 forgets, at the restart, a stream or consumer whose update failed; created again, it has its messages and stands
    where it stood.
    """
    told = tuple(map(int, version.split(".")[:2])) >= TELLS_OF_UPDATES
    with Scene(disk.url, tmp_path) as scene:
        scene.converge(manifest())
        published(SUBJECT, 6)(scene)
        worked(WORKER, 2)(scene)
        for failed, text in (
            ({WORKER}, manifest(worker="ack_wait: 1h")),
            ({TASKS} if told else set(), manifest("max_age: 80h", "ack_wait: 1h")),
            ({WORKER}, manifest("max_age: 80h", "ack_wait: 1h, max_waiting: 9")),
            (
                {"AGENT_B_TASKS", "AGENT_INBOXES/b-inbox-reader"},
                manifest("max_age: 80h", "ack_wait: 1h, max_waiting: 9", roles="a, b"),
            ),
        ):
            wish = scene.wish(text)
            plan = scene.plan(wish)
            disk.fill()
            problems = {
                str(outcome.change.ref): outcome.problem
                for outcome in scene.apply(wish, plan)
                if outcome.done is Done.FAILED
            }
            assert failed <= problems.keys()
            for problem in problems.values():
                assert problem
                assert "make room there and apply again" in problem.hint
            disk.empty()
            assert {str(change.ref) for change in scene.plan(wish).changes} >= failed
            disk.restart()
            scene.reconnect()
            scene.converge(text)
            assert not scene.plan(wish)
            assert scene.info(TASKS)["state"]["messages"] == 6
            assert (scene.info(WORKER)["delivered"]["stream_seq"], scene.info(WORKER)["num_pending"]) == (
                2,
                4,
            )
