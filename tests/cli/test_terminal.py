"""The command line on a terminal, in a pipe and under signals: real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.error_codes import ErrorCode
from tests.support.cli import COMMAND, SMALL, SMALL_COUNT, CommandResult, Terminal, run_process, spawn
from tests.support.nats_client import Api
from tests.support.scenario import Scenario, fetched, published

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


def test_a_refusal_on_a_terminal_does_not_say_the_plan_again(project: Path, api: Api) -> None:
    terminal = Terminal("apply", "--yes", cwd=project)
    assert terminal.ended().code == 0
    for number in range(2):
        assert api.request("acme.agents.cto.tasks", number)["stream"]
    (project / "org.yaml").write_text(
        "org: acme\nroles: {cto: {tasks: {max_msgs: 1}}, backend: {}}\n", encoding="utf-8"
    )
    ended = Terminal("apply", "--yes", cwd=project).ended()
    assert ended.code == 3
    assert COLOUR.sub("", ended.out).count("deletes-messages: 1 oldest message") == 1
    assert "the plan says what each would cost" in ended.out


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """By a signal, once it waits for the answer, and as a person would again, where Python was in a place that swallows it."""
    time.sleep(0.5)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(5)


def answered(terminal: Terminal, answer: str) -> CommandResult:
    """Return how a command ends whose question is answered so; Ctrl-C is a signal."""
    if answer == "\x03":
        threading.Thread(target=_interrupt, args=(terminal.process,), daemon=True).start()
    else:
        terminal.type(answer)
    return terminal.ended()


@pytest.mark.parametrize("answer", ["y\n", "no\n", "Yes\n", "\n", "\x04", "\x03"], ids=repr)
def test_anything_but_yes_changes_nothing(project: Path, api: Api, answer: str) -> None:
    """Ctrl-D and Ctrl-C are no yes either, and nothing is left to do after them."""
    terminal = Terminal("apply", cwd=project)
    terminal.until(ANSWER)
    ended = answered(terminal, answer)
    assert ended.code == 1
    assert "cancelled; nothing was changed" in ended.out
    assert "what is left to do" not in ended.out
    assert "Traceback" not in ended.out
    assert streams(api) == []


def test_init_asks_for_names_on_a_terminal(project: Path) -> None:
    terminal = Terminal("init", "new.yaml", cwd=project)
    terminal.until("The organisation's name [genbrain]: ")
    terminal.type("acme\n")
    terminal.until("Its roles, with spaces between [ceo cto backend]: ")
    terminal.type("ceo, data-eng\n")
    assert terminal.ended().code == 0
    org = json.loads(run_process("show", "new.yaml", "--format", "json", cwd=project).out)
    assert (org["org"], [role["name"] for role in org["roles"]]) == ("acme", ["ceo", "data-eng"])


@pytest.mark.parametrize("answer", ["\x04", "\x03"], ids=repr)
def test_init_that_is_not_answered_writes_nothing(project: Path, answer: str) -> None:
    terminal = Terminal("init", "new.yaml", cwd=project)
    terminal.until("[genbrain]: ")
    ended = answered(terminal, answer)
    assert ended.code == 1
    assert "cancelled; nothing was written" in ended.out
    assert not (project / "new.yaml").exists()


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
    assert ended.code == {"drift": 2, "validate nowhere.yaml": 1}.get(line, 0)


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
        process.wait(120)
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


def interrupted_apply(project: Path, *arguments: str) -> CommandResult:
    """Return an apply that got a Ctrl-C after its first change."""
    (project / "org.yaml").write_text(LONG_APPLY, encoding="utf-8")
    answer = project / "answer"
    with answer.open("w") as out:
        command = [*COMMAND, "apply", "--yes", *arguments]
        process = subprocess.Popen(command, cwd=project, stdout=out, stderr=subprocess.PIPE, text=True)
        with process:
            assert process.stderr is not None
            first = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
    return CommandResult(process.returncode, answer.read_text(), first + err)


def test_an_interrupted_apply_ends_what_is_under_way_and_says_what_is_left(project: Path, api: Api) -> None:
    ended = interrupted_apply(project)
    held = api.request("$JS.API.STREAM.MSG.GET.KV_cyborg-infra", {"last_by_subj": "$KV.cyborg-infra.acme"})
    assert held["error"]["err_code"] == ErrorCode.JSNoMessageFoundErr  # the lease is free
    assert ended.code == 1
    assert "Apply incomplete." in ended.out
    assert "Not reached (" in ended.out
    assert "Traceback" not in ended.err
    created = set(re.findall(r"^\+ stream (\S+): created", ended.err, re.MULTILINE))
    waiting = ended.out.partition("Not reached (")[2]
    not_reached = set(re.findall(r"^  \+ (\w+)$", waiting, re.MULTILINE))
    there = set(streams(api))
    assert created
    assert created <= there
    assert not_reached
    assert not_reached.isdisjoint(there)
    assert "not reached" not in ended.err  # told once
    finished = run_process("apply", "--yes", cwd=project)
    assert finished.code == 0
    assert run_process("drift", "--pending", cwd=project).code == 0


@pytest.mark.parametrize(
    ("by", "change"),
    [
        (signal.SIGINT, "consumers: {worker: {max_waiting: 64}}"),
        (signal.SIGTERM, "streams: {tasks: {storage: memory}}"),
        (signal.SIGHUP, "streams: {tasks: {storage: memory}}"),
    ],
)
def test_an_interrupted_apply_waits_for_no_worker(
    by: signal.Signals, change: str, project: Path, server: EmbeddedServer, tmp_path: Path
) -> None:
    """The worker is served again long before --drain-timeout is over; what it had in hand, it has still."""
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(SMALL)
        published("acme.agents.cto.tasks", 3)(scene)
        fetched("AGENT_CTO_TASKS/cto-worker", 2)(scene)
        (project / "org.yaml").write_text(f"{SMALL}{change}\n", encoding="utf-8")
        words = ("--drain-timeout", "10m", "--allow", "repeats-work", "--allow", "mass-change")
        with spawn("apply", "--yes", *words, cwd=project) as process:
            while not scene.info("AGENT_CTO_TASKS/cto-worker").get("paused"):
                time.sleep(0.01)
            process.send_signal(by)
            out, err = process.communicate(timeout=120)
        assert process.returncode in (0, 1), out + err  # all that there was to do was under way, or not
        worker = scene.info("AGENT_CTO_TASKS/cto-worker")
        assert (worker.get("paused", False), worker["num_ack_pending"]) == (False, 2)
        held = scene.api.request(
            "$JS.API.STREAM.MSG.GET.KV_cyborg-infra", {"last_by_subj": "$KV.cyborg-infra.acme"}
        )
        assert held["error"]["err_code"] == ErrorCode.JSNoMessageFoundErr
        assert not [ref for ref in scene.refs() if "cyborg-infra-" in ref]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_an_apply_that_waits_for_the_lease_ends_when_it_is_interrupted(
    by: signal.Signals, project: Path, api: Api
) -> None:
    assert run_process("apply", "--yes", cwd=project).code == 0
    (project / "org.yaml").write_text(SMALL + "consumers: {worker: {ack_wait: 1h}}\n", encoding="utf-8")
    lease = {"holder": "somebody", "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:01:00Z"}
    api.ask("$KV.cyborg-infra.acme", json.dumps(lease).encode())
    tried = api.subscribe("$KV.cyborg-infra.acme")
    with spawn("apply", "--yes", "--lock-timeout", "5m", cwd=project) as process:
        tried.next(30)
        process.send_signal(by)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in err, "interrupted" in err) == (1, False, True), err


@pytest.mark.parametrize(("by", "words"), [(signal.SIGTERM, "status"), (signal.SIGHUP, "dlq list")])
def test_a_command_whose_server_says_nothing_ends_when_it_is_interrupted(
    by: signal.Signals, words: str, project: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        words_and_server = (*words.split(), "--server", server, "--timeout", "1h")
        with spawn(*words_and_server, cwd=project) as process, silent.accept()[0]:
            process.send_signal(by)
            _, err = process.communicate(timeout=120)
    assert (process.returncode, err.startswith("Error: interrupted")) == (1, True), err


def test_who_was_started_to_outlive_its_terminal_does(
    project: Path, server: EmbeddedServer, api: Api
) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    ignoring = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    with subprocess.Popen([*COMMAND, "apply", "--yes"], cwd=project, preexec_fn=ignoring) as process:  # noqa: PLW1509 - no thread
        time.sleep(1)
        process.send_signal(signal.SIGHUP)
        os.kill(server.pid, signal.SIGCONT)
        assert process.wait(120) == 0
    assert "AGENT_CTO_TASKS" in streams(api)


def test_an_interrupted_apply_has_an_outcome_for_every_change(project: Path) -> None:
    ended = interrupted_apply(project, "--format", "json")
    outcomes = [outcome["outcome"] for outcome in ended.json["outcomes"]]
    assert ended.code == 1
    assert ended.json["complete"] is False
    assert {"done", "not reached"} <= set(outcomes) <= {"done", "failed", "not reached"}
    assert len(outcomes) == len({(each["stream"], each["consumer"]) for each in ended.json["outcomes"]})
    assert len(outcomes) == 4 * ROLES + 4


def started_dev(project: Path, *arguments: str) -> tuple[subprocess.Popen[str], str, str]:
    """Return a `dev` that is ready: the process, its URL, and all that it said."""
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
        assert "cyborg-infra send task backend --title 'Say hello'" in said
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
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
        process.communicate(timeout=120)
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
            process.communicate(timeout=120)
    assert (project / "data").is_dir()


def test_dev_takes_the_port_that_it_is_given(project: Path, server: EmbeddedServer) -> None:
    taken = server.port
    ended = run_process("dev", "--port", str(taken), cwd=project)
    assert ended.code == 1
    assert f"another program listens on 127.0.0.1:{taken} already" in ended.err
    server.kill()
    process, url, _ = started_dev(project, "--port", str(taken))
    with process:
        assert url == f"nats://127.0.0.1:{taken}"
        process.terminate()
        process.communicate(timeout=120)


def test_dev_says_so_when_its_server_dies(project: Path) -> None:
    process, _, _ = started_dev(project, "--store", "data")
    (ports,) = (project / "data").glob("*.ports")
    with process:
        os.kill(int(ports.stem.rpartition("_")[2]), signal.SIGKILL)
        _, err = process.communicate(timeout=120)
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
        "import sys; from cyborg_infra.cli.app import run_command_line; code = run_command_line(sys.argv[1:]);"
        "print(code, [name for name in ('nats', 'asyncio', 'rich', 'pydantic') if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *line.split()], cwd=project, capture_output=True, text=True, check=True
    )
    assert ended.stderr.splitlines()[-1] == "0 []"
