"""The pass that finds what the server would refuse."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from cyborg_infra.core.desired import constraints
from cyborg_infra.core.planning import (
    account_limits,
    preflight,
    resume,
)
from cyborg_infra.core.planning.context import PlanningContext
from cyborg_infra.model.changes import (
    Blocked,
    Change,
    Create,
    Delete,
    Replace,
)
from cyborg_infra.model.constraints import ServerContext
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, LiveResource


def check_captured_subjects(context: PlanningContext, changes: Sequence[Change]) -> Iterator[Problem]:
    """Yield streams outside the manifest that store what the organisation wants stored by nobody, each once."""
    if context.org is None or not context.desired.resources:  # nothing is desired: destroy
        return
    deleted = {change.ref for change in changes if isinstance(change, Delete)}
    yield from preflight.check_captures(
        context.org,
        _streams_that_stay(context, deleted),
        {orphan.ref for orphan in context.orphans},
    )


def _streams_that_stay(context: PlanningContext, deleted: Container[Ref]) -> list[LiveResource]:
    """Return the living streams that are none of the manifest's, and will be there after the plan as they are now."""
    return [
        stream
        for stream in context.live.streams()
        if stream.ref not in context.desired.resources
        and stream.ref not in deleted
        and stream.ref not in context.in_progress
    ]


def block_impossible_changes(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """Block what this server would refuse, with the reasons."""
    if not changes:
        return []
    live, desired, server_info = context.live, context.desired, context.server_info
    deleted = {change.ref for change in changes if isinstance(change, Delete)}
    overlaps = preflight.check_overlaps(
        DesiredState({change.ref: change.after for change in changes if change.after}),
        _streams_that_stay(context, deleted),
    )
    others, alike = constraints.streams_in_full(live, desired), constraints.CheckedSettings(context.org)
    readers_there = preflight.foreign_consumers(live, desired)
    found = []
    for change in changes:
        problems = [*change.problems, *overlaps.get(change.ref, ())]
        if change.after is not None:
            stream = Ref(change.ref.stream)
            holder = (
                desired.resources.get(stream, live.resources.get(stream)) if change.ref.consumer else None
            )
            new = isinstance(change, Create | Replace)
            if not alike.is_clean(change.after, holder, new=new):
                around = ServerContext(holder, others)
                refused = [
                    *preflight.check_fields(change.after, server_info, context.org),
                    *preflight.check_replicas(change.after, server_info, context.org),
                    *account_limits.check_resource_limits(change.after, server_info, context.org),
                    *constraints.check_this_server(
                        change.after, around, server_info.version, context.org, new=new
                    ),
                ]
                if not refused:
                    alike.remember(change.after, holder, new=new)
                problems += refused
            problems += preflight.check_request_size(change.after, server_info)
            if change.before:
                problems += preflight.check_consumer_limits(change, live, desired, server_info)
            if readers_there:
                readers = preflight.conflicting_consumers(change, readers_there)
                problems += preflight.check_conflicting_consumers(
                    change, (one for one in readers if one.ref not in deleted)
                )
        if live.unread:
            problems += preflight.check_unread(change, live)
        if context.resumable:
            problems += resume.check_open_target(change, context.resumable, live)
        possible = change.change if isinstance(change, Blocked) else change
        found.append(Blocked(possible, tuple(problems)) if problems else change)
    return found
