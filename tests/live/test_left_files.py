"""A stream whose files a deletion has left behind comes back with its messages (2.10 to 2.15): nobody takes them for new ones.

A server moves a deleted stream to `.NAME` and removes it behind its answer. While one of that name is still there, the
next deletion of the stream answers OK and leaves the files, and the next stream of that name has what was in them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from scene import Scene
from servers import NEWEST, OLDEST, StartServer
from silence import Silence

from cyborg_infra.live import write
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.faults import NoReply
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.plan import Outcome
from cyborg_infra.model.state import Ref, temporary

STREAM = "AGENT_CTO_TASKS"
SUBJECT = "acme.agents.cto.tasks"
STALE = 5
CREATED = [str(temporary(Ref(STREAM))), STREAM]
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
def scene(server: EmbeddedServer, tmp_path: Path) -> Iterator[Scene]:
    with Scene(server.url, tmp_path) as prepared:
        yield prepared


def in_the_way(server: EmbeddedServer, name: str) -> Path:
    """What keeps the server from moving the next stream of this name aside when it is deleted."""
    held = server.store_dir / "jetstream" / "$G" / "streams" / f".{name}"
    (held / "held").mkdir(parents=True)
    return held


def leave_files(scene: Scene, server: EmbeddedServer, name: str) -> Path:
    """The next stream of this name has five messages, and so on as long as what is returned is there."""
    held = in_the_way(server, name)
    scene.ask(f"STREAM.CREATE.{name}", {"name": name, "subjects": ["stale"], "storage": "file"})
    for number in range(STALE):
        scene.api.request("stale", f"stale-{number}")
    scene.ask(f"STREAM.DELETE.{name}")
    assert scene.ask(f"STREAM.CREATE.{name}", {"name": name, "storage": "file"})["state"]["messages"] == STALE
    scene.ask(f"STREAM.DELETE.{name}")
    return held


def leave(scene: Scene, server: EmbeddedServer, name: str) -> Path:
    """The stream that a move creates under this name begins with messages: somebody's, or its own from before."""
    return in_the_way(server, name) if name == STREAM else leave_files(scene, server, name)


def converge_while_removed(scene: Scene, text: str, held: Path) -> None:
    """The server has removed what stands in the way a second after it began."""
    removal = threading.Timer(1.0, shutil.rmtree, (held,))
    removal.start()
    scene.converge(text)
    removal.join()


def manifest(retention: str) -> str:
    return f"org: acme\nroles: [cto]\nstreams: {{tasks: {{retention: {retention}}}}}\n"


def stored(scene: Scene) -> list[str]:
    """The payloads in the stream, in order."""
    state = scene.info(STREAM)["state"]
    answers = (
        scene.api.request(f"$JS.API.STREAM.MSG.GET.{STREAM}", {"seq": number})
        for number in range(state["first_seq"], state["last_seq"] + 1)
    )
    found = [answer["message"] for answer in answers if "message" in answer]
    return [
        json.loads(base64.b64decode(message["data"])) for message in found if message["subject"] == SUBJECT
    ]


def fill(scene: Scene, retention: str) -> list[str]:
    """Twenty tasks wait for the worker."""
    scene.converge(manifest(retention))
    names = [f"task-{number}" for number in range(20)]
    for name in names:
        scene.api.request(SUBJECT, name)
    return names


@pytest.fixture
def tasks(scene: Scene) -> list[str]:
    """What waits for the worker."""
    return fill(scene, "limits")


@pytest.mark.parametrize("name", CREATED, ids=["temporary", "new"])
def test_a_move_waits_until_its_copies_begin_empty(
    scene: Scene, server: EmbeddedServer, tasks: list[str], name: str
) -> None:
    """Otherwise the first of the tasks would be taken for copied already: five were lost."""
    held = leave(scene, server, name)
    converge_while_removed(scene, manifest("workqueue"), held)
    assert stored(scene) == tasks


