"""The commands as a user meets them: exit codes, formats, messages, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cyborg_infra.cli.app import COMMANDS, command_module, names
from cyborg_infra.live.api.jetstream import connect_account
from cyborg_infra.live.connection.target import Flags, resolve
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.records.lease import lease
from cyborg_infra.model.buckets import LEASE_BUCKET
from tests.support.agents import TASK
from tests.support.cli import SMALL, SMALL_COUNT, Cli, CommandResult, assert_fits, run_process
from tests.support.nats_client import Api
from tests.support.servers import StartServer

NAMES = list(COMMANDS)
CONNECTED = ("plan", "apply", "drift", "destroy")
NOBODY = "nats://127.0.0.1:1"
WORKER = "AGENT_CTO_TASKS.cto-worker"


def set_ack_wait(api: Api, seconds: int) -> None:
    """Somebody changes a consumer by hand."""
    config = api.request(f"$JS.API.CONSUMER.INFO.{WORKER}")["config"]
    body = {"stream_name": "AGENT_CTO_TASKS", "config": config | {"ack_wait": seconds * 10**9}}
    assert "error" not in api.request(f"$JS.API.CONSUMER.CREATE.{WORKER}", body)


def publish(api: Api, subject: str, count: int) -> None:
    for number in range(count):
        assert api.request(subject, number)["stream"]


@pytest.fixture
def applied(cli: Cli, server: EmbeddedServer) -> Cli:
    """Return the command line, with `--server` and the manifest applied."""
    assert cli("apply", "--yes", "--server", server.url).code == 0
    return lambda *arguments: cli(*arguments, "--server", server.url)


# Help and usage


@pytest.mark.parametrize("name", names())
def test_help_has_an_example_and_fits_80_columns(
    cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    shown = cli(*name.split(), "--help")
    assert shown.code == 0
    assert f"Example: cyborg-infra {name}" in shown.out or "Commands:" in shown.out
    assert [line for line in shown.out.splitlines() if len(line) > 80] == []
    assert "...\n" not in shown.out.partition("Commands:")[2]
    own, _, shared = shown.out.partition("Connection (as in the nats CLI):\n")
    assert ("--server" in own, "--creds" in own, "Example" in shared) == (False, False, False)


@pytest.mark.parametrize("name", names())
def test_the_manifest_is_the_last_argument_of_every_command_that_reads_one(cli: Cli, name: str) -> None:
    """And nothing else."""
    (usage, *_), text = (shown := cli(*name.split(), "--help").out).splitlines(), shown
    assert "--manifest" not in text
    module = command_module(name.split(maxsplit=1)[0])
    reads_one = "MANIFEST" in usage or any("Manifest" in attribute for attribute in vars(module))
    last = ("[MANIFEST]", "[MANIFEST|PLAN]", "[MANIFEST...]", "[MANIFEST...|PLAN]")
    assert "COMMAND" in usage or not reads_one or usage.endswith(last)


@pytest.mark.parametrize("group", ["auth", "dlq", "message", "send"])
def test_a_group_of_commands_alone_lists_them(cli: Cli, group: str) -> None:
    ended = cli(group)
    assert (ended.code, ended.out) == (1, "")
    assert all(word in ended.err for word in command_module(group).COMMANDS)


def test_what_is_missing_is_told_in_one_line(cli: Cli) -> None:
    first, *_ = cli("auth", "explain", "cto").err.splitlines()
    assert first == (
        "Error: Missing argument 'publish|subscribe|pull|request'. Choose from: publish, subscribe, pull, request"
    )


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_every_command_and_the_exit_codes(cli: Cli, arguments: tuple[str, ...]) -> None:
    shown = cli(*arguments)
    assert (shown.code, shown.err) == (0, "")
    assert [name for name in NAMES if f"  {name} " not in shown.out] == []
    assert "3 refused" in " ".join(shown.out.split())


def test_version_is_the_package_s(cli: Cli) -> None:
    assert cli("--version").out == "cyborg-infra 0.1.0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "frobnicate",
        "plan --frobnicate",
        "plan --format xml",
        "validate --format markdown",
        "plan org.yaml another.yaml",
        "plan --server",
        "plan --timeout 5",
        "plan --timeout soon",
        "plan --server http://127.0.0.1",
        "plan --context nowhere",
        "plan --creds nowhere.creds",
        "plan --target nobody",
        "apply --allow everything",
        "apply --allow all",
        "dev --port nats",
        "dev --port 65536",
        "init org.yaml",
        "init new.yaml --role",
        "init nowhere/org.yaml",
        "validate --env nowhere",
        "validate nowhere.yaml",
        "validate .",
        "message",
        "message chek",
        "message check",
        "message check nowhere.json",
        "message check org.yaml --type letter",
        "message check org.yaml",
    ],
)
def test_wrong_usage_exits_1_with_one_error_and_no_output(
    cli: Cli, server: EmbeddedServer, arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", server.url)
    ended = cli(*arguments.split())
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: ")
    assert ended.err.count("Error: ") == 1
    assert "Traceback" not in ended.err


# Exit codes


@pytest.mark.parametrize("name", ["validate", "show", *CONNECTED, "dev"])
def test_an_invalid_manifest_exits_1_and_reports_every_problem(cli: Cli, project: Path, name: str) -> None:
    (project / "org.yaml").write_text("org: acme\nroles: [cto, cto]\nstreems: {}\n", encoding="utf-8")
    ended = cli(name)
    assert (ended.code, ended.out) == (1, "")
    assert "org.yaml:2:14: " in ended.err
    assert "org.yaml:3:1: " in ended.err


@pytest.mark.parametrize("name", CONNECTED)
def test_an_unreachable_server_exits_1(cli: Cli, name: str) -> None:
    ended = cli(name, "--server", NOBODY)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"Error: cannot connect to {NOBODY}")


def test_a_first_run_exits_0_at_every_step(cli: Cli, server: EmbeddedServer) -> None:
    steps = ("init first.yaml", "validate first.yaml", "show first.yaml")
    for step in steps:
        assert cli(*step.split()).code == 0
    for step in ("plan first.yaml", "apply first.yaml --yes", "plan first.yaml", "drift first.yaml"):
        assert cli(*step.split(), "--server", server.url).code == 0


def test_differences_exit_2_only_where_they_are_asked_for(cli: Cli, server: EmbeddedServer) -> None:
    codes = {
        line: cli(*line.split(), "--server", server.url).code
        for line in ("plan", "plan --detailed-exitcode", "drift", "drift --pending")
    }
    assert codes == {"plan": 0, "plan --detailed-exitcode": 2, "drift": 2, "drift --pending": 2}


def test_in_sync_exits_0_whatever_is_asked(applied: Cli) -> None:
    for line in ("plan", "plan --detailed-exitcode", "apply", "apply --yes"):
        ended = applied(*line.split())
        assert ended.code == 0, line
        assert "No changes. Your infrastructure matches the manifest." in ended.out
    for line in ("drift", "drift --pending"):
        ended = applied(*line.split())
        assert ended.code == 0, line
        assert ended.out.endswith("\nNo drift. The server is as it was applied.\n")


def test_drift_exits_2_names_the_field_and_apply_puts_it_right(applied: Cli, api: Api) -> None:
    set_ack_wait(api, 30)
    found = applied("drift")
    assert found.code == 2
    assert "AGENT_CTO_TASKS/cto-worker will be updated in-place (drift: changed on the server)" in found.out
    assert "ack_wait: 30s (30000000000) -> 30m (1800000000000)" in found.out
    assert applied("apply", "--yes").code == 0
    assert applied("drift").code == 0


def test_what_could_be_lost_exits_3_and_nothing_is_written(applied: Cli, api: Api, project: Path) -> None:
    publish(api, "acme.agents.cto.tasks", 5)
    (project / "org.yaml").write_text(SMALL + "streams: {tasks: {max_msgs: 2}}\n", encoding="utf-8")
    planned = applied("plan")
    assert planned.code == 0
    assert "deletes-messages" in planned.out
    refused = applied("apply", "--yes")
    assert refused.code == 3
    assert "--allow deletes-messages" in refused.err
    assert applied("apply", "--yes", "--allow", "stops-capture").code == 3
    assert api.request("$JS.API.STREAM.INFO.AGENT_CTO_TASKS")["state"]["messages"] == 5
    assert applied("apply", "--yes", "--allow", "deletes-messages").code == 0
    assert api.request("$JS.API.STREAM.INFO.AGENT_CTO_TASKS")["state"]["messages"] == 2


@pytest.mark.parametrize("line", ["plan", "apply --yes", "plan --detailed-exitcode"])
def test_what_cannot_be_done_exits_3_and_nothing_is_written(
    cli: Cli, server: EmbeddedServer, api: Api, line: str
) -> None:
    api.request("$JS.API.STREAM.CREATE.MINE", {"name": "MINE", "subjects": ["acme.>"], "storage": "memory"})
    ended = cli(*line.split(), "--server", server.url)
    assert ended.code == 3
    assert "MINE" in ended.out + ended.err
    assert api.request("$JS.API.STREAM.NAMES")["streams"] == ["MINE"]


def test_an_orphan_is_reported_and_deleted_only_with_prune(applied: Cli, project: Path, api: Api) -> None:
    (project / "org.yaml").write_text("org: acme\nroles: [cto]\n", encoding="utf-8")
    kept = applied("apply", "--yes", "--allow", "stops-capture")
    assert "Orphan: stream AGENT_BACKEND_TASKS is no longer in the manifest" in kept.out
    assert applied("plan", "--detailed-exitcode").code == 0
    assert applied("drift", "--pending").code == 2
    assert "AGENT_BACKEND_TASKS" in api.request("$JS.API.STREAM.NAMES")["streams"]
    assert applied("apply", "--yes", "--prune").code == 0
    assert "AGENT_BACKEND_TASKS" not in api.request("$JS.API.STREAM.NAMES")["streams"]


def test_destroy_wants_the_name_and_the_hazards_and_leaves_nothing(applied: Cli, api: Api) -> None:
    api.request("$JS.API.STREAM.CREATE.MINE", {"name": "MINE", "subjects": ["mine"], "storage": "memory"})
    publish(api, "acme.agents.cto.tasks", 2)
    hazards = [f"--allow={name}" for name in ("deletes-messages", "resets-progress")]
    assert applied("destroy", *hazards).code == 1
    assert applied("destroy", "--confirm", "other", *hazards).code == 1
    refused = applied("destroy", "--confirm", "acme")
    assert refused.code == 3
    assert "    cyborg-infra destroy --allow deletes-messages\n" in refused.out
    assert "accept it with --allow deletes-messages\n" in refused.err  # the same
    assert "no longer in the manifest" not in refused.out
    assert "AGENT_CTO_TASKS" in api.request("$JS.API.STREAM.NAMES")["streams"]
    assert applied("destroy", "--confirm", "acme", *hazards).code == 0
    left = api.request("$JS.API.STREAM.NAMES")["streams"]
    assert [name for name in left if not name.startswith("KV_")] == ["MINE"]


def test_destroying_what_is_empty_takes_the_name_alone(applied: Cli, api: Api) -> None:
    ended = applied("destroy", "--confirm", "acme")
    assert ended.code == 0, ended.err
    left = api.request("$JS.API.STREAM.NAMES")["streams"] or []
    assert [name for name in left if not name.startswith("KV_")] == []


def test_a_refusal_tells_each_hazard_once(applied: Cli, api: Api, project: Path) -> None:
    publish(api, "acme.agents.cto.tasks", 3)
    manifest = "org: acme\nroles: {cto: {tasks: {max_msgs: 1}}, backend: {}}\n"
    (project / "org.yaml").write_text(manifest, encoding="utf-8")
    ended = applied("apply", "--yes")
    assert ended.code == 3
    assert ended.out.count("2 oldest messages") == 1
    assert ended.err.splitlines() == [  # who reads this need not see the plan, which went elsewhere
        "Error: nothing was changed: not allowed by name: deletes-messages",
        "       the plan says what each would cost; accept it with --allow deletes-messages",
        "Error: AGENT_CTO_TASKS: deletes-messages: 2 oldest messages (104 B) above 1, 2 of them unfinished",
    ]
    told = applied("apply", "--yes", "--format", "json").json
    assert "2 oldest messages" in told["problems"][0]["message"]
    allowed = applied("apply", "--yes", "--allow", "deletes-messages")
    assert allowed.code == 0
    assert "has to be allowed" not in allowed.out


def test_an_error_is_in_every_format_of_a_plan(cli: Cli) -> None:
    for name in ("plan", "drift"):
        ended = cli(name, "--server", NOBODY, "--format", "markdown", "--timeout", "1s")
        assert ended.code == 1
        assert ended.out.startswith("### Error\n\n- **Error**: ")
        assert ended.err.startswith("Error: ")


@pytest.mark.parametrize("words", [(), ("--yes",)])
def test_there_is_nothing_to_unlock_that_nobody_holds(applied: Cli, words: tuple[str, ...]) -> None:
    ended = applied("unlock", *words)
    assert (ended.code, ended.out) == (0, "The lease of acme is free. Nobody held it.\n")


def test_who_is_asked_whether_to_free_a_lease_is_told_whose_it_is(
    applied: Cli, server: EmbeddedServer
) -> None:
    """Also where nobody can be asked."""
    taken, over = threading.Event(), threading.Event()

    async def hold() -> None:
        target = resolve(Flags(server=server.url, no_context=True), {})
        async with connect_account(target) as account, lease(account, "acme", wait=0):
            taken.set()
            await asyncio.to_thread(over.wait)

    holder = threading.Thread(target=asyncio.run, args=(hold(),))
    holder.start()
    try:
        assert taken.wait(60)
        ended = applied("unlock")
    finally:
        over.set()
        holder.join()
    assert ended.code == 1
    whose, *_ = ended.err.splitlines()
    assert re.fullmatch(
        r"The lease of acme is held by .* since .*; it ends at .*, unless its holder still runs\.", whose
    )
    assert "use --yes" in ended.err


# Several organisations


def _manifests(folder: Path, **texts: str) -> list[str]:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return [str(folder / f"{name}.yaml") for name in texts]


SECOND = "org: beta\nnaming: {stream_prefix: BETA_}\nroles: [cto]\n"


def test_several_manifests_are_planned_applied_and_checked_in_one_run(
    cli: Cli, server: EmbeddedServer, tmp_path: Path
) -> None:
    both = _manifests(tmp_path, a="org: acme\nroles: [cto]\n", b=SECOND)

    def call(line: str, *more: str) -> CommandResult:
        return cli(*line.split(), *both, "--server", server.url, *more)

    planned = call("plan", "--detailed-exitcode")
    assert (planned.code, planned.out.count("Plan: ")) == (2, 2)
    assert call("plan", "--format", "markdown").out.count("### Plan") == 2
    applied = call("apply --yes")
    assert (applied.code, "Warning" in applied.err) == (0, False)
    assert call("drift --pending").code == 0
    answer = call("plan --format json")
    assert_fits("several", answer.json)
    assert [plan["org"] for plan in answer.json["answers"]] == ["acme", "beta"]
    assert [plan["changes"] for plan in answer.json["answers"]] == [[], []]
    for each in answer.json["answers"]:
        assert_fits("plan", each)


def test_manifests_that_are_in_the_way_of_one_another_are_refused_before_a_server_is_asked(
    cli: Cli, tmp_path: Path
) -> None:
    def said(first: str, second: str) -> str:
        paths = _manifests(tmp_path, a=first, b=second)
        ended = cli("apply", *paths, "--yes", "--server", NOBODY)
        assert (ended.code, ended.out) == (1, "")
        return ended.err.replace(f"{tmp_path}/", "")

    acme = "org: acme\nroles: [cto]\nkey_value: [drafts]\n"
    assert "b.yaml:1:6: a.yaml and b.yaml both describe the organisation acme" in said(acme, acme)
    streams = said(acme, "org: beta\nroles: [cto]\n")
    assert "both have the streams AGENT_CTO_TASKS, AGENT_INBOXES, DEAD_LETTERS and 1 more" in streams
    assert "stream_prefix: BETA_" in streams
    assert "both have the stream KV_drafts" in said(acme, SECOND + "key_value: [drafts]\n")
    wider = "org: beta\nnaming: {stream_prefix: B_}\nroles: {cto: {tasks: {subjects: [beta.agents.cto.tasks, acme.agents.>]}}}\n"
    assert "acme.agents.> of B_AGENT_CTO_TASKS overlaps acme.agents." in said(acme, wider)
    ears = "org: beta\nnaming: {stream_prefix: B_, subject_prefix: acme}\nroles: [ceo]\nchannels: {tasks: false, inbox: false, broadcasts: false, status: false, requests: false, audit: {of: org, subject: agents.*.requests, durable: true, readers: operator}}\n"
    for answer in (said(acme, ears), said(ears, acme)):
        assert "captures acme.agents.cto.requests of " in answer, answer
    every = said("org: acme\n", "org: beta\nrolls: [cto]\n")
    assert "a.yaml:1:1: " in every
    assert "b.yaml:2:1: " in every


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("plan --out x.plan", "--out cannot be used with several manifests"),
        ("plan --target cto", "--target cannot be used with several manifests"),
        ("apply --target cto", "--target cannot be used with several manifests"),
    ],
)
def test_what_is_about_one_manifest_is_refused_for_several(
    cli: Cli, tmp_path: Path, line: str, said: str
) -> None:
    both = _manifests(tmp_path, a="org: acme\nroles: [cto]\n", b=SECOND)
    ended = cli(*line.split(), *both, "--server", NOBODY)
    assert (ended.code, said in ended.err) == (1, True)


def test_nothing_of_several_is_begun_while_one_is_not_allowed(
    cli: Cli, server: EmbeddedServer, api: Api, tmp_path: Path
) -> None:
    first, second = _manifests(tmp_path, a="org: acme\nroles: [cto]\n", b=SECOND)
    assert cli("apply", first, "--yes", "--server", server.url).code == 0
    for _ in range(2):
        api.ask("acme.agents.cto.tasks", b"{}")
    _manifests(tmp_path, a="org: acme\nroles: [cto]\nstreams: {tasks: {max_msgs: 1}}\n")
    both = ("apply", second, first, "--yes", "--server", server.url)
    refused = cli(*both)
    assert (refused.code, "deletes-messages" in refused.err) == (3, True)
    assert "BETA_AGENT_CTO_TASKS" not in api.request("$JS.API.STREAM.NAMES")["streams"]
    assert cli(*both, "--allow", "deletes-messages").code == 0
    assert "BETA_AGENT_CTO_TASKS" in api.request("$JS.API.STREAM.NAMES")["streams"]


@pytest.mark.parametrize("held", ["acme", "beta"])
def test_of_several_it_is_told_how_each_ended_although_one_could_not_be_begun(
    cli: Cli, server: EmbeddedServer, api: Api, tmp_path: Path, held: str
) -> None:
    """Somebody holds the lease of one. In JSON that is one document, with what was applied before."""
    texts = {"a": "org: acme\nroles: [cto]\n", "b": SECOND, "c": SECOND.replace("b", "c").replace("B", "C")}
    paths = _manifests(tmp_path, **texts)
    for path in paths:
        assert cli("apply", path, "--yes", "--server", server.url).code == 0
    longer = "consumers: {worker: {ack_wait: 31m}}\n"
    _manifests(tmp_path, **{name: text + longer for name, text in texts.items()})
    api.ask(f"$KV.{LEASE_BUCKET}.{held}", b"no lease")
    ended = cli("apply", *paths, *f"--yes --server {server.url} --format json".split())
    assert ended.code == 1, ended.err
    *done, failed = ended.json["answers"]
    assert_fits("several", ended.json)
    assert_fits("problems", failed)
    assert [(each["org"], each["complete"]) for each in done] == [("acme", True)][: held == "beta"]
    assert f"not begun: {'ceta' if held == 'beta' else 'beta, ceta'}\n" in ended.err
    assert ended.err.count("Error: ") == 1


# The chart

BROADCAST = {"type": "policy", "policy": "x", "effective_immediately": True, "issued_by": "somebody"}
CHART = """
org: acme
roles:
  ceo:
  cto: {reports_to: ceo, assigns: [cso]}
  cso: {reports_to: ceo}
