"""`dlq` on a real server: what failed is found with its message, and is replayed, kept or dropped exactly once."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import WireRequest
from cyborg_infra.model.error_codes import ErrorCode
from tests.support.agents import fetch, nack, nothing_comes, publish, term, until
from tests.support.cli import Cli, CommandResult, Terminal, assert_fits, spawn
from tests.support.faults import Faults, SendWire
from tests.support.scenario import Request, Scenario
from tests.support.servers import StartServer

MANIFEST = "org: acme\nroles: [cto, cso]\n"
WORKQUEUE = MANIFEST + "streams: {tasks: {retention: workqueue, discard: new, max_msgs: 2}}\n"
FORGETFUL = (
    MANIFEST + "streams: {tasks: {duplicate_window: 100ms}, dead_letters: {duplicate_window: 100ms}}\n"
)
FORGETFUL_QUEUE = FORGETFUL.replace("{tasks: {", "{tasks: {retention: workqueue, discard: new, max_msgs: 2, ")
TASKS, WORKER = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"
SUBJECT = "acme.agents.cto.tasks"

Dlq = Callable[..., CommandResult]


class Killed(Exception):
    """The tool died here."""


@pytest.fixture
def scenario(any_server: EmbeddedServer, project: Path) -> Iterator[Scenario]:
    """Yield its manifest is the one in the working directory."""
    with Scenario(any_server.url, project) as opened:
        opened.converge(MANIFEST)
        yield opened


@pytest.fixture
def dlq(scenario: Scenario, cli: Cli) -> Dlq:
    """Return `dlq("list")` on the scene's server, as JSON where it is not told otherwise."""

    def run(*words: str) -> CommandResult:
        shape = () if "--format" in words else ("--format", "json")
        return cli("dlq", *words, *shape, "--server", scenario.url)

    return run


def failed(scenario: Scenario, *names: str) -> None:
    """Tasks of the cto that were given back until nobody gets them any more; each has its name as its id."""
    before = scenario.info("DEAD_LETTERS")["state"]["messages"]
    for name in names:
        headers = {"Nats-Msg-Id": name, "Trace": "7"}
        assert "seq" in scenario.api.ask(SUBJECT, f'{{"task_id": "{name}"}}'.encode(), headers=headers).json
        nack(scenario.api, WORKER, times=3)
    assert nothing_comes(scenario.api, WORKER)
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == before + len(names))


def listed(dlq: Dlq) -> list[dict[str, Any]]:
    shown = dlq("list")
    assert shown.code == 0
    assert_fits("dead-letters", shown.json)
    found: list[dict[str, Any]] = shown.json["dead_letters"]
    return found


def handled(ended: CommandResult) -> list[str | None]:
    """Return where each message is now; all of them were done."""
    assert ended.code == 0, ended.err
    assert_fits("dead-letters-handled", ended.json)
    return [result["place"] for result in ended.json["results"]]


def held(scenario: Scenario) -> tuple[int, int]:
    """Return how many messages there are in DEAD_LETTERS, and among the cto's tasks."""
    dead, tasks = (scenario.info(stream)["state"]["messages"] for stream in ("DEAD_LETTERS", TASKS))
    return dead, tasks


def forgotten() -> None:
    """A stream with a duplicate_window of 100ms no longer knows an id from before; a server tidies up a little later."""
    time.sleep(0.3)


def waiting(scenario: Scenario) -> int:
    count: int = scenario.info(WORKER)["num_pending"]
    return count


def test_every_way_to_fail_is_listed_with_its_message(scenario: Scenario, dlq: Dlq) -> None:
    failed(scenario, "t1")
    publish(scenario.api, "acme.agents.cso.inbox", b"\xff\x00")
    term(scenario.api, "AGENT_INBOXES/cso-inbox-reader", "not for me")
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 2)
    publish(scenario.api, "acme.org.deadletter", b"handed in")
    publish(scenario.api, "acme.org.deadletter", b'{"assigned_to": "cso", "reason": "no such repository"}')
    letters = listed(dlq)
    told = ("number", "type", "role", "consumer", "deliveries", "reason", "original")
    assert [tuple(letter[name] for name in told) for letter in letters] == [
        (1, "max_deliver", "cto", "cto-worker", 3, None, "stored"),
        (2, "terminated", "cso", "cso-inbox-reader", 1, "not for me", "stored"),
        (3, "given_up", None, None, None, None, "kept"),
        (4, "given_up", "cso", None, None, "no such repository", "kept"),
    ]
    assert [letter["message"]["encoding"] for letter in letters] == ["utf-8", "base64", "utf-8", "utf-8"]
    assert [letter["task_id"] for letter in letters] == ["t1", None, None, None]
    assert letters[0]["message"]["headers"][0] == {"name": "Nats-Msg-Id", "value": "t1"}


