"""Hazards of a whole plan and of changes of a stream: exact counts where possible, otherwise upper bounds that say so.

A hazard names the reading that would make it exact. So planning twice, with that reading in between, is enough:
the first plan may count too much, never too little.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Sequence
from itertools import combinations

from cyborg_infra.core.desired.naming import ADVISORIES
from cyborg_infra.core.planning.hazards import abandoned
from cyborg_infra.core.planning.hazards.building_blocks import (
    deletes,
    format_count,
    format_messages,
    hazard_of_amount,
    lost,
    passed_query,
    setting,
    unfinished_of,
)
from cyborg_infra.model.changes import Action, Change, FieldChange, Hazard, HazardName
from cyborg_infra.model.consumer_position import answers_for, filter_patterns, passed_by_all
from cyborg_infra.model.counting import CountKind, CountQuery, MessageCount, Share
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import (
    DesiredResource,
    DesiredState,
    LiveResource,
    LiveState,
    Resource,
    State,
    Unfinished,
    consumer_counts,
    stream_counts,
)
from cyborg_infra.model.server_versions import Capability
from cyborg_infra.model.subjects import SubjectIndex, covers, overlap
from cyborg_infra.model.units import format_duration, format_size

MASS_CHANGE_MIN_COUNT = 10
MASS_CHANGE_MIN_SHARE = 0.3


def plan_hazards(
    changes: Sequence[Change],
    resumable: Container[Ref],
    live: LiveState,
    owner: str,
    environment: str | None,
) -> Iterator[Hazard]:
    """Return the hazards of what is more often a mistake: another environment than before, and much deleted or replaced in one go.

    What goes on where it was interrupted was counted when it began, and what it has made so far is nothing of its own.
    """
    memory = live.server_info.applied_record if live.server_info else None
    if changes and memory and memory.environment != environment:
        yield Hazard(
            HazardName.ENVIRONMENT_CHANGE,
            f"{owner} was applied here {_environment_text(memory.environment)} ({memory.applied_at[:10]}), and this plan is {_environment_text(environment)}",
        )
    gone = [
        change.before
        for change in changes
        if change.before is not None
        and change.action in (Action.REPLACE, Action.DELETE)
        and Ref(change.ref.stream) not in resumable
    ]
    parts = {found.role or found.ref.stream for found in gone}  # one role that goes is no mass
    owned = sum(_is_owned(found, live, owner) for found in live.resources.values()) if len(parts) > 1 else 0
    if owned >= MASS_CHANGE_MIN_COUNT and len(gone) > MASS_CHANGE_MIN_SHARE * owned:
        yield Hazard(
            HazardName.MASS_CHANGE,
            f"{len(gone)} of {owned} owned resources would be deleted or replaced in one plan",
            len(gone),
        )


def _is_owned(found: LiveResource, live: LiveState, owner: str) -> bool:
    passing = (Unfinished.MIGRATING, Unfinished.PLACEHOLDER)
    stream = live.resources.get(Ref(found.ref.stream))
    moving = stream is not None and stream.unfinished is Unfinished.MIGRATING
    return found.owner == owner and found.unfinished not in passing and not moving


def redundancy_hazards(change: Change, live: LiveState, desired: DesiredState) -> Iterator[Hazard]:
    """Yield the hazard of fewer replicas of a stream or consumer. A consumer without a number of its own has its stream's."""
    before, after = change.before, change.after
    if before is None or after is None or change.action is Action.IMPOSSIBLE:
        return
    had, has = replicas_of(before, live), replicas_of(after, desired)
    follows = change.ref.consumer and not (setting(before, "num_replicas") or setting(after, "num_replicas"))
    if has < had and not follows:
        left = "one is left, and goes with its server" if has == 1 else f"{has} are left"
        yield Hazard(HazardName.LOSES_REDUNDANCY, f"of {had} copies {left}", had - has)


