"""The number that a hazard prints is compared with what then really happens, for every way to every hazard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from acceptance import (
    CEO_INBOX_READER,
    INBOX,
    INBOX_READER,
    INBOXES,
    ORG,
    TASK,
    TASKS,
    TWO,
    WORKER,
    inboxes,
    tasks,
    worker,
)
from agents import fetch, until
from scene import EVERY_HAZARD, Scene, Step, applied, consumer, fetched, given_back, published, worked
from servers import VERSIONS, StartServer

from cyborg_infra import pipeline
from cyborg_infra.core.hazards import EMPTIES_SINCE
from cyborg_infra.live import measure
from cyborg_infra.model.fields import PAUSE_SINCE, RESET_SINCE, Version
from cyborg_infra.model.plan import Done, Hazard, HazardName

DELETES, RESETS = HazardName.DELETES_MESSAGES, HazardName.RESETS_PROGRESS
REPEATS, STOPS = HazardName.REPEATS_WORK, HazardName.STOPS_CAPTURE

CEO_INBOX = "gen.agents.ceo.inbox"
READS_ALL = ORG + 'consumers: {inbox_reader: {filter_subject: "gen.agents.*.inbox"}}\n'
READS_CEO = ORG + f"consumers: {{inbox_reader: {{filter_subject: {CEO_INBOX}}}}}\n"
INTEREST = "streams: {inboxes: {retention: interest}}\n"
AGE = 3  # seconds; a plan and an apply take a tenth of that


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(version: str, start_server: StartServer, tmp_path: Path) -> Iterator[Scene]:
    with Scene(start_server(version=version).url, tmp_path) as opened:
        yield opened


def mixed(scene: Scene) -> None:
    """26 messages of three inboxes and many sizes, one with headers, with gaps at the front, inside and at the end."""
    for number in range(29):
        subject = ("gen.agents.cto.inbox", "gen.agents.ceo.inbox", "gen.agents.dev.inbox")[number % 7 % 3]
        assert "seq" in scene.api.ask(subject, b"x" * (number * 37 % 500)).json
    scene.api.publish(INBOX, b"with headers", headers={"Kind": "test"})
    until(lambda: scene.info(INBOXES)["state"]["last_seq"] == 30)
    without(1, 7, 8, 30)(scene)


def without(*sequences: int, stream: str = INBOXES) -> Step:
    """Single messages deleted."""

    def step(scene: Scene) -> None:
        for sequence in sequences:
            scene.ask(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})

    return step


def waited(seconds: float) -> Step:
    return lambda _: time.sleep(seconds)


def stored(scene: Scene, stream: str) -> dict[int, str]:
    """Sequence number and subject of every message that can be read; none of a stream that is gone."""
    info = scene.api.request(f"$JS.API.STREAM.INFO.{stream}")
    held = info.get("state", {"first_seq": 1, "last_seq": 0})
    numbers = range(held["first_seq"], held["last_seq"] + 1)
    rows = [scene.api.request(f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": n}) for n in numbers]
    return {row["message"]["seq"]: row["message"]["subject"] for row in rows if "message" in row}


def size(scene: Scene, stream: str) -> int:
    info = scene.api.request(f"$JS.API.STREAM.INFO.{stream}")
    return int(info["state"]["bytes"]) if "state" in info else 0


def prepared(scene: Scene, *steps: Step) -> None:
    for step in steps:
        step(scene)


def planned(
    scene: Scene, manifest: str, *, prune: bool = False, drain: float = 60
) -> tuple[list[Hazard], Callable[[], None]]:
    """What the plan would cost, and its apply, in which every change is done."""
    wish = scene.wish(manifest, prune=prune)
    plan = scene.plan(wish)
    assert plan.impossible == ()

    def apply() -> None:
        outcomes = pipeline.apply(plan, wish, scene.target, allow=EVERY_HAZARD, drain=drain)
        assert [outcome for outcome in outcomes if outcome.done is not Done.DONE] == []

    return list(plan.hazards), apply


def only(hazards: Sequence[Hazard], name: HazardName) -> Hazard:
    """The one hazard of this name. A bound says so, and an exact number does not."""
    (found,) = [hazard for hazard in hazards if hazard.name is name]
    assert found.exact is not found.reason.startswith("up to ")
    assert f"{found.count:,} " in found.reason
    return found


@dataclass(frozen=True)
class Loss:
    """A change that deletes messages; `bytes` says whether the plan tells them, `after` what makes the server do it."""

    name: str
    manifest: str
    before: Sequence[Step]
    reason: str
    exact: bool = True
    bytes: bool = False
    prune: bool = False
    stream: str = INBOXES
    versions: Sequence[str] = VERSIONS


LIVE = (applied(ORG), mixed)
OLD_AND_NEW = (applied(ORG), mixed, waited(AGE + 0.1), published(INBOX, 3))
LOSSES = (
    Loss("max_msgs", inboxes("max_msgs: 10"), LIVE, "16 oldest messages (", bytes=True),
    Loss("max_bytes", inboxes("max_bytes: 3KB"), LIVE, " oldest messages (", bytes=True),
    Loss(
        "max_bytes in memory",
        inboxes("max_bytes: 3KB, storage: memory"),
        (applied(inboxes("storage: memory")), mixed),
        " above 3 KiB",
        bytes=True,
    ),
    Loss(
        "max_bytes of a compressed stream",
        inboxes("max_bytes: 3KB, compression: s2"),
        (applied(inboxes("compression: s2")), mixed),
        " above 3 KiB",
        bytes=True,
    ),
    Loss("max_age", inboxes(f"max_age: {AGE}s"), OLD_AND_NEW, f"26 messages (7.7 KiB) older than {AGE}s", bytes=True),
    Loss(
        "max_msgs_per_subject",
        inboxes("max_msgs_per_subject: 3"),
        (applied(inboxes("max_msgs_per_subject: 100")), mixed),
        "17 oldest messages above 3 per subject",
    ),
    Loss(
        "max_msgs_per_subject, under discard new as well",
        inboxes("max_msgs_per_subject: 3, discard: new"),
        (applied(inboxes("max_msgs_per_subject: 100, discard: new")), mixed),
        "17 oldest messages above 3 per subject",
    ),
    Loss(
        "discard new to old with max_msgs",
        inboxes("max_msgs: 10"),
        (*LIVE, applied(inboxes("max_msgs: 10, discard: new"))),
        "16 oldest messages (",
        bytes=True,
    ),
    Loss(
        "discard new to old with max_bytes",
        inboxes("max_bytes: 3KB"),
        (*LIVE, applied(inboxes("max_bytes: 3KB, discard: new"))),
        " above 3 KiB",
        bytes=True,
    ),
    Loss(
        "interest, one reader",
        ORG + INTEREST,
        (*LIVE, worked(INBOX_READER, 3)),
        "3 messages that its consumers are done with",
    ),
    Loss(
        "interest, readers apart",
        TWO + INTEREST,
        (applied(TWO), mixed, worked(INBOX_READER, 3), worked(CEO_INBOX_READER, 1), without(2)),
        "3 messages that its consumers are done with",
    ),
    Loss(
        "interest, two readers of the same",
        READS_ALL + INTEREST,
        (applied(READS_ALL), mixed, worked(INBOX_READER, 4), consumer(f"{INBOXES}/audit", filter_subject="gen.agents.*.inbox"), worked(f"{INBOXES}/audit", 9)),
        "4 messages that its consumers are done with",
    ),
    Loss(
        "interest, unfinished work of two readers",
        READS_ALL + INTEREST,
        (applied(READS_ALL), mixed, worked(INBOX_READER, 4), fetched(INBOX_READER, 2), consumer(f"{INBOXES}/audit"), worked(f"{INBOXES}/audit", 9)),
        "up to 13 messages that its consumers are done with",
        exact=False,
    ),
    Loss("interest, nobody reads", ORG + INTEREST.replace("inboxes", "tasks"), (applied(ORG), published(TASK, 3), worked(WORKER, 3)), "3 messages that its consumers are done with", stream=TASKS),
    Loss("stream deleted", ORG, (applied(TWO), published("gen.agents.ceo.tasks", 5), without(2, stream="AGENT_CEO_TASKS")), "4 messages (", bytes=True, prune=True, stream="AGENT_CEO_TASKS"),
    Loss("stream replaced that cannot be carried over", inboxes("storage: memory, sources: [{name: ELSEWHERE}]"), LIVE, "26 messages (7.7 KiB) in the stream", bytes=True),
    Loss(
        "the last reader of an interest stream goes",
        ORG + INTEREST,
        (applied(TWO + INTEREST), mixed, worked(CEO_INBOX_READER, 1), fetched(CEO_INBOX_READER, 2)),
        " messages that only this consumer waits for",
        prune=True,
    ),
    Loss(
        "one of two readers of an interest stream goes",
        ORG + INTEREST,
        (applied(TWO + INTEREST), consumer(f"{INBOXES}/audit"), mixed, worked(f"{INBOXES}/audit", 6)),
        "up to ",
        exact=False,
        prune=True,
    ),
    Loss(
        "a filter on an interest stream lets messages out",
        READS_CEO + INTEREST,
        (applied(ORG + INTEREST), published(INBOX, 5), worked(INBOX_READER, 1), fetched(INBOX_READER, 1)),
        "4 messages that only this consumer waits for",
    ),
)  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_as_many_messages_go_as_the_plan_says(scene: Scene, loss: Loss) -> None:
    prepared(scene, *loss.before)
    hazards, apply = planned(scene, loss.manifest, prune=loss.prune)
    hazard = only(hazards, DELETES)
    held, held_bytes = stored(scene, loss.stream), size(scene, loss.stream)
    apply()
    until(lambda: len(stored(scene, loss.stream)) <= len(held) - hazard.count or not hazard.exact)
    gone = len(held) - len(stored(scene, loss.stream))
    assert loss.reason in hazard.reason
    assert loss.exact is hazard.exact
    assert (gone == hazard.count) if hazard.exact else (0 < gone <= hazard.count)
    assert (held_bytes - size(scene, loss.stream) if loss.bytes else 0) == hazard.bytes


def test_interest_without_any_consumer_keeps_nothing(scene: Scene, version: str) -> None:
    """Since 2.15. Before, the server keeps all there is, and there is no hazard."""
    prepared(scene, *LIVE)
    scene.ask(f"CONSUMER.DELETE.{INBOXES}.cto-inbox-reader")
    hazards, apply = planned(scene, ORG + INTEREST)
    held = size(scene, INBOXES)
    apply()
    if Version.parse(version) < EMPTIES_SINCE:
        names = [hazard.name for hazard in hazards]  # the deleted consumer begins again
        assert (len(stored(scene, INBOXES)), names) == (26, [REPEATS])
        return
    hazard = only(hazards, DELETES)
    assert (hazard.count, hazard.bytes, hazard.exact) == (26, held, True)
    assert stored(scene, INBOXES) == {}


def test_a_first_limit_per_subject_holds_at_the_latest_after_a_restart(
    version: str, start_server: StartServer, tmp_path: Path
) -> None:
    """At once since 2.14.6 or before it; up to 2.14.0, what is above it goes with the subject's next message, or when the server starts."""
    server = start_server(version=version)
    with Scene(server.url, tmp_path) as scene:
        prepared(scene, *LIVE)
        hazards, apply = planned(scene, inboxes("max_msgs_per_subject: 3"))
        apply()
        hazard = only(hazards, DELETES)
        assert (hazard.count, hazard.exact) == (17, True)
    server.stop()
    server.start()
    with Scene(server.url, tmp_path) as scene:
        assert len(stored(scene, INBOXES)) == 26 - 17


