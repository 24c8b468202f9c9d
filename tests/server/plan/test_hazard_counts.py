"""The number that a hazard prints is compared with what then really happens, for every way to every hazard."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.live.read import counting
from cyborg_infra.model.changes import Hazard, HazardName
from cyborg_infra.model.counting import Share
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.problems import PlanStale
from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.operations import provision
from tests.support.acceptance_cases import (
    ALERTS,
    BROADCAST,
    BROADCAST_READER,
    CEO_BROADCAST_READER,
    CEO_INBOX_READER,
    CEO_WORKER,
    INBOX,
    INBOX_READER,
    INBOXES,
    LETTERS,
    ORG,
    TASK,
    TASKS,
    TWO,
    WORKER,
    events,
    inboxes,
    tasks,
    worker,
)
from tests.support.agents import fetch, term, until
from tests.support.faults import Faults, Send
from tests.support.scenario import (
    DRAIN,
    EVERY_HAZARD,
    Scenario,
    Step,
    acked,
    after_apply,
    consumer,
    deleted,
    fetched,
    nacked,
    published,
)
from tests.support.servers import OLDEST, VERSIONS, StartServer

DELETES, RESETS = HazardName.DELETES_MESSAGES, HazardName.RESETS_PROGRESS
REPEATS, STOPS = HazardName.REPEATS_WORK, HazardName.STOPS_CAPTURE

CEO_INBOX = "gen.agents.ceo.inbox"
READS_ALL = ORG + 'consumers: {inbox_reader: {filter_subject: "gen.agents.*.inbox"}}\n'
READS_CEO = ORG + f"consumers: {{inbox_reader: {{filter_subject: {CEO_INBOX}}}}}\n"
INTEREST = "streams: {inboxes: {retention: interest}}\n"


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scenario(version: str, start_server: StartServer, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(start_server(version=version).url, tmp_path) as opened:
        yield opened


def mixed(scenario: Scenario) -> None:
    """26 messages of three inboxes and many sizes, one with headers, with gaps at the front, inside and at the end."""
    for number in range(29):
        subject = ("gen.agents.cto.inbox", "gen.agents.ceo.inbox", "gen.agents.dev.inbox")[number % 7 % 3]
        assert "seq" in scenario.api.ask(subject, b"x" * (number * 37 % 500)).json
    scenario.api.publish(INBOX, b"with headers", headers={"Kind": "test"})
    until(lambda: scenario.info(INBOXES)["state"]["last_seq"] == 30)
    without(1, 7, 8, 30)(scenario)


def without(*sequences: int, stream: str = INBOXES) -> Step:
    """Single messages deleted."""

    def step(scenario: Scenario) -> None:
        for sequence in sequences:
            scenario.ask(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})

    return step


def waited(seconds: float) -> Step:
    return lambda _: time.sleep(seconds)


def stored(scenario: Scenario, stream: str) -> dict[int, str]:
    """Sequence number and subject of every message that can be read; none of a stream that is gone."""
    info = scenario.api.request(f"$JS.API.STREAM.INFO.{stream}")
    held = info.get("state", {"first_seq": 1, "last_seq": 0})
    numbers = range(held["first_seq"], held["last_seq"] + 1)
    rows = [scenario.api.request(f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": n}) for n in numbers]
    return {row["message"]["seq"]: row["message"]["subject"] for row in rows if "message" in row}


def size(scenario: Scenario, stream: str) -> int:
    info = scenario.api.request(f"$JS.API.STREAM.INFO.{stream}")
    return int(info["state"]["bytes"]) if "state" in info else 0


def prepared(scenario: Scenario, *steps: Step) -> None:
    for step in steps:
        step(scenario)


def planned(
    scenario: Scenario, manifest: str, *, prune: bool = False, drain: float = 60
) -> tuple[list[Hazard], Callable[[], None]]:
    """Return what the plan would cost, and its apply, in which every change is done."""
    wish = scenario.request(manifest, prune=prune)
    plan = scenario.plan(wish)
    assert plan.blocking_problems == ()

    def apply() -> None:
        outcomes = provision.apply(
            provision.ApplyRequest(plan, allow=EVERY_HAZARD, drain_timeout=drain), scenario.target
        )
        assert [outcome for outcome in outcomes if outcome.status is not ResultStatus.SUCCEEDED] == []

    return list(plan.hazards), apply


def only(hazards: Sequence[Hazard], name: HazardName) -> Hazard:
    """Return the one hazard of this name. A bound says so, and an exact number does not."""
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


LIVE = (after_apply(ORG), mixed)
LOSSES = (
    Loss("max_msgs", inboxes("max_msgs: 10"), LIVE, "16 oldest messages (", bytes=True),
    Loss("max_bytes", inboxes("max_bytes: 3KB"), LIVE, " oldest messages (", bytes=True),
    Loss(
        "max_bytes in memory",
        inboxes("max_bytes: 3KB, storage: memory"),
        (after_apply(inboxes("storage: memory")), mixed),
        " above 3 KiB",
        bytes=True,
    ),
    Loss(
        "max_bytes of a compressed stream",
        inboxes("max_bytes: 3KB, compression: s2"),
        (after_apply(inboxes("compression: s2")), mixed),
        " above 3 KiB",
        bytes=True,
    ),
    Loss(
        "max_msgs_per_subject",
        inboxes("max_msgs_per_subject: 3"),
        (after_apply(inboxes("max_msgs_per_subject: 100")), mixed),
        "17 oldest messages above 3 per subject",
    ),
    Loss(
        "max_msgs_per_subject, under discard new as well",
        inboxes("max_msgs_per_subject: 3, discard: new"),
        (after_apply(inboxes("max_msgs_per_subject: 100, discard: new")), mixed),
        "17 oldest messages above 3 per subject",
    ),
    Loss(
        "discard new to old with max_msgs",
        inboxes("max_msgs: 10"),
        (*LIVE, after_apply(inboxes("max_msgs: 10, discard: new"))),
        "16 oldest messages (",
        bytes=True,
    ),
    Loss(
        "discard new to old with max_bytes",
        inboxes("max_bytes: 3KB"),
        (*LIVE, after_apply(inboxes("max_bytes: 3KB, discard: new"))),
        " above 3 KiB",
        bytes=True,
    ),
    Loss(
        "interest, one reader",
        ORG + INTEREST,
        (*LIVE, acked(INBOX_READER, 3)),
        "3 messages that its consumers are done with",
    ),
    Loss(
        "interest, readers apart",
        TWO + INTEREST,
        (after_apply(TWO), mixed, acked(INBOX_READER, 3), acked(CEO_INBOX_READER, 1), without(2)),
        "3 messages that its consumers are done with",
    ),
    Loss(
        "interest, two readers of the same",
        READS_ALL + INTEREST,
        (after_apply(READS_ALL), mixed, acked(INBOX_READER, 4), consumer(f"{INBOXES}/audit", filter_subject="gen.agents.*.inbox"), acked(f"{INBOXES}/audit", 9)),
        "4 messages that its consumers are done with",
    ),
    Loss(
        "interest, unfinished work of two readers",
        READS_ALL + INTEREST,
        (after_apply(READS_ALL), mixed, acked(INBOX_READER, 4), fetched(INBOX_READER, 2), consumer(f"{INBOXES}/audit"), acked(f"{INBOXES}/audit", 9)),
        "up to 13 messages that its consumers are done with",
        exact=False,
    ),
    Loss("interest, nobody reads", ORG + INTEREST.replace("inboxes", "tasks"), (after_apply(ORG), published(TASK, 3), acked(WORKER, 3)), "3 messages that its consumers are done with", stream=TASKS),
    Loss("stream deleted", ORG, (after_apply(TWO), published("gen.agents.ceo.tasks", 5), without(2, stream="AGENT_CEO_TASKS")), "4 messages (", bytes=True, prune=True, stream="AGENT_CEO_TASKS"),
    Loss("stream replaced that cannot be carried over", inboxes("storage: memory, sources: [{name: ELSEWHERE}]"), LIVE, "26 messages (7.7 KiB) in the stream", bytes=True),
    Loss(
        "the last reader of an interest stream goes",
        ORG + INTEREST,
        (after_apply(TWO + INTEREST), mixed, acked(CEO_INBOX_READER, 1), fetched(CEO_INBOX_READER, 2)),
        " messages that only this consumer waits for",
        prune=True,
    ),
    Loss(
        "one of two readers of an interest stream goes",
        ORG + INTEREST,
        (after_apply(TWO + INTEREST), consumer(f"{INBOXES}/audit"), mixed, acked(f"{INBOXES}/audit", 6)),
        "up to ",
        exact=False,
        prune=True,
    ),
    Loss(
        "a filter on an interest stream lets messages out",
        READS_CEO + INTEREST,
        (after_apply(ORG + INTEREST), published(INBOX, 5), acked(INBOX_READER, 1), fetched(INBOX_READER, 1)),
        "4 messages that only this consumer waits for",
    ),
)  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_as_many_messages_go_as_the_plan_says(scenario: Scenario, loss: Loss) -> None:
    assert_as_many_go(scenario, loss)


def test_as_many_messages_go_by_age_as_the_plan_says(scenario: Scenario) -> None:
    """The newer ones do not grow too old meanwhile: what takes so long here is a fraction of that age."""
    since = time.monotonic()
    prepared(scenario, *LIVE)
    planned(scenario, inboxes("max_age: 1s"))
    age = min(59, 1 + math.ceil(5 * (time.monotonic() - since)))
    steps = waited(age + 0.1), published(INBOX, 3)
    told = f"26 messages (7.7 KiB) older than {age}s"
    assert_as_many_go(scenario, Loss("max_age", inboxes(f"max_age: {age}s"), steps, told, bytes=True))


def assert_as_many_go(scenario: Scenario, loss: Loss) -> None:
    prepared(scenario, *loss.before)
    hazards, apply = planned(scenario, loss.manifest, prune=loss.prune)
    hazard = only(hazards, DELETES)
    held, held_bytes = stored(scenario, loss.stream), size(scenario, loss.stream)
    apply()
    until(lambda: len(stored(scenario, loss.stream)) <= len(held) - hazard.count or not hazard.exact)
    gone = len(held) - len(stored(scenario, loss.stream))
    assert loss.reason in hazard.reason
    assert loss.exact is hazard.exact
    assert (gone == hazard.count) if hazard.exact else (0 < gone <= hazard.count)
    assert hazard.unfinished is not None
    assert hazard.unfinished.messages <= hazard.count
    assert (held_bytes - size(scenario, loss.stream) if loss.bytes else 0) == hazard.bytes


ONCE = worker("max_deliver: 1")
TWICE = worker("max_deliver: 2")
DELETED = "org: gen\nroles: [dev]\n"  # the worker's stream goes
DEV_INBOX = published("gen.agents.dev.inbox", 4)
AUDIT = f"{TASKS}/audit"
QUEUED = "streams: {tasks: {retention: workqueue}}\n"
QUEUE = ORG + QUEUED
ANYBODY = "org: gen\nroles: {cto: {tasks: {subjects: [gen.agents.cto.tasks, gen.other]}, worker: {filter_subject: gen.agents.cto.tasks}}}\n"


@dataclass(frozen=True)
class Told:
    """What a plan says of the messages that a change deletes: how many, and how many of them are unfinished."""

    name: str
    before: Sequence[Step]
    manifest: str
    count: int
    unfinished: str


def ended(ref: str) -> Step:
    """Return one message that its worker has ended for good."""
    return lambda scene: term(scene.api, ref)


def purged(stream: str) -> Step:
    """Somebody empties it."""
    return lambda scene: scene.ask(f"STREAM.PURGE.{stream}")


def letters(count: int) -> Step:
    """Return so many dead letters are there."""
    return lambda scene: until(lambda: scene.info(LETTERS)["state"]["messages"] == count)


TASKS_10 = (after_apply(ORG), published(TASK, 10))
NEW = worker("deliver_policy: new")
LATE = (after_apply(NEW), deleted(WORKER), published(TASK, 10), after_apply(NEW))
UNFINISHED = (
    Told("nobody has seen any", TASKS_10, DELETED, 10, "10"),
    Told("all are done", (*TASKS_10, acked(WORKER, 10)), DELETED, 10, "0"),
    Told("some are done and some open", (*TASKS_10, acked(WORKER, 4), fetched(WORKER, 2)), DELETED, 10, "6"),
    Told("one is open and those behind it are done", (*TASKS_10, fetched(WORKER, 1), acked(WORKER, 9)), DELETED, 10, "1"),
    Told("the oldest are done", (*TASKS_10, acked(WORKER, 8)), tasks("max_msgs: 3"), 7, "0"),
    Told("the oldest reach into what is open", (*TASKS_10, acked(WORKER, 4), fetched(WORKER, 2)), tasks("max_msgs: 5"), 5, "1"),
    Told("the oldest reach into what waits", (*TASKS_10, acked(WORKER, 4), fetched(WORKER, 2)), tasks("max_msgs: 3"), 7, "3"),
    Told("which of the oldest is open nobody tells", (*TASKS_10, acked(WORKER, 1), fetched(WORKER, 1), acked(WORKER, 3)), tasks("max_msgs: 7"), 3, "up to 1"),
    Told("one is on its second delivery", (*TASKS_10, nacked(WORKER, 1), fetched(WORKER, 1), acked(WORKER, 9)), DELETED, 10, "up to 2"),
    Told("the worker is gone", (*TASKS_10, acked(WORKER, 9), deleted(WORKER)), DELETED, 10, "10"),
    Told("the worker is gone, and somebody looked at the tasks", (*TASKS_10, deleted(WORKER), consumer(AUDIT), acked(AUDIT, 10)), DELETED, 10, "up to 10"),
    Told("the worker is gone, and somebody was shown the tasks", (*TASKS_10, deleted(WORKER), consumer(AUDIT, ack_policy="none"), fetched(AUDIT, 10)), DELETED, 10, "up to 10"),
    Told("somebody's worker begins with what is new", (*TASKS_10, deleted(WORKER), consumer(WORKER, deliver_policy="new")), DELETED, 10, "up to 10"),
    Told("the worker began with what was new", LATE, DELETED, 10, "up to 10"),
    Told("a second reader is behind", (*TASKS_10, acked(WORKER, 9), consumer(AUDIT), acked(AUDIT, 2)), DELETED, 10, "8"),
    Told("a second reader is ahead", (*TASKS_10, acked(WORKER, 4), consumer(AUDIT, filter_subject=TASK), acked(AUDIT, 9), fetched(AUDIT, 1)), DELETED, 10, "6"),
    Told("dead letters", (after_apply(TWICE), published(TASK, 10), nacked(WORKER, 1), nacked(WORKER, 1), acked(WORKER, 9), letters(1)), DELETED, 10, "1"),
    Told("dead letters of a worker that tries once", (after_apply(ONCE), published(TASK, 10), nacked(WORKER, 1), acked(WORKER, 9), letters(1)), DELETED, 10, "1"),
    Told("dead letters that an agent ended itself", (*TASKS_10, ended(WORKER), acked(WORKER, 9), letters(1)), DELETED, 10, "1"),
    Told("other dead letters than the oldest", (*TASKS_10, acked(WORKER, 8), ended(WORKER), acked(WORKER, 1), letters(1)), tasks("max_msgs: 5"), 5, "0"),
    Told("inboxes, and of one nobody reads", (after_apply(TWO), published(INBOX, 3), DEV_INBOX, published(CEO_INBOX, 3), acked(INBOX_READER, 3), acked(CEO_INBOX_READER, 1)), inboxes("max_msgs: 1").replace("[cto]", "[cto, ceo]"), 9, "5"),
    Told("broadcasts are done when every role is", (after_apply(TWO), published(BROADCAST, 5), acked(BROADCAST_READER, 5), acked(CEO_BROADCAST_READER, 3)), TWO + "streams: {broadcasts: {max_msgs: 1}}\n", 4, "1"),
    Told("dead letters themselves", (*TASKS_10, ended(WORKER), letters(1), acked(ALERTS, 1), ended(WORKER), letters(2)), ORG + "streams: {dead_letters: {max_msgs: 1}}\n", 1, "1"),
    Told("interest, which asks no worker", (*TASKS_10, deleted(WORKER), consumer(AUDIT), acked(AUDIT, 10)), tasks("retention: interest"), 10, "up to 10"),
    Told("interest, whose worker began with what was new", (*LATE, consumer(AUDIT), acked(AUDIT, 10)), NEW + "streams: {tasks: {retention: interest}}\n", 10, "up to 10"),
    Told("a workqueue, which asks no worker", (*TASKS_10, deleted(WORKER), consumer(AUDIT), acked(AUDIT, 10)), tasks("retention: workqueue"), 10, "up to 10"),
    Told("a workqueue, whose worker began with what was new", LATE, tasks("retention: workqueue"), 10, "up to 10"),
    Told("a workqueue, and all is done", (*TASKS_10, acked(WORKER, 10)), QUEUE, 10, "0"),
    Told("a workqueue, and some wait", (*TASKS_10, acked(WORKER, 4)), QUEUE, 4, "0"),
    Told("a workqueue, and one is open before what is done", (*TASKS_10, fetched(WORKER, 1), acked(WORKER, 8)), QUEUE, 8, "0"),
    Told("a workqueue, and what was terminated is kept first", (*TASKS_10, ended(WORKER), acked(WORKER, 8), letters(1)), QUEUE, 8, "0"),
    Told("a workqueue, and what failed is kept first", (after_apply(TWICE), published(TASK, 10), nacked(WORKER, 1), nacked(WORKER, 1), acked(WORKER, 6), letters(1)), TWICE + QUEUED, 6, "0"),
    Told("a workqueue, and what failed once is done", (after_apply(TWICE), published(TASK, 10), nacked(WORKER, 1), acked(WORKER, 10)), TWICE + QUEUED, 10, "0"),
    Told("a workqueue, and no dead letter tells of what failed", (after_apply(TWICE), published(TASK, 10), nacked(WORKER, 1), nacked(WORKER, 1), acked(WORKER, 9), letters(1), purged(LETTERS)), TWICE + QUEUED, 10, "up to 1"),
    Told("a workqueue, and of some subjects nobody reads any", (after_apply(ANYBODY), *(published(subject, 2) for subject in (TASK, "gen.other", TASK)), acked(WORKER, 4)), ANYBODY + QUEUED, 6, "2"),
    Told("a workqueue, and somebody looks on and is behind", (*TASKS_10, acked(WORKER, 9), consumer(AUDIT), acked(AUDIT, 2)), QUEUE, 2, "0"),
    Told("interest, and all is done", (*TASKS_10, acked(WORKER, 10), consumer(AUDIT), acked(AUDIT, 10)), tasks("retention: interest"), 10, "0"),
    Told("of each subject the oldest", (after_apply(TWO), published(INBOX, 3), published(CEO_INBOX, 3), acked(INBOX_READER, 3), acked(CEO_INBOX_READER, 3)), inboxes("max_msgs_per_subject: 1").replace("[cto]", "[cto, ceo]"), 4, "0"),
)  # fmt: skip


@pytest.mark.parametrize("told", UNFINISHED, ids=lambda told: told.name)
def test_a_plan_says_how_much_of_what_it_deletes_is_unfinished(scenario: Scenario, told: Told) -> None:
    prepared(scenario, *told.before)
    hazards, _ = planned(scenario, told.manifest, prune=True)
    hazard = only([each for each in hazards if each.unfinished is not None], DELETES)
    assert hazard.reason.endswith(f", {told.unfinished} of them unfinished")
    assert hazard.unfinished is not None
    assert (hazard.count, hazard.unfinished.messages) == (told.count, int(told.unfinished.split()[-1]))


QUEUES = tuple(told for told in UNFINISHED if told.name.startswith("a workqueue"))


@pytest.mark.parametrize("told", QUEUES, ids=lambda told: told.name)
def test_as_many_go_and_as_many_come_again_as_a_new_workqueue_says(scenario: Scenario, told: Told) -> None:
    """Each message is counted once: it is finished and goes, or it comes again, or it is kept as a dead letter, or it stays.

    Before 2.11 what is done behind an open message goes if that is finished in time, and comes again if not: both are bounds.
    """
    prepared(scenario, *told.before)
    before, letters_before = stored(scenario, TASKS), scenario.info(LETTERS)["state"]["messages"]
    hazards, apply = planned(scenario, told.manifest, drain=DRAIN)
    gone, again = only(hazards, DELETES), sum(each.count for each in hazards if each.name is REPEATS)
    apply()
    kept = scenario.info(LETTERS)["state"]["messages"] - letters_before
    deleted = len(before) - len(stored(scenario, TASKS)) - kept
    if "open" in told.name and scenario.api.info["version"] == OLDEST:
        assert (gone.exact, deleted) == (False, 0)
        assert again >= gone.count
        return
    assert deleted == gone.count
    assert again == (7 if "looks on" in told.name else 0)


def test_a_role_whose_tasks_are_all_acknowledged_leaves_with_one_word(scenario: Scenario) -> None:
    """Its history is what goes; its subjects are of nobody any more, and one role that leaves is no mass."""
    prepared(scenario, after_apply(TWO), published("gen.agents.ceo.tasks", 51))
    acked(CEO_WORKER, 51)(scenario)
    hazards, apply = planned(scenario, ORG, prune=True)
    assert [(hazard.name, hazard.count) for hazard in hazards] == [(DELETES, 51)]
    assert hazards[0].unfinished == Share(0)
    apply()


def test_what_others_publish_is_not_of_the_role_that_leaves(scenario: Scenario) -> None:
    """Its own subjects go along with it. Who publishes the other one has not left, and would not be stored."""
    both = "[gen.agents.ceo.tasks, orders.new]"
    prepared(scenario, after_apply(f"org: gen\nroles: {{cto: , ceo: {{tasks: {{subjects: {both}}}}}}}\n"))
    hazards, apply = planned(scenario, ORG, prune=True)
    assert [(hazard.name, hazard.count) for hazard in hazards] == [(STOPS, 1)]
    assert hazards[0].reason == "no stream would store orders.new any more"
    apply()
    moved = "org: gen\nroles: {cto: {tasks: {subjects: [gen.agents.cto.tasks, orders.new]}}, ceo: }\n"
    prepared(scenario, after_apply(moved))
    hazards, _ = planned(
        scenario,
        "org: gen\nroles: {ceo: {tasks: {subjects: [gen.agents.ceo.tasks, 'orders.>']}}}\n",
        prune=True,
    )
    assert hazards == []


def test_an_apply_is_held_to_how_much_was_unfinished(scenario: Scenario) -> None:
    prepared(scenario, after_apply(TWO), published("gen.agents.ceo.tasks", 5), acked(CEO_WORKER, 5))
    wish = scenario.request(ORG, prune=True)
    plan = scenario.plan(wish)
    published("gen.agents.ceo.tasks", 1)(scenario)
    with pytest.raises(PlanStale) as stale:
        scenario.apply(wish, plan)
    assert [problem.message for problem in stale.value.problems if "unfinished" in problem.message] == [
        "AGENT_CEO_TASKS: deletes-messages would concern 1 unfinished message, and the plan announced 0"
    ]


@pytest.mark.parametrize("retention", ["workqueue", "interest"])
def test_what_agents_finish_after_the_plan_is_history_as_well(scenario: Scenario, retention: str) -> None:
    """Under the new retention it would go as soon as they acknowledge it. What is unfinished is held to its number all the same."""
    prepared(scenario, after_apply(TWICE), published(TASK, 60), acked(WORKER, 10))
    wish = scenario.request(f"{TWICE}streams: {{tasks: {{retention: {retention}}}}}\n")
    plan = scenario.plan(wish)
    acked(WORKER, 40)(scenario)
    (hazard,) = plan.hazards
    assert (hazard.name, hazard.count, hazard.unfinished) == (DELETES, 10, Share(0))
    assert all(done.status is ResultStatus.SUCCEEDED for done in scenario.apply(wish, plan))


def test_what_is_given_up_after_the_plan_is_no_history(scenario: Scenario) -> None:
    prepared(scenario, after_apply(TWICE), published(TASK, 10), acked(WORKER, 5))
    wish = scenario.request(TWICE + QUEUED)
    plan = scenario.plan(wish)
    prepared(scenario, nacked(WORKER, 1), nacked(WORKER, 1), acked(WORKER, 4), letters(1), purged(LETTERS))
    with pytest.raises(PlanStale) as stale:
        scenario.apply(wish, plan)
    assert [problem.message for problem in stale.value.problems] == [
        "AGENT_CTO_TASKS: deletes-messages would concern 1 unfinished message, and the plan announced 0"
    ]


def test_a_bucket_has_values_and_nothing_that_is_unfinished(scenario: Scenario) -> None:
    prepared(scenario, after_apply(ORG + "key_value: {drafts: }\n"), published("$KV.drafts.one", 1))
    (hazard,) = planned(scenario, ORG, prune=True)[0]
    assert (hazard.name, hazard.unfinished, "unfinished" in hazard.reason) == (DELETES, None, False)


def test_interest_without_any_consumer_keeps_nothing(scenario: Scenario, version: str) -> None:
    """Since 2.15. Before, the server keeps all there is, and there is no hazard."""
    prepared(scenario, *LIVE)
    scenario.ask(f"CONSUMER.DELETE.{INBOXES}.cto-inbox-reader")
    hazards, apply = planned(scenario, ORG + INTEREST)
    held = size(scenario, INBOXES)
    apply()
    if Version.parse(version) < Capability.PURGE_WHAT_NOBODY_WAITS_FOR.since:
        names = [hazard.name for hazard in hazards]  # the deleted consumer begins again
        assert (len(stored(scenario, INBOXES)), names) == (26, [REPEATS])
        return
    hazard = only(hazards, DELETES)
    assert (hazard.count, hazard.bytes, hazard.exact) == (26, held, True)
    assert stored(scenario, INBOXES) == {}


def test_a_first_limit_per_subject_holds_at_the_latest_after_a_restart(
    version: str, start_server: StartServer, tmp_path: Path
) -> None:
    """At once since 2.14.6 or before it; up to 2.14.0, what is above it goes with the subject's next message, or when the server starts."""
    server = start_server(version=version)
    with Scenario(server.url, tmp_path) as scene:
        prepared(scene, *LIVE)
        hazards, apply = planned(scene, inboxes("max_msgs_per_subject: 3"))
        apply()
        hazard = only(hazards, DELETES)
        assert (hazard.count, hazard.exact) == (17, True)
    server.stop()
    server.start()
    with Scenario(server.url, tmp_path) as scene:
        assert len(stored(scene, INBOXES)) == 26 - 17