def replicas_of(resource: Resource, among: State[Resource]) -> int:
    """Return the number of replicas; a consumer without a number of its own has its stream's."""
    own: int = setting(resource, "num_replicas") or 0
    stream = among.resources.get(Ref(resource.ref.stream)) if resource.ref.consumer and not own else None
    return own or (setting(stream, "num_replicas") if stream else 0) or 1


def _environment_text(environment: str | None) -> str:
    return f"from environment {environment}" if environment else "without an environment"


def stream_loss_hazards(
    live: LiveResource, others: Sequence[LiveResource], subjects: Sequence[str], *, stored_after: SubjectIndex
) -> Iterator[Hazard]:
    """Return the hazards of deleting a stream or recreating it empty: its messages, those `subjects` of it that `stored_after` no longer stores, the consumers of `others`."""
    counts = stream_counts(live)
    yield from lost(
        live,
        CountQuery(live.ref, CountKind.STORED),
        MessageCount(counts.messages, counts.bytes),
        lambda gone: f"{format_messages(gone)} in the stream",
        exact=True,
    )
    yield from _uncaptured_hazards(subjects, stored_after)
    yield from lost_consumer_hazards(
        [consumer for consumer in others if consumer.ref.stream == live.ref.stream]
    )


def lost_consumer_hazards(others: Sequence[LiveResource]) -> Iterator[Hazard]:
    """Yield consumers that go with their stream, and that nobody creates again."""
    if others:
        names = ", ".join(consumer.ref.consumer for consumer in others)
        yield Hazard(
            HazardName.RESETS_PROGRESS,
            f"{format_count(len(others), 'consumer')} outside the manifest would go with the stream: {names}",
            len(others),
        )


def stream_update_hazards(
    live: LiveResource,
    desired: DesiredResource,
    changes: Sequence[FieldChange],
    live_state: LiveState,
    *,
    stored_after: SubjectIndex,
) -> Iterator[Hazard]:
    """Return the hazards of changing a living stream in place."""
    changed = {change.field for change in changes}
    if "retention" in changed and setting(desired, "retention") == "interest":
        empties = (
            live_state.server_info is None
            or live_state.server_info.version >= Capability.PURGE_WHAT_NOBODY_WAITS_FOR.since
        )
        yield from _interest_retention_hazards(live, live_state, empties=empties)
    yield from _lowered_limit_hazards(live, desired, changed)
    if "subjects" in changed:
        yield from _uncaptured_hazards(ingest_subjects(live), stored_after)
    if "placement" in changed and setting(desired, "placement"):
        yield from _placement_change_hazards(live, live_state)
    if "sealed" in changed:
        yield Hazard(
            HazardName.STOPS_CAPTURE, "a sealed stream stores nothing more", len(ingest_subjects(live))
        )


def _placement_change_hazards(live: LiveResource, live_state: LiveState) -> Iterator[Hazard]:
    """Yield the hazard of moving a stream: old servers do not always take along what its consumers know. A workqueue knows by itself."""
    facts = live_state.server_info
    if facts is None or not facts.cluster or facts.version >= Capability.KEEP_CONSUMER_STATE_WHEN_MOVED.since:
        return
    if setting(live, "retention") == "workqueue":
        return
    for reader in live_state.consumers(live.ref.stream):
        question = passed_query(reader)
        most = MessageCount(min(stream_counts(live).messages, consumer_counts(reader).delivered_stream_seq))
        amount = reader.counts_by_query.get(question, most)
        if amount.messages:
            yield hazard_of_amount(
                HazardName.REPEATS_WORK,
                f"{format_count(amount.messages, 'message')} could be handed out again: "
                f"nats-server {facts.version} may forget where {reader.ref.consumer} stands when its stream moves",
                amount,
                question,
                exact=False,
            )


