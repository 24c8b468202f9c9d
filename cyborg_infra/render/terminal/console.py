"""The two consoles, stdout for data and stderr for messages, with colour and wrapping decided once.

rich (60 ms) is imported where there is a terminal to write to.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from cyborg_infra.render.terminal.layout import Page

if TYPE_CHECKING:
    from rich.console import Console


class Plain:
    """A pipe or a file: lines are never broken, have no styles, and are written as they are made."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def print(self, page: Page) -> None:
        """Write the page, and flush it."""
        self._stream.writelines(f"{line}\n" for line in page.plain())
        self._stream.flush()


def stdout(*, no_color: bool = False) -> Console | Plain:
    """Return the console for data. Without colour if so asked, for NO_COLOR, TERM=dumb and anything but a terminal.

    On a terminal lines wrap at its width; into a pipe or a file a line is never broken.
    """
    return screen(no_color=no_color) if sys.stdout.isatty() else Plain(sys.stdout)


def stderr(*, no_color: bool = False) -> Console | Plain:
    """Return the console for talk: errors, notes, progress. The same rules as for stdout."""
    return screen(stderr=True, no_color=no_color) if sys.stderr.isatty() else Plain(sys.stderr)


def screen(*, stderr: bool = False, no_color: bool = False) -> Console:
    """Return the terminal on stdout or stderr, which somebody has made sure that there is."""
    from rich.console import Console

    plain = no_color or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    # No colour system at all: rich's own no_color keeps bold and italic sequences.
    return Console(
        stderr=stderr,
        color_system=None if plain else "auto",
        force_terminal=True,
        highlight=False,
        markup=False,
        emoji=False,
    )
