"""Order the changes of DEAD_LETTERS so that it stores the advisories of every living stream, wherever an apply stops."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

from cyborg_infra.core.desired.naming import advisories_of_stream, stream_of_advisory
from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.metadata_keys import APPLIED_KEY, KIND_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, DesiredState, LiveResource, LiveState
from cyborg_infra.model.subjects import covers, overlap
from cyborg_infra.model.valueclass import NamedTuple


class ApplyPhases(NamedTuple):
    """What is done before anything else, and what after everything; subjects that the last stores from the beginning on."""

    first: frozenset[Ref] = frozenset()
    last: frozenset[Ref] = frozenset()
    early_subjects: tuple[str, ...] = ()


def with_orphans(desired: DesiredState, live: LiveState, orphans: Iterable[LiveResource]) -> DesiredState:
    """Return what is desired, with DEAD_LETTERS storing the notices of orphaned streams as long as they stay.

    Their agents may be at work still. Without its label the next plan would take it for the manifest's change.
    """
    wanted = next(
        (each for each in desired.streams() if each.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS), None
    )
    heard = live.resources.get(wanted.ref) if wanted else None
    if wanted is None or heard is None:
        return desired
    subjects: Sequence[str] = wanted.get("subjects")
    own = {
        notice
        for orphan in orphans
        if not orphan.ref.consumer
        for notice in advisories_of_stream(orphan.ref.stream)
    }
    kept = [
        notice
        for notice in heard.get("subjects")
        if notice in own and not any(overlap(subject, notice) for subject in subjects)
    ]
    if not kept:
        return desired
    wider = DesiredResource(wanted.ref, {**wanted.config, "subjects": [*subjects, *kept]}, wanted.origin)
    labels = {**wanted.metadata, APPLIED_KEY: wider.digest()}
    wider = replace(wider, config={**wider.config, "metadata": labels})
    return replace(desired, resources={**desired.resources, wider.ref: wider})


def dead_letter_phases(changes: Sequence[Change], resumable: Container[Ref]) -> ApplyPhases:
    """Return when DEAD_LETTERS and its consumers are changed: before or after all others.

    It hears of a stream before that lives, and until it is gone. So it comes first where it gives nothing up. Otherwise it
    comes last, and takes in from the beginning what it shall: what has failed is copied into it meanwhile. One that is
    `resumable` on its way already takes nothing in before it has arrived.
    """
    change = next((each for each in changes if _is_dead_letters(each)), None)
    if change is None or change.action in (Action.DELETE, Action.IMPOSSIBLE):
        return ApplyPhases()
    here = {change.ref.stream, change.current_ref.stream}
    own = frozenset(each.ref for each in changes if each.ref.stream in here)
    gives_up = change.action is Action.REPLACE or bool(
        _advisory_subjects(change, before=True) - _advisory_subjects(change)
    )
    if gives_up and change.ref not in resumable:
        needed = {ref for each in changes if each.ref not in own for ref in each.depends_on}
        return (
            ApplyPhases() if needed & own else ApplyPhases(last=own, early_subjects=_early_subjects(change))
        )
    waits = any(ref not in own for each in changes if each.ref in own for ref in each.depends_on)
    return ApplyPhases() if waits else ApplyPhases(first=own)


def _early_subjects(change: Change) -> tuple[str, ...]:
    """Return the subjects that DEAD_LETTERS stores until it is changed: the old and the new ones; none if two of them would overlap.

    The notices that it shall hear, and where whole messages are handed in: what is archived meanwhile is published there.
    """
    held = change.before.get("subjects") if change.before else ()
    gained = set(change.after.get("subjects") if change.after else ()) - set(held)
    left = [subject for subject in held if not any(covers(wide, subject) for wide in gained)]
    apart = not any(overlap(new, old) for new in gained for old in left)
    return (*left, *sorted(gained)) if gained and apart else ()


def _advisory_subjects(change: Change, *, before: bool = False) -> set[str]:
    side = change.before if before else change.after
    subjects: Iterable[str] = side.get("subjects") if side else ()
    return {subject for subject in subjects if stream_of_advisory(subject) is not None}


def _is_dead_letters(change: Change) -> bool:
    side = change.after or change.before
    return (
        side is not None
        and not change.ref.consumer
        and side.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS
    )
