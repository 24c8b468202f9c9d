"""Read and write the applied record of an organisation in its account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import PermissionDenied, TooLarge
from cyborg_infra.live.records.bucket import (
    decode_json,
    ensure_bucket,
    is_deletion,
    key_subject,
    latest_message,
)
from cyborg_infra.model.buckets import APPLIED_BUCKET
from cyborg_infra.model.json_shapes import flag, list_of, object_of, printable, string
from cyborg_infra.model.last_applied import AppliedRecord, RecordUpdate, group_members, ungroup_members
from cyborg_infra.model.problems import CyborgError

SCHEMA_VERSION = 1

_RECORD = object_of(
    {"version": printable, "complete": flag},
    {
        "environment": printable,
        "resources": list_of(object_of({"kinds": list_of(string), "of": list_of(string)})),
    },
)


async def read_applied_record(server: JetStream, org: str) -> tuple[AppliedRecord | None, str]:
    """Return what the account remembers of the organisation, None for nothing; and as a clause why that is not known, if it is not.

    Raises ServerFault if the account does not answer.
    """
    try:
        found = await latest_message(server, APPLIED_BUCKET, org, "reading what was applied")
    except PermissionDenied as denied:
        return None, f"this user may not read it ({denied.subject})"
    if found is None or is_deletion(found):
        return None, ""
    record = decode_json(found)
    if (misfit := _RECORD(record)) is not None:
        return None, f"{key_subject(APPLIED_BUCKET, org)} holds what is no memory of ours: {misfit}"
    return _decode(record, found.time), ""


async def save_applied_record(
    server: JetStream,
    org: str,
    update: RecordUpdate | None,
    on_warning: Callable[[str], None] = lambda _: None,
) -> None:
    """Save the applied record in the account. `on_warning` hears in a sentence if that fails: it is no reason to stop."""
    if update is None:
        return
    reason = update.refused
    if not reason:
        try:
            await _save(server, org, update)
        except CyborgError as error:
            reason = error.problems[0].message
    if reason:
        on_warning(
            f"the account does not remember this apply: {reason}; "
            "so drift may not tell when all is gone, nor plan when another environment was meant"
        )


async def _save(server: JetStream, org: str, keeping: RecordUpdate) -> None:
    doing = "remembering what was applied"
    if keeping.record is None:
        await _put(server, org, {}, {"KV-Operation": "DEL"}, doing)
        return
    if keeping.made_of is not None:
        await ensure_bucket(server, APPLIED_BUCKET, {"max_bytes": keeping.made_of}, doing)
    try:
        await _put(server, org, _encode(keeping.record), {}, doing)
    except TooLarge:
        await _put(server, org, _encode(replace(keeping.record, members=None)), {}, doing)


async def _put(
    server: JetStream, org: str, value: dict[str, Any], headers: dict[str, str], doing: str
) -> None:
    """Store the record. Twice the same does no harm, so a lost answer is no matter."""

    async def attempt() -> None:
        await server.publish(key_subject(APPLIED_BUCKET, org), value, headers, doing=doing)

    await server.retry(attempt)


def _encode(memory: AppliedRecord) -> dict[str, Any]:
    groups = None if memory.members is None else group_members(memory.members)
    return {
        "schema_version": SCHEMA_VERSION,
        "version": memory.version,
        "environment": memory.environment,
        "complete": memory.complete,
        "resources": groups and [{"kinds": kinds, "of": names} for kinds, names in groups],
    }


def _decode(record: dict[str, Any], at: str) -> AppliedRecord:
    groups = record.get("resources")
    return AppliedRecord(
        record["version"],
        record.get("environment"),
        record["complete"],
        None if groups is None else ungroup_members((each["kinds"], each["of"]) for each in groups),
        at,
    )
