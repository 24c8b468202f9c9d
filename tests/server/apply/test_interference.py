"""What goes wrong in the middle of an apply: every change has an outcome, nothing of others is overwritten, and the next apply goes on."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.core.planning import rehearsal
from cyborg_infra.live.connection.errors import ConnectionLost
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.counting import Share
from cyborg_infra.model.fields import FIELDS, Kind
from cyborg_infra.model.plan import Outcome, ResultStatus
from cyborg_infra.model.problems import PlanRefused, PlanStale
from cyborg_infra.model.ref import REHEARSAL_PREFIX, Ref, rehearsal_stream
from tests.support.acceptance_cases import (
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
from tests.support.faults import Faults, Send
from tests.support.lost_replies import LostReply
from tests.support.scenario import MEMORY, Scenario, Step, acked, changed, deleted, published, stream
from tests.support.servers import NEWEST, OLDEST, VERSIONS, StartServer

pytestmark = pytest.mark.servers(NEWEST)


DONE, FAILED, NOT_REACHED = ResultStatus


class Meanwhile:
    """Somebody else does something right before the product's first request that begins like this reaches the server."""

    def __init__(self, scenario: Scenario, faults: Faults) -> None:
        self._scene, self._faults = scenario, faults

    def before(self, verb: str, *steps: Step) -> None:
        waiting, first = [steps], asyncio.Lock()

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            asked = request.verb
            async with first:
                for step in waiting.pop() if asked.startswith(verb) and waiting else ():
                    await asyncio.to_thread(step, self._scene)
            return await send(request)

        self._faults.intercept(call)


@pytest.fixture
def meanwhile(scenario: Scenario, faults: Faults) -> Meanwhile:
    return Meanwhile(scenario, faults)


def ends(outcomes: list[Outcome]) -> dict[str, ResultStatus]:
    """Return how each change ended; one outcome for each."""
    assert len({outcome.change.ref for outcome in outcomes}) == len(outcomes)
    assert all((outcome.problem is not None) == (outcome.status is FAILED) for outcome in outcomes)
    return {str(outcome.change.ref): outcome.status for outcome in outcomes}


def problem(outcomes: list[Outcome], ref: str) -> str:
    """Return why this change failed."""
    (found,) = [outcome.problem for outcome in outcomes if str(outcome.change.ref) == ref]
    assert found is not None
    return found.message


def test_a_limit_reached_by_somebody_else_stops_the_apply_and_the_next_one_goes_on(
    start_server: StartServer, tmp_path: Path, faults: Faults
) -> None:
    with Scenario(start_server(config=account("max_streams: 5")).url, tmp_path) as scene:
        scene.converge(ORG)
        Meanwhile(scene, faults).before(f"STREAM.CREATE.{CEO_TASKS}", stream("OTHER", "other.>"))
        wish = scene.request(TWO)
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


def test_a_stream_created_meanwhile_is_not_overwritten(scenario: Scenario, meanwhile: Meanwhile) -> None:
    meanwhile.before(f"STREAM.CREATE.{TASKS}", stream(TASKS, TASK, description="theirs"))
    outcomes = scenario.apply(scenario.request(ORG))
    assert "already in use" in problem(outcomes, TASKS)
    assert ends(outcomes)[WORKER] is NOT_REACHED
    assert scenario.config(TASKS)["description"] == "theirs"
    scenario.converge(ORG)
    assert scenario.config(TASKS).get("description") is None


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
    ref: str, verb: str, manifest: str, scenario: Scenario, meanwhile: Meanwhile
) -> None:
    scenario.converge(ORG)
    meanwhile.before(verb, changed(ref, description="theirs"))
    outcomes = scenario.apply(scenario.request(manifest))
    assert ends(outcomes) == {ref: FAILED}
    assert problem(outcomes, ref) == f"{ref} was changed since the plan was made; it was left as it is"
    assert scenario.config(ref)["description"] == "theirs"
    scenario.converge(manifest)
    assert not scenario.plan(scenario.request(manifest))


def test_what_somebody_deleted_after_the_plan_is_not_brought_back_unasked(
    scenario: Scenario, meanwhile: Meanwhile
) -> None:
    scenario.converge(ORG)
    meanwhile.before(f"STREAM.INFO.{TASKS}", deleted(TASKS))
    outcomes = scenario.apply(scenario.request(tasks("max_age: 80h")))
    assert problem(outcomes, TASKS) == f"{TASKS} was deleted since the plan was made; it was left as it is"
    assert TASKS not in scenario.refs()
    scenario.converge(tasks("max_age: 80h"))


