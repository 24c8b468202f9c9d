"""A replaced stream carries its messages over: nothing acknowledged is lost, nothing is worked on twice, whatever dies."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scene import Request, Scene, consumer, fetched, published, stream, worked
from servers import NEWEST, OLDEST, VERSIONS, StartServer
from traffic import BATCH, Publisher, Worker, eventually

from cyborg_infra import pipeline
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.routes import SOURCES
from cyborg_infra.model.fields import PAUSE_SINCE, PROMOTE_SINCE, Version
from cyborg_infra.model.plan import Action, Change, Done, Plan
from cyborg_infra.model.state import TEMPORARY

STREAM, WORKER = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"
SUBJECT = "acme.agents.cto.tasks"
PRELOADED = 2000
TO_INTEREST = "retention: interest"  # an update in place to it is a hazard, and so is this
PROMOTING = "2.12.8"
WRITES = 20  # at least as many as a move and its consumer take
DRAINED = 4  # the writes after which nobody works any more
EXACT = (NEWEST, PROMOTING)  # the others number messages anew
MOVING = VERSIONS if "CYBORG_INFRA_TEST_SERVERS" in os.environ else (NEWEST, PROMOTING, OLDEST)
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
FIELD_SINCE = {"persist_mode": PROMOTE_SINCE, **dict.fromkeys(("allow_msg_ttl", *CONSUMED), PAUSE_SINCE)}
CASES = {
    f"{version}-{name}": (version, *change)
    for version in MOVING
    for name, change in FIELDS.items()
    if Version.parse(version) >= FIELD_SINCE.get(name, Version(2, 10, 0))
}


class Killed(Exception):
    """The tool died here."""


def manifest(settings: str) -> str:
    """What a killed server has handed out and nobody has received comes again after 5s."""
    return f"org: acme\nroles: [cto]\nstreams: {{tasks: {{{settings}}}}}\nconsumers: {{worker: {{max_ack_pending: 20, ack_wait: 5s}}}}\n"


@pytest.fixture(params=MOVING)
def scene(request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path) -> Iterator[Scene]:
    with Scene(start_server(version=str(request.param)).url, tmp_path) as prepared:
        yield prepared


def preload(scene: Scene, count: int) -> list[str]:
    """`count` messages, and then a tenth of them deleted, the last one as well; the names of those that stay."""
    answers = scene.api.subscribe("_INBOX.preload")
    for number in range(count):
        name = f"old-{number}"
        scene.api.publish(SUBJECT, name.encode(), reply=answers.subject, headers={"Nats-Msg-Id": name})
    sequences = [answers.next().json["seq"] for _ in range(count)]
    gone = set() if scene.config(STREAM)["deny_delete"] else {*range(7, count, 10), count - 1}
    for number in gone:
        scene.ask(f"STREAM.MSG.DELETE.{STREAM}", {"seq": sequences[number]})
    return [f"old-{number}" for number in range(count) if number not in gone]


def stored(scene: Scene) -> dict[int, tuple[str, str]]:
    """Sequence number -> payload and timestamp of everything in the stream."""
    state = scene.info(STREAM)["state"]
    found = {}
    for sequence in range(state["first_seq"], state["last_seq"] + 1):
        answer = scene.api.request(f"$JS.API.STREAM.MSG.GET.{STREAM}", {"seq": sequence})
        if message := answer.get("message"):
            found[sequence] = (message["data"], message["time"])
    return found


def kept(scene: Scene) -> list[object]:
    """What a finished replace keeps of every message: before 2.12 neither number nor time."""
    exact = Version.parse(scene.api.info["version"]) >= PROMOTE_SINCE
    return [(number, *found) if exact else found[0] for number, found in stored(scene).items()]


def is_worked_off(scene: Scene) -> bool:
    info = scene.info(WORKER)
    return (info["num_pending"], info["num_ack_pending"]) == (0, 0)


def assert_books_balance(
    scene: Scene, old: list[str], publisher: Publisher, worker: Worker, forgotten: int = 0
) -> None:
    """With the publisher stopped: everything acknowledged was worked on, once; `forgotten` acks excepted."""
    wanted = {*old, *publisher.acknowledged}
    assert eventually(lambda: is_worked_off(scene) and wanted <= worker.worked.keys()), sorted(
        wanted - worker.worked.keys()
    )[:20]
    assert len([name for name, times in worker.worked.items() if times > 1]) <= forgotten


def assert_in_sync(scene: Scene, text: str) -> None:
    assert not scene.plan(scene.wish(text))
    assert [ref for ref in scene.refs() if TEMPORARY in ref or "placeholder" in ref] == []
    assert scene.info(WORKER).get("paused", False) is False


@pytest.mark.parametrize(("scene", "before", "after"), CASES.values(), ids=CASES, indirect=["scene"])
def test_agents_go_on_while_a_field_that_cannot_change_is_changed(
    scene: Scene, before: str, after: str
) -> None:
    scene.converge(manifest(before))
    old = preload(scene, PRELOADED)
    wish = scene.wish(manifest(after))
    with Worker(scene.url, WORKER) as worker:
        with Publisher(scene.url, SUBJECT) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > 20)
            plan = busy_plan(scene, wish)
            assert [change.action for change in plan.changes if str(change.ref) == STREAM] == [Action.REPLACE]
            deletes = (
                {"deletes-messages"} if TO_INTEREST in after else set()
            )  # a bound, as long as agents work
            allowed = {hazard.name.value for hazard in plan.hazards} | deletes
            assert allowed - {"repeats-work"} == deletes
            outcomes = scene.apply(wish, plan, allow=sorted(allowed))
            assert [outcome.problem for outcome in outcomes if outcome.problem] == []
            seen = len(publisher.acknowledged)
            assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
        assert_books_balance(scene, old, publisher, worker, repeated(plan))
    assert_in_sync(scene, manifest(after))


def busy_plan(scene: Scene, wish: pipeline.Wish) -> Plan:
    """The plan for a worker that is working. Before 2.11 it counts what nobody can prevent; between two pulls it is idle."""
    plans: list[Plan] = []

    def tells_the_cost() -> bool:
        plans[:] = [scene.plan(wish)]
        assert plans[0].facts
        return plans[0].facts.version >= PAUSE_SINCE or repeated(plans[0]) > 0

    assert eventually(tells_the_cost)
    assert plans[0].facts
    assert (repeated(plans[0]) > 0) == (plans[0].facts.version < PAUSE_SINCE)
    return plans[0]


def repeated(plan: Plan) -> int:
    """How many messages may come again, as the plan counts them."""
    return sum(hazard.count for hazard in plan.hazards if hazard.name == "repeats-work")


class Fault:
    """Something that happens at the n-th request of ours that changes anything, or at the first with this verb."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int | str, happens: Callable[[], None]) -> None:
        self.reached, self.verb, self.at = 0, "", 0
        original = JetStream.call

        async def call(server: JetStream, verb: str, *args: Any, **named: Any) -> dict[str, Any]:
            if not Request(verb, None).writes or "CONSUMER.NAMES" in verb:
                return await original(server, verb, *args, **named)
            self.reached += 1
            if step in (self.reached, verb):
                self.verb, self.at = verb, self.reached
                happens()
            return await original(server, verb, *args, **named)

        monkeypatch.setattr(JetStream, "call", call)

    @property
    def while_working(self) -> bool:
        """Whether workers could be at work then: before they are drained, and once the new consumer serves them."""
        return self.at < DRAINED or ("DELETE" in self.verb and "placeholder" in self.verb)


