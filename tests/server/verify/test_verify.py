"""`verify` says that the worked example works, names what is wrong with a wrong one, and leaves nothing behind."""

from __future__ import annotations

import gc
import secrets
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.live.verify.runner import ROLE_CHECKS
from cyborg_infra.manifest.load import load
from cyborg_infra.manifest.messages import check_messages
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.verification import CheckName
from tests.support.agents import until
from tests.support.cli import Cli, CommandResult, assert_fits, spawn
from tests.support.faults import Faults, Send
from tests.support.nats_client import Api
from tests.support.scenario import Scenario, after_apply, published, stream
from tests.support.servers import NEWEST, VERSIONS, StartServer

pytestmark = pytest.mark.servers(NEWEST)


ROOT = Path(__file__).parents[3]
EXAMPLE = str(ROOT / "org.yaml")
TINY = "org: acme\nroles: [cto, dev]\nevents: {a.stored: {durable: true, subscribers: [dev]}, a.heard: {subscribers: [cto]}}\n"


def verdicts(ended: CommandResult) -> dict[str, set[str]]:
    """Check -> how it ended, over all roles."""
    found: dict[str, set[str]] = {}
    for result in ended.json["results"]:
        found.setdefault(result["check"], set()).add(result["outcome"])
    return found


def failures(ended: CommandResult, check: str) -> dict[str | None, str]:
    """Return role -> what was seen, of one check that failed."""
    return {
        result["role"]: result["seen"]
        for result in ended.json["results"]
        if result["check"] == check and result["outcome"] == "failed"
    }


def verify(cli: Cli, url: str, *arguments: str) -> CommandResult:
    ended = cli("verify", "--server", url, "--no-context", "--format", "json", *arguments)
    if ended.code == 0 or "results" in ended.json:
        assert_fits("verify", ended.json)
    return ended


def expected_checks(manifest: str) -> dict[str, int]:
    """Return how many results each check has: one a role, or one of all; a server that is not ours is not restarted."""
    of_roles = {check.name for check in ROLE_CHECKS}
    roles = len(load(manifest).roles)
    return {name: roles if name in of_roles else 1 for name in CheckName if name is not CheckName.RESTART}


@pytest.mark.servers(*VERSIONS)
@pytest.mark.versions
def test_the_worked_example_works_and_the_account_is_as_before(
    any_server: EmbeddedServer, cli: Cli, tmp_path: Path
) -> None:
    """Beside the organisation itself, with a task that waits."""
    with Scenario(any_server.url, tmp_path) as scene:
        after_apply(Path(EXAMPLE).read_text(encoding="utf-8"))(scene)
        published("genbrain.agents.cto.tasks", 1)(scene)
        before = scene.everything()
        ended = verify(cli, any_server.url, EXAMPLE)
        assert (ended.code, failing(ended)) == (0, [])
        assert Counter(result["check"] for result in ended.json["results"]) == expected_checks(EXAMPLE)
        without = [check for check, ended_as in verdicts(ended).items() if ended_as == {"not configured"}]
        assert without == ["back-pressure-refuses", "channel-reaches-its-readers"]
        assert scene.everything() == before


def test_what_is_published_are_messages_of_an_organisation(
    cli: Cli, scenario: Scenario, project: Path
) -> None:
    """Each is what `message check` takes for its subject."""
    (project / "org.yaml").write_text(TINY, encoding="utf-8")
    channels = {
        "*.agents.*.tasks": MessageKind.TASK,
        "*.agents.*.status": MessageKind.STATUS,
        "*.agents.*.requests": MessageKind.QUERY,
        "*.org.broadcasts": MessageKind.BROADCAST,
        "*.events.>": MessageKind.EVENT,
    }
    heard = {scenario.api.subscribe(subject): kind for subject, kind in channels.items()}
    names = ["on-complete-chains-a-task", "broadcast-reaches-every-role", "request-answered-by-agent"]
    names += ["status-wildcard-sees-every-role", "event-reaches-subscribers"]
    ended = verify(cli, scenario.url, *(word for name in names for word in ("--check", name)))
    # A subscription of ours that listens in is somebody who does not answer.
    assert {result["check"] for result in failing(ended)} == {"request-answered-by-agent"}
    for subscription, kind in heard.items():
        messages = subscription.all()
        assert messages
        for message in messages:
            assert check_messages(message.data.decode(), message.subject, kind)


