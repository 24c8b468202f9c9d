"""What is written to files: a saved plan takes the place of nothing but a saved plan, and is seen by its owner alone."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyborg_infra.cli import files
from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.cli import SMALL, Cli

OUT = "it.plan"


class Place(NamedTuple):
    """What stands at the place that `--out` names, and what the user is told of it."""

    make: Callable[[Path], object]
    told: str


def _link(to: str) -> Callable[[Path], object]:
    def make(out: Path) -> None:
        (out.parent / to).write_text("kept", encoding="utf-8")
        out.symlink_to(to)

    return make


REFUSED = {
    "the manifest": Place(lambda out: out.write_text(SMALL, encoding="utf-8"), "is no saved plan"),
    "a text that mentions one": Place(
        lambda out: out.write_text('see "type": "saved-plan"\n', encoding="utf-8"), "is no saved plan"
    ),
    "a link to a file": Place(_link("theirs"), "is a link"),
    "a link to nothing": Place(lambda out: out.symlink_to("nothing"), "is a link"),
    "a directory": Place(lambda out: out.mkdir(), "is no file"),
    "a pipe": Place(os.mkfifo, "is no file"),
}


@pytest.mark.parametrize("place", REFUSED.values(), ids=REFUSED.keys())
def test_a_plan_is_never_saved_over_what_is_no_saved_plan(
    cli: Cli, project: Path, server: EmbeddedServer, place: Place
) -> None:
    place.make(project / OUT)
    before = _tree(project)
    ended = cli("plan", "-s", server.url, "--no-context", "--out", OUT)
    assert ended.code == 1
    assert f"{OUT} {place.told}" in ended.err
    assert _tree(project) == before


def test_a_plan_is_saved_over_a_plan_and_over_an_empty_file_for_its_owner_alone(
    cli: Cli, project: Path, server: EmbeddedServer
) -> None:
    out = project / OUT
    out.touch()  # as mktemp does
    for _ in range(2):
        out.chmod(0o666)
        assert cli("plan", "-s", server.url, "--no-context", "--out", OUT).code == 0
        assert out.stat().st_mode & 0o777 == 0o600
        assert json.loads(out.read_bytes())["type"] == "saved-plan"
    assert sorted(path.name for path in project.iterdir()) == [OUT, "org.yaml"]


def test_who_holds_the_old_plan_open_does_not_see_the_new_one(
    cli: Cli, project: Path, server: EmbeddedServer
) -> None:
    assert cli("plan", "-s", server.url, "--no-context", "--out", OUT).code == 0
    with (project / OUT).open("rb") as old:
        content = old.read()
        (project / "org.yaml").write_text("org: acme\nroles: [ops]\n", encoding="utf-8")
        assert cli("plan", "-s", server.url, "--no-context", "--out", OUT).code == 0
        old.seek(0)
        assert old.read() == content != (project / OUT).read_bytes()


@pytest.mark.parametrize("words", [("plan", "--out", OUT), ("init", "new.yaml")], ids=["plan", "init"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_file_that_cannot_be_written_whole_is_as_it_was(
    cli: Cli,
    project: Path,
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    number: int,
) -> None:
    at = ("-s", server.url, "--no-context") if words[0] == "plan" else ()
    if at:
        assert cli("plan", *at, "--out", OUT).code == 0
    before = _tree(project)

    def full(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "fsync", full)
    ended = cli(*words, *at)
    assert ended.code == 1
    assert f"cannot write {words[-1]}: {os.strerror(number)}" in ended.err
    assert _tree(project) == before


def test_no_new_manifest_follows_a_link(cli: Cli, project: Path) -> None:
    (project / "new.yaml").symlink_to("elsewhere.yaml")
    ended = cli("init", "new.yaml")
    assert (ended.code, "new.yaml exists and stays as it is" in ended.err) == (1, True)
    assert not (project / "elsewhere.yaml").exists()


def _tree(directory: Path) -> dict[str, Any]:
    """Return every name with what it is, its mode, and what is in it."""
    return {
        path.name: (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in sorted(directory.iterdir())
    }
