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
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.api.jetstream import connect_account
from cyborg_infra.live.connection.errors import NoReply
from cyborg_infra.live.execute.consumer.creation import create_at_saved_position
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.pausing import PAUSED_UNTIL
from cyborg_infra.live.execute.consumer.placeholder import save_position
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.changes import Action, HazardName
from cyborg_infra.model.consumer_position import Position
from cyborg_infra.model.metadata_keys import POSITION_KEY, STOPPED_KEY
from cyborg_infra.model.plan import Outcome, ResultStatus
from cyborg_infra.model.ref import PLACEHOLDER_PREFIX, Ref
from cyborg_infra.model.server_versions import Version
from cyborg_infra.operations import provision
from tests.support.faults import Faults, Send
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST, OLDEST, StartServer
from tests.support.traffic import BATCH, Publisher, Worker, eventually

TASKS = "g.agents.a.tasks"
WORKER = "AGENT_A_TASKS/a-worker"
ACK_WAIT = 1  # second, of a consumer whose messages expire here


class Killed(Exception):
    """The tool died here; no error that it knows of."""


def manifest(retention: str = "limits", **worker: object) -> str:
    """Return one role whose worker has these settings."""
    settings: dict[str, object] = {"max_ack_pending": 50, **worker}
    return f"org: g\nroles: [a]\nstreams: {{tasks: {{retention: {retention}}}}}\nconsumers: {{worker: {json.dumps(settings)}}}\n"


def publish(scenario: Scenario, numbers: range) -> None:
    for number in numbers:
        assert "seq" in scenario.api.ask(TASKS, str(number).encode()).json


def pull(scenario: Scenario, count: int) -> Iterator[tuple[int, Callable[..., object]]]:
    """Yield what the worker is handed: the number in the message, and a function that answers. Ends when nothing waits."""
    inbox = scenario.api.subscribe(f"pulled.{next(_pulls)}")
    where, _, name = WORKER.partition("/")
    body = json.dumps({"batch": count, "no_wait": True}).encode()
    scenario.api.publish(f"$JS.API.CONSUMER.MSG.NEXT.{where}.{name}", body, reply=inbox.subject)
    for _ in range(count):
        message = inbox.next()
        if not message.reply:
            return  # 404 or 408: no more
        yield int(message.data), partial(scenario.api.ask, message.reply)


_pulls = itertools.count()


def work(scenario: Scenario, count: int = 1000) -> list[int]:
    """Return the numbers that were handed out, each acknowledged."""
    done = []
    for number, answer in pull(scenario, count):
        answer(b"+ACK")
        done.append(number)
    return done


def replaced(scenario: Scenario, text: str, **options: Any) -> list[Outcome]:
    """Return the plan replaces the worker alone, and is carried out."""
    wish = scenario.request(text)
    plan = scenario.plan(wish)
    assert [(str(change.ref), change.action) for change in plan.changes] == [(WORKER, Action.REPLACE)]
    return provision.apply(
        provision.ApplyRequest(plan, allow=["repeats-work"] if plan.hazards else [], **options),
        scenario.target,
    )


def leftovers(scenario: Scenario) -> list[str]:
    return [ref for ref in scenario.refs() if PLACEHOLDER_PREFIX in ref]


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
@pytest.mark.parametrize(
    "change",
    [{"max_waiting": 100}, {"replay_policy": "original"}, {"deliver_policy": "new"}, {"mem_storage": True}],
    ids=lambda change: next(iter(change)),
)
def test_a_replaced_consumer_goes_on_where_the_old_one_stood(
    scenario: Scenario, retention: str, change: Mapping[str, object]
) -> None:
    if retention == "workqueue" and "deliver_policy" in change:
        change = {"max_waiting": 7}  # a workqueue delivers all, or the manifest is refused
    scenario.converge(manifest(retention))
    publish(scenario, range(20))
    assert work(scenario, 12) == list(range(12))
    assert [outcome.status for outcome in replaced(scenario, manifest(retention, **change))] == [
        ResultStatus.SUCCEEDED
    ]
    publish(scenario, range(20, 25))
    assert work(scenario) == list(range(12, 25))
    assert not scenario.plan(scenario.request(manifest(retention, **change)))
    assert leftovers(scenario) == []


