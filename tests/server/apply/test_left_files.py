"""A stream whose files a deletion has left behind comes back with its messages (2.10 to 2.15): nobody takes them for new ones.

A server moves a deleted stream to `.NAME` and removes it behind its answer. While one of that name is still there, the
next deletion of the stream answers OK and leaves the files, and the next stream of that name has what was in them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.api import idempotent
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import NoReply
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.plan import Outcome
from cyborg_infra.model.ref import Ref, temporary_stream
from tests.support.agents import until
from tests.support.faults import Faults, Send
from tests.support.lost_replies import LostReply
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST, OLDEST, StartServer

STREAM = "AGENT_CTO_TASKS"
SUBJECT = "acme.agents.cto.tasks"
STALE = 5
CREATED = [str(temporary_stream(Ref(STREAM))), STREAM]
MOVES = [
    *((version, "limits", "workqueue") for version in (NEWEST, "2.12.8", OLDEST)),
    *((version, "workqueue", "limits") for version in (NEWEST, "2.11.11")),  # before, none is moved
]


class Killed(Exception):
    """The end of whoever applies."""


@pytest.fixture(params=[NEWEST, "2.12.8", OLDEST])
def server(request: pytest.FixtureRequest, start_server: StartServer) -> EmbeddedServer:
    return start_server(version=str(request.param))


@pytest.fixture
def scenario(server: EmbeddedServer, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(server.url, tmp_path) as prepared:
        yield prepared


def in_the_way(server: EmbeddedServer, name: str) -> Path:
    """Return what keeps the server from moving the next stream of this name aside when it is deleted."""
    held = server.store_dir / "jetstream" / "$G" / "streams" / f".{name}"
    (held / "held").mkdir(parents=True)
    return held


def leave_files(scenario: Scenario, server: EmbeddedServer, name: str) -> Path:
    """Return the next stream of this name has five messages, and so on as long as what is returned is there."""
    held = in_the_way(server, name)
    scenario.ask(f"STREAM.CREATE.{name}", {"name": name, "subjects": ["stale"], "storage": "file"})
    for number in range(STALE):
        scenario.api.request("stale", f"stale-{number}")
    scenario.ask(f"STREAM.DELETE.{name}")
    assert (
        scenario.ask(f"STREAM.CREATE.{name}", {"name": name, "storage": "file"})["state"]["messages"] == STALE
    )
    scenario.ask(f"STREAM.DELETE.{name}")
    return held


def leave(scenario: Scenario, server: EmbeddedServer, name: str) -> Path:
    """Return the stream that a move creates under this name begins with messages: somebody's, or its own from before."""
    return in_the_way(server, name) if name == STREAM else leave_files(scenario, server, name)


def converge_while_removed(scenario: Scenario, text: str, held: Path) -> None:
    """The server has removed what stands in the way once a stream that begins with files was deleted again."""
    delete = idempotent.delete

    async def delete_and_remove(server: JetStream, ref: Ref) -> None:
        await delete(server, ref)
        shutil.rmtree(held, ignore_errors=True)

    with pytest.MonkeyPatch.context() as patched, Faults.opened() as faults:
        patched.setattr(idempotent, "delete", delete_and_remove)
        faults.waits(REMOVAL_BACKOFF_SECONDS=(0.0,) * 9)
        scenario.converge(text)


def manifest(retention: str) -> str:
    return f"org: acme\nroles: [cto]\nstreams: {{tasks: {{retention: {retention}}}}}\n"


def stored(scenario: Scenario) -> list[str]:
    """Return the payloads in the stream, in order."""
    state = scenario.info(STREAM)["state"]
    answers = (
        scenario.api.request(f"$JS.API.STREAM.MSG.GET.{STREAM}", {"seq": number})
        for number in range(state["first_seq"], state["last_seq"] + 1)
    )
    found = [answer["message"] for answer in answers if "message" in answer]
    return [
        json.loads(base64.b64decode(message["data"])) for message in found if message["subject"] == SUBJECT
    ]


def fill(scenario: Scenario, retention: str) -> list[str]:
    """Twenty tasks wait for the worker."""
    scenario.converge(manifest(retention))
    names = [f"task-{number}" for number in range(20)]
    for name in names:
        scenario.api.request(SUBJECT, name)
    return names


@pytest.fixture
def tasks(scenario: Scenario) -> list[str]:
    """Return what waits for the worker."""
    return fill(scenario, "limits")


@pytest.mark.parametrize("name", CREATED, ids=["temporary", "new"])
def test_a_migration_waits_until_its_copies_begin_empty(
    scenario: Scenario, server: EmbeddedServer, tasks: list[str], name: str
) -> None:
    """Otherwise the first of the tasks would be taken for copied already: five were lost."""
    held = leave(scenario, server, name)
    converge_while_removed(scenario, manifest("workqueue"), held)
    assert stored(scenario) == tasks


