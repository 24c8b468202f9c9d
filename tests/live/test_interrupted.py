"""What goes wrong in the middle of an apply: every change has an outcome, nothing of others is overwritten, and the next apply goes on."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from acceptance import (
    BROADCASTS,
    CEO_TASKS,
    CEO_WORKER,
    HOUR,
    OF_CEO,
    ORG,
    TASK,
    TASKS,
    TWO,
    WORKER,
    account,
    tasks,
    worker,
)
from scene import Scene, Step, changed, deleted, published, stream, worked
from servers import OLDEST, StartServer
from silence import Silence

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.fields import FIELDS, Kind
from cyborg_infra.model.plan import Done, Outcome
from cyborg_infra.model.problems import PlanStale

DONE, FAILED, NOT_REACHED = Done


@pytest.fixture
def scene(server: EmbeddedServer, tmp_path: Path) -> Iterator[Scene]:
    with Scene(server.url, tmp_path) as found:
        yield found


class Meanwhile:
    """Somebody else does something right before the product's first request that begins like this reaches the server."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self._scene, self._monkeypatch = scene, monkeypatch

    def before(self, verb: str, *steps: Step) -> None:
        original, waiting, first = JetStream.call, [steps], asyncio.Lock()

        async def call(
            server: JetStream, asked: str, body: Mapping[str, Any] | None = None, **more: Any
        ) -> dict[str, Any]:
            async with first:
                for step in waiting.pop() if asked.startswith(verb) and waiting else ():
                    await asyncio.to_thread(step, self._scene)
            return await original(server, asked, body, **more)

        self._monkeypatch.setattr(JetStream, "call", call)


