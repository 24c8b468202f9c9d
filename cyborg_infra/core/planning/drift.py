"""Tell drift, what somebody changed on the server, from what the manifest wants."""

from __future__ import annotations

from collections.abc import Iterable

from cyborg_infra.core.planning.diff import is_ownership_change
from cyborg_infra.model.changes import Cause, FieldChange
from cyborg_infra.model.metadata_keys import APPLIED_KEY, KIND_KEY
from cyborg_infra.model.resources import DesiredResource, LiveResource


def change_cause(
    live: LiveResource, desired: DesiredResource, fields: Iterable[FieldChange], *, ever: bool
) -> Cause:
    """Return who caused a difference: whether the digest of what was last applied fits the manifest, the server, or neither.

    Where it is gone although it was there, somebody took it; whether the manifest has changed as well, nobody can tell.
    A stream that becomes one of another channel, which was not there so far, has only the label of the former one.
    """
    applied = live.metadata.get(APPLIED_KEY)
    if applied is None:
        return Cause.DRIFT if ever or live.owner else Cause.MANIFEST
    of_manifest = {f"metadata.{key}" for key in ((APPLIED_KEY,) if ever else (APPLIED_KEY, KIND_KEY))}
    untouched = live.digest() == applied and not any(
        is_ownership_change(change) and change.field not in of_manifest for change in fields
    )
    if desired.digest() == applied:
        return Cause.MANIFEST if untouched and not ever else Cause.DRIFT
    if untouched:
        return Cause.MANIFEST
    return Cause.BOTH
