"""The second, closer reading: counts the messages that a planned change would cost. Writes nothing, decides nothing."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from cyborg_infra.live.faults import ApiError, NoReply, NoResponders, PermissionDenied
from cyborg_infra.live.jetstream import NO_MESSAGE, READS_IN_FLIGHT, JetStream
from cyborg_infra.model.state import (
    Amount,
    ConsumerCounts,
    Measure,
    Question,
    Ref,
    Resource,
    State,
    StreamCounts,
)
from cyborg_infra.model.subjects import covers

UNANSWERED = (NoReply, NoResponders, ApiError, PermissionDenied)
ATTEMPTS = 3  # a stream that is being worked with is read again, so that its counts fit together
# What one question may cost: the API gives a message only whole, and a plan must not take minutes.
MOST_READ = 2_000  # messages
MOST_BYTES = 32 * 1024 * 1024
MOST_READ_IN_ALL = 20_000  # of one plan
MOST_DELETED = 100_000  # gaps inside a stream, which the server lists one by one
MOST_SUBJECTS = 200_000
CHUNK = 64  # messages asked for at once while it is open how many are needed


async def measured(server: JetStream, live: State, questions: Collection[Question]) -> State:
    """`live` with what it could find out about the questions, and fresh counts of the streams and consumers in question.

    A question stays open where an answer would take too many reads, where messages moved too fast for an exact
    one, or where this user may not read. Raises ServerFault only where the connection is lost.
    """
    budget = _Budget(asyncio.Semaphore(READS_IN_FLIGHT), MOST_READ_IN_ALL)
    asked: dict[str, list[Question]] = {}
    for question in sorted(questions, key=repr):
        asked.setdefault(question.ref.stream, []).append(question)
    found = await asyncio.gather(
        *(_stream(server, live, name, listed, budget) for name, listed in asked.items())
    )
    fresh = {resource.ref: resource for resources in found for resource in resources}
    return State({**live.resources, **fresh}, live.facts)


async def _stream(
    server: JetStream, live: State, name: str, questions: Sequence[Question], budget: _Budget
) -> Sequence[Resource]:
    """The stream and its consumers with their answers; nothing where it cannot be read."""
    refs = [Ref(name), *(reader.ref for reader in live.consumers(name))]
    closer: Sequence[Resource] = ()
    for _ in range(ATTEMPTS):
        try:
            if (before := await _resources(server, refs, budget.reading)) is None:
                return closer
            reading = await _Reading.of(server, name, before[0].config, budget)
            none = {question: Amount() for question in questions if await _is_of_nothing(reading, question)}
            rest = [question for question in questions if question not in none]
            answers = {question: await _answer(reading, question, before) for question in rest}
            after = await _resources(server, refs, budget.reading)
        except UNANSWERED:
            return closer
        steady = (
            after is not None and _still(before) == _still(after) and _readers(before[0]) == len(refs) - 1
        )
        closer = [
            replace(found, measured=_of(found, none, steady=True) | _of(found, answers, steady=steady))
            for found in before
        ]
        if steady:
            break
    return closer


def _of(
    resource: Resource, answers: Mapping[Question, Amount | None], *, steady: bool
) -> dict[Question, Amount]:
    """The answers on one resource. On a consumer that moved meanwhile there is none that fits its counts."""
    if resource.ref.consumer and not steady:
        return {}
    return {
        question: amount
        for question, amount in answers.items()
        if question.ref == resource.ref and amount is not None
    }


async def _resources(
    server: JetStream, refs: Sequence[Ref], reading: asyncio.Semaphore
) -> list[Resource] | None:
    """All of them as they are now; None where one is gone."""

    async def info(ref: Ref) -> Resource | None:
        async with reading:
            return await server.info(ref)

    found = await asyncio.gather(*(info(ref) for ref in refs))
    present = [resource for resource in found if resource is not None]
    return present if len(present) == len(refs) else None


def _still(resources: Iterable[Resource]) -> list[object]:
    """What must not change while one moment's counts are read: all that is about messages."""
    return [
        found.counts._replace(oldest_age=0)
        if isinstance(found.counts, StreamCounts)
        else found.counts._replace(num_waiting=0)
        for found in resources
        if found.counts is not None
    ]


