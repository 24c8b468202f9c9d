"""Compare a live resource with the desired one, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cyborg_infra.model.changes import FieldChange
from cyborg_infra.model.fields import FIELDS, Kind, Unit, UpdateEffect
from cyborg_infra.model.metadata_keys import OWNERSHIP_KEYS, RESOURCE_KEY
from cyborg_infra.model.resources import DesiredResource, LiveResource
from cyborg_infra.model.server_versions import Version

_OWNERSHIP_KEYS = sorted(OWNERSHIP_KEYS)
_REQUIRED_OWNERSHIP_KEYS = [key for key in _OWNERSHIP_KEYS if key != RESOURCE_KEY]


def diff(live: LiveResource, desired: DesiredResource, version: Version) -> tuple[FieldChange, ...]:
    """Return the managed fields that differ, in the table's order, normalised; labels one by one, ownership marks last.

    A change that the server of this version would not make on the living resource carries its reason.
    """
    marks = _ownership_changes(live.metadata, desired.metadata)
    before, after = live.normalised(), desired.normalised()
    if before == after:
        return tuple(marks)
    own = before.get("metadata", {}), after.get("metadata", {})
    labels = _label_changes(*own, sorted({key for labels in own for key in labels}))
    changes = []
    for name, field in FIELDS[live.ref.kind].items():
        old, new = before.get(name, field.default), after.get(name, field.default)
        if old != new and field.unit is not Unit.METADATA:
            changes.append(
                FieldChange(name, old, new, _replace_reason(live.ref.kind, name, old, new, version))
            )
    return (*changes, *labels, *marks)


def is_ownership_change(change: FieldChange) -> bool:
    """Return whether the change is of an ownership mark, not of what the resource does."""
    return change.field.removeprefix("metadata.") in OWNERSHIP_KEYS


def _replace_reason(kind: Kind, name: str, old: Any, new: Any, version: Version) -> str | None:
    rule = FIELDS[kind][name].update
    match rule(old, new, version):
        case UpdateEffect.IN_PLACE:
            return None
        case UpdateEffect.REFUSED:
            detail = (rule.__doc__ or "").split("\n")[0].removeprefix("No.").rstrip(".")
            return f"cannot be changed on a living {kind}" + (
                f" ({detail[0].lower()}{detail[1:]})" if detail else ""
            )
        case UpdateEffect.IGNORED:
            return f"the server accepts it on a living {kind} and changes nothing"


def _ownership_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[FieldChange]:
    """Yield the ownership keys that differ; RESOURCE_KEY only where both have it: it comes with the next change, and alone makes none."""
    both = RESOURCE_KEY in before and RESOURCE_KEY in after
    return _label_changes(before, after, _OWNERSHIP_KEYS if both else _REQUIRED_OWNERSHIP_KEYS)


def _label_changes(
    before: Mapping[str, str], after: Mapping[str, str], keys: Iterable[str]
) -> list[FieldChange]:
    return [
        FieldChange(f"metadata.{key}", before.get(key), after.get(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]
