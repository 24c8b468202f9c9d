"""Checks of the shape of JSON from outside.

A check says where a value is another one than was expected, or None if it fits. What it lets through can be read
without asking again; null is absent, as Go's encoder means it, and is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from cyborg_infra.model.fields import FIELDS, Field, Kind, Unit
from cyborg_infra.model.subjects import is_name
from cyborg_infra.model.valueclass import NamedTuple

_MAX_DEPTH = 32  # of what we do not read and may have to send back: JetStream's own configurations are 4 deep

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}

Value = TypeVar("Value")


class Mismatch(NamedTuple):
    """What was found where something else was expected; `path` is empty for the whole."""

    found: str
    wanted: str
    path: tuple[str, ...] = ()

    def at_key(self, key: object) -> Mismatch:
        """Return the same, seen from what has it at `key`."""
        return self._replace(path=(str(key)[:_MAX_SHOWN_CHARS], *self.path))

    def __str__(self) -> str:
        place = f" at {'/'.join(self.path)}" if self.path else ""
        return f"{self.found}{place} where {self.wanted} was expected"


_MAX_SHOWN_CHARS = 64  # characters of a key that is told

Check = Callable[[Any], Mismatch | None]
JsonSchema = dict[str, Any]


def json_type(value: object) -> str:
    """Return what JSON calls it."""
    return _KINDS.get(type(value), type(value).__name__)


def count(value: Any) -> Mismatch | None:
    """Return a whole number from 0."""
    if type(value) is int and value >= 0:
        return None
    return Mismatch(_number(value), "a whole number from 0")


def whole(value: Any) -> Mismatch | None:
    """Return a whole number; what more than 64 bits hold is none to whoever decodes JSON here."""
    return None if type(value) is int else Mismatch(_number(value), "a whole number")


def flag(value: Any) -> Mismatch | None:
    """Return true or false."""
    return None if type(value) is bool else Mismatch(json_type(value), "true or false")


def yes(value: Any) -> Mismatch | None:
    """Return true."""
    return None if value is True else Mismatch("false" if value is False else json_type(value), "true")


def string(value: Any) -> Mismatch | None:
    """Return text."""
    return None if type(value) is str else Mismatch(json_type(value), "text")


def printable(value: Any) -> Mismatch | None:
    """Return text that can be shown: neither lines nor codes that a terminal obeys."""
    if type(value) is str and value.isprintable():
        return None
    return Mismatch("control characters" if type(value) is str else json_type(value), "text in one line")


def one_of(words: Collection[str]) -> Check:
    """Return one of these words."""

    def checked(value: Any) -> Mismatch | None:
        if type(value) is str and value in words:
            return None
        return Mismatch(repr(value)[:_MAX_SHOWN_CHARS], f"one of {', '.join(words)}")

    return checked


def name(value: Any) -> Mismatch | None:
    """Return the name of a stream or consumer."""
    if type(value) is str and (_PLAIN_NAME.fullmatch(value) or is_name(value)):  # most are plain
        return None
    return Mismatch(repr(value)[:_MAX_SHOWN_CHARS] if type(value) is str else json_type(value), "a name")


def time(value: Any) -> Mismatch | None:
    """Return a moment as RFC 3339 writes it."""
    if type(value) is not str:
        return Mismatch(json_type(value), "a time")
    try:
        if datetime.fromisoformat(value).tzinfo is not None:
            return None
    except ValueError:
        pass
    return Mismatch(repr(value)[:_MAX_SHOWN_CHARS], "a time")


def base64(value: Any) -> Mismatch | None:
    """Return bytes as JSON has them."""
    if type(value) is str and re.fullmatch(_BASE64, value):
        return None
    return Mismatch(json_type(value) if type(value) is not str else "other text", "base64")


def anything(value: Any, depth: int = _MAX_DEPTH) -> Mismatch | None:
    """Return whatever it is, as long as it is not nested too deeply."""
    if type(value) is dict:
        items: Iterable[Any] = value.values()
    elif type(value) is list:
        items = value
    else:
        return None
    if not depth:
        return Mismatch(f"more than {_MAX_DEPTH} levels of nesting", "something shallower")
    for item in items:
        if (misfit := anything(item, depth - 1)) is not None:
            return misfit
    return None


_PLAIN: Mapping[Check, type] = {whole: int, string: str, flag: bool}
"""The checks that look at nothing but the type; most of what an account of 10,000 roles tells needs no more."""

_DATE = (
    "(?:0001|[12][0-9]{3})"  # the first is Go's zero
    "-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
_TIME = f"{_DATE}T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){{2}}(?:[.][0-9]{{1,9}})?Z"
_SCALARS = ["string", "number", "boolean"]
_SCHEMAS: dict[Check, Callable[[], JsonSchema]] = {
    count: lambda: {"type": "integer", "minimum": 0},
    whole: lambda: {"type": "integer"},
    flag: lambda: {"type": "boolean"},
    string: lambda: {"type": "string"},
    printable: lambda: {"type": "string", "pattern": "^[ -~]*$"},
    name: lambda: {"type": "string", "pattern": f"^{_PLAIN_NAME.pattern}$"},
    time: lambda: {"type": "string", "pattern": f"^{_TIME}$"},
    anything: lambda: {"type": [*_SCALARS, "object"], "additionalProperties": {"type": _SCALARS}},
}


def sufficient_schema(check: Check) -> JsonSchema:
    """Return a JSON Schema by which nothing is valid that the check refuses or changes.

    What is not valid may fit all the same: what has a null in it, or is written as no server writes it. It is for draft
    4, the last one to which 1.0 is no integer. Raises KeyError for a check of which none is known.
    """
    return _SCHEMAS[check]()


def list_of(check: Check) -> Check:
    """Return a list of such values."""

    def checked(value: Any) -> Mismatch | None:
        if type(value) is not list:
            return Mismatch(json_type(value), "a list")
        for position, item in enumerate(value):
            if (misfit := check(item)) is not None:
                return misfit.at_key(position)
        return None

    _SCHEMAS[checked] = lambda: {"type": "array", "items": sufficient_schema(check)}
    return checked


def map_of(check: Check) -> Check:
    """Return an object with such values, whatever their keys are."""
    plain = _PLAIN.get(check)

    def checked(value: Any) -> Mismatch | None:
        if type(value) is not dict:
            return Mismatch(json_type(value), "an object")
        for key, item in value.items():
            if type(item) is not plain and (misfit := check(item)) is not None:
                return misfit.at_key(key)
        return None

    _SCHEMAS[checked] = lambda: {"type": "object", "additionalProperties": sufficient_schema(check)}
    return checked


def object_of(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Return an object that has these members and may have those; of others nothing is said."""
    must, may = (
        tuple((key, check, _PLAIN.get(check)) for key, check in members.items())
        for members in (required, optional or {})
    )

    def checked(value: Any) -> Mismatch | None:
        if type(value) is not dict:
            return Mismatch(json_type(value), "an object")
        for key, check, plain in must:
            try:
                item = value[key]
            except KeyError:
                return Mismatch("nothing", "something", (key,))
            if type(item) is not plain and (misfit := check(item)) is not None:
                return misfit.at_key(key)
        for key, check, plain in may:
            if key not in value:
                continue
            if (item := value[key]) is None:
                del value[key]
            elif type(item) is not plain and (misfit := check(item)) is not None:
                return misfit.at_key(key)
        return None

    _SCHEMAS[checked] = lambda: {
        "type": "object",
        **({"required": [*required]} if required else {}),
        "properties": {key: sufficient_schema(check) for key, check, _ in (*must, *may)},
    }
    return checked


