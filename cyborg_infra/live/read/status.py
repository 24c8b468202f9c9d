"""Read what a status is made of: a snapshot of the account, and the few messages that it depends on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyborg_infra.live.api.errors import ApiError, NoLeader
from cyborg_infra.live.api.jetstream import READS_IN_FLIGHT, JetStream
from cyborg_infra.live.api.messages import decode_message, get_message, list_sequences, subjects
from cyborg_infra.live.connection.errors import NoReply, NoResponders, PermissionDenied
from cyborg_infra.live.read import consistency
from cyborg_infra.live.read.counting import MAX_SUBJECTS
from cyborg_infra.live.records.lease import read_holder
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.consumer_position import filter_patterns
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.problems import CyborgError, SnapshotIncomplete
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import ConsumerCounts, DesiredState, LiveResource, LiveState, StreamCounts
from cyborg_infra.model.status import MessageTime, StatusReadings, StoredBroadcast
from cyborg_infra.model.stored_messages import StoredMessage
from cyborg_infra.model.subjects import SubjectIndex, covers

MAX_BROADCASTS = 10  # broadcasts that are looked at
MAX_DEAD_LETTERS = 50  # dead letters that are looked at
_UNANSWERED = (NoReply, NoResponders, ApiError)
_NOT_ALLOWED = (
    "this user may not read messages ($JS.API.STREAM.MSG.GET.*): how long the oldest has waited, "
    "who has acknowledged which broadcast and the newest dead letter are not known"
)


async def read_status(
    server: JetStream,
    owner: str,
    desired: DesiredState,
    *,
    broadcasts: Mapping[Ref, Sequence[str]],
    dead_letters: Ref | None,
) -> StatusReadings:
    """Return the live resources of `desired`, and the state of their queues, of `broadcasts` (stream -> subjects) and of `dead_letters`.

    Costs what a plan costs, and one read for each queue in which something waits; never writes. Where messages may
    not be read, the rest is there, with a note. Raises ServerFault where the account itself cannot be read.
    """
    everything, unread = await server.snapshot_best_effort(owner, desired)
    live, others = _apart(owner, desired, everything)
    found = StatusReadings(live, unread, _now(everything), others=others)
    reading = _MessageReader(server)
    try:
        oldest, newest, (letters, since, untold) = await asyncio.gather(
            _oldest_pending(reading, desired, live),
            _newest_broadcasts(reading, live, broadcasts),
            _newest_dead_letters(reading, live, dead_letters),
        )
    except PermissionDenied:
        found = replace(found, notes=(_NOT_ALLOWED,))
    else:
        found = replace(
            found,
            oldest=oldest,
            broadcasts=newest,
            letters=letters,
            letters_since=since,
            letters_unread=untold,
        )
    given_up, subjects, applying, behind, ahead = await asyncio.gather(
        _given_up(server, desired, live),
        _subjects(server, desired, live),
        _lease_holder(server, owner, desired, live),
        consistency.behind(server, desired, live),
        consistency.ahead(server, desired, live),
    )
    return replace(found, given_up=given_up, subjects=subjects, applying=applying, behind=behind, ahead=ahead)


def _apart(owner: str, desired: DesiredState, live: LiveState) -> tuple[LiveState, Mapping[Ref, str]]:
    """Return the live state without desired resources of other organisations, and for each of those whose it is."""
    others = {
        ref: found.owner
        for ref in desired.resources
        if (found := live.resources.get(ref)) is not None and found.owner not in (None, owner)
    }
    left = {ref: found for ref, found in live.resources.items() if ref not in others}
    return replace(live, resources=left), {ref: name or "" for ref, name in others.items()}


async def _lease_holder(server: JetStream, owner: str, desired: DesiredState, live: LiveState) -> str | None:
    """Return who applies, where something is unfinished: empty for nobody, None where that cannot be read."""
    if not any(
        found.unfinished and (found.owner == owner or ref in desired.resources)
        for ref, found in live.resources.items()
    ):
        return None
    try:
        held = await read_holder(server, owner)
    except CyborgError:
        return None
    return f"{held.holder} since {held.since}" if held else ""


def _now(live: LiveState) -> str:
    """Return the server's time at the end of the reading; all its clocks are taken for one."""
    return max((found.activity.read_at for found in live.resources.values()), default="")