def test_what_somebody_made_anew_after_the_plan_is_left_as_it_is(
    scenario: Scenario, meanwhile: Meanwhile
) -> None:
    scenario.converge(ORG)
    config = scenario.config(TASKS)
    meanwhile.before(
        f"STREAM.INFO.{TASKS}",
        deleted(TASKS),
        lambda found: found.ask(f"STREAM.CREATE.{TASKS}", config),
    )
    outcomes = scenario.apply(scenario.request(tasks("max_age: 80h")))
    assert "was deleted and created again since" in problem(outcomes, TASKS)
    assert scenario.config(TASKS)["max_age"] == 72 * HOUR


@pytest.mark.parametrize("done", [0, 2])
def test_a_message_that_arrives_before_a_stream_without_open_work_goes_is_kept(
    scenario: Scenario, meanwhile: Meanwhile, done: int
) -> None:
    """Whoever allows that finished messages go has not allowed that one goes that nobody has seen."""
    scenario.converge(TWO)
    published("gen.agents.ceo.tasks", done)(scenario)
    acked(f"{CEO_TASKS}/ceo-worker", done)(scenario)
    before = scenario.config(CEO_TASKS)
    meanwhile.before(f"STREAM.UPDATE.{CEO_TASKS}", published("gen.agents.ceo.tasks", 1))
    outcomes = scenario.apply(scenario.request(ORG, prune=True))
    assert "1 messages arrived since the plan was made" in problem(outcomes, CEO_TASKS)
    assert scenario.info(CEO_TASKS)["state"]["messages"] == done + 1
    assert scenario.config(CEO_TASKS) == before
    published("gen.agents.ceo.tasks", 1)(scenario)
    plan = scenario.plan(scenario.request(ORG, prune=True))
    (lost,) = [hazard for hazard in plan.hazards if hazard.name == "deletes-messages"]
    assert (lost.count, lost.unfinished) == (done + 2, Share(2))


@pytest.mark.parametrize("done", [0, 2])
def test_a_fenced_stream_refuses_every_publish(scenario: Scenario, meanwhile: Meanwhile, done: int) -> None:
    """Once a publisher could be told that a message is stored, the stream is not deleted any more."""
    scenario.converge(TWO)
    published("gen.agents.ceo.tasks", done)(scenario)
    acked(f"{CEO_TASKS}/ceo-worker", done)(scenario)
    refused: list[bool] = []

    def publish(found: Scenario) -> None:
        with pytest.raises((RuntimeError, queue.Empty)):
            found.api.ask("gen.agents.ceo.tasks", b"late", timeout=1)
        refused.append(True)

    meanwhile.before(f"STREAM.DELETE.{CEO_TASKS}", publish)
    outcomes = scenario.apply(scenario.request(ORG, prune=True))
    assert {DONE} == set(ends(outcomes).values())
    assert refused == [True]


