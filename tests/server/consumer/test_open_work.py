"""What is being worked on when a consumer is replaced stays with its agent; what is acknowledged never comes again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model import consumer_position
from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.problems import PlanRefused
from cyborg_infra.model.ref import PLACEHOLDER_PREFIX, TEMPORARY_PREFIX
from cyborg_infra.operations import provision
from tests.support.agents import until
from tests.support.cli import run_process
from tests.support.cluster import running_cluster
from tests.support.faults import Faults, Send
from tests.support.nats_client import Api, Message
from tests.support.scenario import DRAIN, Scenario, acked, fetched, published
from tests.support.servers import NEWEST, OLDEST, StartServer

BETWEEN = "2.11.11"
COPIES_BY_NUMBER = "2.12.8"
HOUR = "1h"
_inboxes = itertools.count()


class Killed(Exception):
    """The tool died here; no error that it knows of."""


class Task(NamedTuple):
    """One task as an agent was handed it."""

    name: int
    delivery: Message

    @property
    def sequence(self) -> int:
        """Its number in the stream."""
        return int(self.delivery.reply.split(".")[5])


class Role:
    """A role whose tasks are handed out, answered and counted."""

    def __init__(
        self, scenario: Scenario, name: str, *, retention: str = "limits", replicas: int = 1, **worker: object
    ) -> None:
        self.scene, self.name, self._retention, self._replicas = scenario, name, retention, replicas
        self.former = ""
        self.worker: dict[str, object] = {"ack_wait": HOUR, "max_ack_pending": 20, "max_deliver": 5, **worker}
        self.tasks: dict[str, object] = {}
        self.consumers: dict[str, object] = {}
        self.published = 0

    @property
    def stream(self) -> str:
        return f"AGENT_{self.name.upper()}_TASKS"

    @property
    def ref(self) -> str:
        return f"{self.stream}/{self.name}-worker"

    @property
    def manifest(self) -> str:
        role: dict[str, object] = {
            "worker": self.worker,
            "tasks": {"retention": self._retention, **self.tasks},
        }
        if self.former:
            role["renamed_from"] = self.former
        found: dict[str, object] = {
            "org": "open",
            "consumers": self.consumers,
            "roles": {self.name: role},
        }
        if self._replicas > 1:
            found["defaults"] = {"replicas": self._replicas}
        return json.dumps(found)

    def publish(self, number: int) -> None:
        for _ in range(number):
            subject = f"open.agents.{self.name}.tasks"
            assert "seq" in self.scene.api.ask(subject, str(self.published).encode()).json
            self.published += 1

    def pull(self, number: int) -> list[Task]:
        """Return what one request brings, at most so many."""
        inbox = self.scene.api.subscribe(f"handed.{next(_inboxes)}")
        body = json.dumps({"batch": number, "no_wait": True}).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.ref.replace('/', '.')}"
        self.scene.api.publish(subject, body, reply=inbox.subject)
        found = []
        for _ in range(number):
            message = inbox.next()
            if not message.reply:
                break
            found.append(Task(int(message.data), message))
        return found

    def say(self, task: Task, what: bytes) -> None:
        self.scene.api.ask(task.delivery.reply, what)

    def change(self, config: Mapping[str, object]) -> None:
        """By hand."""
        stream, _, consumer = self.ref.partition("/")
        body = {
            "stream_name": stream,
            "config": {**self.scene.config(self.ref), **config},
            "action": "update",
        }
        self.scene.ask(f"CONSUMER.CREATE.{stream}.{consumer}", body)

    def come_again(self, at_once: int = 20) -> Counter[int]:
        """Return all that is handed out once every ack_wait is over, each acknowledged; `at_once` for each request.

        What comes twice within one request was not acknowledged yet: that takes longer than ack_wait where all is slow.
        """
        self.change({"ack_wait": 300_000_000})
        found = Counter[int]()
        while any(self.scene.info(self.ref)[count] for count in ("num_pending", "num_ack_pending")):
            tasks = {task.sequence: task for task in self.pull(at_once)}
            for task in tasks.values():
                found[task.name] += 1
                self.say(task, b"+ACK")
            time.sleep(0 if tasks else 0.1)
        return found


class Handed(NamedTuple):
    """What agents did with what they were handed."""

    done: set[int]
    open: list[Task]


def agents_at_work(role: Role, draw: random.Random, number: int) -> Handed:
    """Return so many tasks handed out; some acknowledged, refused, given up, told to be under way, or never mentioned again."""
    role.publish(number)
    done, handed = set[int](), list[Task]()
    while len(done) + len(handed) < number:
        for task in role.pull(draw.randint(1, 7)):
            answer = draw.choices((b"+ACK", b"+TERM", b"-NAK", b"+WPI", b""), (80, 4, 3, 4, 9))[0]
            if len(handed) >= 15:
                answer = b"+ACK"
            if answer:
                role.say(task, answer)
            if answer in (b"+ACK", b"+TERM"):
                done.add(task.name)
                handed = [other for other in handed if other.name != task.name]
            elif task.name not in {other.name for other in handed}:
                handed.append(task)
    return Handed(done, handed)


def applied(role: Role, drain: float = DRAIN, allow: Sequence[str] = ()) -> tuple[Plan, list[Outcome]]:
    wish = role.scene.request(role.manifest)
    plan = role.scene.plan(wish)
    return plan, provision.apply(
        provision.ApplyRequest(plan, allow=allow, drain_timeout=drain), role.scene.target
    )


def assert_done(outcomes: Sequence[Outcome]) -> None:
    assert [
        str(outcome.problem) for outcome in outcomes if outcome.status is not ResultStatus.SUCCEEDED
    ] == []


def leftovers(scenario: Scenario) -> list[str]:
    return [ref for ref in scenario.refs() if PLACEHOLDER_PREFIX in ref or TEMPORARY_PREFIX in ref]


def changed(role: Role, what: str) -> None:
    match what:
        case "consumer":
            role.worker["max_waiting"] = 64
        case "stream":
            role.tasks["storage"] = "memory"
        case _:
            role.former, role.name = role.name, f"{role.name}new"


def played(role: Role, what: str, seed: int) -> None:
    """Agents at work, a change that replaces their consumer, some late answers, and what comes again."""
    draw = random.Random(f"{seed} {role.name}")  # noqa: S311 - no secret
    role.scene.converge(role.manifest)
    handed = agents_at_work(role, draw, 40)
    role.publish(3)
    changed(role, what)
    allow = ["deletes-messages", *(["repeats-work"] if role.former else [])]  # the first: what was given up
    plan, outcomes = applied(role, allow=allow)
    assert_done(outcomes)
    repeated = [hazard.count for hazard in plan.hazards if hazard.name is HazardName.REPEATS_WORK]
    assert repeated == ([len(handed.open)] if role.former else [])
    assert not role.scene.plan(role.scene.request(role.manifest))
    assert leftovers(role.scene) == []
    late = set[int]()
    if not role.former:  # the subject names the consumer: under another name it is another one's
        for task in handed.open:
            if draw.random() < 0.4:
                role.say(task, b"+ACK")
                late.add(task.name)
    waiting = {43 - 3, 43 - 2, 43 - 1}
    expected = Counter({task.name for task in handed.open} - late | waiting)
    assert role.come_again() == expected, f"seed {seed}: {role.name}"


EVERYTHING = os.environ.get("CYBORG_INFRA_TEST_FAULTS") == "all"
SEED = random.SystemRandom().randrange(2**32) if EVERYTHING else 7  # the same in `make test`, whoever runs it
CASES = tuple(itertools.product(("limits", "interest", "workqueue"), ("consumer", "stream", "rename")))


@pytest.mark.parametrize(
    ("version", "cases"),
    [(NEWEST, CASES), ("2.14.6", CASES), (COPIES_BY_NUMBER, CASES), (BETWEEN, CASES[::3])],
)
def test_a_replaced_consumer_keeps_its_unacknowledged_messages_and_no_others(
    start_server: StartServer, tmp_path: Path, version: str, cases: Sequence[tuple[str, str]]
) -> None:
    """Before 2.12 only where the stream stays: messages get other numbers on the way."""
    draw = random.Random(f"{SEED} {version}")  # noqa: S311 - no secret
    some = cases if version == NEWEST else draw.sample(cases, 3)
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        for number, (retention, what) in enumerate(some):
            played(Role(scene, f"r{number}", retention=retention), what, SEED)
            scene.clear()


@pytest.mark.parametrize(("retention", "what"), [("limits", "consumer"), ("interest", "stream")])
def test_in_a_cluster_as_well(tmp_path: Path, retention: str, what: str) -> None:
    with (
        running_cluster(tmp_path / "cluster") as servers,
        Scenario(servers[0].url, tmp_path) as scene,
    ):
        played(Role(scene, "r", retention=retention, replicas=3), what, SEED)


def gone_on(role: Role, number: int = 2) -> set[int]:
    """Return the pause is over before its time is, and agents do some tasks; none where there is nobody to ask."""
    path = role.ref.replace("/", ".")
    if role.ref not in role.scene.refs():
        return set()
    role.scene.ask(f"CONSUMER.PAUSE.{path}", {})
    done = role.pull(number)
    for task in done:
        role.say(task, b"+ACK")
    return {task.name for task in done}


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
def test_a_tool_that_stands_still_at_any_step_until_its_pause_is_over_repeats_nothing(
    start_server: StartServer, tmp_path: Path, faults: Faults, retention: str
) -> None:
    """However old what it has read: agents go on meanwhile, and what they did is not undone."""
    with Scenario(start_server().url, tmp_path) as scene:
        role = Role(scene, "r", retention=retention)
        scene.converge(role.manifest)
        done, kept = set[int](), list[Task]()
        for step in itertools.count(1):
            role.publish(8)
            first, *others = role.pull(4)
            kept.append(first)
            for task in others:
                role.say(task, b"+ACK")
                done.add(task.name)
            role.worker["max_waiting"] = 500 - step
            written, meanwhile = [0], set[int]()

            async def call(
                request: ApiRequest,
                send: Send,
                step: int = step,
                written: list[int] = written,
                meanwhile: set[int] = meanwhile,
            ) -> dict[str, Any]:
                verb = request.verb
                if not any(part in verb for part in ("INFO", "LIST", "MSG.GET")):
                    written[0] += 1
                    if written[0] == step:
                        meanwhile |= await asyncio.to_thread(gone_on, role)
                return await send(request)

            with faults.context() as patched:
                patched.intercept(call)
                _, outcomes = applied(role, drain=0)
            assert_done(outcomes)
            done |= meanwhile
            if written[0] < step:
                break
        assert step > 5
        again = role.come_again()
        assert again == Counter(set(range(role.published)) - done)
        assert {task.name for task in kept} <= again.keys()


@pytest.mark.parametrize("version", [NEWEST, COPIES_BY_NUMBER])
@pytest.mark.parametrize("limit", [2, 3])
def test_what_agents_may_ask_for_at_once_does_not_hinder_us(
    start_server: StartServer, tmp_path: Path, limit: int, version: str
) -> None:
    """With 2 by the consumer itself; with 3 by the server as well, which gives a limit to whoever has none."""
    config = "jetstream { limits { max_request_batch: 3 } }" if limit == 3 else ""
    with Scenario(start_server(version=version, config=config).url, tmp_path) as scene:
        role = Role(scene, "r", max_batch=limit)
        role.consumers = {
            kind: {"max_batch": limit} for kind in ("inbox_reader", "broadcast_reader", "dead_letter_alerts")
        }
        scene.converge(role.manifest)
        role.publish(30)
        kept, done = list[Task](), set[int]()
        while len(done) + len(kept) < 30:
            for task in role.pull(limit):
                if task.name % 7 == 3:
                    kept.append(task)
                else:
                    role.say(task, b"+ACK")
                    done.add(task.name)
        changed(role, "consumer")
        _, outcomes = applied(role)
        assert_done(outcomes)
        assert scene.config(role.ref)["max_batch"] == limit
        assert role.come_again(limit) == Counter(task.name for task in kept)


@pytest.mark.parametrize("version", [NEWEST, BETWEEN])
@pytest.mark.parametrize("stops", [False, True])
def test_what_only_a_wider_filter_reads_on_a_workqueue_is_handed_out_at_once(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    version: str,
    stops: bool,  # noqa: FBT001
) -> None:
    """Taken for open, it waited for ack_wait, and with max_deliver 1 it was given up. What has to come again for it is announced."""
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        role = Role(scene, "r", retention="workqueue", max_deliver=1, filter_subject="open.agents.r.tasks")
        role.tasks["subjects"] = ["open.agents.r.tasks", "open.agents.r.more"]
        scene.converge(role.manifest)
        role.publish(2)
        scene.api.ask("open.agents.r.more", b"100")
        role.publish(2)
        first, *others = role.pull(4)
        for task in others[:2]:
            role.say(task, b"+ACK")
        scene.api.ask("open.agents.r.more", b"101")
        role.worker |= {"filter_subjects": role.tasks["subjects"], "max_waiting": 64}
        del role.worker["filter_subject"]
        plan = scene.plan(scene.request(role.manifest))
        (hazard,) = plan.hazards
        assert hazard.name is HazardName.REPEATS_WORK
        assert "its new filter reads earlier messages" in hazard.reason
        with pytest.raises(PlanRefused):
            applied(role)
        if stops:
            with killed_before(6, faults), pytest.raises(Killed):  # it is stopped
                applied(role, allow=["repeats-work"])
        _, outcomes = applied(role, allow=["repeats-work"])
        assert_done(outcomes)
        assert leftovers(scene) == []
        tasks = role.pull(20)
        assert sorted(task.name for task in tasks) == [first.name, others[2].name, 100, 101]
        assert {task.delivery.reply.split(".")[4] for task in tasks} == {
            "1"
        }  # each is delivered for the first time


@pytest.mark.parametrize("version", [NEWEST, BETWEEN])
def test_a_wider_filter_of_a_workqueue_leaves_open_what_is_open_where_it_reads_nothing_earlier(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        role = Role(scene, "r", retention="workqueue", max_deliver=1, filter_subject="open.agents.r.tasks")
        role.tasks["subjects"] = ["open.agents.r.tasks", "open.agents.r.more"]
        scene.converge(role.manifest)
        role.publish(2)
        kept, done = role.pull(2)
        role.say(done, b"+ACK")
        scene.api.ask("open.agents.r.more", b"100")
        role.worker |= {"filter_subjects": role.tasks["subjects"], "max_waiting": 64}
        del role.worker["filter_subject"]
        plan, outcomes = applied(role)
        assert not plan.hazards
        assert_done(outcomes)
        assert [task.name for task in role.pull(20)] == [100]
        role.say(kept, b"+ACK")
        assert scene.info(role.ref)["num_ack_pending"] == 1


def test_what_has_no_room_in_the_journal_of_a_move_is_announced_before_the_first_write(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty consumers with 2,000 open each: the server refused the journal when all had been paused for minutes."""
    monkeypatch.setattr(consumer_position, "LARGEST_JOURNAL", 300)
    with Scenario(start_server().url, tmp_path) as scene:
        role = Role(scene, "r")
        scene.converge(role.manifest)
        role.publish(20)
        tasks = role.pull(20)
        role.tasks["storage"] = "memory"
        (hazard,) = scene.plan(scene.request(role.manifest)).hazards
        assert hazard.name is HazardName.REPEATS_WORK
        assert "there are too many in its stream" in hazard.reason
        with scene.requests() as made, pytest.raises(PlanRefused):
            applied(role)
        assert not [request for request in made if request.writes and "lease" not in request.verb]
        for task in tasks[1:]:
            role.say(task, b"+ACK")
        plan, outcomes = applied(role)  # so many fit
        assert not plan.hazards
        assert_done(outcomes)
        assert role.come_again() == Counter([tasks[0].name])