def test_limits_are_told_each_for_itself(scene: Scene) -> None:
    """What one deletes the other need not: together they cost at least the larger number, at most the sum."""
    prepared(scene, applied(inboxes("max_msgs_per_subject: 100")), mixed)
    hazards, apply = planned(scene, inboxes("max_msgs: 20, max_msgs_per_subject: 5"))
    apply()
    assert [(hazard.name, hazard.count) for hazard in hazards] == [(DELETES, 6), (DELETES, 11)]
    assert 11 <= 26 - len(stored(scene, INBOXES)) <= 17


def test_what_takes_too_many_reads_is_a_bound(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "MOST_READ", 2)
    prepared(scene, *LIVE, worked(INBOX_READER, 3))
    manifest = f"{ORG}streams: {{inboxes: {{max_bytes: 3KB}}}}\nconsumers: {{inbox_reader: {{filter_subject: {CEO_INBOX}}}}}\n"
    hazards, apply = planned(scene, manifest)
    held, held_bytes = len(stored(scene, INBOXES)), size(scene, INBOXES)
    assert [hazard.exact for hazard in hazards] == [False] * 3
    (lost,) = [hazard for hazard in hazards if hazard.name is DELETES]
    assert (
        lost.reason
        == f"up to {held} oldest messages, at least {(held_bytes - 3072) / 1024:.1f} KiB, above 3 KiB"
    )
    assert lost.bytes == 0
    apply()
    assert 0 < held - len(stored(scene, INBOXES)) <= lost.count


