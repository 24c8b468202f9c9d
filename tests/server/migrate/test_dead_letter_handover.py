"""DEAD_LETTERS is handed over from one stream to another in one write, and what comes just then is stored once."""

from __future__ import annotations

import base64
import json
import queue
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.api.jetstream import connect_account
from cyborg_infra.live.execute import advisories
from cyborg_infra.live.interception import ApiRequest, WireRequest
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.model.status import Condition
from cyborg_infra.operations import status as operation
from cyborg_infra.operations.event_loop import run_coroutine
from tests.server.migrate.test_dead_letter_order import CHANGES, OLD, REPLACED, entries, notices
from tests.server.migrate.test_migration import Killed
from tests.support.agents import publish, term, until
from tests.support.faults import Faults, SendJoint, SendWire
from tests.support.nats_client import Api
from tests.support.scenario import Scenario
from tests.support.servers import VERSIONS, StartServer

MANIFESTS = {"prefix": CHANGES["prefix"], "storage": REPLACED}
HANDED_IN = "acme.org.deadletter"
TASKS, WORKER = "acme.agents.cto.tasks", "cto-worker"


@pytest.fixture(params=VERSIONS)
def scene(request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(start_server(version=request.param).url, tmp_path) as found:
        found.converge(OLD)
        yield found


@contextmanager
def handing_in(url: str) -> Iterator[list[bytes]]:
    """Return what an agent has handed in that was acknowledged; it tries again what was refused."""
    stored: list[bytes] = []
    stop = threading.Event()

    def run() -> None:
        with Api(url) as api:
            number = 0
            while not stop.is_set():
                letter = b"letter %d" % number
                try:
                    api.ask(HANDED_IN, letter, timeout=1)
                except RuntimeError:  # no responders
                    continue
                except queue.Empty:  # on its way in a cluster: whether it is stored, nobody says
                    pass
                else:
                    stored.append(letter)
                number += 1
                stop.wait(0.003)  # DEAD_LETTERS keeps the newest 10,000

    agent = threading.Thread(target=run)
    agent.start()
    try:
        yield stored
    finally:
        stop.set()
        agent.join()


@pytest.mark.parametrize("change", MANIFESTS)
def test_what_is_handed_in_meanwhile_is_there_once(scene: Scenario, change: str) -> None:
    wish = scene.request(MANIFESTS[change], prune=True)
    plan = scene.plan(wish)
    with handing_in(scene.url) as stored:
        until(lambda: len(stored) > 50)
        outcomes = scene.apply(wish, plan)
        before = len(stored)
        until(lambda: len(stored) > before)
    assert {outcome.status for outcome in outcomes} == {ResultStatus.SUCCEEDED}
    held = Counter(entries(scene))
    assert {letter: held[letter] for letter in stored if held[letter] != 1} == {}
    assert not scene.plan(wish)


def hands_over(verbs: Sequence[str]) -> bool:
    return all("DEAD_LETTERS" in verb for verb in verbs)


def dying_after(faults: Faults, sent: int, answers: list[Any]) -> None:
    """The tool dies when the first handover was sent, or this many of its requests: a network can cut between two."""

    async def die(requests: Sequence[ApiRequest], send: SendJoint) -> list[Any]:
        assert hands_over([request.verb for request in requests])
        answers.extend(await send(requests[:sent]))
        raise Killed

    faults.intercept_joint(die)


def fails_for_good(scene: Scenario) -> str:
    """One task of whichever stream has them fails, and is left to tell of; returns its consumer."""
    (tasks,) = (ref for ref in scene.refs() if ref.endswith("AGENT_CTO_TASKS"))
    publish(scene.api, TASKS, b"will fail")
    term(scene.api, f"{tasks}/{WORKER}")
    return f"{tasks}/{WORKER}"


@pytest.mark.parametrize("change", MANIFESTS)
def test_a_tool_that_dies_right_after_its_write_leaves_somebody_who_listens(
    scene: Scenario, faults: Faults, change: str
) -> None:
    """Unless the server was so quick to look at the second request that the first was not done yet: then `status` tells."""
    wish = scene.request(MANIFESTS[change], prune=True)
    answers: list[Any] = []
    with faults.context() as patched, suppress(Killed):
        dying_after(patched, 2, answers)
        scene.apply(wish)
    done = [not isinstance(answer, Exception) for answer in answers]
    assert done in ([True, True], [True, False])
    if scene.api.info["version"].startswith("2.10."):
        assert done == [True, True]  # a single server carries out one after the other
    if all(done):
        assert "no stream stores" not in alarm(scene)
        failed = fails_for_good(scene)
        until(lambda: failed in notices(scene))
    else:
        assert "no stream stores" in alarm(scene)
    scene.converge(MANIFESTS[change], prune=True)
    failed = fails_for_good(scene)
    until(lambda: failed in notices(scene))
    assert not scene.plan(wish)


def alarm(scene: Scenario) -> str:
    """Return what `status` says of the unfinished change."""
    told = operation.status(operation.load_status_request(str(scene.directory / "org.yaml")), scene.target)
    return "; ".join(each.message for each in told.alarms if each.code is Condition.UNFINISHED)


def test_where_nobody_listens_status_and_plan_say_so(scene: Scenario, faults: Faults) -> None:
    publish(scene.api, HANDED_IN, b"before")
    wish = scene.request(CHANGES["prefix"], prune=True)
    assert any("killed in that moment" in note for note in scene.plan(wish).notes)
    with faults.context() as patched, suppress(Killed):
        dying_after(patched, 1, [])
        scene.apply(wish)
    assert "no stream stores" in alarm(scene)
    with pytest.raises(RuntimeError):
        publish(scene.api, HANDED_IN, b"refused")
    assert any("since the apply was interrupted" in note for note in scene.plan(wish).notes)
    scene.converge(CHANGES["prefix"], prune=True)
    assert not alarm(scene)
    publish(scene.api, HANDED_IN, b"after")
    assert entries(scene) == [b"before", b"after"]
    assert not scene.plan(wish)


def notice(number: int, kind: str) -> bytes:
    said = {"type": f"io.nats.jetstream.advisory.v1.{kind}", "id": f"notice {number}", "stream_seq": number}
    return json.dumps({**said, "stream": "TASKS", "consumer": "worker"}).encode()


NOTICES = {"MAX_DELIVERIES": notice(1, "max_deliver"), "MSG_TERMINATED": notice(2, "terminated")}
TRANSFORM = {"src": advisories.EVERY, "dest": "acme.org.deadletter.{{wildcard(2)}}.{{wildcard(3)}}"}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_origin_took_in_last_is_stored_once_however_often_it_is_interrupted(
    start_server: StartServer, tmp_path: Path, faults: Faults, version: str
) -> None:
    """Also where the copy has the same words of an earlier letter, or has some of the rest already."""
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        is_mirror = Capability.PROMOTE_MIRROR.since <= Version.parse(version)
        told = [f"$JS.EVENT.ADVISORY.CONSUMER.{event}.TASKS.*" for event in NOTICES]
        ingest = {"subjects": [*told, HANDED_IN], "subject_transform": TRANSFORM}
        scene.ask("STREAM.CREATE.ORIGIN", {"name": "ORIGIN", **ingest})
        publish(scene.api, HANDED_IN, b"same")
        source = {"mirror": {"name": "ORIGIN"}} if is_mirror else {"sources": [{"name": "ORIGIN"}]}
        scene.ask("STREAM.CREATE.COPY", {"name": "COPY", **source})
        until(lambda: scene.info("COPY")["state"]["messages"] == 1)
        first = publish(scene.api, HANDED_IN, b"copied as well")
        until(lambda: scene.info("COPY")["state"]["messages"] == 2)
        scene.ask("STREAM.UPDATE.COPY", {"name": "COPY", "subjects": ["_parked.COPY"]})  # copies no more
        for event, data in NOTICES.items():
            publish(scene.api, f"$JS.EVENT.ADVISORY.CONSUMER.{event}.TASKS.worker", data)
        scene.api.ask(HANDED_IN, b"first", headers={"Reason": "broken", "Nats-Expected-Stream": "ORIGIN"})
        for _ in range(2):
            publish(scene.api, HANDED_IN, b"same")
        scene.ask("STREAM.UPDATE.ORIGIN", {"name": "ORIGIN", "subjects": ["_parked.ORIGIN"]})
        scene.ask("STREAM.UPDATE.COPY", {"name": "COPY", **ingest})
        publish(scene.api, "_parked.ORIGIN")  # an end marker
        publish(scene.api, HANDED_IN, b"of its own")
        sent = 0

        async def interrupted(request: WireRequest, send: SendWire) -> bytes:
            nonlocal sent
            sent += not request.subject.startswith("$JS.API.")  # a message
            if sent % 2 == 0 and not request.subject.startswith("$JS.API."):
                raise Killed
            return await send(request)

        faults.intercept_wire(interrupted)

        async def carry() -> None:
            async with connect_account(scene.target) as server:
                copy = await server.info(Ref("COPY"))
                assert copy is not None
                await advisories.store_rest(server, Ref("ORIGIN"), copy, first, keeps_numbers=is_mirror)

        for _ in range(10):
            with suppress(Killed):
                run_coroutine(carry())
        last = scene.info("COPY")["state"]["last_seq"]
        held = [scene.ask("STREAM.MSG.GET.COPY", {"seq": number})["message"] for number in range(1, last + 1)]
        contents = [base64.b64decode(each.get("data", "")) for each in held]
        before = [b"same", b"copied as well", b"of its own"]
        assert contents == [*before, *NOTICES.values(), b"first", b"same", b"same"]
        assert {each["subject"] for each in held[3:5]} == {"acme.org.deadletter.TASKS.worker"}
        assert b"Reason: broken" in base64.b64decode(held[5]["hdrs"])
