"""Passed is not worked: what failed for good keeps its message through every change, or the plan counts it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.counting import Share
from cyborg_infra.model.plan import Plan, ResultStatus
from cyborg_infra.model.server_versions import Capability, Version
from tests.server.migrate.test_migration import Killed, die_at
from tests.server.plan.test_acceptance import assert_predicted
from tests.support.agents import fetch, nack, nothing_comes, publish, term, until
from tests.support.cli import Cli
from tests.support.faults import Faults
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST, StartServer

SEED = 11
LIMITS, INTEREST, QUEUE = (f"retention: {name}" for name in ("limits", "interest", "workqueue"))
ADMISSION = "admission: {max_pending: 50}"
WIDER = "{subjects: [acme.agents.cto.tasks, acme.more.*]}"
FATES = ("done", "failed", "terminated")


class Case(NamedTuple):
    """Settings of the tasks and of the worker before and after, and of the organisation after."""

    tasks: tuple[str, str]
    worker: tuple[str, str] = ("", "")
    org: str = "roles: [cto, cso]"
    moves: bool = True  # the stream, and what it consumes can be moved where a consumer can be paused
    allow: tuple[str, ...] = ("mass-change",)


CASES = {
    "admission": Case((LIMITS, ADMISSION), allow=("mass-change", "deletes-messages")),
    "limits to workqueue": Case((LIMITS, QUEUE), allow=("mass-change", "deletes-messages")),
    "limits to interest": Case((LIMITS, INTEREST), moves=False, allow=("mass-change", "deletes-messages")),
    "interest to limits": Case((INTEREST, LIMITS), moves=False),
    "interest to workqueue": Case((INTEREST, QUEUE)),
    "workqueue to interest": Case((QUEUE, INTEREST)),
    "workqueue to limits": Case((QUEUE, LIMITS)),
    "storage": Case((f"{LIMITS}, storage: memory", f"{LIMITS}, storage: file")),
    "storage of interest": Case((f"{INTEREST}, storage: memory", f"{INTEREST}, storage: file")),
    "storage of a workqueue": Case((f"{QUEUE}, storage: memory", f"{QUEUE}, storage: file")),
    "worker": Case((LIMITS, LIMITS), ("", "max_waiting: 64")),
    "worker of interest": Case((INTEREST, INTEREST), ("", "max_waiting: 64"), moves=False),
    "worker of a workqueue": Case((QUEUE, QUEUE), ("", "max_waiting: 64"), moves=False),
    "filter of interest": Case(
        (INTEREST, INTEREST), moves=False, allow=("mass-change", "deletes-messages", "resets-progress"),
        org=f"roles: {{cso: , cto: {{tasks: {WIDER}, worker: {{filter_subject: acme.more.other}}}}}}",
    ),
    "subjects": Case((INTEREST, INTEREST), moves=False, org=f"roles: {{cso: , cto: {{tasks: {WIDER}}}}}"),
    "another prefix": Case((LIMITS, LIMITS), org="roles: [cto, cso]\nnaming: {stream_prefix: NEW_}"),
    "another name": Case((LIMITS, LIMITS), org="roles: {cso: , tech: {renamed_from: cto}}"),
    "interest under another name": Case((INTEREST, INTEREST), org="roles: {cso: , tech: {renamed_from: cto}}"),
}  # fmt: skip


def manifest(tasks: str, worker: str, org: str = "roles: [cto, cso]", deliveries: int = 2) -> str:
    settings = ", ".join(each for each in (f"max_deliver: {deliveries}, max_ack_pending: 50", worker) if each)
    return f"org: acme\n{org}\nstreams: {{tasks: {{{tasks}}}}}\nconsumers: {{worker: {{{settings}}}}}\n"


class Failing:
    """A role's tasks, which come to different ends."""

    def __init__(
        self, scenario: Scenario, cli: Cli, deliveries: int, stream: str = "AGENT_CTO_TASKS"
    ) -> None:
        self.scene, self.cli, self.deliveries = scenario, cli, deliveries
        self.worker = f"{stream}/cto-worker"

    def end(self, fates: Sequence[str]) -> list[str]:
        """Tasks with these fates, one after the other; the names of those that are dead letters."""
        before = self.dead
        for number, fate in enumerate(fates):
            publish(self.scene.api, "acme.agents.cto.tasks", f"task-{number}-{fate}".encode())
            if fate == "failed":
                nack(self.scene.api, self.worker, self.deliveries)
            elif fate == "terminated":
                term(self.scene.api, self.worker)
            elif fate == "done":
                self.scene.api.ask(fetch(self.scene.api, self.worker).reply, b"+ACK")
        assert nothing_comes(self.scene.api, self.worker) or "waiting" in fates
        failed = [
            f"task-{number}-{fate}" for number, fate in enumerate(fates) if fate in ("failed", "terminated")
        ]
        until(lambda: self.dead == before + len(failed))
        return failed

    @property
    def dead(self) -> int:
        count: int = self.scene.info("DEAD_LETTERS")["state"]["messages"]
        return count

    def listed(self) -> set[str]:
        """Return the messages of all dead letters that have theirs."""
        return {letter["message"]["data"] for letter in self.letters() if letter["message"]}

    def letters(self) -> list[dict[str, Any]]:
        shown = self.cli("dlq", "list", "--format", "json", "--server", self.scene.url)
        assert shown.code == 0, shown.err
        letters: list[dict[str, Any]] = shown.json["dead_letters"]
        return letters

    def handed_out(self, worker: str) -> list[str]:
        """Return what a worker is handed now, acknowledged."""
        found: list[str] = []
        while not nothing_comes_or(found, self.scene, worker):
            pass
        return found


