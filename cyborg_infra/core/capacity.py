"""How much of a live stream's limits is used, and by what somebody has still to read. Knows no thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cyborg_infra.model.state import ConsumerCounts, Resource, StreamCounts
from cyborg_infra.model.status import Fill, Observed
from cyborg_infra.model.units import age


def fill(stream: Resource) -> Fill | None:
    """The limit of which most is used, whoever has read what; None without a limit of messages or bytes."""
    counts = stream.counts
    if not isinstance(counts, StreamCounts):
        return None
    used = {"max_msgs": counts.messages, "max_bytes": counts.bytes}
    return max(
        (
            Fill(held / limit, name)
            for name, held in used.items()
            if (limit := stream.config.get(name, -1)) > 0
        ),
        default=None,
    )


def unread(stream: Resource, reader: Resource, seen: Observed) -> Fill:
    """How near the first message that waits for `reader` is to being dropped; 0 where none does.

    What is in flight does not count: where it stands among the messages is not told. Messages deleted one by one
    from the middle of the stream count as if they were there, and bytes are an average.
    """
    return replace(max(_unread(stream, reader, seen), default=Fill(0.0, "")), reader=reader.ref.name)


def _unread(stream: Resource, reader: Resource, seen: Observed) -> Iterator[Fill]:
    held, counts, config = stream.counts, reader.counts, stream.config
    if not isinstance(held, StreamCounts) or not isinstance(counts, ConsumerCounts) or not held.messages:
        return
    if not counts.num_pending:
        return
    waiting = seen.oldest.get(reader.ref)
    first = waiting.seq if waiting else counts.delivered_stream_seq + 1
    behind = min(held.messages, held.last_seq - first + 1)
    if (limit := config.get("max_msgs", -1)) > 0:
        yield Fill(behind / limit, "max_msgs")
    if (limit := config.get("max_bytes", -1)) > 0:
        yield Fill(held.bytes * behind / held.messages / limit, "max_bytes")
    subject = reader.config.get("filter_subject", "")
    if (limit := config.get("max_msgs_per_subject", -1)) > 0 and subject and not {"*", ">"} & {*subject}:
        yield Fill(counts.num_pending / limit, "max_msgs_per_subject")
    if limit := config.get("max_age", 0):
        yield Fill((age(waiting.at, seen.now) or 0 if waiting else 0) / limit, "max_age")
