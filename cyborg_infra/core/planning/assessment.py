"""Passes that work out what each change costs."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

from cyborg_infra.core.desired.naming import stream_of_advisory
from cyborg_infra.core.planning import (
    migrations,
    renames,
    resume,
)
from cyborg_infra.core.planning.context import PlanningContext
from cyborg_infra.core.planning.hazards import abandoned, consumers, handovers, streams
from cyborg_infra.model.changes import (
    Adopt,
    Blocked,
    Cause,
    Change,
    Create,
    Delete,
    Hazard,
    Replace,
    Update,
    temporary_stream_of,
)
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.consumer_position import fits_journal
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, DesiredState, LiveResource, LiveState
from cyborg_infra.model.server_versions import OLDEST, Capability
from cyborg_infra.model.subjects import SubjectIndex
from cyborg_infra.model.valueclass import NamedTuple


class _Outlook(NamedTuple):
    """What all changes together lead to, as far as the cost of one depends on it."""

    leaving: Mapping[Ref, Sequence[LiveResource]]
    """Consumer that is made where no other one stood -> those that leave the stream and hand over to it."""
    # The rest is of what changes that is there already.
    lost_streams: Container[Ref] = ()
    migrated_streams: Mapping[Ref, bool] = MappingProxyType({})
    """Stream -> whether its journal has room for what its consumers have open."""
    live_after_migration: LiveState = LiveState()
    planned: Container[Ref] = ()
    subjects_stored: SubjectIndex = SubjectIndex()
    staying_roles: Collection[str | None] = ()
    takers: Mapping[Ref, Sequence[DesiredResource]] = MappingProxyType({})
    """Consumer that leaves -> those that are made, and to which it hands over."""


def assess_hazards(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """Work out what each change costs in the light of all the others."""
    if not changes:
        return []
    live, desired = context.live, context.desired
    outlook = _make_outlook(context, changes)
    costly = list[Change]()
    for change in changes:
        if context.resumable and (via := context.resumable.get(Ref(change.ref.stream))):
            going_on = _resume_hazards(change, live.resources[via], live, outlook)
            costs = tuple(going_on) if change.ref.consumer else ()
            costly.append(replace(change, hazards=costs) if costs else change)
            continue
        found = tuple(
            (
                *_hazards(change, outlook, live),
                *streams.redundancy_hazards(change, live, desired),
            )
            if change.before
            else _creation_hazards(change, outlook, context)
        )
        costly.append(replace(change, hazards=found) if found else change)
    return costly


def archive_dead_letters(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """Mark the changes before which an apply archives what dead letters tell of."""
    return [
        replace(change, archives_dead_letters=True)
        if abandoned.is_archived_before(change, context.live, context.server_info.version)
        else change
        for change in changes
    ]


def _make_outlook(context: PlanningContext, changes: Sequence[Change]) -> _Outlook:
    live, desired = context.live, context.desired
    lost = {
        change.current_ref
        for change in changes
        if change.ref.kind is Kind.STREAM
        and isinstance(change, Replace | Delete)
        and not change.preserves_messages
    }
    leaving = dict(_leaving_consumers(context, changes, lost))
    if not any(change.before for change in changes):
        return _Outlook(leaving)
    met = migrations.state_after_migration(changes, live)
    moving = {
        change.current_ref
        for change in changes
        if change.preserves_messages and change.ref.kind is Kind.STREAM
    }
    version = live.server_info.version if live.server_info else OLDEST
    moved = {ref: fits_journal(live.consumers(ref.stream), version) for ref in moving}
    planned = {
        *desired.resources,
        *(change.ref for change in changes),
        *(change.current_ref for change in changes),
    }
    staying = {found.role for found in desired.resources.values()}
    takers: dict[Ref, list[DesiredResource]] = {}
    for wanted, readers in leaving.items():
        for reader in readers:
            takers.setdefault(reader.ref, []).append(desired.resources[wanted])
    stored = _subjects_stored_after(changes, live, desired)
    return _Outlook(leaving, lost, moved, met, planned, stored, staying, takers)


def _leaving_consumers(
    context: PlanningContext, changes: Sequence[Change], lost_streams: Container[Ref]
) -> Iterator[tuple[Ref, Sequence[LiveResource]]]:
    """Yield each consumer that is made where no other one stood, with those that leave its stream and hand over to it."""
    orphans: dict[str, list[LiveResource]] = {}
    for found in context.orphans:
        if found.ref.consumer and not found.ref.is_placeholder:
            orphans.setdefault(found.ref.stream, []).append(found)
    for change in changes if orphans else ():
        if not isinstance(change, Create) or not change.ref.consumer or change.preserves_messages:
            continue
        stream = context.current_resource(Ref(change.ref.stream))
        if stream is None or stream.ref in lost_streams:
            continue
        staying = [
            found
            for found in context.live.consumers(stream.ref.stream)
            if found.ref in context.desired.resources
        ]
        leaving = [
            found
            for found in orphans.get(stream.ref.stream, ())
            if renames.hands_over(found, change.after, staying)
        ]
        if leaving:
            yield change.ref, leaving


def _resume_hazards(
    change: Change, via: LiveResource, live: LiveState, outlook: _Outlook
) -> Iterator[Hazard]:
    """Yield what going on with the migration of a stream costs: its consumers go on working as long as it has not all been copied."""
    yield from resume.resume_hazards(change, via, live)
    before, after = change.before, change.after
    if before is None or after is None or live.server_info is None or before.is_refilling:
        return
    if via.is_copy or before.ref.stream == via.ref.stream:
        version, stream = (
            live.server_info.version,
            outlook.live_after_migration.resources.get(Ref(before.ref.stream), via),
        )
        yield from consumers.open_work_hazards(
            before,
            after,
            live,
            version,
            renumbered=version < Capability.PROMOTE_MIRROR.since,
            stream=stream.config,
            fits=outlook.migrated_streams.get(Ref(before.ref.stream), True),
        )


def _subjects_stored_after(changes: Sequence[Change], live: LiveState, desired: DesiredState) -> SubjectIndex:
    """Return what the manifest's streams store afterwards. The notices of streams that are gone then count as well: none come."""
    gone = {
        change.current_ref
        for change in changes
        if isinstance(change, Delete) or change.current_ref != change.ref
    }
    # Also of a rename that goes on.
    gone |= {via for change in changes if (via := temporary_stream_of(change))}
    found = SubjectIndex(
        (subject, stream.ref.stream) for stream in desired.streams() for subject in stream.get("subjects")
    )
    for stream in live.streams():
        for subject in stream.get("subjects"):
            source = Ref(stream_of_advisory(subject) or "")
            if (
                source.stream
                and source not in desired.resources
                and (source not in live.resources or source in gone)
            ):
                found.add(subject, source.stream)
    return found


