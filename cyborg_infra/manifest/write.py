"""Write an organisation as the text of a manifest, with one layer; environments are for people to add."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.manifest.channels import describe_channels
from cyborg_infra.manifest.field_values import from_wire
from cyborg_infra.manifest.yaml_source import is_plain
from cyborg_infra.model.buckets import BUCKET_USERS, WORD_OF
from cyborg_infra.model.channels import ConsumerKind, StreamKind
from cyborg_infra.model.fields import FIELDS, Kind
from cyborg_infra.model.organisation import Bucket, Event, FieldValues, Org, Overrides, Role

_BMP = 0xFFFF  # YAML escapes what is above with eight digits
_UNIT = re.compile(r"(?:[1-9][0-9]*(?:ns|us|ms|[smh]|[KMGT]B))+")  # what sizes and durations look like


def write_manifest(org: Org, head: str, notes: Sequence[str] = ()) -> str:
    """Return the manifest of `org`, of which only the first layer counts; `head` is its first comment, `notes` are its last."""
    body = "\n\n".join("\n".join(_lines({key: value})) for key, value in _data(org).items())
    tail = "".join(f"\n# - {_visible(note)}" for note in notes)
    return f"# {_visible(head)}\n\n{body}\n" + (f"\n# Not in this manifest:{tail}\n" if tail else "")


def _data(org: Org) -> dict[str, Any]:
    """Return the manifest as plain data; what is empty is left out."""
    layer = org.layers[0] if org.layers else Overrides()
    roles = {role.name: _role(role, layer) for role in org.roles}
    channels, names = describe_channels(org.channels)
    found = {
        "org": org.name,
        "description": org.description,
        "naming": _naming(org, names),
        "roles": roles if any(roles.values()) else list(roles),
        "groups": {group.name: list(group.members) for group in org.groups},
        "channels": channels,
        "events": {event.name: _event(event) for event in org.events},
        "defaults": {
            "replicas" if name == "num_replicas" else name: value
            for name, value in _fields(Kind.STREAM, layer.defaults).items()
        },
        "task_state": any(bucket.task_state for bucket in org.buckets),
        "key_value": _buckets(org, layer),
        "streams": {kind: _fields(Kind.STREAM, own) for kind, own in layer.streams.items()},
        "consumers": {kind: _fields(Kind.CONSUMER, own) for kind, own in layer.consumers.items()},
    }
    return {name: value for name, value in found.items() if value}


def _naming(org: Org, names: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    said = {"stream_prefix": org.stream_prefix} if org.stream_prefix else {}
    prefix = {} if org.subject_prefix in (None, org.name) else {"subject_prefix": org.subject_prefix}
    return {**said, **prefix, **{section: own for section, own in names.items() if own}}


def _role(role: Role, layer: Overrides) -> dict[str, Any] | None:
    own = layer.roles.get(role.name, {})
    values: dict[str, Any] = {
        "description": role.description,
        "renamed_from": role.renamed_from,
        "reports_to": role.reports_to,
        "assigns": list(role.assigns),
    }
    said = {name: value for name, value in values.items() if value}
    if role.is_head:
        said["reports_to"] = False
    if role.scaling:
        said["scaling"] = role.scaling._asdict()
    return said | {kind: _fields(_kind(kind), fields) for kind, fields in own.items() if fields} or None


def _buckets(org: Org, layer: Overrides) -> dict[str, Any]:
    """Return what is said of each bucket, in the clients' words; of the task documents' own only if there is something."""
    said = {
        bucket.name: {
            **{name: list(roles) for name, roles in _users(bucket).items() if roles},
            **{
                WORD_OF[name]: value
                for name, value in _fields(Kind.STREAM, layer.buckets.get(bucket.name, {})).items()
            },
        }
        for bucket in org.buckets
    }
    optional = {bucket.name for bucket in org.buckets if not bucket.task_state}
    return {name: own or None for name, own in said.items() if own or name in optional}


def _users(bucket: Bucket) -> dict[str, tuple[str, ...]]:
    return {name: getattr(bucket, name) for name in BUCKET_USERS}


def _kind(kind: StreamKind | ConsumerKind) -> Kind:
    return Kind.STREAM if isinstance(kind, StreamKind) else Kind.CONSUMER


def _event(event: Event) -> dict[str, Any] | None:
    found = {
        "description": event.description,
        "publishers": list(event.publishers),
        "subscribers": list(event.subscribers),
        "durable": event.durable,
    }
    return {name: value for name, value in found.items() if value} or None


def _fields(kind: Kind, fields: FieldValues) -> dict[str, Any]:
    return {name: from_wire(FIELDS[kind][name], value) for name, value in fields.items()}


def _lines(data: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield a mapping, one entry a line; lists and what is in them between brackets, except a list of names at the top."""
    for key, value in data.items():
        begin = f"{indent}{_scalar(key)}:"
        if isinstance(value, Mapping) and value:
            yield begin
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, list) and value and not indent:
            yield begin
            yield from (f"  - {_flow(item)}" for item in value)
        else:
            yield begin if value is None else f"{begin} {_flow(value)}"


def _flow(value: Any) -> str:
    match value:
        case Mapping():
            return "{" + ", ".join(f"{_scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return f"[{', '.join(_flow(item) for item in value)}]"
        case bool() | int():
            return json.dumps(value)
    return _scalar(value)


def _scalar(value: str) -> str:
    """Return `value` as YAML writes it, with quotes where it needs them."""
    return (
        value
        if is_plain(value) or _UNIT.fullmatch(value)
        else _visible(json.dumps(value, ensure_ascii=False))
    )


def _visible(value: str) -> str:
    """Return `value` with escapes for what YAML would not take as it is, or nobody could see."""
    return "".join(char if char.isprintable() else _escaped(char) for char in value)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= _BMP else f"\\U{code:08x}"