@contextlib.contextmanager
def killed_before(step: int, faults: Faults) -> Iterator[list[str]]:
    """Return the tool dies before its `step`-th write. Asking for messages counts as one."""
    written = list[str]()

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        if any(part in request.verb for part in ("INFO", "LIST", "MSG.GET")):
            return await send(request)
        written.append(request.verb)
        if len(written) == step:
            raise Killed(request.verb)
        return await send(request)

    with faults.context() as patched:
        patched.intercept(call)
        yield written


@pytest.mark.parametrize(
    ("retention", "what"), [("limits", "consumer"), ("interest", "consumer"), ("limits", "stream")]
)
def test_a_replace_with_open_work_that_dies_at_any_step_goes_on(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    retention: str,
    what: str,
) -> None:
    with Scenario(start_server().url, tmp_path) as scene:
        role = Role(scene, "r", retention=retention)
        scene.converge(role.manifest)
        done, kept = set[int](), list[Task]()
        for step in itertools.count(1, 1 if what == "consumer" else 2):
            role.publish(5)
            first, *others = role.pull(4)
            kept.append(first)
            for task in others:
                role.say(task, b"+ACK")
                done.add(task.name)
            if what == "consumer":
                role.worker["max_waiting"] = 500 - step
            else:
                role.tasks["storage"] = "memory" if step % 4 == 1 else "file"
            with killed_before(step, faults) as written, contextlib.suppress(Killed):
                applied(role, drain=0)
            _, outcomes = applied(role, drain=0)
            assert_done(outcomes)
            assert leftovers(scene) == []
            if len(written) < step:
                break
            if step % 3 == 0:
                role.say(kept[-1], b"+ACK")
                done.add(kept.pop().name)
        assert step > 6
        assert role.come_again() == Counter(set(range(role.published)) - done)