def test_each_lowered_limit_is_a_hazard_of_its_own(scenario: Scenario) -> None:
    """What one deletes the other need not: together they cost at least the larger number, at most the sum."""
    prepared(scenario, after_apply(inboxes("max_msgs_per_subject: 100")), mixed)
    hazards, apply = planned(scenario, inboxes("max_msgs: 20, max_msgs_per_subject: 5"))
    apply()
    assert [(hazard.name, hazard.count) for hazard in hazards] == [(DELETES, 6), (DELETES, 11)]
    assert 11 <= 26 - len(stored(scenario, INBOXES)) <= 17


def test_what_takes_too_many_reads_is_a_bound(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MAX_READ", 2)
    prepared(scenario, *LIVE, acked(INBOX_READER, 3))
    manifest = f"{ORG}streams: {{inboxes: {{max_bytes: 3KB}}}}\nconsumers: {{inbox_reader: {{filter_subject: {CEO_INBOX}}}}}\n"
    hazards, apply = planned(scenario, manifest)
    held, held_bytes = len(stored(scenario, INBOXES)), size(scenario, INBOXES)
    assert [hazard.exact for hazard in hazards] == [False, True, False]
    waiting = scenario.info(INBOX_READER)["num_pending"]
    assert hazards[1].count == waiting  # the server says how many wait: nothing is read for that
    (lost,) = [hazard for hazard in hazards if hazard.name is DELETES]
    assert (
        lost.reason == f"up to {held} oldest messages, at least {(held_bytes - 3072) / 1024:.1f} KiB, "
        f"above 3 KiB, up to {held} of them unfinished"
    )
    assert lost.bytes == 0
    apply()
    assert 0 < held - len(stored(scenario, INBOXES)) <= lost.count


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
    with Scenario(url.replace("://", "://admin:admin@"), tmp_path) as scene:
        prepared(scene, *LIVE)
        manifest = inboxes("max_bytes: 3KB, max_msgs: 20, max_msgs_per_subject: 5")
        exact, _ = planned(scene, manifest)
        scene.target = provision.resolve(
            provision.Flags(server=url.replace("://", "://reader:reader@"), no_context=True), {}
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


def left(scenario: Scenario, ref: str) -> list[int]:
    """Pulled until nothing comes: the sequence numbers that were handed out, each acknowledged."""
    found: list[int] = []
    while True:
        inbox = scenario.api.subscribe(f"left.{time.monotonic_ns()}")
        scenario.api.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{ref.replace('/', '.')}",
            b'{"no_wait": true, "batch": 1}',
            reply=inbox.subject,
        )
        message = inbox.next()
        if message.headers.startswith("NATS/1.0 40"):
            return found
        found.append(int(message.reply.split(".")[5]))
        scenario.api.ask(message.reply, b"+ACK")


def left_in_the_end(scenario: Scenario, ref: str, number: int) -> list[int]:
    """Return as `left`, again and again until it is so many: what expires comes when the server gets round to it."""
    found: list[int] = []

    def are_there() -> bool:
        found.extend(left(scenario, ref))
        return len(found) >= number

    until(are_there)
    return found


def test_messages_that_a_narrower_filter_lets_out(scenario: Scenario) -> None:
    prepared(scenario, after_apply(READS_ALL), mixed, acked(INBOX_READER, 6), fetched(INBOX_READER, 1))
    hazards, apply = planned(scenario, ORG)
    hazard = only(hazards, RESETS)
    position = scenario.info(INBOX_READER)["delivered"]["stream_seq"]
    waiting = [sequence for sequence in stored(scenario, INBOXES) if sequence > position]
    apply()
    beyond = [sequence for sequence in left(scenario, INBOX_READER) if sequence > position]
    assert hazard.exact
    assert "would no longer match the filter" in hazard.reason
    assert len(waiting) - len(beyond) == hazard.count > 0


def test_a_narrower_filter_of_a_consumer_that_is_replaced_lets_out_what_is_worked_on(
    scenario: Scenario,
) -> None:
    """In place, what was handed out comes again whatever the filter has become; a new consumer never reads it."""
    prepared(scenario, after_apply(READS_ALL), mixed, acked(INBOX_READER, 6), fetched(INBOX_READER, 4))
    subjects = list(stored(scenario, INBOXES).values())
    open_ones, waiting = subjects[6:10], subjects[10:]
    hazards, apply = planned(scenario, READS_CEO.replace("{filter", "{max_waiting: 64, filter"), drain=0.2)
    apply()
    held = scenario.info(INBOX_READER)
    assert held["num_pending"] + held["num_ack_pending"] == (open_ones + waiting).count(CEO_INBOX)
    let_out, hazard = (
        [len(each) - each.count(CEO_INBOX) for each in (waiting, open_ones)],
        only(hazards, RESETS),
    )
    assert (hazard.count, hazard.exact) == (sum(let_out), False)
    assert hazard.reason == (
        f"up to {hazard.count} unfinished messages would no longer match the filter:"
        f" {let_out[0]} waiting, {let_out[1]} being worked on"
    )
    assert let_out[1] > 1


def test_messages_that_a_wider_filter_comes_too_late_for(scenario: Scenario) -> None:
    prepared(scenario, *LIVE, acked(INBOX_READER, 3))
    hazards, apply = planned(scenario, READS_ALL)
    hazard = only(hazards, RESETS)
    position = scenario.info(INBOX_READER)["delivered"]["stream_seq"]
    missed = [n for n, subject in stored(scenario, INBOXES).items() if n <= position and subject != INBOX]
    apply()
    came = left(scenario, INBOX_READER)
    assert set(came).isdisjoint(missed)
    assert set(came) == {sequence for sequence in stored(scenario, INBOXES) if sequence > position}
    assert (len(missed), True) == (hazard.count, hazard.exact)
    assert (
        hazard.reason == f"{len(missed)} earlier messages that only the new filter matches would be skipped"
    )


def test_a_filter_that_moves_costs_both(scenario: Scenario) -> None:
    prepared(scenario, *LIVE, acked(INBOX_READER, 3))
    hazards, apply = planned(scenario, READS_CEO)
    held = stored(scenario, INBOXES)
    position = scenario.info(INBOX_READER)["delivered"]["stream_seq"]
    apply()
    came = left(scenario, INBOX_READER)
    let_out = [n for n, subject in held.items() if n > position and subject == INBOX]
    skipped = [n for n, subject in held.items() if subject == CEO_INBOX and n not in came]
    assert all(hazard.exact and hazard.name is RESETS for hazard in hazards)
    assert [len(let_out), len(skipped)] == [hazard.count for hazard in hazards]


def test_a_filter_costs_nothing_where_nothing_is_lost(scenario: Scenario) -> None:
    """Nothing waits that it lets out, and nothing was passed that it lets in: there is no hazard, whatever the counts suggest."""
    prepared(
        scenario, after_apply(READS_ALL), published(INBOX, 4), acked(INBOX_READER, 2), published(INBOX, 1)
    )
    hazards, _ = planned(scenario, ORG)
    assert hazards == []


def test_messages_before_a_later_start(scenario: Scenario) -> None:
    later = worker("deliver_policy: by_start_sequence, opt_start_seq: 7")
    prepared(scenario, after_apply(ORG), published(TASK, 9), without(4, stream=TASKS), acked(WORKER, 2))
    hazards, apply = planned(scenario, later)
    hazard = only(hazards, RESETS)
    apply()
    came = left(scenario, WORKER)
    assert came == [7, 8, 9]
    assert (len({3, 5, 6}), True) == (hazard.count, hazard.exact)
    assert hazard.reason == "3 waiting messages before the new start would be skipped"


def test_a_later_start_by_time(scenario: Scenario, version: str) -> None:
    """A bound; before 2.14 a consumer that is replaced goes on where it stood, and nothing is skipped."""
    prepared(scenario, after_apply(ORG), published(TASK, 5), acked(WORKER, 2), waited(1.1))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    published(TASK, 2)(scenario)
    waiting = 3 + 2  # num_pending says so only a moment after the publish was acknowledged
    until(lambda: scenario.info(WORKER)["num_pending"] == waiting)
    hazards, apply = planned(scenario, worker(f"deliver_policy: by_start_time, opt_start_time: '{now}'"))
    apply()
    skipped = waiting - len(left(scenario, WORKER))
    if Version.parse(version) < Capability.RESET_CONSUMER.since:
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
            (acked(CEO_INBOX_READER, 1), fetched(CEO_INBOX_READER, 1)),
            "4 unfinished messages would no longer be delivered: 3 waiting, 1 being worked on",
        ),
        ((fetched(CEO_INBOX_READER, 5),), "5 messages being worked on would not be delivered again"),
        ((acked(CEO_INBOX_READER, 4),), "1 waiting message would no longer be delivered"),
        ((acked(CEO_INBOX_READER, 5),), ""),
    ],
)
def test_messages_that_a_deleted_consumer_leaves(
    scenario: Scenario, work: Sequence[Step], reason: str
) -> None:
    prepared(scenario, after_apply(TWO), published(CEO_INBOX, 6), without(3), *work)
    hazards, apply = planned(scenario, ORG, prune=True)
    acknowledged = scenario.info(CEO_INBOX_READER)["ack_floor"]["consumer_seq"]
    apply()
    assert CEO_INBOX_READER not in scenario.refs()
    resets = [hazard for hazard in hazards if hazard.name is RESETS]
    assert [reason] * bool(reason) == [hazard.reason for hazard in resets]
    assert len(stored(scenario, INBOXES)) - acknowledged == sum(hazard.count for hazard in resets)


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
    scenario: Scenario, before: str, after: str, count: int, told: str
) -> None:
    prepared(scenario, after_apply(worker(before)), published(TASK, 4), acked(WORKER, 1), fetched(WORKER, 2))
    hazards, apply = planned(scenario, worker(after))
    apply()
    time.sleep(0.4)  # twice as long as the shorter wait; the server may be late, and not early
    again = [sequence for sequence in left_in_the_end(scenario, WORKER, 1 + count) if sequence < 4]
    assert len(again) == count == sum(hazard.count for hazard in hazards)
    assert all(hazard.exact and hazard.name is REPEATS and told in hazard.reason for hazard in hazards)