def nothing_comes_or(found: list[str], scenario: Scenario, worker: str) -> bool:
    """Return whether nothing waits for the worker; what comes is acknowledged and noted."""
    if not scenario.info(worker)["num_pending"] and not scenario.info(worker)["num_ack_pending"]:
        return True
    message = fetch(scenario.api, worker)
    scenario.api.ask(message.reply, b"+ACK")
    found.append(message.data.decode())
    return False


def ran(scenario: Scenario, text: str, allow: Sequence[str]) -> Plan:
    wish = scenario.request(text)
    plan = scenario.plan(wish)
    with scenario.requests() as made:
        outcomes = scenario.apply(wish, plan, allow)
    assert [outcome.problem for outcome in outcomes if outcome.status is not ResultStatus.SUCCEEDED] == []
    assert_predicted(plan, made)
    return plan


@pytest.fixture
def scenario(any_server: EmbeddedServer, project: Path) -> Any:
    with Scenario(any_server.url, project) as opened:
        yield opened


@pytest.mark.parametrize("name", CASES)
def test_a_dead_letter_keeps_its_message_through_every_change(
    scenario: Scenario, cli: Cli, name: str
) -> None:
    """And what waits is handed out once, what failed not again."""
    case, draw = CASES[name], random.Random(f"{SEED} {name}")  # noqa: S311 - repeats itself
    moves_consumed = case.moves and not case.tasks[0].startswith(LIMITS)
    if moves_consumed and Version.parse(scenario.api.info["version"]) < Capability.PAUSE_CONSUMER.since:
        # The other is not carried at all, and the plan counts it.
        case = case._replace(tasks=(LIMITS, "storage: memory"))
    deliveries = draw.choice((1, 2, 3))
    scenario.converge(manifest(case.tasks[0], case.worker[0], deliveries=deliveries))
    tasks = Failing(scenario, cli, deliveries)
    fates = [draw.choice(FATES) for _ in range(7)] + ["failed", "done", "failed"]
    failed = tasks.end(fates)
    for number in range(3):
        publish(scenario.api, "acme.agents.cto.tasks", f"waiting-{number}".encode())
    kept = tasks.listed()
    assert kept == {name for name in failed if "failed" in name or LIMITS in case.tasks[0]}
    ran(scenario, manifest(case.tasks[1], case.worker[1], case.org, deliveries), case.allow)
    assert tasks.listed() == kept
    (worker,) = (ref for ref in scenario.refs() if ref.endswith(("cto-worker", "tech-worker")))
    if "filter" not in name:
        assert tasks.handed_out(worker) == [f"waiting-{number}" for number in range(3)]
    for number in [letter["number"] for letter in tasks.letters() if letter["message"]]:
        words = ("replay", str(number), "--allow", "over-limit", "--format", "json")
        replayed = cli("dlq", *words, "--server", scenario.url)
        # Nobody reads it there any more: a stream of interest would drop it at once.
        assert replayed.code == (3 if name == "filter of interest" else 0), replayed.err
    if "filter" not in name:
        assert sorted(tasks.handed_out(worker)) == sorted(kept)


