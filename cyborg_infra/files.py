"""Read files that a user names, with a bound on size and time."""

from __future__ import annotations

import os
import select
import stat
from typing import Any

import orjson

# Bytes; a manifest of 10,000 roles takes a seventh of it, 10,000 tasks take all of it.
MAX_FILE_BYTES = 8 * 1024 * 1024
WRITER_TIMEOUT_SECONDS = 2.0  # seconds until somebody opens a pipe to write into it
IDLE_TIMEOUT_SECONDS = 60.0  # seconds that somebody who writes into a pipe may be silent

_KINDS = (
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISDIR, "Is a directory"),
)
_OPENED = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


class Unreadable(Exception):
    """Why a file cannot be read, without its name. `missing`: there is none."""

    def __init__(self, reason: str, *, missing: bool = False, larger: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing
        self.larger = larger


def read_bytes(path: str | os.PathLike[str], maximum: int = MAX_FILE_BYTES) -> bytes:
    """Return the bytes of a file, or of a pipe that somebody writes into. Raises Unreadable, also for more than `maximum` bytes."""
    file = _open(path)
    try:
        piped = stat.S_ISFIFO(os.fstat(file).st_mode)
        found = _from_pipe(file, maximum) if piped else _from_file(file, maximum)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    finally:
        os.close(file)
    if len(found) > maximum:
        raise Unreadable(f"it is larger than {maximum // 1024**2} MiB", larger=True)
    return found


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file or pipe. Raises Unreadable, also for what is not UTF-8."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise Unreadable("it is no UTF-8 text") from None


def read_beginning(path: str | os.PathLike[str], length: int) -> bytes:
    """Return the first bytes of a file; none of a pipe, which has them once. Raises Unreadable."""
    file = _open(path)
    try:
        return os.read(file, length) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    finally:
        os.close(file)


def begins_with_member(path: str | os.PathLike[str], member: bytes) -> bool:
    """Return whether a file is a JSON object whose first member is this, by its first bytes; False if it cannot be read."""
    try:
        begun = read_beginning(path, len(member) + 64)
    except Unreadable:
        return False  # reading all of it will say what is wrong
    return begun.lstrip().removeprefix(b"{").lstrip().startswith(member)


def require_readable(path: str | os.PathLike[str], *, pipe: bool = True) -> None:
    """Raise Unreadable unless the path is a file that can be opened, or, with `pipe`, a pipe."""
    file = _open(path)
    piped = stat.S_ISFIFO(os.fstat(file).st_mode)
    os.close(file)
    if piped and not pipe:
        raise Unreadable("it is a pipe, and has to be a file")


def parse_json(data: bytes | str) -> Any:
    """Return the JSON value in a text. Raises Unreadable for what is none, or is nested more than 1024 levels deep."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "depth limit" in error.msg:
            raise Unreadable("it is nested too deeply") from None
        # The error holds the whole text, secrets included: keep it out of the traceback.
        reason = f"it is no JSON: {error.msg.partition(':')[0]} at line {error.lineno}, column {error.colno}"
    raise Unreadable(reason)


def _open(path: str | os.PathLike[str]) -> int:
    """Open a file without waiting for a writer, and refuse terminals and devices."""
    try:
        file = os.open(path, _OPENED)
    except FileNotFoundError as error:
        raise Unreadable(error.strerror or "there is none", missing=True) from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except ValueError as error:  # a byte that no name has
        raise Unreadable(str(error)) from None
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
        return file
    os.close(file)
    raise Unreadable(next((what for is_one, what in _KINDS if is_one(mode)), "it is no file"))


def _from_file(file: int, maximum: int) -> bytes:
    with open(file, "rb", closefd=False) as stream:
        return stream.read(maximum + 1)


def _from_pipe(file: int, maximum: int) -> bytes:
    """Return what a pipe's writer writes until it closes the pipe."""
    parts: list[bytes] = []
    waited = False
    while sum(map(len, parts)) <= maximum:
        try:
            part = os.read(file, 1024 * 1024)
        except BlockingIOError:  # somebody has it open
            patience = IDLE_TIMEOUT_SECONDS
        else:
            if part:
                parts.append(part)
                continue
            if parts or waited:
                break
            patience = WRITER_TIMEOUT_SECONDS
        waited = True
        if not select.select([file], [], [], patience)[0]:
            raise Unreadable(f"it is a pipe, and nothing came out of it in {patience:g}s")
    return b"".join(parts)
