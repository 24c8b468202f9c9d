"""Write a command's files atomically; refuse to overwrite what the tool did not write."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from os import fsync
from pathlib import Path
from typing import TYPE_CHECKING

from cyborg_infra.interrupts import end_in_order
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.operations import manifest

if TYPE_CHECKING:  # what is saved was made where this is imported
    from cyborg_infra.model.plan import Plan

_ANOTHER = "name another file, or remove it first"
_OWNER_ONLY_MODE = 0o600
_READABLE_MODE = 0o644  # for the server, which may be another user's


def save(plan: Plan, path: Path) -> None:
    """Save the plan to the file, readable for its owner alone, whoever could read what was there before.

    Raises UsageInvalid if it cannot be written, or if something else than a saved plan stands there: that stays.
    """
    from cyborg_infra.cli.output import json_text
    from cyborg_infra.render import json_format

    save_text(path, json_text(json_format.saved(plan)), manifest.is_saved)


def save_text(path: Path, text: str, is_saved: Callable[[str], bool]) -> None:
    """Save the text of a plan as `save` does. `is_saved` says whether what stands there is a saved plan of its kind."""
    if (found := _overwrite_obstacle(path, is_saved)) is not None:
        raise UsageInvalid(Problem("out", f"{path} {found}, and stays as it is", None, _ANOTHER))
    try:
        replace_file(path, text, _OWNER_ONLY_MODE)
    except OSError as error:
        raise UsageInvalid(Problem("out", f"cannot write {path}: {error.strerror}")) from None


def replace_generated(path: Path, text: str, begins: str) -> None:
    """Write the text, in the place of what the tool wrote there before: that begins so, as this does.

    Raises UsageInvalid if something else stands there, which stays, or if it cannot be written.
    """
    try:
        found = path.lstat()
        ours = stat.S_ISREG(found.st_mode) and path.read_bytes().startswith(begins.encode())
    except FileNotFoundError:
        ours = True
    except OSError as error:
        raise UsageInvalid(Problem("out", f"cannot read {path}: {error.strerror}")) from None
    if not ours:
        message = f"{path} was not written by this command, and stays as it is"
        raise UsageInvalid(Problem("out", message, None, _ANOTHER))
    try:
        replace_file(path, text, _READABLE_MODE)
    except OSError as error:
        raise UsageInvalid(Problem("out", f"cannot write {path}: {error.strerror}")) from None


def create(path: Path, text: str) -> None:
    """Write the text to a new file. Raises UsageInvalid if there is a file or a link already: it stays as it is."""
    try:
        with path.open("x"):  # the name is ours, with the rights that a new file gets here
            pass
        try:
            replace_file(path, text, stat.S_IMODE(path.stat().st_mode))
        except BaseException:
            path.unlink()
            raise
    except FileExistsError:
        raise UsageInvalid(Problem("exists", f"{path} exists and stays as it is", None, _ANOTHER)) from None
    except OSError as error:
        raise UsageInvalid(Problem("write", f"cannot write {path}: {error.strerror}")) from None


def create_manifest(path: Path, text: str) -> str:
    """Write the manifest to a new file, and beside it the schema that its first line names, for editors.

    Returns what was written, for people. Raises as `create` does. A schema that is there already stays.
    """
    create(path, text)
    schema = path.parent / manifest.SCHEMA_FILE
    if os.path.lexists(schema):
        return str(path)
    create(schema, manifest.schema_text("org"))
    return f"{path}, and {schema} for your editor"


def _overwrite_obstacle(path: Path, is_saved: Callable[[str], bool]) -> str | None:
    """Return why no plan may be saved here, as a clause; None if there is a saved plan, an empty file or nothing."""
    try:
        found = path.lstat()
    except OSError:
        return None  # nothing there, or writing will say what is wrong
    if stat.S_ISLNK(found.st_mode):
        return "is a link"
    if not stat.S_ISREG(found.st_mode):
        return "is no file"
    if found.st_size and not is_saved(str(path)):
        return "is no saved plan"
    return None


def replace_file(path: Path, text: str, mode: int) -> None:
    """Replace the file at `path` by a new one with this text and these rights: at every moment the old one is whole or the new one.

    Raises OSError, with what was there as it was.
    """
    end_in_order()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, mode)
            fsync(descriptor)
        Path(name).replace(path)  # of a link it would replace the link itself
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    _flush_directory(path.parent)


def _flush_directory(directory: Path) -> None:
    """Flush the directory, so that its names survive a power cut, where the system can do so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
