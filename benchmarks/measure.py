"""Runs a command as a whole process, or works by turns, and says what each took."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import launch as launcher

LIMIT = 900.0  # seconds; whatever takes longer is ended, and leaves a hole in the results


class CommandFailed(Exception):
    """A command that is measured did not end well: what it said last."""


@dataclass(frozen=True, slots=True)
class Run:
    """One process from its start to its end: wall and processor seconds, and the most memory it occupied, in bytes."""

    seconds: float
    cpu: float
    peak: int


def run(
    command: Sequence[str],
    home: Path,
    *,
    output: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Run:
    """Return what the command took. What it prints goes into the file `output`, or nowhere. Raises CommandFailed.

    `settings` are more environment variables.
    """
    report, errors = home / "report", home / "stderr"
    launch = (
        sys.executable,
        "-S",
        "-E",
        launcher.__file__,
        str(report),
        str(output or os.devnull),
        str(errors),
    )
    environment = _environment() | dict(settings or {})
    with subprocess.Popen([*launch, *command], env=environment, start_new_session=True) as process:
        try:
            process.wait(LIMIT)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CommandFailed(f"{_name(command)} did not end within {LIMIT:.0f} seconds") from None
            raise
    if process.returncode:
        raise CommandFailed(f"{_name(command)} could not be started")
    code, seconds, cpu, peak = report.read_text(encoding="ascii").split()
    if int(code):
        raise CommandFailed(f"{_name(command)} ended with {code}: {_said(errors, home)}")
    return Run(float(seconds), float(cpu), int(peak) * 1024)


def by_turns(repeats: int, works: Mapping[str, Callable[[], Run]]) -> dict[str, list[Run]]:
    """Return what each work took, in as many rounds; in each round every one has its turn, so that all meet the same noise."""
    taken: dict[str, list[Run]] = {name: [] for name in works}
    for number in range(repeats):
        for name, work in works.items():
            taken[name].append(work())
            say(f"  {number + 1}/{repeats} {name}: {taken[name][-1].seconds:.3g} s")
    return taken


def say(text: str) -> None:
    """Progress, for whoever waits."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def _environment() -> dict[str, str]:
    """Ours, without what would point the commands at somebody's server, or have Python compile them each time."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "PYTHON"))}


def _name(command: Sequence[str]) -> str:
    return f"{Path(command[0]).name} {Path(command[1]).name}"


def _said(errors: Path, home: Path) -> str:
    """Return what a command said of its failure, without its traceback: the results tell of no machine's paths."""
    text = errors.read_text(encoding="utf-8", errors="replace").replace(f"{home}/", "")
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "Traceback"))]
    telling = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
    return " ".join((telling or lines)[:3])[:300]
