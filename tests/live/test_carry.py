"""A consumer that has to be replaced goes on where it stood: nothing finished comes again, nothing is skipped."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scene import Scene
from servers import NEWEST, OLDEST, StartServer
from traffic import BATCH, Publisher, Worker, eventually

from cyborg_infra import pipeline
from cyborg_infra.live import carry
from cyborg_infra.live.jetstream import JetStream, opened
from cyborg_infra.model.fields import Version
from cyborg_infra.model.plan import Action, Done, HazardName, Outcome
from cyborg_infra.model.state import PLACEHOLDER, Ref, Resource

TASKS = "g.agents.a.tasks"
WORKER = "AGENT_A_TASKS/a-worker"


class Killed(Exception):
    """The tool died here; no error that it knows of."""


def manifest(retention: str = "limits", **worker: object) -> str:
    """One role whose worker has these settings."""
    settings: dict[str, object] = {"max_ack_pending": 50, **worker}
    return f"org: g\nroles: [a]\nstreams: {{tasks: {{retention: {retention}}}}}\nconsumers: {{worker: {json.dumps(settings)}}}\n"


@pytest.fixture
def scene(any_server: Any, tmp_path: Path) -> Iterator[Scene]:
    with Scene(any_server.url, tmp_path) as scene:
        yield scene


def publish(scene: Scene, numbers: range) -> None:
    for number in numbers:
        assert "seq" in scene.api.ask(TASKS, str(number).encode()).json


def pull(scene: Scene, count: int) -> Iterator[tuple[int, Callable[..., object]]]:
    """What the worker is handed: the number in the message, and a function that answers. Ends when nothing waits."""
    inbox = scene.api.subscribe(f"pulled.{next(_pulls)}")
    where, _, name = WORKER.partition("/")
    body = json.dumps({"batch": count, "no_wait": True}).encode()
    scene.api.publish(f"$JS.API.CONSUMER.MSG.NEXT.{where}.{name}", body, reply=inbox.subject)
    for _ in range(count):
        message = inbox.next()
        if not message.reply:
            return  # 404 or 408: no more
        yield int(message.data), partial(scene.api.ask, message.reply)


_pulls = itertools.count()


def work(scene: Scene, count: int = 1000) -> list[int]:
    """The numbers that were handed out, each acknowledged."""
    done = []
    for number, answer in pull(scene, count):
        answer(b"+ACK")
        done.append(number)
    return done


def replaced(scene: Scene, text: str, **options: Any) -> list[Outcome]:
    """The plan replaces the worker alone, and is carried out."""
    wish = scene.wish(text)
    plan = scene.plan(wish)
    assert [(str(change.ref), change.action) for change in plan.changes] == [(WORKER, Action.REPLACE)]
    return pipeline.apply(plan, wish, scene.target, allow=["repeats-work"] if plan.hazards else [], **options)


def leftovers(scene: Scene) -> list[str]:
    return [ref for ref in scene.refs() if PLACEHOLDER in ref]


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
@pytest.mark.parametrize(
    "change",
    [{"max_waiting": 100}, {"replay_policy": "original"}, {"deliver_policy": "new"}, {"mem_storage": True}],
    ids=lambda change: next(iter(change)),
)
def test_a_replaced_consumer_goes_on_where_the_old_one_stood(
    scene: Scene, retention: str, change: Mapping[str, object]
) -> None:
    if retention == "workqueue" and "deliver_policy" in change:
        change = {"max_waiting": 7}  # a workqueue delivers all, or the manifest is refused
    scene.converge(manifest(retention))
    publish(scene, range(20))
    assert work(scene, 12) == list(range(12))
    assert [outcome.done for outcome in replaced(scene, manifest(retention, **change))] == [Done.DONE]
    publish(scene, range(20, 25))
    assert work(scene) == list(range(12, 25))
    assert not scene.plan(scene.wish(manifest(retention, **change)))
    assert leftovers(scene) == []


def test_a_consumer_is_replaced_again_and_again_without_a_difference_left(scene: Scene) -> None:
    """The note of a start sequence stands for the manifest's start, also for the next update and replace."""
    scene.converge(manifest())
    publish(scene, range(10))
    worked = work(scene, 4)
    for change in ({"max_waiting": 100}, {"max_waiting": 50}, {"max_waiting": 50, "ack_wait": "1h"}):
        scene.converge(manifest(**change))
        assert not scene.plan(scene.wish(manifest(**change)))
        worked += work(scene, 2)
    assert worked == list(range(10))


