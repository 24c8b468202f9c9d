"""The text in a file or on standard input, or why it cannot be had. Reads no meaning into it."""

from __future__ import annotations

import os

from cyborg_infra.model.problems import CyborgError, Mark, Problem

MAX_BYTES = 8 * 1024 * 1024  # a manifest of 10,000 roles takes a seventh of it; 10,000 tasks take all of it


def text_of(
    path: str | os.PathLike[str],
    what: str,
    refused: type[CyborgError],
    *,
    hint: str = "",
    fd: int | None = None,
) -> str:
    """The text of the file at `path`, or of the open file `fd`, which keeps open; `what` is the word for it.

    A byte order mark is no part of it. `hint` says what to do if there is no such file.

    Raises:
        CyborgError: as `refused`; it cannot be read, is larger than MAX_BYTES, or not UTF-8.
    """
    file = os.fsdecode(path)
    try:
        # Path() would change how the user spelt the name.
        with open(file if fd is None else fd, "rb", closefd=fd is None) as stream:
            # A pipe has no size, so that is not asked for; what is too much is never read.
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        advice = hint if isinstance(error, FileNotFoundError) and hint else None
        message = f"the {what} cannot be read: {reason}"
        raise refused(Problem(f"{what}-unreadable", message, Mark(file, 1, 1), advice)) from error
    if len(content) > MAX_BYTES:
        message = f"the {what} is larger than {MAX_BYTES // 1024**2} MiB"
        raise refused(Problem(f"{what}-too-large", message, Mark(file, 1, 1)))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"byte {content[error.start]:#04x} is not UTF-8"
        where = Mark(file, line, column)
        raise refused(Problem(f"{what}-not-utf8", message, where, "save the file as UTF-8")) from error