USERS = """
authorization { users: [
  { user: reader, password: reader, permissions: {
      publish: { allow: [">"], deny: ["$JS.API.STREAM.MSG.GET.*"] } } }
  { user: admin, password: admin }
] }
"""


def test_who_may_not_read_messages_gets_a_bound(
    version: str, start_server: StartServer, tmp_path: Path
) -> None:
    url = start_server(version=version, config=USERS).url
    with Scene(url.replace("://", "://admin:admin@"), tmp_path) as scene:
        prepared(scene, *LIVE)
        manifest = inboxes("max_bytes: 3KB, max_msgs: 20, max_msgs_per_subject: 5")
        exact, _ = planned(scene, manifest)
        scene.target = pipeline.resolve(
            pipeline.Flags(server=url.replace("://", "://reader:reader@"), no_context=True), {}
        )
        bounds, apply = planned(scene, manifest)
        assert [(hazard.exact, bool(hazard.bytes)) for hazard in exact] == [
            (True, True),
            (True, True),
            (True, False),
        ]
        assert [(hazard.exact, bool(hazard.bytes)) for hazard in bounds] == [
            (True, False),
            (False, False),
            (True, False),
        ]
        apply()


def left(scene: Scene, ref: str) -> list[int]:
    """Pulled until nothing comes: the sequence numbers that were handed out, each acknowledged."""
    found: list[int] = []
    while True:
        inbox = scene.api.subscribe(f"left.{time.monotonic_ns()}")
        scene.api.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{ref.replace('/', '.')}",
            b'{"no_wait": true, "batch": 1}',
            reply=inbox.subject,
        )
        message = inbox.next()
        if message.headers.startswith("NATS/1.0 40"):
            return found
        found.append(int(message.reply.split(".")[5]))
        scene.api.ask(message.reply, b"+ACK")


