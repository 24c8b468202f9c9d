"""Documents as tests: runs their shell blocks word for word, and compares with the output that they show.

A block ```sh is run; a block ```text right after it is what it prints, stdout and stderr together. A line
`...` stands for any number of lines. Addresses are the test's own.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "--- end of block {} ---"


class Step(NamedTuple):
    """One shell block, and what it shall print; None where the document does not say."""

    commands: str
    shown: str | None


def steps(markdown: str) -> list[Step]:
    """The shell blocks of a document, in order."""
    blocks = [(match[1], match[2]) for match in BLOCK.finditer(markdown)]
    return [
        Step(text, after if kind_after == "text" else None)
        for (kind, text), (kind_after, after) in pairwise([*blocks, ("", "")])
        if kind == "sh"
    ]


def run(found: list[Step], directory: Path, port: int) -> list[str]:
    """What each step printed, in one shell; the port 4222 is `port`. Whatever the shell started has ended."""
    script = "exec 2>&1\n" + "".join(
        f"{step.commands.replace('4222', str(port))}\necho '{END.format(number)}'\n"
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
            shell.wait(120)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nobody is left
                os.killpg(shell.pid, signal.SIGTERM)  # `dev` stops its server then
            shell.wait()
    printed, outputs = output.read_text().replace(str(port), "4222"), []
    for number in range(len(found)):
        text, _, printed = printed.partition(END.format(number) + "\n")
        outputs.append(text)
    return outputs


def matches(shown: str, printed: str) -> bool:
    """Whether `printed` is what the document shows."""
    lines = [r"(?:.*\n)*?" if line == "..." else re.escape(line) + r" *\n" for line in shown.splitlines()]
    return re.fullmatch("".join(lines), printed) is not None
