"""What the manifest sets for one resource, over all its layers, and the line where each value stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cyborg_infra.model.buckets import WORD_OF, bucket_stream
from cyborg_infra.model.org import (
    ADMISSION,
    Bucket,
    ConsumerKind,
    Fields,
    Member,
    Org,
    Path,
    Role,
    StreamKind,
)
from cyborg_infra.model.problems import Mark
from cyborg_infra.model.state import KIND, Resource


def explicit(org: Org, kind: StreamKind | ConsumerKind, member: Member | None) -> dict[str, Any]:
    """The fields that somebody set, later layers and narrower scopes winning; metadata adds up.

    An admission counts as the fields that it stands for, set where it is set; it is in the answer as well.
    """
    found: dict[str, Any] = {}
    scopes = [fields for _path, fields in _scopes(org, kind, member)]
    admitting = next((fields for fields in reversed(scopes) if ADMISSION in fields), None)
    for fields in scopes:
        metadata = {**found.get("metadata", {}), **fields.get("metadata", {})}
        if fields is admitting:
            found |= admitted(fields[ADMISSION])
        found |= fields
        if metadata:
            found["metadata"] = metadata
    return found


def set_alone(org: Org) -> frozenset[tuple[StreamKind | ConsumerKind, str]]:
    """The kinds and roles for which somebody set a field for this role alone."""
    return frozenset(
        (kind, name) for layer in org.layers for name, kinds in layer.roles.items() for kind in kinds
    )


def set_with(
    org: Org, *names: str
) -> tuple[set[StreamKind | ConsumerKind], set[tuple[StreamKind | ConsumerKind, str]]]:
    """The kinds for which somebody set one of these fields, and those with a role for which it was set alone."""
    kinds: set[StreamKind | ConsumerKind] = set()
    alone: set[tuple[StreamKind | ConsumerKind, str]] = set()
    wanted = frozenset(names)
    for layer in org.layers:
        kinds |= {kind for kind, fields in layer.streams.items() if not wanted.isdisjoint(fields)}
        kinds |= {kind for kind, fields in layer.consumers.items() if not wanted.isdisjoint(fields)}
        alone |= {
            (kind, role)
            for role, own in layer.roles.items()
            for kind, fields in own.items()
            if not wanted.isdisjoint(fields)
        }
    return kinds, alone


def admitted(admission: Fields) -> dict[str, Any]:
    """The stream fields by which the server itself refuses a task beyond max_pending unfinished ones.

    On a workqueue an acknowledged message is gone, so what is stored is what is unfinished; under discard new
    the server answers the next publish with 10077 (2.10 to 2.15). A message that used up its deliveries is
    unfinished: it keeps its place until it is taken out, or max_age ends.
    """
    most = admission.get("max_pending")
    return {"retention": "workqueue", "discard": "new", "max_msgs": most} if most else {}


_STREAMS: Mapping[str, StreamKind] = {kind.value: kind for kind in StreamKind}
_CONSUMERS: Mapping[str, ConsumerKind] = {kind.value: kind for kind in ConsumerKind}


def kind_of(resource: Resource) -> StreamKind | ConsumerKind:
    """Which of the organisation's streams or consumers this is, by its own mark. Raises KeyError without one."""
    return (_CONSUMERS if resource.ref.consumer else _STREAMS)[resource.metadata[KIND]]


def member_of(org: Org, resource: Resource) -> Member | None:
    """The role or the bucket that this is of, or None if it is shared."""
    if kind_of(resource) is StreamKind.KEY_VALUE:
        return next(one for one in org.buckets if bucket_stream(one.name) == resource.ref.stream)
    return org.role(resource.role)


def place(org: Org, kind: StreamKind | ConsumerKind, member: Member | None, *names: str) -> Mark | None:
    """Where the winning value of one of `names` stands; without one, where the resource comes from."""
    if names and (found := set_at(org, kind, member, *names)):
        return found
    if member is not None:
        return member.mark
    section = "streams" if isinstance(kind, StreamKind) else "consumers"
    return org.marks.get((section, kind.value)) or org.marks.get(("org",))


def set_at(org: Org, kind: StreamKind | ConsumerKind, member: Member | None, *names: str) -> Mark | None:
    """Where the winning value of one of `names` stands, or None if nobody set one."""
    for path, fields in reversed(list(_scopes(org, kind, member))):
        for name in names:
            if name in fields and (mark := org.marks.get((*path, _word(path, name)))):
                return mark
    return None


def _word(path: Path, name: str) -> str:
    """What the manifest calls a field in this section."""
    if path[-1] == "defaults":
        return "replicas" if name == "num_replicas" else name
    return WORD_OF.get(name, name) if path[-2:-1] == (StreamKind.KEY_VALUE,) else name


def _scopes(
    org: Org, kind: StreamKind | ConsumerKind, member: Member | None
) -> Iterator[tuple[Path, Fields]]:
    """Every place that may set a field of this resource, weakest first."""
    prefixes: list[Path] = [(), ("environments", org.environment or "")]
    for prefix, layer in zip(prefixes, org.layers, strict=False):
        if isinstance(kind, StreamKind):
            yield (*prefix, "defaults"), layer.defaults
            yield (*prefix, "streams", kind.value), layer.streams.get(kind, {})
        else:
            yield (*prefix, "consumers", kind.value), layer.consumers.get(kind, {})
        match member:
            case Role(name):
                yield (*prefix, "roles", name, kind.value), layer.roles.get(name, {}).get(kind, {})
            case Bucket(name):
                yield (*prefix, kind.value, name), layer.buckets.get(name, {})
