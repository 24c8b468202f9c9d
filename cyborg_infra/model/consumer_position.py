"""The position of a consumer with its messages pending acknowledgement, and whether a new consumer can be created there."""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Mapping
from types import MappingProxyType
from typing import Self

from cyborg_infra.model.fields import Config
from cyborg_infra.model.metadata_keys import READ_KEY, START_KEY
from cyborg_infra.model.ref import Ref, stop_subject
from cyborg_infra.model.resources import LiveResource, Resource, consumer_counts
from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.model.subjects import covers, overlap
from cyborg_infra.model.units import whole_number
from cyborg_infra.model.valueclass import NamedTuple

MAX_NUMBERS = 200_000
"""Sequence numbers between what is finished and what is handed out, each of which has to be tried and handed out once."""

READS_EARLIER = "its new filter reads earlier messages"
"""Why nothing stays open on a workqueue where that is so: the new consumer has to begin before them to hand them out."""

MAX_UNFINISHED = 2_000
"""Messages that are being worked on, which the account has to remember meanwhile: some 14 bytes each, of 128 KiB."""

LARGEST_JOURNAL = 96 * 1024
"""Bytes that a stream's consumers may take in the journal of its migration, of the 128 KiB of metadata that it may have."""

PER_POSITION = 24  # bytes that a consumer takes in it besides its name, and its configuration before 2.11
PER_NUMBER = 14  # bytes that a message takes in it that is being worked on


class Position(NamedTuple):
    """The next sequence number to hand out, and the earlier ones that are handed out and not finished, ascending.

    Everything else before `next` is finished. With 0 nothing is known.
    """

    next: int = 0
    unfinished: tuple[int, ...] = ()

    @property
    def first(self) -> int:
        """The lowest number of which anybody still needs the message."""
        return min(self.unfinished[0], self.next) if self.unfinished else self.next

    def without_finished(self, finished: frozenset[int]) -> Position:
        """Return the position once these messages are finished as well."""
        return Position(self.next, tuple(number for number in self.unfinished if number not in finished))

    @property
    def encode(self) -> str:
        """As a text: `12`, or `12 3 +4 +1` for 12 with 3, 7 and 8 unfinished."""
        steps = [str(self.unfinished[0])] if self.unfinished else []
        for before, number in zip(self.unfinished, self.unfinished[1:], strict=False):
            steps.append(f"+{number - before}")
        return " ".join([str(self.next), *steps])

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return what `encode` wrote; nothing known where it did not."""
        following, *steps = text.split() or [""]
        numbers = list[int]()
        for step in steps:
            if not (number := whole_number(step.removeprefix("+"))):
                return cls()
            numbers.append(number + (numbers[-1] if numbers else 0))
        return cls(whole_number(following) or 0, tuple(numbers))


class ConsumerPositions(NamedTuple):
    """The positions of a stream's consumers by name; their configurations, where they have to be stopped; until when somebody has paused them."""

    positions: Mapping[str, Position] = MappingProxyType({})
    configs: Mapping[str, Config] = MappingProxyType({})
    paused_until: Mapping[str, str] = MappingProxyType({})


def finished_up_to(consumer: LiveResource) -> int:
    """Return up to which sequence everything is finished. Until its first acknowledgement a consumer says 0, wherever it began (2.10 to 2.12).

    Of a stopped one it is at least what was noted. Where its server may have forgotten what it handed out last it is that
    alone: what was forgotten is open nowhere, and the floor goes past it.
    """
    start: int = consumer.get("opt_start_seq")
    floor = max(consumer_counts(consumer).ack_floor_stream_seq, start - 1)
    stopped = consumer.stopped_at
    if stopped is None:
        return floor
    noted = stopped.floor or 0
    return noted if may_have_forgotten(consumer) else max(min(floor, stopped.number), noted)


class PassedByAll(NamedTuple):
    """Up to which number a stream's consumers are done with it: `first` to `last`, depending on what becomes of open messages.

    As a workqueue it begins behind that. Of what `last` covers so many are `open` at least. Up to `furthest` one of them was
    handed messages.
    """

    first: int = 0
    last: int = 0
    open: int = 0
    furthest: int = 0

    @property
    def is_known(self) -> bool:
        """Whether nothing is open that would decide it."""
        return self.first == self.last and not self.open


def passed_by_all(consumers: Collection[LiveResource], kept: Container[Ref] | None = None) -> PassedByAll:
    """Return where a stream's consumers stand together. What one has open keeps its place in a workqueue, and what it has finished behind that goes.

    `furthest` looks at those alone that are `kept`.
    """
    found = [consumer for consumer in consumers if not consumer.ref.is_placeholder]
    if not found:
        return PassedByAll()
    handed = {
        each.ref: each.stopped_at.number if each.stopped_at else consumer_counts(each).delivered_stream_seq
        for each in found
    }
    working = [each for each in found if consumer_counts(each).num_ack_pending or each.is_stopped]
    floors = {**handed, **{each.ref: finished_up_to(each) for each in working}}
    return PassedByAll(
        min(floors.values()),
        max(min(handed.values()), *(handed[each.ref] for each in working))
        if working
        else min(handed.values()),
        max(consumer_counts(each).num_ack_pending for each in found),
        max((number for ref, number in handed.items() if kept is None or ref in kept), default=0),
    )