def _readers(stream: Resource) -> int:
    return stream.counts.consumers if isinstance(stream.counts, StreamCounts) else 0


async def _is_of_nothing(reading: _Reading, question: Question) -> bool:
    """Whether no message that is stored has a subject in question: that holds wherever the consumer stands meanwhile."""
    if not question.within:
        return False
    subjects = await reading.subjects()
    return subjects is not None and not any(map(_matching(question), subjects))


async def _answer(reading: _Reading, question: Question, resources: Sequence[Resource]) -> Amount | None:
    """The amount in question; None where it cannot be found out with bounded effort."""
    try:
        match question.measure:
            case Measure.ABOVE_PER_SUBJECT:
                return await reading.above_per_subject(question.limit)
            case _ if not reading.gaps_known:
                return None
            case Measure.ABOVE_COUNT:
                return await reading.oldest(max(0, reading.messages - question.limit))
            case Measure.ABOVE_SIZE:
                return await reading.above_size(question.limit)
            case Measure.OLDER:
                return await reading.older(question.limit)
            case Measure.PASSED | Measure.WAITING:
                (consumer,) = (found for found in resources if found.ref == question.ref)
                return await reading.matching(question, _cursor(consumer))
    except UNANSWERED:
        return None  # not allowed to read messages, or one went while it was counted


def _cursor(consumer: Resource) -> int:
    return consumer.counts.delivered_stream_seq if isinstance(consumer.counts, ConsumerCounts) else 0