def test_what_agents_say_while_there_is_no_consumer_counts(
    start_server: StartServer, tmp_path: Path, faults: Faults
) -> None:
    """They hear that it was heard, too."""
    with Scenario(start_server().url, tmp_path) as scene, Api(scene.url) as agent:
        role = Role(scene, "r")
        scene.converge(role.manifest)
        role.publish(9)
        first, second, third, *others = role.pull(9)
        for task in others:
            role.say(task, b"+ACK")
        answers = agent.subscribe("answers.*")

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            verb = request.verb
            answer = await send(request)
            if verb.startswith("CONSUMER.DELETE") and PLACEHOLDER_PREFIX not in verb:
                for number, (task, what) in enumerate(
                    [(first, b"+ACK"), (second, b"-NAK"), (third, b"+TERM")]
                ):
                    agent.publish(task.delivery.reply, what, reply=f"answers.{number}")
                agent.flush()
            return answer

        role.worker["max_waiting"] = 64
        with faults.context() as patched:
            patched.intercept(call)
            _, outcomes = applied(role)
        assert_done(outcomes)
        assert sorted(answers.next().subject for _ in range(3)) == [
            f"answers.{number}" for number in range(3)
        ]
        (again,) = role.pull(9)  # at once: it was refused
        assert again.name == second.name
        assert scene.info(role.ref)["num_ack_pending"] == 1


