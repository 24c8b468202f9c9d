"""Read the text of a file or of standard input."""

from __future__ import annotations

import os

from cyborg_infra import files
from cyborg_infra.model.problems import CyborgError, Problem, SourcePosition

MAX_BYTES = files.MAX_FILE_BYTES


def read_input(
    path: str | os.PathLike[str],
    what: str,
    refused: type[CyborgError],
    *,
    hint: str = "",
    fd: int | None = None,
) -> str:
    """Return the text of the file at `path`, or of the open file `fd`, which keeps open; `what` is the word for it.

    A byte order mark is no part of it. `hint` says what to do if there is no such file.

    Raises:
        CyborgError: as `refused`; it cannot be read, is larger than MAX_BYTES, or not UTF-8.
    """
    file = os.fsdecode(path)
    try:
        content = files.read_bytes(file, MAX_BYTES) if fd is None else _read_rest(fd)
    except files.Unreadable as error:
        if error.larger:
            message = f"the {what} is larger than {MAX_BYTES // 1024**2} MiB"
            raise refused(Problem(f"{what}-too-large", message, SourcePosition(file, 1, 1))) from None
        advice = hint if error.missing and hint else None
        message = f"the {what} cannot be read: {error}"
        raise refused(Problem(f"{what}-unreadable", message, SourcePosition(file, 1, 1), advice)) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"byte {content[error.start]:#04x} is not UTF-8"
        where = SourcePosition(file, line, column)
        raise refused(Problem(f"{what}-not-utf8", message, where, "save the file as UTF-8")) from error


def _read_rest(fd: int) -> bytes:
    """Return what is left in an open file, which keeps open; whoever started us has opened it, and may take his time."""
    try:
        with open(fd, "rb", closefd=False) as stream:
            found = stream.read(MAX_BYTES + 1)  # what is too much is never read
    except OSError as error:
        raise files.Unreadable(error.strerror or str(error)) from None
    if len(found) > MAX_BYTES:
        raise files.Unreadable("too large", larger=True)
    return found
