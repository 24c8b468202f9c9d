"""Before 2.11 a consumer that is replaced is stopped; a server that is killed then may forget what it had handed out last.

It writes the state of a consumer some time after it has changed. What it has forgotten is open nowhere: once what it
knows of is finished, its ack floor goes to the end, past what agents are still at work on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.problems import CyborgError
from tests.support.agents import until
from tests.support.faults import Faults, Send
from tests.support.scenario import Request, Scenario, changed, published
from tests.support.servers import OLDEST, StartServer

STREAM = "AGENT_CTO_TASKS"
WORKER = f"{STREAM}/cto-worker"
PUBLISHED, FINISHED, KNOWN, HANDED_OUT = 50, 8, 10, 12
PULL = {"batch": 20, "no_wait": True}


class Died(Exception):
    """The end of the tool; no error that it knows of."""


class Forgetful:
    """A server that was killed knows no more of the worker than what it had on its disk when this was made."""

    def __init__(self, server: EmbeddedServer, scenario: Scenario, kept: Path) -> None:
        self._server, self._scene, self._kept = server, scenario, kept
        self.had_stopped = False  # whether the worker was when the server was killed
        self._state = (
            server.store_dir / "jetstream" / "$G" / "streams" / STREAM / "obs" / "cto-worker" / "o.dat"
        )
        server.stop()  # in order, so that it has written all that it knows
        shutil.copy(self._state, kept)
        self._start()

    def crash(self) -> None:
        """It is killed, and back; then agents finish what it knows of."""
        self.had_stopped = "_parked" in self._scene.config(WORKER)["filter_subject"]
        self._server.kill()
        shutil.copy(self._kept, self._state)
        self._start()
        last = self._scene.info(STREAM)["state"]["last_seq"]

        def floor_is_at_the_end() -> bool:
            handed_out(self._scene)
            return bool(self._scene.info(WORKER)["ack_floor"]["stream_seq"] == last)

        until(floor_is_at_the_end)

    def _start(self) -> None:
        self._server.start()
        self._scene.reconnect()


_pulls = itertools.count()


def handed_out(scenario: Scenario, most: int = 20, *, answer: bool = True) -> list[int]:
    """Return the sequence numbers of the tasks that one pull brings."""
    found = []
    inbox = scenario.api.subscribe(f"handed.{next(_pulls)}")
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{WORKER.replace('/', '.')}"
    scenario.api.publish(subject, json.dumps(PULL | {"batch": most}).encode(), reply=inbox.subject)
    for _ in range(most):
        message = inbox.next()
        if not message.reply:
            break
        found.append(int(message.reply.split(".")[5]))
        if answer:
            scenario.api.ask(message.reply, b"+ACK")
    return found


@contextlib.contextmanager
def at_write(number: int, faults: Faults, forgetful: Forgetful, *, dies: bool) -> Iterator[None]:
    """Return the server crashes after the tool's write of this number, at which the tool `dies`, or goes on with what comes up then."""
    written = 0

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        nonlocal written
        answer = await send(request)
        if Request(verb, None).writes:
            written += 1
            if written == number:
                await asyncio.to_thread(forgetful.crash)
                if dies:
                    raise Died
        return answer

    with faults.context() as patched:
        patched.intercept(call)
        yield


def manifest(retention: str, **worker: object) -> str:
    role = {"tasks": {"retention": retention}, "worker": {"max_ack_pending": 20, **worker}}
    return json.dumps({"org": "acme", "roles": {"cto": role}})


@pytest.mark.parametrize(
    ("retention", "number", "dies"),
    [
        ("limits", 2, True),  # stopped
        ("limits", 3, False),  # and noted
        ("interest", 3, True),
        ("limits", 4, True),  # about to be deleted
    ],
)
def test_what_a_killed_server_forgets_of_a_stopped_consumer_is_handed_out_again(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    retention: str,
    number: int,
    dies: bool,  # noqa: FBT001 - pytest's
) -> None:
    """What was open and forgotten is lost to nobody, and what comes again with it was announced."""
    server = start_server(version=OLDEST)
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(manifest(retention))
        published("acme.agents.cto.tasks", PUBLISHED)(scene)
        assert handed_out(scene, FINISHED) == list(range(1, FINISHED + 1))
        handed_out(scene, KNOWN - FINISHED, answer=False)
        forgetful = Forgetful(server, scene, tmp_path / "o.dat")
        assert handed_out(scene, HANDED_OUT - KNOWN, answer=False) == [KNOWN + 1, HANDED_OUT]
        changed(WORKER, ack_wait=300_000_000)(scene)  # so that agents are handed again soon what it knows of
        wish, announced = scene.request(manifest(retention, ack_wait="300ms", max_waiting=64)), 0
        plan = scene.plan(wish)
        announced += sum(hazard.count for hazard in plan.hazards)
        with at_write(number, faults, forgetful, dies=dies), contextlib.suppress(Died, CyborgError):
            scene.apply(wish, plan)
        assert forgetful.had_stopped
        if plan := scene.plan(wish):
            announced += sum(hazard.count for hazard in plan.hazards)
            scene.apply(wish, plan)
        assert not scene.plan(wish)
        came = set[int]()
        while any(scene.info(WORKER)[count] for count in ("num_pending", "num_ack_pending")):
            came |= set(handed_out(scene))
        assert came >= set(range(KNOWN + 1, PUBLISHED + 1)), "handed out to nobody"
        assert len([task for task in came if task <= HANDED_OUT]) <= announced


def test_what_was_finished_before_the_stop_and_is_forgotten_is_announced_before_it_comes_again(
    start_server: StartServer, tmp_path: Path, faults: Faults
) -> None:
    """Agents finish more between the last look and the stop than the plan announced, and the server forgets it: the apply says so."""
    server = start_server(version=OLDEST)
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(manifest("limits"))
        published("acme.agents.cto.tasks", PUBLISHED)(scene)
        assert handed_out(scene, FINISHED) == list(range(1, FINISHED + 1))
        handed_out(scene, KNOWN - FINISHED, answer=False)
        forgetful = Forgetful(server, scene, tmp_path / "o.dat")
        changed(WORKER, ack_wait=300_000_000)(scene)  # so that agents are handed again soon what it knows of
        wish = scene.request(manifest("limits", ack_wait="300ms", max_waiting=64))
        plan = scene.plan(wish)
        (first,) = plan.hazards
        written = 0

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            nonlocal written
            verb = request.verb
            written += Request(verb, None).writes
            if Request(verb, None).writes and written == 3:  # the stop, behind the placeholder
                for _ in range(3):
                    await asyncio.to_thread(handed_out, scene, 12)
            answer = await send(request)
            if Request(verb, None).writes and written == 4:  # up to where it was is noted
                await asyncio.to_thread(forgetful.crash)
            return answer

        with faults.context() as patched:
            patched.intercept(call)
            (failed,) = [done.problem for done in scene.apply(wish, plan) if done.problem]
        assert (forgetful.had_stopped, failed.code) == (True, "not-drained")
        again = scene.plan(wish)
        (second,) = again.hazards
        assert second.count > first.count
        scene.apply(wish, again)
        assert not scene.plan(wish)
        came = set[int]()
        while any(scene.info(WORKER)[count] for count in ("num_pending", "num_ack_pending")):
            came |= set(handed_out(scene))
        assert came >= set(range(KNOWN + 1, PUBLISHED + 1))
        handed_out_before = second.count_queries[0].limit
        assert first.count < len([task for task in came if task <= handed_out_before]) <= second.count