@dataclass(slots=True)
class _Budget:
    """What all questions of a plan share: reads under way, and reads left."""

    reading: asyncio.Semaphore
    left: int

    def allows(self, messages: int) -> bool:
        return messages <= min(MOST_READ, self.left)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One stream at the moment of one STREAM.INFO: which sequence numbers it holds, and access to its messages."""

    server: JetStream
    name: str
    file: bool
    state: Mapping[str, Any]
    now: str
    deleted: Sequence[int]  # sequence numbers of the gaps, ascending
    gaps_known: bool
    budget: _Budget

    @classmethod
    async def of(cls, server: JetStream, name: str, config: Mapping[str, Any], budget: _Budget) -> _Reading:
        """The stream as it is now."""
        verb, doing = f"STREAM.INFO.{name}", f"measuring {name}"
        row = await server.call(verb, None, doing=doing)
        gaps = row["state"].get("num_deleted", 0)
        if 0 < gaps <= MOST_DELETED:
            row = await server.call(verb, {"deleted_details": True}, doing=doing)
        state, deleted = row["state"], sorted(row["state"].get("deleted") or ())
        known = state.get("num_deleted", 0) == len(deleted)
        return cls(server, name, config.get("storage") != "memory", state, row["ts"], deleted, known, budget)

    @property
    def messages(self) -> int:
        """How many there are."""
        found: int = self.state["messages"]
        return found

    async def oldest(self, number: int) -> Amount:
        """The first `number` messages; their bytes where reading them is cheap."""
        if number >= self.messages:
            return Amount(self.messages, self.state["bytes"])
        if not self._cheap(number):
            return Amount(number)
        rows = await self._rows(islice(self._sequences(), number))
        return Amount(number, sum(self._size(row) for row in rows))

    async def above_size(self, limit: int) -> Amount | None:
        """The server deletes from the front until what is left fits."""
        over = self.state["bytes"] - limit
        if over > MOST_BYTES:
            return None
        gone, size, sequences = 0, 0, self._sequences()
        while size < over and self.budget.allows(CHUNK) and gone < MOST_READ:
            for row in await self._rows(islice(sequences, CHUNK)):
                if size < over:
                    gone, size = gone + 1, size + self._size(row)
        return Amount(gone, size) if size >= over else None

    async def older(self, age: int) -> Amount:
        """By bisection: messages are stored in the order of their times."""
        cutoff = datetime.fromisoformat(self.now) - timedelta(microseconds=age / 1000)
        low, high = self.state["first_seq"], self.state["last_seq"] + 1
        while low < high:
            middle = (low + high) // 2
            row = await self._next(middle)
            if row is None or datetime.fromisoformat(row["time"]) > cutoff:
                high = middle
            else:
                low = row["seq"] + 1
        return await self.oldest(self._below(low))

    async def above_per_subject(self, limit: int) -> Amount | None:
        """From the number of messages of each subject."""
        subjects = await self.subjects()
        return None if subjects is None else Amount(sum(max(0, held - limit) for held in subjects.values()))

    async def matching(self, question: Question, cursor: int) -> Amount | None:
        """Messages up to the cursor, or beyond it, that match; the smaller part of the stream is read."""
        passed = question.measure is Measure.PASSED
        low = 0 if passed else cursor + 1
        high = cursor if passed else (question.limit or self.state["last_seq"] + 1) - 1
        matches = _matching(question)
        inside = self._below(high + 1) - self._below(low) if low <= high else 0
        if inside <= 0:
            return Amount()
        if inside < self.messages and self._cheap(inside):
            within = (sequence for sequence in self._sequences() if low <= sequence <= high)
            return Amount(sum(matches(row["subject"]) for row in await self._rows(within)))
        if not self._cheap(self.messages - inside) or (subjects := await self.subjects()) is None:
            return None
        outside = (sequence for sequence in self._sequences() if not low <= sequence <= high)
        rest = sum(matches(row["subject"]) for row in await self._rows(outside))
        return Amount(sum(held for subject, held in subjects.items() if matches(subject)) - rest)

    def _sequences(self) -> Iterator[int]:
        gaps = frozenset(self.deleted)
        span = range(self.state["first_seq"], self.state["last_seq"] + 1)
        return (sequence for sequence in span if sequence not in gaps)

    def _below(self, sequence: int) -> int:
        """How many messages have a smaller number."""
        first: int = self.state["first_seq"]
        end: int = max(first, min(sequence, self.state["last_seq"] + 1))
        return end - first - bisect_left(self.deleted, end)

    def _cheap(self, messages: int) -> bool:
        size = self.state["bytes"] * messages // max(1, self.messages)
        return self.budget.allows(messages) and size <= MOST_BYTES

    async def _rows(self, sequences: Iterable[int]) -> list[Mapping[str, Any]]:
        return await asyncio.gather(*(self._get({"seq": sequence}) for sequence in sequences))

    async def _next(self, sequence: int) -> Mapping[str, Any] | None:
        """The first message from this number on."""
        try:
            return await self._get({"seq": sequence, "next_by_subj": ">"})
        except ApiError as error:
            if error.err_code != NO_MESSAGE:
                raise
            return None

    async def _get(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.budget.left -= 1
        async with self.budget.reading:
            doing = f"measuring {self.name}"
            row = await self.server.call(f"STREAM.MSG.GET.{self.name}", body, doing=doing)
        message: Mapping[str, Any] = row["message"]
        return message

    async def subjects(self) -> dict[str, int] | None:
        """The number of messages of every subject, over all pages."""
        if self.state.get("num_subjects", 0) > MOST_SUBJECTS:
            return None
        found: dict[str, int] = {}
        while True:
            body = {"subjects_filter": ">", "offset": len(found)}
            row = await self.server.call(f"STREAM.INFO.{self.name}", body, doing=f"measuring {self.name}")
            page = row["state"].get("subjects") or {}
            if not page.keys() - found.keys():
                return found
            found |= page
            if len(found) >= row.get("total", len(found)):
                return found

    def _size(self, row: Mapping[str, Any]) -> int:
        """What the server counts for a message: measured alike from 2.10.26 to 2.15.1, compressed or not."""
        headers = _decoded(row.get("hdrs", ""))
        content = len(row["subject"].encode()) + _decoded(row.get("data", "")) + headers
        return content + (30 + (4 if headers else 0) if self.file else 16)


def _matching(question: Question) -> Callable[[str], bool]:
    def matches(subject: str) -> bool:
        return any(covers(wide, subject) for wide in question.within) and not any(
            covers(wide, subject) for wide in question.without
        )

    return matches


def _decoded(text: str) -> int:
    """The length of what this base64 text stands for."""
    return len(text) * 3 // 4 - text[-2:].count("=")
