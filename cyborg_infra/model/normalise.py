"""Normalise configurations for comparison: what the server fills in, leaves out or reorders makes no difference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cyborg_infra.model.fields import FIELDS, Config, Field, Kind, Unit
from cyborg_infra.model.units import whole_number

SERVER_KEY_PREFIX = "_nats."
"""Metadata keys that the server writes; they never count and are never sent (2.11+)."""

REQUIRED_LEVEL_KEY = f"{SERVER_KEY_PREFIX}req.level"
"""The one of them that it stores: what API level the configuration needs."""


def normalise(field: Field, value: Any) -> Any:
    """Return `value` as it is compared: what the server fills in, leaves out or reorders makes no difference."""
    if spelling := SPELLINGS.get(field.name):
        value = spelling(value)
    if shape := _NORMALISERS.get(field.unit):
        return shape(field, value)
    if field.default == -1 and (value is None or value <= 0):
        return -1  # 0 and everything below mean unlimited
    if field.unit is Unit.SIZE and value is not None and value < 0:
        return field.default  # 2.12 and later write 0 for it
    return value or field.default


def _object(field: Field, value: Config) -> dict[str, Any]:
    units_of = field.parts or {}
    said: dict[str, Any] = _without_defaults(value)
    return {name: _in_utc(item) if units_of.get(name) is Unit.TIME else item for name, item in said.items()}


def _percentage(text: str | None) -> str | None:
    """Return the share without its percent sign, which jsm.go writes; `0%` is its word for none."""
    number = whole_number((text or "").removesuffix("%"))
    return text if number is None else str(number or "")


def _everything(subject: str | None) -> str | None:
    return None if subject == ">" else subject


def _from_everything(transform: Config | None) -> Config | None:
    """Return a transform with its source: without one the server takes it for one of everything, and keeps it as it was written."""
    if transform and transform.get("dest") and not transform.get("src"):
        return {**transform, "src": ">"}
    return transform


SPELLINGS: Mapping[str, Callable[[Any], Any]] = {
    "sample_freq": _percentage,
    "filter_subject": _everything,
    "subject_transform": _from_everything,
}
"""Fields of which the server keeps several spellings that mean the same: other tools write another than we do."""

_TIME = r"(?a)(.{19})(?:\.(\d+?)0*)?([Z+-].*)"


def _in_utc(text: str) -> str:
    """Return the moment as the server writes it in UTC; it keeps the offset that it was given."""
    if match := re.fullmatch(_TIME, text):
        with suppress(ValueError, OverflowError):  # no such day; before the year 1
            moment = datetime.fromisoformat(match[1] + match[3]).astimezone(UTC)
            fraction = "" if match[2] in (None, "0") else f".{match[2]}"
            return f"{moment.replace(tzinfo=None).isoformat()}{fraction}Z"
    return text


def _without_defaults(value: Any) -> Any:
    """Return nested objects without the members that say nothing (null, empty, zero, false)."""
    if isinstance(value, Mapping):
        kept = {key: _without_defaults(item) for key, item in sorted(value.items())}
        return {key: item for key, item in kept.items() if item not in (None, "", 0, False, {}, [])}
    if isinstance(value, list | tuple):
        return [_without_defaults(item) for item in value]
    return value


def user_labels(labels: Mapping[str, str] | None, *besides: str) -> dict[str, str]:
    """Return the labels that somebody wrote, sorted: neither the server's nor those `besides`."""
    kept = {
        key: text for key, text in sorted((labels or {}).items()) if not key.startswith(SERVER_KEY_PREFIX)
    }
    for key in besides:
        kept.pop(key, None)
    return kept


_NORMALISERS: Mapping[Unit, Callable[[Field, Any], Any]] = {
    Unit.SUBJECTS: lambda _, value: tuple(sorted(set(value or ()))),
    Unit.OBJECT: lambda field, value: _object(field, value or {}) or None,
    Unit.OBJECTS: lambda field, value: (
        tuple(sorted((_object(field, item) for item in value or ()), key=repr)) or None
    ),
    Unit.TIME: lambda field, value: _in_utc(value) if value else field.default,
    Unit.DURATIONS: lambda _, value: tuple(value or ()) or None,
    Unit.NAMES: lambda _, value: tuple(value or ()) or None,
    Unit.METADATA: lambda _, value: user_labels(value) or None,
}
"""What is more than a plain value."""