def test_work_that_a_shorter_wait_may_repeat(scenario: Scenario) -> None:
    """Which of the messages wait for the second time, the server does not tell."""
    prepared(scenario, after_apply(worker("backoff: [10m, 20m]")), published(TASK, 3))
    prepared(scenario, nacked(WORKER, 1), fetched(WORKER, 2))
    hazards, apply = planned(scenario, worker(f"backoff: [10m, {SHORT}]"))
    hazard = only(hazards, REPEATS)
    apply()
    time.sleep(0.4)
    again = [sequence for sequence in left(scenario, WORKER) if sequence < 3]
    assert not hazard.exact
    assert len(again) <= hazard.count == 1


def test_work_that_fewer_deliveries_give_up(scenario: Scenario) -> None:
    prepared(scenario, after_apply(worker(f"ack_wait: {SHORT}, max_deliver: 3")), published(TASK, 4))
    prepared(scenario, acked(WORKER, 1), fetched(WORKER, 2))
    hazards, apply = planned(scenario, worker(f"ack_wait: {SHORT}, max_deliver: 1"))
    hazard = only(hazards, RESETS)
    apply()
    time.sleep(0.4)
    assert left(scenario, WORKER) == [4]
    assert (hazard.count, hazard.exact) == (2, True)
    assert hazard.reason == "2 messages being worked on would not be handed out again"