def test_messages_that_a_narrower_filter_lets_out(scene: Scene) -> None:
    prepared(scene, applied(READS_ALL), mixed, worked(INBOX_READER, 6), fetched(INBOX_READER, 1))
    hazards, apply = planned(scene, ORG)
    hazard = only(hazards, RESETS)
    position = scene.info(INBOX_READER)["delivered"]["stream_seq"]
    waiting = [sequence for sequence in stored(scene, INBOXES) if sequence > position]
    apply()
    beyond = [sequence for sequence in left(scene, INBOX_READER) if sequence > position]
    assert hazard.exact
    assert "would no longer match the filter" in hazard.reason
    assert len(waiting) - len(beyond) == hazard.count > 0


def test_messages_that_a_wider_filter_comes_too_late_for(scene: Scene) -> None:
    prepared(scene, *LIVE, worked(INBOX_READER, 3))
    hazards, apply = planned(scene, READS_ALL)
    hazard = only(hazards, RESETS)
    position = scene.info(INBOX_READER)["delivered"]["stream_seq"]
    missed = [n for n, subject in stored(scene, INBOXES).items() if n <= position and subject != INBOX]
    apply()
    came = left(scene, INBOX_READER)
    assert set(came).isdisjoint(missed)
    assert set(came) == {sequence for sequence in stored(scene, INBOXES) if sequence > position}
    assert (len(missed), True) == (hazard.count, hazard.exact)
    assert (
        hazard.reason == f"{len(missed)} earlier messages that only the new filter matches would be skipped"
    )


