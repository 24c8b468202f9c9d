"""What the manifest sets for one resource, over all its layers, and the line where each value stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cyborg_infra.model.fields import Kind
from cyborg_infra.model.org import ConsumerKind, Fields, Org, Path, Role, StreamKind
from cyborg_infra.model.problems import Mark
from cyborg_infra.model.state import KIND, Resource


def explicit(org: Org, kind: StreamKind | ConsumerKind, role: Role | None) -> dict[str, Any]:
    """The fields that somebody set, later layers and narrower scopes winning; metadata adds up."""
    found: dict[str, Any] = {}
    for _path, fields in _scopes(org, kind, role):
        metadata = {**found.get("metadata", {}), **fields.get("metadata", {})}
        found |= fields
        if metadata:
            found["metadata"] = metadata
    return found


def kind_of(resource: Resource) -> StreamKind | ConsumerKind:
    """Which of the organisation's streams or consumers this is, by its own mark. Raises KeyError without one."""
    kind = resource.metadata[KIND]
    return StreamKind(kind) if resource.ref.kind is Kind.STREAM else ConsumerKind(kind)


def place(org: Org, kind: StreamKind | ConsumerKind, role: Role | None, *names: str) -> Mark | None:
    """Where the winning value of one of `names` stands; without one, where the resource comes from."""
    if found := set_at(org, kind, role, *names):
        return found
    if role is not None:
        return role.mark
    section = "streams" if isinstance(kind, StreamKind) else "consumers"
    return org.marks.get((section, kind.value)) or org.marks.get(("org",))


def set_at(org: Org, kind: StreamKind | ConsumerKind, role: Role | None, *names: str) -> Mark | None:
    """Where the winning value of one of `names` stands, or None if nobody set one."""
    for path, fields in reversed(list(_scopes(org, kind, role))):
        for name in names:
            field = "replicas" if name == "num_replicas" and path[-1] == "defaults" else name
            if name in fields and (*path, field) in org.marks:
                return org.marks[*path, field]
    return None


def _scopes(org: Org, kind: StreamKind | ConsumerKind, role: Role | None) -> Iterator[tuple[Path, Fields]]:
    """Every place that may set a field of this resource, weakest first."""
    prefixes: list[Path] = [(), ("environments", org.environment or "")]
    for prefix, layer in zip(prefixes, org.layers, strict=False):
        if isinstance(kind, StreamKind):
            yield (*prefix, "defaults"), layer.defaults
            yield (*prefix, "streams", kind.value), layer.streams.get(kind, {})
        else:
            yield (*prefix, "consumers", kind.value), layer.consumers.get(kind, {})
        if role is not None:
            yield (*prefix, "roles", role.name, kind.value), layer.roles.get(role.name, {}).get(kind, {})
