"""Find what an interrupted replace left on the server, and plan the changes that resume it."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, assert_never

from cyborg_infra.core.planning.hazards.building_blocks import format_count, hazard_of_amount
from cyborg_infra.model import stream_copies
from cyborg_infra.model.changes import (
    LEFT_PAUSED,
    Adopt,
    Blocked,
    Cause,
    Change,
    Create,
    Delete,
    FieldChange,
    Hazard,
    HazardName,
    Migrate,
    Replace,
    Restore,
    Update,
    as_replace,
)
from cyborg_infra.model.counting import CountKind, CountQuery, MessageCount
from cyborg_infra.model.metadata_keys import BECOMES_KEY, JOURNAL_KEY
from cyborg_infra.model.packed_text import unpack
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import PLACEHOLDER_PREFIX, Ref
from cyborg_infra.model.resources import DesiredResource, DesiredState, LiveResource, LiveState, StreamCounts

RESUME_REASON = "goes on where an interrupted replace stopped"


def find_resumable(
    orphans: Sequence[LiveResource], live: LiveState, desired: DesiredState, owner: str
) -> dict[Ref, Ref]:
    """Return desired resource -> what the owner has kept for it: a consumer's placeholder, or the stream of a migration.

    Among what is `orphans`, or a stream on its way to another name that the manifest has again.
    """
    moving = [stream for stream in live.streams() if BECOMES_KEY in stream.metadata and stream.owner == owner]
    return {
        successor: found.ref
        for found in (*orphans, *moving)
        if (successor := _successor_ref(found)) in desired.resources and successor
    }


def _successor_ref(found: LiveResource) -> Ref | None:
    """Return the resource that a placeholder or a temporary stream stands for; None for any other resource."""
    stream, consumer = found.ref.stream, found.ref.consumer
    if found.ref.is_placeholder:
        return Ref(stream, consumer.removeprefix(PLACEHOLDER_PREFIX))
    if not consumer and (becomes := found.metadata.get(BECOMES_KEY)):
        return Ref(becomes)
    return None


def with_resumed_migrations(
    changes: Sequence[Change], resumable: Mapping[Ref, Ref], live: LiveState, desired: DesiredState
) -> list[Change]:
    """Return the changes, in which each interrupted migration and consumer replacement resumes, with a change of its own if it had none."""
    if not resumable:
        return list(changes)
    changed = {change.ref: change for change in changes}
    for ref, wanted in desired.resources.items():
        if ref not in resumable and Ref(ref.stream) not in resumable:
            continue
        known = changed.get(ref)
        if known is None:
            known = Update(live.resources[ref], wanted, cause=Cause.DRIFT)
        method = Restore() if ref.consumer else Migrate(resumable[ref])
        changed[ref] = _resumed(known, method)
    return list(changed.values())


def _resumed(change: Change, method: Migrate | Restore) -> Change:
    match change:
        case Blocked():
            resumed = _resumed(change.change, method)
            return change if isinstance(resumed, Blocked) else replace(change, change=resumed)
        case Create() | Adopt() | Update() | Replace():
            return replace(change, method=method, reason=RESUME_REASON)
        case Delete():
            raise ValueError(f"{change.ref} is desired, and not deleted")
        case _:
            assert_never(change)


def check_open_target(change: Change, resumable: Mapping[Ref, Ref], live: LiveState) -> Iterator[Problem]:
    """Yield why an interrupted migration cannot end as the manifest has it now: the new stream takes messages in already."""
    target = live.resources.get(change.ref)
    temporary = live.resources.get(resumable[change.ref]) if change.ref in resumable else None
    if target is None or temporary is None or change.after is None or change.ref.consumer:
        return
    if JOURNAL_KEY not in temporary.metadata or temporary.is_copy or target.is_copy or target.is_fenced:
        return
    method = _journal(temporary).get("route", stream_copies.MIRROR)
    if not stream_copies.can_become(target, change.after, method):
        yield stream_copies.changed_meanwhile_problem(change.after)


def _journal(temporary: LiveResource) -> Mapping[str, Any]:
    """Return what the temporary stream remembers of the migration; nothing if that cannot be read, which the apply says before it writes."""
    try:
        noted = json.loads(unpack(temporary.metadata.get(JOURNAL_KEY, "")))
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


def resume_hazards(change: Change, temporary_stream: LiveResource, live: LiveState) -> Iterator[Hazard]:
    """Yield what going on hands out again: of a stream in memory that has died with its server while it was copied.

    Until its consumers stood still nobody noted what they did. Everything else was allowed when the replace began.
    """
    journal, counts = _journal(temporary_stream), temporary_stream.counts
    died = Ref(change.ref.stream) not in live.resources and temporary_stream.is_copy
    noted = {**(journal.get("floors") or {}), **(journal.get("positions") or {})}
    position = noted.get(change.ref.consumer)
    if not died or journal.get("still") or position is None or not isinstance(counts, StreamCounts):
        return
    question = CountQuery(temporary_stream.ref, CountKind.COPIED, position)
    most = temporary_stream.counts_by_query.get(question, MessageCount(counts.messages)).messages
    if most:
        reason = f"{format_count(most, 'message')} could be handed out again: {change.ref.stream} died while it was replaced, and what was done meanwhile is not known"
        yield hazard_of_amount(HazardName.REPEATS_WORK, reason, MessageCount(most), question, exact=False)


def with_resumed_consumers(
    changes: Sequence[Change], wanted: Iterable[DesiredResource], live: LiveState
) -> list[Change]:
    """Return the changes, and one for each consumer of `wanted` that an apply has left paused and that needs none: it is served again."""
    changed = {change.ref for change in changes}
    held = ((live.resources.get(desired.ref), desired) for desired in wanted)
    return [
        *changes,
        *(
            Update(
                found,
                desired,
                (FieldChange("pause_until", found.get("pause_until"), None),),
                reason=LEFT_PAUSED,
            )
            for found, desired in held
            if found is not None and found.is_left_paused and desired.ref not in changed
        ),
    ]


def replace_stopped_consumers(changes: Sequence[Change], moving: Container[Ref]) -> list[Change]:
    """Return the changes with a replacement of each consumer that is stopped or not yet at its position: it goes on only as a new one.

    The streams that are `moving` put their own consumers back.
    """
    return [
        as_replace(change, RESUME_REASON)
        if isinstance(change, Update)
        and (change.before.is_stopped or change.before.is_refilling)
        and Ref(change.ref.stream) not in moving
        else change
        for change in changes
    ]
