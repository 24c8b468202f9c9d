"""Passes that find what differs between live and desired resources, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cyborg_infra.core.desired.expand import BY_LEVEL, expand_unchecked
from cyborg_infra.core.planning import (
    foreign_metadata,
    preflight,
)
from cyborg_infra.core.planning.applied_before import AppliedHistory
from cyborg_infra.core.planning.context import PlanningContext
from cyborg_infra.core.planning.diff import diff, is_ownership_change
from cyborg_infra.core.planning.drift import change_cause
from cyborg_infra.model.changes import (
    UNLABELLED,
    UPGRADED,
    Adopt,
    Blocked,
    Cause,
    Change,
    Create,
    Delete,
    FieldChange,
    Replace,
    Update,
)
from cyborg_infra.model.metadata_keys import APPLIED_KEY, BECOMES_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, DesiredState, with_what_is_said


def find_changes(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """Compare each selected resource with what lives, and add the one change that it needs."""
    live, owner = context.live, context.owner
    history = AppliedHistory(
        (
            found
            for ref, found in live.resources.items()
            if ref in context.desired.resources and found.owner == owner
        ),
        context.server_info.applied_record,
    )
    found = [
        change
        for ref, wanted in context.selected.resources.items()
        if ref in context.differing
        and not _waits_for_a_name(context, ref)
        and (change := _change(context, wanted, history))
    ]
    return [*changes, *found]


def _waits_for_a_name(context: PlanningContext, ref: Ref) -> bool:
    """Return whether the resource waits for a stream's name that another one still has: that rename is refused, and this comes after it."""
    names, stream = context.names_in_use, Ref(ref.stream)
    if not names or (not ref.consumer and ref in names):
        return False  # it is what is refused
    return stream in names.values() or stream in names


def delete_orphans(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """With `prune`, delete what the organisation owns and the manifest no longer has."""
    if not context.prune:
        return list(changes)
    reason = "no longer in the manifest" if context.desired.resources else ""  # nothing is desired: destroy
    return [*changes, *(Delete(orphan, reason=reason) for orphan in context.orphans)]


def explain_upgrades(context: PlanningContext, changes: Sequence[Change]) -> list[Change]:
    """Give the reason for a change that only the server's upgrade made: the same manifest expanded otherwise for the older server."""
    return (
        list(changes)
        if context.org is None
        else list(_with_upgrades(changes, context.org, context.server_info.level))
    )


def _with_upgrades(changes: Sequence[Change], org: Org, level: int) -> Iterator[Change]:
    earlier: list[DesiredState] | None = None
    for change in changes:
        if not isinstance(change, Update) or not _may_be_upgrade(change):
            yield change
            continue
        if earlier is None:
            earlier = [expand_unchecked(org, lower) for lower in range(level)]
        applied = change.before.metadata.get(APPLIED_KEY)
        same = applied and any(
            (found := state.resources.get(change.ref)) and found.digest() == applied for state in earlier
        )
        yield replace(change, reason=UPGRADED) if same else change


def _may_be_upgrade(change: Update) -> bool:
    return (
        change.cause is Cause.MANIFEST
        and all(is_ownership_change(field) or field.field in BY_LEVEL for field in change.fields)
        and not change.reason
    )


def _change(context: PlanningContext, desired: DesiredResource, history: AppliedHistory) -> Change | None:
    """Return the one change of one desired resource, still without hazards and order; None if there is nothing to do."""
    live = context.current_resource(desired.ref)
    if live is None:
        gone = history.was_applied(desired) and not _has_another_home(context, desired, history)
        return Create(desired, cause=Cause.DRIFT if gone else Cause.MANIFEST)
    if live.owner not in (None, context.owner):
        problem = preflight.foreign_owner_problem(desired, live.owner)
        cause = Cause.DRIFT if history.was_applied(desired) else Cause.MANIFEST
        return Blocked(Update(live, desired, cause=cause), (problem,))
    if live.ref == desired.ref and (becomes := live.metadata.get(BECOMES_KEY)):
        problem = Problem(
            "being-renamed",
            f"{live.ref} is on its way to be {becomes}: that apply was interrupted",
            desired.origin,
            "apply the manifest as it was then, and this one after that",
        )
        return Blocked(Update(live, desired), (problem,))
    if (successor := context.names_in_use.get(desired.ref)) is not None and live.ref == desired.ref:
        problem = Problem(
            "order",
            f"{live.ref} cannot be another stream's name yet: what is called so becomes {successor}",
            desired.origin,
            _order_of_renames(live.ref, successor, swaps=successor in context.names_in_use),
        )
        return Blocked(Update(live, desired), (problem,))
    version, seen = context.server_info.version, with_what_is_said(live, desired)
    fields = diff(seen, desired, version)
    if live.ref != desired.ref:
        return Replace(live, desired, fields, reason=f"renamed from {live.ref}")
    if not fields:
        return None
    stated = context.stated.resources[desired.ref]
    theirs = desired.metadata.keys() - stated.metadata.keys()
    ever = history.was_applied(desired)
    unlabelled = live.ref.consumer and live.owner is None and APPLIED_KEY not in live.metadata
    if (
        ever and unlabelled and all(map(is_ownership_change, fields))
    ):  # agents update consumers; streams, only other tools
        return Adopt(live, desired, fields, reason=UNLABELLED)
    cause = change_cause(foreign_metadata.without(live, theirs), stated, fields, ever=ever)
    if seen is not live and not diff(live, desired, version):
        cause = Cause.MANIFEST  # it says by now what the server made of its silence
    reason = _change_reason(fields)
    if any(field.reason for field in fields):
        return Replace(live, desired, fields, cause=cause, reason=reason)
    differs = Update if live.owner else Adopt
    return differs(live, desired, fields, cause=cause, reason=reason)


def _order_of_renames(ref: Ref, successor: Ref, *, swaps: bool) -> str:
    """Return in a sentence how to rename streams whose names are still in use."""
    if swaps:
        return f"swap names in two applies, by way of a third name: first {ref} to that, then both"
    return f"rename in two applies: first {ref} to {successor}, then what shall be called {ref}"


def _has_another_home(context: PlanningContext, desired: DesiredResource, history: AppliedHistory) -> bool:
    """Return whether it is a consumer whose stream is new: it was applied in another one, from which nobody took it."""
    stream = Ref(desired.ref.stream)
    wanted = context.desired.resources.get(stream)
    return bool(
        desired.ref.consumer
        and wanted is not None
        and context.current_resource(stream) is None
        and not history.was_applied(wanted)
    )


def _change_reason(fields: Iterable[FieldChange]) -> str:
    both = {"num_replicas", "placement"} <= {change.field for change in fields}
    return "in two steps: the server does not move and scale a stream in one" if both else ""
