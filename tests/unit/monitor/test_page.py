"""The monitor's page: what it says of an observation, what is escaped, how large it gets, and how it is served."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cyborg_infra.core.operate.dead_letters import without_original
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.dead_letters import DeathType, MessageLocation
from cyborg_infra.model.monitor import Observation, WatchedLetter
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.status import STATES, Alarm, Condition
from cyborg_infra.model.wording import Command, Option, worded
from cyborg_infra.monitor.page import chart, routes
from cyborg_infra.monitor.page.content import OVERVIEW, PageValues, Piece, Severity, View, severity_of
from cyborg_infra.monitor.page.queues import MAX_ROLES, PART
from cyborg_infra.monitor.page.render import FILES, render_page
from cyborg_infra.monitor.page.texts import pieces
from cyborg_infra.monitor.page.values import MAX_ALARMS, page_values
from cyborg_infra.monitor.server import HttpSettings, serve
from tests.conftest import Golden
from tests.support.html import Elements
from tests.support.observations import MARKUP, ORG, in_trouble, letter, of_size, queue, quiet, role_status

CASES = Path(__file__).parents[2] / "cases" / "monitor"
UNREACHABLE = Problem("unreachable", "nats://nats.example.org:4222 cannot be reached: connection refused")
BOUND_BYTES = 100_000


def said(observation: Observation, view: View = OVERVIEW, org: Org = ORG) -> PageValues:
    return page_values(observation, org, view)


def html(observation: Observation, view: View = OVERVIEW, org: Org = ORG) -> str:
    return render_page(said(observation, view, org), 7, 15)


# What it says


def test_the_worst_alarm_comes_first_and_each_says_what_to_do() -> None:
    found = said(in_trouble())
    assert [alarm.code for alarm in found.alarms] == [
        *("expired", "no-worker", "lag", "broadcast-ack", "dead-letters", "near-limit", "drift")
    ]
    assert (found.severity, found.headline) == (Severity.CRITICAL, "7 alarms")
    assert all(alarm.remedy for alarm in found.alarms)
    texts = [text for group in found.alarms for text in (group.remedy, *(row.message for row in group.rows))]
    typed = [piece.text for text in texts for piece in text if piece.typed]
    assert {
        "cyborg-infra dlq list --role backend --env production",
        "cyborg-infra apply --env production",
    } <= {*typed}
    assert "max_age" in typed
    lag = next(row for group in found.alarms if group.code == "lag" for row in group.rows)
    assert (lag.role, lag.address, lag.message) == (
        "backend",
        "?role=backend",
        (Piece("tasks: 12 waiting, more than 5"),),
    )


def test_what_is_above_a_threshold_stands_above_what_only_works() -> None:
    rows = said(in_trouble()).queues
    assert [row.role for row in rows] == [
        *("frontend", "marketing", "backend", "ceo", "ceo", "cto", "cso", "devops")
    ]
    assert [(row.channel, row.heads) for row in rows if row.role == "ceo"] == [
        ("tasks", True),
        ("inbox", False),
    ]
    lagging = next(row for row in rows if row.role == "backend")
    assert (lagging.waiting, lagging.above, lagging.oldest, lagging.again) == ("12", True, "21m", "2")


def test_a_role_has_all_its_queues_and_what_the_chart_says_of_it() -> None:
    found = said(in_trouble(), View("cso"))
    assert [row.channel for row in found.queues] == ["tasks", "inbox"]
    assert [(word, [link.text for link in links]) for word, _, links in found.role] == [
        ("reports to", ["ceo"]),
        ("assigned by", ["cto"]),
        ("assigns to", ["backend", "frontend", "devops"]),
    ]
    assert found.alarms == ()  # others have some
    assert found.headline == "cso: nothing is above a threshold"


def test_what_cannot_be_read_is_not_shown_and_it_is_said_since_when() -> None:
    lost = replace(in_trouble(), status=None, problem=UNREACHABLE, drift=None, alarms=(), dead_letters=())
    found = said(lost)
    assert (found.severity, found.headline, found.known) == (
        Severity.CRITICAL,
        "The server cannot be read",
        False,
    )
    assert (found.queues, found.broadcasts, found.letters, found.streams, found.chart) == (
        (),
        (),
        (),
        (),
        None,
    )
    text = Elements(html(lost)).text
    assert "Nothing is known since 2026-01-05 03:12:07 UTC" in text
    assert UNREACHABLE.message in text
    assert "waiting" not in text
    assert said(Observation("genbrain", None)).headline == "Nothing has been read yet"


def test_a_dead_letter_has_the_command_that_fits_it() -> None:
    subject = "genbrain.agents.cto.tasks"
    gone = letter(3, "cto", original=MessageLocation.GONE, type=DeathType.TERMINATED)
    observation = replace(
        in_trouble(),
        environment=None,
        dead_letters=(
            WatchedLetter(letter(5, "cto"), replays_to=subject),
            WatchedLetter(without_original(gone)),  # the monitor may not read messages
            WatchedLetter(gone),
            WatchedLetter(
                letter(2, "cto", original=MessageLocation.KEPT)
            ),  # nobody said where it was published
            WatchedLetter(letter(1, "cto", replaying="AGENT_CTO_TASKS/481"), replays_to=subject),
        ),
    )
    assert [row.command for row in said(observation).letters] == [
        "cyborg-infra dlq replay 5",
        "cyborg-infra dlq show 3",
        "cyborg-infra dlq drop 3",
        "cyborg-infra dlq show 2",
        "cyborg-infra dlq show 1",
    ]
    assert said(in_trouble()).letters[0].command == "cyborg-infra dlq replay 52 --env production"


def test_a_broadcast_is_late_where_a_role_has_had_its_time() -> None:
    assert [(row.name, row.severity, row.is_late, row.said) for row in said(in_trouble()).broadcasts] == [
        ("8", Severity.WORKING, False, "acknowledged by 5 of 7; not by ceo, marketing"),
        ("7 to engineering", Severity.WARNING, True, "acknowledged by 6 of 7; not by marketing"),
        ("6", Severity.GOOD, False, "acknowledged by 7 of 7"),
    ]


def test_commands_are_set_apart_with_their_options() -> None:
    text = worded("see {} {}, or {}", Command("dlq list"), Option("role", "cto"), Command("plan"))
    assert pieces(text) == (
        Piece("see "),
        Piece("cyborg-infra dlq list --role cto", typed=True),
        Piece(", or "),
        Piece("cyborg-infra plan", typed=True),
    )


def test_every_condition_has_a_level() -> None:
    quiet_levels = {severity_of(each) for each in Condition if not each.alarm}
    assert quiet_levels == {Severity.WORKING, Severity.IDLE}
    assert {severity_of(each) for each in Condition if each.alarm} == {Severity.CRITICAL, Severity.WARNING}


# The chart


def test_the_chart_has_an_arrow_for_each_relation_and_what_waits() -> None:
    found = said(in_trouble()).chart
    assert found
    assert [node.name for node in found.nodes] == [
        *("ceo", "cto", "backend", "frontend", "devops", "cso", "marketing")
    ]
    assert {(arrow.to, arrow.waiting) for arrow in found.reports} == {
        *(("cto", "2"), ("backend", "12"), ("frontend", "3"), ("devops", ""), ("cso", ""), ("marketing", "1"))
    }
    assert sorted(arrow.to for arrow in found.assigns) == ["backend", "cso", "devops", "frontend"]
    assert (found.hidden, found.unseen_assigns) == (0, 0)


def test_of_a_large_chart_what_matters_is_drawn_and_the_rest_is_counted() -> None:
    org, observation = of_size(1000)
    found = said(observation, org=org).chart
    assert found
    assert len(found.nodes) <= chart.MAX_DRAWN + chart.MAX_DRAWN // 2
    assert len(found.nodes) + found.hidden == 1000
    assert sum(node.below for node in found.nodes) == found.hidden
    drawn = {node.name for node in found.nodes}
    assert {arrow.to for arrow in found.reports} == drawn - {"role-0"}


def test_a_chain_of_a_thousand_is_drawn_in_time_and_in_bounds() -> None:
    lines = [f"  r{each}: {{reports_to: r{each - 1}}}" if each else "  r0:" for each in range(1000)]
    org = loads("org: acme\nroles:\n" + "\n".join(lines) + "\n")
    found = chart.draw_chart(org, ["r999", "r500"], {"r999": 3})
    assert {node.name for node in found.nodes} >= {"r0", "r500", "r999"}
    assert len(found.nodes) + found.hidden == 1000
    assert sum(arrow.between for arrow in found.reports) == sum(
        int(second.name[1:]) - int(first.name[1:]) - 1
        for first, second in zip(found.nodes, found.nodes[1:], strict=False)
    )


def test_an_organisation_without_a_chart_has_none() -> None:
    org = loads("org: genbrain\nroles: [ceo, cto, cso, marketing, backend, frontend, devops]\n")
    assert said(in_trouble(), org=org).chart is None
    assert 'id="chart"' not in html(in_trouble(), org=org)


# What it is made of


def test_markup_stays_text() -> None:
    told = Alarm(Condition.UNMATCHED_SUBJECT, MARKUP, about=MARKUP)
    observation = replace(in_trouble(), alarms=(told,), environment=MARKUP)
    for view in (View(), View("frontend"), View(state=Condition.IDLE)):
        text = html(observation, view)
        found = Elements(text)
        assert found.open == []
        assert {tag for tag, _ in found.found} & {"img", "iframe", "style", "object", "form"} == set()
        assert [
            each for each in found.found if any(name.startswith("on") or name == "style" for name in each[1])
        ] == []
        assert [
            link for _, found_ in found.found if (link := found_.get("href") or "").startswith("javascript")
        ] == []
        assert "\u202e" not in text
        assert "\x07" not in text
    shown = Elements(html(observation)).text
    assert '<img src=x onerror="alert(1)">{{7*7}}{% if %} \'&amp; \\u202egpj\\x07' in shown


def test_every_id_is_there_once_and_every_reference_leads_somewhere() -> None:
    for observation, view in (
        (in_trouble(), View()),
        (in_trouble(), View("backend")),
        (in_trouble(), View(state=Condition.WORKING)),
        (quiet(in_trouble()), View()),
    ):
        found = Elements(html(observation, view)).found
        ids = [attributes["id"] for _, attributes in found if attributes.get("id")]
        assert len(ids) == len(set(ids))
        labels = {attributes["aria-labelledby"] for _, attributes in found if "aria-labelledby" in attributes}
        anchors = {
            str(address)[1:]
            for _, attributes in found
            if (address := attributes.get("href")) and address.startswith("#")
        }
        assert labels | anchors <= set(ids)


@pytest.mark.parametrize("number", [7, 70, 1000, 10_000])
def test_the_page_is_of_bounded_size(number: int) -> None:
    org, observation = of_size(number)
    text = html(observation, org=org)
    assert len(text) < BOUND_BYTES
    found = said(observation, org=org)
    assert len({row.role for row in found.queues}) == min(
        number, 20 if number < 20 else MAX_ROLES, len(found.queues)
    )
    (lag,) = found.alarms
    assert len(lag.rows) == min(MAX_ALARMS, len(observation.alarms))
    assert len(lag.rows) + lag.hidden == len(observation.alarms)
    listed = said(observation, View(state=Condition.IDLE), org)
    assert len({row.role for row in listed.queues}) <= PART
    assert len(html(observation, View(state=Condition.IDLE), org)) < BOUND_BYTES


def test_all_roles_in_a_state_are_in_the_parts_of_its_list_once() -> None:
    org, observation = of_size(1000)
    shown: list[str] = []
    for part in range(1, 12):
        found = said(observation, View(state=Condition.LAG, part=part), org)
        shown += dict.fromkeys(row.role for row in found.queues)
    assert sorted(shown) == sorted(role.name for role in org.roles[::7])


def test_the_page_of_a_small_organisation(golden: Golden) -> None:
    """The whole HTML, for a review of what a change of the template does."""
    org = loads("org: acme\nroles:\n  cto:\n  backend: {reports_to: cto}\n")
    base = in_trouble()
    assert base.status
    status = replace(
        base.status,
        org="acme",
        environment=None,
        roles=(
            role_status("cto", tasks=queue("cto", "tasks")),
            role_status("backend", tasks=queue("backend", "tasks", Condition.LAG, 12, 5)),
        ),
        broadcasts=(),
        streams=(),
        alarms=base.alarms[:1],
    )
    observation = replace(
        base,
        org="acme",
        environment=None,
        status=status,
        alarms=base.alarms[:1],
        dead_letters=base.dead_letters[:1],
    )
    text = re.sub(r"-[0-9a-f]{12}\.", "-DIGEST.", render_page(page_values(observation, org, View()), 1, 15))
    golden(CASES / "page.html", text)


# How it is served


@dataclass
class Observer:
    """Hands out what a test puts into it, to whichever event loop asks."""

    observation: Observation
    org: Org = ORG
    interval: float = 15.0
    waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=list)

    async def changes(self) -> AsyncIterator[Observation]:
        seen: Observation | None = None
        changed = asyncio.Event()
        self.waiting.append((asyncio.get_running_loop(), changed))
        while True:
            changed.clear()
            if (now := self.observation) is not seen:
                seen = now
                yield now
            else:
                await changed.wait()

    def put(self, observation: Observation) -> None:
        self.observation = observation
        for loop, changed in self.waiting:
            loop.call_soon_threadsafe(changed.set)


@asynccontextmanager
async def served(feed: Observer) -> AsyncIterator[str]:
    listening = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(feed, HttpSettings(port=0), listening.set_result))
    yield await listening
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    def ask() -> tuple[int, Mapping[str, str], bytes]:
        request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - our own server's
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return (
                    answer.status,
                    {name.lower(): value for name, value in answer.headers.items()},
                    answer.read(),
                )
        except urllib.error.HTTPError as error:
            with error:
                return (
                    error.code,
                    {name.lower(): value for name, value in error.headers.items()},
                    error.read(),
                )

    return await asyncio.to_thread(ask)


class Listener:
    """A browser that listens, and reads an event when it is asked to; `status` is how it was answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int) -> None:
        self.reader, self.writer, self.status = reader, writer, status

    @classmethod
    async def opened(cls, url: str) -> Listener:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        return cls(reader, writer, int(head.split()[1]))

    async def reading(self) -> int:
        """Return the number in the next event."""
        await self.until(b"data: ")
        return int(json.loads(await self.reader.readline())["reading"])

    async def until(self, text: bytes) -> None:
        await asyncio.wait_for(self.reader.readuntil(text), 60)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