def config_of(kind: Kind, required: Collection[str]) -> Check:
    """Return a configuration in wire form: each field as the table has it. What the table does not know may be anything."""
    of_field: dict[str, Check] = {field.name: _field(field) for field in FIELDS[kind].values()}
    # What a consumer is called stands beside its configuration as well, and is read there.
    of_field |= {"name": name if kind is Kind.STREAM else string, "durable_name": string, "pause_until": time}
    plain = {key: _PLAIN[check] for key, check in of_field.items() if check in _PLAIN}

    def checked(value: Any) -> Mismatch | None:
        if type(value) is not dict:
            return Mismatch(json_type(value), "an object")
        for key in required:
            if value.get(key) is None:
                return Mismatch("nothing", "something", (key,))
        absent = None
        for key, item in value.items():
            if type(item) is plain.get(key):
                continue
            if item is None:
                absent = [*(absent or ()), key]
            elif (misfit := of_field.get(key, anything)(item)) is not None:
                return misfit.at_key(key)
        for key in absent or ():
            del value[key]
        return None

    _SCHEMAS[checked] = lambda: {
        "type": "object",
        "required": [*required],
        "properties": {key: sufficient_schema(check) for key, check in of_field.items()},
        "additionalProperties": sufficient_schema(anything),
    }
    return checked


def _field(field: Field) -> Check:
    match field.unit:
        case Unit.OBJECT:
            return _parts(field)
        case Unit.OBJECTS:
            return list_of(_parts(field))
        case _:
            return _UNITS[field.unit]


def _parts(field: Field) -> Check:
    known = object_of({}, {part: _UNITS.get(unit, anything) for part, unit in (field.parts or {}).items()})

    def checked(value: Any) -> Mismatch | None:
        return anything(value) or known(value)

    _SCHEMAS[checked] = lambda: {
        **sufficient_schema(known),
        "additionalProperties": sufficient_schema(anything),
    }
    return checked


_UNITS: Mapping[Unit, Check] = {
    Unit.SIZE: whole,
    Unit.DURATION: whole,
    Unit.COUNT: whole,
    Unit.FLAG: flag,
    Unit.TEXT: string,
    Unit.CHOICE: string,
    Unit.SUBJECT: string,
    Unit.TIME: time,
    Unit.SUBJECTS: list_of(string),
    Unit.NAMES: list_of(string),
    Unit.DURATIONS: list_of(whole),
    Unit.METADATA: map_of(string),
}


def _number(value: object) -> str:
    if type(value) is int:
        return str(value)
    return f"{value:g}" if type(value) is float else json_type(value)