def test_a_consumer_is_replaced_again_and_again_without_a_difference_left(scenario: Scenario) -> None:
    """The note of a start sequence stands for the manifest's start, also for the next update and replace."""
    scenario.converge(manifest())
    publish(scenario, range(10))
    worked = work(scenario, 4)
    for change in ({"max_waiting": 100}, {"max_waiting": 50}, {"max_waiting": 50, "ack_wait": "1h"}):
        scenario.converge(manifest(**change))
        assert not scenario.plan(scenario.request(manifest(**change)))
        worked += work(scenario, 2)
    assert worked == list(range(10))


def test_a_consumer_that_has_been_at_work_is_never_moved_back(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Also where it is said to be parked still, as by a server that has just become its leader."""
    server = start_server(version=NEWEST)
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(10))
        desired = scene.request(manifest()).desired.resources[Ref(*WORKER.split("/"))]

        async def finished() -> None:
            async with connect_account(scene.target) as api:
                await save_position(api, desired, Position(4))
                assert await asyncio.to_thread(work, scene, 8) == list(range(8))
                scene.ask(f"CONSUMER.PAUSE.{WORKER.replace('/', '.')}", {"pause_until": PAUSED_UNTIL})
                await create_at_saved_position(api, desired, ApplyOptions(Version.parse(NEWEST)))

        asyncio.run(finished())
        assert work(scene) == [8, 9]
        assert leftovers(scene) == []


def test_a_position_that_is_known_holds_whatever_a_server_tells_that_has_not_heard_of_it(
    scenario: Scenario, faults: Faults
) -> None:
    scenario.converge(manifest())
    publish(scenario, range(10))
    worked = work(scenario, 8)

    async def earlier(request: ApiRequest, send: Send) -> dict[str, Any]:
        answer = await send(request)
        if request.verb.startswith("CONSUMER.INFO.") and PLACEHOLDER_PREFIX in request.verb:
            answer["config"]["metadata"][POSITION_KEY] = "2"
        return answer

    with faults.context() as patched:
        patched.intercept(earlier)
        replaced(scenario, manifest(max_waiting=9))
    assert worked + work(scenario) == list(range(10))


@pytest.mark.servers(NEWEST, "2.12.8")
def test_a_consumer_that_has_delivered_nothing_needs_no_placeholder(scenario: Scenario) -> None:
    """Before 2.11 it is stopped, and has one: see `stop_with_placeholder`."""
    scenario.converge(manifest())
    publish(scenario, range(3))
    with scenario.requests() as requests:
        replaced(scenario, manifest(max_waiting=9))
    assert [
        request for request in requests if PLACEHOLDER_PREFIX in request.verb and "CREATE" in request.verb
    ] == []
    assert work(scenario) == [0, 1, 2]


def test_a_worker_who_comes_after_the_plan_is_not_handed_anything_twice(
    start_server: StartServer, tmp_path: Path, faults: Faults
) -> None:
    """Before 2.11 no consumer can be paused, and the plan of an idle one has counted nothing."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(10))
        assert work(scene, 2) == [0, 1]
        worked = list[int]()

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            verb = request.verb
            answer = await send(request)
            if "CONSUMER.CREATE" in verb and PLACEHOLDER_PREFIX in verb and not worked:
                worked.extend(work(scene, 3))
            return answer

        faults.intercept(call)
        (outcome,) = replaced(scene, manifest(max_waiting=9))
        assert outcome.problem
        assert outcome.problem.code == "at-work"
        assert leftovers(scene) == []
        (outcome,) = replaced(scene, manifest(max_waiting=9))
        assert outcome.status is ResultStatus.SUCCEEDED
        assert work(scene) == list(range(5, 10))


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_a_worker_who_comes_right_before_the_delete_does_nothing_that_comes_again(
    start_server: StartServer, tmp_path: Path, faults: Faults, retention: str
) -> None:
    """What it is handed after the last look it acknowledges to a consumer that is gone by then."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        two_of_ten_done(scene, retention)
        handed = list[tuple[int, Callable[..., object]]]()

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            deletes = "CONSUMER.DELETE" in request.verb and PLACEHOLDER_PREFIX not in request.verb
            if deletes:
                handed.extend(pull(scene, 3))
            answer = await send(request)
            if deletes:
                for _, acknowledge in handed:
                    with contextlib.suppress(queue.Empty, RuntimeError):  # nobody is there to hear it
                        acknowledge(b"+ACK", timeout=0.5)
            return answer

        with faults.context() as patched:
            patched.intercept(call)
            outcomes = replaced(scene, manifest(retention, max_waiting=9))
        assert [outcome.status for outcome in outcomes] == [ResultStatus.SUCCEEDED]
        assert [number for number, _ in handed] + work(scene) == list(range(2, 10))
        assert leftovers(scene) == []


def two_of_ten_done(scenario: Scenario, retention: str) -> None:
    """Ten tasks are published to a new organisation, and a worker finishes the first two."""
    scenario.converge(manifest(retention))
    publish(scenario, range(10))
    assert work(scenario, 2) == [0, 1]


@contextlib.contextmanager
def at_the_stop(
    faults: Faults, comes: Callable[[], object], later: Mapping[int, Callable[[], object]]
) -> Iterator[None]:
    """A worker comes after the last look at the consumer, before it is stopped; `later` is what happens before which look at the stopped one."""
    looks: int | None = None

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        nonlocal looks
        config = (request.body or {}).get("config") or {}
        if looks is None and STOPPED_KEY in config.get("metadata", {}):
            looks = 0
            await asyncio.to_thread(comes)
        elif looks is not None and request.verb == f"CONSUMER.INFO.{WORKER.replace('/', '.')}":
            looks += 1
            await asyncio.to_thread(later.get(looks, lambda: None))
        return await send(request)

    with faults.context() as patched:
        patched.intercept(call)
        yield
    assert looks


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_what_a_worker_is_handed_before_the_stop_ends_before_the_delete(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    retention: str,
    at_once: bool,  # noqa: FBT001 - pytest's
) -> None:
    """Others wait meanwhile, and what is published goes to the new consumer. Numbers are missing, as where others' messages are between."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        two_of_ten_done(scene, retention)
        for number in (3, 5):
            scene.ask("STREAM.MSG.DELETE.AGENT_A_TASKS", {"seq": number + 1})
        handed = list[tuple[int, Callable[..., object]]]()

        def finish() -> None:
            for _, answer in handed:
                answer(b"+ACK")

        def come() -> None:
            handed.extend(pull(scene, 3))
            if at_once:
                finish()

        def wait() -> None:
            publish(scene, range(10, 12))
            wait_for_more(scene)

        with at_the_stop(faults, come, {1: wait} if at_once else {1: wait, 5: finish}):
            (outcome,) = replaced(scene, manifest(retention, max_waiting=9), drain_timeout=20)
        assert outcome.status is ResultStatus.SUCCEEDED, outcome.problem
        assert [number for number, _ in handed] + work(scene) == [2, 4, *range(6, 12)]
        assert leftovers(scene) == []


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_what_does_not_end_after_the_stop_is_announced_before_it_comes_again(
    start_server: StartServer, tmp_path: Path, faults: Faults, retention: str
) -> None:
    """The consumer cannot be as it was any more. It stays stopped, and the next plan counts; or the work has ended by then."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        two_of_ten_done(scene, retention)
        text, held = manifest(retention, max_waiting=9), list[tuple[int, Callable[..., object]]]()
        with at_the_stop(faults, lambda: held.extend(pull(scene, 3)), {1: lambda: wait_for_more(scene)}):
            (outcome,) = replaced(scene, text, drain_timeout=0.2)
        assert outcome.problem
        assert outcome.problem.code == "not-drained"
        assert "it stays stopped" in outcome.problem.message
        plan = scene.plan(scene.request(text))
        assert [(hazard.name, hazard.count) for hazard in plan.hazards] == [(HazardName.REPEATS_WORK, 3)]
        for _, answer in held:
            answer(b"+ACK")
        assert scene.plan(scene.request(text)).hazards == ()
        (outcome,) = replaced(scene, text)
        assert outcome.status is ResultStatus.SUCCEEDED
        assert [number for number, _ in held] + work(scene) == list(range(2, 10))
        assert leftovers(scene) == []


@pytest.mark.parametrize("lost", ["the note", "the look"])
@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_a_stop_that_is_tried_again_lets_no_more_come_again_either(
    start_server: StartServer, tmp_path: Path, faults: Faults, retention: str, lost: str
) -> None:
    """The second attempt finds the consumer stopped, as one of an earlier apply is; but of this one nothing was announced."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        two_of_ten_done(scene, retention)
        text, held, failures = manifest(retention, max_waiting=9), list[Any](), itertools.count()

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            notes = STOPPED_KEY in ((request.body or {}).get("config") or {}).get("metadata", {})
            if notes and not held:
                held.extend(await asyncio.to_thread(lambda: list(pull(scene, 3))))
            elif held and notes is (lost == "the note") and not next(failures):
                raise NoReply("stopping", 0.1)
            return await send(request)

        with faults.context() as patched:
            patched.intercept(call)
            (outcome,) = replaced(scene, text, drain_timeout=0.2)
        assert next(failures)
        assert outcome.problem
        assert outcome.problem.code == "not-drained"
        plan = scene.plan(scene.request(text))
        assert [(hazard.name, hazard.count) for hazard in plan.hazards] == [(HazardName.REPEATS_WORK, 3)]
        for _, answer in held:
            answer(b"+ACK")
        (outcome,) = replaced(scene, text)
        assert outcome.status is ResultStatus.SUCCEEDED
        assert [number for number, _ in held] + work(scene) == list(range(2, 10))
        assert leftovers(scene) == []


@pytest.mark.parametrize("finished", [0, 3])
@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_who_waits_for_the_first_message_is_no_reason_not_to_replace(
    start_server: StartServer, tmp_path: Path, retention: str, finished: int
) -> None:
    """Nothing is stored for the consumer, so that nothing can come again. It was refused as long as anybody waited."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest(retention))
        publish(scene, range(finished))
        assert work(scene) == list(range(finished))
        if retention == "limits":
            scene.ask("STREAM.PURGE.AGENT_A_TASKS")
        wait_for_more(scene)
        text = manifest(retention, max_waiting=9)
        assert scene.plan(scene.request(text)).hazards == ()
        (outcome,) = replaced(scene, text)
        assert outcome.status is ResultStatus.SUCCEEDED, outcome.problem
        publish(scene, range(finished, 10))
        assert work(scene) == list(range(finished, 10))
        assert leftovers(scene) == []


def wait_for_more(scenario: Scenario) -> None:
    """A worker waits for the next message, so that the cursor of a stopped consumer runs on as soon as it may."""
    where, _, name = WORKER.partition("/")
    inbox, body = scenario.api.subscribe(f"waits.{next(_pulls)}"), b'{"batch": 20, "expires": 60000000000}'
    scenario.api.publish(f"$JS.API.CONSUMER.MSG.NEXT.{where}.{name}", body, reply=inbox.subject)


def test_before_2_11_a_consumer_that_has_delivered_nothing_begins_where_it_began(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Its ack floor is 0 there until its first acknowledgement, though it began behind what was stored."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(5))
        scene.ask(f"CONSUMER.DELETE.{WORKER.replace('/', '.')}")
        scene.converge(manifest(deliver_policy="new"))
        publish(scene, range(5, 8))
        (outcome,) = replaced(scene, manifest(deliver_policy="new", max_waiting=9))
        assert outcome.status is ResultStatus.SUCCEEDED
        assert work(scene) == [5, 6, 7]


def busily_replaced(scenario: Scenario, text: str) -> int:
    """Applied, while somebody works, until it holds; how many messages the plans said could come again."""
    wish, announced = scenario.request(text), 0
    while plan := scenario.plan(wish):
        announced += sum(hazard.count for hazard in plan.hazards)
        assert {hazard.name for hazard in plan.hazards} <= {HazardName.REPEATS_WORK}
        outcomes = provision.apply(
            provision.ApplyRequest(plan, allow=["repeats-work"], drain_timeout=20), scenario.target
        )
        problems = {outcome.problem.code for outcome in outcomes if outcome.problem}
        assert problems <= {"at-work"}  # between two pulls it seemed to be idle
    return announced


@contextlib.contextmanager
def at_work(scenario: Scenario) -> Iterator[list[int]]:
    """Return one publishes and one works, and in the end all is done, and no more twice than the numbers in the list allow."""
    announced: list[int] = []
    with Worker(scenario.url, WORKER) as worker:
        with Publisher(scenario.url, TASKS) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > BATCH)
            yield announced
        assert eventually(lambda: publisher.acknowledged.keys() <= worker.worked.keys())
    repeated = [name for name, times in worker.worked.items() if times > 1]
    assert len(repeated) <= sum(announced), len(repeated)
    assert leftovers(scenario) == []


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_no_more_comes_again_than_announced_however_long_it_takes(
    start_server: StartServer, tmp_path: Path, faults: Faults, retention: str
) -> None:
    """Nothing pauses a consumer there: one that somebody works with is stopped by a filter that nothing matches."""

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        if _writes(verb):
            await asyncio.sleep(0.1)  # as in a cluster that elects; workers go on
        return await send(request)

    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest(retention, max_ack_pending=BATCH))
        with at_work(scene) as announced, faults.context() as patched:
            patched.intercept(call)
            announced.append(
                busily_replaced(scene, manifest(retention, max_ack_pending=BATCH, max_waiting=9))
            )


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_a_replace_under_way_that_dies_goes_on_or_back(
    start_server: StartServer, tmp_path: Path, faults: Faults, retention: str
) -> None:
    """At any step, also with the manifest that was there before: a stopped consumer cannot simply be what it was."""

    def text(size: int) -> str:
        return manifest(retention, max_ack_pending=BATCH, max_waiting=size)

    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(text(512))
        with at_work(scene) as announced:
            for step in itertools.count(1):
                assert eventually(lambda: bool(scene.plan(scene.request(text(511))).hazards))
                announced.append(BATCH * 2)
                ended: list[Outcome] = []
                with killed_at(step, faults, before=True), contextlib.suppress(Killed):
                    ended = scene.apply(scene.request(text(511)))
                announced.append(busily_replaced(scene, text(512)))
                if ended and all(outcome.status is ResultStatus.SUCCEEDED for outcome in ended):
                    break
        assert step > (3 if retention == "workqueue" else 5)


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_before_2_11_what_comes_while_a_stopped_consumer_waits_for_the_next_apply_is_not_skipped(
    start_server: StartServer, tmp_path: Path, faults: Faults, retention: str
) -> None:
    """When all is finished there its cursor runs on, and at the end of its ack_wait so does its floor (2.10.26)."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest(retention, ack_wait=f"{ACK_WAIT}s"))
        published, announced, stopped = 0, 0, 0
        done = Counter[int]()
        for step in itertools.count(1):
            publish(scene, range(published, published + 6))
            published += 6
            handed = list(pull(scene, 3))
            for _number, answer in handed[:2]:
                answer(b"+ACK")
            wish = scene.request(manifest(retention, ack_wait=f"{ACK_WAIT}s", max_waiting=512 - step))
            plan = scene.plan(wish)
            announced += sum(hazard.count for hazard in plan.hazards)
            with killed_at(step, faults, before=False) as written, contextlib.suppress(Killed):
                provision.apply(
                    provision.ApplyRequest(plan, allow=["repeats-work"], drain_timeout=0.2), scene.target
                )
            with contextlib.suppress(queue.Empty, RuntimeError):  # nobody there to hear it any more
                handed[2][1](b"+ACK", timeout=0.5)
            done.update(number for number, _answer in handed)
            if WORKER in scene.refs() and "_parked" in scene.config(WORKER)["filter_subject"]:
                stopped += 1
                publish(scene, range(published, published + 10))
                published += 10
                run_on(scene)
            announced += sum(hazard.count for hazard in scene.plan(wish).hazards)
            scene.converge(manifest(retention, ack_wait=f"{ACK_WAIT}s", max_waiting=512 - step))
            if len(written) < step:
                break
            done.update(work(scene, 4))
        done.update(work(scene))
        assert sorted(done) == list(range(published))
        assert done.total() - len(done) <= announced
        assert stopped
        assert leftovers(scene) == []


def run_on(scenario: Scenario) -> None:
    """Somebody pulls from the stopped consumer until it believes that everything is finished.

    Its floor follows its cursor when the server looks for what has expired, which it does once after the last delivery: not
    where the cursor came later than that, as on a busy machine.
    """
    wait_for_more(scenario)
    where = WORKER.partition("/")[0]
    last = scenario.info(where)["state"]["last_seq"]

    def reached(place: str) -> bool:
        return bool(scenario.info(WORKER)[place]["stream_seq"] == last)

    assert eventually(partial(reached, "delivered"))
    eventually(partial(reached, "ack_floor"), 5 * ACK_WAIT)


def test_before_2_11_a_consumer_that_was_made_on_an_interest_stream_is_stopped_without_loss(
    start_server: StartServer, tmp_path: Path
) -> None:
    """For the server it stays one when the stream gets limits retention: what no filter matches is deleted (2.10.26)."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest("interest"))
        scene.converge(manifest("limits"))
        publish(scene, range(9))
        for number, answer in pull(scene, 4):
            if number < 3:
                answer(b"+ACK")
        wish = scene.request(manifest("limits", max_waiting=7))
        (outcome,) = provision.apply(
            provision.ApplyRequest(scene.plan(wish), allow=["repeats-work"], drain_timeout=0.1), scene.target
        )
        assert outcome.status is ResultStatus.SUCCEEDED
        assert work(scene) == list(range(3, 9))
        assert leftovers(scene) == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_before_2_11_the_plan_says_what_becomes_of_an_interest_streams_consumers(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    """What all have finished goes with the next change of one of them, though the retention is limits now."""
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        scene.converge(manifest("interest"))
        notes = scene.plan(scene.request(manifest("limits"))).notes
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
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(10))
        assert work(scene) == list(range(10))
        verb, waiting = f"$JS.API.CONSUMER.MSG.NEXT.{WORKER.replace('/', '.')}", b'{"expires": 60000000000}'
        for size in (100, 50):
            scene.api.publish(verb, waiting, reply=scene.api.subscribe(f"waiting.{size}").subject)
            assert eventually(lambda: bool(scene.info(WORKER)["num_waiting"]))
            assert scene.plan(scene.request(manifest(max_waiting=size))).hazards
            (outcome,) = replaced(scene, manifest(max_waiting=size))
            assert outcome.status is ResultStatus.SUCCEEDED
        publish(scene, range(10, 12))
        assert work(scene) == [10, 11]


def test_a_consumer_that_has_not_heard_of_its_pause_is_waited_for(
    start_server: StartServer, tmp_path: Path, faults: Faults
) -> None:
    """A cluster answers a pause before the consumer's own server knows of it (seen on 2.15.1): work goes on until then."""
    with Scenario(start_server().url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(10))
        worked, late = work(scene, 2), list[asyncio.Task[Any]]()
        looked = asyncio.Event()

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            verb = request.verb
            if "CONSUMER.PAUSE" in verb and not late:
                late.append(asyncio.create_task(later(looked, lambda: send(request))))
                return {}
            if "CONSUMER.PAUSE" in verb:  # nothing that is asked for later overtakes it
                await asyncio.wait(late)
            answer = await send(request)
            if "CONSUMER.INFO" in verb and late and not late[0].done():
                worked.extend(work(scene, 2))
                looked.set()
            return answer

        faults.intercept(call)
        (outcome,) = replaced(scene, manifest(max_waiting=9))
        assert outcome.status is ResultStatus.SUCCEEDED
        assert len(worked) > 2
        assert worked + work(scene) == list(range(10))


async def later(
    looked: asyncio.Event, request: Callable[[], Coroutine[Any, Any, dict[str, Any]]]
) -> dict[str, Any]:
    await looked.wait()
    return await request()  # made only now: the apply may have ended, and with it this task


def test_work_under_way_is_waited_for(scenario: Scenario) -> None:
    """What a worker finishes while the old consumer drains is finished: it does not come again."""
    scenario.converge(manifest())
    publish(scenario, range(6))
    held = list(pull(scenario, 3))

    def finish() -> None:
        time.sleep(0.3)
        for _, answer in held:
            answer(b"+ACK")

    finishing = threading.Thread(target=finish)
    finishing.start()
    outcomes = replaced(scenario, manifest(max_waiting=9), drain_timeout=20)
    finishing.join()
    assert [outcome.status for outcome in outcomes] == [ResultStatus.SUCCEEDED]
    assert work(scenario) == [3, 4, 5]


def test_work_that_can_neither_end_nor_stay_open_leaves_the_old_consumer_serving(
    start_server: StartServer, tmp_path: Path
) -> None:
    """The number that the plan announced is what may come again, and no more: here it has announced nothing."""
    with Scenario(start_server(version="2.11.11").url, tmp_path) as scene:
        scene.converge(manifest())
        publish(scene, range(6))
        text = manifest(max_waiting=9).replace("{retention", "{storage: memory, retention")
        wish = scene.request(text)
        plan = scene.plan(wish)
        assert plan.hazards == ()
        held = list(pull(scene, 2))
        outcomes = provision.apply(
            provision.ApplyRequest(plan, allow=["repeats-work"], drain_timeout=0.1), scene.target
        )
        problems = [outcome.problem for outcome in outcomes if outcome.status is ResultStatus.FAILED]
        assert [problem.code for problem in problems if problem] == ["not-drained"]
        assert "2 messages were still being worked on" in str(problems[0])
        assert scene.config(WORKER)["max_waiting"] == 512
        assert work(scene) == [2, 3, 4, 5]
        (hazard,) = scene.plan(wish).hazards
        assert (hazard.name, hazard.count) == (
            HazardName.REPEATS_WORK,
            6,
        )  # not 50 more: no more than there are
        for _, answer in held:
            answer(b"+ACK")
        assert scene.plan(wish).hazards == ()
        assert {outcome.status for outcome in scene.apply(wish)} == {ResultStatus.SUCCEEDED}
        assert work(scene) == []


def _writes(verb: str) -> bool:
    return not any(part in verb for part in ("INFO", "LIST"))


@contextlib.contextmanager
def killed_at(step: int, faults: Faults, *, before: bool) -> Iterator[list[str]]:
    """Return the tool dies at its `step`-th write: before it is sent, or after it was answered."""
    written = list[str]()

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        if not _writes(verb):
            return await send(request)
        written.append(verb)
        if before and len(written) == step:
            raise Killed(verb)
        answer = await send(request)
        if len(written) == step:
            raise Killed(verb)
        return answer

    with faults.context() as patch:
        patch.intercept(call)
        yield written


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
@pytest.mark.parametrize("version", [NEWEST, "2.12.8", OLDEST])
def test_a_replace_that_dies_at_any_step_goes_on_with_the_next_apply(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    version: str,
    retention: str,
    before: bool,  # noqa: FBT001 - pytest's
) -> None:
    """Nothing finished comes again and nothing is skipped, wherever the tool died; a later message waits at worst."""
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        scene.converge(manifest(retention))
        published, worked, size = 0, list[int](), 512
        for step in itertools.count(1):
            publish(scene, range(published, published + 4))
            published += 4
            worked += work(scene, 2)
            size -= 1
            text = manifest(retention, max_waiting=size)
            with killed_at(step, faults, before=before) as written, contextlib.suppress(Killed):
                scene.converge(text)
            scene.converge(text)
            assert not scene.plan(scene.request(text))
            assert leftovers(scene) == []
            worked += work(scene, 1)
            if len(written) < step:
                break
        worked += work(scene)
        assert worked == list(range(published))
        paused = scene.info(WORKER).get("paused", False)
        assert not paused
        assert step > (2 if retention == "workqueue" else 4)