def apply_until_done(scene: Scene, wish: pipeline.Wish) -> int:
    """How many messages may come again, as the plans count them. What has begun needs no more permission."""
    announced = 0
    for _ in range(3):
        plan = scene.plan(wish)
        announced += repeated(plan)
        begun = any(TEMPORARY in ref for ref in scene.refs())
        assert not (begun and plan.hazards)
        assert not plan.impossible
        with suppress(Killed):
            outcomes = scene.apply(wish, plan)
            if all(outcome.done is Done.DONE for outcome in outcomes):
                return announced
    raise AssertionError([outcome.problem for outcome in outcomes])


def interrupted(scene: Scene, after: str, forgotten: Callable[[], int] = lambda: 0) -> None:
    """The whole scene around one interrupted replace; `forgotten` may come again."""
    old = preload(scene, 200)
    wish = scene.wish(manifest(after))
    with Worker(scene.url, WORKER) as worker:
        with Publisher(scene.url, SUBJECT) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > 20)
            announced = apply_until_done(scene, wish)
            seen = len(publisher.acknowledged)
            assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
        assert_books_balance(scene, old, publisher, worker, announced + forgotten())
    assert_in_sync(scene, manifest(after))


@pytest.mark.parametrize("step", range(1, WRITES + 1))
@pytest.mark.parametrize(
    ("version", "before", "after"),
    [
        (NEWEST, "storage: file", "storage: memory"),
        (PROMOTING, "retention: workqueue", "retention: interest"),
        (OLDEST, "storage: file", "storage: memory"),
    ],
    ids=["storage", "retention", "by sources"],
)
def test_killed_at_any_step_it_goes_on_at_the_next_apply(
    start_server: StartServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    before: str,
    after: str,
    step: int,
) -> None:
    with Scene(start_server(version=version).url, tmp_path) as scene:
        scene.converge(manifest(before))
        die_at(monkeypatch, step)
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
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    before: str,
    after: str,
    step: int,
) -> None:
    server = start_server(version=version)
    with Scene(server.url, tmp_path) as scene:
        scene.converge(manifest(before))

        def die() -> None:
            server.kill()
            server.start()
            scene.reconnect()

        fault = Fault(monkeypatch, step, die)
        # Killed while workers work, the server itself forgets the acknowledgements of its last moments.
        interrupted(scene, after, lambda: BATCH if fault.while_working else 0)