def test_whatever_is_handed_in_can_be_listed_and_shown(scenario: Scenario, dlq: Dlq) -> None:
    """Nothing that somebody publishes keeps a person from looking; what says nonsense is not replayed."""
    hostile = [
        b"[" * 100_000,
        b'{"reason": "\\ud800", "assigned_to": ["cto"]}',
        b'{"reason": 7}',
        b"\x1b[31m\x00\r\n\xc2\x85",
        b"",
    ]
    for data in hostile:
        publish(scenario.api, "acme.org.deadletter", data)
    notice = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.AGENT_CTO_TASKS.cto-worker"
    for told in (
        {"stream": "A B", "stream_seq": 1},
        {"stream": "A", "stream_seq": -1},
        {"stream_seq": 1e999},
        {"stream": "A", "stream_seq": 1, "consumer": "c\r\nNats-Msg-Id: another's"},
    ):
        scenario.api.ask(notice, json.dumps(told).encode())
    headers = {
        "Cyborg-Infra-Subject": "acme b",
        "Cyborg-Infra-Replaying": "x/y",
    }
    for failed_at in ("never", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
        headers["Cyborg-Infra-Failed"] = failed_at
        scenario.api.publish("acme.org.deadletter", b"spoofed", headers=headers)
    until(lambda: held(scenario)[0] == 12)
    assert [letter["original"] for letter in listed(dlq)] == ["kept"] * 12
    for number in range(1, 13):
        assert dlq("show", str(number), "--format", "text").code == 0
    ended = dlq("replay", "--all", "--yes")
    assert {result["problem"]["code"] for result in ended.json["results"]} == {"no-subject"}


def test_a_list_fits_a_terminal_and_show_prints_the_message(
    scenario: Scenario, dlq: Dlq, project: Path
) -> None:
    failed(scenario, "t1")
    shown = dlq("list", "--format", "text")
    assert shown.out.splitlines()[1].endswith("cto-worker  3      AGENT_CTO_TASKS/1  max_deliver; task t1")
    on_terminal = Terminal("dlq", "list", "--server", scenario.url, cwd=project).ended()
    assert max(map(len, on_terminal.out.replace("\r", "").splitlines())) <= 80
    shown = dlq("show", "1", "--format", "text")
    assert "Trace: 7" in shown.out
    assert '"task_id": "t1"' in shown.out


def test_replayed_means_published_again_once_and_gone_from_the_list(scenario: Scenario, dlq: Dlq) -> None:
    """Although its stream still knows the id of the first one."""
    failed(scenario, "t1", "t2")
    assert handled(dlq("replay", "1")) == [f"{TASKS}/3"]
    assert [letter["number"] for letter in listed(dlq)] == [2]
    message = fetch(scenario.api, WORKER)
    assert message.data == b'{"task_id": "t1"}'
    assert f"Cyborg-Infra-Replays: {TASKS}/1" in message.headers
    assert "Trace: 7" in message.headers
    again = dlq("replay", "1")
    assert (again.code, again.json["problems"][0]["code"]) == (1, "no-dead-letter")
    assert waiting(scenario) == 0


def test_nothing_is_done_if_one_number_is_not_there(scenario: Scenario, dlq: Dlq) -> None:
    failed(scenario, "t1")
    assert dlq("replay", "1", "9").code == 1
    assert (len(listed(dlq)), waiting(scenario)) == (1, 0)


def test_what_changes_dead_letters_never_means_all_by_saying_nothing(scenario: Scenario, dlq: Dlq) -> None:
    failed(scenario, "t1")
    for words in (("replay",), ("drop", "--yes")):
        assert dlq(*words).code == 1
    wrong = dlq("drop", "1", "cto", "org.yaml", "--yes")
    assert (wrong.code, "'cto' is no number of a dead letter" in wrong.err) == (1, True)
    assert dlq("drop", "1").code == 1, "there is nobody to ask"
    assert len(listed(dlq)) == 1


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        (("--role", "cto"), [1]),
        (("--type", "terminated"), [2]),
        (("--older-than", "1h"), []),
        (("--all",), [1, 2]),
    ],
)
def test_dead_letters_are_chosen_by_what_they_are(
    scenario: Scenario, dlq: Dlq, choice: tuple[str, ...], numbers: list[int]
) -> None:
    failed(scenario, "t1")
    publish(scenario.api, "acme.agents.cso.inbox", b"nonsense")
    term(scenario.api, "AGENT_INBOXES/cso-inbox-reader")
    until(lambda: scenario.info("DEAD_LETTERS")["state"]["messages"] == 2)
    ended = dlq("replay", *choice, "--yes")
    assert [result["number"] for result in ended.json["results"]] == numbers
    assert "did you mean cto?" in dlq("list", "--role", "ctoo", "--format", "text").err


