"""What differs between a live and a desired resource, field by field. Decides nothing about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cyborg_infra.model.fields import FIELDS, Kind, Unit, Update, Version
from cyborg_infra.model.plan import FieldChange
from cyborg_infra.model.state import MARKS, Resource

_MARKS = sorted(MARKS)


def diff(live: Resource, desired: Resource, version: Version) -> tuple[FieldChange, ...]:
    """The managed fields that differ, in the table's order, normalised; labels one by one, ownership marks last.

    A change that the server of this version would not make on the living resource carries its reason.
    """
    marks = _labels(live.metadata, desired.metadata, _MARKS)
    before, after = live.canonical(), desired.canonical()
    if before == after:
        return tuple(marks)
    own = before.get("metadata", {}), after.get("metadata", {})
    labels = _labels(*own, sorted({key for labels in own for key in labels}))
    changes = []
    for name, field in FIELDS[live.ref.kind].items():
        old, new = before.get(name, field.default), after.get(name, field.default)
        if old != new and field.unit is not Unit.METADATA:
            changes.append(FieldChange(name, old, new, _reason(live.ref.kind, name, old, new, version)))
    return (*changes, *labels, *marks)


def is_mark(change: FieldChange) -> bool:
    """Whether the change is of an ownership mark, not of what the resource does."""
    return change.field.removeprefix("metadata.") in MARKS


def _reason(kind: Kind, name: str, old: Any, new: Any, version: Version) -> str | None:
    rule = FIELDS[kind][name].update
    match rule(old, new, version):
        case Update.IN_PLACE:
            return None
        case Update.REFUSED:
            detail = (rule.__doc__ or "").split("\n")[0].removeprefix("No.").rstrip(".")
            return f"cannot be changed on a living {kind}" + (
                f" ({detail[0].lower()}{detail[1:]})" if detail else ""
            )
        case Update.IGNORED:
            return f"the server accepts it on a living {kind} and changes nothing"


def _labels(before: Mapping[str, str], after: Mapping[str, str], keys: Iterable[str]) -> list[FieldChange]:
    return [
        FieldChange(f"metadata.{key}", before.get(key), after.get(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]
