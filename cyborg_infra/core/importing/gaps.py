"""List what an imported manifest does not describe, in sentences; derived from the plan of that manifest, so the list is complete."""

from __future__ import annotations

from collections.abc import Iterator

from cyborg_infra.core.desired import naming
from cyborg_infra.core.importing.describe import belongs_to, bucket_of, has_scheme_name
from cyborg_infra.core.planning.diff import is_ownership_change
from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.metadata_keys import BUCKETS_KEY, KIND_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, LiveResource, LiveState


def describe_gaps(plan: Plan, live: LiveState, org: Org) -> list[str]:
    """Return whatever `plan`, of the manifest that `org` was written to, does but adopt; and what it does not know of."""
    return [
        *(problem.message for problem in plan.problems),
        *(note for change in plan.changes for note in _describe_change(change)),
        *_without_dead_letters(plan.desired),
        *(note for found in live.resources.values() for note in _describe_foreign(found, plan.desired, org)),
    ]


def _describe_change(change: Change) -> Iterator[str]:
    if change.action is Action.CREATE:
        yield f"{change.ref} does not exist: apply will create it"
        return
    yield from (problem.message for problem in change.problems)
    names = [
        field.field
        for field in change.fields
        if not is_ownership_change(field) and field.field != f"metadata.{BUCKETS_KEY}"
    ]
    if names and not change.problems:
        verb = "replace it to change" if change.action is Action.REPLACE else "change"
        yield f"{change.ref} differs in what the manifest does not say: apply would {verb} {', '.join(names)}"


def _without_dead_letters(desired: DesiredState) -> Iterator[str]:
    """Yield a DEAD_LETTERS that was made by hand: it stores what agents publish, and not what the server gives up on."""
    for stream in desired.streams():
        stored = stream.get("subjects")
        if stream.metadata[KIND_KEY] == StreamKind.DEAD_LETTERS and not any(
            subject.startswith(naming.ADVISORIES) for subject in stored
        ):
            yield (
                f"{stream.ref} does not store the server's notices of messages that failed for good:"
                " take subjects and subject_transform out of streams.dead_letters, and apply will route them there"
            )


def _describe_foreign(found: LiveResource, desired: DesiredState, org: Org) -> Iterator[str]:
    """Yield what is of the organisation by name, subject or mark, and not in its manifest."""
    if found.ref in desired.resources:
        return
    known = Ref(found.ref.stream) in desired.resources
    if found.owner not in (None, org.name):
        if known or has_scheme_name(found, org) or belongs_to(found, org):
            yield f"{found.ref} belongs to organisation {found.owner} and is left alone"
    elif found.ref.consumer:
        if known:
            yield f"{found.ref} is a consumer outside the naming scheme and is left alone"
    elif bucket := bucket_of(found):
        yield f"{found.ref} is a key-value bucket and is left alone; {bucket} under key_value would take it over"
    elif belongs_to(found, org):
        stored = ", ".join(found.get("subjects")) or "nothing by itself"
        yield f"{found.ref} is a stream outside the naming scheme and is left alone; it stores {stored}"
    elif has_scheme_name(found, org):
        yield f"{found.ref} is named as a stream of {org.name} but stores none of its subjects; it is left alone"
