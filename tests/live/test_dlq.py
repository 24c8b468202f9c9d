"""`dlq` on a real server: what failed is found with its message, and is replayed, kept or dropped exactly once."""

from __future__ import annotations

import base64
import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agents import fetch, give_back, give_up, nothing_comes, publish, until
from command import Cli, Ended, assert_fits, spawn
from scene import Request, Scene
from servers import StartServer

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.jetstream import JetStream

MANIFEST = "org: acme\nroles: [cto, cso]\n"
WORKQUEUE = MANIFEST + "streams: {tasks: {retention: workqueue, discard: new, max_msgs: 2}}\n"
FORGETFUL = (
    MANIFEST + "streams: {tasks: {duplicate_window: 100ms}, dead_letters: {duplicate_window: 100ms}}\n"
)
FORGETFUL_QUEUE = FORGETFUL.replace("{tasks: {", "{tasks: {retention: workqueue, discard: new, max_msgs: 2, ")
TASKS, WORKER = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"
SUBJECT = "acme.agents.cto.tasks"

Dlq = Callable[..., Ended]


class Killed(Exception):
    """The tool died here."""


@pytest.fixture
def scene(any_server: EmbeddedServer, project: Path) -> Iterator[Scene]:
    """Its manifest is the one in the working directory."""
    with Scene(any_server.url, project) as opened:
        opened.converge(MANIFEST)
        yield opened


@pytest.fixture
def dlq(scene: Scene, cli: Cli) -> Dlq:
    """`dlq("list")` on the scene's server, as JSON where it is not told otherwise."""

    def run(*words: str) -> Ended:
        shape = () if "--format" in words else ("--format", "json")
        return cli("dlq", *words, *shape, "--server", scene.url)

    return run


def failed(scene: Scene, *names: str) -> None:
    """Tasks of the cto that were given back until nobody gets them any more; each has its name as its id."""
    before = scene.info("DEAD_LETTERS")["state"]["messages"]
    for name in names:
        headers = {"Nats-Msg-Id": name, "Trace": "7"}
        assert "seq" in scene.api.ask(SUBJECT, f'{{"task_id": "{name}"}}'.encode(), headers=headers).json
        give_back(scene.api, WORKER, times=3)
    assert nothing_comes(scene.api, WORKER)
    until(lambda: scene.info("DEAD_LETTERS")["state"]["messages"] == before + len(names))


def listed(dlq: Dlq) -> list[dict[str, Any]]:
    shown = dlq("list")
    assert shown.code == 0
    assert_fits("dead-letters", shown.json)
    found: list[dict[str, Any]] = shown.json["dead_letters"]
    return found


def handled(ended: Ended) -> list[str | None]:
    """Where each message is now; all of them were done."""
    assert ended.code == 0, ended.err
    assert_fits("dead-letters-handled", ended.json)
    return [result["place"] for result in ended.json["results"]]


def held(scene: Scene) -> tuple[int, int]:
    """How many messages there are in DEAD_LETTERS, and among the cto's tasks."""
    dead, tasks = (scene.info(stream)["state"]["messages"] for stream in ("DEAD_LETTERS", TASKS))
    return dead, tasks


def forgotten() -> None:
    """A stream with a duplicate_window of 100ms no longer knows an id from before."""
    time.sleep(0.15)


def waiting(scene: Scene) -> int:
    count: int = scene.info(WORKER)["num_pending"]
    return count


def test_every_way_to_fail_is_listed_with_its_message(scene: Scene, dlq: Dlq) -> None:
    failed(scene, "t1")
    publish(scene.api, "acme.agents.cso.inbox", b"\xff\x00")
    give_up(scene.api, "AGENT_INBOXES/cso-inbox-reader", "not for me")
    until(lambda: scene.info("DEAD_LETTERS")["state"]["messages"] == 2)
    publish(scene.api, "acme.org.deadletter", b"handed in")
    publish(scene.api, "acme.org.deadletter", b'{"assigned_to": "cso", "reason": "no such repository"}')
    letters = listed(dlq)
    told = ("number", "type", "role", "consumer", "deliveries", "reason", "original")
    assert [tuple(letter[name] for name in told) for letter in letters] == [
        (1, "max_deliver", "cto", "cto-worker", 3, None, "stored"),
        (2, "terminated", "cso", "cso-inbox-reader", 1, "not for me", "stored"),
        (3, "given_up", None, None, None, None, "kept"),
        (4, "given_up", "cso", None, None, "no such repository", "kept"),
    ]
    assert [letter["message"]["encoding"] for letter in letters] == ["utf-8", "base64", "utf-8", "utf-8"]
    assert letters[0]["message"]["headers"][0] == {"name": "Nats-Msg-Id", "value": "t1"}


