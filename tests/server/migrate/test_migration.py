"""A replaced stream carries its messages over: nothing acknowledged is lost, nothing is worked on twice, whatever dies."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.execute.consumer import draining
from cyborg_infra.live.execute.migrate import catch_up
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.changes import Action, Change, HazardName
from cyborg_infra.model.metadata_keys import STOPPED_KEY
from cyborg_infra.model.plan import Plan, ResultStatus
from cyborg_infra.model.problems import PlanRefused, PlanStale
from cyborg_infra.model.ref import TEMPORARY_PREFIX
from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.operations import provision
from tests.support.agents import fetch
from tests.support.faults import Faults, Send, SendJoint
from tests.support.scenario import Request, Scenario, acked, consumer, fetched, published, stream
from tests.support.servers import NEWEST, OLDEST, VERSIONS, StartServer
from tests.support.traffic import BATCH, Publisher, Worker, eventually

STREAM, WORKER = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"
SUBJECT = "acme.agents.cto.tasks"
PRELOADED = 2 * catch_up.NEARLY_COMPLETE_LAG  # it is not nearly complete at the first look
ENDS_HISTORY = (
    "retention: interest",
    "retention: workqueue",
)  # of a stream that keeps one, which is a hazard
PROMOTING = "2.12.8"
EVERY = 1 if os.environ.get("CYBORG_INFRA_TEST_FAULTS") == "all" else 2  # write at which a tool dies
WRITES = 20  # at least as many as a move and its consumer take
DRAINED = 4  # the writes after which nobody works any more
EXACT = (NEWEST, PROMOTING)  # the others number messages anew
MOVING = VERSIONS if "CYBORG_INFRA_TEST_SERVERS" in os.environ else (NEWEST, PROMOTING, OLDEST)
pytestmark = pytest.mark.servers(*MOVING)
FIELDS = {
    "storage to memory": ("storage: file", "storage: memory"),
    "storage to file": ("storage: memory", "storage: file"),
    "to workqueue": ("retention: limits", "retention: workqueue"),
    "from workqueue": ("retention: workqueue", "retention: limits"),
    "workqueue to interest": ("retention: workqueue", "retention: interest"),
    "interest to workqueue": ("retention: interest", "retention: workqueue"),
    "storage of a workqueue": ("retention: workqueue", "retention: workqueue, storage: memory"),
    "storage of interest": ("retention: interest", "retention: interest, storage: memory"),
    "persist_mode": ("persist_mode: default", "persist_mode: async"),
    "deny_delete and deny_purge": ("deny_delete: true, deny_purge: true", "deny_delete: false"),
    "allow_msg_ttl": ("allow_msg_ttl: true", "allow_msg_ttl: false"),
    "first_seq": ("first_seq: 5", "first_seq: 4"),
    "everything": ("storage: file", "storage: memory, max_age: 48h, deny_delete: true, deny_purge: true"),
}
CONSUMED = (
    "from workqueue",
    "workqueue to interest",
    "interest to workqueue",
    "storage of a workqueue",
    "storage of interest",
)
FIELD_SINCE = {
    "persist_mode": Capability.PROMOTE_MIRROR.since,
    **dict.fromkeys(("allow_msg_ttl", *CONSUMED), Capability.PAUSE_CONSUMER.since),
}
CASES = {
    f"{version}-{name}": (version, *change)
    for version in MOVING
    for name, change in FIELDS.items()
    if Version.parse(version) >= FIELD_SINCE.get(name, Version(2, 10, 0))
}


class Killed(Exception):
    """The tool died here."""


def manifest(settings: str) -> str:
    """Return what a killed server has handed out and nobody has received comes again after 5s."""
    return f"org: acme\nroles: [cto]\nstreams: {{tasks: {{{settings}}}}}\nconsumers: {{worker: {{max_ack_pending: 20, ack_wait: 5s}}}}\n"


def preload(scenario: Scenario, count: int) -> list[str]:
    """Return `count` messages, and then a tenth of them deleted, the last one as well; the names of those that stay."""
    answers = scenario.api.subscribe("_INBOX.preload")
    for number in range(count):
        name = f"old-{number}"
        scenario.api.publish(SUBJECT, name.encode(), reply=answers.subject, headers={"Nats-Msg-Id": name})
    sequences = [answers.next().json["seq"] for _ in range(count)]
    gone = set() if scenario.config(STREAM)["deny_delete"] else {*range(7, count, 10), count - 1}
    for number in gone:
        scenario.ask(f"STREAM.MSG.DELETE.{STREAM}", {"seq": sequences[number]})
    return [f"old-{number}" for number in range(count) if number not in gone]


def stored(scenario: Scenario) -> dict[int, tuple[str, str]]:
    """Sequence number -> payload and timestamp of everything in the stream."""
    state = scenario.info(STREAM)["state"]
    found = {}
    for sequence in range(state["first_seq"], state["last_seq"] + 1):
        answer = scenario.api.request(f"$JS.API.STREAM.MSG.GET.{STREAM}", {"seq": sequence})
        if message := answer.get("message"):
            found[sequence] = (message["data"], message["time"])
    return found


def kept(scenario: Scenario) -> list[object]:
    """Return what a finished replace keeps of every message: before 2.12 neither number nor time."""
    exact = Version.parse(scenario.api.info["version"]) >= Capability.PROMOTE_MIRROR.since
    return [(number, *found) if exact else found[0] for number, found in stored(scenario).items()]


def is_worked_off(scenario: Scenario) -> bool:
    info = scenario.info(WORKER)
    return (info["num_pending"], info["num_ack_pending"]) == (0, 0)


def assert_books_balance(
    scenario: Scenario, old: list[str], publisher: Publisher, worker: Worker, forgotten: int = 0
) -> None:
    """With the publisher stopped: everything acknowledged was worked on, once; `forgotten` acks excepted."""
    wanted = {*old, *publisher.acknowledged}
    assert eventually(lambda: is_worked_off(scenario) and wanted <= worker.worked.keys()), sorted(
        wanted - worker.worked.keys()
    )[:20]
    assert len([name for name, times in worker.worked.items() if times > 1]) <= forgotten


def assert_in_sync(scenario: Scenario, text: str) -> None:
    assert not scenario.plan(scenario.request(text))
    assert [ref for ref in scenario.refs() if TEMPORARY_PREFIX in ref or "placeholder" in ref] == []
    assert scenario.info(WORKER).get("paused", False) is False


@pytest.mark.parametrize(
    ("any_server", "before", "after"), CASES.values(), ids=CASES, indirect=["any_server"]
)
def test_agents_go_on_while_a_field_that_cannot_change_is_changed(
    scenario: Scenario, before: str, after: str
) -> None:
    scenario.converge(manifest(before))
    old = preload(scenario, PRELOADED)
    wish = scenario.request(manifest(after))
    with Worker(scenario.url, WORKER) as worker:
        with Publisher(scenario.url, SUBJECT) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > 20)
            plan = busy_plan(scenario, wish)
            assert [change.action for change in plan.changes if str(change.ref) == STREAM] == [Action.REPLACE]
            deletes = {"deletes-messages"} if after in ENDS_HISTORY else set()
            allowed = {hazard.name.value for hazard in plan.hazards} | deletes
            assert allowed - {"repeats-work"} == deletes
            outcomes = scenario.apply(wish, plan, allow=sorted(allowed))
            assert [outcome.problem for outcome in outcomes if outcome.problem] == []
            seen = len(publisher.acknowledged)
            assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
        assert_books_balance(scenario, old, publisher, worker, repeated(plan))
    assert_in_sync(scenario, manifest(after))


def busy_plan(scenario: Scenario, request: provision.PlanRequest) -> Plan:
    """Return the plan for a worker that is working. Before 2.11 it counts what nobody can prevent; between two pulls it is idle."""
    plans: list[Plan] = []

    def tells_the_cost() -> bool:
        plans[:] = [scenario.plan(request)]
        assert plans[0].server_info
        return plans[0].server_info.version >= Capability.PAUSE_CONSUMER.since or repeated(plans[0]) > 0

    assert eventually(tells_the_cost)
    assert plans[0].server_info
    assert (repeated(plans[0]) > 0) == (plans[0].server_info.version < Capability.PAUSE_CONSUMER.since)
    return plans[0]


def repeated(plan: Plan) -> int:
    """Return how many messages may come again, as the plan counts them."""
    return sum(hazard.count for hazard in plan.hazards if hazard.name == "repeats-work")


class Fault:
    """Something that happens at the n-th request of ours that changes anything, or at the first with this verb."""

    def __init__(self, faults: Faults, step: int | str, happens: Callable[[], None]) -> None:
        self.reached, self.verb, self.at, self.when = 0, "", 0, 0.0

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            verb = request.verb
            if not Request(verb, None).writes or "CONSUMER.NAMES" in verb:
                return await send(request)
            self.reached += 1
            if step in (self.reached, verb):
                self.verb, self.at, self.when = verb, self.reached, time.monotonic()
                happens()
            return await send(request)

        async def call_together(requests: Sequence[ApiRequest], send: SendJoint) -> list[Any]:
            """Nothing comes between what is sent in one write."""
            self.reached += 1
            verbs = [request.verb for request in requests]
            if step in (self.reached, *verbs):
                self.verb, self.at, self.when = verbs[0], self.reached, time.monotonic()
                happens()
            return await send(requests)

        faults.intercept(call)
        faults.intercept_joint(call_together)

    @property
    def while_working(self) -> bool:
        """Whether workers could be at work then: before they are drained, and once the new consumer serves them."""
        return self.at < DRAINED or ("DELETE" in self.verb and "placeholder" in self.verb)


def _heard_before(worker: Worker, moment: float) -> int:
    """Return how many messages the server said that it knows to be done, in the second before it was killed."""
    told = [
        delivery.confirmed for times in worker.deliveries.values() for delivery in times if delivery.heard
    ]
    return BATCH + sum(moment - 1 <= confirmed <= moment for confirmed in told)


def apply_until_done(scenario: Scenario, request: provision.PlanRequest) -> int:
    """Return how many messages may come again, as the plans count them.

    What has begun needs no more permission, but for work that goes on meanwhile and cannot stay open before 2.11: what
    that costs is not what was allowed before.
    """
    announced = 0
    for _ in range(3):
        plan = scenario.plan(request)
        announced += repeated(plan)
        begun = any(TEMPORARY_PREFIX in ref for ref in scenario.refs())
        assert plan.server_info
        grows = (
            {HazardName.REPEATS_WORK} if plan.server_info.version < Capability.PAUSE_CONSUMER.since else set()
        )
        assert not begun or {hazard.name for hazard in plan.hazards} <= grows
        assert not plan.blocking_problems
        with suppress(Killed, PlanStale):  # something given up since: the next plan counts it
            outcomes = scenario.apply(request, plan)
            if all(outcome.status is ResultStatus.SUCCEEDED for outcome in outcomes):
                return announced
    raise AssertionError([outcome.problem for outcome in outcomes])


def interrupted(scenario: Scenario, after: str, forgotten: Callable[[Worker], int] = lambda _: 0) -> None:
    """The whole scene around one interrupted replace; `forgotten` may come again."""
    old = preload(scenario, 200)
    wish = scenario.request(manifest(after))
    with Worker(scenario.url, WORKER) as worker:
        with Publisher(scenario.url, SUBJECT) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > 20)
            announced = apply_until_done(scenario, wish)
            seen = len(publisher.acknowledged)
            assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
        assert_books_balance(scenario, old, publisher, worker, announced + forgotten(worker))
    assert_in_sync(scenario, manifest(after))


INTERRUPTED = {
    "storage": (NEWEST, "storage: file", "storage: memory"),
    "retention": (PROMOTING, "retention: workqueue", "retention: interest"),
    "by sources": (OLDEST, "storage: file", "storage: memory"),
}


@pytest.mark.parametrize(
    ("version", "before", "after", "step"),
    [
        pytest.param(*move, step, id=f"{name}-{step}")
        for at, (name, move) in enumerate(INTERRUPTED.items())
        for step in range(1 + at % EVERY, WRITES + 1, EVERY)
    ],
)
def test_killed_at_any_step_it_goes_on_at_the_next_apply(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    version: str,
    before: str,
    after: str,
    step: int,
) -> None:
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        scene.converge(manifest(before))
        die_at(faults, step)
        interrupted(scene, after)


@pytest.mark.parametrize(
    ("version", "before", "after", "step"),
    [
        *((NEWEST, "retention: workqueue", "retention: limits", step) for step in range(1, WRITES + 1, 2)),
        *((OLDEST, "deny_purge: true", "deny_purge: false", step) for step in (6, 11)),
    ],
)
def test_the_server_killed_at_any_step_loses_nothing(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    version: str,
    before: str,
    after: str,
    step: int,
) -> None:
    server = start_server(version=version)
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(manifest(before))

        def die() -> None:
            server.kill()
            server.start()
            scene.reconnect()

        fault = Fault(faults, step, die)

        # Killed while workers work, the server itself forgets the acknowledgements of its last moments: it writes them
        # to disk some time after it has answered. Before 2.11 a consumer is stopped, in more writes than it is paused in,
        # and workers end what they have meanwhile.
        def forgotten(worker: Worker) -> int:
            at_work = fault.while_working or version == OLDEST
            return _heard_before(worker, fault.when) if at_work else 0

        interrupted(scene, after, forgotten)


@pytest.mark.servers(*EXACT)
def test_an_archived_dead_letter_keeps_its_number_its_time_and_its_id(scenario: Scenario) -> None:
    """Gaps stay gaps, also one at the end; a message that was stored before is known by its id afterwards."""
    scenario.converge(manifest("storage: file"))
    preload(scenario, 100)
    before, last = stored(scenario), scenario.info(STREAM)["state"]["last_seq"]
    scenario.converge(manifest("storage: memory"))
    assert stored(scenario) == before
    again, new = (
        scenario.api.ask(SUBJECT, name.encode(), headers={"Nats-Msg-Id": name}).json
        for name in ("old-3", "new")
    )
    assert (again["seq"], again["duplicate"]) == (4, True)
    assert new["seq"] > last


def test_what_nobody_has_worked_on_is_all_in_the_new_workqueue(scenario: Scenario) -> None:
    """Before 2.15 a purge up to message 1 is a purge of everything."""
    scenario.converge(manifest("retention: limits"))
    published(SUBJECT, 5)(scenario)
    scenario.converge(manifest("retention: workqueue"))
    assert scenario.info(STREAM)["state"]["messages"] == 5


def test_what_is_not_ours_is_not_touched(scenario: Scenario) -> None:
    scenario.converge(manifest("storage: file"))
    stream("THEIRS", "theirs.>")(scenario)
    consumer("THEIRS/reader")(scenario)
    published("theirs.x", 5)(scenario)
    published(SUBJECT, 5)(scenario)
    theirs = scenario.everything(lambda ref: STREAM not in ref)
    scenario.converge(manifest("storage: memory"))
    assert scenario.everything(lambda ref: STREAM not in ref) == theirs


def test_the_plan_says_what_it_carries_and_what_goes_with_the_old_stream(scenario: Scenario) -> None:
    scenario.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scenario)
    consumer(f"{STREAM}/stranger")(scenario)
    plan = scenario.plan(scenario.request(manifest("storage: memory")))
    exact = plan.server_info is not None and plan.server_info.version >= Capability.PROMOTE_MIRROR.since
    how = "" if exact else " with new sequence numbers and timestamps"
    assert change_of(plan).reason == f"carries 5 messages over{how}; ingest pauses for milliseconds"
    assert [hazard.reason for hazard in plan.hazards] == [
        "1 consumer outside the manifest would go with the stream: stranger"
    ]


def test_smaller_limits_cost_what_they_cost_in_place(scenario: Scenario) -> None:
    scenario.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scenario)
    after = manifest("storage: memory, max_msgs: 2")
    plan = scenario.plan(scenario.request(after))
    assert [(hazard.name, hazard.count) for hazard in plan.hazards] == [("deletes-messages", 3)]
    scenario.converge(after)
    assert scenario.info(STREAM)["state"]["messages"] == 2


@pytest.mark.servers(*EXACT)
@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("allow_msg_counter: true", "allow_msg_counter: false", "its messages may be counters"),
        (
            "storage: file",
            "storage: memory, first_seq: 9",
            "its messages keep their numbers, which begin at 1",
        ),
        ("storage: file", "storage: memory, sources: [{name: THEIRS}]", "it is a copy of other streams"),
    ],
)
def test_messages_that_cannot_be_migrated_exactly_are_counted_and_refused(
    scenario: Scenario, before: str, after: str, reason: str
) -> None:
    stream("THEIRS", "theirs.>")(scenario)
    scenario.converge(manifest(before))
    headers = {"Nats-Incr": "1"} if "counter" in before else None
    inbox = scenario.api.subscribe("_INBOX.stored")
    scenario.api.publish(SUBJECT, b"", reply=inbox.subject, headers=headers)
    assert inbox.next().json["seq"] == 1
    plan = scenario.plan(scenario.request(manifest(after)))
    assert change_of(plan).reason == f"cannot carry its messages over: {reason}"
    assert [(hazard.name, hazard.count) for hazard in plan.hazards] == [("deletes-messages", 1)]


@pytest.mark.servers(OLDEST)
def test_before_2_12_order_payload_and_id_are_kept_and_the_next_message_is_the_same(
    scenario: Scenario,
) -> None:
    """Numbers begin where the manifest says, without gaps; a worker goes on behind the last message it finished."""
    scenario.converge(manifest("storage: file"))
    preload(scenario, 100)
    acked(WORKER, 10)(scenario)
    before = [payload for payload, _ in stored(scenario).values()]
    after = manifest("storage: memory, first_seq: 1000")
    scenario.converge(after)
    found = stored(scenario)
    assert [payload for payload, _ in found.values()] == before
    assert list(found) == list(range(1000, 1000 + len(before)))
    assert scenario.api.ask(SUBJECT, headers={"Nats-Msg-Id": "old-3"}).json["duplicate"]
    inbox = scenario.api.subscribe("_INBOX.again")
    scenario.api.publish(f"$JS.API.CONSUMER.MSG.NEXT.{WORKER.replace('/', '.')}", reply=inbox.subject)
    assert inbox.next().data == base64.b64decode(before[10])
    assert not scenario.plan(scenario.request(after))


@pytest.mark.servers(OLDEST)
def test_before_2_12_a_message_id_that_came_twice_does_not_stop_the_migration(
    scenario: Scenario, faults: Faults
) -> None:
    """The origin has forgotten the first when the second comes; a copy is faster, and would wait for ever."""
    faults.waits(UNBLOCK_SOURCES_AFTER_SECONDS=0.5)
    scenario.converge(manifest("duplicate_window: 100ms"))
    for number in range(2):
        scenario.api.publish(SUBJECT, str(number).encode(), headers={"Nats-Msg-Id": "same"})
        assert eventually(lambda count=number + 1: scenario.info(STREAM)["state"]["messages"] == count)  # type: ignore[misc]
        time.sleep(0.3)  # the window is real time
    before = [payload for payload, _ in stored(scenario).values()]
    scenario.converge(manifest("duplicate_window: 100ms, storage: memory"))
    assert [payload for payload, _ in stored(scenario).values()] == before
    assert scenario.config(STREAM)["duplicate_window"] == 100_000_000


@pytest.mark.servers(*EXACT)
def test_work_that_neither_ends_nor_can_stay_open_leaves_everything_as_it_was(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "position_obstacle", lambda *_, **__: "nobody hears it")
    scenario.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scenario)
    fetched(WORKER, 2)(scenario)
    before = scenario.config(STREAM)
    wish = scenario.request(manifest("storage: memory"))
    outcomes = provision.apply(
        provision.ApplyRequest(scenario.plan(wish), drain_timeout=0.2), scenario.target
    )
    (problem,) = (outcome.problem for outcome in outcomes if outcome.problem)
    assert problem.code == "not-drained"
    assert "they cannot stay open: nobody hears it" in problem.message
    assert scenario.config(STREAM) == before
    assert not scenario.info(WORKER).get("paused", False)
    assert [ref for ref in scenario.refs() if TEMPORARY_PREFIX in ref] == []


@pytest.mark.servers(OLDEST)
@pytest.mark.parametrize("ends", [True, False])
def test_before_2_11_what_a_worker_is_handed_before_the_stop_comes_again_only_if_a_plan_has_announced_it(
    scenario: Scenario,
    faults: Faults,
    ends: bool,  # noqa: FBT001 - pytest's
) -> None:
    """Nobody works in the plan, so that it announces nothing. Then nothing is replaced, and the consumer waits for the next plan."""
    scenario.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scenario)
    acked(WORKER, 1)(scenario)
    wish, held = scenario.request(manifest("storage: memory")), list[str]()
    plan = scenario.plan(wish)
    assert plan.hazards == ()

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        config = (request.body or {}).get("config") or {}
        if not held and STOPPED_KEY in config.get("metadata", {}):
            held.extend(fetch(scenario.api, WORKER).reply for _ in range(2))
        return await send(request)

    with faults.context() as patched:
        patched.intercept(call)
        outcomes = provision.apply(provision.ApplyRequest(plan, drain_timeout=0.2), scenario.target)
    problems = [outcome.problem for outcome in outcomes if outcome.problem]
    assert [problem.code for problem in problems][:1] == ["not-drained"]
    assert "it stays stopped" in problems[0].message
    assert scenario.config(STREAM)["storage"] == "file"
    if ends:
        for reply in held:
            scenario.api.ask(reply, b"+ACK")
    plan = scenario.plan(wish)
    assert [(hazard.name, hazard.count) for hazard in plan.hazards] == (
        [] if ends else [(HazardName.REPEATS_WORK, 2)]
    )
    outcomes = provision.apply(
        provision.ApplyRequest(plan, allow=["repeats-work"] * (not ends), drain_timeout=0.2), scenario.target
    )
    assert [outcome for outcome in outcomes if outcome.problem] == []
    assert scenario.info(WORKER)["num_pending"] == (2 if ends else 4)
    assert_in_sync(scenario, manifest("storage: memory"))


@pytest.mark.parametrize("step", range(2, 7))
def test_a_manifest_that_went_back_undoes_a_replace_that_has_only_begun(
    scenario: Scenario, faults: Faults, step: int
) -> None:
    """Later it is finished, and then done again the other way round."""
    scenario.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scenario)
    before = kept(scenario)
    with faults.context() as patched, suppress(Killed):
        die_at(patched, step)
        scenario.apply(scenario.request(manifest("storage: memory")))
    apply_until_done(scenario, scenario.request(manifest("storage: file")))
    assert kept(scenario) == before
    assert_in_sync(scenario, manifest("storage: file"))


def test_a_stream_that_is_only_in_the_temporary_one_is_not_created(
    scenario: Scenario, faults: Faults
) -> None:
    scenario.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scenario)
    wish = scenario.request(manifest("storage: memory"))
    with faults.context() as patched, suppress(Killed):
        die_at(patched, f"STREAM.CREATE.{STREAM}")
        scenario.apply(wish)
    assert STREAM not in scenario.refs()
    plan = scenario.plan(wish)
    assert change_of(plan).action is Action.REPLACE
    assert change_of(plan).reason == "goes on where an interrupted replace stopped"
    assert plan.orphans == ()
    apply_until_done(scenario, wish)
    assert len(stored(scenario)) == 5


@pytest.mark.servers(*EXACT)
def test_reverted_manifest_waits_until_the_interrupted_migration_is_finished(
    scenario: Scenario, faults: Faults
) -> None:
    """What can only be switched on is on in the new stream by then; the manifest as it was leads out."""
    scenario.converge(manifest("storage: file, allow_msg_ttl: true"))
    published(SUBJECT, 5)(scenario)
    began = scenario.request(manifest("storage: memory, allow_msg_ttl: true"))

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        if verb == f"STREAM.PURGE.{STREAM}":
            raise Killed
        return await send(request)

    with faults.context() as patched, suppress(Killed):
        patched.intercept(call)
        scenario.apply(began)
    wish = scenario.request(manifest("storage: memory, allow_msg_ttl: false"))
    (problem,) = scenario.plan(wish).blocking_problems
    assert problem.code == "changed-meanwhile"
    with scenario.requests() as made, pytest.raises(PlanRefused):
        scenario.apply(wish)
    assert [request.verb for request in made if request.writes] == []
    apply_until_done(scenario, began)
    apply_until_done(scenario, wish)
    assert len(stored(scenario)) == 5
    assert_in_sync(scenario, manifest("storage: memory, allow_msg_ttl: false"))


@pytest.mark.servers(*EXACT)
def test_what_is_worked_on_after_an_interrupted_copy_does_not_come_again(
    scenario: Scenario, faults: Faults
) -> None:
    """A pause ends by itself; also with the permission to repeat, the copy is begun anew."""
    scenario.converge(manifest("retention: workqueue"))
    old = preload(scenario, 50)
    wish = scenario.request(manifest("retention: workqueue, storage: memory"))
    with faults.context() as patched, suppress(Killed):
        die_at(patched, 3)
        scenario.apply(wish)
    assert any(TEMPORARY_PREFIX in ref for ref in scenario.refs())
    scenario.ask(f"CONSUMER.PAUSE.{WORKER.replace('/', '.')}", {})
    with Worker(scenario.url, WORKER) as worker:
        # Since 2.14 what is worked on stays until the mirror has acknowledged it as well: a moment later.
        assert eventually(lambda: is_worked_off(scenario) and not scenario.info(STREAM)["state"]["messages"])
        apply_until_done(scenario, wish)
        assert eventually(lambda: is_worked_off(scenario))
    assert sorted(worker.worked.elements()) == sorted(old)


def change_of(plan: Plan) -> Change:
    (found,) = [change for change in plan.changes if str(change.ref) == STREAM]
    return found


def die_at(faults: Faults, step: int | str) -> None:
    """The tool dies at its n-th write, or at the first that does this."""

    def die() -> None:
        raise Killed

    Fault(faults, step, die)
