"""A server of a cluster dies while something is applied: the apply ends clearly, the next one converges, no message is gone.

One cluster for all. CYBORG_INFRA_TEST_FAULTS=all runs every combination, for a quarter of an hour a version.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import queue
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from cyborg_infra.live import timing
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.reconnecting import open_connection
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.execute.migrate import catch_up
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.live.records import lease
from cyborg_infra.model.buckets import LEASE_BUCKET, bucket_stream
from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.problems import CyborgError, ServerFault, SnapshotIncomplete
from cyborg_infra.model.ref import PLACEHOLDER_PREFIX, TEMPORARY_PREFIX
from cyborg_infra.operations import provision
from tests.support.cluster import meta_leader, running_cluster
from tests.support.faults import Faults, Send
from tests.support.scenario import EVERY_HAZARD, Scenario, published
from tests.support.servers import NEWEST, VERSIONS
from tests.support.traffic import Publisher, Worker, eventually

STREAM, WORKER = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"
CREATED = "AGENT_CSO_TASKS"
COPY, MARK = f"{TEMPORARY_PREFIX}{STREAM}", f"{PLACEHOLDER_PREFIX}cto-worker"
SUBJECT = "acme.agents.cto.tasks"
LEASES = bucket_stream(LEASE_BUCKET)
EVERYTHING = os.environ.get("CYBORG_INFRA_TEST_FAULTS") == "all"
SHORT = 5.0  # seconds to wait for an answer that does not come, where not EVERYTHING is tried
# Not `lease-lost`: without a quorum nobody else can have taken it, and what is written when it is back is ours.
UNKNOWN = {
    "no-reply",
    "no-responders",
    "connection-lost",
    "api-error",
    "no-leader",
    "not-settled",
    "missing",
    "copy-stalled",
}
Result = TypeVar("Result")
APPLIES = 3  # as many as may be needed in the end
DRAIN = 20.0


def manifest(tasks: str = "storage: file", worker: str = "", roles: str = "cto") -> str:
    """Return what a killed server has handed out and nobody has received comes again after 5s."""
    return (
        f"org: acme\nroles: [{roles}]\ndefaults: {{replicas: 3}}\nstreams: {{tasks: {{{tasks}}}}}\n"
        f"consumers: {{worker: {{max_ack_pending: 20, ack_wait: 5s{worker}}}}}\n"
    )


class Change(NamedTuple):
    """A manifest to apply, whose leader it is about, and the writes at which something happens."""

    text: str
    about: str
    writes: tuple[str, ...]


MOVE = (
    f"STREAM.CREATE.{COPY}",
    f"STREAM.UPDATE.{STREAM}",
    f"STREAM.DELETE.{STREAM}",
    f"STREAM.CREATE.{STREAM}",
    f"STREAM.DELETE.{COPY}",
)
CHANGES = {
    "plain": Change(
        manifest("max_age: 50h", ", max_deliver: 9", "cto, cso"),
        STREAM,
        (f"STREAM.UPDATE.{STREAM}", f"STREAM.CREATE.{CREATED}", f"CONSUMER.CREATE.{CREATED}"),
    ),
    "consumer": Change(
        manifest(worker=", max_waiting: 64"),
        WORKER,
        (
            f"CONSUMER.CREATE.{STREAM}.{MARK}",
            f"CONSUMER.DELETE.{STREAM}.cto-worker",
            f"CONSUMER.CREATE.{STREAM}.cto-worker",
        ),
    ),
    "storage": Change(manifest("storage: memory"), STREAM, MOVE),
    "retention": Change(manifest("retention: workqueue"), STREAM, MOVE),
}
MOVES_SINCE = (2, 12)


class Case(NamedTuple):
    """Who dies at which write; whether before it is sent, on its way, or once answered; what is next."""

    change: str
    role: str
    write: str
    when: str
    comes_back: bool
    talks_to_us: bool

    def __str__(self) -> str:
        back = "back" if self.comes_back else "down"
        ours = "ours" if self.talks_to_us else "other"
        return f"{self.change}-{self.role}-{self.when} {self.write}-{back}-{ours}"


FEW = [
    Case(
        "consumer",
        "leader",
        f"CONSUMER.CREATE.{STREAM}.cto-worker",
        "during",
        comes_back=True,
        talks_to_us=True,
    ),
    Case("retention", "leader", f"STREAM.UPDATE.{STREAM}", "before", comes_back=False, talks_to_us=False),
]


def cases() -> Iterator[Case]:
    """Yield every server at every write."""
    chance = random.Random(7)  # noqa: S311 - not for secrets
    for (name, change), role in itertools.product(CHANGES.items(), ("follower", "leader", "meta leader")):
        for write in change.writes:
            when = chance.choice(["before", "during", "after"])
            yield Case(name, role, write, when, chance.random() < 0.5, chance.random() < 0.5)


def can(version: str, change: str) -> bool:
    """Before 2.12 no stream takes its messages along."""
    return CHANGES[change].writes is not MOVE or tuple(map(int, version.split(".")[:2])) >= MOVES_SINCE


TRIED = VERSIONS if EVERYTHING else (NEWEST,)
ONE_DIES = [
    (version, case)
    for version in TRIED
    for case in (cases() if EVERYTHING else FEW)
    if can(version, case.change)
]
TWO_DIE = [
    (version, name)
    for version in TRIED
    for name in (CHANGES if EVERYTHING else ("storage",))
    if can(version, name)
]


class Cluster:
    """Three servers, of which some are down for a while."""

    def __init__(self, servers: list[EmbeddedServer], home: Path) -> None:
        self.servers, self.home = servers, home
        self.down: list[EmbeddedServer] = []

    def kill(self, *victims: EmbeddedServer) -> None:
        for victim in victims:
            victim.kill()
            self.down.append(victim)

    def restore(self) -> None:
        while self.down:
            self.down.pop().start()

    def scene(self, reads: int = 0, *, first: int = 0) -> Scenario:
        """Read and prepares through one server, which has to stay; the product knows all of them, and begins with `first`."""
        opened = Scenario(self.servers[reads].url, self.home)
        urls = [server.url for server in (*self.servers[first:], *self.servers[:first])]
        opened.target = provision.resolve(provision.Flags(server=",".join(urls), no_context=True), {})
        return opened

    def led_by(self, ref: str, scenario: Scenario) -> str:
        leader: str = scenario.info(ref)["cluster"].get("leader", "")
        return leader

    def victim(self, role: str, about: str, scenario: Scenario) -> EmbeddedServer:
        """Return the server in this role, and in no other."""
        step_down = f"STREAM.LEADER.STEPDOWN.{STREAM}"
        if "/" in about:
            step_down = f"CONSUMER.LEADER.STEPDOWN.{about.replace('/', '.')}"
        while True:
            roles = {"leader": self.led_by(about, scenario), "meta leader": meta_leader(self.servers)}
            if "" not in roles.values():
                if len(set(roles.values())) == 2:
                    break
                with contextlib.suppress(queue.Empty):  # in an election it cannot, or says nothing
                    scenario.api.request(f"$JS.API.{step_down}")
            time.sleep(0.1)
        names = {server.name for server in self.servers}
        name = roles.get(role) or (names - set(roles.values())).pop()
        return next(server for server in self.servers if server.name == name)


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield one of each version, shared by all tests here: each leaves it whole and empty."""
    home: Path = tmp_path_factory.mktemp("faults")
    with running_cluster(home, str(request.param)) as servers:
        yield Cluster(servers, home)


