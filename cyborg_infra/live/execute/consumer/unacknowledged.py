"""Find which messages of a consumer are pending acknowledgement; the server itself says only how many.

An agent may say of a message that it is still working on it (`+WPI`). The server looks whether it waits for an
acknowledgement of that number, and only then writes down that something has happened: `delivered.last_active` moves
(2.10.26, 2.11.11, 2.12.8, 2.14.6 and 2.15.1, single and in a cluster of three). The subject of an acknowledgement has
nothing secret in it. So a consumer that hands out nothing can be asked of many numbers at once whether any of them is
open, and by halves which. It disturbs nobody: of an open message the time until it is handed out again begins anew,
of all others nothing is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.pulling import IN_PROGRESS
from cyborg_infra.live.execute.consumer.pausing import require_consumer
from cyborg_infra.model.consumer_position import finished_up_to
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, consumer_counts

_MAX_ATTEMPTS = 5  # agents that finish, or say themselves that they are at work, while it is looked


async def find_unacknowledged(server: JetStream, consumer: LiveResource) -> tuple[int, ...] | None:
    """Return the numbers that this consumer, which hands out nothing, waits for; None where they do not become as many as it says.

    Raises what the server answers: NoResponders and PermissionDenied where acknowledgements do not reach it from here.
    """
    counts = consumer_counts(consumer)
    if not counts.num_ack_pending:
        return ()
    found: Sequence[int] = range(finished_up_to(consumer) + 1, counts.delivered_stream_seq + 1)
    for _ in range(_MAX_ATTEMPTS):
        found = await _unacknowledged_among(server, consumer.ref, found)
        now = consumer_counts(await require_consumer(server, consumer.ref))
        if now.delivered_stream_seq != counts.delivered_stream_seq:
            return None
        # What is open was found, since it was open while it was asked for. So with as many it is the same.
        if len(found) == now.num_ack_pending:
            return tuple(found)
        if len(found) < now.num_ack_pending:
            found = range(finished_up_to(consumer) + 1, counts.delivered_stream_seq + 1)
    return None


async def list_delivered(
    server: JetStream, consumer: LiveResource, subjects: Iterable[str], maximum: int
) -> tuple[int, ...] | None:
    """Return the numbers of all stored messages with such subjects, up to where the consumer has got; None where there are more than `maximum`."""
    return await list_stored(
        server, consumer.ref, subjects, 0, consumer_counts(consumer).delivered_stream_seq, maximum
    )


async def list_stored(
    server: JetStream, ref: Ref, subjects: Iterable[str], after: int, last: int, maximum: int
) -> tuple[int, ...] | None:
    """Return the numbers behind `after`, and up to `last`, of the messages with such subjects; None where there are more than `maximum`."""
    found = set[int]()
    for subject in subjects:
        number = after
        while number < last and len(found) <= maximum:
            body = {"seq": number + 1, "next_by_subj": subject}
            try:
                row = await server.request(
                    f"STREAM.MSG.GET.{ref.stream}", body, doing=f"reading {ref.stream}"
                )
            except ApiError as error:
                if error.err_code != ErrorCode.JSNoMessageFoundErr:
                    raise
                break
            number = row["message"]["seq"]
            if number <= last:
                found.add(number)
    return tuple(sorted(found)) if len(found) <= maximum else None


async def _unacknowledged_among(server: JetStream, ref: Ref, numbers: Sequence[int]) -> list[int]:
    """Return the sequence numbers among these that are open, ascending; perhaps others too, where agents send a heartbeat meanwhile."""
    last = await _last_active(server, ref)

    async def moves(group: Sequence[int]) -> bool:
        nonlocal last
        await server.acknowledge([_subject(ref, number) for number in group], IN_PROGRESS)
        before, last = last, await _last_active(server, ref)
        return last != before

    async def among(group: Sequence[int], *, known: bool = False) -> list[int]:
        """Return the numbers of the group that are open; `known`: at least one of them is."""
        if not known and not await moves(group):
            return []
        if len(group) == 1:
            return [group[0]]
        middle = len(group) // 2
        first = await among(group[:middle])
        return first + await among(group[middle:], known=not first)

    return await among(numbers) if numbers else []


async def _last_active(server: JetStream, ref: Ref) -> str:
    return (await require_consumer(server, ref)).activity.delivered_at


def _subject(ref: Ref, number: int) -> str:
    """Return the ack subject of a message: deliveries, its numbers in the stream and of the delivery, time, pending."""
    return f"$JS.ACK.{ref.stream}.{ref.consumer}.1.{number}.1.1.0"
