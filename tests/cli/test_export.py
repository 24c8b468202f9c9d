"""`export` as a user meets it: where it writes, what it leaves alone, and its exit codes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cyborg_infra.cli import files
from cyborg_infra.operations.exports import FORMATS
from tests.support.cli import SMALL, Cli

SEALED = "org: acme\nroles: {cto: {tasks: {sealed: true}}}\n"
WORKER = "out/consumers/AGENT_CTO_TASKS/cto-worker.json"


def every_file(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_without_a_format_all_are_listed(cli: Cli) -> None:
    shown = cli("export")
    assert shown.code == 0
    assert [name for name in FORMATS if f"{name}: " not in shown.out] == []


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_is_written_once_and_is_up_to_date(cli: Cli, project: Path, name: str) -> None:
    assert cli("export", name, "--out", "out", "--check").code == 2
    assert not (project / "out").exists()
    first = cli("export", name, "--out", "out")
    assert (first.code, first.out) == (0, "")
    before = every_file(project / "out")
    assert cli("export", name, "--out", "out").err.endswith("Nothing to write: out is up to date.\n")
    checked = cli("export", name, "--out", "out", "--check")
    assert (checked.code, checked.out) == (0, "")
    assert every_file(project / "out") == before


def test_what_the_manifest_changes_is_outdated_then_written_and_what_it_drops_is_removed(
    cli: Cli, project: Path
) -> None:
    cli("export", "nats", "--out", "out")
    (project / "out" / "notes.txt").write_text("mine")
    (project / "org.yaml").write_text("org: acme\nroles: [cto, cso]\n", encoding="utf-8")
    found = cli("export", "nats", "--out", "out", "--check")
    assert found.code == 2
    assert "out/streams/AGENT_BACKEND_TASKS.json\n" in found.out  # no longer wanted
    assert "out/streams/AGENT_CSO_TASKS.json\n" in found.out  # missing
    assert "AGENT_CTO_TASKS" not in found.out
    assert cli("export", "nats", "--out", "out").code == 0
    assert cli("export", "nats", "--out", "out", "--check").code == 0
    assert not (project / "out/streams/AGENT_BACKEND_TASKS.json").exists()
    assert (project / "out/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("whose", ["changed", "foreign", "link", "directory"])
def test_a_file_that_is_not_ours_stays_and_nothing_is_written(cli: Cli, project: Path, whose: str) -> None:
    place = project / WORKER
    place.parent.mkdir(parents=True)
    match whose:
        case "changed":
            assert cli("export", "nats", "--out", "out").code == 0
            place.write_text('{"name": "by hand"}')
        case "foreign":
            place.write_text("{}")
        case "link":
            place.symlink_to(project / "org.yaml")
        case "directory":
            place.mkdir()
    (project / "org.yaml").write_text(SMALL + "consumers: {worker: {ack_wait: 1h}}\n", encoding="utf-8")
    before = every_file(project)
    refused = cli("export", "nats", "--out", "out")
    assert refused.code == 1
    assert f"Error: {WORKER} " in refused.err
    assert "stays as it is" in refused.err
    assert every_file(project) == before


def test_a_damaged_index_is_told_and_nothing_is_written(cli: Cli, project: Path) -> None:
    cli("export", "nats", "--out", "out")
    index = project / "out" / ".cyborg-infra-nats.json"
    for text in ("{", "[]", '{"schema_version": 1, "files": {"../org.yaml": ["a"]}}'):
        index.write_text(text)
        refused = cli("export", "nats", "--out", "out")
        assert (refused.code, refused.out) == (1, "")
        assert "is no index of an export" in refused.err
    assert (project / "org.yaml").read_text() == SMALL


def test_an_interrupted_export_is_finished_by_the_next_one(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle: files of the old and of the new export are both known."""
    cli("export", "nats", "--out", "out")
    (project / "org.yaml").write_text(SMALL + "consumers: {worker: {ack_wait: 1h}}\n", encoding="utf-8")
    left = iter([True, True])  # the index, and one of two files

    def until_full(_: int) -> None:
        if not next(left, False):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(files, "fsync", until_full)
        stopped = cli("export", "nats", "--out", "out")
    assert (stopped.code, stopped.out) == (1, "")
    assert "No space left on device" in stopped.err
    assert len(cli("export", "nats", "--out", "out", "--check").out.splitlines()) == 1
    assert cli("export", "nats", "--out", "out").code == 0
    assert cli("export", "nats", "--out", "out", "--check").code == 0


def test_what_cannot_be_said_is_a_note_and_with_strict_exit_3_and_no_file(cli: Cli, project: Path) -> None:
    (project / "org.yaml").write_text(SEALED, encoding="utf-8")
    refused = cli("export", "nats", "--out", "out", "--strict")
    assert refused.code == 3
    assert "Error: AGENT_CTO_TASKS: sealed" in refused.err
    assert not (project / "out").exists()
    told = cli("export", "nats", "--out", "out")
    assert told.code == 0
    assert told.err.startswith("Note: AGENT_CTO_TASKS: sealed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("export nets", "there are nats"),
        ("export nats", "name a directory with --out"),
        ("export nats --check", "--check needs --out"),
        ("export nats --out o --set sever=x", "did you mean server?"),
        ("export nats --out o --set server", "NAME=VALUE"),
        ("export nats nowhere.yaml --out o", "nowhere.yaml"),
        ("export nats --out org.yaml", "org.yaml is no directory"),
        ("export nats --out org.yaml --check", "org.yaml is no directory"),
    ],
)
def test_a_wrong_command_line_is_told(cli: Cli, project: Path, arguments: str, said: str) -> None:
    ended = cli(*arguments.split())
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert [path.name for path in project.iterdir()] == ["org.yaml"]
