"""Live and desired State to a Plan: ownership, action, cause, hazards, order. Reads nothing, writes nothing."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from cyborg_infra.core import (
    consumer_hazards,
    hazards,
    interrupted,
    moves,
    notes,
    order,
    preflight,
    renames,
    room,
)
from cyborg_infra.core.diff import diff, is_mark
from cyborg_infra.core.fingerprint import fingerprint
from cyborg_infra.core.known import Known
from cyborg_infra.core.namespace import watched
from cyborg_infra.model.fields import OLDEST, Kind
from cyborg_infra.model.org import Org
from cyborg_infra.model.plan import Action, Cause, Change, FieldChange, Hazard, Plan
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.state import (
    APPLIED,
    BECOMES,
    Facts,
    Ref,
    Resource,
    State,
)
from cyborg_infra.model.subjects import SubjectIndex


def make_plan(
    live: State,
    desired: State,
    *,
    owner: str,
    org: Org | None = None,
    prune: bool = False,
    targets: Sequence[str] = (),
) -> Plan:
    """Everything that leads from `live` to `desired` for the resources that `owner` owns or shall own.

    Afterwards nothing has to be decided: each change has one action, its fields, hazards, cause and what it
    needs first. `targets` narrows it to what belongs to these roles. Raises UsageInvalid for an unknown role.
    """
    facts = live.facts or Facts(OLDEST, 0)
    desired_part = _of_roles(desired, targets)
    left = [
        found
        for ref, found in live.resources.items()
        if ref not in desired.resources and found.owner == owner
    ]
    places = renames.predecessors(live, desired, left)
    carried = interrupted.carried(left, live, desired, owner)
    going_on = {*places.values(), *carried.values()}
    going_on |= {
        found.ref for found in left if found.ref.is_placeholder and Ref(found.ref.stream) in going_on
    }
    orphans = [
        found for found in left if found.ref not in going_on and (not targets or found.role in targets)
    ]
    if targets and (
        unknown := set(targets) - {found.role for found in [*desired.resources.values(), *orphans]}
    ):
        raise UsageInvalid(
            Problem(
                "target",
                f"no role is called {', '.join(sorted(unknown))}",
                None,
                "--target takes roles of the manifest",
            )
        )

    known = Known(
        found for ref, found in live.resources.items() if ref in desired.resources and found.owner == owner
    )
    changes = [
        change
        for ref, wanted in desired_part.resources.items()
        if not ((found := live.resources.get(ref)) and found.is_as(wanted))  # the owner's mark included
        and (change := _change(_found(ref, places, live), wanted, owner, facts, known))
    ]
    if prune:
        changes += [
            Change(Action.DELETE, orphan, None, reason="no longer in the manifest") for orphan in orphans
        ]
    changes = interrupted.of_moves(changes, carried, live, desired_part)
    if changes:  # what each costs is seen in the light of the whole account
        changes = interrupted.of_consumers(changes, carried)
        changes = _with_moves(changes, carried, places, live, desired, facts)
        changes = _with_replaced_streams(changes, places, live, desired_part)
        changes = _with_problems(changes, going_on, live, desired, facts)
        changes = _with_hazards(changes, carried, live, desired)
    ordered, tangled = order.ordered(changes, room.pairs(changes, live, facts))
    return Plan(
        org=owner,
        changes=tuple(ordered),
        orphans=() if prune else tuple(orphans),
        problems=(
            *preflight.of_server(org, facts),
            *room.of_limits(changes, live, facts),
            *tangled,
            *_missing_streams(changes, live),
        ),
        notes=tuple(notes.of_plan(changes, orphans, targets, facts)),
        base=fingerprint(live, desired_part, owner),
        desired=desired,
        facts=live.facts,
        live=live,
        environment=org.environment if org else None,
        targets=tuple(targets),
        prune=prune,
        whole=tuple(hazards.of_plan(changes, live, owner)),
        unchanged=len(desired_part.resources) - sum(change.after is not None for change in changes),
    )


def _of_roles(state: State, targets: Sequence[str]) -> State:
    if not targets:
        return state
    return State({ref: found for ref, found in state.resources.items() if found.role in targets}, state.facts)


def _change(
    live: Resource | None, desired: Resource, owner: str, facts: Facts, known: Known
) -> Change | None:
    """The one change of one desired resource, still without hazards and order; None if there is nothing to do."""
    if live is None:
        ever = known.applied(desired)
        cause = Cause.DRIFT if ever else Cause.PENDING
        return Change(
            Action.CREATE, None, desired, cause=cause, reason="deleted on the server" if ever else ""
        )
    if live.owner not in (None, owner):
        problem = Problem(
            "foreign-owner",
            f"{desired.ref} belongs to organisation {live.owner}",
            desired.origin,
            preflight.way_apart(desired),
        )
        cause = Cause.DRIFT if known.applied(desired) else Cause.PENDING
        return Change(Action.IMPOSSIBLE, live, desired, cause=cause, problems=(problem,))
    if live.ref == desired.ref and (becomes := live.metadata.get(BECOMES)):
        problem = Problem(
            "being-renamed",
            f"{live.ref} is on its way to be {becomes}: that apply was interrupted",
            desired.origin,
            "apply the manifest as it was then, and this one after that",
        )
        return Change(Action.IMPOSSIBLE, live, desired, problems=(problem,))
    fields = diff(live, desired, facts.version)
    if live.ref != desired.ref:
        return Change(Action.REPLACE, live, desired, fields, reason=f"renamed from {live.ref}")
    if not fields:
        return None
    cause = _cause(live, desired, fields, ever=known.applied(desired))
    return Change(_action(live, fields), live, desired, fields, cause=cause, reason=_how(fields))


def _how(fields: Iterable[FieldChange]) -> str:
    both = {"num_replicas", "placement"} <= {change.field for change in fields}
    return "in two steps: the server does not move and scale a stream in one" if both else ""


def _action(live: Resource, fields: Iterable[FieldChange]) -> Action:
    if any(change.reason for change in fields):
        return Action.REPLACE
    return Action.UPDATE if live.owner else Action.ADOPT


def _cause(live: Resource, desired: Resource, fields: Iterable[FieldChange], *, ever: bool) -> Cause:
    """By the digest of what was last applied: does it fit the manifest, the server, or neither?

    Where it is gone although it was there, somebody took it; whether the manifest has changed as well, nobody can tell.
    """
    applied = live.metadata.get(APPLIED)
    if applied is None:
        return Cause.DRIFT if ever or live.owner else Cause.PENDING
    if desired.digest() == applied:
        return Cause.DRIFT
    if live.digest() == applied and not any(
        is_mark(change) and change.field != f"metadata.{APPLIED}" for change in fields
    ):
        return Cause.PENDING
    return Cause.BOTH


def _found(ref: Ref, places: Mapping[Ref, Ref], live: State) -> Resource | None:
    """What lives under this name, or what shall go on under it."""
    return live.resources.get(ref) or live.resources.get(places.get(ref, ref))


def _with_moves(
    changes: Sequence[Change],
    interrupted: Container[Ref],
    places: Mapping[Ref, Ref],
    live: State,
    desired: State,
    facts: Facts,
) -> list[Change]:
    """Replaced streams take their messages along where that is exact, and say so; or why they cannot.

    New ones know their readers, and so do those whose making was interrupted.
    """
    moved, copied, made = [], moves.copies(live), (Action.CREATE, Action.REPLACE)
    for change in changes:
        going_on = change.ref in interrupted or (change.before is not None and change.before.is_parked)
        if change.ref.kind is Kind.STREAM and (change.action in made or going_on):
            known = change
            if change.action in made and change.ref not in interrupted:
                known = moves.planned(change, copied, live, desired, facts)
            readers = desired.consumers(change.ref.stream)
            named = {places.get(reader.ref, reader.ref).consumer: reader for reader in readers}
            moved.append(replace(known, readers=named))
        else:
            moved.append(change)
    return moved


def _with_replaced_streams(
    changes: Sequence[Change], places: Mapping[Ref, Ref], live: State, desired: State
) -> list[Change]:
    """A replaced stream takes its consumers with it: each is replaced as well, whatever else it needs."""
    replaced = {
        change.ref.stream
        for change in changes
        if change.action is Action.REPLACE and change.ref.kind is Kind.STREAM
    }
    if not replaced:
        return list(changes)
    changed = {change.ref: change for change in changes}
    for consumer in desired.consumers():
        before = _found(consumer.ref, places, live)
        if consumer.ref.stream in replaced and before is not None:
            known = changed.get(consumer.ref, Change(Action.UPDATE, before, consumer))
            if known.action is not Action.IMPOSSIBLE:
                changed[consumer.ref] = replace(
                    known, action=Action.REPLACE, reason=known.reason or "its stream is replaced"
                )
    return list(changed.values())


def _with_problems(
    changes: Sequence[Change], going_on: Container[Ref], live: State, desired: State, facts: Facts
) -> list[Change]:
    """Changes that this server would refuse become impossible, with the reasons."""
    deleted = {change.ref for change in changes if change.action is Action.DELETE}
    in_the_way = [
        stream
        for stream in live.streams()
        if stream.ref not in desired.resources and stream.ref not in deleted and stream.ref not in going_on
    ]
    overlaps = preflight.overlaps(
        State({change.ref: change.after for change in changes if change.after}), in_the_way
    )
    found = []
    for change in changes:
        problems = [*change.problems, *overlaps.get(change.ref, ())]
        if change.after is not None:
            problems += preflight.of_fields(change.after, facts)
            problems += preflight.of_replicas(change.after, facts)
            problems += preflight.of_size(change.after, facts)
            problems += room.of_account(change.after, facts)
            problems += preflight.of_consumer_limits(change, live, desired, facts)
        if change.after is not None and change.action in (Action.CREATE, Action.REPLACE):
            problems += preflight.of_creation(change.after)
        found.append(
            replace(change, action=Action.IMPOSSIBLE, problems=tuple(problems)) if problems else change
        )
    return found


def _with_hazards(
    changes: Sequence[Change], carried: Container[Ref], live: State, desired: State
) -> list[Change]:
    """Each change with what it costs in the light of all the others."""
    living = any(change.before for change in changes)
    stored = _stored(changes, live, desired) if living else SubjectIndex()
    lost = {
        change.place
        for change in changes
        if change.ref.kind is Kind.STREAM
        and change.action in (Action.REPLACE, Action.DELETE)
        and not change.carried
    }
    met = moves.as_read(changes, live)
    planned = {*desired.resources, *(change.ref for change in changes), *(change.place for change in changes)}
    costly = []
    for change in changes:
        if Ref(change.ref.stream) in carried:
            costly.append(change)  # what an interrupted replace costs was allowed when it began
            continue
        found = tuple(
            _hazards(change, lost, met, planned, stored, live)
            if change.before
            else _creation_hazards(change, live)
        )
        costly.append(replace(change, hazards=found) if found else change)
    return costly


def _stored(changes: Sequence[Change], live: State, desired: State) -> SubjectIndex:
    """What the manifest's streams store afterwards. The notices of streams that are gone then count as well: none come."""
    gone = {
        change.place for change in changes if change.action is Action.DELETE or change.place != change.ref
    }
    found = SubjectIndex(
        (subject, stream.ref.stream)
        for stream in desired.streams()
        for subject in stream.config.get("subjects") or ()
    )
    for stream in live.streams():
        for subject in stream.config.get("subjects") or ():
            told = Ref(watched(subject) or "")
            if told.stream and told not in desired.resources and (told not in live.resources or told in gone):
                found.add(subject, told.stream)
    return found