def test_an_archived_dead_letter_outlives_its_stream_and_can_be_replayed(
    scenario: Scenario, dlq: Dlq
) -> None:
    failed(scenario, "t1", "t2")
    assert handled(dlq("keep", "2")) == ["DEAD_LETTERS/3"]
    assert handled(dlq("keep")) == ["DEAD_LETTERS/4"]
    assert handled(dlq("keep")) == []
    scenario.ask(f"STREAM.PURGE.{TASKS}")
    letters = listed(dlq)
    told = ("original", "type", "role", "consumer", "sequence", "deliveries")
    assert [tuple(letter[name] for name in told) for letter in letters] == [
        ("kept", "max_deliver", "cto", "cto-worker", sequence, 3) for sequence in (1, 2)
    ]
    assert handled(dlq("replay", "--all", "--yes")) == [f"{TASKS}/3", f"{TASKS}/4"]
    assert [fetch(scenario.api, WORKER).data for _ in range(2)] == [
        b'{"task_id": "t1"}',
        b'{"task_id": "t2"}',
    ]
    assert listed(dlq) == []


def test_a_number_that_somebody_was_told_goes_on_to_mean_the_same_dead_letter(
    scenario: Scenario, dlq: Dlq, faults: Faults
) -> None:
    """Whatever cron does meanwhile; the number of the copy that is kept means it as well."""
    failed(scenario, "t1", "t2", "t3", "t4")
    told = {letter["number"]: letter["task_id"] for letter in listed(dlq)}
    assert told == {1: "t1", 2: "t2", 3: "t3", 4: "t4"}
    assert handled(dlq("keep", "--type", "max_deliver")) == [
        f"DEAD_LETTERS/{entry}" for entry in (5, 6, 7, 8)
    ]
    assert {letter["number"]: letter["task_id"] for letter in listed(dlq)} == told
    with faults.context() as patched, suppress(Killed):
        die_after(patched, 2)
        dlq("replay", "2")
    handled(dlq("keep"))
    assert {letter["number"]: letter["task_id"] for letter in listed(dlq)} == told
    assert dlq("show", "1").json["dead_letters"][0]["task_id"] == "t1"
    assert dlq("show", "5").json["dead_letters"][0]["number"] == 1
    assert handled(dlq("drop", "1", "--yes")) == [None]
    assert handled(dlq("replay", "3")) == [f"{TASKS}/5"]
    assert fetch(scenario.api, WORKER).data == b'{"task_id": "t3"}'
    assert [letter["number"] for letter in listed(dlq)] == [2, 4]


def test_what_is_not_named_by_number_is_asked_for_before_it_is_replayed(
    scenario: Scenario, dlq: Dlq, project: Path
) -> None:
    failed(scenario, "t1", "t2")
    refused = dlq("replay", "--all")
    assert (refused.code, refused.json["problems"][0]["code"]) == (1, "no-terminal")
    tried = dlq("replay", "--all", "--dry-run")
    assert handled(tried) == [TASKS, TASKS]
    assert tried.json["dry_run"]
    assert "2 dead letters would be replayed." in dlq("replay", "--all", "--dry-run", "--format", "text").out
    assert (len(listed(dlq)), waiting(scenario), held(scenario)) == (2, 0, (2, 2))
    for answer, left in (("no", 2), ("yes", 0)):
        terminal = Terminal("dlq", "replay", "--role", "cto", "--server", scenario.url, cwd=project)
        terminal.until("Publish 2 dead letters again?")
        terminal.type(f"{answer}\n")
        assert terminal.ended().code == (0 if answer == "yes" else 1)
        assert len(listed(dlq)) == left
    assert waiting(scenario) == 2


