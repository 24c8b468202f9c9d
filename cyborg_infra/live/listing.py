"""A listing of the JetStream API, read to its end. Plans nothing from one that has gaps: it would say that things do not exist."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

from cyborg_infra.live.faults import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, ApiError
from cyborg_infra.model.problems import Problem, ServerFault

PAGE = 256  # rows of a listing
PAGES_AHEAD = 8  # of each listing; the server takes 10,000 requests at once
ENOUGH_PAGES = 8  # for a listing that moves while it is read, besides four times as many as it has

Rows = dict[str, dict[str, Any]]  # by name


class Ask(Protocol):
    """Asks the API, again where a cluster needs time."""

    async def __call__(self, verb: str, body: Mapping[str, Any], *, doing: str) -> dict[str, Any]:
        """The answer."""


class ChangedMeanwhile(Exception):
    """The account changed while it was listed."""


async def every_row(
    ask: Ask, verb: str, member: str, doing: str, one: Callable[[str], Awaitable[dict[str, Any]]]
) -> tuple[Rows, dict[str, Problem]]:
    """Every row by name, over all pages, and why a row is missing; what a page only names is asked for by itself.

    Pages are cut from a list that is sorted by name, so what comes and goes between two of them moves the next
    one. Each begins with the last row of the one before: where it does not, something may have been passed over,
    and it is asked for from further up. So whatever is there all the time is found, in an account that is busy,
    and in whatever order the pages were read: the next ones are asked for while one is awaited.
    """
    pages = _Pages(ask, verb, doing)
    try:
        rows, missing = await _linked(pages, member)
    finally:
        pages.forget()
    if not missing:
        return rows, {}
    looked, problems = await _missing(missing, doing, one)
    # A listing may have all zeroes for what it also names as missing.
    return {name: row for name, row in rows.items() if name not in problems} | looked, problems


async def _linked(pages: _Pages, member: str) -> tuple[Rows, dict[str, str]]:
    """The rows of all pages, each of which overlaps with what was before it; and the names without a row, with why."""
    rows: Rows = {}
    missing: dict[str, str] = {}
    known: set[str] = set()
    begin = read = 0
    while True:
        page = await pages.at(begin)
        total, read = page["total"], read + 1
        listed = {_name(row): row for row in page.get(member) or ()}
        absent = dict.fromkeys(page.get("missing") or (), "no answer") | (page.get("offline") or {})
        covered = listed.keys() | absent.keys()
        if read > ENOUGH_PAGES + 4 * total // PAGE:
            raise ChangedMeanwhile
        if begin and covered.isdisjoint(known):
            begin = max(begin - PAGE, 0)
            pages.forget()  # where much comes and goes, what is read ahead does not fit: one after the other from here
            continue
        goes_on = begin + len(covered) < total
        if goes_on and not covered:
            raise ChangedMeanwhile
        rows |= listed
        missing |= absent
        if not goes_on:
            return rows, missing
        known |= covered
        begin += len(covered) - 1
        pages.expect(begin, total)


class _Pages:
    """The pages of one listing by where they begin. What is expected is on its way before it is asked for."""

    def __init__(self, ask: Ask, verb: str, doing: str) -> None:
        self._ask = partial(ask, verb, doing=doing)
        self._ahead = PAGES_AHEAD
        self._coming: dict[int, asyncio.Task[dict[str, Any]]] = {}

    async def at(self, begin: int) -> dict[str, Any]:
        """The page that begins with this row."""
        coming = self._coming.pop(begin) if begin in self._coming else self._ask({"offset": begin})
        return await coming

    def expect(self, begin: int, total: int) -> None:
        """This page and the next few of a listing with so many rows are coming."""
        for offset in range(begin, total - 1, PAGE - 1)[: self._ahead]:
            if offset not in self._coming:
                self._coming[offset] = asyncio.ensure_future(self._ask({"offset": offset}))

    def forget(self) -> None:
        """What is still coming is not awaited any more, and nothing is read ahead from now on."""
        self._ahead = 1
        while self._coming:
            self._coming.popitem()[1].cancel()


async def _missing(
    names: Mapping[str, str], doing: str, one: Callable[[str], Awaitable[dict[str, Any]]]
) -> tuple[Rows, dict[str, Problem]]:
    """Rows that a listing did not have. A list without them would say that they do not exist: never plan from that."""
    found: Rows = {}
    problems: dict[str, Problem] = {}
    for name, reason in sorted(names.items()):
        try:
            found[name] = await one(name)
        except ServerFault as fault:
            if isinstance(fault, ApiError) and fault.err_code in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
                raise ChangedMeanwhile from None  # the listing still knew what is being deleted
            problems[name] = Problem(
                "missing",
                f"{doing}: {name} could not be read ({reason}): {fault.problems[0].message}",
                None,
                "its servers are down, or it was written by a newer server version: bring it back before planning",
            )
    return found, problems


def _name(row: Mapping[str, Any]) -> str:
    name: str = row["name"] if "stream_name" in row else row["config"]["name"]
    return name