def may_have_forgotten(consumer: LiveResource) -> bool:
    """Return whether it was stopped before 2.11, and it is not known that its server has run ever since.

    One that was killed knows what was on its disk a moment before.
    """
    stopped, told_by = consumer.stopped_at, consumer.activity.incarnation
    return (
        stands_by_its_note(consumer)
        and stopped is not None
        and (not told_by or told_by != stopped.incarnation)
    )


def stands_by_its_note(consumer: LiveResource) -> bool:
    """Return whether it was stopped before 2.11: its cursor has run on to the end, as soon as somebody pulled."""
    return consumer.stopped_at is not None and consumer.stopped_at.floor is not None


def answers_for(consumer: LiveResource, stream: Resource) -> bool:
    """Return whether what this consumer is done with can be taken for done: it is the organisation's, and began with all that was stored.

    Who looks at a stream for himself does nobody's work, and where another one began the server does not tell. What a
    replace has made goes on from an earlier one, and has a note of that.
    """
    began = START_KEY in consumer.metadata or consumer.get("deliver_policy") == "all"
    return consumer.owner == stream.owner and began


def filter_patterns(consumer: Resource) -> tuple[str, ...]:
    """Return the subjects that the consumer is handed, as patterns; of a stopped one they are subjects that nobody uses."""
    return consumer.filters or (">",)


def read_patterns(consumer: Resource) -> tuple[str, ...]:
    """Return the subjects that the consumer reads, as patterns. A stopped one has noted them, unless an earlier version stopped it."""
    noted = consumer.metadata.get(READ_KEY, "").split() if consumer.is_stopped else ()
    return tuple(noted) or filter_patterns(consumer)


def reads_more(old: LiveResource, desired: Resource) -> bool:
    """Return whether the new consumer reads messages that the old one does not."""
    return not all(
        any(covers(wide, subject) for wide in read_patterns(old)) for subject in read_patterns(desired)
    )


def journal_share(consumer: LiveResource, version: Version) -> int:
    """Return how many bytes of the journal a consumer takes; metadata is text, in which quotes are escaped."""
    config = (
        json.dumps(json.dumps(dict(consumer.config))) if version < Capability.PAUSE_CONSUMER.since else ""
    )
    return 2 * len(consumer.ref.consumer) + PER_POSITION + len(config)


def fits_journal(consumers: Collection[LiveResource], version: Version) -> bool:
    """Return whether the journal of a stream's migration has room for all that is being worked on in these consumers of it."""
    numbers = PER_NUMBER * sum(consumer_counts(consumer).num_ack_pending for consumer in consumers)
    return (
        not numbers
        or numbers + sum(journal_share(consumer, version) for consumer in consumers) <= LARGEST_JOURNAL
    )


def max_open(stream: Config) -> int:
    """Return how many messages a consumer of a stream with this configuration may have open; 0 for any number."""
    most: int = (stream.get("consumer_limits") or {}).get("max_ack_pending", 0)
    return most


def open_limit_obstacle(room: int, count: int) -> str | None:
    """Return why so many messages cannot be open at once, in one clause; None if they can. `room`: see `max_open`."""
    return f"the consumer_limits of its stream let {room:,} be open" if 0 < room < count else None


def position_obstacle(
    old: LiveResource,
    desired: Resource,
    version: Version,
    *,
    stream: Config,
    renumbered: bool,
    fits: bool = True,
) -> str | None:
    """Return why a new consumer cannot stand where the old one does while work is open behind it, in one clause; None if it can.

    It is made to by handing out to the tool what the old one had handed out: see `live.execute.consumer.position`. `renumbered`: the
    messages get other sequence numbers meanwhile, so that what a worker says of one would be taken for another.
    `stream`: the configuration of the new one's. `fits`: where the stream moves, see `fits_journal`.
    """
    if version < Capability.PAUSE_CONSUMER.since:
        return f"nats-server {version} cannot pause a consumer"
    if stands_by_its_note(old):
        return "it was stopped before nats-server 2.11"
    if renumbered:
        return f"nats-server {version} numbers the messages anew"
    if any(consumer.get("deliver_subject") for consumer in (old, desired)):
        return "it pushes"
    if any(consumer.get("ack_policy") != "explicit" for consumer in (old, desired)):
        return "its messages are not acknowledged one by one"
    if desired.get("replay_policy") == "original":
        return "it replays at the pace at which messages came"
    if stream.get("retention") == "workqueue" and _reads_all_of(desired):
        return "a workqueue lets nothing stand beside a consumer that reads all of it"
    if not old.is_stopped and not _reads_on(old, desired):
        return "its filter changes"
    return _room_obstacle(old, stream, fits=fits)


def _room_obstacle(old: LiveResource, stream: Config, *, fits: bool) -> str | None:
    """Return why so much cannot stay open, in one clause; None if it can."""
    counts = consumer_counts(old)
    if (
        counts.num_ack_pending > MAX_UNFINISHED
        or counts.delivered_stream_seq - finished_up_to(old) > MAX_NUMBERS
    ):
        return "there are too many"
    if not fits and counts.num_ack_pending:
        return "there are too many in its stream"
    return open_limit_obstacle(max_open(stream), counts.num_ack_pending)


def _reads_all_of(desired: Resource) -> bool:
    """Return whether it reads whatever a placeholder waits for as well: a workqueue refuses one beside the other (10099, 10100)."""
    return any(overlap(wide, stop_subject(desired.ref)) for wide in read_patterns(desired))


def _reads_on(old: LiveResource, desired: Resource) -> bool:
    """Return whether the new consumer reads all that the old one read."""
    return all(
        any(covers(wide, subject) for wide in read_patterns(desired)) for subject in read_patterns(old)
    )
