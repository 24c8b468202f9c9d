"""Load a saved plan for the claims of accounts. Its changes are not loaded: they are what differs between the two claims in it."""

from __future__ import annotations

import os

from cyborg_infra import files
from cyborg_infra.manifest import schema
from cyborg_infra.model.auth_plan import AuthPlan, LiveClaims
from cyborg_infra.model.problems import PlanStale, Problem, SourcePosition
from cyborg_infra.model.resources import digest_of
from cyborg_infra.model.wording import Option, worded

AUTH_PLAN_MARKER = b'"type": "saved-auth-plan"'
"""The first member of the file, so that it is known by its first bytes whatever it is called."""

_SCHEMA = "saved-auth-plan.schema.json"


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Return whether the file is such a plan and not a manifest, by its first bytes."""
    return files.begins_with_member(path, AUTH_PLAN_MARKER)


def load_saved_auth_plans(path: str | os.PathLike[str]) -> tuple[AuthPlan, ...]:
    """Return the plan of each account, without its changes. Raises PlanStale for a file that is damaged, edited, or of another version."""
    where = SourcePosition(str(path), 1, 1)
    try:
        data = files.parse_json(files.read_bytes(path))
    except files.Unreadable as error:
        raise _refusal(f"the saved plan cannot be read: {error}", where) from None
    if not schema.accepts(_SCHEMA, data):
        raise _refusal("this is no plan that this version of cyborg-infra can apply", where)
    content = {key: value for key, value in data.items() if key != "digest"}
    if digest_of(content) != data["digest"]:
        raise _refusal("the saved plan is not what was written: it was edited or is damaged", where)
    return tuple(
        AuthPlan(data["org"], LiveClaims(each["base"], str(path)), each["desired"])
        for each in data["accounts"]
    )


def _refusal(message: str, where: SourcePosition) -> PlanStale:
    return PlanStale(
        Problem("saved-plan", message, where, worded("make a new one with auth plan {}", Option("out")))
    )
