"""`message check` as a user meets it: exit codes, formats, standard input. No server is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import COMMAND, Cli, CommandResult, assert_fits

CASES = Path(__file__).parents[1] / "cases/messages"
LIFE = CASES / "valid/life_of_a_task.jsonl"
GAP = CASES / "invalid/status_gap.jsonl"


def piped(content: bytes | None, *arguments: str, cwd: Path) -> CommandResult:
    """Return the command as a process with this on its standard input; closed if None."""
    command = [*COMMAND, "message", "check", "-", *arguments]
    if content is None:
        command = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    ended = subprocess.run(command, cwd=cwd, input=content, capture_output=True, check=False)
    return CommandResult(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def test_valid_messages_exit_0_and_are_counted(cli: Cli) -> None:
    assert cli("message", "check", LIFE) == CommandResult(0, "7 messages are valid: 1 task, 6 status.\n", "")


def test_invalid_messages_exit_1_and_every_problem_has_its_line(cli: Cli) -> None:
    ended = cli("message", "check", GAP)
    assert (ended.code, ended.out) == (1, "")
    expected = GAP.with_suffix(".txt").read_text(encoding="utf-8")
    assert ended.err.count("Error: ") == len(expected.splitlines())
    assert f"Error: {GAP}:3:" in ended.err
    assert "after accepted comes in_progress or failed" in ended.err


def test_json_fits_its_schema(cli: Cli) -> None:
    valid = cli("message", "check", LIFE, "--format", "json")
    assert (valid.code, valid.err) == (0, "")
    assert_fits("message-check", valid.json)
    assert (valid.json["messages"], valid.json["types"]["status"]) == (7, 6)
    invalid = cli("message", "check", GAP, "--format", "json")
    assert invalid.code == 1
    assert_fits("problems", invalid.json)
    assert invalid.json["error"] == "MessageInvalid"


def test_standard_input_is_read(tmp_path: Path) -> None:
    query = b'{"type": "query", "question": "?"}\n'
    assert piped(query, cwd=tmp_path) == CommandResult(0, "1 message is valid: 1 query.\n", "")
    assert piped(b"", cwd=tmp_path) == CommandResult(1, "", "Error: <stdin>:1:1: there is no message\n")
    assert piped(query + b'{"type": 5}\xff', cwd=tmp_path).err.startswith("Error: <stdin>:2:12: byte 0xff")


def test_standard_input_that_is_closed_is_an_error(tmp_path: Path) -> None:
    ended = piped(None, cwd=tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "Error: <stdin>:1:1: the message cannot be read: Bad file descriptor\n"


@pytest.mark.parametrize(
    "text", ['{"status": "\x1b[31m"', '{"\x1b]0;title\x07": 1}', '{"status": 5, "\\ud800": 1}']
)
def test_nothing_in_a_message_reaches_the_terminal_as_a_control_sequence(
    cli: Cli, project: Path, text: str
) -> None:
    (project / "it.json").write_text(text, encoding="utf-8")
    ended = cli("message", "check", "it.json")
    assert ended.code == 1
    assert "\x1b" not in ended.err
    assert "\x07" not in ended.err


def test_checking_a_message_imports_neither_nats_nor_yaml() -> None:
    code = (
        "import sys; from cyborg_infra.cli.app import run_command_line;"
        f"run_command_line(['message', 'check', {str(LIFE)!r}]);"
        "print([name for name in ('yaml', 'nats', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "7 messages are valid: 1 task, 6 status.\n[]\n"