@pytest.mark.parametrize("retention", ["limits", "interest"])
def test_what_nobody_reads_any_more_is_replayed_only_if_that_is_allowed(
    scenario: Scenario, dlq: Dlq, retention: str
) -> None:
    """A stream of interest would drop it at once."""
    mail = MANIFEST + "channels: {mail: {of: org, subject: 'mail.*', durable: true, readers: [%s]}}\n"
    mail += f"streams: {{mail: {{retention: {retention}}}}}\n"
    scenario.converge(mail % "cto")
    (reader,) = [ref for ref in scenario.refs() if ref.startswith("ORG_MAIL/")]
    publish(scenario.api, "acme.mail.old", b"letter")
    nack(scenario.api, reader, times=3)
    assert nothing_comes(scenario.api, reader)
    until(lambda: held(scenario)[0] == 1)
    assert dlq("keep").code == 0
    before = scenario.info("ORG_MAIL")["state"]["last_seq"]
    scenario.ask(f"CONSUMER.DELETE.{reader.replace('/', '.')}")
    for words in (("--dry-run",), ()):
        refused = dlq("replay", "1", *words)
        assert (refused.code, refused.json["results"][0]["problem"]["code"]) == (3, "unmatched-subject")
    assert [letter["number"] for letter in listed(dlq)] == [1]
    assert scenario.info("ORG_MAIL")["state"]["last_seq"] == before
    if retention == "limits":
        assert handled(dlq("replay", "1", "--allow", "unmatched-subject")) == [f"ORG_MAIL/{before + 1}"]


def test_no_more_is_replayed_than_may_wait_and_the_same_word_allows_it(
    scenario: Scenario, dlq: Dlq, project: Path
) -> None:
    """As for `send`; another queue is not held up."""
    failed(scenario, "t1", "t2", "t3")
    publish(scenario.api, "acme.agents.cso.inbox", b"nonsense")
    term(scenario.api, "AGENT_INBOXES/cso-inbox-reader")
    until(lambda: held(scenario)[0] == 4)
    (project / "org.yaml").write_text(f"{MANIFEST}alerts: {{lag: 2}}\n", encoding="utf-8")
    for words in (("--dry-run",), ("--yes",)):
        refused = dlq("replay", "--all", *words)
        codes = [(result["problem"] or {}).get("code") for result in refused.json["results"]]
        assert (refused.code, codes) == (3, ["over-limit"] * 3 + [None])
        assert waiting(scenario) == 0
    assert [letter["number"] for letter in listed(dlq)] == [1, 2, 3]
    assert handled(dlq("replay", "1", "2")) == [f"{TASKS}/4", f"{TASKS}/5"]
    assert dlq("replay", "3").code == 3
    assert handled(dlq("replay", "3", "--allow", "over-limit")) == [f"{TASKS}/6"]


def test_cron_hears_of_what_failed_and_of_nothing_else(scenario: Scenario, dlq: Dlq) -> None:
    failed(scenario, "t1", "t2")
    for shape in ("text", "json"):
        assert dlq("keep", "--quiet", "--format", shape) == CommandResult(0, "", "")
    failed(scenario, "t3")
    full = scenario.info("DEAD_LETTERS")["state"]["bytes"] + 10
    scenario.converge(f"{MANIFEST}streams: {{dead_letters: {{max_bytes: {full}}}}}\n")
    ended = dlq("keep", "--quiet", "--format", "text")
    assert ended.code == 1
    assert ended.err.startswith("dead letter 5: failed: ")


def test_a_message_that_is_gone_is_said_to_be_gone(scenario: Scenario, dlq: Dlq) -> None:
    """And a later message with its number is not taken for it."""
    failed(scenario, "t1")
    scenario.ask(f"STREAM.PURGE.{TASKS}")
    (letter,) = listed(dlq)
    assert (letter["original"], letter["message"]) == ("gone", None)
    ended = dlq("replay", "1")
    assert (ended.code, ended.json["results"][0]["problem"]["code"]) == (1, "original-gone")
    assert handled(dlq("keep")) == []
    assert handled(dlq("drop", "1", "--yes")) == [None]
    assert listed(dlq) == []


def test_five_dead_letters_do_not_block_a_workqueue(scenario: Scenario, dlq: Dlq) -> None:
    """What failed keeps its slot, until it is kept elsewhere, replayed or dropped."""
    scenario.converge(WORKQUEUE.replace("max_msgs: 2", "max_msgs: 5"))
    failed(scenario, "t1", "t2", "t3", "t4", "t5")
    refused = scenario.api.ask(SUBJECT, b"t6").json
    assert refused["error"]["err_code"] == ErrorCode.JSStreamStoreFailedF
    handled(dlq("replay", "1"))
    handled(dlq("drop", "2", "--yes"))
    handled(dlq("keep"))
    assert scenario.info(TASKS)["state"]["messages"] == 1
    for _ in range(4):
        publish(scenario.api, SUBJECT, b"more")
    assert [letter["original"] for letter in listed(dlq)] == ["kept"] * 3


