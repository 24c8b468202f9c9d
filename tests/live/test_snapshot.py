"""The account is read to the end, or not planned from: a listing with gaps would say that things do not exist."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scene import Scene, consumer, stream
from servers import StartServer

from cyborg_infra.live import again
from cyborg_infra.live.connect import Connection
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.problems import SnapshotIncomplete

ORG = "org: acme\nroles: [cto]\n"
TASKS = "AGENT_CTO_TASKS"
Page = dict[str, Any]
Alter = Callable[[Page], Page]


@pytest.fixture
def scene(any_server: EmbeddedServer, tmp_path: Path) -> Iterator[Scene]:
    with Scene(any_server.url, tmp_path) as opened:
        yield opened


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes what the server answers to a verb: each answer with the next alteration, then no more."""

    def install(verb: str, *alterations: Alter) -> None:
        ask, left = Connection.request, list(alterations)

        async def request(self: Connection, subject: str, *given: Any, **options: Any) -> bytes:
            reply = await ask(self, subject, *given, **options)
            if left and subject.removeprefix("$JS.API.").startswith(verb):
                return json.dumps(left.pop(0)(json.loads(reply))).encode()
            return reply

        monkeypatch.setattr(Connection, "request", request)

    return install


def without(name: str, *, kind: str = "missing") -> Alter:
    """The page names a row instead of having it, as a cluster does with what does not answer."""

    def alter(page: Page) -> Page:
        for member in ("streams", "consumers"):
            if member in page:
                page[member] = [
                    row for row in page[member] if name not in (row.get("name"), row["config"].get("name"))
                ]
        named: Any = [name] if kind == "missing" else {name: "written by a newer version"}
        return page | {kind: named}

    return alter


def refused(page: Page) -> Page:
    return {
        "type": page["type"],
        "error": {"code": 503, "err_code": 10118, "description": "stream is offline"},
    }


def empty(page: Page) -> Page:
    return page | {"consumers": [], "total": 0}


def one_more(page: Page) -> Page:
    return page | {"total": page["total"] + 1}


def test_streams_and_consumers_are_read_over_all_pages(scene: Scene) -> None:
    """A page has 256 rows: the last stream and the last consumer are on the second and third one."""
    roles = [f"r{number:03}" for number in range(600)]
    for number in range(300):
        stream(f"OTHER_{number:03}", f"other.{number}")(scene)
    scene.converge(ORG)
    for role in roles:
        consumer(f"ORG_BROADCASTS/{role}")(scene)
    assert not scene.plan(scene.wish(ORG))
    with scene.requests() as requests:
        scene.plan(scene.wish(ORG))
    offsets = [
        request.body["offset"] for request in requests if request.verb == "CONSUMER.LIST.ORG_BROADCASTS"
    ]
    assert offsets == [0, 255, 510]
    offsets = [request.body["offset"] for request in requests if request.verb == "STREAM.LIST"]
    assert offsets == [0, 255]
    stream("ZZZ", "acme.agents.ceo.tasks")(scene)
    plan = scene.plan(scene.wish("org: acme\nroles: [cto, ceo]\n"))
    assert ["stream ZZZ" in problem.message for problem in plan.impossible] == [True]


@pytest.mark.parametrize("kind", ["missing", "offline"])
@pytest.mark.parametrize(("verb", "name"), [("STREAM.LIST", TASKS), (f"CONSUMER.LIST.{TASKS}", "cto-worker")])
def test_what_a_page_only_names_is_asked_for_by_itself(
    scene: Scene, answers: Callable[..., None], verb: str, name: str, kind: str
) -> None:
    scene.converge(ORG)
    answers(verb, without(name, kind=kind))
    assert not scene.plan(scene.wish(ORG))


@pytest.mark.parametrize(("verb", "of"), [("STREAM.LIST", ""), (f"CONSUMER.LIST.{TASKS}", f"{TASKS}.")])
def test_what_a_page_only_names_and_the_server_no_longer_knows_is_gone(
    scene: Scene, answers: Callable[..., None], verb: str, of: str
) -> None:
    """In a cluster a delete whose answer was lost may be half through: a consumer is listed without its stream."""
    scene.converge(ORG)
    answers(verb, lambda page: one_more(page) | {"missing": ["GHOST"]})
    with scene.requests() as requests:
        assert not scene.plan(scene.wish(ORG))
    asked = [request.verb for request in requests]
    assert f"{verb.partition('.')[0]}.INFO.{of}GHOST" in asked
    assert asked.count("STREAM.LIST") > 1