@pytest.mark.parametrize("then", ["one more is taken", "nothing happens"])
def test_what_agents_answer_after_a_rename_comes_again_only_if_that_was_announced(
    start_server: StartServer, tmp_path: Path, then: str
) -> None:
    """The subject of an answer names the old consumer: nobody hears it once there is none."""
    allowed = then == "nothing happens"
    with Scenario(start_server().url, tmp_path) as scene:
        role = Role(scene, "r")
        scene.converge(role.manifest)
        role.publish(9)
        first, second, *others = role.pull(9)
        for task in others:
            role.say(task, b"+ACK")
        changed(role, "rename")
        wish = scene.request(role.manifest)
        plan = scene.plan(wish)
        (hazard,) = plan.hazards
        assert (hazard.name, hazard.count) == (HazardName.REPEATS_WORK, 2)
        assert hazard.reason == (
            "up to 2 messages being worked on could be handed out again:"
            " what agents answer after a rename counts no more"
        )
        late = [first, second]
        if not allowed:
            before = _as_before(role)
            before.publish(1)  # and it is taken before the apply
            late += before.pull(1)
        outcomes = provision.apply(
            provision.ApplyRequest(plan, allow=["repeats-work"], drain_timeout=DRAIN), scene.target
        )
        failed = [outcome.problem for outcome in outcomes if outcome.status is ResultStatus.FAILED]
        if not allowed:
            assert [problem.code for problem in failed if problem] == ["not-drained"]
            role = _as_before(role)  # and serves: all of them can still be answered
        for task in late:
            if allowed:  # nobody hears it
                scene.api.publish(task.delivery.reply, b"+ACK")
            else:
                role.say(task, b"+ACK")
        assert role.come_again() == Counter({first.name: 1, second.name: 1} if allowed else {})