"""


def test_a_role_sends_tasks_only_where_the_chart_has_it_so(cli: Cli, tmp_path: Path) -> None:
    manifest = tmp_path / "chart.yaml"
    manifest.write_text(CHART)

    def send(role: str, sender: str) -> CommandResult:
        return cli(
            *f"send task {role} {manifest} --title x --as {sender} --server {NOBODY} --timeout 1s".split()
        )

    refused = send("ceo", "cto")
    assert (refused.code, refused.err) == (
        3,
        "Error: cto may not give tasks to ceo\n       no role gives tasks to ceo\n",
    )
    refused = send("cto", "cso")
    assert (refused.code, "cto gets tasks from ceo" in refused.err) == (3, True)
    assert "cannot connect" in send("cso", "cto").err
    assert "did you mean cto?" in send("cso", "ct").err


def test_a_role_sends_where_publishers_have_it_so_and_nowhere_else(cli: Cli, tmp_path: Path) -> None:
    """On built-in channels as well; by a broadcast's own word of who issued it, too."""
    manifest, broadcast = tmp_path / "org.yaml", tmp_path / "broadcast.json"
    manifest.write_text(
        CHART
        + "channels: {broadcasts: {publishers: [ceo]}, tasks: {publishers: [cto]}, inbox: {publishers: [ceo]}}\n"
    )

    def send(what: str, sender: str) -> CommandResult:
        broadcast.write_text(json.dumps(BROADCAST))
        return cli(*f"send {what} --as {sender} --server {NOBODY} --timeout 1s".split())

    said = {
        "ceo may not give tasks to cso\n       cso gets tasks from cto": send(
            f"task cso {manifest} --title x", "ceo"
        ),
        "cso may not publish on broadcasts\n       publishers of broadcasts: ceo": send(
            f"broadcast {manifest} -f {broadcast}", "cso"
        ),
        "cso may not publish on inbox of cto\n       publishers of inbox: ceo": send(
            f"inbox cto {manifest} -f {broadcast}", "cso"
        ),
    }
    assert {text: refused.code for text, refused in said.items()} == dict.fromkeys(said, 3)
    assert all(f"Error: {text}\n" == refused.err for text, refused in said.items())
    assert "cannot connect" in send(f"task ceo {manifest} --title x", "cto").err
    assert "cannot connect" in send(f"broadcast {manifest} -f {broadcast}", "ceo").err
    broadcast.write_text(json.dumps(BROADCAST | {"issued_by": "cso"}))
    refused = cli("message", "check", str(broadcast), str(manifest))
    assert (refused.code, "cso may not publish on broadcasts" in refused.err) == (1, True)
    broadcast.write_text(json.dumps(BROADCAST | {"issued_by": "ceo"}))
    assert cli("message", "check", str(broadcast), str(manifest)).code == 0