@pytest.fixture(autouse=True)
def _whole_and_empty(cluster: Cluster, faults: Faults) -> None:
    """Whatever the last test has left."""
    if not EVERYTHING:
        faults.waits(CLUSTER_TIMEOUT_SECONDS=SHORT)
    cluster.restore()
    with cluster.scene() as scene:
        assert eventually(lambda: is_empty(scene)), scene.refs()


def lagging(scenario: Scenario) -> list[str]:
    """Return what does not have a leader and two current copies."""
    found = {ref: scenario.info(ref)["cluster"] for ref in scenario.refs()}
    return [
        ref
        for ref, members in found.items()
        if not members.get("leader")
        or [one.get("current", False) and not one.get("offline", False) for one in members["replicas"]]
        != [True, True]
    ]


def is_whole(scenario: Scenario) -> bool:
    with contextlib.suppress(queue.Empty, AssertionError, RuntimeError, KeyError):
        return not lagging(scenario)
    return False


def is_empty(scenario: Scenario) -> bool:
    """Return whether there is no stream any more; deletes what there is."""
    with contextlib.suppress(queue.Empty, AssertionError, RuntimeError, KeyError):
        for name in scenario.ask("STREAM.NAMES")["streams"] or ():
            scenario.ask(f"STREAM.DELETE.{name}")
        return not scenario.ask("STREAM.NAMES")["streams"]
    return False


