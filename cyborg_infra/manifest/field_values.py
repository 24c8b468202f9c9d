"""Convert one value between the manifest's spelling and JetStream's wire form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cyborg_infra.model import subjects, units
from cyborg_infra.model.fields import Field, Unit

_TIME = r"(?a)(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)"


def to_wire(field: Field, value: Any) -> Any:
    """Return `value`, of the type that the schema asks for, in wire form.

    Raises:
        ValueError: it is no size, duration, subject or time; the message says why.
    """
    match field.unit:
        case Unit.OBJECT:
            return _object(value, field.parts or {})
        case Unit.OBJECTS:
            return [_object(item, field.parts or {}) for item in _present(value)]
    return _simple(field.unit, value)


def _simple(unit: Unit, value: Any) -> Any:
    return _TO_WIRE[unit](value) if unit in _TO_WIRE else value


def _present(items: list[Any]) -> list[Any]:
    """Return the items without those that the schema refused already."""
    return [item for item in items if item is not None]


def _object(value: Mapping[str, Any], parts: Mapping[str, Unit]) -> dict[str, Any]:
    return {
        name: _simple(parts[name], item) for name, item in value.items() if item is not None and name in parts
    }


def _subject(text: str) -> str:
    if text and not subjects.is_pattern(text):
        raise ValueError(f"{text!r} is no subject; write tokens with dots between, > only as the last one")
    return text


def _time(text: str) -> str:
    """Return the same moment in UTC, as the server writes it back."""
    match = re.fullmatch(_TIME, text)
    if match:
        fraction = (match[2] or "").rstrip("0")
        with suppress(ValueError, OverflowError):  # a 30th of February; before the year 1
            moment = datetime.fromisoformat(match[1].upper() + match[3].upper()).astimezone(UTC)
            return moment.replace(tzinfo=None).isoformat() + (f".{fraction}" if fraction else "") + "Z"
    raise ValueError(f"{text!r} is no RFC 3339 time; write for example 2026-01-31T00:00:00Z")


def is_utc(text: str) -> bool:
    """Return whether `text` is a point in time by RFC 3339, in UTC."""
    with suppress(ValueError):
        return bool(_time(text)) and text.endswith(("Z", "z", "+00:00", "-00:00"))
    return False


# Units that are absent are the same on the wire.
_TO_WIRE: Mapping[Unit, Callable[[Any], Any]] = {
    Unit.SIZE: lambda value: units.parse_size(str(value)),
    Unit.DURATION: lambda value: units.parse_duration(str(value)),
    Unit.DURATIONS: lambda items: [units.parse_duration(str(item)) for item in _present(items)],
    Unit.TEXT: str,  # sample_freq: 100
    Unit.SUBJECT: _subject,
    Unit.SUBJECTS: lambda items: [_subject(item) for item in _present(items)],
    Unit.NAMES: _present,
    Unit.TIME: _time,
    Unit.METADATA: lambda labels: {key: str(text) for key, text in labels.items() if text is not None},
}


def from_wire(field: Field, value: Any) -> Any:
    """Return `value`, in wire form, as the manifest writes it: `to_wire` gives it back exactly."""
    match field.unit:
        case Unit.OBJECT:
            return _object_from_wire(value, field.parts or {})
        case Unit.OBJECTS:
            return [_object_from_wire(item, field.parts or {}) for item in value]
    return _from_wire(field.unit, value)


def _object_from_wire(value: Mapping[str, Any], parts: Mapping[str, Unit]) -> dict[str, Any]:
    return {name: _from_wire(parts[name], item) for name, item in value.items() if name in parts}


def _from_wire(unit: Unit, value: Any) -> Any:
    match unit:
        case Unit.SIZE:
            return _size_text(value)
        case Unit.DURATION:
            return units.format_duration(value) if value else 0
        case Unit.DURATIONS:
            return [units.format_duration(item) for item in value]
    return list(value) if isinstance(value, tuple) else value


def _size_text(size: int) -> int | str:
    """Return the size with the largest suffix that is exact."""
    exponent = 0
    while size > 0 and size % 1024 == 0 and exponent < len(_SUFFIXES):
        size //= 1024
        exponent += 1
    return f"{size}{_SUFFIXES[exponent - 1]}" if exponent else size


_SUFFIXES = ("KB", "MB", "GB", "TB")