def test_a_row_that_cannot_be_read_is_named_and_nothing_is_planned(
    scene: Scene, answers: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.converge(ORG)
    answers("STREAM.LIST", without(TASKS))
    answers(f"STREAM.INFO.{TASKS}", *[refused] * 1000)
    monkeypatch.setattr(again, "PAUSE", 0.01)
    monkeypatch.setattr(again, "ELECTION", 0.05)
    with pytest.raises(SnapshotIncomplete, match=f"{TASKS} could not be read.*offline"):
        scene.plan(scene.wish(ORG))


def test_a_server_that_gives_the_same_page_for_ever_ends_with_an_error(
    scene: Scene, answers: Callable[..., None]
) -> None:
    answers("STREAM.LIST", *[lambda page: page | {"missing": ["GHOST"]}] * 1000)
    with pytest.raises(SnapshotIncomplete, match="keeps changing"):
        scene.plan(scene.wish(ORG))


@pytest.mark.parametrize(
    ("verb", "alteration"), [("STREAM.LIST", one_more), (f"CONSUMER.LIST.{TASKS}", empty)]
)
def test_a_listing_that_changed_while_it_was_read_is_read_again(
    scene: Scene, answers: Callable[..., None], verb: str, alteration: Alter
) -> None:
    """A stream came between two pages; or the stream went, and a cluster lists its consumers as none."""
    scene.converge(ORG)
    answers(verb, alteration)
    assert not scene.plan(scene.wish(ORG))


def test_what_moves_from_one_page_to_another_while_they_are_read_is_not_passed_over(
    scene: Scene, answers: Callable[..., None]
) -> None:
    """A stream before the end of the first page goes and one behind it comes: as many as before, all in other places."""
    scene.converge(ORG)
    for number in range(256):  # ours begin the second page
        stream(f"A{number:03}", f"other.{number}")(scene)

    def elsewhere(page: Page) -> Page:
        scene.ask("STREAM.DELETE.A000")
        stream("ZZZ", "zzz")(scene)
        return page

    answers("STREAM.LIST", elsewhere)
    with scene.requests() as requests:
        assert not scene.plan(scene.wish(ORG))
    offsets = [request.body["offset"] for request in requests if request.verb == "STREAM.LIST"]
    assert offsets == [0, 255, 0, 255]


def test_a_busy_account_is_read_all_the_same(scene: Scene, answers: Callable[..., None]) -> None:
    """Between any two pages a stream at the front goes, or comes: what is there all the time is found, and once."""
    scene.converge(ORG)
    for number in range(600):
        stream(f"A{number:03}", f"other.{number}")(scene)
    moments = iter(range(100))

    def busy(page: Page) -> Page:
        at = next(moments)
        if at % 3:
            scene.ask(f"STREAM.DELETE.A{at:03}")
        else:
            stream(f"A{at:03}_NEW", f"new.{at}")(scene)
        return page

    answers("STREAM.LIST", *[busy] * 20)
    assert not scene.plan(scene.wish(ORG))
    assert next(moments) < 20


def test_an_account_that_never_stands_still_ends_with_an_error(
    scene: Scene, answers: Callable[..., None]
) -> None:
    scene.converge(ORG)
    answers("STREAM.LIST", *[one_more] * 1000)
    with pytest.raises(SnapshotIncomplete, match="keeps changing"):
        scene.plan(scene.wish(ORG))


def test_mirrors_and_sources_of_our_streams_disturb_no_reading(scene: Scene) -> None:
    """They read through direct consumers, which no listing shows; and the copies are not ours."""
    scene.converge(ORG)
    stream("COPY", mirror={"name": TASKS})(scene)
    stream("SUM", sources=[{"name": TASKS}, {"name": "AGENT_INBOXES"}])(scene)
    scene.api.ask("acme.agents.cto.tasks", b"task")
    until_stored(scene, "COPY")
    until_stored(scene, "SUM")
    assert not scene.plan(scene.wish(ORG, prune=True))


def test_consumers_that_the_server_makes_for_a_copy_are_nobody_s_orphans(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Since 2.14 a copy of a workqueue or interest stream reads through a durable of the server's making."""
    manifest = ORG + "streams: {tasks: {retention: workqueue}, inboxes: {retention: interest}}\n"
    with Scene(start_server().url, tmp_path) as scene:
        scene.converge(manifest)
        scene.api.ask("acme.agents.cto.inbox", b"hello")
        stream("COPY", mirror={"name": "AGENT_INBOXES"})(scene)
        stream("SUM", sources=[{"name": "AGENT_INBOXES"}])(scene)
        until_stored(scene, "COPY")
        until_stored(scene, "SUM")
        made = {ref.rpartition("_")[0] for ref in scene.refs() if "/JS_" in ref}
        assert made == {"AGENT_INBOXES/JS_MIRROR", "AGENT_INBOXES/JS_SRC"}
        plan = scene.plan(scene.wish(manifest, prune=True))
        assert (bool(plan), plan.orphans) == (False, ())


def until_stored(scene: Scene, name: str) -> None:
    """The copy has its first message."""
    reader = scene.api.subscribe(f"_INBOX.{name}")
    body = {"stream_name": name, "config": {"deliver_subject": reader.subject, "ack_policy": "none"}}
    scene.ask(f"CONSUMER.CREATE.{name}", body)
    reader.next(timeout=20)