@pytest.mark.parametrize("manifest", [FORGETFUL, FORGETFUL_QUEUE], ids=["limits", "workqueue"])
def test_killed_anywhere_a_replay_is_done_once_by_a_later_one(
    scenario: Scenario, dlq: Dlq, faults: Faults, manifest: str
) -> None:
    """Later than any stream remembers an id."""
    scenario.converge(manifest)
    for step in range(1, 6):
        failed(scenario, f"t{step}")
        with faults.context() as patched, suppress(Killed):
            die_after(patched, step)
            dlq("replay", "--all", "--yes")
        forgotten()
        if letters := listed(dlq):
            handled(dlq("replay", *(str(letter["number"]) for letter in letters)))
        assert listed(dlq) == []
        assert held(scenario) == (0, 1 if manifest == FORGETFUL_QUEUE else 2)
        assert fetch(scenario.api, WORKER).data == f'{{"task_id": "t{step}"}}'.encode()
        assert waiting(scenario) == 0
        scenario.ask(f"STREAM.PURGE.{TASKS}")


@pytest.mark.parametrize("words", [("keep",), ("drop", "--all", "--yes")], ids=["keep", "drop"])
def test_killed_anywhere_keep_and_drop_leave_nothing_in_a_workqueue(
    scenario: Scenario, dlq: Dlq, faults: Faults, words: tuple[str, ...]
) -> None:
    """Nobody else would find what is left there without its pointer."""
    scenario.converge(FORGETFUL_QUEUE)
    kept = 0
    for step in range(1, 5):
        failed(scenario, f"t{step}")
        with faults.context() as patched, suppress(Killed):
            die_after(patched, step)
            dlq(*words)
        forgotten()
        kept += words == ("keep",)
        assert len(listed(dlq)) in (kept, kept + 1)
        handled(dlq(*words))
        assert held(scenario) == (kept, 0)
        assert [letter["original"] for letter in listed(dlq)] == ["kept"] * kept


def test_what_may_have_been_replayed_and_worked_on_is_not_replayed_again_unasked(
    scenario: Scenario, dlq: Dlq, faults: Faults
) -> None:
    """A workqueue forgets what is done, and the tool died before it could write down that it had published."""
    scenario.converge(FORGETFUL_QUEUE)
    failed(scenario, "t1")
    with faults.context() as patched, suppress(Killed):
        die_after(patched, 4)
        dlq("replay", "1")
    scenario.api.ask(fetch(scenario.api, WORKER).reply, b"+ACK")
    forgotten()
    (letter,) = listed(dlq)
    assert letter["replaying"] == f"{TASKS}/1"
    number = str(letter["number"])
    assert "perhaps replayed" in dlq("list", "--format", "text").out
    refused = dlq("replay", number)
    assert_fits("dead-letters-handled", refused.json)
    assert (refused.code, refused.json["results"][0]["problem"]["code"]) == (3, "repeats-work")
    assert held(scenario) == (1, 0)
    assert handled(dlq("replay", number, "--allow", "repeats-work")) == [f"{TASKS}/3"]
    assert listed(dlq) == []


def test_a_replay_that_was_refused_is_not_taken_for_one_that_was_published(
    scenario: Scenario, dlq: Dlq
) -> None:
    scenario.converge(FORGETFUL_QUEUE)
    failed(scenario, "t1")
    handled(dlq("keep"))
    for _ in range(2):
        publish(scenario.api, SUBJECT, b"more")
    refused = dlq("replay", "--all", "--yes")
    assert (refused.code, refused.json["results"][0]["problem"]["code"]) == (3, "over-limit")
    for _ in range(2):  # what comes later is done and gone, so that nothing tells any more
        scenario.api.ask(fetch(scenario.api, WORKER).reply, b"+ACK")
        publish(scenario.api, SUBJECT, b"later")
    scenario.api.ask(fetch(scenario.api, WORKER).reply, b"+ACK")
    assert handled(dlq("replay", "--all", "--yes")) == [f"{TASKS}/6"]


def test_a_notice_that_came_twice_is_one_dead_letter(scenario: Scenario, dlq: Dlq) -> None:
    """As it may when the leader of a consumer changes."""
    failed(scenario, "t1")
    again = scenario.ask("STREAM.MSG.GET.DEAD_LETTERS", {"seq": 1})["message"]["data"]
    scenario.api.ask(
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.AGENT_CTO_TASKS.cto-worker", base64.b64decode(again)
    )
    assert [letter["number"] for letter in listed(dlq)] == [1]
    assert handled(dlq("replay", "2")) == [f"{TASKS}/2"]
    assert held(scenario) == (0, 2)


