"""Match orphans with desired resources of another name: a renamed role, or a new stream_prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.metadata_keys import BECOMES_KEY, KIND_KEY, RENAMED_FROM_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, DesiredState, LiveResource, LiveState


def predecessors(
    live: LiveState, desired: DesiredState, orphans: Sequence[LiveResource]
) -> Mapping[Ref, Ref]:
    """Return desired resource -> the one of `orphans`, which the organisation no longer wants under its name, whose place it takes.

    Only what does not exist yet takes a place, of the one other resource with its kind and role, or with the role's
    former name; a consumer in its own stream, or in the one whose place its stream takes. A bucket with another
    name is another bucket. A replace that was interrupted says itself where its messages belong.
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
        found |= _successions(desired.consumers(wanted.ref.stream), there, live)
    return found


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
    """Return kind and role -> the resources with it."""
    found: dict[tuple[str | None, str | None], list[LiveResource]] = {}
    for resource in resources:
        found.setdefault((resource.metadata.get(KIND_KEY), resource.role), []).append(resource)
    return found
