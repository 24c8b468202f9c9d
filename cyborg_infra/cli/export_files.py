"""Write the files of an export into a directory, tell whether they are up to date, and touch nothing else there.

Beside them lies an index of what was written, with digests: a file that is not in it, or that somebody has changed since,
is not ours to replace. JSON has no comments, so that no mark within the files would do for all formats.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from cyborg_infra.cli.files import replace_file
from cyborg_infra.cli.output import json_text
from cyborg_infra.files import Unreadable, parse_json, read_bytes
from cyborg_infra.model.problems import Problem, UsageInvalid

_VERSION = 1


def write_export(directory: Path, name: str, wanted: Mapping[str, str]) -> Sequence[str]:
    """Write the files of format `name` below the directory, and remove those of the last time that are no longer wanted.

    Returns the paths that changed. Raises UsageInvalid, before anything is written, if a file stands in the way that this
    tool did not write or that was changed since; and if one cannot be written, with each file whole, the old or the new.
    """
    index = _read_index(directory, name)
    changed = outdated(directory, name, wanted)
    if problems := [each for path in changed for each in _obstacles(directory, path, index.get(path, ()))]:
        raise UsageInvalid(*problems)
    digests = {path: [_digest(text.encode())] for path, text in wanted.items()}
    if not changed and digests == index:
        return ()
    # Both, until all are written: whatever an interruption leaves is known as ours.
    both = {path: sorted({*index.get(path, ()), *digests.get(path, ())}) for path in {*index, *digests}}
    try:
        _put(directory / _index_name(name), _index_text(name, both))
        for path in changed:
            if path in wanted:
                _put(directory / path, wanted[path])
            else:
                (directory / path).unlink(missing_ok=True)
        _put(directory / _index_name(name), _index_text(name, digests))
    except OSError as error:
        where = error.filename or directory
        raise UsageInvalid(Problem("write", f"cannot write {where}: {error.strerror}")) from None
    return changed


def outdated(directory: Path, name: str, wanted: Mapping[str, str]) -> Sequence[str]:
    """Return the paths that are missing, differ, or were written once and are no longer wanted; sorted. Writes nothing."""
    differing = [path for path, text in wanted.items() if _read(directory / path) != text.encode()]
    left = [
        path
        for path in _read_index(directory, name)
        if path not in wanted and os.path.lexists(directory / path)
    ]
    return sorted([*differing, *left])


def _obstacles(directory: Path, path: str, known: Sequence[str]) -> Iterator[Problem]:
    """Yield why a file may not be replaced or removed; nothing if it is not there, or is as it was written."""
    place = directory / path
    try:
        found = place.lstat()
    except OSError:
        return  # nothing there, or writing will say what is wrong
    if not stat.S_ISREG(found.st_mode):
        yield Problem("out", f"{place} is no file, and stays as it is", None, "name another directory")
    elif not known:
        hint = "name another directory, or remove it first"
        yield Problem("out", f"{place} was not written by an export, and stays as it is", None, hint)
    elif _digest(_read(place) or b"") not in known:
        hint = "keep your change elsewhere, and remove the file"
        yield Problem("out", f"{place} was changed since it was written, and stays as it is", None, hint)


def _index_name(name: str) -> str:
    return f".cyborg-infra-{name}.json"


def _index_text(name: str, digests: Mapping[str, Sequence[str]]) -> str:
    return json_text({"schema_version": _VERSION, "format": name, "files": dict(sorted(digests.items()))})


def _read_index(directory: Path, name: str) -> Mapping[str, Sequence[str]]:
    """Return the paths of the last export with the digests that they may have. Raises UsageInvalid for a damaged index."""
    place = directory / _index_name(name)
    if directory.exists() and not directory.is_dir():
        raise UsageInvalid(
            Problem(
                "out",
                f"{directory} is no directory",
                None,
                "name another one; it is made where it is not there",
            )
        )
    try:
        match parse_json(read_bytes(place)):
            case {"schema_version": 1, "files": dict(found)} if all(map(_is_row, found.items())):
                return found
    except Unreadable as error:
        if error.missing:
            return {}
    hint = "remove it, and what was exported with it"
    raise UsageInvalid(Problem("out", f"{place} is no index of an export", None, hint))


def _is_row(row: tuple[object, object]) -> bool:
    path, digests = row
    return (
        isinstance(path, str)
        and not PurePosixPath(path).is_absolute()
        and ".." not in PurePosixPath(path).parts
        and isinstance(digests, list)
        and all(isinstance(each, str) for each in digests)
    )


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else None
    except OSError:
        return None


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text, 0o666 & ~_umask())


def _umask() -> int:
    os.umask(found := os.umask(0))
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
