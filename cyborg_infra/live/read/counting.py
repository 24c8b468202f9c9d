"""Count the messages that a planned change would cost: the answers to a plan's count queries."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.jetstream import READS_IN_FLIGHT, JetStream
from cyborg_infra.live.api.messages import get_message, subjects
from cyborg_infra.live.connection.errors import NoReply, NoResponders, PermissionDenied
from cyborg_infra.live.read.unfinished import Matches, Told, unfinished
from cyborg_infra.live.records.journal import Journal
from cyborg_infra.model.consumer_position import finished_up_to, passed_by_all
from cyborg_infra.model.counting import CountKind, CountQuery, MessageCount, Share
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.metadata_keys import BECOMES_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, LiveState, StreamCounts, consumer_counts
from cyborg_infra.model.subjects import covers
from cyborg_infra.model.units import age as passed
from cyborg_infra.model.valueclass import NamedTuple

UNREADABLE = (NoReply, NoResponders, ApiError, PermissionDenied)
_MAX_ATTEMPTS = 3  # a stream that is being worked with is read again, so that its counts fit together
# What one question may cost: the API gives a message only whole, and a plan must not take minutes.
MAX_READ = 2_000  # messages
MAX_READ_BYTES = 32 * 1024 * 1024
MAX_READ_IN_ALL = 20_000  # of one plan
MAX_DELETED = 100_000  # gaps inside a stream, which the server lists one by one
MAX_SUBJECTS = 200_000
CHUNK_SIZE = 64  # messages asked for at once while it is open how many are needed


async def count_messages(
    server: JetStream, live: LiveState, questions: Collection[CountQuery], told: Told = None
) -> LiveState:
    """Return `live` with the counts that answer the queries, as far as they can be found out, and fresh counts of the streams and consumers in question.

    `told` are each consumer's dead letters of messages that are stored; None if nobody could read them.

    A question stays open where an answer would take too many reads, where messages moved too fast for an exact
    one, or where this user may not read. Raises ServerFault only where the connection is lost.
    """
    budget = _ReadBudget(asyncio.Semaphore(READS_IN_FLIGHT), MAX_READ_IN_ALL)
    asked: dict[str, list[CountQuery]] = {}
    for question in sorted(questions, key=repr):
        asked.setdefault(question.ref.stream, []).append(question)
    found = await asyncio.gather(
        *(_stream(server, live, name, listed, budget, told) for name, listed in asked.items())
    )
    fresh = {resource.ref: resource for resources in found for resource in resources}
    return replace(live, resources={**live.resources, **fresh})


async def _stream(
    server: JetStream,
    live: LiveState,
    name: str,
    queries: Sequence[CountQuery],
    budget: _ReadBudget,
    told: Told,
) -> Sequence[LiveResource]:
    """Return the stream and its consumers with their answers; nothing where it cannot be read."""
    refs = [Ref(name), *(reader.ref for reader in live.consumers(name))]
    needs_all_readers = any(query.kind.of_stream for query in queries)  # what all of them have finished
    closer: Sequence[LiveResource] = ()
    for _ in range(_MAX_ATTEMPTS):
        try:
            if (before := await _resources(server, refs, budget.reading)) is None:
                return closer
            reading = await _StreamReader.open(server, name, before[0].config, budget)
            none = {
                question: MessageCount() for question in queries if await _matches_nothing(reading, question)
            }
            rest = [question for question in queries if question not in none]
            answers = {question: await _count(reading, question, before, told) for question in rest}
            after = await _resources(server, refs, budget.reading)
        except UNREADABLE:
            return closer
        steady = (
            after is not None
            and _unchanging_part(before) == _unchanging_part(after)
            and (not needs_all_readers or _consumer_count(before[0]) == len(refs) - 1)
        )
        if not steady:
            answers = {question: _while_moving(amount) for question, amount in answers.items()}
        closer = [
            replace(
                found,
                counts_by_query=_count_resource(found, none, steady=True)
                | _count_resource(found, answers, steady=steady),
            )
            for found in before
        ]
        if steady:
            break
    return closer


def _count_resource(
    resource: LiveResource, answers: Mapping[CountQuery, MessageCount | None], *, steady: bool
) -> dict[CountQuery, MessageCount]:
    """Return the answers on one resource. On a consumer that moved meanwhile there is none that fits its counts."""
    if resource.ref.consumer and not steady:
        return {}
    return {
        question: amount
        for question, amount in answers.items()
        if question.ref == resource.ref and amount is not None
    }


def _while_moving(amount: MessageCount | None) -> MessageCount | None:
    """Return an amount as a bound: consumers were read before the messages, and where they have gone on, no more is unfinished than they said."""
    if amount is None or amount.unfinished is None:
        return amount
    return amount._replace(unfinished=Share(amount.unfinished.messages, exact=False))


async def _resources(
    server: JetStream, refs: Sequence[Ref], reading: asyncio.Semaphore
) -> list[LiveResource] | None:
    """Return the resources as they are now; None if one of them is gone."""

    async def info(ref: Ref) -> LiveResource | None:
        async with reading:
            return await server.info(ref)

    found = await asyncio.gather(*(info(ref) for ref in refs))
    present = [resource for resource in found if resource is not None]
    return present if len(present) == len(refs) else None


def _unchanging_part(resources: Iterable[LiveResource]) -> list[object]:
    """Return what must not change while one moment's counts are read: all that is about messages."""
    return [
        found.counts._replace(oldest_age=0)
        if isinstance(found.counts, StreamCounts)
        else found.counts._replace(num_waiting=0)
        for found in resources
        if found.counts is not None
    ]


