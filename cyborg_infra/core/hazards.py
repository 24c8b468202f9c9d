"""What a plan, or the change of a stream, would cost: exact where the live counts or a closer reading allow it, else a bound that says so.

A hazard names the reading that would make it exact. So planning twice, with that reading in between, is enough:
the first plan may count too much, never too little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from cyborg_infra.core.costs import (
    all_passed,
    consumer_counts,
    counted,
    filters,
    hazard,
    measured,
    messages,
    stream_counts,
    value,
)
from cyborg_infra.model.fields import Version
from cyborg_infra.model.plan import Action, Change, FieldChange, Hazard, HazardName
from cyborg_infra.model.state import Amount, Measure, Question, Resource, State
from cyborg_infra.model.subjects import SubjectIndex, overlap
from cyborg_infra.model.units import format_duration, format_size

EMPTIES_SINCE = Version(2, 15, 0)  # a stream without consumers that turns to interest; before, it keeps all

REMEMBERS_ON_THE_WAY = Version(2, 11, 0)
"""Measured in clusters of three: moved alone to another server, a consumer of 2.10.26 may begin again; see decision 18."""

MASS_OF_AT_LEAST = 10
MASS_SHARE = 0.3


def of_plan(changes: Sequence[Change], live: State, owner: str) -> Iterator[Hazard]:
    """A blast radius: much of what the organisation owns deleted or replaced in one go is more often a mistake."""
    gone = sum(
        change.before is not None and change.action in (Action.REPLACE, Action.DELETE) for change in changes
    )
    owned = sum(found.owner == owner for found in live.resources.values()) if gone else 0
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
    counts = stream_counts(live)
    if counts.messages:
        yield Hazard(
            HazardName.DELETES_MESSAGES,
            f"{messages(Amount(counts.messages, counts.bytes))} in the stream",
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
            f"{counted(len(others), 'consumer')} outside the manifest would go with the stream: {names}",
            len(others),
        )


def of_update(
    live: Resource,
    desired: Resource,
    changes: Sequence[FieldChange],
    found: State,
    *,
    stored_after: SubjectIndex,
) -> Iterator[Hazard]:
    """Changing a living stream in place."""
    changed = {change.field for change in changes}
    if "retention" in changed and value(desired, "retention") == "interest":
        empties = found.facts is None or found.facts.version >= EMPTIES_SINCE
        yield from _unwanted(live, found.consumers(live.ref.stream), empties=empties)
    yield from _shrinks(live, desired, changed)
    if "subjects" in changed:
        yield from _uncaptured(_subjects(live), stored_after)
    if "placement" in changed and value(desired, "placement"):
        yield from _forgotten_on_the_way(live, found)
    if "sealed" in changed:
        yield Hazard(HazardName.STOPS_CAPTURE, "a sealed stream stores nothing more", len(_subjects(live)))


def _forgotten_on_the_way(live: Resource, found: State) -> Iterator[Hazard]:
    """A stream that moves takes its consumers along, on old servers not always with what they know. A workqueue itself knows."""
    facts = found.facts
    if facts is None or not facts.cluster or facts.version >= REMEMBERS_ON_THE_WAY:
        return
    if value(live, "retention") == "workqueue":
        return
    for reader in found.consumers(live.ref.stream):
        question = all_passed(reader)
        most = Amount(min(stream_counts(live).messages, consumer_counts(reader).delivered_stream_seq))
        amount = reader.measured.get(question, most)
        if amount.messages:
            yield hazard(
                HazardName.REPEATS_WORK,
                f"{counted(amount.messages, 'message')} could be handed out again: "
                f"nats-server {facts.version} may forget where {reader.ref.consumer} stands when its stream moves",
                amount,
                question,
                exact=False,
            )


def _unwanted(live: Resource, readers: Sequence[Resource], *, empties: bool) -> Iterator[Hazard]:
    """Turning to interest, a stream loses what its consumers are done with; since 2.15 everything if it has none.

    What matches no consumer's filter stays (measured 2.10 to 2.15).
    """
    stored, name = stream_counts(live), HazardName.DELETES_MESSAGES
    if not readers and stored.messages and empties:
        amount = Amount(stored.messages, stored.bytes)
        yield Hazard(name, f"{messages(amount)}: no consumer waits for any", amount.messages, amount.bytes)
    groups: dict[frozenset[str], list[Resource]] = {}
    for reader in readers:
        groups.setdefault(frozenset(filters(reader)), []).append(reader)
    done = [_done(alike, stored.messages) for alike in groups.values()]
    gone = min(stored.messages, sum(most for most, _ in done))
    if gone:
        exact = all(known for _, known in done) and _apart(list(groups))
        questions = [all_passed(reader) for reader in readers]
        reason = f"{counted(gone, 'message')} that its consumers are done with"
        yield hazard(name, reason, Amount(gone), *questions, exact=exact)


def _done(alike: Sequence[Resource], stored: int) -> tuple[int, bool]:
    """At most how many stored messages consumers with the same filter have all finished, and whether it is that many.

    Which of the delivered messages are acknowledged, the API does not say; without unfinished ones it is clear.
    """
    most, known = stored, True
    for reader in alike:
        counts, passed = consumer_counts(reader), reader.measured.get(all_passed(reader))
        settled = not counts.num_ack_pending and counts.ack_floor_stream_seq == counts.delivered_stream_seq
        known &= settled and passed is not None
        if passed is not None:
            most = min(most, passed.messages - counts.num_ack_pending)
    return max(0, most), known


def _apart(groups: Sequence[frozenset[str]]) -> bool:
    """Whether no message matches filters of two groups."""
    return not any(
        overlap(mine, theirs) for one, other in combinations(groups, 2) for mine in one for theirs in other
    )


def _shrinks(live: Resource, desired: Resource, changed: set[str]) -> Iterator[Hazard]:
    """Limits that are below what the stream holds, each for itself; the server deletes at once.

    max_msgs and max_bytes do so under discard old alone, the others always (measured 2.10 to 2.15). Up to
    2.14.0 the first max_msgs_per_subject of a stream deletes only with the next message of the subject, or when
    the server starts.
    """
    counts, drops_old = stream_counts(live), value(desired, "discard") == "old"
    stored = Amount(counts.messages, counts.bytes)
    name = HazardName.DELETES_MESSAGES
    limit = value(desired, "max_msgs")
    if drops_old and changed & {"max_msgs", "discard"} and 0 < limit < counts.messages:
        question = Question(live.ref, Measure.ABOVE_COUNT, limit)
        gone = live.measured.get(question, Amount(counts.messages - limit))
        if gone.messages:
            yield hazard(
                name, f"{messages(gone, 'oldest message')} above {limit:,}", gone, question, exact=True
            )
    limit = value(desired, "max_bytes")
    if drops_old and changed & {"max_bytes", "discard"} and 0 < limit < counts.bytes:
        question = Question(live.ref, Measure.ABOVE_SIZE, limit)
        above = f"above {format_size(limit)}"
        least = f"at least {format_size(counts.bytes - limit)}"
        yield from measured(
            name,
            live,
            question,
            Amount(counts.messages),
            lambda gone: f"{messages(gone, 'oldest message')}{'' if gone.bytes else f', {least},'} {above}",
        )
    limit = value(desired, "max_msgs_per_subject")
    most = counts.messages - limit - max(0, counts.num_subjects - 1)  # each subject has at least one
    if "max_msgs_per_subject" in changed and limit > 0 and most > 0:
        question = Question(live.ref, Measure.ABOVE_PER_SUBJECT, limit)
        above = f"above {limit:,} per subject"
        yield from measured(
            name, live, question, Amount(most), lambda gone: f"{messages(gone, 'oldest message')} {above}"
        )
    limit = value(desired, "max_age")
    if "max_age" in changed and 0 < limit < counts.oldest_age and counts.messages:
        question = Question(live.ref, Measure.OLDER, limit)
        older = f"older than {format_duration(limit)}"
        yield from measured(name, live, question, stored, lambda gone: f"{messages(gone)} {older}")


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


def _subjects(stream: Resource) -> list[str]:
    return list(stream.config.get("subjects") or ())
