"""The two consoles: data on stdout, talk on stderr. Decides colour and wrapping once, and nothing else."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def stdout(*, no_color: bool = False) -> Console:
    """The console for data. Without colour if so asked, for NO_COLOR, TERM=dumb and anything but a terminal.

    On a terminal lines wrap at its width; into a pipe or a file a line is never broken.
    """
    return _console(stderr=False, no_color=no_color)


def stderr(*, no_color: bool = False) -> Console:
    """The console for talk: errors, notes, progress. The same rules as for stdout."""
    return _console(stderr=True, no_color=no_color)


def _console(*, stderr: bool, no_color: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    plain = no_color or not terminal or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    # No colour system at all: rich's own no_color keeps bold and italic sequences.
    return Console(
        stderr=stderr,
        color_system=None if plain else "auto",
        force_terminal=terminal,
        soft_wrap=not terminal,
        highlight=False,
        markup=False,
        emoji=False,
    )
