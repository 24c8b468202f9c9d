"""A replaced stream carries its messages over: nothing acknowledged is lost, nothing is worked on twice, whatever dies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scene import Request, Scene
from servers import NEWEST, VERSIONS, StartServer
from traffic import Publisher, Worker, eventually

from cyborg_infra import pipeline
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.plan import Action, Done
from cyborg_infra.model.state import TEMPORARY

STREAM, WORKER = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"
SUBJECT = "acme.agents.cto.tasks"
PRELOADED = 2000
SINCE = "2.12.8"
MOVING = tuple(
    version
    for version in (VERSIONS if "CYBORG_INFRA_TEST_SERVERS" in os.environ else (NEWEST, SINCE))
    if tuple(map(int, version.split("."))) >= (2, 12, 0)
)
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
    "first_seq": ("first_seq: 5", "max_msgs: 100000"),
    "everything": ("storage: file", "storage: memory, max_age: 48h, deny_delete: true, deny_purge: true"),
}


class Killed(Exception):  # noqa: N818 - what it is
    """The tool died here."""


def manifest(settings: str) -> str:
    return (
        f"org: acme\nroles: [cto]\nstreams: {{tasks: {{{settings}}}}}\nconsumers: {{worker: {{max_ack_pending: 20}}}}\n"
    )


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


def is_worked_off(scene: Scene) -> bool:
    info = scene.info(WORKER)
    return info["num_pending"] == info["num_ack_pending"] == 0


def assert_books_balance(scene: Scene, old: list[str], publisher: Publisher, worker: Worker) -> None:
    """With the publisher stopped: everything acknowledged was worked on, once."""
    wanted = {*old, *publisher.acknowledged}
    assert eventually(lambda: is_worked_off(scene) and wanted <= worker.worked.keys()), sorted(
        wanted - worker.worked.keys()
    )[:20]
    assert [name for name, times in worker.worked.items() if times > 1] == []


def assert_in_sync(scene: Scene, text: str) -> None:
    assert not scene.plan(scene.wish(text))
    assert [ref for ref in scene.refs() if TEMPORARY in ref or "placeholder" in ref] == []
    assert scene.info(WORKER).get("paused", False) is False


@pytest.mark.parametrize(("before", "after"), FIELDS.values(), ids=FIELDS)
def test_agents_go_on_while_a_field_that_cannot_change_is_changed(
    scene: Scene, before: str, after: str
) -> None:
    scene.converge(manifest(before))
    old = preload(scene, PRELOADED)
    wish = scene.wish(manifest(after))
    with Worker(scene.url, WORKER) as worker:
        with Publisher(scene.url, SUBJECT) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > 20)
            plan = scene.plan(wish)
            assert [change.action for change in plan.changes if str(change.ref) == STREAM] == [Action.REPLACE]
            allowed = ("deletes-messages",) if "to interest" in after else ()
            allow = {hazard.name for hazard in plan.hazards}
            outcomes = scene.apply(wish, plan, allow=tuple(allow))
            assert [outcome.problem for outcome in outcomes if outcome.problem] == []
            seen = len(publisher.acknowledged)
            assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
        assert_books_balance(scene, old, publisher, worker)
    assert allow <= {"deletes-messages"} or not allowed
    print("OUTAGE", f"{publisher.outage * 1000:.0f} ms", len(publisher.acknowledged))
    assert_in_sync(scene, manifest(after))


class Fault:
    """Something that happens at the n-th request of ours that changes anything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, happens: Callable[[], None]) -> None:
        self.reached = 0
        original = JetStream.call

        async def call(server: JetStream, verb: str, *args: Any, **named: Any) -> dict[str, Any]:
            if not Request(verb, None).writes or "CONSUMER.NAMES" in verb:
                return await original(server, verb, *args, **named)
            self.reached += 1
            if self.reached == step:
                happens()
            return await original(server, verb, *args, **named)

        monkeypatch.setattr(JetStream, "call", call)


def apply_until_done(scene: Scene, wish: pipeline.Wish) -> int:
    """How many applies it took. What has begun needs no more permission."""
    for attempt in range(1, 4):
        plan = scene.plan(wish)
        begun = any(TEMPORARY in ref for ref in scene.refs())
        assert not (begun and plan.hazards)
        assert not plan.impossible
        with suppress(Killed):
            outcomes = scene.apply(wish, plan)
            if all(outcome.done is Done.DONE for outcome in outcomes):
                return attempt
    raise AssertionError([outcome.problem for outcome in outcomes])


def interrupted(scene: Scene, before: str, after: str) -> None:
    """The whole scene around one interrupted replace."""
    scene.converge(manifest(before))
    old = preload(scene, 200)
    wish = scene.wish(manifest(after))
    with Worker(scene.url, WORKER) as worker:
        with Publisher(scene.url, SUBJECT) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > 20)
            apply_until_done(scene, wish)
            seen = len(publisher.acknowledged)
            assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
        assert_books_balance(scene, old, publisher, worker)
    assert_in_sync(scene, manifest(after))


@pytest.mark.parametrize("step", range(1, 27))
@pytest.mark.parametrize(
    ("version", "before", "after"),
    [(NEWEST, "storage: file", "storage: memory"), (SINCE, "retention: workqueue", "retention: interest")],
    ids=["storage", "retention"],
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
    def die() -> None:
        raise Killed

    with Scene(start_server(version=version).url, tmp_path) as scene:
        scene.converge(manifest(before))
        Fault(monkeypatch, step, die)
        interrupted(scene, before, after)


@pytest.mark.parametrize("step", range(1, 25, 2))
def test_the_server_killed_at_any_step_loses_nothing(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    server = start_server()

    def die() -> None:
        server.kill()
        server.start()
        scene.reconnect()

    with Scene(server.url, tmp_path) as scene:
        scene.converge(manifest("retention: workqueue"))
        Fault(monkeypatch, step, die)
        interrupted(scene, "retention: workqueue", "retention: limits")
