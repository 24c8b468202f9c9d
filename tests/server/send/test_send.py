"""What is sent is stored once, where it belongs; or it is refused before anything is sent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.agents import TASK, fetch
from tests.support.cli import COMMAND, Cli, CommandResult, assert_fits
from tests.support.scenario import Scenario

MANIFEST = "org: acme\nroles: [cto, cso]\n"
POLICY = {
    "type": "policy_update",
    "policy": "Reviews by two.",
    "effective_immediately": True,
    "issued_by": "cto",
}
ALERT = {
    "type": "security_alert",
    "severity": "HIGH",
    "source": "scan",
    "scan_id": "s-1",
    "findings_count": 2,
}


class Sender:
    """`cyborg-infra send` of a message that stands in a file."""

    def __init__(self, scenario: Scenario, cli: Cli, project: Path) -> None:
        self.scene, self.project = scenario, project
        self._cli = cli
        (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")

    def applies(self, manifest: str) -> None:
        (self.project / "org.yaml").write_text(manifest, encoding="utf-8")
        self.scene.converge(manifest)

    def __call__(self, words: str, *messages: object, more: str = "") -> CommandResult:
        file = self.project / "message.json"
        file.write_text("".join(json.dumps(message) + "\n" for message in messages), encoding="utf-8")
        server = ("--server", self.scene.url, "--no-context")
        return self._cli("send", *words.split(), "--file", str(file), *server, *more.split())

    def worded(self, role: str, *words: str) -> CommandResult:
        return self._cli("send", "task", role, *words, "--server", self.scene.url, "--no-context")

    def holds(self, stream: str) -> int:
        found: int = self.scene.info(stream)["state"]["messages"]
        return found


@pytest.fixture
def send(any_server: EmbeddedServer, tmp_path: Path, cli: Cli, project: Path) -> Iterator[Sender]:
    with Scenario(any_server.url, tmp_path) as scene:
        yield Sender(scene, cli, project)


def task(number: int, **members: Any) -> dict[str, Any]:
    return {**TASK, "task_id": f"t-{number}", **members}


def test_a_task_is_stored_once_however_often_it_is_sent(send: Sender) -> None:
    assert "Error: AGENT_CTO_TASKS is not on the server" in send("task cto", TASK).err
    send.applies(MANIFEST)
    assert send("task cto", TASK, more="--dry-run").out.startswith(
        "Would be sent: task t-1 to acme.agents.cto"
    )
    assert send.holds("AGENT_CTO_TASKS") == 0
    first, second = send("task cto", TASK), send("task cto", TASK)
    assert (first.code, first.out) == (0, "Sent: task t-1: AGENT_CTO_TASKS, sequence 1\n")
    assert (second.code, second.out) == (0, "Already there: task t-1: AGENT_CTO_TASKS, sequence 1\n")
    assert fetch(send.scene.api, "AGENT_CTO_TASKS/cto-worker").json == TASK
    ended = send("task cto", task(2), task(3), more="--format json")
    assert_fits("sent", ended.json)
    assert [each["sequence"] for each in ended.json["messages"]] == [2, 3]


def test_a_task_can_be_worded_on_the_command_line(send: Sender) -> None:
    send.applies(MANIFEST)
    words = ("--title", "Add passkeys", "--type", "feature", "--priority", "high", "--task-id", "t-7")
    more = ("--description", "In full.", "--assigned-by", "ceo", "--task-context", "codebase_path=login")
    assert send.worded("cto", *words, *more).out == "Sent: task t-7: AGENT_CTO_TASKS, sequence 1\n"
    assert send.worded("cto", *words, *more).out.startswith("Already there: task t-7")
    stored = fetch(send.scene.api, "AGENT_CTO_TASKS/cto-worker").json
    assert stored.pop("lifecycle")["status"] == "assigned"
    assert stored == {
        "task_id": "t-7",
        "type": "feature",
        "title": "Add passkeys",
        "description": "In full.",
        "assigned_by": "ceo",
        "assigned_to": "cto",
        "priority": "high",
        "context": {"codebase_path": "login"},
    }
    assert [send.worded("cto", "--title", "Again").code for _ in range(2)] == [0, 0]
    assert send.holds("AGENT_CTO_TASKS") == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no task to send"),
        (("-f", "task.json", "--title", "x"), "--title cannot be used with --file"),
        (("-f", "task.json", "--task-context", "a=b"), "--task-context cannot be used with --file"),
        (("--title", "x", "--priority", "urgent"), "priority"),
        (("--title", "x", "--task-context", "codebase_path"), "'codebase_path' is not key=value"),
        (("--title", "x", "--task-context", "a=1", "--task-context", "a=2"), "'a=2' is there twice"),
        (("--title", "x", "--assigned-by", "no role"), "assigned_by"),
    ],
    ids=str,
)
def test_a_task_that_is_worded_wrongly_is_not_sent(
    cli: Cli, server: EmbeddedServer, words: tuple[str, ...], said: str
) -> None:
    ended = cli("send", "task", "cto", *words, "--server", server.url)
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err


def test_what_cannot_be_sent_so_is_refused_with_its_place_before_anything_is_sent(send: Sender) -> None:
    send.applies(MANIFEST)
    wrong = send("task cso", task(2, assigned_to="cso"), TASK)
    assert (wrong.code, wrong.out) == (1, "")
    assert "message.json:2:1: this task is assigned to cto, not to cso" in wrong.err
    assert "did you mean cto?" in send("task ctoo", TASK).err
    assert send("task cto", {**TASK, "priority": "urgent"}).code == 1
    assert send("broadcast", TASK).code == 1
    assert send("inbox cto", POLICY).code == 1
    assert [send.holds(stream) for stream in ("AGENT_CTO_TASKS", "AGENT_CSO_TASKS", "ORG_BROADCASTS")] == [
        0
    ] * 3


def test_a_role_gets_no_more_than_its_limit_unless_it_is_allowed(send: Sender) -> None:
    send.applies(MANIFEST)
    assert send("task cto", *(task(number) for number in range(5))).code == 0
    for more in ("", "--dry-run"):
        refused = send("task cto", task(6), more=more)
        assert (refused.code, refused.out) == (3, "")
        assert "5 waiting for cto" in refused.err
    assert send("task cso", task(6, assigned_to="cso")).code == 0
    assert send.holds("AGENT_CTO_TASKS") == 5
    assert send("task cto", task(6), more="--allow over-limit").code == 0
    assert send.holds("AGENT_CTO_TASKS") == 6
    send.applies(MANIFEST + "alerts: {lag: 99, tasks: {lag: 8}}\n")
    assert send("task cto", *(task(number) for number in range(7, 10))).code == 3
    assert send("task cto", *(task(number) for number in range(7, 9))).code == 0


def test_a_workqueue_with_admission_refuses_by_itself_and_what_was_sent_before_is_told(send: Sender) -> None:
    send.applies(
        MANIFEST + "alerts: {lag: 100}\nstreams: {tasks: {retention: workqueue, discard: new, max_msgs: 2}}\n"
    )
    ended = send("task cto", *(task(number) for number in range(1, 5)), more="--format json")
    assert ended.code == 3
    assert_fits("sent", ended.json)
    told = [(each["sequence"], (each["problem"] or {}).get("code")) for each in ended.json["messages"]]
    assert told == [(1, None), (2, None), (None, "over-limit"), (None, None)]
    refused = send("task cto", task(3))
    assert (refused.code, refused.out) == (3, "")
    assert "maximum messages exceeded (err_code 10077)" in refused.err


def test_with_admission_the_server_counts_and_the_lag_does_not(send: Sender) -> None:
    """And what is there already is so, however full the role is."""
    send.applies(MANIFEST + "streams: {tasks: {admission: {max_pending: 7}}}\n")
    assert send("task cto", *(task(number) for number in range(7))).code == 0
    assert send("task cto", task(7)).code == 3
    assert send("task cto", task(6)).out == "Already there: task t-6: AGENT_CTO_TASKS, sequence 7\n"


def test_the_same_words_are_one_broadcast_and_one_message_for_each_inbox(send: Sender) -> None:
    send.applies(MANIFEST)
    for _ in range(2):
        assert send("broadcast", POLICY).code == 0
        assert [send(f"inbox {role}", ALERT).code for role in ("cto", "cso")] == [0, 0]
    assert [send.holds(stream) for stream in ("ORG_BROADCASTS", "AGENT_INBOXES")] == [1, 2]
    assert fetch(send.scene.api, "AGENT_INBOXES/cso-inbox-reader").json == ALERT


def test_a_message_may_come_on_standard_input(server: EmbeddedServer, tmp_path: Path, project: Path) -> None:
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(MANIFEST)
        (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
        command = [*COMMAND, "send", "broadcast", "-f", "-", "--server", server.url, "--no-context"]
        ended = subprocess.run(
            command, cwd=project, input=json.dumps(POLICY), capture_output=True, text=True, check=False
        )
    assert ended.stderr.startswith(f"Organisation acme on {server.url} (from --server), account $G")
    assert ended.stdout.startswith("Sent: broadcast sha256:")


def test_a_subject_that_another_stream_stores_gets_nothing(
    server: EmbeddedServer, tmp_path: Path, cli: Cli, project: Path
) -> None:
    """`Nats-Expected-Stream`: what a stranger's stream would have kept is not sent at all."""
    with Scenario(server.url, tmp_path) as scene:
        send = Sender(scene, cli, project)
        send.applies(MANIFEST)
        config = scene.config("AGENT_CTO_TASKS") | {"subjects": ["elsewhere"]}
        scene.ask("STREAM.UPDATE.AGENT_CTO_TASKS", config)
        scene.ask("STREAM.CREATE.THEIRS", {"name": "THEIRS", "subjects": ["acme.agents.cto.tasks"]})
        assert send("task cto", TASK).code == 1
        assert send.holds("THEIRS") == 0


def test_nothing_is_done_on_a_server_that_the_manifest_does_not_expect(
    server: EmbeddedServer, tmp_path: Path, cli: Cli, project: Path
) -> None:
    """Neither sending nor looking nor deleting: production's dead letters are not those of the laptop."""
    with Scenario(server.url, tmp_path) as scene:
        send = Sender(scene, cli, project)
        send.applies(MANIFEST)
        (project / "org.yaml").write_text(MANIFEST + "server: {account: ACME}\n", encoding="utf-8")
        for ended in (
            send("broadcast", POLICY),
            cli("status", "--server", server.url),
            cli("dlq", "drop", "--all", "--yes", "--server", server.url),
        ):
            assert (ended.code, ended.out) == (1, "")
            assert "org.yaml:3:19: the manifest expects account 'ACME', and this server has '$G'" in ended.err
        assert send.holds("ORG_BROADCASTS") == 0