def test_another_message_under_the_same_number_is_another_dead_letter(scenario: Scenario, dlq: Dlq) -> None:
    """The stream was made anew, within the time for which ids are remembered."""
    for name in ("t1", "t2"):
        failed(scenario, name)
        handled(dlq("keep"))
        scenario.ask(f"STREAM.DELETE.{TASKS}")
        scenario.converge(MANIFEST)
    assert [letter["message"]["data"] for letter in listed(dlq)] == [
        '{"task_id": "t1"}',
        '{"task_id": "t2"}',
    ]
    assert handled(dlq("replay", "--all", "--yes")) == [f"{TASKS}/1", f"{TASKS}/2"]


@pytest.mark.parametrize("what", ["keep", "replaying", "replay", "copy"])
def test_who_publishes_under_its_id_or_its_name_takes_no_dead_letters_place(
    scenario: Scenario, dlq: Dlq, what: str
) -> None:
    """A role may hand in dead letters, and publish tasks: with the id that the tool would use, or headers that name another's message."""
    failed(scenario, "t1")
    stored = scenario.ask(f"STREAM.MSG.GET.{TASKS}", {"seq": 1})["message"]["time"]
    ident = f"{TASKS}/1-cto-worker-{stored}"
    named = {"Stream": TASKS, "Sequence": "1", "Consumer": "cto-worker", "Stored": stored, "Subject": SUBJECT}
    handed_in = "acme.org.deadletter"
    subject, headers = {
        "keep": (handed_in, {"Nats-Msg-Id": f"kept-1-{ident}"}),
        "replaying": (handed_in, {"Nats-Msg-Id": f"kept-1-{ident}"}),
        "replay": (SUBJECT, {"Nats-Msg-Id": f"replay-{ident}"}),
        "copy": (handed_in, {f"Cyborg-Infra-{name}": value for name, value in named.items()}),
    }[what]
    assert "seq" in scenario.api.ask(subject, b"another", headers=headers).json
    ended = dlq("keep" if what == "keep" else "replay", *(() if what == "keep" else ("1",)))
    if what == "copy":
        assert handled(ended) == [f"{TASKS}/2"]
        assert [each["message"]["data"] for each in listed(dlq)] == ["another"]
        assert fetch(scenario.api, WORKER).data == b'{"task_id": "t1"}'
        return
    problems = [result["problem"] for result in ended.json["results"]]
    assert [each["code"] for each in problems if each] == ["id-taken"]
    assert '{"task_id": "t1"}' in [each["message"]["data"] for each in listed(dlq)]


def test_no_dead_letter_is_lost_for_another_one(scenario: Scenario, dlq: Dlq) -> None:
    """A full DEAD_LETTERS would delete its oldest entry for a new one. That may be the pointer of the copy itself."""
    failed(scenario, "t1")
    handled(dlq("keep"))
    failed(scenario, "t2")
    full = scenario.info("DEAD_LETTERS")["state"]["bytes"] + 10
    for limit in (f"max_bytes: {full}", "max_msgs_per_subject: 1", "max_msgs: 2"):
        scenario.converge(f"{MANIFEST}streams: {{dead_letters: {{{limit}}}}}\n")
        refused = dlq("replay", "3")
        assert [result["problem"]["code"] for result in refused.json["results"]] == ["dead-letters-full"]
        assert [letter["number"] for letter in listed(dlq)] == [1, 3]
    assert handled(dlq("replay", "1", "3")) == [f"{TASKS}/3", f"{TASKS}/4"]


def test_two_who_replay_at_once_publish_everything_once(scenario: Scenario, dlq: Dlq, project: Path) -> None:
    failed(scenario, *(f"t{number}" for number in range(10)))
    words = ("replay", "--all", "--yes", "--allow", "over-limit")
    both = [spawn("dlq", *words, "--server", scenario.url, cwd=project) for _ in range(2)]
    for process in both:
        with process:
            process.communicate(timeout=120)
    assert listed(dlq) == []
    assert held(scenario) == (0, 20)
    got = [fetch(scenario.api, WORKER) for _ in range(5)]
    for message in got:
        scenario.api.ask(message.reply, b"+ACK")
    got += [fetch(scenario.api, WORKER) for _ in range(5)]
    assert len({message.data for message in got}) == 10