def test_whatever_is_handed_in_can_be_listed_and_shown(scene: Scene, dlq: Dlq) -> None:
    """Nothing that somebody publishes keeps a person from looking; what says nonsense is not replayed."""
    hostile = [
        b"[" * 100_000,
        b'{"reason": "\\ud800", "assigned_to": ["cto"]}',
        b'{"reason": 7}',
        b"\x1b[31m\x00\r\n\xc2\x85",
        b"",
    ]
    for data in hostile:
        publish(scene.api, "acme.org.deadletter", data)
    notice = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.AGENT_CTO_TASKS.cto-worker"
    for told in (
        {"stream": "A B", "stream_seq": 1},
        {"stream": "A", "stream_seq": -1},
        {"stream_seq": 1e999},
    ):
        scene.api.ask(notice, json.dumps(told).encode())
    headers = {
        "Cyborg-Infra-Subject": "acme b",
        "Cyborg-Infra-Failed": "never",
        "Cyborg-Infra-Replaying": "x/y",
    }
    scene.api.publish("acme.org.deadletter", b"spoofed", headers=headers)
    until(lambda: held(scene)[0] == 9)
    assert [letter["original"] for letter in listed(dlq)] == ["kept"] * 9
    for number in range(1, 10):
        assert dlq("show", str(number), "--format", "text").code == 0
    ended = dlq("replay", "--all")
    assert {result["problem"]["code"] for result in ended.json["results"]} == {"no-subject"}


def test_a_list_fits_a_terminal_and_show_prints_the_message(scene: Scene, dlq: Dlq) -> None:
    failed(scene, "t1")
    shown = dlq("list", "--format", "text")
    assert shown.out.splitlines()[1].endswith("cto-worker  3      AGENT_CTO_TASKS/1  max_deliver")
    assert max(map(len, shown.out.splitlines())) <= 80
    shown = dlq("show", "1", "--format", "text")
    assert "Trace: 7" in shown.out
    assert '"task_id": "t1"' in shown.out


def test_replayed_means_published_again_once_and_gone_from_the_list(scene: Scene, dlq: Dlq) -> None:
    """Although its stream still knows the id of the first one."""
    failed(scene, "t1", "t2")
    assert handled(dlq("replay", "1")) == [f"{TASKS}/3"]
    assert [letter["number"] for letter in listed(dlq)] == [2]
    message = fetch(scene.api, WORKER)
    assert message.data == b'{"task_id": "t1"}'
    assert f"Cyborg-Infra-Replays: {TASKS}/1" in message.headers
    assert "Trace: 7" in message.headers
    again = dlq("replay", "1")
    assert (again.code, again.json["problems"][0]["code"]) == (1, "no-dead-letter")
    assert waiting(scene) == 0


def test_nothing_is_done_if_one_number_is_not_there(scene: Scene, dlq: Dlq) -> None:
    failed(scene, "t1")
    assert dlq("replay", "1", "9").code == 1
    assert (len(listed(dlq)), waiting(scene)) == (1, 0)


def test_what_changes_dead_letters_never_means_all_by_saying_nothing(scene: Scene, dlq: Dlq) -> None:
    failed(scene, "t1")
    for words in (("replay",), ("drop", "--yes")):
        assert dlq(*words).code == 1
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
    scene: Scene, dlq: Dlq, choice: tuple[str, ...], numbers: list[int]
) -> None:
    failed(scene, "t1")
    publish(scene.api, "acme.agents.cso.inbox", b"nonsense")
    give_up(scene.api, "AGENT_INBOXES/cso-inbox-reader")
    until(lambda: scene.info("DEAD_LETTERS")["state"]["messages"] == 2)
    ended = dlq("replay", *choice)
    assert [result["number"] for result in ended.json["results"]] == numbers
    assert "did you mean cto?" in dlq("list", "--role", "ctoo", "--format", "text").err