@pytest.mark.parametrize("scene", EXACT, indirect=True)
def test_what_is_kept_keeps_its_number_its_time_and_its_id(scene: Scene) -> None:
    """Gaps stay gaps, also one at the end; a message that was stored before is known by its id afterwards."""
    scene.converge(manifest("storage: file"))
    preload(scene, 100)
    before, last = stored(scene), scene.info(STREAM)["state"]["last_seq"]
    scene.converge(manifest("storage: memory"))
    assert stored(scene) == before
    again, new = (
        scene.api.ask(SUBJECT, name.encode(), headers={"Nats-Msg-Id": name}).json for name in ("old-3", "new")
    )
    assert (again["seq"], again["duplicate"]) == (4, True)
    assert new["seq"] > last


def test_what_nobody_has_worked_on_is_all_in_the_new_workqueue(scene: Scene) -> None:
    """Before 2.15 a purge up to message 1 is a purge of everything."""
    scene.converge(manifest("retention: limits"))
    published(SUBJECT, 5)(scene)
    scene.converge(manifest("retention: workqueue"))
    assert scene.info(STREAM)["state"]["messages"] == 5


def test_what_is_not_ours_is_not_touched(scene: Scene) -> None:
    scene.converge(manifest("storage: file"))
    stream("THEIRS", "theirs.>")(scene)
    consumer("THEIRS/reader")(scene)
    published("theirs.x", 5)(scene)
    published(SUBJECT, 5)(scene)
    theirs = scene.everything(lambda ref: STREAM not in ref)
    scene.converge(manifest("storage: memory"))
    assert scene.everything(lambda ref: STREAM not in ref) == theirs


def test_the_plan_says_what_it_carries_and_what_goes_with_the_old_stream(scene: Scene) -> None:
    scene.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scene)
    consumer(f"{STREAM}/stranger")(scene)
    plan = scene.plan(scene.wish(manifest("storage: memory")))
    exact = plan.facts is not None and plan.facts.version >= PROMOTE_SINCE
    how = "" if exact else " with new sequence numbers and timestamps"
    assert change_of(plan).reason == f"carries 5 messages over{how}; ingest pauses for milliseconds"
    assert [hazard.reason for hazard in plan.hazards] == [
        "1 consumer outside the manifest would go with the stream: stranger"
    ]