def test_message_check_holds_tasks_to_the_chart_of_a_manifest(cli: Cli, tmp_path: Path) -> None:
    manifest, task = tmp_path / "chart.yaml", tmp_path / "task.json"
    manifest.write_text(CHART)

    def check(giver: str, taker: str, then: str = "") -> CommandResult:
        data = TASK | {"assigned_by": giver, "assigned_to": taker}
        if then:
            data["on_complete"] = {"publish_to": then, "payload_template": {"title": "next"}}
        task.write_text(json.dumps(data, indent=1))
        alone = cli("message", "check", str(task))
        assert alone.code == 0
        return cli("message", "check", str(task), str(manifest))

    assert check("operator", "ceo").code == 0
    assert check("ceo", "cto", "acme.agents.cso.tasks").code == 0
    refused = check("cso", "cto")
    assert (refused.code, "cso may not give tasks to cto" in refused.err) == (1, True)
    line = 1 + task.read_text().splitlines().index(' "assigned_by": "cso",')
    assert f"task.json:{line}:17: " in refused.err
    assert "cso may not give tasks to cto" in check("ceo", "cso", "acme.agents.cto.tasks").err
    assert (
        "no role of acme takes its tasks from other.agents.cto.tasks"
        in check("ceo", "cso", "other.agents.cto.tasks").err
    )
    assert "'press' is no role of acme" in check("ceo", "press").err
    manifest.write_text(CHART.replace("cso: {", "cso: {renamed_from: security, "))
    assert "cso may not give tasks to cto" in check("security", "cto").err
    assert "it is called cso now" in check("cto", "security").err


