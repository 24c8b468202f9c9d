"""Group the changes of a plan that differ in nothing but the role."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.resources import canonical_json

MIN_GROUP_SIZE = 3
"""So many that are alike are told as one."""


def group_changes(changes: Sequence[Change]) -> list[list[Change]]:
    """Return the changes in their order, those that are alike behind the first of them. What costs something stands alone."""
    found: dict[Any, list[Change]] = {}
    for number, change in enumerate(changes):
        found.setdefault(_key(change) or number, []).append(change)
    return [
        part
        for alike in found.values()
        for part in ([alike] if len(alike) >= MIN_GROUP_SIZE else [[change] for change in alike])
    ]


def _key(change: Change) -> Any:
    """Return a key that is equal for changes that differ in nothing but the role; None for one that has to be read by itself."""
    resource = change.after or change.before
    if change.action is Action.IMPOSSIBLE and not change.problems:
        return change.action  # why, another one says for all of them
    if change.hazards or change.problems or resource is None or resource.role is None:
        return None
    said = [field._asdict() for field in change.fields] if change.before else resource.normalised()
    everyone = _names(resource.role).sub("*", f"{canonical_json(said).decode()} {change.reason}")
    return change.action, change.ref.kind, resource.metadata.get(KIND_KEY), change.cause, everyone


@lru_cache(maxsize=1024)
def _names(role: str) -> re.Pattern[str]:
    """Return a pattern that finds the role's name as a token of a subject or as a part of a name, also in upper case as in stream names."""
    return re.compile(
        rf"(?<![a-zA-Z0-9-]){re.escape(role)}(?![a-zA-Z0-9])|(?<=_){re.escape(role.upper().replace('-', '_'))}(?=_)"
    )
