"""Which share of a live stream's limits is used, in all and by messages that a consumer has still to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cyborg_infra.model.resources import ConsumerCounts, LiveResource, StreamCounts
from cyborg_infra.model.status import LimitUsage, StatusReadings
from cyborg_infra.model.units import age


def fullest_limit(stream: LiveResource, besides: str = "") -> LimitUsage | None:
    """Return the limit of messages or bytes, but for `besides`, of which most is used; None if there is no such limit."""
    counts = stream.counts
    if not isinstance(counts, StreamCounts):
        return None
    used = {"max_msgs": counts.messages, "max_bytes": counts.bytes}
    return max(
        (
            LimitUsage(held / limit, name)
            for name, held in used.items()
            if name != besides and (limit := stream.get(name)) > 0
        ),
        default=None,
    )


def unread_limit(stream: LiveResource, reader: LiveResource, readings: StatusReadings) -> LimitUsage:
    """Return how near the first message that waits for `reader` is to being dropped; 0 where none does.

    What is in flight does not count: where it stands among the messages is not told. Messages deleted one by one
    from the middle of the stream count as if they were there, and bytes are an average.
    """
    return replace(
        max(_unread_usages(stream, reader, readings), default=LimitUsage(0.0, "")), reader=reader.ref.name
    )


def _unread_usages(
    stream: LiveResource, reader: LiveResource, readings: StatusReadings
) -> Iterator[LimitUsage]:
    held, counts = stream.counts, reader.counts
    if not isinstance(held, StreamCounts) or not isinstance(counts, ConsumerCounts) or not held.messages:
        return
    if not counts.num_pending:
        return
    waiting = readings.oldest.get(reader.ref)
    first = waiting.seq if waiting else counts.delivered_stream_seq + 1
    behind = min(held.messages, held.last_seq - first + 1)
    if (limit := stream.get("max_msgs")) > 0:
        yield LimitUsage(behind / limit, "max_msgs")
    if (limit := stream.get("max_bytes")) > 0:
        yield LimitUsage(held.bytes * behind / held.messages / limit, "max_bytes")
    subject = reader.get("filter_subject")
    if (limit := stream.get("max_msgs_per_subject")) > 0 and subject and not {"*", ">"} & {*subject}:
        yield LimitUsage(counts.num_pending / limit, "max_msgs_per_subject")
    if limit := stream.get("max_age"):
        yield LimitUsage((age(waiting.at, readings.now) or 0 if waiting else 0) / limit, "max_age")
