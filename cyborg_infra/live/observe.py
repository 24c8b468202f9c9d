"""The readings that a status is made of: the account at a glance, and the few messages that it turns on. Writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyborg_infra.live.faults import ApiError, NoLeader, NoReply, NoResponders, PermissionDenied
from cyborg_infra.live.jetstream import READS_IN_FLIGHT, JetStream
from cyborg_infra.live.messages import as_message, sequences
from cyborg_infra.model.dead_letter import Message
from cyborg_infra.model.problems import SnapshotIncomplete
from cyborg_infra.model.state import ConsumerCounts, Ref, Resource, State, StreamCounts
from cyborg_infra.model.status import Observed, Stored
from cyborg_infra.model.subjects import covers

NEWEST = 10  # broadcasts that are looked at
LETTERS = 50  # dead letters that are looked at
_UNANSWERED = (NoReply, NoResponders, ApiError)
_NOT_ALLOWED = (
    "this user may not read messages ($JS.API.STREAM.MSG.GET.*): how long the oldest has waited, "
    "who has acknowledged which broadcast and the newest dead letter are not known"
)


async def observe(
    server: JetStream, owner: str, desired: State, *, broadcasts: Ref, broadcast: str, dead_letters: Ref
) -> Observed:
    """What there is of `desired` now, and where its queues, the `broadcast` subject and the dead letters stand.

    Costs what a plan costs, and one read for each queue in which something waits; never writes. Where messages may
    not be read, the rest is there, with a note. Raises ServerFault where the account itself cannot be read.
    """
    live, unread = await server.glance(owner, {stream.ref.stream for stream in desired.streams()})
    found = Observed(live, unread, _now(live))
    reading = _Messages(server)
    try:
        oldest, newest, (letters, since) = await asyncio.gather(
            _oldest(reading, desired, live),
            _newest(reading, live, broadcasts, broadcast),
            _letters(reading, live, dead_letters),
        )
    except PermissionDenied:
        found = replace(found, notes=(_NOT_ALLOWED,))
    else:
        found = replace(found, oldest=oldest, broadcasts=newest, letters=letters, letters_since=since)
    return replace(found, given_up=await _given_up(server, desired, live))


def _now(live: State) -> str:
    """The server's time at the end of the reading; all its clocks are taken for one."""
    return max((found.activity.read_at for found in live.resources.values()), default="")


