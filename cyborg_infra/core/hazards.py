"""What a change would cost: exact where the live counts or a closer reading allow it, else a bound that says so.

A hazard names the reading that would make it exact. So planning twice, with that reading in between, is enough:
the first plan may count too much, never too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

from cyborg_infra.model.fields import FIELDS, Kind, Version
from cyborg_infra.model.plan import Action, Change, FieldChange, Hazard, HazardName
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
from cyborg_infra.model.subjects import SubjectIndex, covers, overlap
from cyborg_infra.model.units import format_duration, format_size

PAUSE_SINCE = Version(2, 11, 0)
RESET_SINCE = Version(2, 14, 0)

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
            f"{_messages(Amount(counts.messages, counts.bytes))} in the stream",
            counts.messages,
            counts.bytes,
        )
    yield from _uncaptured(_subjects(live), stored_after)
    strangers = [consumer for consumer in others if consumer.ref.stream == live.ref.stream]
    if strangers:
        names = ", ".join(consumer.ref.consumer for consumer in strangers)
        yield Hazard(
            HazardName.RESETS_PROGRESS,
            f"{_count(len(strangers), 'consumer')} outside the manifest would go with the stream: {names}",
            len(strangers),
        )


def of_consumer_replace(
    live: Resource, desired: Resource, found: State, version: Version
) -> Iterator[Hazard]:
    """Recreating a consumer where the old one stood: it costs only what this server cannot do, and what changes with it."""
    counts, workqueue = _consumer_counts(live), _retention(live, found) == "workqueue"
    if version < PAUSE_SINCE and (counts.num_ack_pending or counts.num_waiting):
        window = _value(live, "max_ack_pending")
        most = counts.num_ack_pending + (window if window > 0 else counts.num_pending)
        yield Hazard(
            HazardName.REPEATS_WORK,
            f"up to {_count(most, 'message')} could be handed out again: nats-server {version} cannot pause a consumer",
            most,
            exact=False,
        )
    if workqueue:
        yield from _given_up(live, found)
    yield from _of_later_start(live, desired, version)
    yield from _of_filter_change(live, desired, found, starts_over=workqueue)


def _given_up(live: Resource, found: State) -> Iterator[Hazard]:
    """What a workqueue still stores behind a consumer, beside what is being worked on: a new consumer starts with it."""
    counts, question = _consumer_counts(live), _passed(live)
    passed = live.measured.get(question)
    if passed is not None:
        most = passed.messages - counts.num_ack_pending
    elif _value(live, "max_deliver") == 1:  # nothing counts those that were handed out once
        most = _stream_counts(_stream(live, found)).messages
    else:
        most = counts.num_redelivered
    if most > 0 and counts.delivered_stream_seq:
        yield _hazard(
            HazardName.REPEATS_WORK,
            f"{_count(most, 'message')} given up before would be handed out again",
            Amount(most),
            question,
            exact=passed is not None,
        )


def _of_later_start(live: Resource, desired: Resource, version: Version) -> Iterator[Hazard]:
    """A start beyond the old position holds; before 2.14 a consumer that is carried over can have no start by time."""
    counts, policy = _consumer_counts(live), _value(desired, "deliver_policy")
    starts = ("deliver_policy", "opt_start_seq", "opt_start_time")
    if not counts.num_pending or all(_value(live, name) == _value(desired, name) for name in starts):
        return

    def told(amount: Amount) -> str:
        return f"{_count(amount.messages, 'waiting message')} before the new start would be skipped"

    if policy == "by_start_sequence":
        start = _value(desired, "opt_start_seq")
        question = Question(live.ref, Measure.WAITING, start, within=_filters(live))
        yield from _measured(HazardName.RESETS_PROGRESS, live, question, Amount(counts.num_pending), told)
    elif policy == "by_start_time" and version >= RESET_SINCE:
        most = Amount(counts.num_pending)
        yield _hazard(HazardName.RESETS_PROGRESS, told(most), most, exact=False)


def of_consumer_delete(live: Resource, found: State) -> Iterator[Hazard]:
    """Deleting a consumer: what waits for it, and what is being worked on, reaches nobody through it."""
    counts = _consumer_counts(live)
    waiting, working = counts.num_pending, counts.num_ack_pending
    if not waiting and not working:
        return
    if not working:
        reason = f"{_count(waiting, 'waiting message')} would no longer be delivered"
    elif not waiting:
        reason = f"{_count(working, 'message')} being worked on would not be delivered again"
    else:
        reason = f"{_count(waiting + working, 'unfinished message')} would no longer be delivered: {waiting:,} waiting, {working:,} being worked on"
    yield Hazard(HazardName.RESETS_PROGRESS, reason, waiting + working)
    yield from _of_lost_interest(live, (), found)


def _of_lost_interest(live: Resource, kept: Sequence[str], found: State) -> Iterator[Hazard]:
    """On an interest stream the server deletes at once what no consumer waits for any more; `kept` are filters that stay."""
    counts = _consumer_counts(live)
    unfinished = counts.num_pending + counts.num_ack_pending
    if _retention(live, found) != "interest" or not unfinished:
        return
    others = [other for other in found.consumers(live.ref.stream) if other.ref != live.ref]
    alone = not any(
        overlap(mine, theirs)
        for mine in _filters(live)
        for theirs in (*kept, *(subject for other in others for subject in _filters(other)))
    )
    yield _hazard(
        HazardName.DELETES_MESSAGES,
        f"{_count(unfinished, 'message')} that only this consumer waits for",
        Amount(unfinished),
        exact=alone,
    )


def of_update(
    live: Resource,
    desired: Resource,
    changes: Sequence[FieldChange],
    found: State,
    *,
    stored_after: SubjectIndex,
) -> Iterator[Hazard]:
    """Changing a living resource in place."""
    changed = {change.field for change in changes}
    if live.ref.kind is Kind.STREAM:
        yield from _of_stream_update(live, desired, changed, found, stored_after)
    else:
        yield from _of_consumer_update(live, desired, changed, found)


def _of_stream_update(
    live: Resource, desired: Resource, changed: set[str], found: State, stored_after: SubjectIndex
) -> Iterator[Hazard]:
    if "retention" in changed and _value(desired, "retention") == "interest":
        yield from _unwanted(live, found.consumers(live.ref.stream))
    yield from _shrinks(live, desired, changed)
    if "subjects" in changed:
        yield from _uncaptured(_subjects(live), stored_after)
    if "sealed" in changed:
        yield Hazard(HazardName.STOPS_CAPTURE, "a sealed stream stores nothing more", len(_subjects(live)))


def _unwanted(live: Resource, readers: Sequence[Resource]) -> Iterator[Hazard]:
    """Turning to interest, the server deletes what its consumers are done with; without any consumer, everything.

    What matches no consumer's filter stays (measured 2.10 to 2.15).
    """
    stored, name = _stream_counts(live), HazardName.DELETES_MESSAGES
    if not readers and stored.messages:
        amount = Amount(stored.messages, stored.bytes)
        yield Hazard(name, f"{_messages(amount)}: no consumer waits for any", amount.messages, amount.bytes)
    groups: dict[frozenset[str], list[Resource]] = {}
    for reader in readers:
        groups.setdefault(frozenset(_filters(reader)), []).append(reader)
    done = [_done(alike, stored.messages) for alike in groups.values()]
    gone = min(stored.messages, sum(most for most, _ in done))
    if gone:
        exact = all(known for _, known in done) and _apart(list(groups))
        questions = [_passed(reader) for reader in readers]
        reason = f"{_count(gone, 'message')} that its consumers are done with"
        yield _hazard(name, reason, Amount(gone), *questions, exact=exact)


def _done(alike: Sequence[Resource], stored: int) -> tuple[int, bool]:
    """At most how many stored messages consumers with the same filter have all finished, and whether it is that many.

    Which of the delivered messages are acknowledged, the API does not say; without unfinished ones it is clear.
    """
    most, known = stored, True
    for reader in alike:
        counts, passed = _consumer_counts(reader), reader.measured.get(_passed(reader))
        settled = not counts.num_ack_pending and counts.ack_floor_stream_seq == counts.delivered_stream_seq
        known &= settled and passed is not None
        if passed is not None:
            most = min(most, passed.messages - counts.num_ack_pending)
    return max(0, most), known


def _passed(consumer: Resource) -> Question:
    return Question(consumer.ref, Measure.PASSED, within=_filters(consumer))


def _apart(groups: Sequence[frozenset[str]]) -> bool:
    """Whether no message matches filters of two groups."""
    return not any(
        overlap(mine, theirs) for one, other in combinations(groups, 2) for mine in one for theirs in other
    )


def _shrinks(live: Resource, desired: Resource, changed: set[str]) -> Iterator[Hazard]:
    """Limits that are below what the stream holds, each for itself; the server deletes at once.

    max_msgs and max_bytes do so under discard old alone, the others always (measured 2.10 to 2.15). Before 2.11
    the first max_msgs_per_subject under discard new, or of a stream that had none, deletes with the next message.
    """
    counts, drops_old = _stream_counts(live), _value(desired, "discard") == "old"
    stored = Amount(counts.messages, counts.bytes)
    name = HazardName.DELETES_MESSAGES
    limit = _value(desired, "max_msgs")
    if drops_old and changed & {"max_msgs", "discard"} and 0 < limit < counts.messages:
        question = Question(live.ref, Measure.ABOVE_COUNT, limit)
        gone = live.measured.get(question, Amount(counts.messages - limit))
        if gone.messages:
            yield _hazard(
                name, f"{_messages(gone, 'oldest message')} above {limit:,}", gone, question, exact=True
            )
    limit = _value(desired, "max_bytes")
    if drops_old and changed & {"max_bytes", "discard"} and 0 < limit < counts.bytes:
        question = Question(live.ref, Measure.ABOVE_SIZE, limit)
        above = f"above {format_size(limit)}"
        least = f"at least {format_size(counts.bytes - limit)}"
        yield from _measured(
            name,
            live,
            question,
            Amount(counts.messages),
            lambda gone: f"{_messages(gone, 'oldest message')}{'' if gone.bytes else f', {least},'} {above}",
        )
    limit = _value(desired, "max_msgs_per_subject")
    most = counts.messages - limit - max(0, counts.num_subjects - 1)  # each subject has at least one
    if "max_msgs_per_subject" in changed and limit > 0 and most > 0:
        question = Question(live.ref, Measure.ABOVE_PER_SUBJECT, limit)
        above = f"above {limit:,} per subject"
        yield from _measured(
            name, live, question, Amount(most), lambda gone: f"{_messages(gone, 'oldest message')} {above}"
        )
    limit = _value(desired, "max_age")
    if "max_age" in changed and 0 < limit < counts.oldest_age and counts.messages:
        question = Question(live.ref, Measure.OLDER, limit)
        older = f"older than {format_duration(limit)}"
        yield from _measured(name, live, question, stored, lambda gone: f"{_messages(gone)} {older}")


def _of_consumer_update(
    live: Resource, desired: Resource, changed: set[str], found: State
) -> Iterator[Hazard]:
    if changed & {"ack_wait", "backoff"}:
        yield from _of_shorter_wait(live, desired)
    if "max_deliver" in changed and fewer(_value(desired, "max_deliver"), _value(live, "max_deliver")):
        yield from _of_fewer_deliveries(live, desired)
    if changed & {"filter_subject", "filter_subjects"}:
        yield from _of_filter_change(live, desired, found)


def _of_shorter_wait(live: Resource, desired: Resource) -> Iterator[Hazard]:
    """The server times what is being worked on anew, at once. Which delivery a message is at, it does not tell."""
    counts, old, new = _consumer_counts(live), _waits(live), _waits(desired)
    steps = range(max(len(old), len(new)))
    waits = [(old[min(step, len(old) - 1)], new[min(step, len(new) - 1)]) for step in steps]
    shorter = [step for step, (before, after) in zip(steps, waits, strict=True) if after < before]
    again = min(counts.num_ack_pending, counts.num_redelivered)  # at most so many are beyond the first step
    most = again if shorter and shorter[0] > 0 else counts.num_ack_pending
    if not shorter or not most:
        return
    before, after = waits[shorter[0]]
    once = _value(desired, "max_deliver") == 1
    yield _hazard(
        HazardName.RESETS_PROGRESS if once else HazardName.REPEATS_WORK,
        f"{_count(most, 'message')} being worked on would be {'given up' if once else 'handed out again'} "
        f"after {format_duration(after)} instead of {format_duration(before)}",
        Amount(most),
        exact=once or not again,
    )


def _of_fewer_deliveries(live: Resource, desired: Resource) -> Iterator[Hazard]:
    """What has been delivered so often already is not delivered again. Only "more than once" is counted by the server."""
    counts, limit = _consumer_counts(live), _value(desired, "max_deliver")
    most = counts.num_ack_pending if limit == 1 else min(counts.num_ack_pending, counts.num_redelivered)
    if most:
        tried = "" if limit == 1 else f", delivered {limit} times or more,"
        yield _hazard(
            HazardName.RESETS_PROGRESS,
            f"{_count(most, 'message')} being worked on{tried} would not be handed out again",
            Amount(most),
            exact=limit == 1,
        )


def _of_filter_change(
    live: Resource, desired: Resource, found: State, *, starts_over: bool = False
) -> Iterator[Hazard]:
    """The cursor stays where it is: what matches only the new filter below it is skipped (measured 2.10 to 2.15)."""
    counts, old, new = _consumer_counts(live), _filters(live), _filters(desired)
    if set(old) == set(new):
        return
    name = HazardName.RESETS_PROGRESS
    if any(not any(covers(wide, subject) for wide in new) for subject in old):
        yield from _measured(
            name,
            live,
            Question(live.ref, Measure.WAITING, within=old, without=new),
            Amount(counts.num_pending),
            lambda gone: f"{_count(gone.messages, 'waiting message')} would no longer match the filter",
        )
        yield from _of_lost_interest(live, new, found)
    if not starts_over and any(not any(covers(wide, subject) for wide in old) for subject in new):
        yield from _measured(
            name,
            live,
            Question(live.ref, Measure.PASSED, within=new, without=old),
            Amount(counts.delivered_stream_seq),
            lambda gone: (
                f"{_count(gone.messages, 'earlier message')} that only the new filter matches would be skipped"
            ),
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


def _measured(
    name: HazardName, live: Resource, question: Question, most: Amount, told: Callable[[Amount], str]
) -> Iterator[Hazard]:
    """What was measured, or `most` as long as it was not; nothing where there is nothing."""
    found = live.measured.get(question)
    amount = found or most
    if amount.messages:
        yield _hazard(name, told(amount), amount, question, exact=found is not None)


def _hazard(name: HazardName, reason: str, amount: Amount, *questions: Question, exact: bool) -> Hazard:
    bound = reason if exact else f"up to {reason}"
    return Hazard(name, bound, amount.messages, amount.bytes, exact=exact, questions=questions)


def _value(resource: Resource, name: str) -> Any:
    return resource.canonical().get(name, FIELDS[resource.ref.kind][name].default)


def _waits(consumer: Resource) -> Sequence[int]:
    """How long the server waits for an acknowledgement, delivery by delivery; the last holds for all that follow."""
    return _value(consumer, "backoff") or (_value(consumer, "ack_wait"),)


def fewer(new: int, old: int) -> bool:
    """Whether a max_deliver of `new` gives up earlier than `old` did; -1 is never."""
    return new > 0 and (old <= 0 or new < old)


def _filters(consumer: Resource) -> tuple[str, ...]:
    return tuple(_value(consumer, "filter_subjects") or (_value(consumer, "filter_subject") or ">",))


def _subjects(stream: Resource) -> list[str]:
    return list(stream.config.get("subjects") or ())


def _stream(consumer: Resource, found: State) -> Resource:
    return found.resources[Ref(consumer.ref.stream)]


def _retention(consumer: Resource, found: State) -> str:
    retention: str = _value(_stream(consumer, found), "retention")
    return retention


def _stream_counts(resource: Resource) -> StreamCounts:
    return resource.counts if isinstance(resource.counts, StreamCounts) else StreamCounts()


def _consumer_counts(resource: Resource) -> ConsumerCounts:
    return resource.counts if isinstance(resource.counts, ConsumerCounts) else ConsumerCounts()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _messages(amount: Amount, noun: str = "message") -> str:
    return _count(amount.messages, noun) + (f" ({format_size(amount.bytes)})" if amount.bytes else "")
