"""The account is read to the end, or not planned from: a listing with gaps would say that things do not exist."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.interception import WireRequest
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.problems import SnapshotIncomplete
from cyborg_infra.model.ref import PLACEHOLDER_PREFIX, TEMPORARY_PREFIX
from tests.support.faults import Faults, SendWire
from tests.support.scenario import Scenario, consumer, stream
from tests.support.servers import StartServer

ORG = "org: acme\nroles: [cto]\n"
TASKS = "AGENT_CTO_TASKS"
Page = dict[str, Any]
Alter = Callable[[Page], Page]


@pytest.fixture
def answers(faults: Faults) -> Callable[..., None]:
    """Changes what the server answers to a verb: each answer with the next alteration, then no more."""

    def install(verb: str, *alterations: Alter) -> None:
        left = list(alterations)

        async def altered(request: WireRequest, send: SendWire) -> bytes:
            reply = await send(request)
            if left and request.subject.removeprefix("$JS.API.").startswith(verb):
                return json.dumps(left.pop(0)(json.loads(reply))).encode()
            return reply

        faults.intercept_wire(altered)

    return install


def without(name: str, *, kind: str = "missing") -> Alter:
    """Return the page names a row instead of having it, as a cluster does with what does not answer."""

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
        "error": {"code": 503, "err_code": ErrorCode.JSStreamOfflineErr, "description": "stream is offline"},
    }


def empty(page: Page) -> Page:
    return page | {"consumers": [], "total": 0}


def one_more(page: Page) -> Page:
    return page | {"total": page["total"] + 1}


def test_streams_and_consumers_are_read_over_all_pages(scenario: Scenario) -> None:
    """A page has 256 rows: the last stream and the last consumer are on the second and third one."""
    roles = [f"r{number:03}" for number in range(600)]
    for number in range(300):
        stream(f"OTHER_{number:03}", f"other.{number}")(scenario)
    scenario.converge(ORG)
    for role in roles:
        consumer(f"ORG_BROADCASTS/{role}")(scenario)
    assert not scenario.plan(scenario.request(ORG))
    with scenario.requests() as requests:
        scenario.plan(scenario.request(ORG))
    offsets = [
        request.body["offset"] for request in requests if request.verb == "CONSUMER.LIST.ORG_BROADCASTS"
    ]
    assert offsets == [0, 255, 510]
    offsets = [request.body["offset"] for request in requests if request.verb == "STREAM.LIST"]
    assert offsets == [0, 255]
    stream("ZZZ", "acme.agents.ceo.tasks")(scenario)
    plan = scenario.plan(scenario.request("org: acme\nroles: [cto, ceo]\n"))
    assert ["stream ZZZ" in problem.message for problem in plan.blocking_problems] == [True]


@pytest.mark.parametrize("kind", ["missing", "offline"])
@pytest.mark.parametrize(("verb", "name"), [("STREAM.LIST", TASKS), (f"CONSUMER.LIST.{TASKS}", "cto-worker")])
def test_what_a_page_only_names_is_asked_for_by_itself(
    scenario: Scenario, answers: Callable[..., None], verb: str, name: str, kind: str
) -> None:
    scenario.converge(ORG)
    answers(verb, without(name, kind=kind))
    assert not scenario.plan(scenario.request(ORG))


@pytest.mark.parametrize(
    ("verb", "of", "ghost"),
    [
        ("STREAM.LIST", "", f"{TEMPORARY_PREFIX}{TASKS}"),
        (f"CONSUMER.LIST.{TASKS}", f"{TASKS}.", f"{PLACEHOLDER_PREFIX}cto-worker"),
    ],
)
def test_what_a_page_only_names_and_the_server_no_longer_knows_is_gone(
    scenario: Scenario, answers: Callable[..., None], verb: str, of: str, ghost: str
) -> None:
    """In a cluster a delete whose answer was lost may be half through: a consumer is listed without its stream."""
    scenario.converge(ORG)
    answers(verb, lambda page: one_more(page) | {"missing": [ghost]})
    with scenario.requests() as requests:
        assert not scenario.plan(scenario.request(ORG))
    asked = [request.verb for request in requests]
    assert f"{verb.partition('.')[0]}.INFO.{of}{ghost}" in asked
    assert asked.count("STREAM.LIST") > 1


def test_a_row_that_cannot_be_read_is_named_and_nothing_is_planned(
    scenario: Scenario, answers: Callable[..., None], faults: Faults
) -> None:
    scenario.converge(ORG)
    answers("STREAM.LIST", without(TASKS))
    answers(f"STREAM.INFO.{TASKS}", *[refused] * 1000)
    faults.waits(UNREACHABLE_POLL_SECONDS=0.01)
    faults.waits(UNREACHABLE_SEARCH_SECONDS=0.05)
    faults.waits(UNREACHABLE_ANSWER_SECONDS=0.05)
    with pytest.raises(SnapshotIncomplete, match=f"{TASKS} could not be read.*offline"):
        scenario.plan(scenario.request(ORG))


def test_a_server_that_gives_the_same_page_for_ever_ends_with_an_error(
    scenario: Scenario, answers: Callable[..., None]
) -> None:
    answers("STREAM.LIST", *[lambda page: page | {"missing": [TASKS]}] * 1000)
    with pytest.raises(SnapshotIncomplete, match="keeps changing"):
        scenario.plan(scenario.request(ORG))


@pytest.mark.parametrize(
    ("verb", "alteration"), [("STREAM.LIST", one_more), (f"CONSUMER.LIST.{TASKS}", empty)]
)
def test_a_listing_that_changed_while_it_was_read_is_read_again(
    scenario: Scenario, answers: Callable[..., None], verb: str, alteration: Alter
) -> None:
    """A stream came between two pages; or the stream went, and a cluster lists its consumers as none."""
    scenario.converge(ORG)
    answers(verb, alteration)
    assert not scenario.plan(scenario.request(ORG))


def test_what_moves_from_one_page_to_another_while_they_are_read_is_not_passed_over(
    scenario: Scenario, answers: Callable[..., None]
) -> None:
    """A stream before the end of the first page goes and one behind it comes: as many as before, all in other places."""
    scenario.converge(ORG)
    for number in range(256):  # ours begin the second page
        stream(f"A{number:03}", f"other.{number}")(scenario)

    def elsewhere(page: Page) -> Page:
        scenario.ask("STREAM.DELETE.A000")
        stream("ZZZ", "zzz")(scenario)
        return page

    answers("STREAM.LIST", elsewhere)
    with scenario.requests() as requests:
        assert not scenario.plan(scenario.request(ORG))
    offsets = [request.body["offset"] for request in requests if request.verb == "STREAM.LIST"]
    assert offsets == [0, 255, 0, 255]


def test_a_busy_account_is_read_all_the_same(scenario: Scenario, answers: Callable[..., None]) -> None:
    """Between any two pages a stream at the front goes, or comes: what is there all the time is found, and once."""
    scenario.converge(ORG)
    for number in range(600):
        stream(f"A{number:03}", f"other.{number}")(scenario)
    moments = iter(range(100))

    def busy(page: Page) -> Page:
        at = next(moments)
        if at % 3:
            scenario.ask(f"STREAM.DELETE.A{at:03}")
        else:
            stream(f"A{at:03}_NEW", f"new.{at}")(scenario)
        return page

    answers("STREAM.LIST", *[busy] * 20)
    assert not scenario.plan(scenario.request(ORG))
    assert next(moments) < 20


def test_a_snapshot_of_an_account_that_keeps_changing_ends_with_an_error(
    scenario: Scenario, answers: Callable[..., None]
) -> None:
    scenario.converge(ORG)
    answers("STREAM.LIST", *[one_more] * 1000)
    with pytest.raises(SnapshotIncomplete, match="keeps changing"):
        scenario.plan(scenario.request(ORG))


def test_mirrors_and_sources_of_our_streams_disturb_no_reading(scenario: Scenario) -> None:
    """They read through direct consumers, which no listing shows; and the copies are not ours."""
    scenario.converge(ORG)
    stream("COPY", mirror={"name": TASKS})(scenario)
    stream("SUM", sources=[{"name": TASKS}, {"name": "AGENT_INBOXES"}])(scenario)
    scenario.api.ask("acme.agents.cto.tasks", b"task")
    until_stored(scenario, "COPY")
    until_stored(scenario, "SUM")
    assert not scenario.plan(scenario.request(ORG, prune=True))


def test_consumers_that_the_server_makes_for_a_copy_are_nobody_s_orphans(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Since 2.14 a copy of a workqueue or interest stream reads through a durable of the server's making."""
    manifest = ORG + "streams: {tasks: {retention: workqueue}, inboxes: {retention: interest}}\n"
    with Scenario(start_server().url, tmp_path) as scene:
        scene.converge(manifest)
        scene.api.ask("acme.agents.cto.inbox", b"hello")
        stream("COPY", mirror={"name": "AGENT_INBOXES"})(scene)
        stream("SUM", sources=[{"name": "AGENT_INBOXES"}])(scene)
        until_stored(scene, "COPY")
        until_stored(scene, "SUM")
        made = {ref.rpartition("_")[0] for ref in scene.refs() if "/JS_" in ref}
        assert made == {"AGENT_INBOXES/JS_MIRROR", "AGENT_INBOXES/JS_SRC"}
        plan = scene.plan(scene.request(manifest, prune=True))
        assert (bool(plan), plan.orphans) == (False, ())


def until_stored(scenario: Scenario, name: str) -> None:
    """The copy has its first message."""
    reader = scenario.api.subscribe(f"_INBOX.{name}")
    body = {"stream_name": name, "config": {"deliver_subject": reader.subject, "ack_policy": "none"}}
    scenario.ask(f"CONSUMER.CREATE.{name}", body)
    reader.next(timeout=20)
