"""What a stream that is made as a copy has to have from its creation on: no update gives it that later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cyborg_infra.model.problems import Problem
from cyborg_infra.model.resources import LiveResource, Resource, origin_of

FIXED_FIELDS = ("storage", "max_consumers", "persist_mode", "retention")
"""What the new stream has to have from its creation on."""

ENABLE_ONLY_FIELDS = ("allow_msg_ttl", "deny_delete", "deny_purge")
"""What no update takes back."""

MIRROR, SOURCES = "mirror", "sources"
CREATION_FIELDS: Mapping[str, Sequence[str]] = {MIRROR: (), SOURCES: ("first_seq",)}
"""How a stream is copied -> what else the new one has to have from its creation on."""


def can_become(copy: LiveResource, desired: Resource, method: str) -> bool:
    """Return whether a stream that was made as a copy, by this method, can become what the manifest wants now."""
    held, wanted = copy.normalised(), desired.normalised()
    if any(held.get(name) and not wanted.get(name) for name in ENABLE_ONLY_FIELDS):
        return False
    return all(
        held.get(name) == wanted.get(name)
        for name in (*FIXED_FIELDS, *CREATION_FIELDS.get(method, ()))
        if name != "retention" or "workqueue" in (held.get(name), wanted.get(name))
    )


def changed_meanwhile_problem(desired: Resource) -> Problem:
    """Return the problem that a new stream has everything, and cannot become what the manifest wants now."""
    return Problem(
        "changed-meanwhile",
        f"{desired.ref}: the manifest has changed since its replace was interrupted",
        origin_of(desired),
        "apply the manifest as it was then, and this one after that",
    )