def test_work_that_fewer_deliveries_may_give_up(scenario: Scenario) -> None:
    prepared(scenario, after_apply(worker("ack_wait: 1s, max_deliver: 5")), published(TASK, 4))
    prepared(scenario, nacked(WORKER, 1), fetched(WORKER, 3))
    hazards, apply = planned(scenario, worker("ack_wait: 1s, max_deliver: 2"))
    hazard = only(hazards, RESETS)
    apply()
    given_up = {1, 2, 3} - set(left_in_the_end(scenario, WORKER, 4 - hazard.count))
    assert not hazard.exact
    assert len(given_up) <= hazard.count == 1
    assert "1 message being worked on, delivered 2 times or more, would not" in hazard.reason


@pytest.mark.parametrize("deliveries", [1, 2])
def test_what_a_new_consumer_of_a_workqueue_starts_with(scenario: Scenario, deliveries: int) -> None:
    queue = f"{ORG}streams: {{tasks: {{retention: workqueue}}}}\n"
    of = f"{queue}consumers: {{worker: {{max_deliver: {deliveries}%s}}}}\n"
    prepared(scenario, after_apply(of % ""), published(TASK, 6), without(5, stream=TASKS))
    for _ in range(2):
        for _ in range(deliveries):
            nacked(WORKER, 1)(scenario)
    acked(WORKER, 1)(scenario)
    assert the_next_is_new(scenario)
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 2)
    assert not [
        hazard for hazard in planned(scenario, of % ", max_waiting: 9")[0] if "given up" in hazard.reason
    ]
    scenario.ask("STREAM.PURGE.DEAD_LETTERS")  # nobody tells of them any more
    hazards, apply = planned(scenario, of % ", max_waiting: 9")
    hazard = only([hazard for hazard in hazards if "given up" in hazard.reason], REPEATS)
    apply()
    again = [sequence for sequence in left(scenario, WORKER) if sequence < 5]
    assert (len(again), True) == (hazard.count, hazard.exact)
    assert (
        hazard.reason
        == "2 messages given up before would be handed out again, and no dead letter tells of them"
    )