ELSEWHERE = {
    "another prefix": "{subject_prefix: acme.eu}",
    "another name": "{streams: {dead_letters: FAILED}}",
    "both": "{subject_prefix: acme.eu, streams: {dead_letters: FAILED}}",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_it_keeps_it_where_dead_letters_is_changed_by_a_later_apply(
    scenario: Scenario, cli: Cli, name: str
) -> None:
    """A role is applied alone: what it gave up is copied into DEAD_LETTERS as that is now."""
    before = manifest(INTEREST, "", "roles: [cto, cso]")
    scenario.converge(before)
    tasks = Failing(scenario, cli, 2)
    kept = tasks.end(["failed", "done", "failed"])
    kept = [name for name in kept if name in tasks.listed()]
    assert kept
    elsewhere = 'channels: {tasks: {subject: "agents.{role}.work"}}'
    after = manifest(INTEREST, "", f"roles: [cto, cso]\n{elsewhere}\nnaming: {ELSEWHERE[name]}")
    outcomes = scenario.apply(scenario.request(after, targets=["cto"]))
    assert [outcome.problem for outcome in outcomes if outcome.status is not ResultStatus.SUCCEEDED] == []
    assert [letter["original"] for letter in tasks.letters()] == ["kept"] * len(kept)
    scenario.converge(after)
    assert tasks.listed() == set(kept)


def test_a_worker_of_a_workqueue_that_somebody_deleted_comes_back_without_what_the_old_one_gave_up(
    scenario: Scenario, cli: Cli
) -> None:
    """A workqueue holds it still, and a new worker begins with all that is stored."""
    text = manifest(QUEUE, "")
    scenario.converge(text)
    tasks = Failing(scenario, cli, 2)
    kept = set(tasks.end(["failed", "done", "failed"]))
    publish(scenario.api, "acme.agents.cto.tasks", b"waiting")
    scenario.ask("CONSUMER.DELETE.AGENT_CTO_TASKS.cto-worker")
    plan = ran(scenario, text, ())
    assert plan.hazards == ()
    assert tasks.handed_out("AGENT_CTO_TASKS/cto-worker") == ["waiting"]
    assert tasks.listed() == kept


@pytest.mark.parametrize("name", ["workqueue to limits", "workqueue to interest", "storage of a workqueue"])
def test_what_a_workqueue_has_given_up_is_not_taken_for_open_when_it_moves(
    start_server: StartServer, project: Path, cli: Cli, name: str
) -> None:
    """There all that is stored is open, but for what dead letters tell of."""
    case = CASES[name]
    with Scenario(start_server(version=NEWEST).url, project) as scenario:
        scenario.converge(manifest(case.tasks[0], ""))
        tasks = Failing(scenario, cli, 2)
        failed = tasks.end(["failed", "done", "failed"])
        publish(scenario.api, "acme.agents.cto.tasks", b"open")
        held = fetch(scenario.api, tasks.worker)
        scenario.converge(manifest(case.tasks[1], ""))
        assert sorted(tasks.listed()) == failed
        state = scenario.info(tasks.worker)
        assert (state["num_pending"], state["num_ack_pending"]) == (0, 1)
        scenario.api.ask(held.reply, b"+ACK")
        assert tasks.handed_out(tasks.worker) == []


INTERRUPTED = ("admission", "storage of interest", "another name")


@pytest.mark.parametrize("name", INTERRUPTED)
def test_it_keeps_it_wherever_the_apply_dies(scenario: Scenario, cli: Cli, faults: Faults, name: str) -> None:
    """Killed at drawn writes, one after the other, until it is done."""
    case, version = CASES[name], scenario.api.info["version"]
    draw = random.Random(f"{SEED} {name} {version}")  # noqa: S311 - repeats itself
    if (
        case.moves
        and not case.tasks[0].startswith(LIMITS)
        and Version.parse(version) < Capability.PAUSE_CONSUMER.since
    ):
        case = case._replace(tasks=(INTEREST, INTEREST), worker=("", "max_waiting: 64"))
    scenario.converge(manifest(case.tasks[0], case.worker[0]))
    tasks = Failing(scenario, cli, 2)
    failed = [task for task in tasks.end(["failed", "done", "failed", "failed"]) if "failed" in task]
    publish(scenario.api, "acme.agents.cto.tasks", b"waiting")
    wish = scenario.request(manifest(case.tasks[1], case.worker[1], case.org))
    for _ in range(6):
        with faults.context() as patched, suppress(Killed):
            die_at(patched, draw.randrange(1, 9))
            scenario.apply(wish)
        assert tasks.listed() == set(failed)
    scenario.converge(manifest(case.tasks[1], case.worker[1], case.org))
    assert tasks.listed() == set(failed)
    (worker,) = (ref for ref in scenario.refs() if ref.endswith(("cto-worker", "tech-worker")))
    assert tasks.handed_out(worker) == ["waiting"]
    assert not scenario.plan(wish)


@pytest.mark.parametrize(
    ("name", "deliveries"),
    [("worker of interest", 1), ("interest to workqueue", 2), ("storage of interest", 1)],
)
def test_what_no_dead_letter_tells_of_is_counted_exactly(
    scenario: Scenario, cli: Cli, name: str, deliveries: int
) -> None:
    case = CASES[name]
    if case.moves and Version.parse(scenario.api.info["version"]) < Capability.PAUSE_CONSUMER.since:
        case = CASES["worker of interest"]  # the others are not carried over at all, and counted as a whole
    scenario.converge(manifest(case.tasks[0], case.worker[0], deliveries=deliveries))
    tasks = Failing(scenario, cli, deliveries)
    tasks.end(["failed", "done", "failed"])
    scenario.ask("STREAM.PURGE.DEAD_LETTERS")
    tasks.end(["failed", "done"])
    publish(scenario.api, "acme.agents.cto.tasks", b"waiting")
    before = scenario.info("AGENT_CTO_TASKS")["state"]["messages"]
    text = manifest(case.tasks[1], case.worker[1], deliveries=deliveries)
    (hazard,) = [
        each for each in scenario.plan(scenario.request(text)).hazards if each.name == "deletes-messages"
    ]
    assert (hazard.count, hazard.exact) == (2, True)
    assert hazard.reason == "2 messages given up before, and no dead letter tells of them"
    ran(scenario, text, ("mass-change", "deletes-messages"))
    assert before == 4
    assert scenario.info("AGENT_CTO_TASKS")["state"]["messages"] == 1  # the third is kept in DEAD_LETTERS
    assert tasks.listed() == {"task-0-failed"}


def test_without_dead_letters_a_bound_is_what_the_plan_says(scenario: Scenario, cli: Cli) -> None:
    """Of a limits stream nothing else tells what was given up or terminated from what was done. No message is counted twice."""
    scenario.converge(manifest(LIMITS, ""))
    Failing(scenario, cli, 2).end(["failed", "done", "failed", "done"])
    scenario.ask("STREAM.DELETE.DEAD_LETTERS")
    plan = scenario.plan(scenario.request(manifest(ADMISSION, "")))
    (hazard,) = [each for each in plan.hazards if each.name == "deletes-messages"]
    assert (hazard.count, hazard.unfinished) == (4, Share(4, exact=False))


@pytest.mark.parametrize("drawn", range(4))
def test_a_new_workqueue_goes_without_what_its_plan_counts(scenario: Scenario, cli: Cli, drawn: int) -> None:
    """Whatever has become of the tasks: what is done is counted, what is dead is kept elsewhere, what waits goes along."""
    draw = random.Random(f"{SEED} history {drawn}")  # noqa: S311 - repeats itself
    deliveries = draw.choice((1, 2))
    scenario.converge(manifest(LIMITS, "", deliveries=deliveries))
    fates = [draw.choice(FATES) for _ in range(9)] + ["failed", "done"]
    failed = Failing(scenario, cli, deliveries).end(fates)
    waiting = draw.randrange(3)
    for _ in range(waiting):
        publish(scenario.api, "acme.agents.cto.tasks", b"waiting")
    plan = ran(scenario, manifest(ADMISSION, "", deliveries=deliveries), ["mass-change", "deletes-messages"])
    (hazard,) = [each for each in plan.hazards if each.name != "mass-change"]
    assert (hazard.count, hazard.exact, hazard.unfinished) == (fates.count("done"), True, Share(0))
    assert scenario.info("AGENT_CTO_TASKS")["state"]["messages"] == len(fates) + waiting - hazard.count - len(
        failed
    )


def test_where_dead_letters_is_full_nothing_is_touched(scenario: Scenario, cli: Cli) -> None:
    full = "\n  dead_letters: {max_msgs: 4}"
    before = manifest(INTEREST, "").replace("streams: {", "streams:\n  ").replace("}}\ncons", "}\ncons")
    before = before.replace("retention: interest}", "retention: interest}" + full)
    scenario.converge(before)
    tasks = Failing(scenario, cli, 2)
    publish(scenario.api, "acme.org.deadletter", b"handed in")  # the oldest, which a copy would push out
    failed = [*tasks.end(["failed", "failed", "failed"]), "handed in"]
    outcomes = scenario.apply(
        scenario.request(before.replace("max_deliver: 2", "max_waiting: 64, max_deliver: 2"))
    )
    codes = {outcome.problem.code for outcome in outcomes if outcome.problem}
    assert codes == {"dead-letters-full"}
    assert tasks.listed() == set(failed)
    assert not scenario.info("AGENT_CTO_TASKS/cto-worker").get("paused")


@pytest.mark.servers(NEWEST)  # before 2.11 no workqueue is moved
def test_a_dead_letter_of_another_stream_that_had_the_name_is_not_taken_for_what_waits(
    scenario: Scenario, cli: Cli
) -> None:
    """Two channels swap the names of their streams, by way of a third: what has the number of a dead letter then is somebody else's message."""
    text = (
        "org: acme\nroles: [cto]\nconsumers: {inbox_reader: {max_deliver: 1}}\n"
        "channels: {notes: {of: role, durable: true, stream: {retention: workqueue}}}\n"
        "naming: {streams: {inboxes: %s, notes: %s}}\n"
    )
    scenario.converge(text % ("ONE", "OTHER"))
    publish(scenario.api, "acme.agents.cto.notes", b"waits")
    publish(scenario.api, "acme.agents.cto.inbox", b"failed")
    nack(scenario.api, "ONE/cto-inbox-reader", 1)
    assert nothing_comes(scenario.api, "ONE/cto-inbox-reader")
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 1)
    for names in (("THIRD", "OTHER"), ("THIRD", "ONE"), ("OTHER", "ONE")):
        scenario.converge(text % names)
    assert scenario.info("ONE/cto-notes-reader")["num_pending"] == 1
    shown = cli("dlq", "list", "--format", "json", "--server", scenario.url).json["dead_letters"]
    assert [letter["message"]["data"] for letter in shown] == ["failed"]
    assert cli("dlq", "drop", "--all", "--yes", "--server", scenario.url).code == 0
    assert scenario.info("ONE/cto-notes-reader")["num_pending"] == 1