@pytest.mark.parametrize("manifest", [FORGETFUL, FORGETFUL_QUEUE], ids=["limits", "workqueue"])
@pytest.mark.parametrize("words", [("replay", "--all", "--yes"), ("keep",)], ids=["replay", "keep"])
def test_held_up_anywhere_a_replay_does_not_do_again_what_somebody_else_has_done(
    scenario: Scenario, dlq: Dlq, project: Path, faults: Faults, manifest: str, words: tuple[str, ...]
) -> None:
    """As by Ctrl-Z, a laptop that sleeps, or a thousand others before it: for longer than any stream remembers an id."""
    scenario.converge(manifest)
    for step in range(1, 6):
        failed(scenario, f"t{step}")
        done: list[bytes] = []

        def work(done: list[bytes]) -> None:
            while waiting(scenario):
                task = fetch(scenario.api, WORKER)
                done.append(task.data)
                scenario.api.ask(task.reply, b"+ACK")

        def meanwhile(done: list[bytes] = done) -> None:
            with spawn("dlq", *words, "--server", scenario.url, cwd=project) as other:
                other.communicate(timeout=120)
            work(done)
            forgotten()

        with faults.context() as patched:
            before_write(patched, step, meanwhile)
            dlq("replay", "--all", "--yes")
        work(done)
        forgotten()
        for letter in listed(dlq):
            handled(dlq("replay", str(letter["number"])))
        work(done)
        assert done == [f'{{"task_id": "t{step}"}}'.encode()]


def test_who_drops_what_somebody_else_has_replayed_is_told(
    scenario: Scenario, dlq: Dlq, project: Path, faults: Faults
) -> None:
    failed(scenario, "t1")

    def meanwhile() -> None:
        with spawn("dlq", "replay", "1", "--server", scenario.url, cwd=project) as other:
            other.communicate(timeout=120)

    before_write(faults, 1, meanwhile)
    ended = dlq("drop", "1", "--yes")
    assert (ended.code, ended.json["results"][0]["problem"]["code"]) == (1, "handled-meanwhile")


def test_a_message_too_large_to_be_copied_is_told_and_holds_up_no_other(scenario: Scenario, dlq: Dlq) -> None:
    """Its headers count as well: the server would end the connection."""
    for size in (scenario.api.info["max_payload"] - 100, 1):
        publish(scenario.api, SUBJECT, b"x" * size)
        term(scenario.api, WORKER)
    until(lambda: held(scenario)[0] == 2)
    ended = dlq("replay", "--all", "--yes")
    codes = [(result["problem"] or {}).get("code") for result in ended.json["results"]]
    assert (ended.code, codes) == (1, ["too-large", None])
    assert [letter["number"] for letter in listed(dlq)] == [1]


@pytest.mark.parametrize("words", [("keep", "replay"), ("replay",)])
def test_headers_are_kept_as_they_are_also_where_our_client_would_not_send_them(
    scenario: Scenario, dlq: Dlq, words: tuple[str, ...]
) -> None:
    """Servers take any name, and a lone line feed in a value."""
    said = {"Task Id": "7", "Trägt": "x\ny", "Trace": "8"}
    assert "seq" in scenario.api.ask(SUBJECT, b"{}", headers=said).json
    nack(scenario.api, WORKER, times=3)
    assert nothing_comes(scenario.api, WORKER)
    until(lambda: held(scenario)[0] == 1)
    for word in words:
        handled(dlq(word, "1", *(["--yes"] if word == "replay" else [])))
    message = fetch(scenario.api, WORKER)
    assert message.headers.split("\r\n")[1:4] == [f"{name}: {value}" for name, value in said.items()]


def test_a_server_that_goes_away_ends_it_and_what_was_not_reached_is_told(
    scenario: Scenario, dlq: Dlq, any_server: EmbeddedServer, faults: Faults
) -> None:
    failed(scenario, "t1", "t2", "t3")

    async def unplugged(request: WireRequest, send: SendWire) -> bytes:
        if not request.subject.startswith("$"):  # a message
            any_server.kill()
        return await send(request)

    faults.intercept_wire(unplugged)
    ended = dlq("replay", "--all", "--yes")
    assert_fits("dead-letters-handled", ended.json)
    codes = [result["problem"]["code"] for result in ended.json["results"]]
    assert (ended.code, codes) == (1, ["connection-lost", "not-reached", "not-reached"])