# Formats


@pytest.mark.parametrize("name", ["validate", "show"])
def test_offline_json_fits_its_schema(cli: Cli, name: str) -> None:
    ended = cli(name, "--format", "json")
    notes = [note["code"] for note in ended.json.get("notes", [])]
    assert (ended.code, notes) == (0, ["open-assignment"] * (name == "validate"))
    assert ended.err.count("Note: ") == len(notes)
    assert_fits(name, ended.json)
    assert ended.json["schema_version"] == 1


def test_plan_drift_and_apply_json_fit_their_schemas(cli: Cli, server: EmbeddedServer, api: Api) -> None:
    def call(line: str) -> CommandResult:
        return cli(*line.split(), "--format", "json", "--server", server.url)

    assert_fits("plan", call("plan").json)
    applied = call("apply --yes")
    assert_fits("apply", applied.json)
    assert applied.json["complete"] is True
    assert len(applied.json["outcomes"]) == SMALL_COUNT
    assert call("apply --yes").json["outcomes"] == []
    set_ack_wait(api, 30)
    drift = call("drift")
    assert drift.code == 2
    assert_fits("plan", drift.json)
    assert drift.json["in_sync"] is False


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("validate nowhere.yaml", 1),
        ("validate --frobnicate", 1),
        ("plan --server nats://127.0.0.1:1", 1),
        ("apply --yes", 3),
        ("apply", 3),
    ],
)
@pytest.mark.parametrize("spelling", ["--format json", "--format=json"])
def test_errors_are_json_too(
    cli: Cli,
    server: EmbeddedServer,
    api: Api,
    line: str,
    code: int,
    spelling: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On stdout for the program that asked; on stderr, in words, for whoever reads its log."""
    api.request("$JS.API.STREAM.CREATE.MINE", {"name": "MINE", "subjects": ["acme.>"], "storage": "memory"})
    monkeypatch.setenv("NATS_URL", server.url)
    ended = cli(*line.split(), *spelling.split())
    assert ended.code == code
    assert_fits("problems", ended.json)
    assert ended.json["exit_code"] == code
    assert ended.err.startswith("Error: ")


def test_an_incomplete_apply_exits_1_and_says_what_was_not_reached(
    cli: Cli, start_server: StartServer
) -> None:
    """A user who may create streams, and no consumers, where the server does not tell so before."""
    config = """
      authorization { users = [{user: a, password: a, permissions: {
        publish: {allow: [">"], deny: ["$JS.API.CONSUMER.CREATE.>", "$SYS.REQ.USER.INFO"]}, subscribe: ">"}}] }
    """
    server = start_server(config=config)
    flags = ("--server", server.url, "--user", "a", "--password", "a")
    ended = cli("apply", "--yes", "--format", "json", *flags)
    assert ended.code == 1
    assert_fits("apply", ended.json)
    assert ended.json["complete"] is False
    assert {"failed"} <= {outcome["outcome"] for outcome in ended.json["outcomes"]}
    text = cli("apply", "--yes", *flags)
    assert text.code == 1
    assert "Apply incomplete." in text.out
    assert "$JS.API.CONSUMER.CREATE." in text.out


def test_markdown_is_a_pull_request_s_comment(cli: Cli, server: EmbeddedServer) -> None:
    for name in ("plan", "drift"):
        ended = cli(name, "--format", "markdown", "--server", server.url)
        assert ended.code == {"plan": 0, "drift": 2}[name]
        assert ended.out.startswith("#")
        heading = {
            "plan": f"### Plan: {SMALL_COUNT} to add, 0 to change, 0 to destroy.\n",
            "drift": "### Drift: nothing of organisation acme is here: ",
        }
        assert ended.out.startswith(heading[name])


# Saved plans


def test_a_saved_plan_does_exactly_what_was_planned(cli: Cli, server: EmbeddedServer, project: Path) -> None:
    saved = cli("plan", "--out", "it.plan", "--server", server.url)
    assert "Saved the plan to: it.plan" in saved.out
    assert (project / "it.plan").stat().st_mode & 0o777 == 0o600
    written = json.loads((project / "it.plan").read_text(encoding="utf-8"))
    assert_fits("saved-plan", written)
    (project / "org.yaml").unlink()
    shown = cli("show", "it.plan")
    assert shown.out == saved.out.replace("Saved the plan to: it.plan\n", "")
    assert shown.code == 0
    assert cli("show", "it.plan", "--format", "json").json == written["plan"]
    assert cli("show", "it.plan", "--env", "x").code == 1
    assert cli("apply", "it.plan", "--yes", "--server", server.url).code == 0
    again = cli("apply", "it.plan", "--yes", "--server", server.url)
    assert again.code == 1
    assert "stale" in again.err


def test_a_saved_plan_is_stale_once_the_server_has_changed(applied: Cli, api: Api, project: Path) -> None:
    (project / "org.yaml").write_text(SMALL + "consumers: {worker: {max_deliver: 5}}\n", encoding="utf-8")
    assert applied("plan", "--out", "it.plan").code == 0
    set_ack_wait(api, 60)
    ended = applied("apply", "it.plan", "--yes")
    assert ended.code == 1
    assert "AGENT_CTO_TASKS/cto-worker was changed since the plan was made" in ended.err
    assert api.request(f"$JS.API.CONSUMER.INFO.{WORKER}")["config"]["max_deliver"] == 3


def test_the_command_that_a_plan_names_applies_this_plan(applied: Cli, api: Api, project: Path) -> None:
    """Whatever file it came from; copied and pasted it must not apply another one."""
    publish(api, "acme.agents.cto.tasks", 5)
    (project / "mine.yaml").write_text(SMALL + "streams: {tasks: {max_msgs: 2}}\n", encoding="utf-8")
    shown = applied("plan", "mine.yaml", "--target", "cto").out
    assert "    cyborg-infra apply mine.yaml --target cto --allow deletes-messages\n" in shown
    applied("plan", "mine.yaml", "--target", "cto", "--out", "it.plan")
    refused = applied("apply", "it.plan", "--yes")
    assert refused.code == 3
    assert "    cyborg-infra apply it.plan --allow deletes-messages\n" in refused.out
    assert applied("apply", "it.plan", "--allow", "deletes-messages", "--yes").code == 0


@pytest.mark.parametrize("option", ["--prune", "--target=cto"])
def test_a_saved_plan_takes_no_option_that_would_change_it(
    cli: Cli, server: EmbeddedServer, option: str
) -> None:
    cli("plan", "--out", "it.plan", "--server", server.url)
    ended = cli("apply", "it.plan", "--yes", option, "--server", server.url)
    assert ended.code == 1
    assert "cannot be used with a saved plan" in ended.err


def test_a_plan_that_cannot_be_saved_exits_1(cli: Cli, server: EmbeddedServer) -> None:
    ended = cli("plan", "--out", "nowhere/it.plan", "--server", server.url)
    assert ended.code == 1
    assert "cannot write nowhere/it.plan" in ended.err


# The rest


def test_apply_without_a_terminal_needs_yes(cli: Cli, server: EmbeddedServer, api: Api) -> None:
    ended = cli("apply", "--server", server.url)
    assert ended.code == 1
    assert "use --yes" in ended.err
    assert api.request("$JS.API.STREAM.NAMES")["streams"] is None


def test_init_never_overwrites(cli: Cli, project: Path) -> None:
    before = (project / "org.yaml").read_bytes()
    assert cli("init").code == 1
    assert cli("init", "--org", "other").code == 1
    assert (project / "org.yaml").read_bytes() == before


def test_init_writes_what_was_asked_for(cli: Cli) -> None:
    assert cli("init", "new.yaml", "--org", "acme", "--role", "ceo", "--role", "no").code == 0
    shown = cli("show", "new.yaml", "--format", "json").json
    assert (shown["org"], [role["name"] for role in shown["roles"]]) == ("acme", ["ceo", "no"])


def test_a_new_manifest_has_its_schema_beside_it(cli: Cli, project: Path) -> None:
    """So that an editor completes and explains it, wherever it lies."""
    (project / "there").mkdir()
    ended = cli("init", "there/new.yaml")
    assert "there/new.yaml, and there/org.schema.json for your editor" in ended.err
    first = (project / "there" / "new.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=org.schema.json"
    schema = (project / "there" / "org.schema.json").read_text(encoding="utf-8")
    assert schema == cli("schema", "org").out
    (project / "there" / "org.schema.json").write_text("mine", encoding="utf-8")
    assert cli("init", "there/other.yaml").code == 0
    assert (project / "there" / "org.schema.json").read_text(encoding="utf-8") == "mine"


def test_schema_prints_every_schema(cli: Cli) -> None:
    names = cli("schema").out.splitlines()
    assert {"org", "plan", "saved-plan", "messages/task"} <= set(names)
    home = Path(__file__).parents[2] / "schemas"
    for name in names:
        told = json.loads((home / f"{name}.schema.json").read_text(encoding="utf-8"))
        assert cli("schema", name).json == told
    wrong = cli("schema", "orgs")
    assert (wrong.code, wrong.out) == (1, "")
    assert "there is no schema 'orgs'" in wrong.err


def test_target_narrows_a_plan_to_a_role(cli: Cli, server: EmbeddedServer) -> None:
    refused = cli("plan", "--target", "cto", "--format", "json", "--server", server.url)
    streams = {change["stream"] for change in refused.json["changes"]}
    assert "AGENT_CTO_TASKS" in streams
    assert "AGENT_BACKEND_TASKS" not in streams


def test_warnings_are_talk_and_leave_the_data_alone(
    cli: Cli, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Data is on stdout alone, so that `--format json` can be piped whatever happens."""
    monkeypatch.setenv("NATS_URL", server.url)
    context = tmp_path / "config" / "nats" / "context"
    context.mkdir(parents=True)
    (context / "there.json").write_text(json.dumps({"url": NOBODY, "color_scheme": "x"}), encoding="utf-8")
    ended = cli("plan", "--context", "there", "--format", "json")
    assert_fits("plan", ended.json)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("plan --env ", ["production", "staging"]),
        ("plan --env s", ["staging"]),
        ("plan other.yaml --env ", []),
        ("plan no.yaml --env ", []),
        ("apply --target c", ["cto"]),
        ("apply org.yaml --target ", ["backend", "cto"]),
        ("apply --allow del", ["deletes-messages"]),
        ("status --role b", ["backend"]),
        ("send task c", ["cto"]),
        ("dlq list --role ", ["backend", "cto"]),
        ("dlq replay 1 other.yaml --role ", ["cso"]),
        ("plan --context ", ["here", "there"]),
        ("schema messages/t", ["messages/task"]),
        ("plan --pru", ["--prune"]),
    ],
)
def test_a_shell_is_offered_what_can_be_typed(
    project: Path, tmp_path: Path, line: str, offered: list[str]
) -> None:
    (project / "org.yaml").write_text(
        "org: acme\nroles: {cto: {}, backend: {}}\nenvironments: {staging: {}, production: {}}\n",
        encoding="utf-8",
    )
    (project / "other.yaml").write_text("org: acme\nroles: [cso]\n", encoding="utf-8")
    contexts = tmp_path / "config" / "nats" / "context"
    contexts.mkdir(parents=True)
    for name in ("here", "there"):
        (contexts / f"{name}.json").write_text("{}", encoding="utf-8")
    words = f"cyborg-infra {line}"
    asked = {
        "_CYBORG_INFRA_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    ended = run_process(cwd=project, env=asked)
    assert sorted(ended.out.split()) == offered
    assert ended.err == ""


def test_a_user_without_a_name_or_a_home_applies(project: Path, server: EmbeddedServer) -> None:
    """As in a container: the system knows nothing of user 65532."""
    nameless = (
        "import pwd\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n"
        "from cyborg_infra.__main__ import main\n"
        "main()\n"
    )
    for words in (["apply", "--yes"], ["drift"]):
        ended = subprocess.run(
            [sys.executable, "-c", nameless, *words, "--server", server.url],
            cwd=project,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
