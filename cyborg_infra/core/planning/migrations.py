"""Tell whether a stream can be migrated with its messages on this server, and what is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyborg_infra.core.planning.account_limits import max_consumers
from cyborg_infra.core.planning.hazards import abandoned
from cyborg_infra.core.planning.hazards import streams as stream_hazards
from cyborg_infra.core.planning.hazards.building_blocks import format_count
from cyborg_infra.model.changes import Change, Hazard, HazardName, Migrate, Replace
from cyborg_infra.model.consumer_position import LARGEST_JOURNAL, journal_share, passed_by_all
from cyborg_infra.model.counting import CountKind, CountQuery
from cyborg_infra.model.fields import Config
from cyborg_infra.model.packed_text import pack
from cyborg_infra.model.ref import MAX_NAME_BYTES, Ref, temporary_stream
from cyborg_infra.model.resources import (
    DesiredResource,
    DesiredState,
    LiveResource,
    LiveState,
    StreamCounts,
    copy_max_bytes,
)
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.model.subjects import SubjectIndex
from cyborg_infra.model.units import format_size

# Since 2.15.1 a stream that is full of consumers can be copied; before, its copies count (10026).
DIRECT_LEVEL = 5


def copied_streams(live: LiveState) -> Mapping[str, Ref]:
    """Return the streams that another one copies, each with one that does."""
    return {origin["name"]: stream.ref for stream in live.streams() for origin in _origins(stream) if origin}


def plan_migration(
    change: Replace,
    copied: Mapping[str, Ref],
    live: LiveState,
    desired: DesiredState,
    server_info: ServerInfo,
) -> Replace:
    """Return the replace of a living stream, with its messages carried over or the reason why they cannot be."""
    before, after = change.before, change.after
    if not isinstance(before.counts, StreamCounts):
        return change
    renamed = before.ref != after.ref
    so_far = f"{change.reason}; " if renamed else ""
    obstacle = next(_obstacles(before, after, copied, live, desired, server_info), None)
    if obstacle is None:
        what = format_count(before.counts.messages, "message")
        return replace(
            change,
            method=Migrate(before.ref if renamed else temporary_stream(before.ref)),
            reason=f"{so_far}carries {what} over{_changed_by_copying(server_info.version)}; ingest pauses for milliseconds{_uncopied_count(before, after)}",
        )
    if before.counts.messages:
        return replace(change, reason=f"{so_far}cannot carry its messages over: {obstacle}")
    return change


def migration_hazards(
    change: Replace, live: LiveState, kept: Container[Ref], *, stored_after: SubjectIndex
) -> Iterator[Hazard]:
    """Yield what is lost although the messages are carried over: as an update in place, and what goes with the old stream."""
    before, after = change.before, change.after
    readers = live.consumers(before.ref.stream)
    others = [found for found in readers if found.ref not in kept]
    yield from stream_hazards.lost_consumer_hazards(others)
    # What consumers are done with, an interest stream or a workqueue does not store any more: given up is what is left.
    fields = [
        field for field in change.fields if field.field != "retention" or before.get("retention") == "limits"
    ]
    yield from stream_hazards.stream_update_hazards(before, after, fields, live, stored_after=stored_after)
    keeps_history = before.get("retention") == "limits"
    if _becomes_workqueue(before, after) and keeps_history:
        yield from stream_hazards.workqueue_hazards(before, live)
    if _becomes_workqueue(before, after) and len(readers) > 1:
        passed = passed_by_all(readers, kept)
        if (again := passed.furthest - passed.first) > 0:
            yield Hazard(
                HazardName.REPEATS_WORK,
                f"up to {format_count(again, 'message')} that only some of the {len(readers)} consumers have worked on",
                again,
                exact=False,
            )
    # Of a stream that kept a history, what was given up is part of what it no longer keeps, and is counted there.
    if not keeps_history and (_becomes_workqueue(before, after) or after.get("retention") == "interest"):
        for reader in readers:
            yield from abandoned.given_up_deleted_hazards(reader, live)


def count_left_out(stream: Ref, live: LiveState, desired: DesiredState) -> int:
    """Return how many messages a stream surely goes without when it becomes a workqueue: see `workqueue_hazards`."""
    before, after = live.resources.get(stream), desired.resources.get(stream)
    if before is None or after is None or not _becomes_workqueue(before, after):
        return 0
    found = before.counts_by_query.get(CountQuery(stream, CountKind.PASSED_BY_ALL))
    return found.messages if found and passed_by_all(live.consumers(stream.stream)).is_known else 0


def state_after_migration(changes: Sequence[Change], live: LiveState) -> LiveState:
    """Return the live state with migrated streams as they will be afterwards, so that consumer hazards are computed against the new limits and retention."""
    seen = {}
    for change in changes:
        found, after = live.resources.get(change.current_ref), change.after
        if not change.preserves_messages or change.ref.consumer or found is None or after is None:
            continue
        met: dict[str, Any] = {"consumer_limits": after.get("consumer_limits")}
        if found.get("retention") == "workqueue":
            met["retention"] = after.get("retention")
        seen[found.ref] = replace(found, config={**found.config, **met})
    return replace(live, resources={**live.resources, **seen}) if seen else live


def _obstacles(
    before: LiveResource,
    after: DesiredResource,
    copied: Mapping[str, Ref],
    live: LiveState,
    desired: DesiredState,
    server_info: ServerInfo,
) -> Iterator[str]:
    """Yield why the messages of a stream cannot go into a copy and back, exactly."""
    if before.ref == after.ref:
        yield from _name_obstacles(temporary_stream(before.ref), live)
    elif _becomes_workqueue(before, after):
        yield "what is worked already cannot be left out while it is renamed; rename it in an apply of its own"
    if before.ref.stream in copied:
        yield f"stream {copied[before.ref.stream]} copies it"
    retention = before.get("retention")
    if server_info.version < Capability.PAUSE_CONSUMER.since and retention != "limits":
        # Measured 2.10.26: with no consumer waiting for it, what is copied is deleted, and a stopped one does not wait.
        yield f"nats-server {server_info.version} forgets what it copies out of a stream with retention {retention}, where no consumer can be paused"
    yield from _kind_obstacles(before, after, server_info.version)
    yield from _limit_obstacles(before, after, live, desired, server_info)


def _name_obstacles(copy: Ref, live: LiveState) -> Iterator[str]:
    """Yield why the temporary stream cannot have its name."""
    if len(copy.stream) > MAX_NAME_BYTES:
        yield "its name is too long for a second stream beside it"
    if copy in live.resources:
        yield f"stream {copy} is in the way"


def _kind_obstacles(before: LiveResource, after: DesiredResource, version: Version) -> Iterator[str]:
    """Yield why a stream of this kind cannot be copied: its messages are more than messages, or come from elsewhere."""
    for name, what in (("mirror", "a mirror"), ("sources", "a copy of other streams")):
        if before.get(name) or after.get(name):
            yield f"it is {what}"
    for name, what in (("allow_msg_counter", "counters"), ("allow_msg_schedules", "schedules")):
        if before.get(name):
            yield f"its messages may be {what}"
    if after.get("allow_msg_counter"):
        yield "its messages are no counters"
    if before.get("sealed"):
        yield "it is sealed"
    first = after.get("first_seq") or 0
    kept = version >= Capability.PROMOTE_MIRROR.since
    if kept and isinstance(before.counts, StreamCounts) and first > before.counts.first_seq:
        yield f"its messages keep their numbers, which begin at {before.counts.first_seq}"


def _limit_obstacles(
    before: LiveResource,
    after: DesiredResource,
    live: LiveState,
    desired: DesiredState,
    server_info: ServerInfo,
) -> Iterator[str]:
    """Yield the limits that leave no room for a second stream, a second copy of the messages, and for a moment twice as many consumers."""
    limits = server_info.limits
    size = before.counts.bytes if isinstance(before.counts, StreamCounts) else 0
    if 0 < limits.max_streams <= limits.streams:
        yield "the account may have no second stream beside it"
    if limits.max_bytes_required:
        yield from _reservation_obstacles(before, after, server_info)
    elif 0 < limits.max_storage < limits.storage + 2 * size:
        yield "the account has no room for a second copy"
    readers = desired.consumers(after.ref.stream)
    most = max_consumers(after.config, server_info)
    if after.get("retention") != "workqueue" and 0 < most < 2 * len(readers):
        yield f"the positions of its {len(readers):,} consumers need as many more, and it may have {most:,}"
    noted = live.consumers(before.ref.stream)
    most = max_consumers(before.config, server_info)
    # Each with a placeholder.
    stopped = 2 * len(noted) if server_info.version < Capability.PAUSE_CONSUMER.since else len(noted)
    if server_info.level < DIRECT_LEVEL and 0 < most <= stopped:
        yield f"it may have {most:,} consumers, and to copy it takes one more than {stopped:,}"
    if sum(journal_share(consumer, server_info.version) for consumer in noted) > LARGEST_JOURNAL:
        yield f"it has too many consumers ({len(noted):,})"
    elif len(pack(json.dumps(list(before.get("subjects"))))) > LARGEST_JOURNAL:
        yield f"it has too many subjects ({len(before.get('subjects')):,})"


def _reservation_obstacles(
    before: LiveResource, after: DesiredResource, server_info: ServerInfo
) -> Iterator[str]:
    """Yield obstacles where a copy has to say how large it may become: the temporary stream, in a file, and the new one are there at once."""
    limits, size = server_info.limits, copy_max_bytes(before, after)
    replicas = max(stream.get("num_replicas") for stream in (before, after))
    places = [after.get("storage"), *(["file"] if before.ref == after.ref else [])]
    for storage, largest, most, reserved in (
        ("file", limits.max_file_stream, limits.max_storage, limits.storage),
        ("memory", limits.max_memory_stream, limits.max_memory, limits.memory),
    ):
        if storage in places and 0 < largest < size:
            yield f"the account requires a max_bytes, and a copy needs one of {format_size(size)}"
        if 0 < most < reserved + places.count(storage) * size * replicas:
            yield f"the account requires a max_bytes, and has no room for a copy with one of {format_size(size)}"


def _becomes_workqueue(before: LiveResource, after: DesiredResource) -> bool:
    return after.get("retention") == "workqueue" != before.get("retention")


def _changed_by_copying(version: Version) -> str:
    """Return what is not kept. Sources number messages anew, and a `max_age` begins anew for them."""
    return "" if version >= Capability.PROMOTE_MIRROR.since else " with new sequence numbers and timestamps"


def _uncopied_count(before: LiveResource, after: DesiredResource) -> str:
    return ", without those that are worked already" if _becomes_workqueue(before, after) else ""


def _origins(stream: LiveResource) -> list[Config]:
    return [stream.get("mirror"), *stream.get("sources")]
