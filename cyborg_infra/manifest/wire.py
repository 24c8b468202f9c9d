"""One value as the manifest writes it -> as JetStream's API takes it. Knows units, no places and no files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cyborg_infra.model import subjects, units
from cyborg_infra.model.fields import Field, Unit

_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def wire(field: Field, value: Any) -> Any:
    """`value`, of the type that the schema asks for, in wire form.

    Raises:
        ValueError: it is no size, duration, subject or time; the message says why.
    """
    return _wire(field.unit, value, field.parts)


def _wire(unit: Unit, value: Any, parts: Mapping[str, Unit] | None) -> Any:
    match unit:
        case Unit.SIZE:
            return units.parse_size(str(value))
        case Unit.DURATION:
            return units.parse_duration(str(value))
        case Unit.DURATIONS:
            return [units.parse_duration(str(item)) for item in _present(value)]
        case Unit.SUBJECT:
            return _subject(value)
        case Unit.SUBJECTS:
            return [_subject(item) for item in _present(value)]
        case Unit.NAMES:
            return _present(value)
        case Unit.TIME:
            return _time(value)
        case Unit.TEXT:
            return str(value)  # sample_freq: 100
        case Unit.METADATA:
            return {key: str(text) for key, text in value.items() if text is not None}
        case Unit.OBJECT:
            return _object(value, parts or {})
        case Unit.OBJECTS:
            return [_object(item, parts or {}) for item in _present(value)]
    return value


def _present(items: list[Any]) -> list[Any]:
    """The items without those that the schema refused already."""
    return [item for item in items if item is not None]


def _object(value: Mapping[str, Any], parts: Mapping[str, Unit]) -> dict[str, Any]:
    return {
        name: _wire(parts[name], item, None) if name in parts else item
        for name, item in value.items()
        if item is not None
    }


def _subject(text: str) -> str:
    if text and not subjects.is_pattern(text):
        raise ValueError(f"{text!r} is no subject; write tokens with dots between, > only as the last one")
    return text


def _time(text: str) -> str:
    """The same moment in UTC, as the server writes it back."""
    match = _TIME.fullmatch(text)
    try:
        if not match:
            raise ValueError
        moment = datetime.fromisoformat(match[1].upper() + match[3].upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no RFC 3339 time; write for example 2026-01-31T00:00:00Z") from None
    fraction = (match[2] or "").rstrip("0")
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + "Z"