def test_a_consumer_that_was_worked_with_after_the_plan_is_not_deleted(
    scenario: Scenario, meanwhile: Meanwhile
) -> None:
    scenario.converge(TWO)
    reader = OF_CEO[2]
    meanwhile.before(
        f"CONSUMER.INFO.{reader.replace('/', '.')}", published("gen.agents.ceo.inbox", 2), acked(reader, 1)
    )
    outcomes = scenario.apply(scenario.request(ORG, prune=True))
    assert "has been worked with since the plan was made" in problem(outcomes, reader)
    assert scenario.info(reader)["num_pending"] == 1


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("verb", ["STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "CONSUMER.CREATE", "CONSUMER.DELETE"])  # fmt: skip
def test_after_a_lost_reply_what_happened_decides_whether_to_write_again(
    verb: str,
    executed: bool,  # noqa: FBT001
    scenario: Scenario,
    faults: Faults,
) -> None:
    before, after = {
        "STREAM.CREATE": (None, ORG),
        "CONSUMER.CREATE": (None, ORG),
        "STREAM.UPDATE": (ORG, tasks("max_age: 80h")),
        "STREAM.DELETE": (TWO, ORG),
        "CONSUMER.DELETE": (TWO, ORG),
    }[verb]
    if before:
        scenario.converge(before)
    wish = scenario.request(after, prune=True)
    plan = scenario.plan(wish)
    silence = LostReply(faults, verb, executed=executed)
    with scenario.requests() as made:
        assert {DONE} == set(ends(scenario.apply(wish, plan)).values())
    elsewhere = (MEMORY, REHEARSAL_PREFIX)  # nobody counts these
    lost = [subject for subject in silence.lost if not any(name in subject for name in elsewhere)]
    assert lost
    written = [f"$JS.API.{request.verb}" for request in made if request.writes]
    assert {1} == {written.count(subject) for subject in lost}
    assert not scenario.plan(scenario.request(after))


def test_a_field_that_the_server_drops_silently_is_refused_first_or_a_failure(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the table said that 2.10 knows allow_atomic: 2.10 answers OK and leaves it out. Who may not try it first meets it then."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(ORG)
        older = FIELDS[Kind.STREAM]["allow_atomic"]._replace(since=0)
        monkeypatch.setitem(FIELDS[Kind.STREAM], "allow_atomic", older)
        wish = scene.request(tasks("allow_atomic: true"))
        with (
            scene.requests() as made,
            pytest.raises(PlanRefused, match="accepts allow_atomic, and keeps null"),
        ):
            scene.apply(wish)
        assert not any(request.writes for request in made)
        monkeypatch.setattr(rehearsal, "plan_rehearsals", lambda _: iter(()))
        outcomes = scene.apply(wish)
        assert problem(outcomes, TASKS) == f"{TASKS}: the server answered OK and did not keep allow_atomic"


def test_what_does_not_hold_when_it_is_read_back_has_failed(scenario: Scenario, faults: Faults) -> None:
    """Somebody changes a stream right after our write, before the apply ends."""
    scenario.converge(ORG)

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        answer = await send(request)
        if verb == f"STREAM.UPDATE.{TASKS}":
            await asyncio.to_thread(changed(TASKS, max_msgs=7), scenario)
        return answer

    faults.intercept(call)
    outcomes = scenario.apply(scenario.request(tasks("max_age: 80h")))
    assert problem(outcomes, TASKS) == f"{TASKS} was written and, read back, differs in max_msgs"


def test_a_server_that_dies_leaves_an_outcome_for_every_change(
    start_server: StartServer, tmp_path: Path, faults: Faults
) -> None:
    server = start_server()
    with Scenario(server.url, tmp_path) as scene:
        Meanwhile(scene, faults).before(f"STREAM.CREATE.{BROADCASTS}", lambda _: server.kill())
        wish = scene.request(ORG)
        plan = scene.plan(wish)
        found = ends(scene.apply(wish, plan))
        assert {str(change.ref) for change in plan.changes} == set(found)
        assert found[BROADCASTS] is FAILED
        assert NOT_REACHED in found.values()
    server.start()
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(ORG)
        assert not scene.plan(wish)


def test_after_two_applies_at_once_the_next_one_converges(scenario: Scenario) -> None:
    """Without the lease: each write still looks first."""
    wish = scenario.request(ORG)
    plan = scenario.plan(wish)
    started = threading.Barrier(2)

    def run() -> None:
        started.wait()
        with contextlib.suppress(PlanStale):
            scenario.apply(wish, plan)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scenario.converge(ORG)
    assert sorted(scenario.refs()) == sorted(str(change.ref) for change in plan.changes)


@pytest.mark.parametrize("verb", ["CONSUMER.CREATE", "CONSUMER.INFO"])
def test_what_is_deleted_while_it_is_tried_stops_only_what_takes_something_away(
    scenario: Scenario, meanwhile: Meanwhile, verb: str
) -> None:
    """As another apply does, that has no lease either."""
    scenario.converge(ORG)
    tried, before = rehearsal_stream(Ref(TASKS)), scenario.refs()
    meanwhile.before(f"{verb}.{tried}", deleted(str(tried)))
    with (
        scenario.requests() as made,
        pytest.raises(PlanStale, match=f"somebody deleted {tried} while the new configuration of {WORKER}"),
    ):
        scenario.apply(scenario.request(worker("max_waiting: 9")))
    assert {f"STREAM.DELETE.{tried}"} >= {request.verb for request in made if request.writes}
    assert scenario.refs() == before

    tried = rehearsal_stream(Ref(CEO_TASKS))
    meanwhile.before(f"{verb}.{tried}", deleted(str(tried)))
    assert set(ends(scenario.apply(scenario.request(TWO))).values()) == {DONE}


@pytest.mark.servers(*VERSIONS)
def test_the_first_answer_after_a_restart_is_checked_by_reading(any_server: Any, tmp_path: Path) -> None:
    """Restarted, a server answers the first update of a consumer with the configuration that it had before."""
    with Scenario(any_server.url, tmp_path) as scene:
        scene.converge("org: g\nroles: [a]\n")
    any_server.kill()
    any_server.start()
    with Scenario(any_server.url, tmp_path) as scene:
        scene.converge("org: g\nroles: [a]\nconsumers: {worker: {ack_wait: 1h, max_ack_pending: 7}}\n")


def test_what_cannot_be_read_back_is_not_called_done(scenario: Scenario, faults: Faults) -> None:
    """The connection is lost after the last write was answered: every change was written, none is known to hold."""
    wish = scenario.request("org: g\nroles: [a]\n")
    plan = scenario.plan(wish)
    listings, gone = list[str](), list[str]()

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        listings.append(verb)
        if verb == "INFO" and listings.count(verb) > 1:
            gone.append(verb)
        if gone:  # as if the network were
            raise ConnectionLost(scenario.url)
        return await send(request)

    faults.intercept(call)
    outcomes = scenario.apply(wish, plan)
    assert {outcome.status for outcome in outcomes} == {FAILED}
    assert all(outcome.problem and outcome.problem.code == "not-read-back" for outcome in outcomes)
