"""Hazards where a consumer leaves a stream and another one comes: only both together tell what is lost and what is repeated.

Where the new one takes the old one's place it goes on from there (`core.planning.renames`). Else it begins where its
deliver_policy says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.core.planning.hazards.building_blocks import format_count, hazard_of_amount, setting
from cyborg_infra.model.changes import Hazard, HazardName
from cyborg_infra.model.consumer_position import answers_for, read_patterns
from cyborg_infra.model.counting import CountKind, CountQuery, MessageCount
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import (
    DesiredResource,
    LiveResource,
    LiveState,
    Resource,
    consumer_counts,
    stream_counts,
)
from cyborg_infra.model.subjects import covers, overlap


def repeated_hazards(
    desired: DesiredResource, leaving: Sequence[LiveResource], live_state: LiveState
) -> Iterator[Hazard]:
    """Yield what a new consumer hands out again of what those that `leaving` hand over to it were handed."""
    if setting(desired, "deliver_policy") == "new":
        return
    counted: list[str] = []
    for old in sorted(leaving, key=lambda found: -consumer_counts(found).delivered_stream_seq):
        shared, exactly = _in_both(old, desired)
        stream = live_state.resources[Ref(old.ref.stream)]
        # Who has come further was handed the same messages and more.
        query = CountQuery(old.ref, CountKind.PASSED, subjects=shared, excluded_subjects=tuple(counted))
        counted += shared
        found = old.counts_by_query.get(query)
        passed = min(stream_counts(stream).messages, consumer_counts(old).delivered_stream_seq)
        amount = found or MessageCount(passed)
        if amount.messages:
            from_the_start = setting(desired, "deliver_policy") == "all" and answers_for(old, stream)
            reason = f"{format_count(amount.messages, 'message')} that {old.ref.consumer} was handed would be handed out again"
            yield hazard_of_amount(
                HazardName.REPEATS_WORK,
                reason,
                amount,
                query,
                exact=found is not None and exactly and from_the_start,
            )


def taken_over(coming: Sequence[DesiredResource]) -> tuple[str, ...]:
    """Return the filters of those new consumers that are handed all that is stored."""
    return tuple(
        subject
        for reader in coming
        if setting(reader, "deliver_policy") == "all"
        for subject in read_patterns(reader)
    )


def _in_both(one: Resource, other: Resource) -> tuple[tuple[str, ...], bool]:
    """Return patterns for what both consumers read; and whether they are for no more than that."""
    found: dict[str, bool] = {}
    for mine in read_patterns(one):
        for theirs in read_patterns(other):
            if covers(mine, theirs):
                found[theirs] = True
            elif overlap(mine, theirs):
                found[mine] = found.get(mine, False) or covers(theirs, mine)
    return tuple(found), all(found.values())
