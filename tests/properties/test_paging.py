"""Listings that change while they are read: nothing that is there all the time is passed over."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.live.api import paging
from cyborg_infra.live.api.paging import ConcurrentModification, read_all_rows
from cyborg_infra.model.problems import Problem, ServerFault
from tests.support.draws import draws

PAGE = 4  # rows; the server's 256 would need names by the hundred

NAMES = tuple(f"{number:02}" for number in range(30))


class Account:
    """Streams of which some come and go each time that a page is cut; pages are cut in any order."""

    def __init__(self, steady: set[str], moves: Iterator[set[str]], order: Iterator[int]) -> None:
        self.steady = steady
        self.moves = moves
        self.order = order
        self.waiting: list[tuple[int, asyncio.Future[dict[str, Any]]]] = []
        self.most = 0

    async def ask(self, verb: str, body: Mapping[str, Any], *, doing: str) -> dict[str, Any]:  # noqa: ARG002 - as the API's
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.waiting.append((body["offset"], answer))
        self.most = max(self.most, len(self.waiting))
        asyncio.get_running_loop().call_soon(self.answer)
        return await answer

    def answer(self) -> None:
        offset, answer = self.waiting.pop(next(self.order, 0) % len(self.waiting))
        names = sorted(self.steady | next(self.moves, set()))
        page = [{"config": {"name": name}} for name in names[offset : offset + PAGE]]
        if not answer.done():
            answer.set_result({"total": len(names), "streams": page})


def _read(account: Account, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    monkeypatch.setattr(paging, "PAGE_ROWS", PAGE)
    rows, missing = asyncio.run(read_all_rows(account.ask, "STREAM.LIST", "streams", "listing"))
    assert not missing
    return set(rows)


@given(
    st.sets(st.sampled_from(NAMES)),
    st.lists(st.sets(st.sampled_from(NAMES)), max_size=40),
    st.lists(st.integers(0, 7), max_size=40),
)
@draws()
def test_what_is_there_all_the_time_is_found_in_whatever_order_pages_are_read(
    steady: set[str], moves: list[set[str]], order: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        try:
            found = _read(Account(steady, iter(moves), iter(order)), monkeypatch)
        except ConcurrentModification:
            return  # it is read again: more than was found is not claimed
    assert steady <= found <= steady.union(*moves)


def test_a_page_with_nothing_new_is_gone_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes and goes at the top moves each page, and what is asked for from further up is known by then."""
    for period in range(2, 6):
        moves = itertools.cycle([{NAMES[0]}] * (period - 1) + [set[str]()])
        assert _read(Account(set(NAMES[1:]), moves, iter(())), monkeypatch) >= set(NAMES[1:])


def test_of_pages_that_fail_together_one_is_told_and_none_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else Python says on stderr, with a traceback, that nobody asked what became of the others."""
    account = Account(set(NAMES), iter(()), iter(()))
    ask = account.ask

    async def lost(verb: str, body: Mapping[str, Any], *, doing: str) -> dict[str, Any]:
        if body["offset"]:
            raise ServerFault(Problem("lost", "the connection is gone"))
        return await ask(verb, body, doing=doing)

    monkeypatch.setattr(account, "ask", lost)
    told = False
    try:
        _read(account, monkeypatch)
    except ServerFault:  # not by way of pytest.raises, which keeps the traceback with all that is in it
        told = True
    assert told
    gc.collect()
    assert caplog.records == []


def test_pages_are_asked_for_while_one_is_awaited_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(set(NAMES), iter(()), iter(()))
    asked: list[int] = []
    ask = account.ask

    async def noted(verb: str, body: Mapping[str, Any], *, doing: str) -> dict[str, Any]:
        asked.append(body["offset"])
        return await ask(verb, body, doing=doing)

    monkeypatch.setattr(account, "ask", noted)
    assert _read(account, monkeypatch) == set(NAMES)
    assert asked == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]
    assert account.most == min(paging.PAGES_AHEAD, len(asked) - 1)


@pytest.mark.parametrize("total", [10**9, 5])
def test_a_listing_that_never_ends_is_refused(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where the total says so; where it does not, once so many rows have come."""
    monkeypatch.setattr(paging, "MAX_ROWS", 100)
    pages: list[int] = []

    async def ask(verb: str, body: Mapping[str, Any], *, doing: str) -> dict[str, Any]:  # noqa: ARG001 - as the API's
        offset = body["offset"]
        pages.append(offset)
        rows = [{"config": {"name": f"{offset + row}"}} for row in range(PAGE)]
        return {"total": max(total, offset + 2 * PAGE), "streams": rows}

    monkeypatch.setattr(paging, "PAGE_ROWS", PAGE)
    with pytest.raises(paging.TooMany, match="are the most that are read"):
        asyncio.run(read_all_rows(ask, "STREAM.LIST", "streams", "listing"))
    assert len(pages) == (1 if total > 100 else pytest.approx(100 / (PAGE - 1), abs=12))


def test_pages_that_bring_nothing_new_end_it_whatever_the_total_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[int] = []

    async def ask(verb: str, body: Mapping[str, Any], *, doing: str) -> dict[str, Any]:  # noqa: ARG001 - as the API's
        pages.append(body["offset"])
        return {"total": 100_000, "streams": [{"config": {"name": name}} for name in NAMES[:PAGE]]}

    monkeypatch.setattr(paging, "PAGE_ROWS", PAGE)
    with pytest.raises(ConcurrentModification):
        asyncio.run(read_all_rows(ask, "STREAM.LIST", "streams", "listing"))
    assert len(pages) <= paging.MAX_EMPTY_PAGES + 2 * paging.PAGES_AHEAD
