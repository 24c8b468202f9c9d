"""Whether a replaced stream can take its messages along on this server, and what that costs. Decides no action."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

from cyborg_infra.core import hazards as stream_hazards
from cyborg_infra.core.costs import counted
from cyborg_infra.core.expand import CONSUMER_CAP, CONSUMER_CAP_LEVEL
from cyborg_infra.model.fields import PAUSE_SINCE, PROMOTE_SINCE, Version
from cyborg_infra.model.plan import Change, Hazard, HazardName
from cyborg_infra.model.state import (
    ConsumerCounts,
    Facts,
    Ref,
    Resource,
    State,
    StreamCounts,
    copy_size,
    temporary,
)
from cyborg_infra.model.subjects import SubjectIndex
from cyborg_infra.model.units import format_size

LONGEST_NAME = 255
LARGEST_JOURNAL = 96 * 1024  # of the 128 KiB of metadata that a stream may have
PER_POSITION = 24  # bytes that a consumer takes in it besides its name, and its configuration before 2.11


def copies(live: State) -> Mapping[str, Ref]:
    """The streams that another one copies, each with one that does."""
    return {origin["name"]: stream.ref for stream in live.streams() for origin in _origins(stream) if origin}


def planned(change: Change, copied: Mapping[str, Ref], live: State, desired: State, facts: Facts) -> Change:
    """The replace of a living stream, with its messages carried over or the reason why they cannot be."""
    before, after = change.before, change.after
    if before is None or after is None or not isinstance(before.counts, StreamCounts):
        return change
    renamed = before.ref != after.ref
    so_far = f"{change.reason}; " if renamed else ""
    obstacle = next(_obstacles(before, after, copied, live, desired, facts), None)
    if obstacle is None:
        what = counted(before.counts.messages, "message")
        return replace(
            change,
            carried=True,
            via=before.ref if renamed else temporary(before.ref),
            reason=f"{so_far}carries {what} over{_how(facts.version)}; ingest pauses for milliseconds{_left_out(before, after)}",
        )
    if before.counts.messages:
        return replace(change, reason=f"{so_far}cannot carry its messages over: {obstacle}")
    return change


def hazards(
    change: Change, live: State, kept: Container[Ref], *, stored_after: SubjectIndex
) -> Iterator[Hazard]:
    """What is lost although the messages are carried over: as an update in place, and what goes with the old stream."""
    before, after = change.before, change.after
    if before is None or after is None:
        return
    readers = live.consumers(before.ref.stream)
    others = [found for found in readers if found.ref not in kept]
    yield from stream_hazards.of_lost_consumers(others)
    yield from stream_hazards.of_update(before, after, change.fields, live, stored_after=stored_after)
    if _becomes_workqueue(before, after) and len(readers) > 1:
        worked = [
            found.counts.delivered_stream_seq for found in readers if isinstance(found.counts, ConsumerCounts)
        ]
        if again := max(worked) - min(worked):
            yield Hazard(
                HazardName.REPEATS_WORK,
                f"up to {counted(again, 'message')} that only some of the {len(readers)} consumers have worked on",
                again,
                exact=False,
            )
    given_up = sum(
        found.counts.num_redelivered for found in readers if isinstance(found.counts, ConsumerCounts)
    )
    if before.config.get("retention") == after.config.get("retention") == "interest" and given_up:
        yield Hazard(
            HazardName.DELETES_MESSAGES,
            f"up to {counted(given_up, 'message')} given up before",
            given_up,
            exact=False,
        )


def as_read(changes: Sequence[Change], live: State) -> State:
    """What there is, as consumers meet it in the successors: only a workqueue again hands out from its beginning."""
    seen = {
        found.ref: replace(found, config={**found.config, "retention": change.after.config["retention"]})
        for change in changes
        if change.carried
        and change.after
        and not change.ref.consumer
        and (found := live.resources.get(change.place))
        and found.config.get("retention") == "workqueue"
    }
    return State({**live.resources, **seen}, live.facts) if seen else live


def _obstacles(
    before: Resource,
    after: Resource,
    copied: Mapping[str, Ref],
    live: State,
    desired: State,
    facts: Facts,
) -> Iterator[str]:
    """Why the messages of a stream cannot go into a copy and back, exactly."""
    if before.ref == after.ref:
        yield from _of_name(temporary(before.ref), live)
    elif _becomes_workqueue(before, after):
        yield "what is worked already cannot be left out while it is renamed; rename it in an apply of its own"
    if before.ref.stream in copied:
        yield f"stream {copied[before.ref.stream]} copies it"
    retention = before.config.get("retention")
    if facts.version < PAUSE_SINCE and retention != "limits":
        # Measured 2.10.26: with no consumer waiting for it, what is copied is deleted, and a stopped one does not wait.
        yield f"nats-server {facts.version} forgets what it copies out of a stream with retention {retention}, where no consumer can be paused"
    yield from _of_kind(before, after, facts.version)
    yield from _of_room(before, after, live, desired, facts)


def _of_name(copy: Ref, live: State) -> Iterator[str]:
    """The temporary stream is called as no other."""
    if len(copy.stream) > LONGEST_NAME:
        yield "its name is too long for a second stream beside it"
    if copy in live.resources:
        yield f"stream {copy} is in the way"


def _of_kind(before: Resource, after: Resource, version: Version) -> Iterator[str]:
    """Messages that are more than messages, and streams that take them in from elsewhere."""
    for name, what in (("mirror", "a mirror"), ("sources", "a copy of other streams")):
        if before.config.get(name) or after.config.get(name):
            yield f"it is {what}"
    for name, what in (("allow_msg_counter", "counters"), ("allow_msg_schedules", "schedules")):
        if before.config.get(name):
            yield f"its messages may be {what}"
    if after.config.get("allow_msg_counter"):
        yield "its messages are no counters"
    if before.config.get("sealed"):
        yield "it is sealed"
    first = after.config.get("first_seq") or 0
    kept = version >= PROMOTE_SINCE
    if kept and isinstance(before.counts, StreamCounts) and first > before.counts.first_seq:
        yield f"its messages keep their numbers, which begin at {before.counts.first_seq}"


def _of_room(before: Resource, after: Resource, live: State, desired: State, facts: Facts) -> Iterator[str]:
    """A second stream, a second copy of the messages, and for a moment twice as many consumers."""
    limits = facts.limits
    size = before.counts.bytes if isinstance(before.counts, StreamCounts) else 0
    if 0 < limits.max_streams <= limits.streams:
        yield "the account may have no second stream beside it"
    if limits.max_bytes_required:
        yield from _of_reserved_room(before, after, facts)
    elif 0 < limits.max_storage < limits.storage + 2 * size:
        yield "the account has no room for a second copy"
    readers = desired.consumers(after.ref.stream)
    most = after.config.get("max_consumers", -1)
    if most <= 0 and facts.level >= CONSUMER_CAP_LEVEL:
        most = CONSUMER_CAP
    most = min((found for found in (most, limits.max_consumers) if found > 0), default=0)
    if after.config.get("retention") != "workqueue" and 0 < most < 2 * len(readers):
        yield f"the positions of its {len(readers):,} consumers need as many more, and it may have {most:,}"
    noted = live.consumers(before.ref.stream)
    if sum(_noted(consumer, facts.version) for consumer in noted) > LARGEST_JOURNAL:
        yield f"it has too many consumers ({len(noted):,})"


def _of_reserved_room(before: Resource, after: Resource, facts: Facts) -> Iterator[str]:
    """Where a copy has to say how large it may become: the temporary stream, in a file, and the new one are there at once."""
    limits, size = facts.limits, copy_size(before, after)
    replicas = max(stream.config.get("num_replicas", 1) for stream in (before, after))
    places = [after.config["storage"], *(["file"] if before.ref == after.ref else [])]
    for storage, largest, most, reserved in (
        ("file", limits.max_file_stream, limits.max_storage, limits.storage),
        ("memory", limits.max_memory_stream, limits.max_memory, limits.memory),
    ):
        if storage in places and 0 < largest < size:
            yield f"the account requires a max_bytes, and a copy needs one of {format_size(size)}"
        if 0 < most < reserved + places.count(storage) * size * replicas:
            yield f"the account requires a max_bytes, and has no room for a copy with one of {format_size(size)}"


def _noted(consumer: Resource, version: Version) -> int:
    """How many bytes of the journal a consumer takes; metadata is text, in which quotes are escaped."""
    config = json.dumps(json.dumps(dict(consumer.config))) if version < PAUSE_SINCE else ""
    return 2 * len(consumer.ref.consumer) + PER_POSITION + len(config)


def _becomes_workqueue(before: Resource, after: Resource) -> bool:
    return after.config.get("retention") == "workqueue" != before.config.get("retention")


def _how(version: Version) -> str:
    """What is not kept. Sources number messages anew, and a `max_age` begins anew for them."""
    return "" if version >= PROMOTE_SINCE else " with new sequence numbers and timestamps"


def _left_out(before: Resource, after: Resource) -> str:
    return ", without those that are worked already" if _becomes_workqueue(before, after) else ""


def _origins(stream: Resource) -> list[dict[str, str]]:
    return [stream.config.get("mirror") or {}, *(stream.config.get("sources") or ())]