@pytest.mark.parametrize("name", CREATED, ids=["temporary", "new"])
@pytest.mark.parametrize(("server", "before", "after"), MOVES, indirect=["server"])
def test_a_copy_begins_empty_also_where_the_answer_that_says_so_is_lost(
    scenario: Scenario,
    server: EmbeddedServer,
    faults: Faults,
    name: str,
    before: str,
    after: str,
) -> None:
    """By the time it is asked it holds what it has copied since, and that is not taken for what was left."""
    tasks = fill(scenario, before)
    held = leave(scenario, server, name)
    silence = LostReply(faults, f"STREAM.CREATE.{name}", executed=True)
    converge_while_removed(scenario, manifest(after), held)
    assert silence.lost
    assert stored(scenario) == tasks


@pytest.mark.parametrize("name", CREATED, ids=["temporary", "new"])
@pytest.mark.parametrize(("server", "before", "after"), MOVES, indirect=["server"])
def test_a_copy_begins_empty_also_where_its_creator_died_before_the_answer(
    scenario: Scenario,
    server: EmbeddedServer,
    faults: Faults,
    name: str,
    before: str,
    after: str,
) -> None:
    """The next apply finds a copy, and does not go on with one that began with somebody else's messages."""
    tasks = fill(scenario, before)
    held = leave(scenario, server, name)
    with faults.context() as patched:
        LostReply(patched, f"STREAM.CREATE.{name}", executed=True, end=Killed())
        with pytest.raises(Killed):
            scenario.apply(scenario.request(manifest(after)))
    converge_while_removed(scenario, manifest(after), held)
    assert stored(scenario) == tasks


def test_a_migration_whose_copy_never_begins_empty_leaves_everything_as_it_was(
    scenario: Scenario, server: EmbeddedServer, tasks: list[str], faults: Faults
) -> None:
    faults.waits(REMOVAL_BACKOFF_SECONDS=(0.1,))
    held = leave_files(scenario, server, str(temporary_stream(Ref(STREAM))))
    outcomes = scenario.apply(scenario.request(manifest("workqueue")))
    assert "still has the files of an earlier stream" in problems(outcomes)
    assert stored(scenario) == tasks
    assert scenario.config(STREAM)["subjects"] == [SUBJECT]
    shutil.rmtree(held)
    scenario.converge(manifest("workqueue"))
    assert stored(scenario) == tasks


@pytest.mark.parametrize("server", [NEWEST], indirect=True)
def test_a_copy_that_cannot_be_known_to_have_begun_empty_is_not_gone_on_with(
    scenario: Scenario, faults: Faults
) -> None:
    """Of a stream that forgets what is acknowledged, where no answer to a creation ever comes: all is as it was."""
    tasks, copy = fill(scenario, "workqueue"), str(temporary_stream(Ref(STREAM)))
    with faults.context() as patched:
        patched.waits(REMOVAL_BACKOFF_SECONDS=(0.1,))

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            verb = request.verb
            answer = await send(request)
            if verb == f"STREAM.CREATE.{copy}":
                await asyncio.to_thread(until, lambda: scenario.info(copy)["state"]["messages"])
                raise NoReply(verb, 0)
            return answer

        patched.intercept(call)
        assert "whether the stream began empty" in problems(
            scenario.apply(scenario.request(manifest("limits")))
        )
    assert stored(scenario) == tasks
    assert scenario.config(STREAM)["subjects"] == [SUBJECT]
    scenario.converge(manifest("limits"))
    assert stored(scenario) == tasks


@pytest.mark.parametrize("answered", [True, False])
def test_a_new_stream_that_is_not_empty_is_no_success(
    scenario: Scenario,
    server: EmbeddedServer,
    faults: Faults,
    answered: bool,  # noqa: FBT001
) -> None:
    """Nothing is deleted for that: who knows whose tasks they are. The next plan has nothing left to do but what waited."""
    leave_files(scenario, server, STREAM)
    if not answered:
        LostReply(faults, f"STREAM.CREATE.{STREAM}", executed=True)
    outcomes = scenario.apply(scenario.request(manifest("limits")))
    assert f"{STREAM} was created, and holds 5 messages that are older" in problems(outcomes)
    assert f"{STREAM}/cto-worker" not in scenario.refs()
    scenario.converge(manifest("limits"))
    assert scenario.info(STREAM)["state"]["messages"] == STALE


def problems(outcomes: Sequence[Outcome]) -> str:
    return " ".join(outcome.problem.message for outcome in outcomes if outcome.problem)
