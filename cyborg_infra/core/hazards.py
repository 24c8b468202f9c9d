"""What a change would cost, computed from the live counts. An upper bound says that it is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cyborg_infra.model.fields import FIELDS, Kind, Version
from cyborg_infra.model.plan import Action, Change, FieldChange, Hazard, HazardName
from cyborg_infra.model.state import ConsumerCounts, Resource, StreamCounts
from cyborg_infra.model.subjects import SubjectIndex, covers
from cyborg_infra.model.units import format_duration, format_size

PAUSE_SINCE = Version(2, 11, 0)

MASS_OF_AT_LEAST = 10
MASS_SHARE = 0.3


def of_plan(changes: Sequence[Change], owned: int) -> Iterator[Hazard]:
    """A blast radius: much of what the organisation owns deleted or replaced in one go is more often a mistake."""
    gone = sum(
        change.before is not None and change.action in (Action.REPLACE, Action.DELETE) for change in changes
    )
    if owned >= MASS_OF_AT_LEAST and gone > MASS_SHARE * owned:
        yield Hazard(
            HazardName.MASS_CHANGE,
            f"{gone} of {owned} owned resources would be deleted or replaced in one plan",
            gone,
        )


def of_stream_loss(
    live: Resource, others: Sequence[Resource], *, stored_after: SubjectIndex
) -> Iterator[Hazard]:
    """Deleting a stream, or recreating it empty: its messages, what `stored_after` no longer stores, `others`' consumers."""
    counts = _stream_counts(live)
    if counts.messages:
        yield Hazard(
            HazardName.DELETES_MESSAGES,
            f"{_messages(counts.messages, counts.bytes)} in the stream",
            counts.messages,
            counts.bytes,
        )
    yield from _uncaptured(_subjects(live), stored_after)
    yield from of_lost_consumers([consumer for consumer in others if consumer.ref.stream == live.ref.stream])


def of_lost_consumers(others: Sequence[Resource]) -> Iterator[Hazard]:
    """Consumers that go with their stream, and that nobody creates again."""
    if others:
        names = ", ".join(consumer.ref.consumer for consumer in others)
        yield Hazard(
            HazardName.RESETS_PROGRESS,
            f"{counted(len(others), 'consumer')} outside the manifest go with the stream: {names}",
            len(others),
        )


def of_consumer_replace(
    live: Resource, desired: Resource, stream: Resource, version: Version
) -> Iterator[Hazard]:
    """Recreating a consumer where the old one stood: exact, except for what this server cannot do.

    Before 2.11 a consumer cannot be paused. On a workqueue what was given up for good is still stored, and a new
    consumer starts with it.
    """
    counts = _consumer_counts(live)
    if version < PAUSE_SINCE and (counts.num_ack_pending or counts.num_waiting):
        most = counts.num_ack_pending + _value(live, "max_ack_pending")
        yield Hazard(
            HazardName.REPEATS_WORK,
            f"up to {counted(most, 'message')} could be handed out again: nats-server {version} cannot pause a consumer",
            most,
            exact=False,
        )
    given_up = _stream_counts(stream).messages - counts.num_pending - counts.num_ack_pending
    if (
        _value(live, "max_deliver") != 1
    ):  # the counts were not read at one moment; this one cannot be too high
        given_up = min(given_up, counts.num_redelivered)
    if stream.config.get("retention") == "workqueue" and given_up > 0:
        yield Hazard(
            HazardName.REPEATS_WORK,
            f"up to {counted(given_up, 'message')} given up before would be handed out again",
            given_up,
            exact=False,
        )
    starts = ("deliver_policy", "opt_start_seq", "opt_start_time")
    moved = any(_value(live, name) != _value(desired, name) for name in starts)
    if moved and counts.num_pending and _value(desired, "deliver_policy").startswith("by_start"):
        yield Hazard(
            HazardName.RESETS_PROGRESS,
            f"up to {counted(counts.num_pending, 'waiting message')} before the new start would be skipped",
            counts.num_pending,
            exact=False,
        )
    yield from _of_filter_change(live, desired, counts)


def of_consumer_delete(live: Resource) -> Iterator[Hazard]:
    """Deleting a consumer: what waits for it, and what is being worked on, reaches nobody through it."""
    counts = _consumer_counts(live)
    if counts.num_pending or counts.num_ack_pending:
        total = counts.num_pending + counts.num_ack_pending
        yield Hazard(
            HazardName.RESETS_PROGRESS,
            f"{counts.num_pending:,} waiting and {counts.num_ack_pending:,} unfinished messages would reach nobody",
            total,
        )


def of_update(
    live: Resource, desired: Resource, changes: Sequence[FieldChange], *, stored_after: SubjectIndex
) -> Iterator[Hazard]:
    """Changing a living resource in place."""
    if live.ref.kind is Kind.STREAM:
        yield from _of_stream_update(live, desired, {change.field for change in changes}, stored_after)
    else:
        yield from _of_consumer_update(live, desired, {change.field for change in changes})


def _of_stream_update(
    live: Resource, desired: Resource, changed: set[str], stored_after: SubjectIndex
) -> Iterator[Hazard]:
    counts = _stream_counts(live)
    if "retention" in changed and _value(desired, "retention") == "interest" and counts.messages:
        yield Hazard(
            HazardName.DELETES_MESSAGES,
            f"up to {_messages(counts.messages, counts.bytes)} that no consumer waits for",
            counts.messages,
            counts.bytes,
            exact=False,
        )
    if changed & {"max_msgs", "max_bytes", "max_age", "max_msgs_per_subject", "discard"}:
        yield from _shrinks(desired, counts, changed)
    if "subjects" in changed:
        yield from _uncaptured(_subjects(live), stored_after)
    if "sealed" in changed:
        yield Hazard(HazardName.STOPS_CAPTURE, "a sealed stream stores nothing more", len(_subjects(live)))