@pytest.fixture
def meanwhile(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    return Meanwhile(scene, monkeypatch)


def ends(outcomes: list[Outcome]) -> dict[str, Done]:
    """How each change ended; one outcome for each."""
    assert len({outcome.change.ref for outcome in outcomes}) == len(outcomes)
    assert all((outcome.problem is not None) == (outcome.done is FAILED) for outcome in outcomes)
    return {str(outcome.change.ref): outcome.done for outcome in outcomes}


def problem(outcomes: list[Outcome], ref: str) -> str:
    """Why this change failed."""
    (found,) = [outcome.problem for outcome in outcomes if str(outcome.change.ref) == ref]
    assert found is not None
    return found.message


def test_a_limit_reached_by_somebody_else_stops_the_apply_and_the_next_one_goes_on(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scene(start_server(config=account("max_streams: 5")).url, tmp_path) as scene:
        scene.converge(ORG)
        Meanwhile(scene, monkeypatch).before("STREAM.CREATE.", stream("OTHER", "other.>"))
        wish = scene.wish(TWO)
        plan = scene.plan(wish)
        before = set(scene.refs())
        outcomes = scene.apply(wish, plan)
        found = ends(outcomes)
        assert {str(change.ref) for change in plan.changes} == set(found)
        assert (found[CEO_TASKS], found[CEO_WORKER]) == (FAILED, NOT_REACHED)
        assert "maximum number of streams reached (err_code 10027)" in problem(outcomes, CEO_TASKS)
        done = {ref for ref, end in found.items() if end is DONE}
        assert set(scene.refs()) == before | {"OTHER"} | done
        deleted("OTHER")(scene)
        scene.converge(TWO)
        assert not scene.plan(wish)


def test_a_stream_created_meanwhile_is_not_overwritten(scene: Scene, meanwhile: Meanwhile) -> None:
    meanwhile.before(f"STREAM.CREATE.{TASKS}", stream(TASKS, TASK, description="theirs"))
    outcomes = scene.apply(scene.wish(ORG))
    assert "already in use" in problem(outcomes, TASKS)
    assert ends(outcomes)[WORKER] is NOT_REACHED
    assert scene.config(TASKS)["description"] == "theirs"
    scene.converge(ORG)
    assert scene.config(TASKS).get("description") is None


@pytest.mark.parametrize(
    ("ref", "verb", "manifest"),
    [
        (TASKS, f"STREAM.INFO.{TASKS}", tasks("max_age: 80h")),
        (WORKER, f"CONSUMER.INFO.{WORKER.replace('/', '.')}", worker("ack_wait: 40m")),
        (WORKER, f"CONSUMER.INFO.{WORKER.replace('/', '.')}", worker("max_waiting: 9")),
    ],
    ids=["stream", "consumer", "replacement"],
)
def test_what_somebody_changed_after_the_plan_is_left_as_it_is(
    ref: str, verb: str, manifest: str, scene: Scene, meanwhile: Meanwhile
) -> None:
    scene.converge(ORG)
    meanwhile.before(verb, changed(ref, description="theirs"))
    outcomes = scene.apply(scene.wish(manifest))
    assert ends(outcomes) == {ref: FAILED}
    assert problem(outcomes, ref) == f"{ref} was changed since the plan was made; it was left as it is"
    assert scene.config(ref)["description"] == "theirs"
    scene.converge(manifest)
    assert not scene.plan(scene.wish(manifest))


def test_what_somebody_deleted_after_the_plan_is_not_brought_back_unasked(
    scene: Scene, meanwhile: Meanwhile
) -> None:
    scene.converge(ORG)
    meanwhile.before(f"STREAM.INFO.{TASKS}", deleted(TASKS))
    outcomes = scene.apply(scene.wish(tasks("max_age: 80h")))
    assert problem(outcomes, TASKS) == f"{TASKS} was deleted since the plan was made; it was left as it is"
    assert TASKS not in scene.refs()
    scene.converge(tasks("max_age: 80h"))


def test_what_somebody_made_anew_after_the_plan_is_left_as_it_is(scene: Scene, meanwhile: Meanwhile) -> None:
    scene.converge(ORG)
    config = scene.config(TASKS)
    meanwhile.before(
        f"STREAM.INFO.{TASKS}",
        deleted(TASKS),
        lambda found: found.ask(f"STREAM.CREATE.{TASKS}", config),
    )
    outcomes = scene.apply(scene.wish(tasks("max_age: 80h")))
    assert "was deleted and created again since" in problem(outcomes, TASKS)
    assert scene.config(TASKS)["max_age"] == 72 * HOUR


def test_a_message_that_arrives_before_an_empty_stream_goes_is_kept(
    scene: Scene, meanwhile: Meanwhile
) -> None:
    scene.converge(TWO)
    before = scene.config(CEO_TASKS)
    meanwhile.before(f"STREAM.UPDATE.{CEO_TASKS}", published("gen.agents.ceo.tasks", 1))
    outcomes = scene.apply(scene.wish(ORG, prune=True))
    assert "1 messages arrived since the plan was made" in problem(outcomes, CEO_TASKS)
    assert scene.info(CEO_TASKS)["state"]["messages"] == 1
    assert scene.config(CEO_TASKS) == before
    published("gen.agents.ceo.tasks", 1)(scene)
    plan = scene.plan(scene.wish(ORG, prune=True))
    assert sum(hazard.count for hazard in plan.hazards if hazard.name == "deletes-messages") == 2


def test_a_parked_stream_takes_no_message_that_would_be_lost(scene: Scene, meanwhile: Meanwhile) -> None:
    """Once a publisher could be told that a message is stored, the stream is not deleted any more."""
    scene.converge(TWO)
    refused: list[bool] = []

    def publish(found: Scene) -> None:
        with pytest.raises((RuntimeError, queue.Empty)):
            found.api.ask("gen.agents.ceo.tasks", b"late", timeout=1)
        refused.append(True)

    meanwhile.before(f"STREAM.DELETE.{CEO_TASKS}", publish)
    outcomes = scene.apply(scene.wish(ORG, prune=True))
    assert {DONE} == set(ends(outcomes).values())
    assert refused == [True]


def test_a_consumer_that_was_worked_with_after_the_plan_is_not_deleted(
    scene: Scene, meanwhile: Meanwhile
) -> None:
    scene.converge(TWO)
    reader = OF_CEO[2]
    meanwhile.before(
        f"CONSUMER.INFO.{reader.replace('/', '.')}", published("gen.agents.ceo.inbox", 2), worked(reader, 1)
    )
    outcomes = scene.apply(scene.wish(ORG, prune=True))
    assert "has been worked with since the plan was made" in problem(outcomes, reader)
    assert scene.info(reader)["num_pending"] == 1


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("verb", ["STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "CONSUMER.CREATE", "CONSUMER.DELETE"])  # fmt: skip
def test_after_a_lost_reply_what_happened_decides_whether_to_write_again(
    verb: str,
    executed: bool,  # noqa: FBT001
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = {
        "STREAM.CREATE": (None, ORG),
        "CONSUMER.CREATE": (None, ORG),
        "STREAM.UPDATE": (ORG, tasks("max_age: 80h")),
        "STREAM.DELETE": (TWO, ORG),
        "CONSUMER.DELETE": (TWO, ORG),
    }[verb]
    if before:
        scene.converge(before)
    wish = scene.wish(after, prune=True)
    plan = scene.plan(wish)
    silence = Silence(monkeypatch, verb, executed=executed)
    with scene.requests() as made:
        assert {DONE} == set(ends(scene.apply(wish, plan)).values())
    assert silence.lost
    written = [f"$JS.API.{request.verb}" for request in made if request.writes]
    assert {1} == {written.count(subject) for subject in silence.lost}
    assert not scene.plan(scene.wish(after))


def test_a_field_that_the_server_drops_silently_is_a_failure(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the table said that 2.10 knows allow_atomic: 2.10 answers OK and leaves it out."""
    with Scene(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(ORG)
        older = FIELDS[Kind.STREAM]["allow_atomic"]._replace(since=0)
        monkeypatch.setitem(FIELDS[Kind.STREAM], "allow_atomic", older)
        outcomes = scene.apply(scene.wish(tasks("allow_atomic: true")))
        assert problem(outcomes, TASKS) == f"{TASKS}: the server answered OK and did not keep allow_atomic"


def test_what_does_not_hold_when_it_is_read_back_has_failed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody changes a stream right after our write, before the apply ends."""
    scene.converge(ORG)
    original: Callable[..., Any] = JetStream.call

    async def call(server: JetStream, verb: str, *arguments: Any, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await original(server, verb, *arguments, **more)
        if verb == f"STREAM.UPDATE.{TASKS}":
            await asyncio.to_thread(changed(TASKS, max_msgs=7), scene)
        return answer

    monkeypatch.setattr(JetStream, "call", call)
    outcomes = scene.apply(scene.wish(tasks("max_age: 80h")))
    assert problem(outcomes, TASKS) == f"{TASKS} was written and, read back, differs in max_msgs"


def test_a_server_that_dies_leaves_an_outcome_for_every_change(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server()
    with Scene(server.url, tmp_path) as scene:
        Meanwhile(scene, monkeypatch).before(f"STREAM.CREATE.{BROADCASTS}", lambda _: server.kill())
        wish = scene.wish(ORG)
        plan = scene.plan(wish)
        found = ends(scene.apply(wish, plan))
        assert {str(change.ref) for change in plan.changes} == set(found)
        assert found[BROADCASTS] is FAILED
        assert NOT_REACHED in found.values()
    server.start()
    with Scene(server.url, tmp_path) as scene:
        scene.converge(ORG)
        assert not scene.plan(wish)


def test_after_two_applies_at_once_the_next_one_converges(scene: Scene) -> None:
    """Without the lease: each write still looks first."""
    wish = scene.wish(ORG)
    plan = scene.plan(wish)
    started = threading.Barrier(2)

    def run() -> None:
        started.wait()
        with contextlib.suppress(PlanStale):
            scene.apply(wish, plan)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scene.converge(ORG)
    assert sorted(scene.refs()) == sorted(str(change.ref) for change in plan.changes)


def test_the_first_answer_after_a_restart_is_checked_by_reading(any_server: Any, tmp_path: Path) -> None:
    """Restarted, a server answers the first update of a consumer with the configuration that it had before."""
    with Scene(any_server.url, tmp_path) as scene:
        scene.converge("org: g\nroles: [a]\n")
    any_server.kill()
    any_server.start()
    with Scene(any_server.url, tmp_path) as scene:
        scene.converge("org: g\nroles: [a]\nconsumers: {worker: {ack_wait: 1h, max_ack_pending: 7}}\n")


def test_what_cannot_be_read_back_is_not_called_done(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost after the last write was answered: every change was written, none is known to hold."""
    wish = scene.wish("org: g\nroles: [a]\n")
    plan = scene.plan(wish)
    original, listings = JetStream.call, []

    async def call(
        server: JetStream, verb: str, body: Mapping[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        listings.append(verb)
        if verb == "INFO" and listings.count(verb) > 1:
            await server._connection.close()  # noqa: SLF001 - as if the network had gone
        return await original(server, verb, body, **more)

    monkeypatch.setattr(JetStream, "call", call)
    outcomes = scene.apply(wish, plan)
    assert {outcome.done for outcome in outcomes} == {FAILED}
    assert all(outcome.problem and outcome.problem.code == "not-read-back" for outcome in outcomes)
