"""A stream that is created under a name that was deleted a moment ago is new: nothing that was in the old one is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene import Scene, published
from servers import NEWEST, OLDEST, StartServer

ORG = "org: acme\nroles: [cto]\n"
TASKS, SUBJECT = "AGENT_CTO_TASKS", "acme.agents.cto.tasks"


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_what_was_deleted_does_not_come_back(start_server: StartServer, tmp_path: Path, version: str) -> None:
    """The files of an earlier delete are still being removed when the name is deleted again, as after two of them in a row."""
    server = start_server(version=version)
    with Scene(server.url, tmp_path) as scene:
        scene.converge(ORG)
        published(SUBJECT, 3)(scene)
        (store,) = tmp_path.rglob(f"streams/{TASKS}")
        (store.with_name(f".{TASKS}") / "msgs").mkdir(parents=True)
        scene.ask(f"STREAM.DELETE.{TASKS}")
        assert list(store.rglob("*.blk"))  # this is what the next stream of that name would take up
        scene.converge(ORG)
        assert scene.info(TASKS)["state"]["messages"] == 0
        published(SUBJECT, 1)(scene)
        assert scene.info(TASKS)["state"]["messages"] == 1