def _as_before(role: Role) -> Role:
    """Return the role under its former name."""
    before = Role(role.scene, role.former)
    before.published = role.published
    return before


@pytest.mark.parametrize("how", ["crash", "nak"])
def test_a_drain_that_cannot_end_is_not_waited_for_to_its_end(
    start_server: StartServer, tmp_path: Path, how: str, faults: Faults
) -> None:
    """A paused consumer hands out nothing again, so that what an agent has dropped or refused stays as it is."""
    with Scenario(start_server().url, tmp_path) as scene:
        role = Role(scene, "r")
        scene.converge(role.manifest)
        role.publish(6)
        first, *others = role.pull(6)
        for task in others:
            role.say(task, b"+ACK")
        if how == "nak":
            role.say(first, b'-NAK {"delay": 60000000000}')
        faults.waits(PROGRESS_TIMEOUT_SECONDS=0.1)
        role.worker["max_waiting"] = 64
        _, outcomes = applied(role, drain=10_000)
        assert_done(outcomes)
        assert role.come_again() == {first.name: 1}


@pytest.mark.parametrize(
    "change", ["stream: {retention: workqueue, storage: memory}", "reader: {max_waiting: 64}"]
)
def test_what_a_reader_of_a_whole_workqueue_has_open_is_announced_and_comes_again(
    start_server: StartServer, tmp_path: Path, change: str
) -> None:
    """A workqueue refuses a placeholder beside a consumer without a filter: nothing can stay open, and the apply goes through."""
    jobs = "jobs: {of: org, durable: true, subject: 'jobs.*', send_to: new, readers: operator, stream: {retention: workqueue}"
    before = f"org: open\nroles: [cto]\nchannels:\n  {jobs}}}\n"
    after = before.replace("stream: {retention: workqueue}", f"stream: {{retention: workqueue}}, {change}")
    after = after.replace("stream: {retention: workqueue}, stream:", "stream:")
    with Scenario(start_server(version=NEWEST).url, tmp_path) as scene:
        scene.converge(before)
        published("open.jobs.a", 5)(scene)
        acked("ORG_JOBS/jobs-reader", 1)(scene)
        fetched("ORG_JOBS/jobs-reader", 2)(scene)
        wish = scene.request(after)
        plan = scene.plan(wish)
        (hazard,) = plan.hazards
        assert (hazard.name, hazard.count) == (
            HazardName.REPEATS_WORK,
            4,
        )  # agents may take the others meanwhile
        assert_done(scene.apply(wish, plan))
        assert scene.info("ORG_JOBS/jobs-reader")["num_pending"] == 4
        assert leftovers(scene) == []