@pytest.mark.parametrize("name", CREATED, ids=["temporary", "new"])
@pytest.mark.parametrize(("server", "before", "after"), MOVES, indirect=["server"])
def test_a_copy_begins_empty_also_where_the_answer_that_says_so_is_lost(
    scene: Scene,
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    before: str,
    after: str,
) -> None:
    """By the time it is asked it holds what it has copied since, and that is not taken for what was left."""
    tasks = fill(scene, before)
    held = leave(scene, server, name)
    silence = Silence(monkeypatch, f"STREAM.CREATE.{name}", executed=True)
    converge_while_removed(scene, manifest(after), held)
    assert silence.lost
    assert stored(scene) == tasks


@pytest.mark.parametrize("name", CREATED, ids=["temporary", "new"])
@pytest.mark.parametrize(("server", "before", "after"), MOVES, indirect=["server"])
def test_a_copy_begins_empty_also_where_its_creator_died_before_the_answer(
    scene: Scene,
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    before: str,
    after: str,
) -> None:
    """The next apply finds a copy, and does not go on with one that began with somebody else's messages."""
    tasks = fill(scene, before)
    held = leave(scene, server, name)
    with monkeypatch.context() as patched:
        Silence(patched, f"STREAM.CREATE.{name}", executed=True, end=Killed())
        with pytest.raises(Killed):
            scene.apply(scene.wish(manifest(after)))
    converge_while_removed(scene, manifest(after), held)
    assert stored(scene) == tasks


def test_a_move_whose_copy_never_begins_empty_leaves_everything_as_it_was(
    scene: Scene, server: EmbeddedServer, tasks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_REMOVAL", (0.1,))
    held = leave_files(scene, server, str(temporary(Ref(STREAM))))
    outcomes = scene.apply(scene.wish(manifest("workqueue")))
    assert "still has the files of an earlier stream" in problems(outcomes)
    assert stored(scene) == tasks
    assert scene.config(STREAM)["subjects"] == [SUBJECT]
    shutil.rmtree(held)
    scene.converge(manifest("workqueue"))
    assert stored(scene) == tasks


@pytest.mark.parametrize("server", [NEWEST], indirect=True)
def test_a_copy_that_cannot_be_known_to_have_begun_empty_is_not_gone_on_with(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a stream that forgets what is acknowledged, where no answer to a creation ever comes: all is as it was."""
    tasks = fill(scene, "workqueue")
    with monkeypatch.context() as patched:
        patched.setattr(write, "_REMOVAL", (0.1,))
        original = JetStream.call

        async def call(server: JetStream, verb: str, *arguments: Any, **more: Any) -> dict[str, Any]:
            answer = await original(server, verb, *arguments, **more)
            if verb == f"STREAM.CREATE.{temporary(Ref(STREAM))}":
                await asyncio.sleep(0.3)  # until it has copied
                raise NoReply(verb, 0)
            return answer

        patched.setattr(JetStream, "call", call)
        assert "whether the stream began empty" in problems(scene.apply(scene.wish(manifest("limits"))))
    assert stored(scene) == tasks
    assert scene.config(STREAM)["subjects"] == [SUBJECT]
    scene.converge(manifest("limits"))
    assert stored(scene) == tasks


@pytest.mark.parametrize("answered", [True, False])
def test_a_new_stream_that_is_not_empty_is_no_success(
    scene: Scene,
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    answered: bool,  # noqa: FBT001
) -> None:
    """Nothing is deleted for that: who knows whose tasks they are. The next plan has nothing left to do but what waited."""
    leave_files(scene, server, STREAM)
    if not answered:
        Silence(monkeypatch, f"STREAM.CREATE.{STREAM}", executed=True)
    outcomes = scene.apply(scene.wish(manifest("limits")))
    assert f"{STREAM} was created, and holds 5 messages that are older" in problems(outcomes)
    assert f"{STREAM}/cto-worker" not in scene.refs()
    scene.converge(manifest("limits"))
    assert scene.info(STREAM)["state"]["messages"] == STALE


def problems(outcomes: Sequence[Outcome]) -> str:
    return " ".join(outcome.problem.message for outcome in outcomes if outcome.problem)