def _interest_retention_hazards(
    live: LiveResource, live_state: LiveState, *, empties: bool
) -> Iterator[Hazard]:
    """Yield the hazard of a change to interest retention: it deletes what all consumers have acknowledged; since 2.15 everything if there is no consumer.

    What matches no consumer's filter stays (measured 2.10 to 2.15).
    """
    stored, readers = stream_counts(live), live_state.consumers(live.ref.stream)
    if not readers and stored.messages and empties:
        amount = MessageCount(stored.messages, stored.bytes)
        reason = f"{format_messages(amount)} that no consumer waits for"
        yield deletes(reason, amount, Share(amount.messages), exact=True)
    groups = _alike(readers)
    done = [_acknowledged_by_all(alike, stored.messages) for alike in groups.values()]
    gone = min(stored.messages, sum(most for most, _ in done))
    if gone:
        exact = all(known for _, known in done) and _are_disjoint(list(groups))
        share, more = abandoned.untold(readers, live_state)
        alone = _unanswered(live, readers)
        share = Share(min(share.messages + alone, gone), share.exact and not alone)
        questions = [*(passed_query(reader) for reader in readers), *more]
        reason = f"{format_count(gone, 'message')} that its consumers are done with"
        yield deletes(reason, MessageCount(gone), share, *questions, exact=exact)


def workqueue_hazards(live: LiveResource, live_state: LiveState) -> Iterator[Hazard]:
    """Yield the hazard of becoming a workqueue for a stream that keeps a history: it goes without what its consumers are done with.

    Dead letters are archived before, so that they go along. What was given up and no dead letter tells of goes, and so
    does what nobody has read and lies before what is finished: of both it is told as unfinished.
    """
    passed, question = (
        passed_by_all(live_state.consumers(live.ref.stream)),
        CountQuery(live.ref, CountKind.PASSED_BY_ALL),
    )
    most = max(0, stream_counts(live).messages - passed.open) if passed.last else 0
    found = live.counts_by_query.get(question)
    amount = MessageCount(most) if found is None else found
    if amount.messages:
        reason = f"{format_messages(amount)} that its consumers are done with"
        exact = found is not None and passed.is_known
        yield deletes(reason, amount, unfinished_of(live, amount), question, exact=exact)


def _alike(readers: Sequence[LiveResource]) -> dict[frozenset[str], list[LiveResource]]:
    """Return the consumers grouped by their filters."""
    groups: dict[frozenset[str], list[LiveResource]] = {}
    for reader in readers:
        groups.setdefault(frozenset(filter_patterns(reader)), []).append(reader)
    return groups


def _unanswered(live: LiveResource, readers: Sequence[LiveResource]) -> int:
    """Return an upper bound of the messages that only consumers have finished which cannot answer for it."""
    stored = stream_counts(live).messages
    return sum(
        _acknowledged_by_all(alike, stored)[0]
        for read, alike in _alike(readers).items()
        if not _answered_for(read, live, readers)
    )


def _answered_for(read: Collection[str], stream: LiveResource, readers: Sequence[LiveResource]) -> bool:
    """Return whether consumers whose word counts read everything of the stream that these filters take."""
    ours = [wide for reader in readers if answers_for(reader, stream) for wide in filter_patterns(reader)]
    taken = [
        narrow
        for wide in read
        for subject in stream.get("subjects") or (wide,)
        if overlap(wide, subject)
        for narrow in [wide if covers(subject, wide) else subject]
    ]
    return all(any(covers(wide, narrow) for wide in ours) for narrow in taken)


def _acknowledged_by_all(alike: Sequence[LiveResource], stored: int) -> tuple[int, bool]:
    """Return at most how many stored messages consumers with the same filter have all finished, and whether it is that many.

    Which of the delivered messages are acknowledged, the API does not say; without unfinished ones it is clear.
    """
    most, known = stored, True
    for reader in alike:
        counts, passed = consumer_counts(reader), reader.counts_by_query.get(passed_query(reader))
        settled = not counts.num_ack_pending and counts.ack_floor_stream_seq == counts.delivered_stream_seq
        known &= settled and passed is not None
        if passed is not None:
            most = min(most, passed.messages - counts.num_ack_pending)
    return max(0, most), known