def _shrinks(desired: Resource, counts: StreamCounts, changed: set[str]) -> Iterator[Hazard]:
    """Limits that are below what the stream holds; under discard old the server deletes at once (max_age: always)."""
    drops_old = _value(desired, "discard") == "old"
    limit = _value(desired, "max_msgs")
    if drops_old and changed & {"max_msgs", "discard"} and 0 < limit < counts.messages:
        gone = counts.messages - limit
        yield Hazard(
            HazardName.DELETES_MESSAGES,
            f"{counted(gone, 'oldest message')} above {limit:,}",
            gone,
            counts.bytes * gone // counts.messages,
        )
    limit = _value(desired, "max_bytes")
    if drops_old and changed & {"max_bytes", "discard"} and 0 < limit < counts.bytes:
        over = counts.bytes - limit
        yield Hazard(
            HazardName.DELETES_MESSAGES,
            f"at least {format_size(over)} of the oldest messages, above {format_size(limit)}; {counts.messages:,} are stored",
            counts.messages,
            over,
            exact=False,
        )
    limit = _value(desired, "max_msgs_per_subject")
    if drops_old and changed & {"max_msgs_per_subject", "discard"} and 0 < limit < counts.messages:
        most = counts.messages - limit
        yield Hazard(
            HazardName.DELETES_MESSAGES,
            f"up to {counted(most, 'oldest message')} above {limit:,} per subject",
            most,
            counts.bytes,
            exact=False,
        )
    limit = _value(desired, "max_age")
    if "max_age" in changed and 0 < limit < counts.oldest_age and counts.messages:
        yield Hazard(
            HazardName.DELETES_MESSAGES,
            f"up to {_messages(counts.messages, counts.bytes)}, those older than {format_duration(limit)}",
            counts.messages,
            counts.bytes,
            exact=False,
        )


def _of_consumer_update(live: Resource, desired: Resource, changed: set[str]) -> Iterator[Hazard]:
    counts = _consumer_counts(live)
    working = counts.num_ack_pending
    if working and changed & {"ack_wait", "backoff"} and _first_wait(desired) < _first_wait(live):
        yield Hazard(
            HazardName.REPEATS_WORK,
            f"{counted(working, 'message')} being worked on would be handed out again after {format_duration(_first_wait(desired))} instead of {format_duration(_first_wait(live))}",
            working,
        )
    if (
        "max_deliver" in changed
        and counts.num_redelivered
        and fewer(_value(desired, "max_deliver"), _value(live, "max_deliver"))
    ):
        yield Hazard(
            HazardName.RESETS_PROGRESS,
            f"up to {counted(counts.num_redelivered, 'message')} already handed out more than once would be given up",
            counts.num_redelivered,
            exact=False,
        )
    if changed & {"filter_subject", "filter_subjects"}:
        yield from _of_filter_change(live, desired, counts)


def _of_filter_change(live: Resource, desired: Resource, counts: ConsumerCounts) -> Iterator[Hazard]:
    """The cursor stays where it is: what matches only the new filter below it is skipped (measured 2.10 to 2.15)."""
    old, new = _filters(live), _filters(desired)
    if set(old) == set(new):
        return
    if counts.num_pending and any(not any(covers(wide, subject) for wide in new) for subject in old):
        yield Hazard(
            HazardName.RESETS_PROGRESS,
            f"up to {counted(counts.num_pending, 'waiting message')} would no longer match the filter",
            counts.num_pending,
            exact=False,
        )
    if counts.delivered_stream_seq and any(not any(covers(wide, subject) for wide in old) for subject in new):
        yield Hazard(
            HazardName.RESETS_PROGRESS,
            f"messages up to sequence {counts.delivered_stream_seq:,} that match only the new filter would be skipped",
            counts.delivered_stream_seq,
            exact=False,
        )


def _uncaptured(before: Sequence[str], stored_after: SubjectIndex) -> Iterator[Hazard]:
    gone = [subject for subject in before if not stored_after.covers(subject)]
    if gone:
        partly = any(stored_after.overlapping(subject) for subject in gone)
        yield Hazard(
            HazardName.STOPS_CAPTURE,
            f"no stream would store {', '.join(gone)}"
            + (" any more, or only in part" if partly else " any more"),
            len(gone),
        )


def _value(resource: Resource, name: str) -> Any:
    return resource.canonical().get(name, FIELDS[resource.ref.kind][name].default)


def _first_wait(consumer: Resource) -> int:
    backoff = _value(consumer, "backoff")
    wait: int = min(backoff) if backoff else _value(consumer, "ack_wait")
    return wait


def fewer(new: int, old: int) -> bool:
    """Whether a max_deliver of `new` gives up earlier than `old` did; -1 is never."""
    return new > 0 and (old <= 0 or new < old)


def _filters(consumer: Resource) -> Sequence[str]:
    return _value(consumer, "filter_subjects") or (_value(consumer, "filter_subject") or ">",)


def _subjects(stream: Resource) -> list[str]:
    return list(stream.config.get("subjects") or ())


def _stream_counts(resource: Resource) -> StreamCounts:
    return resource.counts if isinstance(resource.counts, StreamCounts) else StreamCounts()


def _consumer_counts(resource: Resource) -> ConsumerCounts:
    return resource.counts if isinstance(resource.counts, ConsumerCounts) else ConsumerCounts()


def counted(number: int, noun: str) -> str:
    """`1,204 messages`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _messages(number: int, size: int) -> str:
    return f"{counted(number, 'message')} ({format_size(size)})"
