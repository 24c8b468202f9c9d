"""A server that is killed while it writes a stream's configuration passes the stream over when it starts (2.10 to 2.15).

Its files are left. An apply that updated a stream just then has to bring it back: without that, a rename that was
killed so ended with an empty stream, and said that all is as wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.problems import CyborgError
from tests.support.faults import Faults, Send
from tests.support.scenario import EVERY_HAZARD, Scenario
from tests.support.servers import NEWEST, OLDEST, StartServer
from tests.support.traffic import Publisher, Worker, eventually

WAITING = 40
APPLIES = 6  # until all is as wanted
# Update; moves begin at different ones.
EVERY = 1 if os.environ.get("CYBORG_INFRA_TEST_FAULTS") == "all" else 2
MOVES = [
    (NEWEST, "workqueue", "cto", "limits"),
    (NEWEST, "limits", "cto", "workqueue"),
    (NEWEST, "workqueue", "dev", "workqueue"),
    (NEWEST, "interest", "dev", "interest"),
    (OLDEST, "limits", "cto", "workqueue"),
    (OLDEST, "limits", "dev", "limits"),
]


class Dead(Exception):
    """The end of whoever applies."""


class Torn:
    """The server dies in the middle of writing what the `at`-th update of a stream of the role asks for."""

    def __init__(self, server: EmbeddedServer, faults: Faults, at: int, *, dies: bool) -> None:
        """`dies`: so does the tool."""
        self.verb, self._left = "", at

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            verb = request.verb
            self._left -= verb.startswith("STREAM.UPDATE.") and verb.endswith("_TASKS")
            if self._left == 0 and not self.verb:
                self.verb = verb
                await asyncio.to_thread(self._crash, server, verb.removeprefix("STREAM.UPDATE."))
                if dies:
                    raise Dead
            return await send(request)

        faults.intercept(call)

    @staticmethod
    def _crash(server: EmbeddedServer, stream: str) -> None:
        server.kill()
        written = server.store_dir / "jetstream" / "$G" / "streams" / stream / "meta.inf"
        assert written.exists()
        written.write_bytes(b"")
        server.start()


def manifest(role: str, retention: str) -> str:
    renamed = {"renamed_from": "cto"} if role != "cto" else {}
    body = {"tasks": {"retention": retention}, "worker": {"ack_wait": "3s"}, **renamed}
    return json.dumps({"org": "acme", "roles": {role: body}})


def converge(scenario: Scenario, text: str) -> None:
    """Apply and apply again, as people do, until nothing is left to do."""
    for _ in range(APPLIES):
        with contextlib.suppress(CyborgError, Dead):
            wish = scenario.request(text)
            if not (plan := scenario.plan(wish)):
                return
            scenario.apply(wish, plan, allow=EVERY_HAZARD)
    raise AssertionError(scenario.plan(scenario.request(text)).changes)


@pytest.mark.parametrize(
    ("version", "before", "role", "after", "first"),
    [(*move, 1 + at % EVERY) for at, move in enumerate(MOVES)],
)
def test_what_a_killed_server_has_forgotten_is_brought_back(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    version: str,
    before: str,
    role: str,
    after: str,
    first: int,
) -> None:
    """Whichever update it was, and whether or not the tool dies as well: every task is worked on, by whoever works next."""
    for at in range(first, 20, EVERY):
        server = start_server(version=version)
        with Scenario(server.url, tmp_path) as scene, faults.context() as patched:
            scene.converge(manifest("cto", before))
            for number in range(WAITING):
                scene.api.request("acme.agents.cto.tasks", number)
            torn = Torn(server, patched, at, dies=at // EVERY % 2 == 0)
            with Publisher(server.url, "acme.agents.cto.tasks", pause=0.004) as publisher:
                assert eventually(lambda: len(publisher.acknowledged) > WAITING)
                converge(scene, manifest(role, after))
            if not torn.verb:
                assert at > 5
                return
            wanted = {*map(str, range(WAITING)), *publisher.acknowledged}
            with Worker(server.url, f"AGENT_{role.upper()}_TASKS/{role}-worker") as worker:
                assert eventually(partial(wanted.issubset, worker.worked)), (
                    f"lost {len(wanted - set(worker.worked))} of {len(wanted)} at {at}, {torn.verb}"
                )
        server.kill()
    raise AssertionError("an apply has more updates than that")