def test_a_filter_that_moves_costs_both(scene: Scene) -> None:
    prepared(scene, *LIVE, worked(INBOX_READER, 3))
    hazards, apply = planned(scene, READS_CEO)
    held = stored(scene, INBOXES)
    position = scene.info(INBOX_READER)["delivered"]["stream_seq"]
    apply()
    came = left(scene, INBOX_READER)
    let_out = [n for n, subject in held.items() if n > position and subject == INBOX]
    skipped = [n for n, subject in held.items() if subject == CEO_INBOX and n not in came]
    assert all(hazard.exact and hazard.name is RESETS for hazard in hazards)
    assert [len(let_out), len(skipped)] == [hazard.count for hazard in hazards]


def test_a_filter_costs_nothing_where_nothing_is_lost(scene: Scene) -> None:
    """Nothing waits that it lets out, and nothing was passed that it lets in: there is no hazard, whatever the counts suggest."""
    prepared(scene, applied(READS_ALL), published(INBOX, 4), worked(INBOX_READER, 2), published(INBOX, 1))
    hazards, _ = planned(scene, ORG)
    assert hazards == []


def test_messages_before_a_later_start(scene: Scene) -> None:
    later = worker("deliver_policy: by_start_sequence, opt_start_seq: 7")
    prepared(scene, applied(ORG), published(TASK, 9), without(4, stream=TASKS), worked(WORKER, 2))
    hazards, apply = planned(scene, later)
    hazard = only(hazards, RESETS)
    apply()
    came = left(scene, WORKER)
    assert came == [7, 8, 9]
    assert (len({3, 5, 6}), True) == (hazard.count, hazard.exact)
    assert hazard.reason == "3 waiting messages before the new start would be skipped"


def test_a_later_start_by_time(scene: Scene, version: str) -> None:
    """A bound; before 2.14 a consumer that is replaced goes on where it stood, and nothing is skipped."""
    prepared(scene, applied(ORG), published(TASK, 5), worked(WORKER, 2), waited(1.1))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    published(TASK, 2)(scene)
    waiting = 3 + 2  # num_pending says so only a moment after the publish was acknowledged
    until(lambda: scene.info(WORKER)["num_pending"] == waiting)
    hazards, apply = planned(scene, worker(f"deliver_policy: by_start_time, opt_start_time: '{now}'"))
    apply()
    skipped = waiting - len(left(scene, WORKER))
    if Version.parse(version) < RESET_SINCE:
        assert (skipped, hazards) == (0, [])
    else:
        hazard = only(hazards, RESETS)
        assert not hazard.exact
        assert 0 < skipped <= hazard.count


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        ((), "5 waiting messages would no longer be delivered"),
        (
            (worked(CEO_INBOX_READER, 1), fetched(CEO_INBOX_READER, 1)),
            "4 unfinished messages would no longer be delivered: 3 waiting, 1 being worked on",
        ),
        ((fetched(CEO_INBOX_READER, 5),), "5 messages being worked on would not be delivered again"),
        ((worked(CEO_INBOX_READER, 4),), "1 waiting message would no longer be delivered"),
        ((worked(CEO_INBOX_READER, 5),), ""),
    ],
)
def test_messages_that_a_deleted_consumer_leaves(scene: Scene, work: Sequence[Step], reason: str) -> None:
    prepared(scene, applied(TWO), published(CEO_INBOX, 6), without(3), *work)
    hazards, apply = planned(scene, ORG, prune=True)
    acknowledged = scene.info(CEO_INBOX_READER)["ack_floor"]["consumer_seq"]
    apply()
    assert CEO_INBOX_READER not in scene.refs()
    resets = [hazard for hazard in hazards if hazard.name is RESETS]
    assert [reason] * bool(reason) == [hazard.reason for hazard in resets]
    assert len(stored(scene, INBOXES)) - acknowledged == sum(hazard.count for hazard in resets)