def the_next_is_new(scenario: Scenario) -> bool:
    """Return whether the worker's next message is a new one; it is acknowledged."""
    message = fetch(scenario.api, WORKER)
    scenario.api.ask(message.reply, b"+ACK")
    return message.reply.split(".")[4:5] == ["1"]


def test_a_consumer_replaced_on_a_server_that_cannot_pause_it(scenario: Scenario, version: str) -> None:
    prepared(scenario, after_apply(ORG), published(TASK, 6), acked(WORKER, 1), fetched(WORKER, 2))
    hazards, apply = planned(scenario, worker("max_waiting: 9"), drain=0.2)
    apply()
    again = [sequence for sequence in left(scenario, WORKER) if sequence < 4]
    if Version.parse(version) < Capability.PAUSE_CONSUMER.since:
        hazard = only(hazards, REPEATS)
        assert not hazard.exact
        assert len(again) <= hazard.count == 6  # two, and five more: no more than there are
    else:
        assert hazards == []  # it is paused, and replaced once the work is done


@pytest.mark.parametrize(
    ("before", "after", "subjects"),
    [
        (tasks(""), tasks("sealed: true"), [TASK]),
        (tasks(f"subjects: [{TASK}, gen.more, gen.others.*]"), ORG, ["gen.more", "gen.others.a"]),
        (events("ci.result"), ORG, ["gen.events.ci.result"]),
        (
            tasks(f"subjects: [{TASK}, gen.all.*]"),
            tasks(f"subjects: [{TASK}, gen.all.some]"),
            ["gen.all.others"],
        ),
    ],
)
def test_subjects_that_nobody_stores_any_more(
    scenario: Scenario, before: str, after: str, subjects: Sequence[str]
) -> None:
    after_apply(before)(scenario)
    assert all(is_stored(scenario, subject) for subject in subjects)
    hazards, apply = planned(scenario, after, prune=True)
    apply()
    of_stream = [h for h in hazards if h.name is STOPS and "$JS" not in h.reason]
    assert sum(hazard.count for hazard in of_stream) == len(subjects)
    assert not any(is_stored(scenario, subject) for subject in subjects)


