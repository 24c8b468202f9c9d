"""The commands as a user meets them: exit codes, formats, messages, against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import SMALL, SMALL_COUNT, Cli, Ended, assert_fits
from raw import Api
from servers import StartServer

from cyborg_infra.cli.app import COMMANDS, names
from cyborg_infra.live.embedded import EmbeddedServer

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
    """The command line, with `--server` and the manifest applied."""
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
    assert codes == {"plan": 0, "plan --detailed-exitcode": 2, "drift": 0, "drift --pending": 2}


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
    assert applied("apply", "--yes", "--prune").code == 3
    allowed = ("--allow", "stops-capture", "--allow", "mass-change")
    assert applied("apply", "--yes", "--prune", *allowed).code == 0
    assert "AGENT_BACKEND_TASKS" not in api.request("$JS.API.STREAM.NAMES")["streams"]


def test_destroy_wants_the_name_and_the_hazards_and_leaves_nothing(applied: Cli, api: Api) -> None:
    api.request("$JS.API.STREAM.CREATE.MINE", {"name": "MINE", "subjects": ["mine"], "storage": "memory"})
    assert applied("destroy", "--allow", "stops-capture").code == 1
    assert applied("destroy", "--confirm", "other", "--allow", "stops-capture").code == 1
    assert applied("destroy", "--confirm", "acme").code == 3
    assert "AGENT_CTO_TASKS" in api.request("$JS.API.STREAM.NAMES")["streams"]
    assert applied("destroy", "--confirm", "acme", "--allow", "stops-capture").code == 0
    left = api.request("$JS.API.STREAM.NAMES")["streams"]
    assert [name for name in left if not name.startswith("KV_")] == ["MINE"]


def test_unlock_frees_a_lease_that_nobody_holds_as_well(applied: Cli) -> None:
    assert applied("unlock").code == 1
    ended = applied("unlock", "--yes")
    assert (ended.code, ended.out) == (0, "The lease of acme is free. Nobody held it.\n")


# Formats


@pytest.mark.parametrize("name", ["validate", "show"])
def test_offline_json_fits_its_schema(cli: Cli, name: str) -> None:
    ended = cli(name, "--format", "json")
    assert (ended.code, ended.err) == (0, "")
    assert_fits(name, ended.json)
    assert ended.json["schema_version"] == 1


def test_plan_drift_and_apply_json_fit_their_schemas(cli: Cli, server: EmbeddedServer, api: Api) -> None:
    def call(line: str) -> Ended:
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
    """A user who may create streams, and no consumers."""
    config = """
      authorization { users = [{user: a, password: a, permissions: {
        publish: {allow: [">"], deny: ["$JS.API.CONSUMER.CREATE.>"]}, subscribe: ">"}}] }
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
        assert ended.code == 0
        assert ended.out.startswith("#")
        assert f"Plan: {SMALL_COUNT} to add" in ended.out.replace("**", "")


# Saved plans


def test_a_saved_plan_does_exactly_what_was_planned(cli: Cli, server: EmbeddedServer, project: Path) -> None:
    saved = cli("plan", "--out", "it.plan", "--server", server.url)
    assert "Saved the plan to: it.plan" in saved.out
    assert (project / "it.plan").stat().st_mode & 0o777 == 0o600
    assert_fits("saved-plan", json.loads((project / "it.plan").read_text(encoding="utf-8")))
    (project / "org.yaml").unlink()
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


@pytest.mark.parametrize("option", ["--env=production", "--prune", "--target=cto"])
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