SHORT = "200ms"


@pytest.mark.parametrize(
    ("before", "after", "count", "told"),
    [
        ("ack_wait: 10m", f"ack_wait: {SHORT}", 2, f"handed out again after {SHORT} instead of 10m"),
        ("backoff: [10m, 20m]", f"backoff: [{SHORT}, 20m]", 2, f"after {SHORT} instead of 10m"),
        ("ack_wait: 10m", f"backoff: [{SHORT}, 20m]", 2, f"after {SHORT} instead of 10m"),
        ("backoff: [10m, 20m]", f"backoff: [10m, {SHORT}]", 0, ""),
        ("ack_wait: 10m", "ack_wait: 20m", 0, ""),
    ],
)
def test_work_that_a_shorter_wait_repeats(
    scene: Scene, before: str, after: str, count: int, told: str
) -> None:
    prepared(scene, applied(worker(before)), published(TASK, 4), worked(WORKER, 1), fetched(WORKER, 2))
    hazards, apply = planned(scene, worker(after))
    apply()
    time.sleep(0.4)  # twice as long as the shorter wait
    again = [sequence for sequence in left(scene, WORKER) if sequence < 4]
    assert len(again) == count == sum(hazard.count for hazard in hazards)
    assert all(hazard.exact and hazard.name is REPEATS and told in hazard.reason for hazard in hazards)


def test_work_that_a_shorter_wait_may_repeat(scene: Scene) -> None:
    """Which of the messages wait for the second time, the server does not tell."""
    prepared(scene, applied(worker("backoff: [10m, 20m]")), published(TASK, 3))
    prepared(scene, given_back(WORKER, 1), fetched(WORKER, 2))
    hazards, apply = planned(scene, worker(f"backoff: [10m, {SHORT}]"))
    hazard = only(hazards, REPEATS)
    apply()
    time.sleep(0.4)
    again = [sequence for sequence in left(scene, WORKER) if sequence < 3]
    assert not hazard.exact
    assert len(again) <= hazard.count == 1


def test_work_that_fewer_deliveries_give_up(scene: Scene) -> None:
    prepared(scene, applied(worker(f"ack_wait: {SHORT}, max_deliver: 3")), published(TASK, 4))
    prepared(scene, worked(WORKER, 1), fetched(WORKER, 2))
    hazards, apply = planned(scene, worker(f"ack_wait: {SHORT}, max_deliver: 1"))
    hazard = only(hazards, RESETS)
    apply()
    time.sleep(0.4)
    assert left(scene, WORKER) == [4]
    assert (hazard.count, hazard.exact) == (2, True)
    assert hazard.reason == "2 messages being worked on would not be handed out again"


def test_work_that_fewer_deliveries_may_give_up(scene: Scene) -> None:
    prepared(scene, applied(worker("ack_wait: 1s, max_deliver: 5")), published(TASK, 4))
    prepared(scene, given_back(WORKER, 1), fetched(WORKER, 3))
    hazards, apply = planned(scene, worker("ack_wait: 1s, max_deliver: 2"))
    hazard = only(hazards, RESETS)
    apply()
    time.sleep(1.2)
    given_up = {1, 2, 3} - set(left(scene, WORKER))
    assert not hazard.exact
    assert len(given_up) <= hazard.count == 1
    assert "1 message being worked on, delivered 2 times or more, would not" in hazard.reason


@pytest.mark.parametrize("deliveries", [1, 2])
def test_what_a_new_consumer_of_a_workqueue_starts_with(scene: Scene, deliveries: int) -> None:
    queue = f"{ORG}streams: {{tasks: {{retention: workqueue}}}}\n"
    of = f"{queue}consumers: {{worker: {{max_deliver: {deliveries}%s}}}}\n"
    prepared(scene, applied(of % ""), published(TASK, 6), without(5, stream=TASKS))
    for _ in range(2):
        for _ in range(deliveries):
            given_back(WORKER, 1)(scene)
    worked(WORKER, 1)(scene)
    assert the_next_is_new(scene)
    hazards, apply = planned(scene, of % ", max_waiting: 9")
    hazard = only([hazard for hazard in hazards if "given up" in hazard.reason], REPEATS)
    apply()
    again = [sequence for sequence in left(scene, WORKER) if sequence < 5]
    assert (len(again), True) == (hazard.count, hazard.exact)
    assert hazard.reason == "2 messages given up before would be handed out again"


