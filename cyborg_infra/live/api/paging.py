"""Read every page of a listing of the JetStream API. A listing with gaps is an error: a plan from it would take resources for missing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Option, worded

PAGE_ROWS = 256  # rows of a listing
PAGES_AHEAD = 8  # of each listing; the server takes 10,000 requests at once
ENOUGH_PAGES = 8  # for a listing that moves while it is read, besides four times as many as it has
MAX_EMPTY_PAGES = 16  # pages one after the other that bring nothing new, in an account that moves
MAX_ROWS = 100_000  # of one listing, of some 5 KB each; the largest account measured has 50,000 in all
MAX_ROWS_IN_ALL = 4 * MAX_ROWS  # of all listings of an account

Rows = dict[str, dict[str, Any]]  # by name


class MissingRow(NamedTuple):
    """What a listing names as missing: why, if it says so; its configuration, if it has that, with zeroes for what it holds."""

    reason: str
    row: Mapping[str, Any] | None


class RequestApi(Protocol):
    """Asks the API, again where a cluster needs time."""

    async def __call__(self, verb: str, body: Mapping[str, Any], *, doing: str) -> dict[str, Any]:
        """Return the API's answer to the request."""


class ConcurrentModification(Exception):
    """The account changed while it was listed."""


class TooMany(ServerFault):
    """A listing is longer than an account can be, or never ends."""

    def __init__(self, doing: str, rows: int, maximum: int) -> None:
        message = f"{doing}: the server tells of {rows:,}, and {maximum:,} are the most that are read"
        super().__init__(
            Problem(
                "too-many",
                message,
                None,
                worded("is it a NATS server that answers? see {}", Option("js_api_prefix")),
            )
        )


async def read_all_rows(
    ask: RequestApi, verb: str, member: str, doing: str
) -> tuple[Rows, dict[str, MissingRow]]:
    """Return every row of a listing by name, over all pages, and the names that the listing has no row for.

    Pages are cut from a list that is sorted by name, so what comes and goes between two of them moves the next
    one. Each begins with the last row of the one before: where it does not, something may have been passed over,
    and it is asked for from further up. So whatever is there all the time is found, in an account that is busy,
    and in whatever order the pages were read: the next ones are asked for while one is awaited.
    """
    page = await ask(verb, {"offset": 0}, doing=doing)
    rows = _rows(page, member)
    if len(rows) == page["total"] <= PAGE_ROWS and not page.get("missing") and not page.get("offline"):
        return rows, {}  # as most are
    pages = _Pages(ask, verb, doing)
    try:
        rows, missing = await _join_pages(pages, page, member)
    finally:
        pages.cancel()
    if not missing:
        return rows, {}
    return (
        {name: row for name, row in rows.items() if name not in missing},
        {name: MissingRow(reason, rows.get(name)) for name, reason in missing.items()},
    )


async def _join_pages(pages: _Pages, page: Mapping[str, Any], member: str) -> tuple[Rows, dict[str, str]]:
    """Return the rows of this page and all further ones, each of which overlaps with what was before it; and the names without a row, with why."""
    rows: Rows = {}
    missing: dict[str, str] = {}
    known: set[str] = set()
    begin = read = fruitless = 0
    while True:
        total, read = page["total"], read + 1
        if (
            max(total, len(known)) > MAX_ROWS
        ):  # a total is only what the server says: what pages bring counts as well
            raise TooMany(pages.doing, max(total, len(known)), MAX_ROWS)
        listed = _rows(page, member)
        absent = dict.fromkeys(page.get("missing") or (), "") | (page.get("offline") or {})
        covered = listed.keys() | absent.keys()
        if read > ENOUGH_PAGES + 4 * total // PAGE_ROWS:
            raise ConcurrentModification
        if begin and covered.isdisjoint(known):
            begin = max(begin - PAGE_ROWS, 0)
            pages.cancel()  # where much comes and goes, what is read ahead does not fit: one after the other from here
            page = await pages.at(begin)
            continue
        goes_on = begin + len(covered) < total
        fruitless = fruitless + 1 if covered <= known else 0
        if goes_on and (not covered or fruitless > MAX_EMPTY_PAGES):
            raise ConcurrentModification
        rows |= listed
        missing |= absent
        if not goes_on:
            return rows, missing
        known |= covered
        begin += len(covered) - 1
        pages.prefetch(begin, total)
        page = await pages.at(begin)


class _Pages:
    """The pages of one listing by where they begin. What is expected is on its way before it is asked for."""

    def __init__(self, ask: RequestApi, verb: str, doing: str) -> None:
        self.doing = doing
        self._ask = partial(ask, verb, doing=doing)
        self._ahead = PAGES_AHEAD
        self._coming: dict[int, asyncio.Task[dict[str, Any]]] = {}

    async def at(self, begin: int) -> dict[str, Any]:
        """Return the page that begins with this row."""
        coming = self._coming.pop(begin) if begin in self._coming else self._ask({"offset": begin})
        return await coming

    def prefetch(self, begin: int, total: int) -> None:
        """Prefetch this page and the next few of a listing with so many rows."""
        for offset in range(begin, total - 1, PAGE_ROWS - 1)[: self._ahead]:
            if offset not in self._coming:
                self._coming[offset] = asyncio.ensure_future(self._ask({"offset": offset}))

    def cancel(self) -> None:
        """Cancel what is still coming, and prefetch nothing from now on."""
        self._ahead = 1
        while self._coming:
            self._coming.popitem()[1].cancel()


def _rows(page: Mapping[str, Any], member: str) -> Rows:
    return {name: row for row in page.get(member) or () if (name := _name(row))}


def _name(row: Mapping[str, Any]) -> str:
    """Return the row's name. The row of a consumer whose servers are down has it in its configuration alone (2.10.26 and 2.15.1)."""
    config: Mapping[str, Any] = row["config"]
    name: str = row.get("name") or config.get("name") or config.get("durable_name", "")
    return name