def test_smaller_limits_cost_what_they_cost_in_place(scene: Scene) -> None:
    scene.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scene)
    after = manifest("storage: memory, max_msgs: 2")
    plan = scene.plan(scene.wish(after))
    assert [(hazard.name, hazard.count) for hazard in plan.hazards] == [("deletes-messages", 3)]
    scene.converge(after)
    assert scene.info(STREAM)["state"]["messages"] == 2


@pytest.mark.parametrize("scene", EXACT, indirect=True)
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
def test_what_cannot_be_carried_exactly_is_counted_and_refused(
    scene: Scene, before: str, after: str, reason: str
) -> None:
    stream("THEIRS", "theirs.>")(scene)
    scene.converge(manifest(before))
    headers = {"Nats-Incr": "1"} if "counter" in before else None
    inbox = scene.api.subscribe("_INBOX.stored")
    scene.api.publish(SUBJECT, b"", reply=inbox.subject, headers=headers)
    assert inbox.next().json["seq"] == 1
    plan = scene.plan(scene.wish(manifest(after)))
    assert change_of(plan).reason == f"cannot carry its messages over: {reason}"
    assert [(hazard.name, hazard.count) for hazard in plan.hazards] == [("deletes-messages", 1)]


@pytest.mark.parametrize("scene", [OLDEST], indirect=True)
def test_before_2_12_order_payload_and_id_are_kept_and_the_next_message_is_the_same(scene: Scene) -> None:
    """Numbers begin where the manifest says, without gaps; a worker goes on behind the last message it finished."""
    scene.converge(manifest("storage: file"))
    preload(scene, 100)
    worked(WORKER, 10)(scene)
    before = [payload for payload, _ in stored(scene).values()]
    after = manifest("storage: memory, first_seq: 1000")
    scene.converge(after)
    found = stored(scene)
    assert [payload for payload, _ in found.values()] == before
    assert list(found) == list(range(1000, 1000 + len(before)))
    assert scene.api.ask(SUBJECT, headers={"Nats-Msg-Id": "old-3"}).json["duplicate"]
    inbox = scene.api.subscribe("_INBOX.again")
    scene.api.publish(f"$JS.API.CONSUMER.MSG.NEXT.{WORKER.replace('/', '.')}", reply=inbox.subject)
    assert inbox.next().data == base64.b64decode(before[10])
    assert not scene.plan(scene.wish(after))


@pytest.mark.parametrize("scene", [OLDEST], indirect=True)
def test_before_2_12_a_message_id_that_came_twice_does_not_stop_the_move(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The origin has forgotten the first when the second comes; a copy is faster, and would wait for ever."""
    monkeypatch.setattr(SOURCES, "patience", 0.5)
    scene.converge(manifest("duplicate_window: 100ms"))
    for number in range(2):
        scene.api.publish(SUBJECT, str(number).encode(), headers={"Nats-Msg-Id": "same"})
        assert eventually(lambda count=number + 1: scene.info(STREAM)["state"]["messages"] == count)  # type: ignore[misc]
        time.sleep(0.3)  # the window is real time
    before = [payload for payload, _ in stored(scene).values()]
    scene.converge(manifest("duplicate_window: 100ms, storage: memory"))
    assert [payload for payload, _ in stored(scene).values()] == before
    assert scene.config(STREAM)["duplicate_window"] == 100_000_000


@pytest.mark.parametrize("scene", EXACT, indirect=True)
def test_work_that_does_not_end_in_time_leaves_everything_as_it_was(scene: Scene) -> None:
    scene.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scene)
    fetched(WORKER, 2)(scene)
    before = scene.config(STREAM)
    wish = scene.wish(manifest("storage: memory"))
    outcomes = pipeline.apply(scene.plan(wish), wish, scene.target, drain=0.2)
    assert [outcome.problem.code for outcome in outcomes if outcome.problem] == ["not-drained"]
    assert scene.config(STREAM) == before
    assert not scene.info(WORKER).get("paused", False)
    assert [ref for ref in scene.refs() if TEMPORARY in ref] == []


@pytest.mark.parametrize("step", range(2, 7))
def test_a_manifest_that_went_back_undoes_a_replace_that_has_only_begun(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Later it is finished, and then done again the other way round."""
    scene.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scene)
    before = kept(scene)
    with monkeypatch.context() as patched, suppress(Killed):
        die_at(patched, step)
        scene.apply(scene.wish(manifest("storage: memory")))
    apply_until_done(scene, scene.wish(manifest("storage: file")))
    assert kept(scene) == before
    assert_in_sync(scene, manifest("storage: file"))