@pytest.mark.parametrize(
    ("renamed", "role", "stream"),
    [
        ("roles: {cso: , tech: {renamed_from: cto}}\n", "tech", "AGENT_TECH_TASKS"),
        ("roles: [cto, cso]\nnaming: {stream_prefix: NEW_}\n", "cto", "NEW_AGENT_CTO_TASKS"),
    ],
    ids=["role", "prefix"],
)
def test_dead_letters_are_found_in_a_stream_that_was_renamed(
    start_server: StartServer, project: Path, cli: Cli, renamed: str, role: str, stream: str
) -> None:
    server = start_server()
    with Scenario(server.url, project) as scene:
        scene.converge(MANIFEST)
        failed(scene, "t1")
        publish(scene.api, "acme.agents.cso.inbox", b"nonsense")
        term(scene.api, "AGENT_INBOXES/cso-inbox-reader")
        until(lambda: held(scene)[0] == 2)
        scene.converge(f"org: acme\n{renamed}")
        words = ("--server", server.url, "--format", "json")
        letters = cli("dlq", "list", *words).json["dead_letters"]
        assert {(letter["role"], letter["original"]) for letter in letters} == {
            (role, "kept"),
            ("cso", "kept" if "prefix" in renamed else "stored"),
        }
        assert handled(cli("dlq", "replay", "1", *words)) == [f"{stream}/2"]


def test_a_dead_letter_is_replayed_where_its_channel_is_now(scenario: Scenario, dlq: Dlq) -> None:
    """A subject of its own, another prefix, a subtree: what failed before goes to the same role's worker."""
    moved = {
        'channels: {tasks: {subject: "work.{role}"}}\n': "acme.work.cto",
        "naming: {subject_prefix: acme.eu}\n": "acme.eu.agents.cto.tasks",
        'channels: {tasks: {subject: "agents.{role}.tasks.>", send_to: assigned}}\n': "acme.agents.cto.tasks.assigned",
    }
    for number, (more, subject) in enumerate(moved.items(), 1):
        scenario.converge(MANIFEST)
        failed(scenario, f"t{number}")
        entry = str(listed(dlq)[-1]["number"])
        scenario.converge(MANIFEST + more)
        assert handled(dlq("replay", entry, "--dry-run")) == [TASKS]
        assert handled(dlq("replay", entry)) == [f"{TASKS}/{2 * number}"]
        message = fetch(scenario.api, WORKER)
        assert (message.subject, message.data) == (subject, f'{{"task_id": "t{number}"}}'.encode())
        scenario.api.ask(message.reply, b"+ACK")
        assert listed(dlq) == []


def test_without_dead_letters_it_says_so(scenario: Scenario, dlq: Dlq) -> None:
    assert "No dead letters." in dlq("list", "--format", "text").out
    scenario.ask("STREAM.DELETE.DEAD_LETTERS")
    ended = dlq("list")
    assert (ended.code, ended.json["problems"][0]["code"]) == (1, "no-dead-letters")


def die_after(faults: Faults, step: int) -> None:
    """The tool dies after its n-th write, a message or a request, which for the server is before the next one."""
    reached = 0

    async def call(request: WireRequest, send: SendWire) -> bytes:
        nonlocal reached
        answer = await send(request)
        reached += is_write(request)
        if is_write(request) and reached == step:
            raise Killed
        return answer

    faults.intercept_wire(call)


def before_write(faults: Faults, step: int, meanwhile: Callable[[], None]) -> None:
    """The tool is held up before its n-th write, for as long as this takes."""
    reached = 0

    async def call(request: WireRequest, send: SendWire) -> bytes:
        nonlocal reached
        reached += is_write(request)
        if is_write(request) and reached == step:
            meanwhile()
        return await send(request)

    faults.intercept_wire(call)


def is_write(request: WireRequest) -> bool:
    """Return whether it is a message, or a request that may change something."""
    verb = request.subject.removeprefix("$JS.API.")
    return not request.subject.startswith("$") or (verb != request.subject and Request(verb, None).writes)


def test_a_plan_says_that_dead_letters_are_copied_only_where_there_are_some(
    scenario: Scenario, dlq: Dlq
) -> None:
    """Others' do not count: whoever reads that somebody is alerted once more looks for the reason."""
    renamed = {
        role: scenario.request(f"org: acme\nroles: {{chief: {{renamed_from: {role}}}, {other}: }}\n")
        for role, other in (("cto", "cso"), ("cso", "cto"))
    }
    failed(scenario, "t1")

    def told(role: str) -> bool:
        return any(
            "are copied into DEAD_LETTERS first" in note for note in scenario.plan(renamed[role]).notes
        )

    assert (told("cto"), told("cso")) == (True, False)
    assert handled(dlq("keep")) == ["DEAD_LETTERS/2"]  # where no rename looks for it
    assert (told("cto"), told("cso")) == (False, False)
