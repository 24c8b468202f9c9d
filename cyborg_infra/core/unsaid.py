"""What a manifest made from an account leaves out, in sentences. Looks at the plan that it leads to, so that nothing is forgotten."""

from __future__ import annotations

from collections.abc import Iterator

from cyborg_infra.core import namespace
from cyborg_infra.core.diff import is_mark
from cyborg_infra.core.imports import bucket_of, concerns, follows_scheme
from cyborg_infra.model.org import Org, StreamKind
from cyborg_infra.model.plan import Action, Change, Plan
from cyborg_infra.model.state import BUCKETS, KIND, Ref, Resource, State


def unsaid(plan: Plan, live: State, org: Org) -> list[str]:
    """Whatever `plan`, of the manifest that `org` was written to, does but adopt; and what it does not know of."""
    return [
        *(problem.message for problem in plan.problems),
        *(note for change in plan.changes for note in _changed(change)),
        *_without_dead_letters(plan.desired),
        *(note for found in live.resources.values() for note in _stranger(found, plan.desired, org)),
    ]


def _changed(change: Change) -> Iterator[str]:
    if change.action is Action.CREATE:
        yield f"{change.ref} does not exist: apply will create it"
        return
    yield from (problem.message for problem in change.problems)
    names = [
        field.field for field in change.fields if not is_mark(field) and field.field != f"metadata.{BUCKETS}"
    ]
    if names and not change.problems:
        verb = "replace it to change" if change.action is Action.REPLACE else "change"
        yield f"{change.ref} differs in what the manifest does not say: apply would {verb} {', '.join(names)}"


def _without_dead_letters(desired: State) -> Iterator[str]:
    """A DEAD_LETTERS made by hand stores what agents publish; what the server gives up on is lost."""
    for stream in desired.streams():
        stored = stream.config.get("subjects") or ()
        if stream.metadata[KIND] == StreamKind.DEAD_LETTERS and not any(
            subject.startswith(namespace.ADVISORIES) for subject in stored
        ):
            yield (
                f"{stream.ref} does not store the server's notices of messages that failed for good:"
                " take subjects and subject_transform out of streams.dead_letters, and apply will route them there"
            )


def _stranger(found: Resource, desired: State, org: Org) -> Iterator[str]:
    """What is of the organisation by name, subject or mark, and not in its manifest."""
    if found.ref in desired.resources:
        return
    known = Ref(found.ref.stream) in desired.resources
    if found.owner not in (None, org.name):
        if known or follows_scheme(found, org) or concerns(found, org):
            yield f"{found.ref} belongs to organisation {found.owner} and is left alone"
    elif found.ref.consumer:
        if known:
            yield f"{found.ref} is a consumer outside the naming scheme and is left alone"
    elif bucket := bucket_of(found):
        yield f"{found.ref} is a key-value bucket and is left alone; {bucket} under key_value would take it over"
    elif concerns(found, org):
        stored = ", ".join(found.config.get("subjects") or ()) or "nothing by itself"
        yield f"{found.ref} is a stream outside the naming scheme and is left alone; it stores {stored}"
    elif follows_scheme(found, org):
        yield f"{found.ref} is named as a stream of {org.name} but stores none of its subjects; it is left alone"