@pytest.mark.parametrize("what", ["consumer", "stream"])
def test_before_2_11_a_message_that_stays_open_costs_what_the_plan_says(
    start_server: StartServer, tmp_path: Path, what: str
) -> None:
    """All that was acknowledged behind it comes again: nothing pauses a consumer there."""
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        role = Role(scene, "r")
        scene.converge(role.manifest)
        role.publish(200)
        done = set[int]()
        while len(done) < 199:
            for task in role.pull(10):
                if task.name != 3:
                    role.say(task, b"+ACK")
                    done.add(task.name)
        changed(role, what)
        plan, outcomes = applied(role, allow=["repeats-work"])
        assert_done(outcomes)
        (hazard,) = plan.hazards
        assert (hazard.name, hazard.count) == (HazardName.REPEATS_WORK, 200)  # not 197 + 20
        assert "up to 200 messages could be handed out again" in hazard.reason
        assert role.come_again() == Counter(range(3, 200))


@pytest.mark.parametrize("name", ["CONSUMER", "STREAM"])
def test_before_2_11_what_others_read_in_the_same_stream_is_not_counted(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    """The apply counts what the plan has announced: the same messages, those of this consumer alone."""
    other_name = {
        "CONSUMER": "consumers: {inbox_reader: 'post-{role}'}",
        "STREAM": "streams: {inboxes: POST}",
    }
    before = "org: open\nroles: [ceo, cto]\n"
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(before)
        published("open.agents.cto.inbox", 1)(scene)
        published("open.agents.ceo.inbox", 20)(scene)
        published("open.agents.cto.inbox", 1)(scene)
        fetched("AGENT_INBOXES/cto-inbox-reader", 1)(scene)
        acked("AGENT_INBOXES/cto-inbox-reader", 1)(scene)
        wish = scene.request(f"{before}naming: {{{other_name[name]}}}\n")
        plan = scene.plan(wish)
        assert [hazard.count for hazard in plan.hazards if hazard.name == HazardName.REPEATS_WORK] == [2]
        assert_done(scene.apply(wish, plan))
        ref = {"CONSUMER": "AGENT_INBOXES/post-cto", "STREAM": "POST/cto-inbox-reader"}[name]
        assert scene.info(ref)["num_pending"] == 2


@pytest.mark.parametrize("what", ["consumer", "stream"])
def test_before_2_11_no_more_comes_again_than_was_announced(
    start_server: StartServer, tmp_path: Path, what: str
) -> None:
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        role = Role(scene, "r")
        scene.converge(role.manifest)
        role.publish(100)
        first, *others = role.pull(10)
        for task in others:
            role.say(task, b"+ACK")
        changed(role, what)
        wish = scene.request(role.manifest)
        plan = scene.plan(wish)
        assert [hazard.count for hazard in plan.hazards] == [10 + 20]
        for _ in range(4):  # behind the open one another 40 are done before anybody allows it
            for task in role.pull(10):
                role.say(task, b"+ACK")
        outcomes = provision.apply(
            provision.ApplyRequest(plan, allow=["repeats-work"], drain_timeout=DRAIN), scene.target
        )
        (problem,) = (outcome.problem for outcome in outcomes if outcome.status is ResultStatus.FAILED)
        assert problem
        assert problem.code == "not-drained"
        assert "more than the 30 that were announced would come again" in problem.message
        role.say(first, b"+ACK")
        assert [task.name for task in role.pull(1)] == [50]


def overlapping(url: str, ref: str, ended: threading.Event) -> None:
    """An agent that takes the next task, if there is one, before it ends the one that it has: something is always open."""
    subject, body = (
        f"$JS.API.CONSUMER.MSG.NEXT.{ref.replace('/', '.')}",
        b'{"batch": 1, "expires": 500000000}',
    )
    with Api(url) as api:
        held = ""
        while not ended.is_set():
            inbox = api.subscribe(f"handed.{next(_inboxes)}")
            api.publish(subject, body, reply=inbox.subject)
            taken = inbox.next().reply
            if held:
                api.publish(held, b"+ACK")
            held = taken
            time.sleep(0.01)


async def slowed_by_one_who_dies(request: ApiRequest, send: Send) -> dict[str, Any]:
    answer = await send(request)
    if (request.body or {}).get("config", {}).get("max_ack_pending") == 1:
        raise Killed
    return answer


@pytest.mark.parametrize(("what", "dies"), [("consumer", False), ("consumer", True), ("stream", True)])
def test_before_2_11_what_has_used_up_its_deliveries_holds_no_change_up(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    what: str,
    dies: bool,  # noqa: FBT001 - pytest's
) -> None:
    """It holds the ack floor until nothing is open, and ever more is finished behind it than was announced.

    So the consumer hands out one at a time, and goes on as it was, whoever finishes the change.
    """
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        role, ended = Role(scene, "r", max_ack_pending=3, max_deliver=1), threading.Event()
        scene.converge(role.manifest)
        role.publish(1_000)
        given_up, open_task = role.pull(2)
        changed(role, what)

        def reached(number: int) -> Callable[[], bool]:
            return lambda: scene.info(role.ref)["delivered"]["stream_seq"] >= number

        agent = threading.Thread(target=overlapping, args=(scene.url, role.ref, ended))
        agent.start()
        try:
            until(reached(10))
            role.say(given_up, b"-NAK")
            until(reached(40))
            role.say(open_task, b"+ACK")
            wish = scene.request(role.manifest)
            plan = scene.plan(wish)
            (announced,) = (hazard.count for hazard in plan.hazards if hazard.name is HazardName.REPEATS_WORK)
            until(reached(announced + 20))
            allow = sorted({hazard.name for hazard in plan.hazards})
            if dies:
                with faults.context() as patched, contextlib.suppress(Killed):
                    patched.intercept(slowed_by_one_who_dies)
                    provision.apply(provision.ApplyRequest(plan, allow=allow), scene.target)
                assert scene.config(role.ref)["max_ack_pending"] == 1
                plan = scene.plan(wish)
            outcomes = provision.apply(
                provision.ApplyRequest(plan, allow=allow, drain_timeout=30), scene.target
            )
        finally:
            ended.set()
            agent.join()
        assert_done(outcomes)
        assert scene.config(role.ref)["max_ack_pending"] == 3


def test_a_server_that_is_killed_when_a_new_consumer_is_to_be_served_hands_out_again_what_is_open_alone(
    server: EmbeddedServer, tmp_path: Path, faults: Faults
) -> None:
    """What the new one was told of acknowledged tasks is on disk by then; a moment before it may be, or not."""
    served = list[str]()

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        body: Any = request.body
        if body and body.get("action") == "update" and "_parked" not in json.dumps(body):
            served.append(verb)
            server.kill()  # and nothing else happens meanwhile
            await asyncio.to_thread(server.start)
        return await send(request)

    with Scenario(server.url, tmp_path) as scene:
        role = Role(scene, "r", max_ack_pending=100)
        scene.converge(role.manifest)
        role.publish(60)
        for task in role.pull(60)[1:]:
            role.say(task, b"+ACK")
        changed(role, "consumer")
        with faults.context() as patched:
            patched.intercept(call)
            applied(role)
        assert len(served) == 1
        scene.reconnect()
        scene.converge(role.manifest)
        assert role.come_again() == {0: 1}


@pytest.mark.parametrize("what", ["consumer", "stream", "rename"])
def test_what_cannot_stay_open_comes_again_as_announced(
    start_server: StartServer, tmp_path: Path, what: str
) -> None:
    """One acknowledgement for all before it: nothing tells which are open."""
    with Scenario(start_server().url, tmp_path) as scene:
        role = Role(scene, "r", ack_policy="all")
        scene.converge(role.manifest)
        role.publish(10)
        tasks = role.pull(8)
        role.say(tasks[2], b"+ACK")
        changed(role, what)
        plan, outcomes = applied(role, allow=["repeats-work"])
        assert_done(outcomes)
        assert [hazard.count for hazard in plan.hazards] == [10]  # not 5 + 20
        assert role.come_again() == Counter(range(3, 10))


@pytest.mark.parametrize("version", [NEWEST, COPIES_BY_NUMBER])
@pytest.mark.parametrize("what", ["consumer", "stream", "rename"])
def test_a_consumer_that_somebody_has_paused_stays_paused(
    start_server: StartServer, tmp_path: Path, what: str, version: str
) -> None:
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        role = Role(scene, "r")
        scene.converge(role.manifest)
        role.publish(3)
        for task in role.pull(2):
            role.say(task, b"+ACK")
        until = "2100-01-02T03:04:05Z"
        scene.ask(f"CONSUMER.PAUSE.{role.ref.replace('/', '.')}", {"pause_until": until})
        changed(role, what)
        _, outcomes = applied(role)
        assert_done(outcomes)
        assert scene.info(role.ref)["paused"]
        assert scene.config(role.ref)["pause_until"] == until
        scene.ask(f"CONSUMER.PAUSE.{role.ref.replace('/', '.')}", {})
        assert [task.name for task in role.pull(3)] == [2]


@pytest.mark.parametrize(
    ("retention", "what"), [("limits", "consumer"), ("interest", "stream"), ("workqueue", "rename")]
)
def test_a_pause_by_hand_outlives_tools_that_die(
    start_server: StartServer, tmp_path: Path, faults: Faults, retention: str, what: str
) -> None:
    """Twice, as the one that goes on from an interrupted change makes some of it anew."""
    draw, until = random.Random(f"{SEED} {retention} {what}"), "2100-01-02T03:04:05Z"  # noqa: S311 - no secret
    with Scenario(start_server().url, tmp_path) as scene:
        for step in (6, draw.randint(2, 14)):  # 6: the copy of an interest stream that is given up
            role = Role(scene, f"r{step}", retention=retention)
            scene.converge(role.manifest)
            role.publish(4)
            kept, *others = role.pull(3)
            for task in others:
                role.say(task, b"+ACK")
            scene.ask(f"CONSUMER.PAUSE.{role.ref.replace('/', '.')}", {"pause_until": until})
            changed(role, what)
            allow = ["repeats-work"] if what == "rename" else []  # what an agent says after it counts no more
            for died in (step, draw.randint(2, 3)):
                with killed_before(died, faults), contextlib.suppress(Killed):
                    applied(role, allow=allow)
            _, outcomes = applied(role, allow=allow)
            assert_done(outcomes)
            assert scene.config(role.ref).get("pause_until") == until, f"seed {SEED}: step {step}"
            scene.ask(f"CONSUMER.PAUSE.{role.ref.replace('/', '.')}", {})
            assert role.come_again() == {kept.name: 1, 3: 1}
            scene.clear()


def test_pauses_are_made_from_the_servers_clock(server: Any, tmp_path: Path) -> None:
    """The tool's own is two hours behind here: by it a pause would be over before it begins."""
    (tmp_path / "skew").mkdir()
    (tmp_path / "skew" / "sitecustomize.py").write_text(
        "import datetime, time\n"
        "real, behind = time.time, 7200\n"
        "time.time = lambda: real() - behind\n"
        "class Behind(datetime.datetime):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None): return super().fromtimestamp(real() - behind, tz)\n"
        "datetime.datetime = Behind\n"
    )
    with Scenario(server.url, tmp_path) as scene:
        role = Role(scene, "r")
        scene.converge(role.manifest)
        role.publish(3)
        for task in role.pull(2):
            role.say(task, b"+ACK")
        changed(role, "consumer")
        scene.request(role.manifest)
        before = datetime.fromisoformat(scene.info(role.ref)["ts"])
        arguments = ("apply", "--yes", "--server", scene.url, "--no-context", "--drain-timeout", "5s")
        with scene.requests() as requests:
            ended = run_process(*arguments, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "skew")})
        assert ended.code == 0, ended.err
        pauses = [
            request.body["pause_until"] for request in requests if "PAUSE" in request.verb and request.body
        ]
        assert [datetime.fromisoformat(until) > before for until in pauses] == [True] * len(pauses)
        assert pauses
        assert [task.name for task in role.pull(3)] == [2]