def _consumer_count(stream: LiveResource) -> int:
    return stream.counts.consumers if isinstance(stream.counts, StreamCounts) else 0


async def _matches_nothing(reading: _StreamReader, query: CountQuery) -> bool:
    """Return whether no message that is stored has a subject in question: that holds wherever the consumer stands meanwhile."""
    if not query.subjects:
        return False
    subjects = await reading.subjects()
    return subjects is not None and not any(map(_matching(query), subjects))


async def _count(
    reading: _StreamReader, query: CountQuery, resources: Sequence[LiveResource], told: Told
) -> MessageCount | None:
    """Return the amount in question; None where it cannot be found out with bounded effort."""
    if query.kind is CountKind.PASSED_BY_ALL:
        return await _passed_by_all(reading, resources, told) if reading.gaps_known else None
    found = await _amount(reading, query, resources, told)
    if found is None or not query.kind.of_stream or not reading.gaps_known:
        return found
    stream, *readers = resources
    if stream.get("retention") != "limits":  # what is finished, it does not store
        return found
    # Of each subject the oldest go, which are anywhere: at most what is unfinished in all.
    front = query.kind is not CountKind.ABOVE_PER_SUBJECT
    try:
        first = found.messages if front else reading.messages
        share = await unfinished(reading, first, stream, readers, told)
    except UNREADABLE:
        return found
    if not front:
        share = Share(min(share.messages, found.messages), exact=not share.messages)
    return found._replace(unfinished=share)


async def _passed_by_all(
    reading: _StreamReader, resources: Sequence[LiveResource], told: Told
) -> MessageCount | None:
    """Return what the consumers are done with, and how much of that nobody has finished all the same.

    What they have open stays, and a dead letter's message is kept elsewhere: both are unfinished, and not among what goes.
    """
    stream, *readers = resources
    passed = passed_by_all(readers)
    letters = chain.from_iterable((told or {}).get(reader.ref, ()) for reader in readers)
    dead = {letter.sequence for letter in letters if letter.sequence <= passed.last}
    first, staying = reading.up_to(passed.last), passed.open + len(dead)
    try:
        share = await unfinished(reading, first, stream, readers, told)
    except UNREADABLE:
        return None
    exact = share.exact and (passed.is_known or len(readers) == 1)
    return MessageCount(max(0, first - staying), unfinished=Share(max(0, share.messages - staying), exact))


async def _amount(
    reading: _StreamReader, query: CountQuery, resources: Sequence[LiveResource], told: Told
) -> MessageCount | None:
    try:
        match query.kind:
            case CountKind.STORED:
                return MessageCount(reading.messages, reading.state["bytes"])
            case CountKind.ABOVE_PER_SUBJECT:
                return await reading.above_per_subject(query.limit)
            case CountKind.PRESENT:
                return await reading.present(_matching(query))
            case _ if not reading.gaps_known:
                return None
            case CountKind.ABOVE_COUNT:
                return await reading.oldest(max(0, reading.messages - query.limit))
            case CountKind.ABOVE_SIZE:
                return await reading.above_size(query.limit)
            case CountKind.OLDER:
                return await reading.older(query.limit)
            case CountKind.COPIED:
                return await reading.copied(query.limit, resources[0])
            case _:  # of a consumer
                (consumer,) = (found for found in resources if found.ref == query.ref)
                return await _count_consumer(reading, query, resources[0], consumer, told)
    except UNREADABLE:
        return None  # not allowed to read messages, or one went while it was counted


async def _count_consumer(
    reading: _StreamReader,
    query: CountQuery,
    stream: LiveResource,
    consumer: LiveResource,
    told: Told,
) -> MessageCount | None:
    given_up = query.kind is CountKind.GIVEN_UP
    if given_up and stream.get("retention") == "limits":
        # What is acknowledged looks the same: only letters tell.
        return None if told is None else MessageCount()
    found = await reading.matching(query, consumer)
    if found is None or not given_up:
        return found
    known = len((told or {}).get(consumer.ref, ()))
    return MessageCount(max(0, found.messages - consumer_counts(consumer).num_ack_pending - known))


