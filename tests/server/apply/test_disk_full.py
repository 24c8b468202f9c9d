"""A disk that is full in the middle of an apply: it fails with what to do, loses nothing, and the next one converges."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.problems import PlanRefused
from cyborg_infra.model.ref import TEMPORARY_PREFIX
from cyborg_infra.operations.provision import PlanRequest
from tests.server.migrate.test_migration import (
    STREAM,
    Fault,
    Killed,
    apply_until_done,
    assert_books_balance,
    assert_in_sync,
    preload,
)
from tests.server.migrate.test_migration import SUBJECT as MOVED_SUBJECT
from tests.server.migrate.test_migration import WORKER as MOVED_WORKER
from tests.server.migrate.test_migration import manifest as move_manifest
from tests.support.disk import DiskServer
from tests.support.faults import Faults, Send
from tests.support.ports import free_port
from tests.support.scenario import Scenario, acked, published
from tests.support.servers import NEWEST, VERSIONS, server_binary
from tests.support.traffic import BATCH, Publisher, Worker, eventually

TASKS, WORKER = "AGENT_A_TASKS", "AGENT_A_TASKS/a-worker"
SUBJECT = "g.agents.a.tasks"
TELLS_OF_UPDATES = (2, 15)  # before, the update of a stream that cannot be written is answered with OK


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def disk(version: str, tmp_path: Path) -> Iterator[DiskServer]:
    server = DiskServer(tmp_path / "server", port=free_port(), binary=server_binary(version))
    yield server.start()
    server.kill()


def manifest(tasks: str = "", worker: str = "", roles: str = "a") -> str:
    return f"org: g\nroles: [{roles}]\nstreams: {{tasks: {{{tasks}}}}}\nconsumers: {{worker: {{{worker}}}}}\n"


def test_every_write_that_fails_on_a_full_disk_is_made_up_for(
    disk: DiskServer, version: str, tmp_path: Path
) -> None:
    """What the server has in memory alone is not called done, and no restart takes anything back.

    2.10 forgets, at the restart, a stream or consumer whose update failed; created again, it has its messages, which
    the apply says before it goes on, and stands where it stood.
    """
    told = tuple(map(int, version.split(".")[:2])) >= TELLS_OF_UPDATES
    with Scenario(disk.url, tmp_path, answers_all=False) as scene:
        scene.converge(manifest())
        published(SUBJECT, 6)(scene)
        acked(WORKER, 2)(scene)
        for failed, text in (
            ({WORKER}, manifest(worker="ack_wait: 1h")),
            ({TASKS} if told else set(), manifest("max_age: 80h", "ack_wait: 1h")),
            ({WORKER}, manifest("max_age: 80h", "ack_wait: 1h, max_waiting: 9")),
            (
                {"DEAD_LETTERS"} if told else {"AGENT_B_TASKS", "AGENT_INBOXES/b-inbox-reader"},
                manifest("max_age: 80h", "ack_wait: 1h, max_waiting: 9", roles="a, b"),
            ),
        ):
            wish = scene.request(text)
            plan = scene.plan(wish)
            disk.fill()
            try:
                problems = {
                    str(outcome.change.ref): outcome.problem
                    for outcome in scene.apply(wish, plan)
                    if outcome.status is ResultStatus.FAILED
                }
            except PlanRefused as refused:  # what replaces another is tried before anything is taken away
                assert "max_waiting" in text
                problems = dict.fromkeys(failed, refused.problems[0])
            assert failed <= problems.keys()
            for problem in problems.values():
                assert problem
                assert "make room there and apply again" in (problem.hint or "")
            disk.empty()
            assert {str(change.ref) for change in scene.plan(wish).changes} >= failed
            disk.restart()
            scene.reconnect()
            found = [outcome.problem.code for outcome in scene.apply(scene.request(text)) if outcome.problem]
            assert found in ([], ["older-messages"] if version.startswith("2.10.") else [])
            scene.converge(text)
            assert not scene.plan(wish)
            assert scene.info(TASKS)["state"]["messages"] == 6
            assert (scene.info(WORKER)["delivered"]["stream_seq"], scene.info(WORKER)["num_pending"]) == (
                2,
                4,
            )


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[tuple[DiskServer, Scenario]]:
    """Yield a server of the newest version with a filled stream; before 2.14 a full disk loses what the server acknowledged."""
    with (
        DiskServer(tmp_path / "server", port=free_port(), binary=server_binary(NEWEST)) as server,
        Scenario(server.url, tmp_path, answers_all=False) as scene,
    ):
        scene.converge(move_manifest("retention: limits"))
        yield server, scene


@dataclass
class Agents:
    """At work. What they acknowledge while nothing can be written, the server may forget: `forgotten` messages at most."""

    publisher: Publisher
    worker: Worker
    forgotten: int = 0


@contextmanager
def agents(scenario: Scenario, wanted: str, before: Callable[[], None] = lambda: None) -> Iterator[Agents]:
    """Return one publishes and one works during the block and after it; then the books balance and the manifest holds.

    Nothing is published `before`: a stream that could not store a message on a full disk takes none until a restart.
    """
    old = preload(scenario, 200)
    with Worker(scenario.url, MOVED_WORKER) as worker:
        # The first that is finished, where nothing was, is a hazard that no plan has shown.
        assert eventually(lambda: bool(scenario.info(MOVED_WORKER)["ack_floor"]["stream_seq"]))
        before()
        with Publisher(scenario.url, MOVED_SUBJECT) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > 20)
            yield (at_work := Agents(publisher, worker))
            seen = len(publisher.acknowledged)
            assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
        assert_books_balance(scenario, old, publisher, worker, at_work.forgotten)
    assert_in_sync(scenario, wanted)


@pytest.mark.parametrize("step", [1, 4, 5, 8, 10, 12])
def test_a_disk_that_is_full_at_any_step_of_a_replace_loses_nothing(
    moving: tuple[DiskServer, Scenario], faults: Faults, step: int
) -> None:
    server, scene = moving
    after = move_manifest("retention: workqueue")
    wish = scene.request(after)
    with agents(scene, after) as at_work:
        done = at_work.worker.worked
        kept: list[int] = []

        def fill() -> None:
            kept.append(len(done))
            server.fill()

        with faults.context() as patched:
            Fault(patched, step, fill)
            outcomes = scene.apply(wish)
        hints = [outcome.problem.hint for outcome in outcomes if outcome.problem]
        assert hints
        assert all("make room there and apply again" in (hint or "") for hint in hints)
        at_work.forgotten = len(done) - kept[0] + BATCH
        server.restart()
        scene.reconnect()
        apply_until_done(scene, wish)


def fail_to_promote(server: DiskServer, scenario: Scenario, request: PlanRequest, faults: Faults) -> None:
    """The disk is full just when the temporary stream takes over; the server has it in memory, and the tool dies."""

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        body: Any = request.body
        if verb == f"STREAM.UPDATE.{TEMPORARY_PREFIX}{STREAM}" and "mirror" not in body:
            server.fill()
            try:
                await send(request)
            finally:
                server.empty()
                raise Killed
        return await send(request)

    with faults.context() as patched, suppress(Killed):
        patched.intercept(call)
        scenario.apply(request)


def test_a_promotion_that_a_restart_takes_back_loses_nothing_that_came_after_it(
    moving: tuple[DiskServer, Scenario], faults: Faults
) -> None:
    """The temporary stream is a mirror again, and ahead of what it mirrors: it is not given up for that."""
    faults.waits(COPY_STALL_TIMEOUT_SECONDS=1.0)
    server, scene = moving
    after = move_manifest("retention: workqueue")
    wish = scene.request(after)
    with agents(scene, after, lambda: fail_to_promote(server, scene, wish, faults)) as at_work:
        seen = len(at_work.publisher.acknowledged)
        assert eventually(lambda: len(at_work.publisher.acknowledged) > seen + 20)
        server.restart()
        scene.reconnect()
        apply_until_done(scene, wish)


def test_a_promotion_that_failed_is_on_the_disk_before_the_old_stream_goes(
    moving: tuple[DiskServer, Scenario], faults: Faults, tmp_path: Path
) -> None:
    """There is room again, and the server was not restarted: what it says of the temporary stream is in its memory alone."""
    server, scene = moving
    after = move_manifest("retention: workqueue")
    wish = scene.request(after)
    mirrors = []

    def mirrors_on_disk() -> bool:
        (meta,) = tmp_path.rglob(f"{TEMPORARY_PREFIX}{STREAM}/meta.inf")
        return bool(json.loads(meta.read_text(encoding="utf-8")).get("mirror"))

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        if verb == f"STREAM.DELETE.{STREAM}":
            mirrors.append(mirrors_on_disk())
        return await send(request)

    with agents(scene, after, lambda: fail_to_promote(server, scene, wish, faults)):
        assert mirrors_on_disk()
        faults.intercept(call)
        apply_until_done(scene, wish)
    assert mirrors == [False]
