"""Make the plan that leads from live to desired resources: run the passes, order the changes, and say what the plan needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from cyborg_infra.core.planning import (
    account_limits,
    assessment,
    comparison,
    dead_letter_order,
    feasibility,
    foreign_copies,
    notes,
    ordering,
    preflight,
    rehearsal,
    replacements,
)
from cyborg_infra.core.planning.context import PlanningContext, make_context
from cyborg_infra.core.planning.fingerprint import fingerprint
from cyborg_infra.core.planning.hazards import streams
from cyborg_infra.model.changes import (
    Change,
    Delete,
    Replace,
)
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import ConsumerCounts, DesiredState, LiveState
from cyborg_infra.model.wording import Option, worded

PASSES: Sequence[Callable[[PlanningContext, Sequence[Change]], list[Change]]] = (
    comparison.find_changes,
    comparison.delete_orphans,
    comparison.explain_upgrades,
    replacements.resume_migrations,
    replacements.resume_consumer_replacements,
    replacements.migrate_streams,
    replacements.replace_consumers_of_replaced_streams,
    replacements.resume_paused_consumers,
    feasibility.block_impossible_changes,
    assessment.assess_hazards,
    assessment.archive_dead_letters,
)
"""What the planner does, one after the other: each takes the changes so far and returns them as it leaves them."""


def make_plan(
    live: LiveState,
    desired: DesiredState,
    *,
    owner: str,
    org: Org | None = None,
    environment: str | None = None,
    prune: bool = False,
    targets: Sequence[str] = (),
) -> Plan:
    """Return everything that leads from `live` to `desired` for the resources that `owner` owns or shall own.

    `environment` is the one of the manifest that `desired` was made from, `org` what it says of its server.

    Afterwards nothing has to be decided: each change has one action, its fields, hazards, cause and what it
    needs first. `targets` narrows it to what belongs to these roles. Raises UsageInvalid for an unknown role.
    """
    given, live = live, rehearsal.without_rehearsals(live, owner)
    context = make_context(
        live, desired, owner=owner, org=org, environment=environment, prune=prune, targets=targets
    )
    changes: list[Change] = []
    for run_pass in PASSES:
        changes = run_pass(context, changes)
    ordered, tangled = _in_order(changes, context)
    turns = dead_letter_order.dead_letter_phases(ordered, context.resumable)
    return Plan(
        org=owner,
        changes=tuple(ordered),
        first=turns.first,
        last=turns.last,
        early_subjects=turns.early_subjects,
        orphans=() if prune else tuple(context.orphans),
        problems=tuple(_problems(changes, tangled, context)),
        notes=tuple(_notes(changes, context)),
        note_queries=notes.note_queries(changes, live),
        live_digests=fingerprint(live, context.selected, owner),
        desired=context.stated,
        server_info=live.server_info,
        live=given,
        environment=environment,
        targets=tuple(targets),
        prune=prune,
        reserves=tuple(account_limits.reserved(changes, context.server_info)),
        waits=dict(_waits(ordered)),
        plan_hazards=tuple(streams.plan_hazards(changes, context.resumable, live, owner, environment)),
        has_live_resources=any(found.owner == owner for found in live.resources.values()),
        unchanged_count=len(context.selected.resources) - sum(change.after is not None for change in changes),
    )


def _in_order(changes: Sequence[Change], context: PlanningContext) -> tuple[list[Change], Sequence[Problem]]:
    """Return the changes in the order of their execution, and the problems of an order that does not exist."""
    first = [
        *account_limits.limit_dependencies(changes, context.live, context.server_info),
        *_reader_handovers(changes, context.live, context.desired),
    ]
    ordered, problems = ordering.order_changes(changes, first, context.server_info.version)
    ordered = account_limits.one_move_at_a_time(ordered, context.server_info)
    return preflight.hinted_once(preflight.owner_told_once(ordered)), problems


def _problems(
    changes: Sequence[Change], tangled: Iterable[Problem], context: PlanningContext
) -> Iterator[Problem]:
    """Yield the problems of the plan as a whole."""
    live, server_info = context.live, context.server_info
    yield from preflight.check_server(context.org, server_info)
    yield from feasibility.check_captured_subjects(context, changes)
    yield from account_limits.check_account_limits(changes, live, server_info)
    yield from account_limits.check_placeholders(changes, live, server_info)
    yield from tangled
    yield from _missing_stream_problems(changes, live)


def _notes(changes: Sequence[Change], context: PlanningContext) -> Iterator[str]:
    live = context.live
    yield from notes.unread_notes(live.unread)
    yield from notes.plan_notes(
        changes,
        context.orphans,
        foreign_copies.find_foreign_copies(live, context.desired, context.owner),
        context.targets,
        context.server_info,
        live,
        context.environment,
    )


def _waits(changes: Iterable[Change]) -> Iterator[tuple[Ref, int]]:
    """Yield each consumer that is replaced while agents work on its messages, and how many: an apply waits for them."""
    for change in changes:
        counts = change.before.counts if isinstance(change, Replace) else None
        if isinstance(counts, ConsumerCounts) and counts.num_ack_pending:
            yield change.current_ref, counts.num_ack_pending


def _reader_handovers(
    changes: Sequence[Change], live: LiveState, desired: DesiredState
) -> Iterator[tuple[Ref, Ref]]:
    """Yield pairs: a consumer of a workqueue, and one that is deleted, reads the same messages and so has to go first."""
    deleted = {change.ref for change in changes if isinstance(change, Delete) and change.ref.consumer}
    others = preflight.foreign_consumers(live, desired) if deleted else {}
    for change in changes if others else ():
        for found in preflight.conflicting_consumers(change, others):
            if found.ref in deleted:
                yield change.ref, found.ref


def _missing_stream_problems(changes: Sequence[Change], live: LiveState) -> Iterator[Problem]:
    """Yield problems of a plan for some roles: a consumer whose stream does not exist and is not part of the plan."""
    planned = {change.ref.stream for change in changes if not change.ref.consumer}
    for change in changes:
        stream = Ref(change.ref.stream)
        if change.after and stream.stream not in planned and stream not in live.resources:
            yield Problem(
                "target",
                f"{change.ref} needs stream {stream}, which does not exist yet",
                change.after.origin,
                worded("apply once without {}", Option("targets")),
            )
