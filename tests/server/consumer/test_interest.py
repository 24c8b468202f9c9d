"""An interest stream forgets what nobody waits for: so somebody always does, while it and its consumers come and change."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import ApiRequest
from tests.server.migrate.test_migration import PROMOTING, Killed, die_at
from tests.support.faults import Faults, Send
from tests.support.scenario import Request, Scenario, acked, published
from tests.support.servers import NEWEST, StartServer

SUBJECT, STREAM, WORKER = "acme.agents.cto.tasks", "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"


def manifest(tasks: str = "", worker: str = "") -> str:
    """Return one role, whose tasks have interest retention."""
    return f"org: acme\nroles: [cto]\nstreams: {{tasks: {{retention: interest{tasks}}}}}\nconsumers: {{worker: {{max_ack_pending: 100{worker}}}}}\n"


def publish(scenario: Scenario, count: int) -> None:
    for _ in range(count):
        assert "seq" in scenario.api.ask(SUBJECT, b"x").json


def test_what_waits_for_a_consumer_that_has_never_begun_outlives_its_replace(scenario: Scenario) -> None:
    scenario.converge(manifest())
    publish(scenario, 5)
    scenario.converge(manifest(worker=", max_waiting: 64"))
    assert scenario.info(STREAM)["state"]["messages"] == 5
    assert scenario.info(WORKER)["num_pending"] == 5


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "storage: file"), ("storage: memory", "storage: file")],
    ids=["created", "replaced"],
)
def test_nothing_is_acknowledged_before_somebody_waits_for_it(
    scenario: Scenario, faults: Faults, before: str, after: str
) -> None:
    """Whoever publishes between any two of our writes is refused, or heard."""
    if before:
        scenario.converge(manifest(f", {before}"))
    acknowledged = heard_between_writes(scenario, faults)
    scenario.converge(manifest(f", {after}"))
    assert acknowledged
    assert scenario.info(WORKER)["num_pending"] == len(acknowledged)


@pytest.mark.parametrize("step", range(1, 15))
def test_nothing_is_acknowledged_before_that_where_the_tool_dies_at_any_step(
    scenario: Scenario, faults: Faults, step: int
) -> None:
    """The next apply finds a stream that takes nothing in yet, and opens it once somebody waits."""
    with faults.context() as patched, suppress(Killed):
        die_at(patched, step)
        scenario.converge(manifest())
    acknowledged = heard_between_writes(scenario, faults)
    scenario.converge(manifest(", max_age: 50h"))
    assert acknowledged
    assert scenario.info(WORKER)["num_pending"] == len(acknowledged)


def heard_between_writes(scenario: Scenario, faults: Faults) -> list[int]:
    """Somebody publishes after each of our writes; the numbers of what was acknowledged."""
    acknowledged = list[int]()

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        answer = await send(request)
        if Request(verb, None).writes:
            with suppress(RuntimeError):  # nobody stores it yet
                told = scenario.api.ask(SUBJECT, b"x").json
                acknowledged.extend([told["seq"]] if "seq" in told else [])
        return answer

    faults.intercept(call)
    return acknowledged


def test_a_stream_that_turns_to_interest_keeps_what_a_new_consumer_shall_have(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    """As after a replace of a workqueue's consumer that was interrupted between its deletion and its creation."""
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(manifest().replace("interest", "workqueue"))
        publish(scene, 5)
        scene.ask(f"CONSUMER.DELETE.{WORKER.replace('/', '.')}")
        scene.converge(manifest())
        assert scene.info(STREAM)["state"]["messages"] == 5
        assert scene.info(WORKER)["num_pending"] == 5
        assert not scene.plan(scene.request(manifest()))


@pytest.mark.parametrize("version", [NEWEST, PROMOTING])
def test_a_mark_at_the_end_is_stored_although_every_consumer_filters_it_out(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    """The mirror that waits for the end waits for every message, so the stream keeps the mark until it has it."""

    def events(storage: str) -> str:
        return (
            "org: acme\nroles: [cto, dev]\n"
            "events: {job.seen: {publishers: [dev], subscribers: [cto], durable: true}, job.unseen: {publishers: [dev], durable: true}}\n"
            f"streams: {{events: {{retention: interest, storage: {storage}}}}}\n"
        )

    with Scenario(start_server(version=version).url, tmp_path) as scene:
        scene.converge(events("file"))
        published("acme.events.job.seen", 5)(scene)
        acked("ORG_EVENTS/cto-event-reader", 3)(scene)
        published("acme.events.job.unseen", 3)(scene)  # gone at once: the last number is of no message
        assert scene.config("ORG_EVENTS/cto-event-reader")["filter_subject"] == "acme.events.job.seen"
        scene.converge(events("memory"))
        state = scene.info("ORG_EVENTS")["state"]
        assert (state["messages"], state["last_seq"]) == (2, 9)  # and one number for the mark
        assert scene.info("ORG_EVENTS/cto-event-reader")["num_pending"] == 2