def _are_disjoint(groups: Sequence[frozenset[str]]) -> bool:
    """Return whether no message matches filters of two groups."""
    return not any(
        overlap(mine, theirs) for one, other in combinations(groups, 2) for mine in one for theirs in other
    )


def _lowered_limit_hazards(
    live: LiveResource, desired: DesiredResource, changed: set[str]
) -> Iterator[Hazard]:
    """Yield limits that are below what the stream holds, each for itself; the server deletes at once.

    max_msgs and max_bytes do so under discard old alone, the others always (measured 2.10 to 2.15). Up to
    2.14.0 the first max_msgs_per_subject of a stream deletes only with the next message of the subject, or when
    the server starts.
    """
    counts, drops_old = stream_counts(live), setting(desired, "discard") == "old"
    stored = MessageCount(counts.messages, counts.bytes)
    limit = setting(desired, "max_msgs")
    if drops_old and changed & {"max_msgs", "discard"} and 0 < limit < counts.messages:
        most_msgs = f"above {limit:,}"
        yield from lost(
            live,
            CountQuery(live.ref, CountKind.ABOVE_COUNT, limit),
            MessageCount(counts.messages - limit),
            lambda gone: f"{format_messages(gone, 'oldest message')} {most_msgs}",
            exact=True,
        )
    limit = setting(desired, "max_bytes")
    if drops_old and changed & {"max_bytes", "discard"} and 0 < limit < counts.bytes:
        above = f"above {format_size(limit)}"
        least = f"at least {format_size(counts.bytes - limit)}"
        yield from lost(
            live,
            CountQuery(live.ref, CountKind.ABOVE_SIZE, limit),
            MessageCount(counts.messages),
            lambda gone: (
                f"{format_messages(gone, 'oldest message')}{'' if gone.bytes else f', {least},'} {above}"
            ),
        )
    limit = setting(desired, "max_msgs_per_subject")
    most = counts.messages - limit - max(0, counts.num_subjects - 1)  # each subject has at least one
    if "max_msgs_per_subject" in changed and limit > 0 and most > 0:
        per_subject = f"above {limit:,} per subject"
        yield from lost(
            live,
            CountQuery(live.ref, CountKind.ABOVE_PER_SUBJECT, limit),
            MessageCount(most),
            lambda gone: f"{format_messages(gone, 'oldest message')} {per_subject}",
        )
    limit = setting(desired, "max_age")
    if "max_age" in changed and 0 < limit < counts.oldest_age and counts.messages:
        older = f"older than {format_duration(limit)}"
        yield from lost(
            live,
            CountQuery(live.ref, CountKind.OLDER, limit),
            stored,
            lambda gone: f"{format_messages(gone)} {older}",
        )


def _uncaptured_hazards(before: Sequence[str], stored_after: SubjectIndex) -> Iterator[Hazard]:
    gone = [subject for subject in before if not stored_after.covers(subject)]
    if gone:
        partly = any(stored_after.overlapping(subject) for subject in gone)
        yield Hazard(
            HazardName.STOPS_CAPTURE,
            f"no stream would store {', '.join(dict.fromkeys(map(_meant, gone)))}"
            + (" any more, or only in part" if partly else " any more"),
            len(gone),
        )


def _meant(subject: str) -> str:
    """Return the subject in words: of an advisory (`ADVISORIES.<kind>.<stream>.<consumer>`), whose dead letters come on it."""
    return (
        f"the dead letters of {subject.split('.')[-2]}" if subject.startswith(f"{ADVISORIES}.") else subject
    )


def ingest_subjects(stream: LiveResource) -> list[str]:
    """Return the subjects on which somebody publishes to the stream: none if it is fenced."""
    if stream.is_fenced:
        return []
    return list(stream.get("subjects"))


def foreign_subjects(stream: LiveResource) -> list[str]:
    """Return the subjects of the stream that begin neither with its organisation's name nor as a bucket's do: others publish there."""
    own = f"{stream.owner}.", "$KV."
    return [subject for subject in ingest_subjects(stream) if not subject.startswith(own)]
