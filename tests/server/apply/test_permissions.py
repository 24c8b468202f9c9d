"""The permissions that docs/how-to/permissions.md names are enough, and all of them are needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.agents import publish, term, until
from tests.support.cli import SMALL, Cli
from tests.support.nats_client import Api
from tests.support.permissions import READER, WRITER, config, user
from tests.support.scenario import Scenario, acked, published
from tests.support.servers import NEWEST, OLDEST, StartServer


def test_a_reader_plans_and_a_writer_applies(cli: Cli, start_server: StartServer, project: Path) -> None:
    server = start_server(config=config())
    reader, writer = user(server.url, "reader"), user(server.url, "writer")
    assert cli("plan", *reader).code == 0
    assert cli("apply", "--yes", *reader).code == 3
    assert "may not apply" not in cli("plan", *reader).out
    first = cli("apply", "--yes", *writer)
    assert (first.code, "Warning" in first.err) == (0, False)
    in_sync = cli("drift", "--pending", *reader)
    assert (in_sync.code, "Note" in in_sync.out) == (0, False)
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
    ended = cli("apply", "--yes", *user(server.url, "reader"))
    assert ended.code == 3
    assert "$JS.API.STREAM.CREATE." in ended.out + ended.err
    with Api(server.url, user="admin", **{"pass": "admin"}) as api:
        assert api.request("$JS.API.STREAM.NAMES")["streams"] is None


@pytest.mark.parametrize("subject", ["$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.CONSUMER.LIST.*"])
def test_a_missing_permission_is_named_at_once(cli: Cli, start_server: StartServer, subject: str) -> None:
    server = start_server(config=config(reader=READER.replace(f'"{subject}"', "")))
    assert cli("apply", "--yes", *user(server.url, "writer")).code == 0
    ended = cli("plan", *user(server.url, "reader"))
    assert ended.code == 1
    assert subject.removesuffix("*") in ended.err


def test_an_operator_sends_looks_and_handles_dead_letters(
    cli: Cli, start_server: StartServer, project: Path
) -> None:
    server = start_server(config=config())
    assert cli("apply", "--yes", *user(server.url, "writer")).code == 0
    operator = user(server.url, "operator")
    policy = {
        "type": "policy_update",
        "policy": "Reviews by two.",
        "effective_immediately": True,
        "issued_by": "cto",
    }
    (project / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
    assert cli("send", "broadcast", "-f", "policy.json", *operator).code == 0
    with Api(server.url, user="admin", **{"pass": "admin"}) as api:
        for _ in range(3):
            publish(api, "acme.agents.cto.tasks", b"{}")
            term(api, "AGENT_CTO_TASKS/cto-worker")
        until(lambda: api.request("$JS.API.STREAM.INFO.DEAD_LETTERS")["state"]["messages"] == 3)
    status = cli("status", "--format", "json", *operator).json
    assert (status["dead_letters"]["count"], status["notes"]) == (3, [])
    assert cli("status", "--format", "json", *user(server.url, "monitor")).json["dead_letters"]["count"] == 3
    for words in (("replay", "1"), ("keep",), ("drop", "--all", "--yes")):
        assert cli("dlq", *words, *operator).code == 0
    assert cli("dlq", "list", *operator).out == "No dead letters.\n"


def test_verify_tries_everything_and_touches_nothing_of_the_organisation(
    cli: Cli, start_server: StartServer, project: Path
) -> None:
    manifest = SMALL + (
        "events: {a.stored: {durable: true, subscribers: [cto]}, a.heard: {subscribers: [backend]}}\n"
        "streams: {tasks: {admission: {max_pending: 5}}}\n"
    )
    (project / "org.yaml").write_text(manifest, encoding="utf-8")
    server = start_server(config=config())
    ended = cli("verify", *user(server.url, "verifier"))
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("\nok ") == 17
    with Api(server.url, user="verifier", **{"pass": "verifier"}) as api:
        api.subscribe("acme.agents.cto.requests")
        api.publish("acme.agents.cto.tasks", b"")
        api.flush()
        assert len([error for error in api.errors if "acme.agents." in error]) == 2


def test_nobody_hears_what_is_for_another_user(start_server: StartServer) -> None:
    """Answers, and with them the tasks that agents pull."""
    server = start_server(config=config())
    for name in ("reader", "writer", "operator", "verifier"):
        with Api(server.url, user=name, **{"pass": name}) as api:
            for subject in ("_INBOX.>", "_INBOX.cto.>", ">"):
                api.subscribe(subject)
            api.flush()
            own = "'Permissions Violation for Subscription to \"_INBOX.tests."
            assert len([error for error in api.errors if not error.startswith(own)]) == 3


INBOX = ("--inbox-prefix", "_INBOX.writer")
WORKER, MEMORY = "consumers: {worker: {max_waiting: 64}}", "streams: {tasks: {storage: memory}}"
NEEDED = (
    *((WORKER, f"CONSUMER.{verb}.*.*", NEWEST) for verb in ("PAUSE", "RESET", "DELETE", "CREATE")),
    *((MEMORY, f"STREAM.{verb}.*", NEWEST) for verb in ("CREATE", "UPDATE", "PURGE", "DELETE")),
    *((MEMORY, f"CONSUMER.{verb}.*.*", NEWEST) for verb in ("PAUSE", "DELETE")),
    *((WORKER, f"CONSUMER.{verb}.*.*", OLDEST) for verb in ("DELETE", "CREATE")),
    *((MEMORY, f"STREAM.{verb}.*", OLDEST) for verb in ("PURGE", "DELETE", "MSG.GET")),
)


def without(verb: str, *, denied: bool) -> str:
    """Return the permissions of a writer without this one: it is not allowed, or it is denied as well."""
    writer = str(WRITER)
    if denied:
        return writer.replace("publish: {", f'publish: {{ deny: ["$JS.API.{verb}"]', 1)
    return writer.replace(f'"$JS.API.{verb}"', "")


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_what_a_plan_needs_and_the_user_may_not_is_refused_before_the_first_write(
    version: str, cli: Cli, start_server: StartServer, project: Path, tmp_path: Path
) -> None:
    users = [
        (number, change, verb) for number, (change, verb, since) in enumerate(NEEDED) if since == version
    ]
    rows = (
        f"{{ user: u{number}, password: x, {without(verb, denied=bool(number % 2))} }}"
        for number, _, verb in users
    )
    server = start_server(
        version=version, config=f"authorization {{ users: [{{user: a, password: x}}, {', '.join(rows)}] }}"
    )
    with Scenario(server.url.replace("//", "//a:x@"), tmp_path) as scene:
        scene.converge("org: acme\nroles: [cto]\n")
        published("acme.agents.cto.tasks", 5)(scene)
        acked("AGENT_CTO_TASKS/cto-worker", 3)(scene)
        untouched = scene.everything()
        for number, change, verb in users:
            (project / "org.yaml").write_text(f"org: acme\nroles: [cto]\n{change}\n", encoding="utf-8")
            who = ("--server", server.url, "--user", f"u{number}", "--password", "x", *INBOX)
            subject = f"$JS.API.{verb.removesuffix('.*').removesuffix('.*')}."
            ended = cli("apply", "--yes", "--allow", "repeats-work", *who)
            assert (ended.code, f"this user may not publish to {subject}" in ended.err) == (3, True), ended
            assert "this user may not apply it. " in cli("plan", *who).out
        assert untouched == scene.everything()


def test_where_the_server_does_not_say_what_a_user_may_a_plan_says_so_and_is_applied(
    cli: Cli, start_server: StartServer
) -> None:
    quiet = WRITER.replace('"$SYS.REQ.USER.INFO"', "")
    server = start_server(config=config(writer=quiet))
    who = user(server.url, "writer")
    assert "does not say what this user may do" in cli("plan", *who).out
    assert cli("apply", "--yes", *who).code == 0
    assert "does not say" not in cli("plan", *who).out  # there is nothing to do


@pytest.mark.parametrize(
    ("allowed", "says"),
    [
        (WRITER, ""),
        (WRITER.replace('      "$JS.ACK.>"\n', "", 1), "publish to $JS.ACK.AGENT_CTO_TASKS.cto-worker."),
        (
            WRITER.replace('      "_INBOX.writer.>"\n      "$JS.ACK.>"\n', '      "_INBOX.writer.>"\n'),
            "hear acknowledgements ($JS.ACK.>)",
        ),
        (
            WRITER.replace('      "$JS.API.CONSUMER.MSG.NEXT.*.*"\n', ""),
            "publish to $JS.API.CONSUMER.MSG.NEXT.AGENT_CTO_TASKS.cto-worker",
        ),
    ],
    ids=["all", "no answers", "deaf", "no messages"],
)
def test_without_a_right_to_keep_work_open_it_has_to_end(
    cli: Cli, start_server: StartServer, project: Path, allowed: str, says: str
) -> None:
    """That is found before anything is deleted."""
    assert not says or allowed != WRITER
    server = start_server(config=config(writer=allowed))
    writer = ("--yes", *user(server.url, "writer"))
    assert cli("apply", *writer).code == 0
    with Api(server.url, user="admin", **{"pass": "admin"}) as api:
        publish(api, "acme.agents.cto.tasks")
        inbox = api.subscribe("handed")
        api.publish("$JS.API.CONSUMER.MSG.NEXT.AGENT_CTO_TASKS.cto-worker", b"", reply=inbox.subject)
        assert inbox.next().reply
        (project / "org.yaml").write_text(
            SMALL + "consumers: {worker: {max_waiting: 100}}\n", encoding="utf-8"
        )
        ended = cli("apply", *writer, "--drain-timeout", "100ms")
        assert ended.code == (1 if says else 0)
        assert says in ended.out + ended.err
        info = api.request("$JS.API.CONSUMER.INFO.AGENT_CTO_TASKS.cto-worker")
        assert (info["config"]["max_waiting"], info["num_ack_pending"]) == (512 if says else 100, 1)
        assert not info.get("paused")