def test_what_is_kept_outlives_its_stream_and_is_replayed_from_there(scene: Scene, dlq: Dlq) -> None:
    failed(scene, "t1", "t2")
    assert handled(dlq("keep")) == ["dead letter 3", "dead letter 4"]
    assert handled(dlq("keep")) == []
    scene.ask(f"STREAM.PURGE.{TASKS}")
    letters = listed(dlq)
    told = ("original", "type", "role", "consumer", "sequence", "deliveries")
    assert [tuple(letter[name] for name in told) for letter in letters] == [
        ("kept", "max_deliver", "cto", "cto-worker", sequence, 3) for sequence in (1, 2)
    ]
    assert handled(dlq("replay", "--all")) == [f"{TASKS}/3", f"{TASKS}/4"]
    assert [fetch(scene.api, WORKER).data for _ in range(2)] == [b'{"task_id": "t1"}', b'{"task_id": "t2"}']
    assert listed(dlq) == []


def test_a_message_that_is_gone_is_said_to_be_gone(scene: Scene, dlq: Dlq) -> None:
    """And a later message with its number is not taken for it."""
    failed(scene, "t1")
    scene.ask(f"STREAM.PURGE.{TASKS}")
    (letter,) = listed(dlq)
    assert (letter["original"], letter["message"]) == ("gone", None)
    ended = dlq("replay", "1")
    assert (ended.code, ended.json["results"][0]["problem"]["code"]) == (1, "original-gone")
    assert handled(dlq("keep")) == []
    assert handled(dlq("drop", "1", "--yes")) == [None]
    assert listed(dlq) == []


def test_five_dead_letters_do_not_block_a_workqueue(scene: Scene, dlq: Dlq) -> None:
    """What failed keeps its slot, until it is kept elsewhere, replayed or dropped."""
    scene.converge(WORKQUEUE.replace("max_msgs: 2", "max_msgs: 5"))
    failed(scene, "t1", "t2", "t3", "t4", "t5")
    refused = scene.api.ask(SUBJECT, b"t6").json
    assert refused["error"]["err_code"] == 10077
    handled(dlq("replay", "1"))
    handled(dlq("drop", "2", "--yes"))
    handled(dlq("keep"))
    assert scene.info(TASKS)["state"]["messages"] == 1
    for _ in range(4):
        publish(scene.api, SUBJECT, b"more")
    assert [letter["original"] for letter in listed(dlq)] == ["kept"] * 3


@pytest.mark.parametrize("manifest", [FORGETFUL, FORGETFUL_QUEUE], ids=["limits", "workqueue"])
def test_killed_anywhere_a_replay_is_done_once_by_a_later_one(
    scene: Scene, dlq: Dlq, monkeypatch: pytest.MonkeyPatch, manifest: str
) -> None:
    """Later than any stream remembers an id."""
    scene.converge(manifest)
    for step in range(1, 6):
        failed(scene, f"t{step}")
        with monkeypatch.context() as patched, suppress(Killed):
            die_after(patched, step)
            dlq("replay", "--all")
        forgotten()
        if letters := listed(dlq):
            handled(dlq("replay", *(str(letter["number"]) for letter in letters)))
        assert listed(dlq) == []
        assert held(scene) == (0, 1 if manifest == FORGETFUL_QUEUE else 2)
        assert fetch(scene.api, WORKER).data == f'{{"task_id": "t{step}"}}'.encode()
        assert waiting(scene) == 0
        scene.ask(f"STREAM.PURGE.{TASKS}")