def is_worked_off(scenario: Scenario) -> bool:
    with contextlib.suppress(queue.Empty, AssertionError, RuntimeError):
        info = scenario.info(WORKER)
        return (
            bool(info.get("cluster", {}).get("leader")) and not info["num_pending"] + info["num_ack_pending"]
        )
    return False


class Death:
    """Something happens at the first request whose verb begins with `write`."""

    def __init__(self, faults: Faults, write: str, when: str, happens: Callable[[], None]) -> None:
        self.came = False

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            verb = request.verb
            if self.came or not verb.startswith(write):
                return await send(request)
            self.came = True
            if when == "before":
                happens()
                return await send(request)
            asked = asyncio.create_task(send(request))
            if when == "during":
                await asyncio.sleep(0.001)
                happens()
                return await asked
            answer = await asked
            happens()
            return answer

        faults.intercept(call)


class End(NamedTuple):
    """How one apply ended, and how many messages its plan said would come again."""

    done: bool
    problems: list[str]
    announced: int = 0


def applied(scenario: Scenario, request: provision.PlanRequest) -> End:
    """Return one apply, as the command does it: with the lease."""
    try:
        plan = scenario.plan(request)
        announced = sum(hazard.count for hazard in plan.hazards if hazard.name is HazardName.REPEATS_WORK)
        outcomes = provision.apply(
            provision.ApplyRequest(plan, allow=EVERY_HAZARD, drain_timeout=DRAIN, lock_timeout=0),
            scenario.target,
        )
    except CyborgError as error:
        return End(False, [str(problem) for problem in error.problems])
    assert len(outcomes) == len(plan.changes)
    problems = [str(outcome.problem) for outcome in outcomes if outcome.problem]
    return End(all(outcome.status is ResultStatus.SUCCEEDED for outcome in outcomes), problems, announced)


@pytest.mark.parametrize(("cluster", "case"), ONE_DIES, indirect=["cluster"], ids=str)
def test_after_the_death_of_one_server_apply_converges(cluster: Cluster, case: Case, faults: Faults) -> None:
    change = CHANGES[case.change]
    with cluster.scene() as scene:
        scene.converge(manifest())
        assert eventually(lambda: is_whole(scene))
        victim = cluster.victim(case.role, change.about, scene)
    number = cluster.servers.index(victim)
    stays = (number + 1) % len(cluster.servers)
    with (
        cluster.scene(stays, first=number if case.talks_to_us else stays) as scene,
        at_work(cluster) as (publisher, worker),
    ):
        with faults.context() as patched:
            death = Death(patched, case.write, case.when, lambda: cluster.kill(victim))
            end = applied(scene, scene.request(change.text))
        assert death.came
        if case.comes_back:
            cluster.restore()
        announced = converged(scene, change.text, end)
        seen = len(publisher.acknowledged)
        assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
        cluster.restore()
        publisher.stop()
        assert_books_balance(scene, publisher, worker, announced)
        assert_in_sync(scene, change.text)


