"""What the manifest sets for one resource, over all its layers, and the line where each value stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cyborg_infra.model.buckets import WORD_OF, bucket_stream
from cyborg_infra.model.channels import TASKS, ConsumerKind, StreamKind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import (
    ADMISSION,
    LAG,
    Bucket,
    FieldValues,
    ManifestPath,
    Member,
    Org,
    Role,
)
from cyborg_infra.model.problems import SourcePosition
from cyborg_infra.model.resources import DesiredResource, Resource


def explicit_settings(org: Org, kind: StreamKind | ConsumerKind, member: Member | None) -> dict[str, Any]:
    """Return the fields that somebody set, later layers and narrower scopes winning; metadata adds up.

    An admission counts as the fields that it stands for, set where it is set; it is in the answer as well.
    """
    found: dict[str, Any] = {}
    scopes = [fields for _path, fields in _scopes(org, kind, member)]
    admitting = next((fields for fields in reversed(scopes) if ADMISSION in fields), None)
    for fields in scopes:
        metadata = {**found.get("metadata", {}), **fields.get("metadata", {})}
        if fields is admitting:
            found |= admission_fields(fields[ADMISSION])
        found |= fields
        if metadata:
            found["metadata"] = metadata
    return found


def overridden_for_role(org: Org) -> frozenset[tuple[StreamKind | ConsumerKind, str]]:
    """Return the kinds and roles for which somebody set a field for this role alone."""
    return frozenset(
        (kind, name) for layer in org.layers for name, kinds in layer.roles.items() for kind in kinds
    )


def overridden_fields(
    org: Org, *names: str
) -> tuple[set[StreamKind | ConsumerKind], set[tuple[StreamKind | ConsumerKind, str]]]:
    """Return the kinds for which somebody set one of these fields, and those with a role for which it was set alone."""
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


def admission_fields(admission: FieldValues) -> dict[str, Any]:
    """Return the stream fields by which the server itself refuses a task beyond max_pending unfinished ones.

    On a workqueue an acknowledged message is gone, so what is stored is what is unfinished; under discard new
    the server answers the next publish with 10077 (2.10 to 2.15). A message that used up its deliveries is
    unfinished: it keeps its place until it is taken out, or max_age ends.
    """
    most = admission.get("max_pending")
    return {"retention": "workqueue", "discard": "new", "max_msgs": most} if most else {}


def enforces_admission(stream: Resource) -> bool:
    """Return whether the server itself refuses what is too much: a workqueue that takes so many unfinished tasks and no more."""
    config = stream.config
    return (
        config.get("retention") == "workqueue"
        and config.get("discard") == "new"
        and config.get("max_msgs", -1) > 0
    )


def is_copying(stream: Resource) -> bool:
    """Return whether the stream takes messages from others."""
    return bool(stream.get("mirror") or stream.get("sources"))


def admitted(streams: Iterable[Resource]) -> Mapping[tuple[str, str], int]:
    """Return (role, queue) -> how many unfinished tasks the role is allowed. Fewer are no lag, unless the manifest sets a lag for tasks or for the role."""
    return {
        (stream.role or "", TASKS): stream.get("max_msgs") for stream in streams if enforces_admission(stream)
    }


def lag_mark(org: Org, role: Role) -> SourcePosition | None:
    """Return where the lag of a role's tasks stands that holds; where the role does, if it is of all queues."""
    for prefix in (("environments", org.environment or ""), ()):
        for path in (
            ("roles", role.name, "alerts", TASKS),
            ("roles", role.name, "alerts"),
            ("alerts", TASKS),
        ):
            if mark := org.marks.get((*prefix, *path, LAG)):
                return mark
    return role.mark


def kind_of(resource: Resource) -> StreamKind | ConsumerKind:
    """Return which of the organisation's streams or consumers this is, by its own mark. Raises KeyError without one."""
    kind = resource.metadata[KIND_KEY]
    return ConsumerKind(kind) if resource.ref.consumer else StreamKind(kind)


def member_of(org: Org, resource: Resource) -> Member | None:
    """Return the role or the bucket whose resource this is, or None if it is shared."""
    if kind_of(resource) == StreamKind.KEY_VALUE:
        return next(one for one in org.buckets if bucket_stream(one.name) == resource.ref.stream)
    return org.role(resource.role)


def source_mark(
    org: Org, kind: StreamKind | ConsumerKind, member: Member | None, *names: str
) -> SourcePosition | None:
    """Return where the winning value of one of `names` stands; without one, where the resource comes from."""
    if names and (found := setting_mark(org, kind, member, *names)):
        return found
    if member is not None:
        return member.mark
    section = "streams" if isinstance(kind, StreamKind) else "consumers"
    return org.marks.get((section, kind)) or org.marks.get(("org",))


def setting_mark(
    org: Org, kind: StreamKind | ConsumerKind, member: Member | None, *names: str
) -> SourcePosition | None:
    """Return where the winning value of one of `names` stands, or None if nobody set one. An admission sets what it stands for."""
    for path, fields in reversed(list(_scopes(org, kind, member))):
        for name in names:
            said = (
                ADMISSION
                if name not in fields and name in admission_fields(fields.get(ADMISSION, {}))
                else name
            )
            if said in fields and (mark := org.marks.get((*path, _word(path, said)))):
                return mark
    return None


def where_set(desired: DesiredResource, org: Org | None, field: str) -> SourcePosition | None:
    """Return where the manifest sets this field of a resource; where it does not, or is not at hand, where the resource comes from."""
    found = setting_mark(org, kind_of(desired), member_of(org, desired), field) if org else None
    return found or desired.origin


def holds_over(
    org: Org, kind: StreamKind | ConsumerKind, member: Member | None, name: str, other: str
) -> bool:
    """Return whether both fields are set, and `name` in the same layer as `other` or in one that wins over it."""
    set_by = [fields.keys() for _path, fields in _scopes(org, kind, member)]
    last = {
        each: max((place for place, names in enumerate(set_by) if each in names), default=-1)
        for each in (name, other)
    }
    return last[name] >= last[other] >= 0


def _word(path: ManifestPath, name: str) -> str:
    """Return what the manifest calls a field in this section."""
    if path[-1] == "defaults":
        return "replicas" if name == "num_replicas" else name
    return WORD_OF.get(name, name) if path[-2:-1] == (StreamKind.KEY_VALUE,) else name


def _scopes(
    org: Org, kind: StreamKind | ConsumerKind, member: Member | None
) -> Iterator[tuple[ManifestPath, FieldValues]]:
    """Yield every place that may set a field of this resource, weakest first."""
    for prefix, layer in org.layers_by_path():
        if isinstance(kind, StreamKind):
            yield (*prefix, "defaults"), layer.defaults
            yield (*prefix, "streams", kind), layer.streams.get(kind, {})
        else:
            yield (*prefix, "consumers", kind), layer.consumers.get(kind, {})
        match member:
            case Role(name):
                yield (*prefix, "roles", name, kind), layer.roles.get(name, {}).get(kind, {})
            case Bucket(name):
                yield (*prefix, kind, name), layer.buckets.get(name, {})
