"""The command line on a terminal, in a pipe and under signals: real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command import COMMAND, SMALL_COUNT, Ended, Terminal, run_process, spawn
from raw import Api

from cyborg_infra.live.embedded import EmbeddedServer

ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ANSWER = "Enter a value: "
ROLES = 150
LONG_APPLY = "org: acme\nroles: [" + ", ".join(f"role-{number}" for number in range(ROLES)) + "]\n"
"""More than 600 changes: enough for an interrupt to arrive while it runs."""


@pytest.fixture(autouse=True)
def _nats_url(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process finds the test's server."""
    monkeypatch.setenv("NATS_URL", server.url)
    for name in ("NO_COLOR", "TERM", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


def streams(api: Api) -> list[str]:
    return api.request("$JS.API.STREAM.NAMES")["streams"] or []


def test_yes_is_asked_for_once_and_proceeds(project: Path, api: Api) -> None:
    terminal = Terminal("apply", cwd=project)
    terminal.until(ANSWER)
    assert f"Do you want to perform these {SMALL_COUNT} actions?" in terminal.shown
    assert streams(api) == []
    terminal.type("yes\n")
    ended = terminal.ended()
    assert ended.code == 0
    assert "Apply complete!" in ended.out
    assert ended.out.count(ANSWER) == 1
    assert "AGENT_CTO_TASKS" in streams(api)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """By a signal, once it waits for the answer, and as a person would again, where Python was in a place that swallows it."""
    time.sleep(0.5)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(5)


@pytest.mark.parametrize("answer", ["y\n", "no\n", "Yes\n", "\n", "\x04", "\x03"], ids=repr)
def test_anything_but_yes_changes_nothing(project: Path, api: Api, answer: str) -> None:
    """Ctrl-D and Ctrl-C are no yes either."""
    terminal = Terminal("apply", cwd=project)
    terminal.until(ANSWER)
    if answer == "\x03":
        threading.Thread(target=_interrupt, args=(terminal.process,), daemon=True).start()
    else:
        terminal.type(answer)
    ended = terminal.ended()
    assert ended.code == 1
    assert "cancelled" in ended.out or "interrupted" in ended.out
    assert "Traceback" not in ended.out
    assert streams(api) == []


def test_nothing_to_do_asks_nothing(project: Path) -> None:
    assert run_process("apply", "--yes", cwd=project).code == 0
    ended = Terminal("apply", cwd=project).ended()
    assert ended.code == 0
    assert ANSWER not in ended.out


@pytest.mark.parametrize(
    "line", ["plan", "show", "validate", "apply --yes", "plan --server nats://127.0.0.1:1"]
)
def test_lines_fit_80_columns(project: Path, line: str) -> None:
    """Only a word that is longer than the line may be broken by the terminal itself."""
    ended = Terminal(*line.split(), cwd=project, env={"TERM": "dumb"}).ended()
    assert [text for text in ended.out.split("\n") if len(text) > 80] == []


def test_a_terminal_gets_colour(project: Path) -> None:
    assert COLOUR.search(Terminal("plan", cwd=project).ended().out)


@pytest.mark.parametrize(
    ("arguments", "env"),
    [(("--no-color",), {}), ((), {"NO_COLOR": "1"}), ((), {"TERM": "dumb"})],
    ids=["--no-color", "NO_COLOR", "TERM=dumb"],
)
@pytest.mark.parametrize("line", ["plan", "show", "drift", "plan --server nats://127.0.0.1:1"])
def test_no_colour_where_none_is_wanted(
    project: Path, line: str, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    assert ESCAPE not in Terminal(*line.split(), *arguments, cwd=project, env=env).ended().out


def test_an_apply_without_colour_colours_nothing(project: Path) -> None:
    """The progress bar may move the cursor; it has no colour either."""
    ended = Terminal("apply", "--yes", "--no-color", cwd=project).ended()
    assert ended.code == 0
    assert not COLOUR.search(ended.out)


@pytest.mark.parametrize("line", ["plan", "show", "apply --yes", "drift", "validate nowhere.yaml"])
def test_a_pipe_gets_neither_colour_nor_broken_lines(project: Path, line: str) -> None:
    ended = run_process(*line.split(), cwd=project, env={"TERM": "xterm-256color", "COLUMNS": "20"})
    assert ESCAPE not in ended.out + ended.err
    assert ended.code in (0, 1)


@pytest.mark.parametrize("line", ["plan", "show --format json", "--help"])
def test_a_reader_that_leaves_early_is_no_error_of_ours(tmp_path: Path, project: Path, line: str) -> None:
    """`| head -1`: no traceback, no word."""
    (project / "org.yaml").write_text(LONG_APPLY, encoding="utf-8")
    errors = tmp_path / "stderr"
    with errors.open("w") as err:
        process = subprocess.Popen(
            [*COMMAND, *line.split()], cwd=project, stdout=subprocess.PIPE, stderr=err, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        process.wait(60)
    assert errors.read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
@pytest.mark.parametrize("line", ["plan", "show --format json", "--help", "validate nowhere --format json"])
def test_output_that_cannot_be_written_is_an_error_in_words(project: Path, line: str) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [*COMMAND, *line.split()],
            cwd=project,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert process.stderr.startswith("Error: the output could not be written: No space left on device\n")


@pytest.mark.parametrize(("line", "code"), [("show", 0), ("plan", 0), ("validate nowhere", 1)])
def test_who_closes_the_output_wants_the_exit_code_only(project: Path, line: str, code: int) -> None:
    process = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *COMMAND, *line.split()], cwd=project, check=False
    )
    assert process.returncode == code


def interrupted_apply(project: Path, *arguments: str) -> Ended:
    """An apply that got a Ctrl-C after its first change."""
    (project / "org.yaml").write_text(LONG_APPLY, encoding="utf-8")
    answer = project / "answer"
    with answer.open("w") as out:
        command = [*COMMAND, "apply", "--yes", *arguments]
        process = subprocess.Popen(command, cwd=project, stdout=out, stderr=subprocess.PIPE, text=True)
        with process:
            assert process.stderr is not None
            first = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    return Ended(process.returncode, answer.read_text(), first + err)


def test_an_interrupted_apply_ends_what_is_under_way_and_says_what_is_left(project: Path, api: Api) -> None:
    ended = interrupted_apply(project)
    assert ended.code == 1
    assert "Apply incomplete." in ended.out
    assert "Not reached (" in ended.out
    assert "Traceback" not in ended.err
    said = dict(re.findall(r"^\+ stream (\S+): (created|failed|not reached)", ended.err, re.MULTILINE))
    there = set(streams(api))
    assert {name for name, outcome in said.items() if outcome == "created"} <= there
    assert {name for name, outcome in said.items() if outcome == "not reached"}.isdisjoint(there)
    assert {"created", "not reached"} <= set(said.values())
    finished = run_process("apply", "--yes", cwd=project)
    assert finished.code == 0
    assert run_process("drift", "--pending", cwd=project).code == 0


def test_an_interrupted_apply_has_an_outcome_for_every_change(project: Path) -> None:
    ended = interrupted_apply(project, "--format", "json")
    outcomes = [outcome["outcome"] for outcome in ended.json["outcomes"]]
    assert ended.code == 1
    assert ended.json["complete"] is False
    assert {"done", "not reached"} <= set(outcomes) <= {"done", "failed", "not reached"}
    assert len(outcomes) == len({(each["stream"], each["consumer"]) for each in ended.json["outcomes"]})
    assert len(outcomes) == 4 * ROLES + 4


def started_dev(project: Path, *arguments: str) -> tuple[subprocess.Popen[str], str, str]:
    """A `dev` that is ready: the process, its URL, and all that it said."""
    process = spawn("dev", *arguments, cwd=project)
    assert process.stdout is not None
    said = ""
    while "nats consumer next" not in said:
        line = process.stdout.readline()
        assert line, f"dev ended: {said}{process.communicate()}"
        said += line
    return process, said.split("Listening on ")[1].split()[0], said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dev_is_a_server_with_the_manifest_applied_until_a_signal(
    project: Path, number: signal.Signals
) -> None:
    process, url, said = started_dev(project)
    with process, Api(url) as mine:
        assert "AGENT_CTO_TASKS" in streams(mine)
        assert f"export NATS_URL={url}" in said
        assert "nats pub acme." in said
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "Stopped.\n")
    with pytest.raises(ConnectionRefusedError):
        Api(url)