@pytest.mark.servers(NEWEST)  # before 2.11 no workqueue is moved
def test_a_stream_that_gets_the_name_of_one_that_was_deleted_keeps_what_waits(
    scenario: Scenario, cli: Cli
) -> None:
    """Nobody has copied what the deleted one gave up: its notice names a number that is another message's now."""
    queue = "streams: {tasks: {retention: workqueue}}\nconsumers: {worker: {max_deliver: 1}}\n"
    scenario.converge(f"org: acme\nroles: [cto, cso]\n{queue}")
    publish(scenario.api, "acme.agents.cso.tasks", b"waits")
    publish(scenario.api, "acme.agents.cto.tasks", b"failed")
    nack(scenario.api, "AGENT_CTO_TASKS/cto-worker", 1)
    assert nothing_comes(scenario.api, "AGENT_CTO_TASKS/cto-worker")
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 1)
    scenario.converge(f"org: acme\nroles: [cso]\n{queue}", prune=True)
    scenario.converge(f"org: acme\nroles: {{cto: {{renamed_from: cso}}}}\n{queue}")
    assert scenario.info("AGENT_CTO_TASKS/cto-worker")["num_pending"] == 1
    (shown,) = cli("dlq", "list", "--format", "json", "--server", scenario.url).json["dead_letters"]
    assert (shown["original"], shown["message"]) == ("gone", None)
    assert cli("dlq", "drop", "--all", "--yes", "--server", scenario.url).code == 0
    assert scenario.info("AGENT_CTO_TASKS/cto-worker")["num_pending"] == 1