def failing(ended: CommandResult) -> list[Any]:
    return [result for result in ended.json["results"] if result["outcome"] == "failed"]


# What is configured wrongly, the check that names it, and a word of what it says.
FAULTS = {
    "ack_wait far too short": (
        "consumers: {worker: {ack_wait: 30s}}\n",
        "not-redelivered-while-worked-on",
        "handed out again",
    ),
    "no dedupe window": ("streams: {tasks: {duplicate_window: 100ms}}\n", "same-id-is-one-task", "two tasks"),
    "max_deliver unlimited": (
        "consumers: {worker: {max_deliver: -1}}\n",
        "failures-become-a-dead-letter",
        "unlimited",
    ),
    "a stream over the requests": ("", "request-answered-by-agent", "EAVESDROPPER answered"),
    "a filter on the wrong role": (
        "roles: {cto: {inbox_reader: {filter_subject: acme.agents.dev.inbox}}, dev: {}}\n",
        "inbox-reaches-its-role-alone",
        "cto-inbox-reader handed out",
    ),
    "dead letter routes missing": (
        "streams: {dead_letters: {subjects: [acme.org.deadletter], subject_transform: {}}}\n",
        "termination-becomes-a-dead-letter",
        "no notice",
    ),
    "discard old with a tiny limit": (
        "streams: {tasks: {max_msgs: 5}}\n",
        "nothing-waiting-is-dropped",
        "15 of 20",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_misconfiguration_fails_the_check_that_names_it(
    fault: str, cli: Cli, scenario: Scenario, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, check, seen = FAULTS[fault]
    roles = "" if settings.startswith("roles") else "roles: [cto, dev]\n"
    (project / "org.yaml").write_text(f"org: acme\n{roles}{settings}", encoding="utf-8")
    if not settings:
        monkeypatch.setattr(secrets, "token_hex", lambda _: "c0ffee")
        stream("EAVESDROPPER", "acme-verify-c0ffee.agents.*.requests")(scenario)
    before = scenario.everything()
    wanted = [word for name in (check, "task-reaches-worker-once") for word in ("--check", name)]
    ended = verify(cli, scenario.url, *wanted)
    assert ended.code == 1
    told = failures(ended, check)
    assert told
    assert all(seen in said for said in told.values()), told
    assert scenario.everything().keys() == before.keys()


@pytest.mark.parametrize(
    ("subject", "no_ack"), [("acme.agents.cto.requests", False), ("*.agents.*.requests", True)]
)
def test_a_stream_over_the_requests_of_the_organisation_itself_is_named(
    subject: str, no_ack: object, cli: Cli, scenario: Scenario
) -> None:
    """The copy need not meet it; and a wildcard that meets both is a stream that does not answer (10052)."""
    stream("EAVESDROPPER", subject, no_ack=no_ack)(scenario)
    ended = verify(cli, scenario.url, "--check", "request-answered-by-agent")
    assert "EAVESDROPPER" in failures(ended, "request-answered-by-agent")[None]


def test_a_restart_in_the_middle_of_the_work_loses_nothing(cli: Cli, project: Path) -> None:
    """And every other check goes with it."""
    (project / "org.yaml").write_text(
        TINY
        + "streams: {tasks: {admission: {max_pending: 5}}}\nkey_value: {drafts: {}}\n"
        + "groups: {team: [dev]}\n"
        + "channels: {control: {of: role, durable: true}, seen: {of: org, readers: [dev]}, group_broadcasts: true}\n",
        encoding="utf-8",
    )
    ended = cli("verify", "--embedded", "--format", "json")
    assert (ended.code, failing(ended)) == (0, [])
    assert verdicts(ended).keys() == set(CheckName)
    assert set().union(*verdicts(ended).values()) == {"passed"}


def test_what_verify_cannot_try_it_says(cli: Cli, scenario: Scenario, project: Path) -> None:
    """A consumer that pushes is not supported; one that forgets what it hands out is a fault."""
    (project / "org.yaml").write_text(
        "org: acme\nroles:\n"
        "  cto: {worker: {deliver_subject: acme.pushed.cto, max_ack_pending: 5}}\n"
        "  dev: {worker: {ack_policy: none}}\n",
        encoding="utf-8",
    )
    ended = verify(cli, scenario.url, "--check", "order-is-kept")
    assert {result["role"]: result["outcome"] for result in ended.json["results"]} == {
        "cto": "not supported",
        "dev": "failed",
    }
    assert "ack_policy none" in failures(ended, "order-is-kept")["dev"]


def test_memory_does_not_survive_a_restart(cli: Cli, project: Path) -> None:
    (project / "org.yaml").write_text(
        "org: acme\nroles: [cto]\ndefaults: {storage: memory}\n", encoding="utf-8"
    )
    ended = cli("verify", "--embedded", "--check", "restart-loses-nothing", "--format", "json")
    assert ended.code == 1
    assert "lost" in failures(ended, "restart-loses-nothing")[None]


def test_text_and_junit_say_the_same(cli: Cli, scenario: Scenario, project: Path) -> None:
    (project / "org.yaml").write_text(
        "org: acme\nroles: [cto, dev]\nconsumers: {worker: {max_deliver: -1}}\n", encoding="utf-8"
    )
    wanted = [
        word
        for name in ("failures-become-a-dead-letter", "back-pressure-refuses", "order-is-kept")
        for word in ("--check", name)
    ]
    ended = cli("verify", "--server", scenario.url, *wanted)
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert "FAILED          failures-become-a-dead-letter  (2 roles)" in lines
    assert "not configured  back-pressure-refuses  (2 roles)" in lines
    assert "ok              order-is-kept  (2 roles)" in lines
    assert lines[-1] == "1 of 3 checks failed."
    suite = ET.fromstring(cli("verify", "--server", scenario.url, *wanted, "--format", "junit").out)  # noqa: S314
    assert suite.attrib == {"tests": "6", "failures": "2", "errors": "0", "skipped": "2"}
    assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None] == [
        "cto",
        "dev",
    ]


def test_the_copy_is_removed_though_a_server_still_answers_for_what_is_deleted(
    cli: Cli, scenario: Scenario, faults: Faults
) -> None:
    """As one of a cluster does for a moment while another one is down: here, for ever."""
    seen = dict[str, dict[str, Any]]()

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        try:
            answer = await send(request)
        except ApiError:
            if verb not in seen:
                raise
            return seen[verb]
        if "CONSUMER.LIST" in verb:
            rows = answer["consumers"] or ()
            seen.update({f"CONSUMER.INFO.{row['stream_name']}.{row['name']}": row for row in rows})
        return answer

    faults.intercept(call)
    ended = cli("verify", "--check", "status-wildcard-sees-every-role", "--server", scenario.url)
    assert (ended.code, scenario.refs()) == (0, []), ended.err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(how: signal.Signals, scenario: Scenario, project: Path) -> None:
    """In the middle of provisioning, or of the work."""
    told = scenario.api.subscribe("*.agents.*.tasks")
    with spawn("verify", "--server", scenario.url, cwd=project) as process:
        if how is signal.SIGINT:
            told.next()
        else:
            until(scenario.refs)
        process.send_signal(how)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, "nothing is left of the scratch copy" in err) == (1, True), err
    assert "Traceback" not in err
    assert scenario.refs() == []


def test_a_server_that_goes_away_is_one_clear_line_and_says_what_it_kept(
    server: EmbeddedServer, project: Path, cli: Cli, tmp_path: Path
) -> None:
    with Api(server.url) as api:
        told = api.subscribe("*.agents.*.tasks")
        with spawn("verify", "--server", server.url, cwd=project) as process:
            told.next()
            server.kill()
            _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert f"lost the connection to {server.url}" in err
    assert "may still be there" in err
    server.start()
    with Scenario(server.url, tmp_path) as scene:
        assert scene.refs() != []
        (copy,) = {ref.partition("_")[2][:6].lower() for ref in scene.refs()}
        wanted = ("--check", "status-wildcard-sees-every-role")
        assert verify(cli, server.url, *wanted).json["removed"] == [f"acme-verify-{copy}"]
        assert scene.refs() == []


@pytest.mark.servers(*VERSIONS)
def test_a_run_leaves_the_copy_of_another_one_that_still_runs(
    any_server: EmbeddedServer, project: Path, cli: Cli, tmp_path: Path
) -> None:
    """And removes it, and says so, once that was killed; --clean does the same."""
    wanted = ("--check", "status-wildcard-sees-every-role")
    with Scenario(any_server.url, tmp_path) as scene:
        told = scene.api.subscribe("*.agents.*.tasks")
        with spawn("verify", "--server", any_server.url, cwd=project) as process:
            told.next()
            process.send_signal(signal.SIGSTOP)
            there = scene.refs()
            assert verify(cli, any_server.url, *wanted).json["removed"] == []
            assert (
                cli("verify", "--clean", "--server", any_server.url).out
                == "Nothing is left of earlier runs.\n"
            )
            assert set(there) <= set(scene.refs())
            process.kill()
        ended = cli("verify", "--server", any_server.url, *wanted)
        assert "Note: removed what earlier runs have left: acme-verify-" in ended.out
        assert scene.refs() == []
        assert (
            cli("verify", "--clean", "--server", any_server.url).out == "Nothing is left of earlier runs.\n"
        )


def test_what_the_server_is_too_old_for_is_said(start_server: StartServer, cli: Cli, project: Path) -> None:
    (project / "org.yaml").write_text(
        "org: acme\nroles: [cto]\nstreams: {tasks: {allow_msg_ttl: true}}\n", encoding="utf-8"
    )
    old = start_server(version="2.10.26")
    ended = verify(cli, old.url, "--check", "settings-are-known", "--check", "order-is-kept")
    assert (ended.code, verdicts(ended)) == (
        0,
        {"settings-are-known": {"not supported"}, "order-is-kept": {"passed"}},
    )
    assert "allow_msg_ttl needs API level 1" in ended.json["results"][0]["seen"]


@pytest.mark.parametrize(
    "words",
    [
        ("--check", "restart-loses-nothing"),
        ("--check", "no-such-check"),
        ("--clean", "--check", "order-is-kept"),
        ("--clean", "--format", "json"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(words: tuple[str, ...], cli: Cli) -> None:
    ended = cli("verify", *words)
    assert ended.code == 1
    assert words[-2] in ended.err


def test_what_does_not_fit_the_account_is_said_before_anything_is_written(
    start_server: StartServer, cli: Cli, tmp_path: Path
) -> None:
    server = start_server(config="jetstream {max_file_store: 10MB}")
    ended = cli("verify", "--server", server.url)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    with Scenario(server.url, tmp_path) as scene:
        assert scene.refs() == []


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("$JS.API.CONSUMER.MSG.NEXT.>", "may not publish to $JS.API.CONSUMER.MSG.NEXT."),
        ("$JS.ACK.>", "may not publish to $JS.ACK."),
        ("*.agents.*.tasks", ".tasks"),
        ("*.org.broadcasts", ".org.broadcasts"),
        ("$JS.API.STREAM.PURGE.*", "may not publish to $JS.API.STREAM.PURGE."),
        ("subscribe *.agents.*.requests", ".requests"),
    ],
)
def test_what_the_user_may_not_do_ends_the_run_in_one_line(
    missing: str, named: str, start_server: StartServer, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    """51 s, and 14 checks that were blamed on another line; a task that nobody awaited as well."""
    word, _, subject = missing.rpartition(" ")
    denied = f'{word or "publish"}: {{deny: ["{subject}"]}}'
    users = f"{{user: few, password: p, permissions: {{{denied}}}}}, {{user: all, password: p}}"
    server = start_server(config=f"authorization {{ users: [{users}] }}")
    url = server.url.replace("//", "//few:p@")
    Path("tiny.yaml").write_text(TINY, encoding="utf-8")
    ended = cli("verify", "--server", url, "--no-context", "tiny.yaml")
    assert (ended.code, ended.err.count("Error: ")) == (1, 1)
    assert "permission denied" in ended.err
    assert named in "".join(ended.err.split("\n       ")).replace(" \n", " ")
    gc.collect()
    assert caplog.records == []
    with Api(server.url.replace("//", "//all:p@")) as api:
        assert api.request("$JS.API.STREAM.NAMES")["streams"] is None
