"""Decide what the account remembers of an organisation before and after an apply."""

from __future__ import annotations

from cyborg_infra.core.planning import account_limits
from cyborg_infra.core.planning.applied_before import members_of
from cyborg_infra.model.buckets import APPLIED_BUCKET, bucket_stream
from cyborg_infra.model.last_applied import AppliedRecord, RecordUpdate
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.server import ServerInfo

_BUCKET_MAX_BYTES = 1024 * 1024  # bytes; the memory of an organisation of 10,000 roles takes 150 KB


def record_at_start(plan: Plan, version: str) -> RecordUpdate | None:
    """Return the record to write before the first apply of an organisation; None before any other one.

    Interrupted, it leaves what an older version, which remembered nothing, would have left of all that somebody deleted.
    """
    facts = plan.server_info
    if facts is None or facts.applied_record is not None or facts.record_error or plan.has_live_resources:
        return None
    return (
        _record_if_room(plan, facts, AppliedRecord(version, plan.environment))
        if plan.desired.resources
        else None
    )


def record_at_end(remaining: Plan, version: str, *, changed: bool) -> RecordUpdate | None:
    """Return the record to write after an apply that left `remaining` to do; None if it is written already, or shall not be.

    Only what is complete is remembered; of what was destroyed nothing is. Where nothing was `changed`, it is never that
    another environment was applied: both mean the same on this server, and only for now.
    """
    facts = remaining.server_info
    if remaining.changes or facts is None:
        return None
    if not remaining.desired.resources:
        return RecordUpdate(None) if facts.applied_record else None
    now = AppliedRecord(version, remaining.environment, complete=True, members=members_of(remaining.desired))
    if not changed and (
        facts.record_error or (facts.applied_record and not _is_changed(now, facts.applied_record))
    ):
        return None
    return _record_if_room(remaining, facts, now)


def _is_changed(now: AppliedRecord, known: AppliedRecord) -> bool:
    more = not known.complete or known.members != now.members
    return more and known.environment == now.environment


def _record_if_room(plan: Plan, server_info: ServerInfo, memory: AppliedRecord) -> RecordUpdate:
    """Return the record, or why there is none: its bucket must not take the room that the organisation needs, now or for a replacement."""
    if plan.live is not None and Ref(bucket_stream(APPLIED_BUCKET)) in plan.live.resources:
        return RecordUpdate(memory)
    # Without one it reserves nothing.
    size = _BUCKET_MAX_BYTES if server_info.limits.max_bytes_required else -1
    if account_limits.has_room_for(plan.changes, server_info, 2, max(0, size)):
        return RecordUpdate(memory, size)
    return RecordUpdate(
        memory, refused="the account has no room for a bucket beside a stream that is replaced"
    )
