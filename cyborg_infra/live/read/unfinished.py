"""How many of a stream's first messages are unfinished: what a consumer that reads them has yet to finish, or nobody reads.

A message is finished when every consumer that reads it has acknowledged it, and one of them `answers_for` it. The
server tells counts, and which messages they are only by where a consumer stands; so there is an exact number where its
counts leave one possibility alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Protocol

from cyborg_infra.model.consumer_position import (
    answers_for,
    finished_up_to,
    read_patterns,
)
from cyborg_infra.model.counting import Share
from cyborg_infra.model.dead_letters import DeadLetter, DeathType
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, consumer_counts
from cyborg_infra.model.subjects import SubjectIndex
from cyborg_infra.model.valueclass import NamedTuple

Matches = Callable[[str], bool]
Told = Mapping[Ref, Sequence[DeadLetter]] | None
"""Dead letters by consumer; None if nobody could read them."""


class Reading(Protocol):
    """A stream at one moment: see `live.read.counting`."""

    def number(self, place: int) -> int:
        """Return the sequence number of the message at this place, from 1 on."""

    async def subjects(self) -> Mapping[str, int] | None:
        """Return how many messages have which subject; None where there are too many."""

    async def within(self, low: int, high: int, matches: Matches, held: int | None) -> Share:
        """Return how many messages with these sequence numbers have a subject that matches."""


class _Alike(NamedTuple):
    """Consumers that read the same of what is stored: these subjects, with so many messages in all.

    What the slowest has not been handed, waits; the others have finished no more than that.
    """

    reading: Reading
    subjects: frozenset[str]
    held: int
    readers: Sequence[LiveResource]

    @property
    def cursor(self) -> int:
        """Up to where all of them were handed what they read."""
        return min(consumer_counts(reader).delivered_stream_seq for reader in self.readers)

    async def within(self, low: int, high: int) -> Share:
        """Return how many of their messages have these sequence numbers."""
        return await self.reading.within(low, high, self.subjects.__contains__, self.held)


async def unfinished(
    reading: Reading, first: int, stream: LiveResource, readers: Sequence[LiveResource], told: Told
) -> Share:
    """Return how many of the `first` messages are."""
    subjects = await reading.subjects()
    if subjects is None:
        return Share(first, exact=not first)
    last, read = reading.number(first), _read(subjects, readers)
    ours = _read(subjects, [reader for reader in readers if answers_for(reader, stream)])
    groups, rest = _groups(reading, {each: subjects[each] for each in ours}, readers), subjects.keys() - ours
    unread = await reading.within(0, last, rest.__contains__, sum(subjects[each] for each in rest))
    parts = [
        Share(unread.messages, unread.exact and not rest & read),  # or who reads it has done the work
        *[await _of_group(last, group, told) for group in groups],
    ]
    found = _sum(parts, apart=sum(len(group.subjects) for group in groups) == len(ours))
    return found if found.messages <= first else Share(first, exact=False)


def _read(subjects: Iterable[str], readers: Iterable[LiveResource]) -> frozenset[str]:
    """Return the subjects that one of the consumers reads."""
    stored = SubjectIndex((subject, subject) for subject in subjects)
    return frozenset(
        subject
        for reader in readers
        for wide in read_patterns(reader)
        for _, subject in stored.overlapping(wide)
    )


def _groups(reading: Reading, subjects: Mapping[str, int], readers: Sequence[LiveResource]) -> list[_Alike]:
    found: dict[frozenset[str], list[LiveResource]] = {}
    for reader in readers:
        found.setdefault(_read(subjects, [reader]), []).append(reader)
    return [
        _Alike(reading, read, sum(subjects[each] for each in read), alike)
        for read, alike in found.items()
        if read
    ]


def _sum(parts: Sequence[Share], *, apart: bool) -> Share:
    """Return the sum of the shares; it is exact only if they are `apart`: otherwise one message may be in several."""
    several = len([part for part in parts if part.messages]) > 1
    exact = all(part.exact for part in parts) and (apart or not several)
    return Share(sum(part.messages for part in parts), exact)


async def _of_group(last: int, group: _Alike, told: Told) -> Share:
    """Return how many messages up to number `last` the group has not finished: waiting for the slowest, open, or given up."""
    handed = min(last, group.cursor)
    before = [await _open(handed, reader, group) for reader in group.readers]
    before.append(await _given_up(handed, group, told))
    return _sum([await group.within(handed + 1, last), _sum(before, apart=False)], apart=True)


async def _open(handed: int, reader: LiveResource, group: _Alike) -> Share:
    """Return what one of them works on, of the messages up to number `handed`. Which of those beyond its floor, nobody tells."""
    counts, floor = consumer_counts(reader), finished_up_to(reader)
    if not counts.num_ack_pending or handed <= floor:
        return Share()
    here = await group.within(floor + 1, handed)
    beyond = await group.within(handed + 1, counts.delivered_stream_seq)
    most = min(counts.num_ack_pending, here.messages)
    return Share(most, exact=most in (0, counts.num_ack_pending - beyond.messages))


async def _given_up(handed: int, group: _Alike, told: Told) -> Share:
    """Return what they gave up, of the messages up to `handed`: dead letters tell of it, and the server counts what it handed out again."""
    letters = chain.from_iterable((told or {}).get(reader.ref, ()) for reader in group.readers)
    known = {letter.sequence for letter in letters if letter.sequence <= handed}
    more = sum(_untold(reader, told) for reader in group.readers)
    if not more:
        return Share(len(known))
    passed = await group.within(0, handed)
    return Share(min(len(known) + more, passed.messages), exact=False)


def _untold(reader: LiveResource, told: Told) -> int:
    """Return at most how many more it may have given up. What an agent has ended itself, or is handed out once, only letters tell."""
    counts = consumer_counts(reader)
    if told is None:
        return counts.delivered_stream_seq
    failed = sum(letter.type is DeathType.MAX_DELIVER for letter in told.get(reader.ref, ()))
    again = counts.num_redelivered - failed
    gives_up: int = reader.get("max_deliver")
    return max(0, again if gives_up > 0 else again - counts.num_ack_pending)
