"""A file that a user names is a file: what is endless, blocks, or is nested for ever is refused in one line."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cyborg_infra import files
from tests.support.cli import Cli

ENDLESS = Path("/dev/zero")
Asked = Callable[[Cli, Path], tuple[str, ...]]

NAMED = {
    "context": ("plan", "--context"),
    "creds": ("plan", "--creds"),
    "nkey": ("plan", "--nkey"),
    "tlsca": ("plan", "--tlsca"),
    "manifest": ("validate",),
    "planned": ("plan",),
    "applied": ("apply", "--yes"),
    "message": ("message", "check"),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WRITER_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(files, "IDLE_TIMEOUT_SECONDS", 0.2)


def _odd(kind: str, directory: Path) -> Path:
    path = directory / "odd.json"
    match kind:
        case "link to an endless device":
            path.symlink_to(ENDLESS)
        case "pipe that nobody writes to":
            os.mkfifo(path)
        case "link to a pipe":
            os.mkfifo(directory / "pipe")
            path.symlink_to(directory / "pipe")
        case "directory":
            path.mkdir()
        case "deeply nested":
            path.write_text('{"a":' * 100_000, encoding="utf-8")
        case "huge":
            with path.open("wb") as file:
                file.truncate(2**40)
    return path


@pytest.mark.parametrize("what", NAMED)
@pytest.mark.parametrize(
    "kind",
    [
        "link to an endless device",
        "pipe that nobody writes to",
        "link to a pipe",
        "directory",
        "deeply nested",
        "huge",
    ],
)
def test_an_odd_file_is_refused_in_one_line(kind: str, what: str, cli: Cli, tmp_path: Path) -> None:
    ended = cli(*NAMED[what], str(_odd(kind, tmp_path)))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("Error: ") == 1
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("depth", [300, 100_000])
def test_a_saved_plan_that_is_nested_for_ever_is_refused(depth: int, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_text('{"type": "saved-plan", "plan": ' + "[" * depth + "]" * depth + "}", encoding="utf-8")
    ended = cli("apply", "--yes", str(path))
    assert ended.code == 1
    assert "the saved plan cannot be read: it is nested too deeply" in ended.err


def test_a_pipe_is_read_to_where_its_writer_ends(tmp_path: Path) -> None:
    """As a shell hands over what `<(command)` prints."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = json.dumps({"user": "x" * 200_000})

    def write() -> None:
        pipe.write_text(text, encoding="utf-8")

    writer = threading.Thread(target=write)
    writer.start()
    assert files.read_text(pipe) == text
    writer.join()


def test_a_pipe_whose_writer_says_nothing_is_given_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    with pytest.raises(files.Unreadable, match=r"nothing came out of it in 0\.2s"):
        files.read_bytes(pipe)
    os.close(end)


def test_an_endless_pipe_is_not_read_beyond_what_is_allowed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    os.write(end, b"x" * 5000)
    with pytest.raises(files.Unreadable, match="larger"):
        files.read_bytes(pipe, 4999)
    os.close(end)