def test_a_stream_that_is_only_in_the_temporary_one_is_not_created(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.converge(manifest("storage: file"))
    published(SUBJECT, 5)(scene)
    wish = scene.wish(manifest("storage: memory"))
    with monkeypatch.context() as patched, suppress(Killed):
        die_at(patched, f"STREAM.CREATE.{STREAM}")
        scene.apply(wish)
    assert STREAM not in scene.refs()
    plan = scene.plan(wish)
    assert change_of(plan).action is Action.REPLACE
    assert change_of(plan).reason == "goes on where an interrupted replace stopped"
    assert plan.orphans == ()
    apply_until_done(scene, wish)
    assert len(stored(scene)) == 5


@pytest.mark.parametrize("scene", EXACT, indirect=True)
def test_what_the_manifest_takes_back_meanwhile_waits_for_the_end_of_the_replace(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can only be switched on is on in the new stream by then; the manifest as it was leads out."""
    scene.converge(manifest("storage: file, allow_msg_ttl: true"))
    published(SUBJECT, 5)(scene)
    began = scene.wish(manifest("storage: memory, allow_msg_ttl: true"))
    real = JetStream.call

    async def call(server: JetStream, verb: str, *args: Any, **named: Any) -> dict[str, Any]:
        if verb == f"STREAM.PURGE.{STREAM}":
            raise Killed
        return await real(server, verb, *args, **named)

    with monkeypatch.context() as patched, suppress(Killed):
        patched.setattr(JetStream, "call", call)
        scene.apply(began)
    wish = scene.wish(manifest("storage: memory, allow_msg_ttl: false"))
    (problem,) = [outcome.problem for outcome in scene.apply(wish) if outcome.problem]
    assert problem.code == "changed-meanwhile"
    apply_until_done(scene, began)
    apply_until_done(scene, wish)
    assert len(stored(scene)) == 5
    assert_in_sync(scene, manifest("storage: memory, allow_msg_ttl: false"))


@pytest.mark.parametrize("scene", EXACT, indirect=True)
def test_what_is_worked_on_after_an_interrupted_copy_does_not_come_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause ends by itself; also with the permission to repeat, the copy is begun anew."""
    scene.converge(manifest("retention: workqueue"))
    old = preload(scene, 50)
    wish = scene.wish(manifest("retention: workqueue, storage: memory"))
    with monkeypatch.context() as patched, suppress(Killed):
        die_at(patched, 3)
        scene.apply(wish)
    assert any(TEMPORARY in ref for ref in scene.refs())
    scene.ask(f"CONSUMER.PAUSE.{WORKER.replace('/', '.')}", {})
    with Worker(scene.url, WORKER) as worker:
        # Since 2.14 what is worked on stays until the mirror has acknowledged it as well: a moment later.
        assert eventually(lambda: is_worked_off(scene) and not scene.info(STREAM)["state"]["messages"])
        apply_until_done(scene, wish)
        assert eventually(lambda: is_worked_off(scene))
    assert sorted(worker.worked.elements()) == sorted(old)


def change_of(plan: Plan) -> Change:
    (found,) = [change for change in plan.changes if str(change.ref) == STREAM]
    return found


def die_at(monkeypatch: pytest.MonkeyPatch, step: int | str) -> None:
    """The tool dies at its n-th write, or at the first that does this."""

    def die() -> None:
        raise Killed

    Fault(monkeypatch, step, die)
