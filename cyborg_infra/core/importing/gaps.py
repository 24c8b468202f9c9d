"""List what an imported manifest does not describe, in sentences; derived from the plan of that manifest, so the list is complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.core.desired import naming
from cyborg_infra.core.desired.settings import kind_of
from cyborg_infra.core.importing.describe import belongs_to, bucket_of, has_scheme_name
from cyborg_infra.core.planning.diff import is_ownership_change
from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.channels import DEAD_LETTERS, StreamKind
from cyborg_infra.model.metadata_keys import BUCKETS_KEY, KIND_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, LiveResource, LiveState
from cyborg_infra.model.wording import Command, Option, worded

_MAX_NAMED = 5
"""So many streams are told by name."""


def describe_gaps(plan: Plan, live: LiveState, org: Org, *, names_are_known: bool) -> list[str]:
    """Return in sentences what `plan`, made of the written manifest, would change, and what the manifest does not know of."""
    foreign = [found for found in live.resources.values() if found.ref not in plan.desired.resources]
    return [
        *(problem.message for problem in plan.problems),
        *_describe_missing(plan.changes, org),
        *(note for change in plan.changes for note in _describe_change(change)),
        *_without_dead_letters(plan.desired),
        *(note for found in foreign for note in _describe_foreign(found, plan.desired, org)),
        *(() if names_are_known else _own_channels([found for found in foreign if _is_outside(found, org)])),
    ]


def _describe_missing(changes: Sequence[Change], org: Org) -> Iterator[str]:
    """Yield a sentence for each stream or consumer that does not exist, with the way to leave its channel out."""
    missing = [change.after for change in changes if change.action is Action.CREATE and change.after]
    streams = {found.ref.stream for found in missing if not found.ref.consumer}
    for found in missing:
        if found.ref.consumer:
            if found.ref.stream not in streams:
                yield f"{found.ref} does not exist: apply will create it"
            continue
        readers = sum(other.ref.stream == found.ref.stream for other in missing) - 1
        what = f"{found.ref} does not exist: apply will create it"
        if readers:
            its = "its consumer" if readers == 1 else f"its {readers} consumers"
            what = f"{found.ref} and {its} do not exist: apply will create them"
        channel = org.channel_of(kind_of(found))
        if found.role is None and channel and channel.name != DEAD_LETTERS and not channel.is_own:
            what = f"{what}, unless the manifest has channels: {{{channel.name}: false}}"
        yield what


def _own_channels(streams: Sequence[LiveResource]) -> Iterator[str]:
    """Yield how to import streams that belong to no built-in channel."""
    if streams:
        names = ", ".join(str(found.ref) for found in streams[:_MAX_NAMED]) + ", ..." * (
            len(streams) > _MAX_NAMED
        )
        yield worded(
            "{} may be of channels of your own: `{} {}` reads them by the manifest that they were made by, or by a file that has them under channels",
            names,
            Command("import"),
            Option("naming", "FILE"),
        )


def _is_outside(found: LiveResource, org: Org) -> bool:
    """Return whether it is a stream with subjects of the organisation, and of no channel that its manifest has."""
    ours = found.owner in (None, org.name) and not found.ref.consumer and not bucket_of(found)
    return ours and belongs_to(found, org)


def _describe_change(change: Change) -> Iterator[str]:
    if change.action is Action.CREATE:
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
    known = Ref(found.ref.stream) in desired.resources
    if found.owner not in (None, org.name):
        if known or has_scheme_name(found, org) or belongs_to(found, org):
            yield f"{found.ref} belongs to organisation {found.owner} and is left alone"
    elif found.owner == org.name:
        if known or not found.ref.consumer:
            yield worded(
                "{} is of this organisation, and not in this manifest: it would be an orphan, which `{} {}` deletes",
                found.ref,
                Command("apply"),
                Option("prune"),
            )
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