class _Messages:
    """Reads single messages, so many at once."""

    def __init__(self, server: JetStream) -> None:
        self._server = server
        self._reading = asyncio.Semaphore(READS_IN_FLIGHT)

    async def get(self, stream: Ref, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The message, or None if it is gone or cannot be read now. Raises PermissionDenied, or ConnectionLost."""
        async with self._reading:
            try:
                row = await self._server.call(
                    f"STREAM.MSG.GET.{stream}", body, doing=f"reading a message of {stream}"
                )
            except _UNANSWERED:
                return None
        message: Mapping[str, Any] = row["message"]
        return message

    async def newest(self, stream: Resource | None, number: int) -> list[Mapping[str, Any]]:
        """The last `number` messages of the stream, oldest first; fewer where some cannot be read now."""
        if stream is None or not isinstance(stream.counts, StreamCounts):
            return []
        numbers = (await self._numbers(stream.ref, stream.counts))[-number:]
        found = await asyncio.gather(*(self.get(stream.ref, {"seq": seq}) for seq in numbers))
        return [message for message in found if message is not None]

    async def _numbers(self, stream: Ref, counts: StreamCounts) -> Sequence[int]:
        """The sequence numbers of its messages; asked for only where some in between were deleted."""
        span = range(counts.first_seq, counts.last_seq + 1) if counts.messages else range(0)
        if counts.messages == len(span):
            return span
        try:
            return (await sequences(self._server, stream.stream)).numbers
        except (*_UNANSWERED, NoLeader):
            return ()


async def _oldest(reading: _Messages, desired: State, live: State) -> dict[Ref, Stored]:
    """The first message that waits for each consumer; those for which none does are absent.

    Readers that stand at the same place of a stream, as those of a broadcast do, share one read.
    """
    places = {
        found.ref: [(found.ref.stream, start, subject) for subject in _filters(found)]
        for wanted in desired.consumers()
        if (found := live.resources.get(wanted.ref)) is not None and (start := _next(found))
    }
    asked = list(dict.fromkeys(place for listed in places.values() for place in listed))
    rows = await asyncio.gather(
        *(
            reading.get(Ref(stream), {"seq": start, "next_by_subj": subject})
            for stream, start, subject in asked
        )
    )
    stored = {place: Stored(row["seq"], row["time"]) for place, row in zip(asked, rows, strict=True) if row}
    first = {
        ref: min(
            (stored[place] for place in listed if place in stored), key=lambda found: found.seq, default=None
        )
        for ref, listed in places.items()
    }
    return {ref: found for ref, found in first.items() if found is not None}


def _next(reader: Resource) -> int:
    """The sequence number from which on messages wait for the reader; 0 if none does."""
    counts = reader.counts
    if not isinstance(counts, ConsumerCounts) or not counts.num_pending:
        return 0
    return counts.delivered_stream_seq + 1


async def _newest(reading: _Messages, live: State, stream: Ref, subject: str) -> tuple[Stored, ...]:
    """The newest broadcasts, oldest first."""
    rows = await reading.newest(live.resources.get(stream), NEWEST)
    return tuple(Stored(row["seq"], row["time"]) for row in rows if row["subject"] == subject)


async def _letters(reading: _Messages, live: State, stream: Ref) -> tuple[tuple[Message, ...], str]:
    """The newest dead letters, newest first, and the time from which on they are all; empty if there are no others."""
    held = live.resources.get(stream)
    rows = await reading.newest(held, LETTERS)
    letters = tuple(as_message(row) for row in reversed(rows))
    counts = held.counts if held else None
    if not isinstance(counts, StreamCounts) or len(letters) >= counts.messages:
        return letters, ""
    return letters, letters[-1].time if letters else _now(live)


async def _given_up(server: JetStream, desired: State, live: State) -> dict[Ref, int]:
    """Workqueue stream -> messages that no consumer will ever deliver again; absent where that cannot be told.

    All that is stored without what waits and what is in flight, if the consumers cover the stream. A message that is
    stored or acknowledged between two readings makes a difference too, so they are read again the other way round,
    and the smaller number counts.
    """
    streams = [
        stream
        for wanted in desired.streams()
        if (stream := live.resources.get(wanted.ref)) and stream.config.get("retention") == "workqueue"
    ]
    counted = {stream.ref: _unaccounted(stream, live.consumers(stream.ref.stream)) for stream in streams}
    again = await asyncio.gather(*(_again(server, ref) for ref, number in counted.items() if number))
    closer = {ref: number for ref, number in again if number is not None}
    return {ref: min(number, closer.get(ref, 0)) for ref, number in counted.items() if number is not None}


async def _again(server: JetStream, ref: Ref) -> tuple[Ref, int | None]:
    """Consumers first; what is acknowledged meanwhile makes the number smaller."""
    try:
        readers = await server.consumers(ref)
        stream = await server.info(ref)
    except (*_UNANSWERED, SnapshotIncomplete):
        return ref, None
    return ref, _unaccounted(stream, readers) if stream else None


def _unaccounted(stream: Resource, readers: Iterable[Resource]) -> int | None:
    if not isinstance(stream.counts, StreamCounts):
        return None
    known, filters = 0, list[str]()
    for reader in readers:
        if isinstance(reader.counts, ConsumerCounts):
            known += reader.counts.num_pending + reader.counts.num_ack_pending
            filters += _filters(reader)
    if not all(any(covers(wide, subject) for wide in filters) for subject in stream.config["subjects"]):
        return None
    return max(0, stream.counts.messages - known)


def _filters(reader: Resource) -> list[str]:
    """The subjects that it delivers."""
    return reader.config.get("filter_subjects") or [reader.config.get("filter_subject") or ">"]