@dataclass(slots=True)
class _ReadBudget:
    """What all questions of a plan share: reads under way, and reads left."""

    reading: asyncio.Semaphore
    left: int

    def allows(self, messages: int) -> bool:
        return messages <= min(MAX_READ, self.left)


class _Row(NamedTuple):
    """What is kept of a message that was read: its size as the server counts it."""

    subject: str
    size: int


@dataclass(frozen=True, slots=True)
class _StreamReader:
    """One stream at the moment of one STREAM.INFO: which sequence numbers it holds, and access to its messages."""

    server: JetStream
    name: str
    file: bool
    state: Mapping[str, Any]
    now: str
    deleted: Sequence[int]  # sequence numbers of the gaps, ascending
    gaps_known: bool
    budget: _ReadBudget
    _seen: dict[int, _Row] = field(default_factory=dict)  # each message is read once
    _subjects: list[dict[str, int] | None] = field(default_factory=list)

    @classmethod
    async def open(
        cls, server: JetStream, name: str, config: Mapping[str, Any], budget: _ReadBudget
    ) -> _StreamReader:
        """Return the stream as it is now."""
        verb, doing = f"STREAM.INFO.{name}", f"measuring {name}"
        row = await server.request(verb, None, doing=doing)
        gaps = row["state"].get("num_deleted", 0)
        if 0 < gaps <= MAX_DELETED:
            row = await server.request(verb, {"deleted_details": True}, doing=doing)
        state, deleted = row["state"], sorted(row["state"].get("deleted") or ())
        span = state["last_seq"] + 1 - state["first_seq"] if state["messages"] else 0
        known = state.get("num_deleted", 0) == len(deleted) and state["messages"] == span - len(deleted)
        return cls(server, name, config.get("storage") != "memory", state, row["ts"], deleted, known, budget)

    @property
    def messages(self) -> int:
        """How many there are."""
        found: int = self.state["messages"]
        return found

    def up_to(self, sequence: int) -> int:
        """Return how many there are up to this number."""
        return self._below(sequence + 1)

    async def oldest(self, number: int) -> MessageCount:
        """Return the first `number` messages; their bytes where reading them is cheap."""
        if number >= self.messages:
            return MessageCount(self.messages, self.state["bytes"])
        if not self._cheap(number):
            return MessageCount(number)
        rows = await self._rows(islice(self._sequences(), number))
        return MessageCount(number, sum(row.size for row in rows))

    async def above_size(self, limit: int) -> MessageCount | None:
        """Count what the server would delete from the front until the rest fits."""
        over = self.state["bytes"] - limit
        if over > MAX_READ_BYTES:
            return None
        gone, size, sequences = 0, 0, self._sequences()
        while size < over and self.budget.allows(CHUNK_SIZE) and gone < MAX_READ:
            for row in await self._rows(islice(sequences, CHUNK_SIZE)):
                if size < over:
                    gone, size = gone + 1, size + row.size
        return MessageCount(gone, size) if size >= over else None

    async def older(self, age: int) -> MessageCount:
        """Count the messages older than `age`, by bisection: messages are stored in the order of their times."""
        low, high = self.state["first_seq"], self.state["last_seq"] + 1
        while low < high:
            middle = (low + high) // 2
            row = await self._next(middle)
            if row is None or (passed(row["time"], self.now) or 0) < age:
                high = middle
            else:
                low = row["seq"] + 1
        return await self.oldest(self._below(low))

    async def above_per_subject(self, limit: int) -> MessageCount | None:
        """Count from the number of messages of each subject."""
        subjects = await self.subjects()
        return (
            None
            if subjects is None
            else MessageCount(sum(max(0, held - limit) for held in subjects.values()))
        )

    async def present(self, matches: Matches) -> MessageCount | None:
        """Count the messages whose subject matches."""
        subjects = await self.subjects()
        if subjects is None:
            return None
        return MessageCount(sum(held for subject, held in subjects.items() if matches(subject)))

    async def matching(self, query: CountQuery, consumer: LiveResource) -> MessageCount | None:
        """Return messages up to the consumer's cursor, or beyond it, that match; the smaller part of the stream is read."""
        cursor = consumer_counts(consumer).delivered_stream_seq
        match query.kind:
            case CountKind.PASSED | CountKind.GIVEN_UP:
                low, high = 0, cursor
            case CountKind.UNACKNOWLEDGED:
                low, high = finished_up_to(consumer) + 1, query.limit or cursor
            case _:
                low, high = cursor + 1, (query.limit or self.state["last_seq"] + 1) - 1
        matches, subjects = _matching(query), await self.subjects()
        held = (
            None if subjects is None else sum(held for subject, held in subjects.items() if matches(subject))
        )
        found = await self.within(low, high, matches, held)
        return MessageCount(found.messages) if found.exact else None

    async def within(self, low: int, high: int, matches: Matches, held: int | None) -> Share:
        """Return how many messages with these sequence numbers have a subject that matches; at most so many where reading is dear.

        In all the stream holds so many that match; None if that is not known.
        """
        inside = self._below(high + 1) - self._below(low) if low <= high else 0
        if inside <= 0 or held == 0:
            return Share()
        if held is not None and held >= self.messages:
            return Share(inside)
        if inside < self.messages and self._cheap(inside):
            within = self._sequences(low, high)
            return Share(sum(matches(row.subject) for row in await self._rows(within)))
        if held is None or not self._cheap(self.messages - inside):
            return Share(inside if held is None else min(held, inside), exact=False)
        outside = chain(self._sequences(0, low - 1), self._sequences(high + 1))
        rest = sum(matches(row.subject) for row in await self._rows(outside))
        return Share(held - rest)

    def number(self, place: int) -> int:
        """Return the sequence number of the message at this place, from 1 on; the last one's beyond the end."""
        span = range(self.state["first_seq"], self.state["last_seq"])
        index = bisect_left(span, place, key=lambda number: self._below(number + 1))
        return span[index] if index < len(span) else span.stop

    async def copied(self, number: int, copy: LiveResource) -> MessageCount:
        """Return messages that had this number or a later one in the stream that is copied, whatever they have in the copy."""
        origin, route = Ref(copy.metadata[BECOMES_KEY]), Journal.from_stream(copy).copy_method
        here = await route.map_sequence(self.server, copy.ref, origin, number)
        return MessageCount(self.messages - self._below(here))

    def _sequences(self, low: int = 0, high: int | None = None) -> Iterator[int]:
        """Yield the numbers of its messages, from `low` to `high`."""
        gaps, last = frozenset(self.deleted), self.state["last_seq"]
        span = range(max(low, self.state["first_seq"]), (last if high is None else min(high, last)) + 1)
        return (sequence for sequence in span if sequence not in gaps)

    def _below(self, sequence: int) -> int:
        """Return how many messages have a smaller number."""
        first: int = self.state["first_seq"]
        end: int = max(first, min(sequence, self.state["last_seq"] + 1))
        return end - first - bisect_left(self.deleted, end)

    def _cheap(self, messages: int) -> bool:
        size = self.state["bytes"] * messages // max(1, self.messages)
        return self.budget.allows(messages) and size <= MAX_READ_BYTES

    async def _rows(self, sequences: Iterable[int]) -> list[_Row]:
        numbers = list(sequences)
        await asyncio.gather(*(self._read(number) for number in numbers if number not in self._seen))
        return [self._seen[number] for number in numbers]

    async def _read(self, sequence: int) -> None:
        row = await self._get({"seq": sequence})
        self._seen[sequence] = _Row(row["subject"], self._size(row))

    async def _next(self, sequence: int) -> Mapping[str, Any] | None:
        """Return the first message from this number on."""
        try:
            return await self._get({"seq": sequence, "next_by_subj": ">"})
        except ApiError as error:
            if error.err_code != ErrorCode.JSNoMessageFoundErr:
                raise
            return None

    async def _get(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.budget.left -= 1
        async with self.budget.reading:
            return await get_message(self.server, self.name, body, doing=f"measuring {self.name}")

    async def subjects(self) -> dict[str, int] | None:
        """Return the number of messages of every subject, over all pages; None where there are too many."""
        if not self._subjects:
            self._subjects.append(await self._all_subjects())
        return self._subjects[0]

    async def _all_subjects(self) -> dict[str, int] | None:
        if self.state.get("num_subjects", 0) > MAX_SUBJECTS:
            return None
        return await subjects(self.server, self.name, doing=f"measuring {self.name}")

    def _size(self, row: Mapping[str, Any]) -> int:
        """Return what the server counts for a message: measured alike from 2.10.26 to 2.15.1, compressed or not."""
        headers = _decoded(row.get("hdrs", ""))
        content = len(row["subject"].encode()) + _decoded(row.get("data", "")) + headers
        return content + (30 + (4 if headers else 0) if self.file else 16)


def _matching(query: CountQuery) -> Callable[[str], bool]:
    def matches(subject: str) -> bool:
        return any(covers(wide, subject) for wide in query.subjects) and not any(
            covers(wide, subject) for wide in query.excluded_subjects
        )

    return matches


def _decoded(text: str) -> int:
    """Return the length of what this base64 text stands for."""
    return len(text) * 3 // 4 - text[-2:].count("=")