def is_stored(scenario: Scenario, subject: str) -> bool:
    try:
        return "error" not in scenario.api.ask(subject).json
    except RuntimeError:
        return False


def test_counts_that_move_while_they_are_read_make_a_bound(scenario: Scenario, faults: Faults) -> None:
    """A message between two looks at the same stream: the hazard stays, and does not claim to be exact."""
    prepared(scenario, *LIVE, acked(INBOX_READER, 3))

    async def look_and_publish(request: ApiRequest, send: Send) -> dict[str, Any]:
        found = await send(request)
        if request.verb == "STREAM.INFO.AGENT_INBOXES":
            published(INBOX, 1)(scenario)
        return found

    faults.intercept(look_and_publish)
    hazards, _ = planned(scenario, READS_ALL + INTEREST)
    assert {(DELETES, False), (RESETS, False)} == {(hazard.name, hazard.exact) for hazard in hazards}


def test_a_consumer_that_somebody_deleted_begins_again(scenario: Scenario) -> None:
    """What it had finished comes again; on an empty stream, or for a role that is new, there is nothing to repeat."""
    prepared(scenario, after_apply(ORG), published(TASK, 5), acked(WORKER, 2))
    scenario.ask(f"CONSUMER.DELETE.{WORKER.replace('/', '.')}")
    hazards, apply = planned(scenario, ORG)
    hazard = only(hazards, REPEATS)
    apply()
    assert (len(left(scenario, WORKER)), hazard.count, hazard.exact) == (5, 5, False)
    scenario.ask(f"CONSUMER.DELETE.{WORKER.replace('/', '.')}")
    scenario.ask(f"STREAM.PURGE.{TASKS}")
    assert planned(scenario, TWO)[0] == []
