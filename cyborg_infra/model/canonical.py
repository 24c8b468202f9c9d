"""What a configuration means: the form in which two of them are compared, whatever the server filled in or left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cyborg_infra.model.fields import FIELDS, Config, Field, Kind, Unit

SERVER_METADATA = "_nats."
"""Metadata keys that the server writes; they never count and are never sent (2.11+)."""


def normal(field: Field, value: Any) -> Any:
    """`value` as it is compared: what the server fills in, leaves out or reorders makes no difference."""
    if shape := _SHAPES.get(field.unit):
        return shape(field, value)
    if field.default == -1 and (value is None or value <= 0):
        return -1  # 0 and everything below mean unlimited
    return value or field.default


def _object(field: Field, value: Config) -> dict[str, Any]:
    units_of = field.parts or {}
    said: dict[str, Any] = _without_defaults(value)
    return {name: _in_utc(item) if units_of.get(name) is Unit.TIME else item for name, item in said.items()}


_TIME = re.compile(r"(.{19})(?:\.(\d+?)0*)?([Z+-].*)", re.ASCII)


def _in_utc(text: str) -> str:
    """The moment as the server writes it in UTC; it keeps the offset that it was given."""
    if match := _TIME.fullmatch(text):
        with suppress(ValueError, OverflowError):  # no such day; before the year 1
            moment = datetime.fromisoformat(match[1] + match[3]).astimezone(UTC)
            fraction = "" if match[2] in (None, "0") else f".{match[2]}"
            return f"{moment.replace(tzinfo=None).isoformat()}{fraction}Z"
    return text


def _without_defaults(value: Any) -> Any:
    """Nested objects without the members that say nothing (null, empty, zero, false)."""
    if isinstance(value, Mapping):
        kept = {key: _without_defaults(item) for key, item in sorted(value.items())}
        return {key: item for key, item in kept.items() if item not in (None, "", 0, False, {}, [])}
    if isinstance(value, list | tuple):
        return [_without_defaults(item) for item in value]
    return value


def written(labels: Mapping[str, str] | None, *besides: str) -> dict[str, str]:
    """The labels that somebody wrote, sorted: neither the server's nor those `besides`."""
    kept = {key: text for key, text in sorted((labels or {}).items()) if not key.startswith(SERVER_METADATA)}
    for key in besides:
        kept.pop(key, None)
    return kept


_SHAPES: Mapping[Unit, Callable[[Field, Any], Any]] = {
    Unit.SUBJECTS: lambda _, value: tuple(sorted(set(value or ()))),
    Unit.OBJECT: lambda field, value: _object(field, value or {}) or None,
    Unit.OBJECTS: lambda field, value: (
        tuple(sorted((_object(field, item) for item in value or ()), key=repr)) or None
    ),
    Unit.TIME: lambda field, value: _in_utc(value) if value else field.default,
    Unit.DURATIONS: lambda _, value: tuple(value or ()) or None,
    Unit.NAMES: lambda _, value: tuple(value or ()) or None,
    Unit.METADATA: lambda _, value: written(value) or None,
}
"""What is more than a plain value."""


def canonical(kind: Kind, config: Config) -> dict[str, Any]:
    """The managed fields of `config` that differ from their default, normalised.

    Two configurations mean the same exactly if their canonical forms are equal, whatever the server filled
    in; and a row that a later version of this table adds changes no canonical form.
    """
    found = without_labels(kind, config)
    if labels := written(config.get("metadata")):
        found["metadata"] = labels
    return found


def without_labels(kind: Kind, config: Config) -> dict[str, Any]:
    """The canonical form but for the metadata."""
    alike = dict(config)
    for name in _APART:
        alike.pop(name, None)
    own = {name: alike.pop(name) for name in _OWN if name in alike}
    found = {**_alike(kind, alike), **each_normal(kind, own)}
    return _as_copy(found, config) if kind is Kind.STREAM else _with_one_filter(found)


_APART = ("name", "durable_name", "metadata")
"""What is compared elsewhere, or is the name under which the rest is compared."""
_OWN = ("description", "subjects", "filter_subject", "filter_subjects")
"""What hardly two streams or consumers of an organisation have in common; all else is the same for most of a kind."""

_RECENT: Mapping[Kind, list[tuple[Config, Config]]] = {kind: [] for kind in Kind}
_REMEMBERED = 8


def _alike(kind: Kind, config: Config) -> Config:
    """As `each_normal`, which takes most of a large plan's time: known if it is among the last few that were asked for."""
    recent = _RECENT[kind]
    for known, said in recent:
        if known == config:
            return said
    said = each_normal(kind, config)
    recent.insert(0, (config, said))
    del recent[_REMEMBERED:]
    return said


def each_normal(kind: Kind, config: Config) -> dict[str, Any]:
    """Those fields that differ from their defaults, normalised, each by itself whatever the others are."""
    table, found = FIELDS[kind], {}
    for name, value in config.items():
        field = table.get(name)
        if field is None or value is None or value == field.default:
            continue
        said = normal(field, value)
        if said != field.default:
            found[name] = said
    return found


def _as_copy(found: dict[str, Any], config: Config) -> dict[str, Any]:
    """Since 2.14 a stream with sources has no duplicate_window unless it says so, and a mirror has none.

    A cluster drops a mirror's from each request, and a single server at its start (2.10.26 to 2.15.1). And whether a
    mirror answers reads is its origin's allow_direct, whatever it is told itself; only where the origin is in another
    account or domain, it is the mirror's own.
    """
    mirror = found.get("mirror")
    if mirror:
        found["duplicate_window"] = 0
        if "external" not in mirror:
            found.pop("mirror_direct", None)
    elif "sources" in found:
        found["duplicate_window"] = config.get("duplicate_window") or 0
    return found


def _with_one_filter(found: dict[str, Any]) -> dict[str, Any]:
    """A `filter_subjects` of one is a `filter_subject`."""
    filters = found.get("filter_subjects", ())
    if len(filters) == 1:
        del found["filter_subjects"]
        found["filter_subject"] = filters[0]
    return found


def sendable(config: Config) -> dict[str, Any]:
    """`config` without the labels that the server writes: it makes its own, whatever is sent."""
    return {**config, "metadata": written(config.get("metadata"))}