@pytest.mark.parametrize("words", [("keep",), ("drop", "--all", "--yes")], ids=["keep", "drop"])
def test_killed_anywhere_keep_and_drop_leave_nothing_in_a_workqueue(
    scene: Scene, dlq: Dlq, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Nobody else would find what is left there without its pointer."""
    scene.converge(FORGETFUL_QUEUE)
    kept = 0
    for step in range(1, 5):
        failed(scene, f"t{step}")
        with monkeypatch.context() as patched, suppress(Killed):
            die_after(patched, step)
            dlq(*words)
        forgotten()
        kept += words == ("keep",)
        assert len(listed(dlq)) in (kept, kept + 1)
        handled(dlq(*words))
        assert held(scene) == (kept, 0)
        assert [letter["original"] for letter in listed(dlq)] == ["kept"] * kept


def test_what_may_have_been_replayed_and_worked_on_is_not_replayed_again_unasked(
    scene: Scene, dlq: Dlq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workqueue forgets what is done, and the tool died before it could write down that it had published."""
    scene.converge(FORGETFUL_QUEUE)
    failed(scene, "t1")
    with monkeypatch.context() as patched, suppress(Killed):
        die_after(patched, 4)
        dlq("replay", "1")
    scene.api.ask(fetch(scene.api, WORKER).reply, b"+ACK")
    forgotten()
    (letter,) = listed(dlq)
    assert letter["replaying"] == f"{TASKS}/1"
    number = str(letter["number"])
    assert "perhaps replayed" in dlq("list", "--format", "text").out
    refused = dlq("replay", number)
    assert_fits("dead-letters-handled", refused.json)
    assert (refused.code, refused.json["results"][0]["problem"]["code"]) == (3, "repeats-work")
    assert held(scene) == (1, 0)
    assert handled(dlq("replay", number, "--allow", "repeats-work")) == [f"{TASKS}/3"]
    assert listed(dlq) == []


def test_a_replay_that_was_refused_is_not_taken_for_one_that_was_published(scene: Scene, dlq: Dlq) -> None:
    scene.converge(FORGETFUL_QUEUE)
    failed(scene, "t1")
    handled(dlq("keep"))
    for _ in range(2):
        publish(scene.api, SUBJECT, b"more")
    refused = dlq("replay", "--all")
    assert (refused.code, refused.json["results"][0]["problem"]["code"]) == (3, "over-limit")
    for _ in range(2):  # what comes later is done and gone, so that nothing tells any more
        scene.api.ask(fetch(scene.api, WORKER).reply, b"+ACK")
        publish(scene.api, SUBJECT, b"later")
    scene.api.ask(fetch(scene.api, WORKER).reply, b"+ACK")
    assert handled(dlq("replay", "--all")) == [f"{TASKS}/6"]


def test_a_notice_that_came_twice_is_one_dead_letter(scene: Scene, dlq: Dlq) -> None:
    """As it may when the leader of a consumer changes."""
    failed(scene, "t1")
    again = scene.ask("STREAM.MSG.GET.DEAD_LETTERS", {"seq": 1})["message"]["data"]
    scene.api.ask(
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.AGENT_CTO_TASKS.cto-worker", base64.b64decode(again)
    )
    assert [letter["number"] for letter in listed(dlq)] == [1]
    assert handled(dlq("replay", "2")) == [f"{TASKS}/2"]
    assert held(scene) == (0, 2)


def test_another_message_under_the_same_number_is_another_dead_letter(scene: Scene, dlq: Dlq) -> None:
    """The stream was made anew, within the time for which ids are remembered."""
    for name in ("t1", "t2"):
        failed(scene, name)
        handled(dlq("keep"))
        scene.ask(f"STREAM.DELETE.{TASKS}")
        scene.converge(MANIFEST)
    assert [letter["message"]["data"] for letter in listed(dlq)] == [
        '{"task_id": "t1"}',
        '{"task_id": "t2"}',
    ]
    assert handled(dlq("replay", "--all")) == [f"{TASKS}/1", f"{TASKS}/2"]


def test_no_dead_letter_is_lost_for_another_one(scene: Scene, dlq: Dlq) -> None:
    """A full DEAD_LETTERS would delete its oldest entry for a new one. That may be the pointer of the copy itself."""
    failed(scene, "t1")
    handled(dlq("keep"))
    failed(scene, "t2")
    full = scene.info("DEAD_LETTERS")["state"]["bytes"] + 10
    for limit in (f"max_bytes: {full}", "max_msgs_per_subject: 1", "max_msgs: 2"):
        scene.converge(f"{MANIFEST}streams: {{dead_letters: {{{limit}}}}}\n")
        refused = dlq("replay", "3")
        assert [result["problem"]["code"] for result in refused.json["results"]] == ["dead-letters-full"]
        assert [letter["number"] for letter in listed(dlq)] == [2, 3]
    assert handled(dlq("replay", "2", "3")) == [f"{TASKS}/3", f"{TASKS}/4"]


def test_two_who_replay_at_once_publish_everything_once(scene: Scene, dlq: Dlq, project: Path) -> None:
    failed(scene, *(f"t{number}" for number in range(10)))
    both = [spawn("dlq", "replay", "--all", "--server", scene.url, cwd=project) for _ in range(2)]
    for process in both:
        with process:
            process.communicate(timeout=60)
    assert listed(dlq) == []
    assert held(scene) == (0, 20)
    got = [fetch(scene.api, WORKER) for _ in range(5)]
    for message in got:
        scene.api.ask(message.reply, b"+ACK")
    got += [fetch(scene.api, WORKER) for _ in range(5)]
    assert len({message.data for message in got}) == 10


def test_a_message_too_large_to_be_copied_is_told_and_holds_up_no_other(scene: Scene, dlq: Dlq) -> None:
    """Its headers count as well: the server would end the connection."""
    for size in (scene.api.info["max_payload"] - 100, 1):
        publish(scene.api, SUBJECT, b"x" * size)
        give_up(scene.api, WORKER)
    until(lambda: held(scene)[0] == 2)
    ended = dlq("replay", "--all")
    codes = [(result["problem"] or {}).get("code") for result in ended.json["results"]]
    assert (ended.code, codes) == (1, ["too-large", None])
    assert [letter["number"] for letter in listed(dlq)] == [1]


def test_a_server_that_goes_away_ends_it_and_what_was_not_reached_is_told(
    scene: Scene, dlq: Dlq, any_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(scene, "t1", "t2", "t3")
    store = JetStream.store

    async def unplugged(*args: Any, **named: Any) -> Any:
        any_server.kill()
        return await store(*args, **named)

    monkeypatch.setattr(JetStream, "store", unplugged)
    ended = dlq("replay", "--all")
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
    with Scene(server.url, project) as scene:
        scene.converge(MANIFEST)
        failed(scene, "t1")
        publish(scene.api, "acme.agents.cso.inbox", b"nonsense")
        give_up(scene.api, "AGENT_INBOXES/cso-inbox-reader")
        until(lambda: held(scene)[0] == 2)
        scene.converge(f"org: acme\n{renamed}")
        words = ("--server", server.url, "--format", "json")
        letters = cli("dlq", "list", *words).json["dead_letters"]
        assert [(letter["role"], letter["original"]) for letter in letters] == [
            (role, "stored"),
            ("cso", "stored"),
        ]
        assert handled(cli("dlq", "replay", "1", *words)) == [f"{stream}/2"]


def test_without_dead_letters_it_says_so(scene: Scene, dlq: Dlq) -> None:
    assert "No dead letters." in dlq("list", "--format", "text").out
    scene.ask("STREAM.DELETE.DEAD_LETTERS")
    ended = dlq("list")
    assert (ended.code, ended.json["problems"][0]["code"]) == (1, "no-dead-letters")


def die_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The tool dies after its n-th write, which for the server is before the next one."""
    reached = 0

    def dying(original: Callable[..., Any], *, writes: Callable[[str], bool]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def call(server: JetStream, verb: str, *args: Any, **named: Any) -> Any:
            nonlocal reached
            answer = await original(server, verb, *args, **named)
            reached += writes(verb)
            if reached == step and writes(verb):
                raise Killed
            return answer

        return call

    monkeypatch.setattr(
        JetStream, "call", dying(JetStream.call, writes=lambda verb: Request(verb, None).writes)
    )
    monkeypatch.setattr(JetStream, "store", dying(JetStream.store, writes=lambda _: True))