def test_dev_leaves_nothing_behind(project: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with spawn("dev", cwd=project, env={"TMPDIR": str(temporary)}) as process:
        assert process.stdout is not None
        assert "Apply complete!" in process.stdout.readline()
        assert list(temporary.iterdir())
        process.terminate()
        process.communicate(timeout=30)
    assert list(temporary.iterdir()) == []


def test_dev_keeps_its_data_in_the_store(project: Path) -> None:
    for expected in (0, 1):
        process, url, said = started_dev(project, "--store", "data")
        with process, Api(url) as mine:
            assert "The data stays in data." in said
            found = mine.request("$JS.API.STREAM.INFO.AGENT_CTO_TASKS")
            assert found["state"]["messages"] == expected
            mine.request("acme.agents.cto.tasks", "kept")
            process.terminate()
            process.communicate(timeout=30)
    assert (project / "data").is_dir()


def test_dev_takes_the_port_that_it_is_given(project: Path, server: EmbeddedServer) -> None:
    taken = server.port
    ended = run_process("dev", "--port", str(taken), cwd=project)
    assert ended.code == 1
    assert "address already in use" in ended.err
    server.kill()
    process, url, _ = started_dev(project, "--port", str(taken))
    with process:
        assert url == f"nats://127.0.0.1:{taken}"
        process.terminate()
        process.communicate(timeout=30)


def test_dev_says_so_when_its_server_dies(project: Path) -> None:
    process, _, _ = started_dev(project, "--store", "data")
    (ports,) = (project / "data").glob("*.ports")
    with process:
        os.kill(int(ports.stem.rpartition("_")[2]), signal.SIGKILL)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.startswith("Error: nats-server ended with code -9")


def test_dev_without_a_binary_says_how_to_get_one(project: Path, tmp_path: Path) -> None:
    ended = run_process("dev", cwd=project, env={"CYBORG_INFRA_NATS_SERVER": str(tmp_path / "none")})
    assert ended.code == 1
    assert "is no executable file" in ended.err


@pytest.mark.parametrize(
    "line", ["validate", "show", "show --format json", "--help", "plan --help", "--version"]
)
def test_what_needs_neither_nats_nor_rich_imports_neither(project: Path, line: str) -> None:
    """Start-up counts: nats costs 110 ms, rich 50."""
    code = (
        "import sys; from cyborg_infra.cli.app import run; code = run(sys.argv[1:]);"
        "print(code, [name for name in ('nats', 'asyncio', 'rich', 'pydantic') if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *line.split()], cwd=project, capture_output=True, text=True, check=True
    )
    assert ended.stderr == "0 []\n"