def _hazards(change: Change, outlook: _Outlook, live: LiveState) -> Iterator[Hazard]:
    if isinstance(change, Create | Blocked) or change.before.is_refilling:
        return  # of a consumer that a replace has made, the costs were allowed when that began
    before, stream = change.before, Ref(change.before.ref.stream)
    match change:
        case Delete() | Replace() if before.ref.consumer and stream in outlook.lost_streams:
            return  # the stream's own hazards say what is lost
        case Delete() if before.ref.consumer:
            taken = handovers.taken_over(outlook.takers.get(before.ref, ()))
            yield from consumers.consumer_delete_hazards(before, live, taken)
        case Replace() if before.ref.consumer and live.server_info is not None:
            version, moves_along = live.server_info.version, stream in outlook.migrated_streams
            yield from consumers.consumer_replace_hazards(
                before,
                change.after,
                outlook.live_after_migration,
                version,
                renumbered=version < Capability.PROMOTE_MIRROR.since and moves_along,
                fits=outlook.migrated_streams.get(stream, True),
            )
            if not moves_along:  # else the stream says so itself
                yield from abandoned.given_up_forgotten_hazards(before, live)
        case Adopt() | Update() | Replace() if before.ref.consumer:
            yield from consumers.consumer_update_hazards(before, change.after, change.fields, live)
        case Replace() if change.preserves_messages:
            yield from migrations.migration_hazards(
                change, live, outlook.planned, stored_after=outlook.subjects_stored
            )
            yield from _left_behind_hazards(before, outlook, live)
        case Replace() | Delete():
            others = [
                found
                for found in live.consumers(stream.stream)
                if found.owner != before.owner and found.ref not in outlook.planned
            ]
            along = isinstance(change, Delete) and _is_of_one_that_leaves(before, outlook.staying_roles)
            subjects = (
                _subjects_left_behind(before, outlook.staying_roles)
                if along
                else streams.ingest_subjects(before)
            )
            yield from streams.stream_loss_hazards(
                before, others, subjects, stored_after=outlook.subjects_stored
            )
        case Adopt() | Update():
            yield from streams.stream_update_hazards(
                before, change.after, change.fields, live, stored_after=outlook.subjects_stored
            )
        case _:
            assert_never(change)


def _left_behind_hazards(stream: LiveResource, outlook: _Outlook, live: LiveState) -> Iterator[Hazard]:
    """Yield what consumers that left the manifest have not finished: they go with the old stream, pruned or not."""
    for reader in live.consumers(stream.ref.stream):
        if (
            reader.owner == stream.owner
            and reader.ref not in outlook.planned
            and not reader.ref.is_placeholder
        ):
            taken = handovers.taken_over(outlook.takers.get(reader.ref, ()))
            for hazard in consumers.consumer_delete_hazards(reader, live, taken):
                yield replace(hazard, reason=f"{hazard.reason} by {reader.ref.consumer}")


def _is_of_one_that_leaves(stream: LiveResource, staying: Collection[str | None]) -> bool:
    """Return whether nobody uses the stream's subjects afterwards: its role leaves, it is a bucket, or nothing is wanted at all."""
    leaves = stream.role is not None and stream.role not in staying
    return leaves or not staying or stream.metadata.get(KIND_KEY) == StreamKind.KEY_VALUE


def _subjects_left_behind(stream: LiveResource, staying: Collection[str | None]) -> Sequence[str]:
    """Return the subjects of a leaving stream that somebody else publishes on. `destroy` takes everything along, so there it is none."""
    return streams.foreign_subjects(stream) if staying else ()


def _creation_hazards(change: Change, outlook: _Outlook, context: PlanningContext) -> Iterator[Hazard]:
    """Return the hazards of creating what was there before, or takes over from another one; what resumes from a placeholder has none."""
    leaving = outlook.leaving.get(change.ref, ())
    if change.after is not None and leaving and change.cause is not Cause.DRIFT:
        yield from handovers.repeated_hazards(change.after, leaving, context.live)
    if (
        change.after is None
        or not change.ref.consumer
        or change.cause is not Cause.DRIFT
        or change.preserves_messages
    ):
        return
    place = Ref(change.ref.stream)
    stream, after = context.current_resource(place), context.desired.resources.get(place)
    if stream is not None:
        yield from consumers.consumer_recreation_hazards(
            change.after,
            stream,
            (after or stream).get("subjects"),
            left_out=migrations.count_left_out(place, context.live, context.desired),
        )
