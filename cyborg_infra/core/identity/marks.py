"""The mark on a row of an account's claims: whose the row is, and a digest of what was applied."""

from __future__ import annotations

import re

from cyborg_infra.model.changes import Cause
from cyborg_infra.model.metadata_keys import APPLIED_KEY, OWNER_KEY
from cyborg_infra.model.resources import digest_of

_MARK = re.compile(rf"{re.escape(OWNER_KEY)}=(\S+) {re.escape(APPLIED_KEY)}=(\S+)")


def mark(org: str, decided: object) -> str:
    """Return the mark of a row in which the organisation has decided this (any JSON value)."""
    return f"{OWNER_KEY}={org} {APPLIED_KEY}={digest_of(decided)}"


def applied_digest(text: object, org: str) -> str:
    """Return the digest in a mark of this organisation; empty for any other text."""
    found = _MARK.fullmatch(str(text))
    return found[2] if found and found[1] == org else ""


def cause_of_difference(applied: str, live: object, wanted: object) -> Cause:
    """Return who made a difference, from the digest that was applied and what is decided live and in the manifest.

    `wanted` is None for a row that the manifest no longer has.
    """
    if applied == digest_of(live):
        return Cause.MANIFEST
    return Cause.DRIFT if wanted is not None and applied == digest_of(wanted) else Cause.BOTH
