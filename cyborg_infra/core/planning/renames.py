"""Match orphans with desired resources of another name: a renamed role, a new stream_prefix, or another reader of the same messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.consumer_position import read_patterns
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.metadata_keys import BECOMES_KEY, KIND_KEY, RENAMED_FROM_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, DesiredState, LiveResource, LiveState, Resource
from cyborg_infra.model.subjects import overlap


def predecessors(
    live: LiveState, desired: DesiredState, orphans: Sequence[LiveResource]
) -> Mapping[Ref, Ref]:
    """Return desired resource -> the one of `orphans`, which the organisation no longer wants under its name, whose place it takes.

    Only what does not exist yet takes a place, of the one other resource with its kind and role, or with the role's
    former name; a consumer in its own stream, or in the one whose place its stream takes. There it also takes the place
    of one that hands over to it, if that alone leaves with its filter, and it alone comes with it. A bucket with
    another name is another bucket. A replace that was interrupted says itself where its messages belong.
    """
    streams = [found for found in orphans if found.ref.kind is Kind.STREAM]
    named = [stream for stream in streams if stream.metadata.get(KIND_KEY) != StreamKind.KEY_VALUE]
    found = dict(_successions(desired.streams(), named, live))
    for stream in streams:
        if (successor := Ref(stream.metadata.get(BECOMES_KEY, ""))) in desired.resources:
            found[successor] = stream.ref
    readers: dict[str, list[LiveResource]] = {}
    for consumer in orphans:
        if consumer.ref.kind is Kind.CONSUMER:
            readers.setdefault(consumer.ref.stream, []).append(consumer)
    for wanted in desired.streams() if readers else ():
        homes = {wanted.ref, found.get(wanted.ref, wanted.ref)}
        there = [reader for home in homes for reader in readers.get(home.stream, ())]
        coming = desired.consumers(wanted.ref.stream)
        found |= _successions(coming, there, live)
        taken = set(found.values())
        found |= _takeovers(
            [reader for reader in coming if reader.ref not in found and reader.ref not in live.resources],
            [reader for reader in there if reader.ref not in taken and not reader.ref.is_placeholder],
            [reader for reader in coming if reader.ref in live.resources],
            {reader.role for reader in desired.resources.values()},
        )
    return found


def hands_over(leaving: Resource, coming: Resource, staying: Iterable[Resource]) -> bool:
    """Return whether the work of a consumer that leaves is for one that comes, which reads some of the same messages.

    It is if both are of one role. Another role takes it over if nobody who stays reads them: where several read the same,
    each for itself, who comes has all of it before him.
    """
    return reads_the_same(leaving, coming) and (
        leaving.role == coming.role or not any(reads_the_same(leaving, reader) for reader in staying)
    )


def reads_the_same(one: Resource, other: Resource) -> bool:
    """Return whether there may be a message that both consumers read."""
    return any(overlap(mine, theirs) for mine in read_patterns(one) for theirs in read_patterns(other))


def _takeovers(
    coming: Sequence[DesiredResource],
    leaving: Sequence[LiveResource],
    staying: Sequence[DesiredResource],
    roles: Collection[str | None],
) -> Iterator[tuple[Ref, Ref]]:
    """Yield pairs of consumers of one stream: one that comes, and the one that leaves with the same filter and hands over to it.

    What is of a role that left the manifest stays where it is.
    """
    for wanted in coming if leaving else ():
        alike, places = (
            [reader for reader in readers if set(read_patterns(reader)) == set(read_patterns(wanted))]
            for readers in (coming, leaving)
        )
        if len(alike) != 1 or len(places) != 1 or places[0].role not in {*roles, None}:
            continue
        if hands_over(places[0], wanted, staying):
            yield wanted.ref, places[0].ref


def names_in_use(
    live: LiveState, desired: DesiredState, owner: str, there: Iterable[Ref]
) -> Mapping[Ref, Ref]:
    """Return stream -> the desired one that it becomes, where another desired stream shall have its name.

    A stream goes on under another name only once; so those in its place have to wait. Where two swap their names each is
    in the other's way, also if their subjects change and so move in no circle. Only what is `there` otherwise than it is desired can be so.
    """
    others = {}
    for ref in there:
        wanted, held = desired.resources.get(ref), live.resources.get(ref)
        if ref.consumer or wanted is None or held is None or held.owner != owner:
            continue
        known = held.metadata.get(KIND_KEY), held.role
        if known != (wanted.metadata[KIND_KEY], wanted.role):
            others[ref] = known
    if not others:
        return {}
    homes: dict[tuple[str | None, str | None], Ref] = {
        (stream.metadata[KIND_KEY], stream.role): stream.ref
        for stream in desired.streams()
        if stream.metadata[KIND_KEY] != StreamKind.KEY_VALUE
    }
    return {ref: homes[known] for ref, known in sorted(others.items()) if known in homes}


def _successions(
    desired: Sequence[DesiredResource], orphans: Sequence[LiveResource], live: LiveState
) -> Iterator[tuple[Ref, Ref]]:
    """Yield pairs: a desired resource that does not exist, and the one of `orphans` whose place it takes."""
    held = _by_kind_and_role(orphans)
    for wanted in desired if held else ():
        former = wanted.metadata.get(RENAMED_FROM_KEY)
        for role in (wanted.role, former) if former else (wanted.role,):
            places = held.get((wanted.metadata[KIND_KEY], role), ())
            if wanted.ref not in live.resources and len(places) == 1:
                yield wanted.ref, places[0].ref
                break


def _by_kind_and_role(
    resources: Iterable[LiveResource],
) -> Mapping[tuple[str | None, str | None], list[LiveResource]]:
    """Return (kind, role) -> the resources."""
    found: dict[tuple[str | None, str | None], list[LiveResource]] = {}
    for resource in resources:
        found.setdefault((resource.metadata.get(KIND_KEY), resource.role), []).append(resource)
    return found