def the_next_is_new(scene: Scene) -> bool:
    """Whether the worker's next message is a new one; it is acknowledged."""
    message = fetch(scene.api, WORKER)
    scene.api.ask(message.reply, b"+ACK")
    return message.reply.split(".")[4:5] == ["1"]


def test_a_consumer_replaced_on_a_server_that_cannot_pause_it(scene: Scene, version: str) -> None:
    prepared(scene, applied(ORG), published(TASK, 6), worked(WORKER, 1), fetched(WORKER, 2))
    hazards, apply = planned(scene, worker("max_waiting: 9"), drain=0.2)
    apply()
    again = [sequence for sequence in left(scene, WORKER) if sequence < 4]
    if Version.parse(version) < PAUSE_SINCE:
        hazard = only(hazards, REPEATS)
        assert not hazard.exact
        assert len(again) <= hazard.count == 2 + 5
    else:
        assert hazards == []  # it is paused, and replaced once the work is done


@pytest.mark.parametrize(
    ("before", "after", "subjects"),
    [
        (tasks(""), tasks("sealed: true"), [TASK]),
        (tasks(f"subjects: [{TASK}, gen.more, gen.others.*]"), ORG, ["gen.more", "gen.others.a"]),
        (TWO, ORG, ["gen.agents.ceo.tasks"]),
        (
            tasks(f"subjects: [{TASK}, gen.all.*]"),
            tasks(f"subjects: [{TASK}, gen.all.some]"),
            ["gen.all.others"],
        ),
    ],
)
def test_subjects_that_nobody_stores_any_more(
    scene: Scene, before: str, after: str, subjects: Sequence[str]
) -> None:
    applied(before)(scene)
    assert all(is_stored(scene, subject) for subject in subjects)
    hazards, apply = planned(scene, after, prune=True)
    apply()
    of_stream = [h for h in hazards if h.name is STOPS and "$JS" not in h.reason]
    assert sum(hazard.count for hazard in of_stream) == len(subjects)
    assert not any(is_stored(scene, subject) for subject in subjects)


def is_stored(scene: Scene, subject: str) -> bool:
    try:
        return "error" not in scene.api.ask(subject, timeout=1).json
    except RuntimeError:
        return False


def test_counts_that_move_while_they_are_read_make_a_bound(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message between two looks at the same stream: the hazard stays, and does not claim to be exact."""
    prepared(scene, *LIVE, worked(INBOX_READER, 3))
    look = measure._resources  # noqa: SLF001 - the moment between the two looks

    async def look_and_publish(*arguments: Any) -> Any:
        found = await look(*arguments)
        published(INBOX, 1)(scene)
        return found

    monkeypatch.setattr(measure, "_resources", look_and_publish)
    hazards, _ = planned(scene, READS_ALL + INTEREST)
    assert {(DELETES, False), (RESETS, False)} == {(hazard.name, hazard.exact) for hazard in hazards}


def test_a_consumer_that_somebody_deleted_begins_again(scene: Scene) -> None:
    """What it had finished comes again; on an empty stream, or for a role that is new, there is nothing to repeat."""
    prepared(scene, applied(ORG), published(TASK, 5), worked(WORKER, 2))
    scene.ask(f"CONSUMER.DELETE.{WORKER.replace('/', '.')}")
    hazards, apply = planned(scene, ORG)
    hazard = only(hazards, REPEATS)
    apply()
    assert (len(left(scene, WORKER)), hazard.count, hazard.exact) == (5, 5, False)
    scene.ask(f"CONSUMER.DELETE.{WORKER.replace('/', '.')}")
    scene.ask(f"STREAM.PURGE.{TASKS}")
    assert planned(scene, TWO)[0] == []