@pytest.mark.parametrize("cluster", [NEWEST], indirect=True)
def test_a_copy_that_asked_a_dead_server_for_its_messages_asks_another_one(
    cluster: Cluster, faults: Faults
) -> None:
    """It would wait for 30 seconds, with publishers refused: given up before that, one apply would not do."""
    text = CHANGES["storage"].text
    with cluster.scene() as scene:
        scene.converge(manifest())
        published(SUBJECT, 2 * catch_up.NEARLY_COMPLETE_LAG)(scene)
        assert eventually(lambda: is_whole(scene))
        victim = cluster.victim("leader", STREAM, scene)
    stays = (cluster.servers.index(victim) + 1) % len(cluster.servers)
    faults.waits(COPY_STALL_TIMEOUT_SECONDS=20.0)
    with cluster.scene(stays, first=stays) as scene:
        Death(faults, f"STREAM.CREATE.{COPY}", "before", lambda: cluster.kill(victim))
        assert applied(scene, scene.request(text)) == End(True, [])
        cluster.restore()
        assert_in_sync(scene, text)
        assert scene.info(STREAM)["state"]["messages"] == 2 * catch_up.NEARLY_COMPLETE_LAG


@pytest.mark.parametrize(("cluster", "change"), TWO_DIE, indirect=["cluster"])
def test_without_a_quorum_an_apply_says_so_and_nothing_is_lost(
    cluster: Cluster, change: str, faults: Faults
) -> None:
    """Two of three die at once; what is called done all the same has to hold when they are back."""
    text, _, writes = CHANGES[change]
    with cluster.scene() as scene, at_work(cluster) as (publisher, worker):
        with faults.context() as patched:
            if not EVERYTHING:
                # Nobody is elected until they are back.
                patched.waits(ELECTION_TIMEOUT_SECONDS=SHORT)
            Death(patched, writes[len(writes) // 2], "before", lambda: cluster.kill(*cluster.servers[1:]))
            plan = scene.plan(scene.request(text))
            outcomes = provision.apply(
                provision.ApplyRequest(plan, allow=EVERY_HAZARD, drain_timeout=DRAIN, lock_timeout=0),
                scene.target,
            )
        assert [outcome.change for outcome in outcomes if outcome.status is ResultStatus.FAILED]
        assert {outcome.problem.code for outcome in outcomes if outcome.problem} <= UNKNOWN
        claimed = {
            str(outcome.change.ref) for outcome in outcomes if outcome.status is ResultStatus.SUCCEEDED
        }
        cluster.restore()
        assert eventually(lambda: bool(meta_leader(cluster.servers)))
        left = {str(left.ref) for left in answered(lambda: scene.plan(scene.request(text))).changes}
        assert claimed & left == set()
        faults.waits(LEASE_VACANCY_SHARE=0)  # whoever had it has ended
        # Nobody could free the lease.
        answered(lambda: provision.unlock(scene.request(text), scene.target))
        announced = converged(scene, text)
        publisher.stop()
        assert_books_balance(scene, publisher, worker, announced)
        assert_in_sync(scene, text)


@pytest.mark.parametrize("cluster", [NEWEST], indirect=True)
def test_a_lease_whose_renewal_is_under_way_is_not_lost(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    """Without a quorum who leads its bucket refuses a second renewal because of the first one, which it still wants to store."""
    faults.waits(LEASE_LIFETIME_SECONDS=600)
    passed: list[float] = []  # seconds, besides those that do
    monkeypatch.setattr(lease, "clock_seconds", lambda: time.monotonic() + sum(passed))
    leader = meta_leader(cluster.servers)  # it answers reads until it notices
    here = next(server for server in cluster.servers if server.name == leader)
    others = [server for server in cluster.servers if server is not here]
    body = {"name": "S", "subjects": ["s"], "num_replicas": 3}
    target = provision.resolve(provision.Flags(server=here.url, no_context=True), {})

    def led_here() -> bool:
        with Scenario(here.url, cluster.home) as scene:
            if cluster.led_by(LEASES, scene) != here.name:
                with contextlib.suppress(queue.Empty):  # in an election it cannot, or says nothing
                    scene.api.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{LEASES}")
                return False
        return True

    async def law() -> None:
        async with (
            open_connection(target) as connection,
            lease.lease(JetStream(connection, target), "acme", wait=0) as held,
        ):
            assert eventually(led_here)
            cluster.kill(*others)
            passed.append(timing.LEASE_FRESH_SHARE * timing.LEASE_LIFETIME_SECONDS)  # the next write asks
            with faults.context() as patched:
                patched.waits(ELECTION_TIMEOUT_SECONDS=SHORT)
                with pytest.raises(ServerFault):
                    await held.request("STREAM.CREATE.S", body, doing="creating")
            cluster.restore()
            for _ in range(240):
                # Until a leader has heard of the two others, they are offline.
                with contextlib.suppress(ServerFault):
                    await held.request("STREAM.CREATE.S", body, doing="creating")
                    return
                await asyncio.sleep(0.25)
            raise AssertionError("the lease is held, and nothing can be created")

    asyncio.run(law())


@pytest.mark.parametrize("cluster", TRIED, indirect=True)
def test_scaling_waits_for_every_copy_and_says_so(cluster: Cluster) -> None:
    """With one server of three down, which nobody refuses; once it is back, the apply ends."""
    alone = manifest().replace("{replicas: 3}", "{replicas: 1, placement: {tags: [n0]}}")
    with cluster.scene() as scene:
        scene.converge(alone)
        published(SUBJECT, 50)(scene)
        leader = meta_leader(cluster.servers)
        cluster.kill(next(server for server in cluster.servers[1:] if server.name != leader))
        plan = scene.plan(scene.request(manifest()))
        assert not plan.blocking_problems
        heard: list[str] = []

        def waits(sentence: str) -> None:
            heard.append(sentence)
            if "2 of 3 copies current" in sentence:
                cluster.restore()

        outcomes = provision.apply(provision.ApplyRequest(plan, on_wait=waits), scene.target)
        assert [outcome.problem for outcome in outcomes if outcome.problem] == []
        assert cluster.down == []
        assert not [ref for ref in lagging(scene) if "/" not in ref]
        # Consumers follow their stream; the last of their copies are current up to a second later (4 of 24 times).
        assert eventually(lambda: is_whole(scene))
        assert scene.info(STREAM)["state"]["messages"] == 50


@contextlib.contextmanager
def at_work(cluster: Cluster) -> Iterator[tuple[Publisher, Worker]]:
    """Return the organisation is there and whole; a publisher and a worker have begun."""
    with cluster.scene() as scene:
        if not scene.refs():
            scene.converge(manifest())
        assert eventually(lambda: is_whole(scene))
    urls = ",".join(server.url for server in cluster.servers)
    with Worker(urls, WORKER) as worker, Publisher(urls, SUBJECT) as publisher:
        assert eventually(lambda: len(publisher.acknowledged) > 100)
        yield publisher, worker


def answered(ask: Callable[[], Result]) -> Result:
    """Return what it returns, once servers that have come back can say it: the tool's patience may end before elections do."""
    answers: list[Result] = []

    def is_answered() -> bool:
        with contextlib.suppress(SnapshotIncomplete, ServerFault):
            answers.append(ask())
        return bool(answers)

    assert eventually(is_answered, 120)
    return answers[0]


def converged(scenario: Scenario, text: str, *before: End) -> int:
    """Return a few applies at most, the one `before` included, and the last one has done everything; what they announced."""
    ends = [*before]
    while not (ends and ends[-1].done):
        assert len(ends) < APPLIES, ends
        ends.append(applied(scenario, scenario.request(text)))
    return sum(end.announced for end in ends)


def assert_books_balance(scenario: Scenario, publisher: Publisher, worker: Worker, announced: int) -> None:
    """Everything that was acknowledged has been worked on, and nothing again that the server knew to be done; `announced` excepted."""
    assert eventually(lambda: is_worked_off(scenario))
    assert sorted(publisher.acknowledged.keys() - worker.worked.keys()) == []
    repeated = [
        name
        for name, times in worker.deliveries.items()
        if any(one.heard and other.received > one.confirmed for one in times for other in times)
    ]
    assert len(repeated) <= announced, repeated


def assert_in_sync(scenario: Scenario, text: str) -> None:
    assert eventually(lambda: is_whole(scenario)), lagging(scenario)
    assert not scenario.plan(scenario.request(text))
    assert [ref for ref in scenario.refs() if TEMPORARY_PREFIX in ref or PLACEHOLDER_PREFIX in ref] == []
    assert not scenario.info(WORKER).get("paused", False)