def test_nothing_may_be_loaded_from_elsewhere_or_written() -> None:
    async def run() -> None:
        async with served(Observer(in_trouble())) as url:
            status, headers, body = await get(url + "/")
            assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            for address in re.findall(r'(?:href|src)="(static/[^"]*)"', body.decode()):
                status, headers, _ = await get(f"{url}/{address}")
                assert (status, "immutable" in headers["cache-control"]) == (200, True)
            for path in ("/", "/events", f"/{next(iter(FILES.values())).address}"):
                assert [(await get(url + path, each))[0] for each in ("POST", "PUT", "DELETE")] == [405] * 3
                assert (await get(url + path, "HEAD"))[0] == 200
            packed = await get(url + "/", **{"Accept-Encoding": "gzip"})
            assert gzip.decompress(packed[2]) == body
            for query in (
                "role=nobody",
                "state=x",
                "state=idle&part=0",
                "state=idle&part=9999",
                "state=idle&part=%C2%B2",
            ):
                status, headers, _ = await get(f"{url}/?{query}")
                assert (status, headers["content-type"]) == (404, "text/plain; charset=utf-8")

    asyncio.run(run())


def test_a_part_is_rendered_once_for_each_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[View] = []

    def counted(values: PageValues, reading: int, interval: float) -> str:
        made.append(values.view)
        return render_page(values, reading, interval)

    monkeypatch.setattr(routes, "render_page", counted)

    async def run() -> None:
        feed = Observer(in_trouble())
        async with served(feed) as url:
            for _ in range(3):
                await get(url + "/")
                await get(url + "/?role=cto")
            assert made == [View(), View("cto")]
            feed.put(replace(feed.observation))  # that says the same
            await get(url + "/")
            assert len(made) == 2
            feed.put(quiet(feed.observation))
            await get(url + "/")
            assert made[2:] == [View()]
            for role in ORG.roles:
                for state in STATES:
                    await get(f"{url}/?state={state}&role={role.name}&{role.name}={state}")
            assert len(made) == 3 + len(ORG.roles)

    asyncio.run(run())


def test_every_browser_hears_of_the_next_observation_whatever_the_others_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "KEEPALIVE_SECONDS", 0.05)
    monkeypatch.setattr(routes, "MAX_LISTENERS", 20)

    async def run() -> None:
        feed = Observer(in_trouble())
        async with served(feed) as url:
            listeners = [await Listener.opened(url) for _ in range(20)]
            assert [await each.reading() for each in listeners] == [1] * 20
            one_more = await Listener.opened(url)
            assert one_more.status == 503
            silent, attentive = listeners[:10], listeners[10:]
            for number in range(2, 12):
                feed.put(replace(feed.observation, read_at=float(number)))
                assert [await each.reading() for each in attentive] == [number] * 10
            await attentive[0].until(b": still here\n\n")
            for each in (one_more, *silent):
                await each.close()
            while (
                again := await Listener.opened(url)
            ).status == 503:  # until it is noticed that they are gone
                await again.close()
            assert await again.reading() == 11
            for each in (again, *attentive):
                await each.close()

    asyncio.run(run())