def test_a_consumer_that_has_been_at_work_is_never_moved_back(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Also where it is said to be parked still, as by a server that has just become its leader."""
    server = start_server(version=NEWEST)
    with Scene(server.url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(10))
        desired = scene.wish(manifest()).desired.resources[Ref(*WORKER.split("/"))]

        async def finished() -> None:
            async with opened(scene.target) as api:
                await carry.keep(api, desired, 4)
                assert await asyncio.to_thread(work, scene, 8) == list(range(8))
                scene.ask(f"CONSUMER.PAUSE.{WORKER.replace('/', '.')}", {"pause_until": carry.PARKED})
                await carry.finish(api, desired, Version.parse(NEWEST))

        asyncio.run(finished())
        assert work(scene) == [8, 9]
        assert leftovers(scene) == []


def test_a_position_that_is_known_holds_whatever_a_server_tells_that_has_not_heard_of_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.converge(manifest())
    publish(scene, range(10))
    worked = work(scene, 8)
    original = JetStream.info

    async def info(server: JetStream, ref: Ref) -> Resource | None:
        found = await original(server, ref)
        if found is None or not ref.is_placeholder:
            return found
        return replace(found, config={**found.config, "opt_start_seq": 2})

    with monkeypatch.context() as patched:
        patched.setattr(JetStream, "info", info)
        replaced(scene, manifest(max_waiting=9))
    assert worked + work(scene) == list(range(10))


def test_a_consumer_that_has_delivered_nothing_needs_no_placeholder(scene: Scene) -> None:
    scene.converge(manifest())
    publish(scene, range(3))
    with scene.requests() as requests:
        replaced(scene, manifest(max_waiting=9))
    assert [request for request in requests if PLACEHOLDER in request.verb and "CREATE" in request.verb] == []
    assert work(scene) == [0, 1, 2]


def test_a_worker_who_comes_after_the_plan_is_not_handed_anything_twice(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 2.11 no consumer can be paused, and the plan of an idle one has counted nothing."""
    with Scene(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(10))
        assert work(scene, 2) == [0, 1]
        real, worked = JetStream.call, list[int]()

        async def call(server: JetStream, verb: str, *given: Any, **named: Any) -> dict[str, Any]:
            answer = await real(server, verb, *given, **named)
            if "CONSUMER.CREATE" in verb and PLACEHOLDER in verb and not worked:
                worked.extend(work(scene, 3))
            return answer

        monkeypatch.setattr(JetStream, "call", call)
        (outcome,) = replaced(scene, manifest(max_waiting=9))
        assert outcome.problem
        assert outcome.problem.code == "at-work"
        assert leftovers(scene) == []
        (outcome,) = replaced(scene, manifest(max_waiting=9))
        assert outcome.done is Done.DONE
        assert work(scene) == list(range(5, 10))


def busily_replaced(scene: Scene, text: str) -> int:
    """Applied, while somebody works, until it holds; how many messages the plans said could come again."""
    wish, announced = scene.wish(text), 0
    while plan := scene.plan(wish):
        announced += sum(hazard.count for hazard in plan.hazards)
        assert {hazard.name for hazard in plan.hazards} <= {HazardName.REPEATS_WORK}
        outcomes = pipeline.apply(plan, wish, scene.target, allow=["repeats-work"], drain=20)
        problems = {outcome.problem.code for outcome in outcomes if outcome.problem}
        assert problems <= {"at-work"}  # between two pulls it seemed to be idle
    return announced


@contextlib.contextmanager
def at_work(scene: Scene) -> Iterator[list[int]]:
    """One publishes and one works, and in the end all is done, and no more twice than the numbers in the list allow."""
    announced: list[int] = []
    with Worker(scene.url, WORKER) as worker:
        with Publisher(scene.url, TASKS) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > BATCH)
            yield announced
        assert eventually(lambda: publisher.acknowledged.keys() <= worker.worked.keys())
    repeated = [name for name, times in worker.worked.items() if times > 1]
    assert len(repeated) <= sum(announced), len(repeated)
    assert leftovers(scene) == []


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_no_more_comes_again_than_announced_however_long_it_takes(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retention: str
) -> None:
    """Nothing pauses a consumer there: one that somebody works with is stopped by a filter that nothing matches."""
    real = JetStream.call

    async def call(server: JetStream, verb: str, *given: Any, **named: Any) -> dict[str, Any]:
        if _writes(verb):
            await asyncio.sleep(0.1)  # as in a cluster that elects; workers go on
        return await real(server, verb, *given, **named)

    with Scene(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest(retention, max_ack_pending=BATCH))
        with at_work(scene) as announced, monkeypatch.context() as patched:
            patched.setattr(JetStream, "call", call)
            announced.append(
                busily_replaced(scene, manifest(retention, max_ack_pending=BATCH, max_waiting=9))
            )


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_a_replace_under_way_that_dies_goes_on_or_back(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retention: str
) -> None:
    """At any step, also with the manifest that was there before: a stopped consumer cannot simply be what it was."""

    def text(size: int) -> str:
        return manifest(retention, max_ack_pending=BATCH, max_waiting=size)

    with Scene(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(text(512))
        with at_work(scene) as announced:
            for step in itertools.count(1):
                assert eventually(lambda: bool(scene.plan(scene.wish(text(511))).hazards))
                announced.append(BATCH * 2)
                ended: list[Outcome] = []
                with killed_at(step, monkeypatch, before=True), contextlib.suppress(Killed):
                    ended = scene.apply(scene.wish(text(511)))
                announced.append(busily_replaced(scene, text(512)))
                if ended and all(outcome.done is Done.DONE for outcome in ended):
                    break
        assert step > (3 if retention == "workqueue" else 5)


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_what_comes_while_a_stopped_consumer_waits_for_the_next_apply_is_not_skipped(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retention: str
) -> None:
    """When all is finished there its cursor runs on, and at the end of its ack_wait so does its floor (2.10.26)."""
    with Scene(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest(retention, ack_wait="1s"))
        published, announced, stopped = 0, 0, 0
        done = Counter[int]()
        for step in itertools.count(1):
            publish(scene, range(published, published + 6))
            published += 6
            handed = list(pull(scene, 3))
            for _number, answer in handed[:2]:
                answer(b"+ACK")
            wish = scene.wish(manifest(retention, ack_wait="1s", max_waiting=512 - step))
            plan = scene.plan(wish)
            announced += sum(hazard.count for hazard in plan.hazards)
            with killed_at(step, monkeypatch, before=False) as written, contextlib.suppress(Killed):
                pipeline.apply(plan, wish, scene.target, allow=["repeats-work"], drain=0.2)
            with contextlib.suppress(queue.Empty, RuntimeError):  # nobody there to hear it any more
                handed[2][1](b"+ACK", timeout=0.5)
            done.update(number for number, _answer in handed)
            if WORKER in scene.refs() and "_parked" in scene.config(WORKER)["filter_subject"]:
                stopped += 1
                publish(scene, range(published, published + 10))
                published += 10
                run_on(scene)
            announced += sum(hazard.count for hazard in scene.plan(wish).hazards)
            scene.converge(manifest(retention, ack_wait="1s", max_waiting=512 - step))
            if len(written) < step:
                break
            done.update(work(scene, 4))
        done.update(work(scene))
        assert sorted(done) == list(range(published))
        assert done.total() - len(done) <= announced
        assert stopped
        assert leftovers(scene) == []


def run_on(scene: Scene) -> None:
    """Somebody pulls from the stopped consumer until it believes that everything is finished."""
    where, _, name = WORKER.partition("/")
    inbox, body = scene.api.subscribe(f"waits.{next(_pulls)}"), b'{"batch": 20, "expires": 60000000000}'
    scene.api.publish(f"$JS.API.CONSUMER.MSG.NEXT.{where}.{name}", body, reply=inbox.subject)
    last = scene.info(where)["state"]["last_seq"]
    assert eventually(lambda: scene.info(WORKER)["ack_floor"]["stream_seq"] == last)


def test_before_2_11_a_consumer_that_was_made_on_an_interest_stream_is_stopped_without_loss(
    start_server: StartServer, tmp_path: Path
) -> None:
    """For the server it stays one when the stream gets limits retention: what no filter matches is deleted (2.10.26)."""
    with Scene(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest("interest"))
        scene.converge(manifest("limits"))
        publish(scene, range(9))
        for number, answer in pull(scene, 4):
            if number < 3:
                answer(b"+ACK")
        wish = scene.wish(manifest("limits", max_waiting=7))
        (outcome,) = pipeline.apply(scene.plan(wish), wish, scene.target, allow=["repeats-work"], drain=0.1)
        assert outcome.done is Done.DONE
        assert work(scene) == list(range(3, 9))
        assert leftovers(scene) == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_before_2_11_the_plan_says_what_becomes_of_an_interest_streams_consumers(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    """What all have finished goes with the next change of one of them, though the retention is limits now."""
    with Scene(start_server(version=version).url, tmp_path) as scene:
        scene.converge(manifest("interest"))
        notes = scene.plan(scene.wish(manifest("limits"))).notes
        scene.converge(manifest("limits"))
        publish(scene, range(6))
        for number, answer in pull(scene, 4):
            if number:
                answer(b"+ACK")
        scene.converge(manifest("limits", ack_wait="1h"))
        assert scene.info("AGENT_A_TASKS")["state"]["messages"] == (3 if version == OLDEST else 6)
        assert ["may delete what all of them have finished" in note for note in notes] == [True] * (
            version == OLDEST
        )


def test_before_2_11_a_consumer_that_is_replaced_again_before_it_has_worked_stays_where_it_began(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Until its first acknowledgement its floor is 0 there, wherever it started (measured 2.10.26; 2.15.1 tells the start)."""
    with Scene(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(10))
        assert work(scene) == list(range(10))
        verb, waiting = f"$JS.API.CONSUMER.MSG.NEXT.{WORKER.replace('/', '.')}", b'{"expires": 60000000000}'
        for size in (100, 50):
            scene.api.publish(verb, waiting, reply=scene.api.subscribe(f"waiting.{size}").subject)
            assert eventually(lambda: bool(scene.info(WORKER)["num_waiting"]))
            assert scene.plan(scene.wish(manifest(max_waiting=size))).hazards
            (outcome,) = replaced(scene, manifest(max_waiting=size))
            assert outcome.done is Done.DONE
        publish(scene, range(10, 12))
        assert work(scene) == [10, 11]


def test_a_consumer_that_has_not_heard_of_its_pause_is_waited_for(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster answers a pause before the consumer's own server knows of it (seen on 2.15.1): work goes on until then."""
    with Scene(start_server().url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(10))
        worked, real, late = work(scene, 2), JetStream.call, list[asyncio.Task[Any]]()

        async def call(server: JetStream, verb: str, body: Any = None, **named: Any) -> dict[str, Any]:
            if "CONSUMER.PAUSE" in verb and not late:
                late.append(asyncio.create_task(later(lambda: real(server, verb, body, **named))))
                return {}
            if "CONSUMER.PAUSE" in verb:  # nothing that is asked for later overtakes it
                await asyncio.wait(late)
            answer = await real(server, verb, body, **named)
            if "CONSUMER.INFO" in verb and late and not late[0].done():
                worked.extend(work(scene, 2))
            return answer

        monkeypatch.setattr(JetStream, "call", call)
        (outcome,) = replaced(scene, manifest(max_waiting=9))
        assert outcome.done is Done.DONE
        assert len(worked) > 2
        assert worked + work(scene) == list(range(10))


async def later(request: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    await asyncio.sleep(0.15)
    return await request()  # made only now: the apply may have ended, and with it this task


def test_work_under_way_is_waited_for(scene: Scene) -> None:
    """What a worker finishes while the old consumer drains is finished: it does not come again."""
    scene.converge(manifest())
    publish(scene, range(6))
    held = list(pull(scene, 3))

    def finish() -> None:
        time.sleep(0.3)
        for _, answer in held:
            answer(b"+ACK")

    finishing = threading.Thread(target=finish)
    finishing.start()
    outcomes = replaced(scene, manifest(max_waiting=9), drain=20)
    finishing.join()
    assert [outcome.done for outcome in outcomes] == [Done.DONE]
    assert work(scene) == [3, 4, 5]


def test_work_that_does_not_end_leaves_the_old_consumer_serving(server: Any, tmp_path: Path) -> None:
    with Scene(server.url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(6))
        held = list(pull(scene, 2))
        (outcome,) = replaced(scene, manifest(max_waiting=9), drain=0.1)
        assert outcome.done is Done.FAILED
        assert outcome.problem is not None
        assert "2 messages were still being worked on" in outcome.problem.message
        assert scene.config(WORKER)["max_waiting"] == 512
        assert work(scene) == [2, 3, 4, 5]
        for _, answer in held:
            answer(b"+ACK")
        assert [outcome.done for outcome in replaced(scene, manifest(max_waiting=9))] == [Done.DONE]
        assert work(scene) == []


def test_work_under_way_comes_again_only_if_that_was_allowed(server: Any, tmp_path: Path) -> None:
    with Scene(server.url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(6))
        assert len(list(pull(scene, 2))) == 2
        wish = scene.wish(manifest(max_waiting=9))
        outcomes = pipeline.apply(scene.plan(wish), wish, scene.target, allow=["repeats-work"], drain=0.1)
        assert [outcome.done for outcome in outcomes] == [Done.DONE]
        assert work(scene) == list(range(6))


def _writes(verb: str) -> bool:
    return not any(part in verb for part in ("INFO", "LIST"))


@contextlib.contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, *, before: bool) -> Iterator[list[str]]:
    """The tool dies at its `step`-th write: before it is sent, or after it was answered."""
    real, written = JetStream.call, list[str]()

    async def call(self: JetStream, verb: str, body: Any = None, **named: Any) -> dict[str, Any]:
        if not _writes(verb):
            return await real(self, verb, body, **named)
        written.append(verb)
        if before and len(written) == step:
            raise Killed(verb)
        answer = await real(self, verb, body, **named)
        if len(written) == step:
            raise Killed(verb)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(JetStream, "call", call)
        yield written


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
@pytest.mark.parametrize("version", [NEWEST, "2.12.8", OLDEST])
def test_a_replace_that_dies_at_any_step_goes_on_with_the_next_apply(
    start_server: StartServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    retention: str,
    before: bool,  # noqa: FBT001 - pytest's
) -> None:
    """Nothing finished comes again and nothing is skipped, wherever the tool died; a later message waits at worst."""
    with Scene(start_server(version=version).url, tmp_path) as scene:
        scene.converge(manifest(retention))
        published, worked, size = 0, list[int](), 512
        for step in itertools.count(1):
            publish(scene, range(published, published + 4))
            published += 4
            worked += work(scene, 2)
            size -= 1
            text = manifest(retention, max_waiting=size)
            with killed_at(step, monkeypatch, before=before) as written, contextlib.suppress(Killed):
                scene.converge(text)
            scene.converge(text)
            assert not scene.plan(scene.wish(text))
            assert leftovers(scene) == []
            worked += work(scene, 1)
            if len(written) < step:
                break
        worked += work(scene)
        assert worked == list(range(published))
        paused = scene.info(WORKER).get("paused", False)
        assert not paused
        assert step > (2 if retention == "workqueue" else 4)