def _hazards(
    change: Change,
    lost: Container[Ref],
    met: State,
    planned: Container[Ref],
    stored: SubjectIndex,
    live: State,
) -> Iterator[Hazard]:
    before, after = change.before, change.after
    if before is None or change.action is Action.IMPOSSIBLE:
        return
    match change.action, before.ref.kind:
        case Action.REPLACE, Kind.STREAM if change.carried and after is not None:
            yield from moves.hazards(change, live, planned, stored_after=stored)
        case ((Action.REPLACE | Action.DELETE), Kind.STREAM):
            others = [
                found
                for found in live.consumers(before.ref.stream)
                if found.owner != before.owner and found.ref not in planned
            ]
            yield from hazards.of_stream_loss(before, others, stored_after=stored)
        case ((Action.REPLACE | Action.DELETE), Kind.CONSUMER) if Ref(before.ref.stream) in lost:
            return  # the stream's own hazards say what is lost
        case Action.REPLACE, Kind.CONSUMER:
            if after is not None and live.facts is not None:
                yield from consumer_hazards.of_replace(before, after, met, live.facts.version)
        case Action.DELETE, Kind.CONSUMER:
            yield from consumer_hazards.of_delete(before, live)
        case _, Kind.CONSUMER if after is not None:
            yield from consumer_hazards.of_update(before, after, change.fields, live)
        case _ if after is not None:
            yield from hazards.of_update(before, after, change.fields, live, stored_after=stored)


def _creation_hazards(change: Change, live: State) -> Iterator[Hazard]:
    """What was there before and is made anew; what goes on from a placeholder is not."""
    if change.after is not None and change.cause is Cause.DRIFT and not change.carried:
        yield from consumer_hazards.of_recreation(change.after, live)


def _missing_streams(changes: Sequence[Change], live: State) -> Iterator[Problem]:
    """With --target: a consumer whose stream does not exist and is not part of the plan."""
    planned = {change.ref for change in changes}
    for change in changes:
        stream = Ref(change.ref.stream)
        if change.after and stream not in planned and stream not in live.resources:
            yield Problem(
                "target",
                f"{change.ref} needs stream {stream}, which does not exist yet",
                change.after.origin,
                "apply once without --target",
            )
