"""Documents as tests: runs their shell blocks word for word, and compares with the output that they show.

A block ```python that begins with `# name.py` is written to that file. A block ```sh is run; a block ```text right after it is what it prints, stdout and stderr together. A line
`...` stands for any number of lines. Addresses are the test's own; times and ages are any.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.support.ports import free_port

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
END = "--- end of block {} ---"
TIMES = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|(?<=for )\d[\dhms]*|\d[\dhms]*(?= old)")
"""What no run prints again: a date, `2 for 4s`, `4s old`."""
MORE_PORTS = ("8099", "9464")
"""What documents say of a webhook's port and the monitor's."""
PATIENCE = 240  # seconds; the longest document takes some twenty
COLUMNS = re.compile(r"(?<=\S) {2,}")


class Step(NamedTuple):
    """One shell block, and what it shall print; None where the document does not say."""

    commands: str
    shown: str | None


def steps(markdown: str) -> list[Step]:
    """Return the shell blocks of a document, in order."""
    blocks = [_as_shell(match[1], match[2]) for match in BLOCK.finditer(markdown)]
    return [
        Step(text, after if kind_after == "text" else None)
        for (kind, text), (kind_after, after) in pairwise([*blocks, ("", "")])
        if kind == "sh"
    ]


def _as_shell(kind: str, text: str) -> tuple[str, str]:
    """Return the language and the text of a block; a program that has a name becomes what writes it to its file."""
    if kind == "python" and (named := FILE.match(text)):
        return "sh", f"cat > {named[1]} <<'END-OF-FILE'\n{text}END-OF-FILE\n"
    return kind, text


def run(found: list[Step], directory: Path, port: int) -> list[str]:
    """Return what each step printed, in one shell; the port 4222 is `port`, those of MORE_PORTS are free ones. Whatever the shell started has ended."""
    ports = {"4222": str(port)} | {each: str(free_port()) for each in MORE_PORTS}
    script = "exec 2>&1\n" + "".join(
        f"{_replaced(step.commands, ports)}\necho '{END.format(number)}'\n"
        for number, step in enumerate(found)
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    output = directory / ".output"
    with output.open("w") as out:
        shell = subprocess.Popen(
            ["bash", "-c", script],  # noqa: S607 - the user's own, as for a user who pastes
            cwd=directory,
            env={**os.environ, "PATH": path, "COLUMNS": "80"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            start_new_session=True,
        )
        try:
            shell.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nobody is left
                os.killpg(shell.pid, signal.SIGTERM)  # `dev` stops its server then
            shell.wait()
    printed, outputs = _replaced(output.read_text(), {free: shown for shown, free in ports.items()}), []
    for number in range(len(found)):
        text, _, printed = printed.partition(END.format(number) + "\n")
        outputs.append(text)
    return outputs


def _replaced(text: str, by: Mapping[str, str]) -> str:
    for old, new in by.items():
        text = text.replace(old, new)
    return text


def matches(shown: str, printed: str) -> bool:
    """Return whether `printed` is what the document shows."""
    lines = [
        r"(?:.*\n)*?" if line == "..." else re.escape(line) + r" *\n" for line in timeless(shown).splitlines()
    ]
    return re.fullmatch("".join(lines), timeless(printed)) is not None


def timeless(text: str) -> str:
    """Return the text with one time for all, and so with columns of one width."""
    return COLUMNS.sub("  ", TIMES.sub("TIME", text))