class _MessageReader:
    """Reads single messages, so many at once."""

    def __init__(self, server: JetStream) -> None:
        self._server = server
        self._reading = asyncio.Semaphore(READS_IN_FLIGHT)

    async def get(self, stream: Ref, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the message, or None if it is gone or cannot be read now. Raises PermissionDenied, or ConnectionLost."""
        async with self._reading:
            try:
                return await get_message(
                    self._server, stream.stream, body, doing=f"reading a message of {stream}"
                )
            except _UNANSWERED:
                return None

    async def newest(self, stream: LiveResource | None, number: int) -> list[Mapping[str, Any]]:
        """Return the last `number` messages of the stream, oldest first; fewer where some cannot be read now."""
        if stream is None or not isinstance(stream.counts, StreamCounts):
            return []
        numbers = (await self._numbers(stream.ref, stream.counts))[-number:]
        found = await asyncio.gather(*(self.get(stream.ref, {"seq": seq}) for seq in numbers))
        return [message for message in found if message is not None]

    async def subjects(self, stream: LiveResource | None) -> Mapping[str, int]:
        """Return its subjects with their messages; none where there are too many, or where they cannot be read now."""
        if (
            stream is None
            or not isinstance(stream.counts, StreamCounts)
            or stream.counts.num_subjects > MAX_SUBJECTS
        ):
            return {}
        async with self._reading:
            try:
                doing = f"reading the subjects of {stream.ref}"
                return await subjects(self._server, stream.ref.stream, doing=doing)
            except (*_UNANSWERED, NoLeader, PermissionDenied):
                return {}

    async def _numbers(self, stream: Ref, counts: StreamCounts) -> Sequence[int]:
        """Return the sequence numbers of its messages; asked for only where some in between were deleted."""
        span = range(counts.first_seq, counts.last_seq + 1) if counts.messages else range(0)
        if counts.messages == len(span):
            return span
        try:
            return (await list_sequences(self._server, stream.stream)).numbers
        except (*_UNANSWERED, NoLeader):
            return ()


async def _oldest_pending(
    reading: _MessageReader, desired: DesiredState, live: LiveState
) -> dict[Ref, MessageTime]:
    """Return the first message that waits for each consumer; those for which none does are absent.

    Readers that stand at the same place of a stream, as those of a broadcast do, share one read.
    """
    places = {
        found.ref: [(found.ref.stream, start, subject) for subject in filter_patterns(found)]
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
    stored = {
        place: MessageTime(row["seq"], row["time"]) for place, row in zip(asked, rows, strict=True) if row
    }
    first = {
        ref: min(
            (stored[place] for place in listed if place in stored), key=lambda found: found.seq, default=None
        )
        for ref, listed in places.items()
    }
    return {ref: found for ref, found in first.items() if found is not None}


def _next(reader: LiveResource) -> int:
    """Return the sequence number from which on messages wait for the reader; 0 if none does."""
    counts = reader.counts
    if not isinstance(counts, ConsumerCounts) or not counts.num_pending:
        return 0
    return counts.delivered_stream_seq + 1


async def _newest_broadcasts(
    reading: _MessageReader, live: LiveState, broadcasts: Mapping[Ref, Sequence[str]]
) -> tuple[StoredBroadcast, ...]:
    """Return the newest broadcasts of each stream, oldest first."""
    read = await asyncio.gather(
        *(reading.newest(live.resources.get(stream), MAX_BROADCASTS) for stream in broadcasts)
    )
    found = [
        StoredBroadcast(row["seq"], row["time"], stream, row["subject"])
        for (stream, subjects), rows in zip(broadcasts.items(), read, strict=True)
        for row in rows
        if any(covers(subject, row["subject"]) for subject in subjects)
    ]
    return tuple(sorted(found, key=lambda each: each.at) if len(broadcasts) > 1 else found)


async def _newest_dead_letters(
    reading: _MessageReader, live: LiveState, stream: Ref | None
) -> tuple[tuple[StoredMessage, ...], str, Mapping[str, int]]:
    """Return the newest dead letters, newest first, the time from which on they are all, and how many others each subject has.

    The time is empty if there are no others. If there are, the newest of each subject is among the letters, so that
    those of one consumer do not hide another's.
    """
    held = live.resources.get(stream) if stream else None
    rows = await reading.newest(held, MAX_DEAD_LETTERS)
    counts = held.counts if held else None
    letters = tuple(decode_message(row) for row in reversed(rows))
    if held is None or not isinstance(counts, StreamCounts) or len(letters) >= counts.messages:
        return letters, "", {}
    since = letters[-1].time if letters else _now(live)
    stored = await reading.subjects(held)
    read = Counter(letter.subject for letter in letters)
    hidden = await asyncio.gather(
        *(reading.get(held.ref, {"last_by_subj": subject}) for subject in stored if subject not in read)
    )
    older = sorted((decode_message(row) for row in hidden if row), key=lambda found: -found.sequence)
    read.update(letter.subject for letter in older)
    others = {subject: number - read[subject] for subject, number in stored.items() if number > read[subject]}
    return (*letters, *older), since, others


async def _given_up(server: JetStream, desired: DesiredState, live: LiveState) -> dict[Ref, int]:
    """Return workqueue stream -> messages that no consumer will ever deliver again; absent where that cannot be told.

    All that is stored without what waits and what is in flight, if the consumers cover the stream. A message that is
    stored or acknowledged between two readings makes a difference too, so they are read again the other way round,
    and the smaller number counts.
    """
    streams = [
        stream
        for wanted in desired.streams()
        if (stream := live.resources.get(wanted.ref)) and stream.get("retention") == "workqueue"
    ]
    counted = {stream.ref: _unaccounted(stream, live.consumers(stream.ref.stream)) for stream in streams}
    again = await asyncio.gather(*(_read_again(server, ref) for ref, number in counted.items() if number))
    closer = {ref: number for ref, number in again if number is not None}
    return {ref: min(number, closer.get(ref, 0)) for ref, number in counted.items() if number is not None}


async def _read_again(server: JetStream, ref: Ref) -> tuple[Ref, int | None]:
    """Read the consumers again, then the stream: what is acknowledged meanwhile makes the number smaller."""
    try:
        readers = await server.consumers(ref)
        stream = await server.info(ref)
    except (*_UNANSWERED, SnapshotIncomplete):
        return ref, None
    return ref, _unaccounted(stream, readers) if stream else None


def _unaccounted(stream: LiveResource, readers: Iterable[LiveResource]) -> int | None:
    if not isinstance(stream.counts, StreamCounts) or _renames(stream):
        return None
    known, filters = 0, list[str]()
    for reader in readers:
        if isinstance(reader.counts, ConsumerCounts):
            known += reader.counts.num_pending + reader.counts.num_ack_pending
            filters += filter_patterns(reader)
    if not all(any(covers(wide, subject) for wide in filters) for subject in stream.get("subjects")):
        return None
    return max(0, stream.counts.messages - known)


async def _subjects(
    server: JetStream, desired: DesiredState, live: LiveState
) -> dict[Ref, Mapping[str, int]]:
    """Return the subjects of each stream with their messages, where no consumer may read one and it can be read now."""
    asking = asyncio.Semaphore(READS_IN_FLIGHT)

    async def one(ref: Ref) -> tuple[Ref, Mapping[str, int]]:
        async with asking:
            try:
                return ref, await subjects(server, ref.stream, doing=f"reading the subjects of {ref}")
            except (*_UNANSWERED, NoLeader, PermissionDenied):
                return ref, {}

    asked = [
        stream.ref
        for wanted in desired.streams()
        if wanted.metadata.get(KIND_KEY) != StreamKind.KEY_VALUE  # whose readers look up what they want
        and (stream := live.resources.get(wanted.ref))
        and _may_be_unmatched(stream, live.consumers(wanted.ref.stream))
    ]
    return dict(await asyncio.gather(*map(one, asked)))


def _may_be_unmatched(stream: LiveResource, readers: Iterable[LiveResource]) -> bool:
    """Return whether some message may be one that no consumer delivers; not where there are no more subjects than they cover."""
    counts = stream.counts
    if not isinstance(counts, StreamCounts) or not counts.messages or counts.num_subjects > MAX_SUBJECTS:
        return False
    read = SubjectIndex((subject, "") for reader in readers for subject in filter_patterns(reader))
    stored = stream.get("subjects")
    literal = not any({"*", ">"} & {*subject.split(".")} for subject in stored)
    known = literal and not _renames(stream) and counts.num_subjects <= len(stored)
    return not (read.covers(">") or (known and all(map(read.covers, stored))))


def _renames(stream: LiveResource) -> bool:
    """Return whether it stores messages under other subjects than its own."""
    return any(stream.get(name) for name in ("subject_transform", "sources", "mirror"))
