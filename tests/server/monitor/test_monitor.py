"""The monitor on real servers: what it serves follows the organisation, the server and its own rights; and it writes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import WIRE_REQUESTS, WireRequest
from cyborg_infra.model.monitor import Observation
from cyborg_infra.model.status import Condition
from cyborg_infra.operations.monitor import Monitor, MonitorRequest
from cyborg_infra.operations.status import load_status_request
from tests.support.agents import publish, term, until
from tests.support.cli import SMALL, Cli
from tests.support.cluster import lead_by_another, meta_leader, running_cluster
from tests.support.faults import Faults, SendWire
from tests.support.monitor import OPEN_METRICS, RunningMonitor, Samples, alarm, value
from tests.support.permissions import config, user
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST, VERSIONS, StartServer

TASKS = "acme.agents.cto.tasks"
QUEUE = {"role": "cto", "queue": "tasks"}


def admin_url(server: EmbeddedServer) -> str:
    return server.url.replace("nats://", "nats://admin:admin@")


def held(scene: Scenario) -> dict[str, int]:
    """Return every stream of the account with the last sequence number that it gave out."""
    return {
        name: scene.info(name)["state"]["last_seq"] for name in sorted(scene.ask("STREAM.NAMES")["streams"])
    }


@pytest.mark.parametrize("secret", [False, True], ids=["plain", "TLS"])
def test_whoever_comes_descriptors_are_left_and_nobody_prints_a_traceback(
    start_server: StartServer, project: Path, tmp_path: Path, *, secret: bool
) -> None:
    """Hundreds who all wait to be let in, and say nothing: each was a traceback for every descriptor that was missing."""
    server, options = start_server(), list[str]()
    if secret:
        issued = trustme.CA().issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        options = ["--tls-cert", str(tmp_path / "chain.pem"), "--tls-key", str(tmp_path / "key.pem")]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))  # is inherited
    try:
        monitor = RunningMonitor("--server", server.url, "--no-context", *options, cwd=project)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    host, _, port = monitor.url.rpartition("/")[2].rpartition(":")
    with monitor, contextlib.ExitStack() as clients:
        connected = [
            clients.enter_context(socket.create_connection((host, int(port)), timeout=60)) for _ in range(300)
        ]
        assert connected[-1].recv(1) == b""
        ended = monitor.end()
    assert (ended.code, ended.err) == (0, "Stopped.\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_served_follows_the_organisation_and_its_server(
    start_server: StartServer, cli: Cli, project: Path, tmp_path: Path, version: str
) -> None:
    """As the derived identity `monitor`, whose rights are enough."""
    server = start_server(version=version, config=config())
    with Scenario(admin_url(server), tmp_path) as scene:
        scene.converge(SMALL)
        term_one(scene)
        for _ in range(6):
            publish(scene.api, TASKS)
        before = held(scene)
        with RunningMonitor(*user(server.url, "monitor"), cwd=project) as monitor:
            assert monitor.get("/healthz").code == 200
            found = monitor.until(
                lambda now: value(now, "up") == 1 and value(now, "plan_age_seconds") is not None
            )
            assert monitor.get("/readyz").code == 200
            assert (value(found, "queue_waiting", **QUEUE), alarm(found, "lag")) == (6, 1)
            assert alarm(found, "dead-letters") == 1
            assert value(found, "queue_oldest_waiting_seconds", **QUEUE) is not None
            assert (alarm(found, "drift"), alarm(found, "unreadable")) == (0, 0)
            assert value(found, "last_applied_timestamp_seconds") == pytest.approx(time.time(), abs=3600)

            # The same names, labels and numbers as `status`, in each format.
            status = cli("status", "--format", "prometheus", *user(server.url, "monitor")).out
            told = {
                (sample.name.removeprefix("cyborg_infra_"), frozenset(sample.labels.items()))
                for family in text_string_to_metric_families(status)
                for sample in family.samples
            }
            for served in (found, monitor.samples(OPEN_METRICS)):
                assert {(name, labels | {("org", "acme")}) for name, labels in served} >= told

            # Nothing is written while it reads and plans.
            with scene.requests() as asked:
                counted = monitor.sample("plans_total", result="done") or 0
                monitor.until(lambda now: (value(now, "plans_total", result="done") or 0) >= counted + 2)
            assert len(asked) > 10
            assert [request for request in asked if request.writes] == []
            assert held(scene) == before

            changed = scene.info("AGENT_CTO_TASKS")["config"] | {"max_msgs": 77}
            scene.ask("STREAM.UPDATE.AGENT_CTO_TASKS", changed)
            found = monitor.until(lambda now: alarm(now, "drift"))
            assert value(found, "drift_changes", action="update") == 1
            assert value(found, "pending_changes", action="update") == 0
            scene.converge(SMALL)
            monitor.until(lambda now: alarm(now, "drift") == 0)

            server.kill()
            found = monitor.until(lambda now: alarm(now, "unreadable"))
            assert value(found, "up") == 0
            assert [name for name, _ in found if name.startswith(("queue_", "stream_", "drift_"))] == []
            assert (alarm(found, "lag"), alarm(found, "drift")) == (None, None)
            assert (monitor.get("/readyz").code, monitor.get("/healthz").code) == (503, 200)
            server.start()
            found = monitor.until(lambda now: value(now, "up") == 1 and alarm(now, "drift") is not None)
            assert (value(found, "queue_waiting", **QUEUE), alarm(found, "unreadable")) == (6, 0)
            assert monitor.get("/readyz").code == 200
            ended = monitor.end()
    assert (ended.code, ended.out, ended.err) == (0, "", "Stopped.\n")


def term_one(scene: Scenario) -> None:
    """One task has failed for good."""
    publish(scene.api, TASKS, b'{"task_id": "t-1", "title": "Fix it"}')
    term(scene.api, "AGENT_CTO_TASKS/cto-worker", "no such branch")
    until(lambda: scene.info("DEAD_LETTERS")["state"]["messages"] == 1)


def test_an_account_that_loses_its_rights_is_an_alarm_that_ends_when_it_gets_them_back(
    start_server: StartServer, project: Path, tmp_path: Path
) -> None:
    server = start_server(config=config())
    file = server.store_dir / "nats-server.conf"

    def reload(text: str) -> None:
        file.write_text(text, encoding="utf-8")
        os.kill(server.pid, signal.SIGHUP)

    with Scenario(admin_url(server), tmp_path) as scene:
        scene.converge(SMALL)
        with RunningMonitor(*user(server.url, "monitor"), "--timeout", "2s", cwd=project) as monitor:
            monitor.until(lambda now: value(now, "up") == 1)
            for taken in (
                config().replace("{ user: monitor, password: monitor,", "{ user: monitor, password: other,"),
                config().replace('"$JS.API.STREAM.LIST"', '"nothing"'),
                config().replace('"_INBOX.monitor.>"', '"nothing"'),  # which ends a subscription for good
            ):
                assert taken != config()
                reload(taken)
                found = monitor.until(lambda now: alarm(now, "unreadable"))
                assert value(found, "queue_waiting", **QUEUE) is None
                assert monitor.get("/readyz").code == 503
                reload(config())
                monitor.until(lambda now: value(now, "up") == 1)
            assert "monitor:monitor" not in monitor.get("/metrics").text


@pytest.mark.servers(NEWEST)
def test_what_was_read_is_forgotten_while_a_server_answers_too_slowly(
    scenario: Scenario, faults: Faults
) -> None:
    """No request fails, and so no reading does: numbers of minutes ago were shown as if they were of now."""
    scenario.converge(SMALL)
    faults.waits(MONITOR_RETRY_SECONDS=0.1)
    subject = load_status_request(str(scenario.directory / "org.yaml"))
    monitor = Monitor(MonitorRequest(subject, interval=0.0), scenario.target)

    async def seen(holds: Callable[[Observation], object]) -> Observation:
        async for each in monitor.changes():
            if holds(each):
                return each
        raise AssertionError

    async def watched() -> None:
        answers = asyncio.Event()
        answers.set()

        async def slow(request: WireRequest, send: SendWire) -> bytes:
            await answers.wait()
            return await send(request)

        with WIRE_REQUESTS.through(slow):
            reading = asyncio.create_task(monitor.run())
            read = await seen(lambda now: now.status and now.drift)
            assert Condition.UNREADABLE in read.told
            answers.clear()
            late = await seen(lambda now: now.problem)
            assert late.problem is not None
            assert late.problem.code == "slow-reading"
            assert (late.status, late.drift, [alarm.code for alarm in late.alarms]) == (
                None,
                None,
                [Condition.UNREADABLE],
            )
            answers.set()
            well = await seen(lambda now: now.status)
            assert (well.problem, well.readings.failed, well.alarms) == (None, 0, ())
            reading.cancel()
            await asyncio.wait([reading])

    asyncio.run(watched())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[EmbeddedServer]]:
    with running_cluster(tmp_path, NEWEST) as servers:
        yield servers


def test_in_a_cluster_it_goes_on_after_elections_and_after_a_server_has_died(
    cluster: list[EmbeddedServer], project: Path, tmp_path: Path
) -> None:
    manifest = SMALL + "defaults: {replicas: 3}\n"
    (project / "org.yaml").write_text(manifest, encoding="utf-8")
    urls = ",".join(server.url for server in cluster)

    def done(now: Samples) -> float:
        return value(now, "readings_total", result="done") or 0

    with Scenario(cluster[1].url, tmp_path) as scene:
        scene.converge(manifest)
        for _ in range(6):
            publish(scene.api, TASKS)
        with RunningMonitor("--server", urls, "--no-context", cwd=project) as monitor:
            monitor.until(lambda now: value(now, "up") == 1)
            scene.ask("STREAM.LEADER.STEPDOWN.AGENT_CTO_TASKS")
            scene.ask("CONSUMER.LEADER.STEPDOWN.AGENT_CTO_TASKS.cto-worker")
            lead_by_another(cluster, meta_leader(cluster))
            before = done(monitor.samples())
            found = monitor.until(lambda now: done(now) >= before + 2)
            assert alarm(found, "unreadable") == 0
            cluster[0].kill()  # the first of the URLs: this is where it is connected
            # A reading during an election has no number of a consumer that nobody leads.
            found = monitor.until(
                lambda now: (
                    value(now, "up") == 1
                    and alarm(now, "replicas")
                    and value(now, "queue_waiting", **QUEUE) is not None
                )
            )
            assert value(found, "queue_waiting", **QUEUE) == 6
            cluster[0].start()
            monitor.until(lambda now: value(now, "up") == 1 and alarm(now, "replicas") == 0)
            assert monitor.end().code == 0
