"""What `validate` says of a manifest that is legal and costly: talk on stderr, and an exit code only if asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.cli import SMALL, Cli, assert_fits

WARNING = (
    "Warning: org.yaml:{line}:32: ack_wait 1m of AGENT_CTO_TASKS/cto-worker: a task is handed out again while its agent"
    " still works on it, and the work is paid for twice [short-ack-wait]\n"
    "         agents reason for up to 20 minutes: 30m is the default\n"
)


NOTE = (
    "Note: org.yaml:2:1: roles without reports_to: every role may give work to every other [open-assignment]\n"
    "      say whom each role reports to with reports_to, and whom it gives work to besides with assigns\n"
)


@pytest.fixture
def costly(project: Path) -> str:
    """Return the working directory's manifest has one costly setting; this is what is said of it."""
    (project / "org.yaml").write_text(
        f"{SMALL}consumers: {{worker: {{ack_wait: 30m}}}}\nenvironments:\n  quick:\n    roles:\n"
        "      cto: {worker: {ack_wait: 1m}}\n",
        encoding="utf-8",
    )
    return WARNING.format(line=len(SMALL.splitlines()) + 5)


def test_a_warning_is_talk_and_changes_no_answer(cli: Cli, costly: str) -> None:
    plain, warned = cli("validate"), cli("validate", "--env", "quick")
    assert (plain.code, plain.err) == (0, NOTE)
    assert (warned.code, warned.err) == (0, costly + NOTE)
    assert warned.out == plain.out.replace("acme,", "acme (environment quick),")


@pytest.mark.usefixtures("costly")
def test_strict_exits_1_for_a_warning_and_for_nothing_else(cli: Cli) -> None:
    assert cli("validate", "--strict").code == 0
    strict, lenient = cli("validate", "--env", "quick", "--strict"), cli("validate", "--env", "quick")
    assert strict.code == 1
    assert (strict.out, strict.err) == (lenient.out, lenient.err)


@pytest.mark.usefixtures("costly")
def test_warnings_are_data_too(cli: Cli) -> None:
    ended = cli("validate", "--env", "quick", "--strict", "--format", "json")
    assert ended.code == 1
    assert_fits("validate", ended.json)
    (warning,) = ended.json["warnings"]
    assert (warning["code"], warning["where"]["column"]) == ("short-ack-wait", 32)
    assert ended.json["valid"] is True
    assert cli("validate", "--format", "json").json["warnings"] == []


@pytest.mark.usefixtures("costly")
def test_warnings_that_the_manifest_ignores_are_not_printed(cli: Cli, project: Path) -> None:
    with (project / "org.yaml").open("a", encoding="utf-8") as manifest:
        manifest.write("    lint: {ignore: {short-ack-wait: stubs answer at once}}\n")
    ended = cli("validate", "--env", "quick", "--strict")
    assert (ended.code, ended.err) == (0, NOTE)


@pytest.mark.usefixtures("costly")
def test_findings_are_shown_beside_the_line_by_who_hosts_the_repository(cli: Cli, project: Path) -> None:
    """And told on stderr as ever: that is the log of the job."""
    ended, as_text = (
        cli("validate", "--env", "quick", "--format", "github"),
        cli("validate", "--env", "quick"),
    )
    assert (ended.code, ended.err) == (0, as_text.err)
    assert re.match(
        r"::warning file=org\.yaml,line=7,col=32,title=short-ack-wait::ack_wait 1m of ", ended.out
    )
    (project / "org.yaml").write_text("org: acme\nrolls: [cto]\n", encoding="utf-8")
    refused = cli("validate", "--format", "gitlab")
    assert (refused.code, [issue["check_name"] for issue in refused.json]) == (
        1,
        ["missing-key", "unknown-key"],
    )
    assert refused.err == cli("validate").err
    assert cli("validate", "--format", "sarif").json["runs"][0]["results"][0]["level"] == "error"
