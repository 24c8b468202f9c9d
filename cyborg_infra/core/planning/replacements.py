"""Passes that decide what is replaced, and how: what was interrupted resumes, streams migrate, consumers go along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cyborg_infra.core.planning import (
    migrations,
    resume,
)
from cyborg_infra.core.planning.context import PlanningContext
from cyborg_infra.model.changes import (
    Adopt,
    Blocked,
    Change,
    Create,
    Delete,
    Replace,
    Update,
    as_replace,
)
from cyborg_infra.model.fields import Kind


def resume_migrations(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """Let each interrupted migration and consumer replacement resume."""
    return resume.with_resumed_migrations(changes, context.resumable, context.live, context.selected)


def resume_consumer_replacements(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """Replace the consumers that an interrupted apply has stopped."""
    return resume.replace_stopped_consumers(changes, context.resumable)


def migrate_streams(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """Turn the replacement of a stream into a migration where its messages can be kept exactly; otherwise say why not.

    New ones know their readers, and so do those whose making was interrupted.
    """
    found: list[Change] = []
    live, desired = context.live, context.desired
    copied = migrations.copied_streams(live) if changes else {}
    for change in changes:
        if isinstance(change, Blocked | Delete) or change.ref.consumer:
            found.append(change)
            continue
        going_on = change.ref in context.resumable or (change.before is not None and change.before.is_fenced)
        if not going_on and not isinstance(change, Create | Replace):
            found.append(change)
            continue
        planned = change
        if isinstance(change, Replace) and change.ref not in context.resumable:
            planned = migrations.plan_migration(change, copied, live, desired, context.server_info)
        readers = desired.consumers(change.ref.stream)
        named = {context.predecessors.get(reader.ref, reader.ref).consumer: reader for reader in readers}
        found.append(replace(planned, consumers_after=named))
    return found


def replace_consumers_of_replaced_streams(
    context: PlanningContext, changes: Sequence[Change]
) -> list[Change]:
    """Replace the consumers of a replaced stream as well, whatever else they need."""
    replaced = {
        change.ref.stream
        for change in changes
        if isinstance(change, Replace) and change.ref.kind is Kind.STREAM
    }
    if not replaced:
        return list(changes)
    changed = {change.ref: change for change in changes}
    for consumer in context.selected.consumers():
        before = context.current_resource(consumer.ref)
        if consumer.ref.stream in replaced and before is not None:
            known = changed.get(consumer.ref) or Update(before, consumer)
            if isinstance(known, Adopt | Update | Replace):
                changed[consumer.ref] = as_replace(known, known.reason or "its stream is replaced")
    return list(changed.values())


def resume_paused_consumers(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """Serve the consumers again that an apply has left paused, and that nothing else is done with."""
    return resume.with_resumed_consumers(changes, context.selected.consumers(), context.live)
