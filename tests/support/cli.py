"""The command line for the tests: in this process where that is enough, as a real process where it is not."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator

SMALL = "org: acme\nroles: [cto, backend]\n"
"""A manifest of 5 streams and 7 consumers."""
SMALL_COUNT = 12

COMMAND = (sys.executable, "-m", "cyborg_infra")
SCHEMAS = Path(__file__).parents[2] / "schemas"


class CommandResult(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What is on stdout, as JSON."""
        return json.loads(self.out)


Cli = Callable[..., CommandResult]
"""`cli("plan", "--server", url)` in this process; the working directory is the test's own."""


def spawn(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Return the command as a process, with pipes and no terminal."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_process(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> CommandResult:
    """Return the command as a process, to its end."""
    with spawn(*arguments, cwd=cwd, env=env) as process:
        out, err = process.communicate(timeout=120)
        return CommandResult(process.returncode, out, err)


class Terminal:
    """A command on a terminal of its own, 80 columns wide; stdin, stdout and stderr are all the terminal."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._ours, theirs = pty.openpty()
        size = {"COLUMNS": "80", "LINES": "40", "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=cwd,
            env={**os.environ, **size, **(env or {})},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def until(self, text: str, timeout: float = 60) -> None:
        """Everything up to `text` has been shown. Raises AssertionError if the command ends before."""
        deadline = time.monotonic() + timeout
        while text not in self.shown:
            assert self._read(deadline), f"{text!r} was not shown:\n{self.shown}"

    def type(self, text: str) -> None:
        """Typed, as by a user."""
        os.write(self._ours, text.encode())

    def ended(self, timeout: float = 60) -> CommandResult:
        """Return how the command ended; everything that it showed is `out`."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        code = self.process.wait(timeout)
        os.close(self._ours)
        return CommandResult(code, self.shown.replace("\r\n", "\n"), "")

    def _read(self, deadline: float) -> bool:
        """Return whether more was shown before the deadline."""
        ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
        try:
            data = os.read(self._ours, 65536) if ready else b""
        except OSError:  # Linux says so when the last process has left the terminal
            data = b""
        self.shown += data.decode(errors="replace")
        return bool(data)


def assert_fits(name: str, value: Any) -> None:
    """`value` is what schemas/<name>.schema.json says."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    errors = Draft202012Validator(schema).iter_errors(value)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []
