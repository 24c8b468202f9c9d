"""Wire values in words: the human form with the raw one beside it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from cyborg_infra.model import units
from cyborg_infra.model.fields import FIELDS, Kind, Unit
from cyborg_infra.model.resources import ConsumerCounts, LiveResource, StreamCounts

# Control and format characters (escape sequences, bidirectional overrides), line separators, halves of pairs.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}

# Numbers that mean something else than themselves. Elsewhere -1 is `unlimited`.
_MEANINGS: Mapping[tuple[Kind, str, int], str] = {
    (Kind.STREAM, "max_age", 0): "forever",
    (Kind.STREAM, "max_consumers", -1): "server default",
    (Kind.STREAM, "max_msg_size", -1): "server limit",
    (Kind.STREAM, "subject_delete_marker_ttl", 0): "none",
    (Kind.CONSUMER, "inactive_threshold", 0): "never",
    (Kind.CONSUMER, "num_replicas", 0): "as its stream",
    (Kind.CONSUMER, "rate_limit_bps", 0): "unlimited",
    (Kind.CONSUMER, "max_batch", 0): "unlimited",
    (Kind.CONSUMER, "max_bytes", 0): "unlimited",
    (Kind.CONSUMER, "max_expires", 0): "unlimited",
    (Kind.CONSUMER, "idle_heartbeat", 0): "none",
}

# A text with one of these is quoted: else nobody could tell where it ends.
_SEPARATORS = frozenset(" ,\"'")

# How many members of a set are worth reading.
_FEW = 6


def escape_control(text: str) -> str:
    r"""Return `text` with everything that a terminal could obey, or an eye be deceived by, written out as `\x1b`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(char) if unicodedata.category(char) in _UNPRINTABLE else char for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def human(kind: Kind, name: str, value: Any) -> str:
    """Return the value for people alone: `72h`, `100 MiB`, `unlimited`. For tables; a plan shows `both`."""
    return _words(kind, name, value)[0]


def both(kind: Kind, name: str, value: Any) -> str:
    """Return the value as a plan shows it: `72h (259200000000000)`, `unlimited (-1)`, `file`; the default if None."""
    words, raw = _words(kind, name, value)
    return f"{words} ({raw})" if raw else words


def _words(kind: Kind, name: str, value: Any) -> tuple[str, str]:
    """Return the human form, and the raw one where it differs."""
    field = FIELDS[kind].get(name)
    if field is None:  # `metadata.team`
        return _by_unit(Unit.TEXT, value), ""
    value = field.default if value is None else value
    if isinstance(value, int) and not isinstance(value, bool):
        return _number(kind, name, value)
    return _by_unit(field.unit, value, field.parts), ""


@lru_cache(maxsize=1024)
def _number(kind: Kind, name: str, value: int) -> tuple[str, str]:
    meaning = _MEANINGS.get((kind, name, value)) or ("unlimited" if value == -1 else None)
    if meaning:
        return meaning, str(value)
    unit = FIELDS[kind][name].unit
    if unit is Unit.SIZE:
        return units.format_size(value), str(value)
    if unit is Unit.DURATION:
        return units.format_duration(value), str(value)
    return str(value), ""


def _by_unit(unit: Unit, value: Any, parts: Mapping[str, Unit] | None = None) -> str:
    match value:
        case None | () | []:
            return "none"
        case bool():
            return "true" if value else "false"
        case int() if unit in (Unit.DURATION, Unit.DURATIONS):
            return f"{units.format_duration(value)} ({value})"
        case int() if unit is Unit.SIZE:
            return f"{units.format_size(value)} ({value})"
        case str() if unit is Unit.TEXT or not _SEPARATORS.isdisjoint(value):
            return quoted(value)
        case str():
            return value or "none"
        case Mapping():
            known = parts or {}
            order = sorted(value, key=[*known].index) if value.keys() <= known.keys() else list(value)
            members = (f"{key}: {_by_unit(known.get(key, unit), value[key])}" for key in order)
            return "{" + ", ".join(members) + "}"
        case list() | tuple():
            return "[" + ", ".join(_by_unit(unit, item, parts) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def quoted(text: str) -> str:
    """Return free text in quotation marks, on one line."""
    return json.dumps(text, ensure_ascii=False)


def few(members: Sequence[str]) -> list[str]:
    """Return the members, or the first few and how many more there are; the JSON form has them all."""
    if len(members) <= _FEW:
        return list(members)
    shown = members[: _FEW // 2]
    return [*shown, f"(and {len(members) - len(shown):,} more)"]


def in_short(members: Sequence[str]) -> str:
    """Return the members, or the first few of them, in one text: `ceo, cto, cso (and 4 more)`."""
    *shown, last = few(members) or [""]
    glue = " " if len(members) > _FEW else ", "
    return f"{', '.join(shown)}{glue}{last}" if shown else last


def plural(count: int, noun: str, several: str = "") -> str:
    """Return `1 message`, `1,204 messages`; `several` where that is more than an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {several or f'{noun}s'}"


def holds(resource: LiveResource) -> str:
    """Return what a live resource holds, as a clause: `holds 12 messages (3.1 MiB)`; empty where nothing is known."""
    match resource.counts:
        case StreamCounts(messages=0):
            return "is empty"
        case StreamCounts(messages=messages, bytes=size):
            return f"holds {plural(messages, 'message')} ({units.format_size(size)})"
        case ConsumerCounts(num_pending=waiting, num_ack_pending=working):
            parts = [
                f"{plural(waiting, 'message')} not yet delivered" if waiting else "",
                (
                    f"{working:,} being worked on"
                    if waiting
                    else f"{plural(working, 'message')} being worked on"
                )
                if working
                else "",
            ]
            return f"has {', '.join(filter(None, parts))}" if any(parts) else ""
    return ""
