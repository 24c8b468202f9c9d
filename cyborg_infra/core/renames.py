"""Which living streams and consumers go on under another name: of a renamed role, or behind a new stream_prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cyborg_infra.model.fields import Kind
from cyborg_infra.model.org import StreamKind
from cyborg_infra.model.state import BECOMES, KIND, RENAMED_FROM, Ref, Resource, State


def predecessors(live: State, desired: State, left: Sequence[Resource]) -> Mapping[Ref, Ref]:
    """Desired resource -> the one of `left`, which the organisation no longer wants under its name, whose place it takes.

    Only what does not exist yet takes a place, of the one other resource with its kind and role, or with the role's
    former name; a consumer in its own stream, or in the one whose place its stream takes. A bucket with another
    name is another bucket. A replace that was interrupted says itself where its messages belong.
    """
    streams = [found for found in left if found.ref.kind is Kind.STREAM]
    named = [stream for stream in streams if stream.metadata.get(KIND) != StreamKind.KEY_VALUE]
    found = dict(_successions(desired.streams(), named, live))
    for stream in streams:
        if (successor := Ref(stream.metadata.get(BECOMES, ""))) in desired.resources:
            found[successor] = stream.ref
    readers: dict[str, list[Resource]] = {}
    for consumer in left:
        if consumer.ref.kind is Kind.CONSUMER:
            readers.setdefault(consumer.ref.stream, []).append(consumer)
    for stream in desired.streams() if readers else ():
        homes = {stream.ref, found.get(stream.ref, stream.ref)}
        there = [reader for home in homes for reader in readers.get(home.stream, ())]
        found |= _successions(desired.consumers(stream.ref.stream), there, live)
    return found


def _successions(
    desired: Sequence[Resource], left: Sequence[Resource], live: State
) -> Iterator[tuple[Ref, Ref]]:
    """(desired resource that does not exist, the one of `left` whose place it takes)."""
    held = _by_part(left)
    for wanted in desired if held else ():
        former = wanted.metadata.get(RENAMED_FROM)
        for role in (wanted.role, former) if former else (wanted.role,):
            places = held.get((wanted.metadata[KIND], role), ())
            if wanted.ref not in live.resources and len(places) == 1:
                yield wanted.ref, places[0].ref
                break


def _by_part(resources: Iterable[Resource]) -> Mapping[tuple[str | None, str | None], list[Resource]]:
    """Kind and role -> the resources with it."""
    found: dict[tuple[str | None, str | None], list[Resource]] = {}
    for resource in resources:
        found.setdefault((resource.metadata.get(KIND), resource.role), []).append(resource)
    return found
