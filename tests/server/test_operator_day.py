"""A day of an organisation of twelve roles on three servers, as its operator reads it: kept word for word.

`make cases` writes it anew. Numbers that no two days share (times, ages, ports) are replaced.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.cli.app import run_command_line
from cyborg_infra.live.embedded import EmbeddedServer
from tests.conftest import Golden
from tests.support.agents import SECOND, fetch, nack, nothing_comes, until
from tests.support.cluster import running_cluster
from tests.support.nats_client import Api

ROLES = (
    *("ceo", "cto", "cso", "cfo", "backend", "frontend"),
    *("mobile", "data", "devops", "marketing", "sales", "support"),
)
TOLD = Path(__file__).parents[1] / "cases" / "day.txt"

_SAME: tuple[tuple[str, str], ...] = (
    (r"127\.0\.0\.1:\d+(,nats://127\.0\.0\.1:\d+)*", "127.0.0.1:4222"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "2026-03-02 09:00"),
    (r"(?<=for )\d[\dhms.]*\b|\b\d[\dhms.]*s(?= (?:old|ago))", "5s"),
    (r"\b\d+ B\b", "350 B"),
    (r"server n2 is [^:]+:", "server n2 is behind, and has not been heard of for 5s:"),
    (r"nats-server \d+\.\d+\.\d+", "nats-server 2.15.1"),
    # It says so for as long as some leader has not noticed, and one that was elected later never does.
    (r"copies of at least (?=\d+ streams)", "copies of "),
)


class Screen(io.StringIO):
    """A terminal without colours."""

    def isatty(self) -> bool:
        return True


class Day:
    """The organisation, and all that its operator types and reads."""

    def __init__(self, servers: list[EmbeddedServer], api: Api, project: Path) -> None:
        self.servers, self.api, self.manifest = servers, api, project / "org.yaml"
        self.text = ""

    def says(self, words: str) -> None:
        """What happens beside the terminal."""
        self.text += f"\n# {words}\n\n"

    def types(self, line: str, code: int = 0, *, last: int = 0) -> None:
        """One command, what it prints on both outputs, and its exit code if that is not 0.

        `last`: so many lines of it, where what comes before has been told.
        """
        self.text += f"$ cyborg-infra {line}\n"
        printed = io.StringIO() if "--check" in line else Screen()  # cron has no terminal
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            ended = run_command_line(shlex.split(line))
        lines = _same(printed.getvalue()).splitlines()
        told = ["...", *lines[-last:]] if last else lines
        self.text += "".join(f"{each}\n" for each in told) + (f"[exit code {ended}]\n" if ended else "")
        assert ended == code, self.text[-3000:]

    def alarms(self) -> str:
        """Return what `status --check` would print; no part of the story."""
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
            run_command_line(["status", "--check"])
        return printed.getvalue()

    def by_hand(self, stream: str, consumer: str, **fields: Any) -> None:
        """Somebody changes a consumer with another tool, which keeps its labels."""
        config = self.api.request(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}")["config"]
        body = {"stream_name": stream, "config": config | fields}
        assert "error" not in self.api.request(f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}", body)

    def edits(self, edit: Callable[[str], str]) -> None:
        """The manifest is another one."""
        self.manifest.write_text(edit(self.manifest.read_text(encoding="utf-8")), encoding="utf-8")

    def works(self, ref: str, times: int = 1) -> None:
        """An agent pulls, and does what it gets."""
        for _ in range(times):
            self.api.ask(fetch(self.api, ref).reply, b"+ACK")


def _same(text: str) -> str:
    for pattern, word in _SAME:
        text = re.sub(pattern, word, text)
    return text


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Day]:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    with running_cluster(tmp_path) as servers:
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("NATS_URL", ",".join(server.url for server in servers))
        with Api(servers[0].url) as api:
            yield Day(servers, api, project)


def test_a_day_is_told_as_it_was(day: Day, golden: Golden) -> None:
    it_begins(day)
    it_works(day)
    it_changes(day)
    it_breaks(day)
    it_ends(day)
    golden(TOLD, day.text)


def it_begins(day: Day) -> None:
    day.says("An organisation begins.")
    day.types(f"init --org acme {' '.join(f'--role {role}' for role in ROLES)}")
    day.edits(lambda text: text + "defaults: {replicas: 3}\n")
    day.types("validate --strict")
    day.types("plan --out first.plan")
    day.types("apply first.plan --yes", last=1)
    day.types("status")


def it_works(day: Day) -> None:
    day.says("Four roles get work, and one of the tasks breaks whoever touches it.")
    for number in (1, 2):
        day.types(f"send task cto --title 'Review pull request {number}' --task-id review-{number}", last=1)
    day.types("send task backend --title 'Parse the file that nobody can parse' --task-id parse", last=1)
    day.types("send task sales --title 'Call the customer' --task-id call", last=1)
    day.types("send task support --title 'Answer the letter' --task-id letter", last=1)
    day.works("AGENT_CTO_TASKS/cto-worker", 2)
    nack(day.api, "AGENT_BACKEND_TASKS/backend-worker", 3)
    assert nothing_comes(day.api, "AGENT_BACKEND_TASKS/backend-worker")
    until(lambda: day.api.request("$JS.API.STREAM.INFO.DEAD_LETTERS")["state"]["messages"] == 1)
    day.types("status --check", 2)
    day.types("dlq list")
    day.types("dlq show 1")
    day.types("dlq replay 1")
    day.works("AGENT_BACKEND_TASKS/backend-worker")
    day.types("status --check")


def it_changes(day: Day) -> None:
    day.says("A role is added.")
    day.edits(lambda text: text.replace("  - support\n", "  - support\n  - legal\n"))
    day.types("apply --yes")

    day.says("Another one gets a new name, while a task waits for it.")
    day.edits(lambda text: text.replace("  - sales\n", "  - {name: revenue, renamed_from: sales}\n"))
    day.types("plan")
    day.types("apply --yes", last=1)
    day.works("AGENT_REVENUE_TASKS/revenue-worker")

    day.says("A role goes, and a task still waits for it.")
    day.edits(lambda text: text.replace("  - support\n", ""))
    day.types("plan")
    day.types("apply --yes --prune", 3)
    day.types("apply --yes --prune --allow deletes-messages", last=3)


def it_breaks(day: Day) -> None:
    day.says("One of the three servers dies.")
    day.servers[2].kill()
    until(
        lambda: (
            (said := day.alarms()).startswith("replicas: server n2 is")
            and "15 streams and of 37 consumers" in said
        ),
        seconds=120,
    )
    day.types("status --check", 2)
    day.types("plan")
    day.says("It comes back.")
    day.servers[2].start()
    until(lambda: not day.alarms(), seconds=120)
    day.types("status --check")

    day.says("Somebody changes a worker by hand.")
    day.by_hand("AGENT_CTO_TASKS", "cto-worker", ack_wait=30 * SECOND)
    day.types("drift", 2)
    day.types("apply --yes", last=1)
    day.types("drift")


def it_ends(day: Day) -> None:
    day.says("The end.")
    day.types("destroy --confirm acme", 3)
    day.types("destroy --confirm acme --allow deletes-messages", last=3)
    day.types("status --check", 2)