def normalise_config(kind: Kind, config: Config) -> dict[str, Any]:
    """Return the managed fields of `config` that differ from their default, normalised.

    Two configurations mean the same exactly if their canonical forms are equal, whatever the server filled
    in; and a row that a later version of this table adds changes no canonical form.
    """
    found = normalise_without_labels(kind, config)
    if labels := user_labels(config.get("metadata")):
        found["metadata"] = labels
    return found


def normalise_without_labels(kind: Kind, config: Config) -> dict[str, Any]:
    """Return the canonical form but for the metadata."""
    own, alike = _own_and_alike(config)
    found = {**_cached_fields(kind, alike), **normalise_fields(kind, own)}
    return _as_copy(found, config) if kind is Kind.STREAM else _with_one_filter(found)


def _own_and_alike(config: Config) -> tuple[Config, Config]:
    """Return the fields that hardly two resources share, and the others; without those of the identity."""
    own: dict[str, Any] = {}
    alike = dict(config)
    for name in _IDENTITY_FIELDS:
        alike.pop(name, None)
    for name in _NAMED_FIELDS:
        if name in alike:
            own[name] = alike.pop(name)
    return own, alike


_IDENTITY_FIELDS = ("name", "durable_name", "metadata")
"""What is compared elsewhere, or is the name under which the rest is compared."""
_NAMED_FIELDS = ("description", "subjects", "filter_subject", "filter_subjects")
"""What hardly two streams or consumers of an organisation have in common; all else is the same for most of a kind."""

_CACHE: Mapping[Kind, list[tuple[Config, Config]]] = {kind: [] for kind in Kind}
_CACHE_SIZE = 16


def _cached_fields(kind: Kind, config: Config) -> Config:
    """Return what `normalise_fields` returns, from a cache of the last few configurations: it takes most of a large plan's time."""
    recent = _CACHE[kind]
    for place, (known, said) in enumerate(recent):
        if known == config:
            if place:
                recent.insert(0, recent.pop(place))
            return said
    said = normalise_fields(kind, config)
    recent.insert(0, (config, said))
    del recent[_CACHE_SIZE:]
    return said


def normalise_fields(kind: Kind, config: Config) -> dict[str, Any]:
    """Return those fields that differ from their defaults, normalised, each by itself whatever the others are."""
    table, found = FIELDS[kind], {}
    for name, value in config.items():
        field = table.get(name)
        if field is None or value is None or value == field.default:
            continue
        said = normalise(field, value)
        if said != field.default:
            found[name] = said
    return found


def _as_copy(fields: dict[str, Any], config: Config) -> dict[str, Any]:
    """Return the fields without the duplicate_window that a copy does not have: since 2.14 a stream with sources has none unless it says so, and a mirror never has.

    A cluster drops a mirror's from each request, and a single server at its start (2.10.26 to 2.15.1). And whether a
    mirror answers reads is its origin's allow_direct, whatever it is told itself; only where the origin is in another
    account or domain, it is the mirror's own.
    """
    mirror = fields.get("mirror")
    if mirror:
        fields["duplicate_window"] = 0
        if "external" not in mirror:
            fields.pop("mirror_direct", None)
    elif "sources" in fields:
        fields["duplicate_window"] = config.get("duplicate_window") or 0
    return fields


def _with_one_filter(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with a `filter_subjects` of one as a `filter_subject`, where there is none already."""
    filters = fields.get("filter_subjects", ())
    if len(filters) == 1 and "filter_subject" not in fields:
        del fields["filter_subjects"]
        fields |= normalise_fields(Kind.CONSUMER, {"filter_subject": filters[0]})
    return fields


def without_server_labels(config: Config) -> dict[str, Any]:
    """Return `config` without the labels that the server writes: it makes its own, whatever is sent."""
    return {**config, "metadata": user_labels(config.get("metadata"))}
