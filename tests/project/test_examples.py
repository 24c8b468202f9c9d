"""The examples run as they stand, on every server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.cli import Cli
from tests.support.nats_client import Api

EXAMPLE = Path(__file__).parents[2] / "examples/organisation.py"
STORY = (
    "cto works on t-1: Log in with passkeys",
    "t-1 is completed_unverified",
    "cso works on t-1-review: Review: log in with passkeys",
    "t-1 is completed",
    "t-1-review is completed",
    "devops answers: healthy",
    "backend hears of web 2.0",
    "frontend hears of web 2.0",
    "marketing hears of web 2.0",
    *["backend fails with t-poison: cannot make sense of it"] * 3,
    "backend has a dead letter after 3 deliveries",
    "backend works on t-poison: Parse the file that nobody can parse",
    "t-poison is completed",
)


def test_the_miniature_organisation_lives_through_its_day(
    any_server: EmbeddedServer, cli: Cli, project: Path
) -> None:
    """What causes what comes first: the story is told in its order, and every message of its agents is a right one."""
    with Api(any_server.url) as api:
        published = api.subscribe("mini.>")
        line = [sys.executable, str(EXAMPLE), "--server", any_server.url]
        told = subprocess.run(line, capture_output=True, text=True, check=False)
        messages = published.all()
    assert (told.returncode, told.stderr) == (0, "")
    heard = iter(told.stdout.splitlines())
    assert [news for news in STORY if news not in heard] == []
    lines = b"".join(each.data + b"\n" for each in messages if "Cyborg-Infra-" not in each.headers)
    (project / "published.jsonl").write_bytes(lines)
    assert cli("message", "check", "published.jsonl").err == ""
    assert len(messages) > 15


@pytest.mark.server
def test_on_a_server_of_its_own_every_agent_is_itself() -> None:
    told = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    heard = iter(told.stdout.splitlines())
    assert [news for news in STORY if news not in heard] == []


def test_the_names_of_the_example_are_those_of_its_manifest(cli: Cli) -> None:
    folder = EXAMPLE.parent
    ended = cli("export", "python", folder / "organisation.yaml", "--out", folder, "--check")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
