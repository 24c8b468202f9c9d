"""What a server answers does not fill the machine's memory: a command that may have so much and no more says why it ends."""

from __future__ import annotations

import json
import resource
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.robustness.false_server import Liar, Lie, Said, truly
from tests.support.cli import COMMAND, SMALL

MOST = 1024**3  # bytes of address space; a plan of this organisation takes less than half


class Endless:
    """A listing that goes on for ever with new names, and tells of so many more than it has sent."""

    def __init__(self, more: int) -> None:
        self._more, self._sent = more, 0
        self._row: dict[str, Any] = {}

    def __call__(self, subject: str, answer: bytes) -> Said:
        if "STREAM.LIST" not in subject:
            return truly(subject, answer)
        page = json.loads(answer)
        self._row = next(iter(page["streams"] or ()), self._row)
        numbers = range(self._sent, self._sent + 256)
        self._sent += 256
        rows = [
            {
                **self._row,
                "config": {**self._row["config"], "name": f"X{number:09}", "subjects": [f"x.{number}"]},
            }
            for number in numbers
        ]
        return Said([json.dumps({**page, "streams": rows, "total": self._sent + self._more}).encode()])


def huge(subject: str, answer: bytes) -> Said:
    """Return an answer of 60 MiB."""
    if "STREAM.LIST" not in subject:
        return truly(subject, answer)
    return Said([answer[:-1] + b', "more": "' + b"x" * 60 * 1024**2 + b'"}'])


@pytest.mark.parametrize("lie", [Endless(10**9), Endless(1000), huge], ids=["endless", "growing", "huge"])
def test_a_command_ends_in_one_line_within_its_memory(
    lie: Lie, server: EmbeddedServer, tmp_path: Path
) -> None:
    (tmp_path / "org.yaml").write_text(SMALL, encoding="utf-8")
    limited = partial(resource.setrlimit, resource.RLIMIT_AS, (MOST, MOST))
    with Liar(int(server.url.rsplit(":", 1)[1])) as liar:
        applied = [*COMMAND, "apply", "--yes", "--server", liar.url]
        subprocess.run(applied, cwd=tmp_path, check=True, capture_output=True)
        liar.lie = lie
        ended = subprocess.run(
            [*COMMAND, "plan", "--server", liar.url, "--timeout", "2m"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=limited,
        )
    said = ended.stderr.strip().splitlines()
    assert ended.returncode == (lie is not huge), ended.stderr
    assert len([text for text in said if text.startswith("Error: ")]) == (lie is not huge)
    assert not [text for text in said if not text.startswith(("Error: ", "       "))]
