"""The permissions that docs/how-to/permissions.md names are enough, and all of them are needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agents import give_up, publish, until
from command import SMALL, Cli
from raw import Api
from servers import StartServer
from transcript import BLOCK

DOCUMENT = Path(__file__).parents[2] / "docs/how-to/permissions.md"
READER, WRITER, OPERATOR = (
    text for language, text in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")) if language == "text"
)


def config(reader: str = READER, writer: str = WRITER) -> str:
    return f"""
      authorization {{ users: [
        {{ user: reader, password: reader, {reader} }}
        {{ user: writer, password: writer, {writer} }}
        {{ user: operator, password: operator, {OPERATOR} }}
        {{ user: admin, password: admin }}
      ] }}
    """


def test_a_reader_plans_and_a_writer_applies(cli: Cli, start_server: StartServer, project: Path) -> None:
    server = start_server(config=config())
    reader = ("--server", server.url, "--user", "reader", "--password", "reader")
    writer = ("--server", server.url, "--user", "writer", "--password", "writer")
    assert cli("plan", *reader).code == 0
    assert cli("apply", "--yes", *reader).code == 1
    assert cli("apply", "--yes", *writer).code == 0
    assert cli("drift", "--pending", *reader).code == 0
    (project / "org.yaml").write_text(
        SMALL.replace(", backend", "")
        + "streams: {inboxes: {storage: memory}}\nconsumers: {worker: {max_waiting: 100}}\n",
        encoding="utf-8",
    )
    assert (
        cli("apply", "--yes", "--prune", "--allow", "stops-capture", "--allow", "mass-change", *writer).code
        == 0
    )
    assert cli("drift", "--pending", *reader).code == 0


def test_a_reader_changes_nothing(cli: Cli, start_server: StartServer) -> None:
    server = start_server(config=config())
    ended = cli("apply", "--yes", "--server", server.url, "--user", "reader", "--password", "reader")
    assert ended.code == 1
    assert "$JS.API.STREAM.CREATE." in ended.out + ended.err
    with Api(server.url, user="admin", **{"pass": "admin"}) as api:
        assert api.request("$JS.API.STREAM.NAMES")["streams"] is None


@pytest.mark.parametrize("subject", ["$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.CONSUMER.LIST.*"])
def test_a_missing_permission_is_named_at_once(cli: Cli, start_server: StartServer, subject: str) -> None:
    server = start_server(config=config(reader=READER.replace(f'"{subject}"', "")))
    assert cli("apply", "--yes", "--server", server.url, "--user", "writer", "--password", "writer").code == 0
    ended = cli("plan", "--server", server.url, "--user", "reader", "--password", "reader")
    assert ended.code == 1
    assert subject.removesuffix("*") in ended.err


def test_an_operator_sends_looks_and_handles_dead_letters(
    cli: Cli, start_server: StartServer, project: Path
) -> None:
    server = start_server(config=config())
    assert cli("apply", "--yes", "--server", server.url, "--user", "writer", "--password", "writer").code == 0
    operator = ("--server", server.url, "--user", "operator", "--password", "operator")
    policy = {
        "type": "policy_update",
        "policy": "Reviews by two.",
        "effective_immediately": True,
        "issued_by": "cto",
    }
    (project / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
    assert cli("send", "broadcast", "policy.json", *operator).code == 0
    with Api(server.url, user="admin", **{"pass": "admin"}) as api:
        for _ in range(3):
            publish(api, "acme.agents.cto.tasks", b"{}")
            give_up(api, "AGENT_CTO_TASKS/cto-worker")
        until(lambda: api.request("$JS.API.STREAM.INFO.DEAD_LETTERS")["state"]["messages"] == 3)
    status = cli("status", "--format", "json", *operator).json
    assert (status["dead_letters"]["count"], status["notes"]) == (3, [])
    for words in (("replay", "1"), ("keep",), ("drop", "--all", "--yes")):
        assert cli("dlq", *words, *operator).code == 0
    assert cli("dlq", "list", *operator).out == "No dead letters.\n"
