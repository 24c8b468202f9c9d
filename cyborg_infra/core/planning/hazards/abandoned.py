"""Hazards for messages that a consumer has given up: neither acknowledged nor pending, so no position tells of them.

An apply keeps the messages that dead letters tell of (`operations.dead_letter_store`). Counted here is what nobody tells of, or nobody can read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cyborg_infra.core.planning.hazards.building_blocks import format_count, hazard_of_amount, setting
from cyborg_infra.model.changes import Action, Cause, Change, Hazard, HazardName
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.consumer_position import filter_patterns
from cyborg_infra.model.counting import CountKind, CountQuery, MessageCount, Share
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, LiveState, consumer_counts, stream_counts
from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.model.subjects import overlap


def is_archived_before(change: Change, live: LiveState, version: Version) -> bool:
    """Return whether an apply keeps elsewhere, before the change, what has failed for good: it is deleted, comes again, or is renumbered."""
    before, after = change.before, change.after
    if before is None and not change.preserves_messages:
        return _was_deleted(change) and _held_retention(change, live) == "workqueue"
    kind = next(side.metadata.get(KIND_KEY) for side in (after, before) if side)
    if kind in (StreamKind.DEAD_LETTERS, StreamKind.KEY_VALUE):
        return False
    becomes = setting(after, "retention") if after and not change.ref.consumer else ""
    if not change.ref.consumer and change.preserves_messages:
        stays = (
            change.current_ref == change.ref
            and version >= Capability.PROMOTE_MIRROR.since
            and becomes == "limits"
        )
        return not stays
    changed = {field.field for field in change.fields}
    if not change.ref.consumer:
        return "retention" in changed and becomes == "interest" and change.action is not Action.REPLACE
    held = _held_retention(change, live)
    if change.action is Action.REPLACE:
        return held != "limits"
    filtered = bool(changed & {"filter_subject", "filter_subjects"})
    return held == "interest" and (change.action is Action.DELETE or filtered)


def _held_retention(change: Change, live: LiveState) -> str:
    """Return the retention of the living stream; `limits`, which deletes nothing that is finished, if there is none."""
    stream = live.resources.get(Ref(change.current_ref.stream))
    return str(setting(stream, "retention")) if stream else "limits"


def _was_deleted(change: Change) -> bool:
    """Return whether it is a consumer that somebody deleted: a new one of a workqueue begins with all that is stored, given up or not."""
    return bool(change.ref.consumer) and change.cause is Cause.DRIFT


def given_up_deleted_hazards(
    live: LiveResource, live_state: LiveState, *, partly: bool = False
) -> Iterator[Hazard]:
    """Return the hazard of deleting given-up messages with their consumer or stream. `partly`: some may stay."""
    alone = not partly and _is_sole_reader(live, live_state)
    for lost in _given_up_hazards(HazardName.DELETES_MESSAGES, live, live_state, "", exact=alone):
        yield replace(lost, unfinished=Share(lost.count, exact=lost.exact))


def given_up_forgotten_hazards(
    live: LiveResource, live_state: LiveState, *, partly: bool = False
) -> Iterator[Hazard]:
    """Yield the hazard of a consumer or a filter that goes: an interest stream deletes what was given up with it."""
    if setting(live_state.resources[Ref(live.ref.stream)], "retention") == "interest":
        yield from given_up_deleted_hazards(live, live_state, partly=partly)


def untold(readers: Sequence[LiveResource], live_state: LiveState) -> tuple[Share, Sequence[CountQuery]]:
    """Return at most how many messages the consumers gave up without a dead letter, and the queries that make the number exact."""
    asked = {_question(reader): reader for reader in readers if _upper_bound(reader, live_state)}
    known = [
        min(_upper_bound(reader, live_state), reader.counts_by_query[question].messages)
        if question in reader.counts_by_query
        else _upper_bound(reader, live_state)
        for question, reader in asked.items()
    ]
    return Share(sum(known), exact=not any(known)), tuple(asked)


def given_up_redelivered_hazards(live: LiveResource, live_state: LiveState) -> Iterator[Hazard]:
    """Yield the hazard of a new consumer of a workqueue: it begins with all that is stored, given up or not."""
    yield from _given_up_hazards(
        HazardName.REPEATS_WORK, live, live_state, " would be handed out again", exact=True
    )


def _given_up_hazards(
    name: HazardName, live: LiveResource, live_state: LiveState, what: str, *, exact: bool
) -> Iterator[Hazard]:
    question = _question(live)
    most, measured = _upper_bound(live, live_state), live.counts_by_query.get(question)
    if measured is not None:
        # On a stream that others read, what is stored may be what they wait for.
        most = measured.messages if exact else min(most, measured.messages)
    if most > 0:
        reason = f"{format_count(most, 'message')} given up before{what}, and no dead letter tells of {'it' if most == 1 else 'them'}"
        yield hazard_of_amount(
            name, reason, MessageCount(most), question, exact=exact and measured is not None
        )


def _question(live: LiveResource) -> CountQuery:
    return CountQuery(live.ref, CountKind.GIVEN_UP, subjects=filter_patterns(live))


def _upper_bound(live: LiveResource, live_state: LiveState) -> int:
    """Return how many it has given up at most: the server counts what it has handed out more than once, and nothing of a consumer that hands out once."""
    counts = consumer_counts(live)
    if not counts.delivered_stream_seq:
        return 0
    if setting(live, "max_deliver") != 1:
        return counts.num_redelivered
    stored = stream_counts(live_state.resources[Ref(live.ref.stream)]).messages
    return max(0, min(stored, counts.delivered_stream_seq) - counts.num_ack_pending)


def _is_sole_reader(live: LiveResource, live_state: LiveState) -> bool:
    """Return whether nobody else reads what it does."""
    return not any(
        overlap(mine, theirs)
        for other in live_state.consumers(live.ref.stream)
        if other.ref != live.ref and not other.ref.is_placeholder
        for mine in filter_patterns(live)
        for theirs in filter_patterns(other)
    )
