"""Stop a consumer: it hands out nothing new any more, and only a new consumer goes on.

It waits for a subject that nobody uses. What it had handed out is noted in its labels, since its cursor may not tell
it any more.
"""

from __future__ import annotations

import asyncio

from cyborg_infra.live import timing
from cyborg_infra.live.api.idempotent import update_consumer
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import NoReply, NoResponders, PermissionDenied
from cyborg_infra.live.execute.consumer.pausing import (
    MAX_POLLS,
    not_in_force_error,
    require_consumer,
)
from cyborg_infra.live.execute.consumer.unacknowledged import list_stored
from cyborg_infra.model.consumer_position import finished_up_to, read_patterns
from cyborg_infra.model.fields import Config
from cyborg_infra.model.metadata_keys import READ_KEY, STOPPED_KEY
from cyborg_infra.model.ref import Ref, stop_subject
from cyborg_infra.model.resources import LiveResource, Resource, StopPosition, consumer_counts

ONE_AT_A_TIME: Config = {"max_ack_pending": 1}


async def stop(server: JetStream, old: LiveResource) -> LiveResource:
    """Stop the consumer: it hands out nothing new any more, even if we die or a pause ends. Return it as it is then.

    It waits for a subject that nobody uses. What it has handed out goes on being handed out again where it is not
    paused. `delivered` stays where it was (measured 2.11.11 to 2.15.1; for 2.10 see `stop_before_pauses`).
    """
    await _filter_nothing(server, old, StopPosition(consumer_counts(old).delivered_stream_seq))
    return await _await_stopped(server, old.ref)


async def slow(server: JetStream, old: LiveResource) -> None:
    """Slow a consumer down on a server that cannot pause one (before 2.11): it hands out nothing while something is pending acknowledgement. `speed_up` takes it back."""
    if old.get("ack_policy") != "none":
        slowed = Resource(old.ref, {**old.config, **ONE_AT_A_TIME})
        await update_consumer(server, slowed, f"slowing {old.ref} down")


async def speed_up(server: JetStream, old: Resource) -> None:
    """Restore a consumer that was slowed down."""
    await update_consumer(server, old, f"serving {old.ref}")


async def stop_before_pauses(server: JetStream, old: LiveResource, latest: LiveResource) -> int:
    """Stop a consumer for good on a server that cannot pause one (before 2.11); to go on it has to be created anew.

    `latest` is what it was just now. Returns how many deliveries since then may be of messages beyond what is noted.

    It waits for a subject that nobody uses. Where it stands is from then on its `floor`: its cursor runs on to the end
    as soon as somebody pulls. With room for one message only, it does not do so before the last one under way is
    finished, which would take its ack floor along (measured 2.10.26: 60 of 60 under load were exact). After that it
    does, and the end of an ack_wait takes the ack floor along all the same: so up to where it has handed out is noted
    while it is known, at first as what it was before it was stopped. And so is its floor of then, with the server that
    said so: another one may not know what was handed out last.
    """
    narrow = {} if old.get("ack_policy") == "none" else ONE_AT_A_TIME
    counts, floor = consumer_counts(latest), finished_up_to(latest)
    before = max(counts.delivered_stream_seq, floor)
    if not counts.num_ack_pending:  # what used up its deliveries holds the floor all the same
        floor = before
    noted = StopPosition(before, exact=False, floor=floor, incarnation=latest.activity.incarnation)
    await _filter_nothing(server, old, noted, **narrow)
    stopped = await _await_stopped(server, old.ref)
    number = await _handed_out(server, latest, stopped, before)
    if number is None:
        return _most_deliveries(latest, stopped)
    await _filter_nothing(server, old, noted._replace(number=number, exact=True), **narrow)
    return 0


async def _handed_out(
    server: JetStream, latest: LiveResource, stopped: LiveResource, before: int
) -> int | None:
    """Return the last sequence number that the stopped consumer has handed out; None if its counts do not tell.

    Once all is finished only its floor may tell, and that may have been taken to the end by now: then there are more
    messages for it up to there than were handed out since.
    """
    if stopped.activity.incarnation != latest.activity.incarnation:
        return None
    since = stopped.activity.deliveries - latest.activity.deliveries
    if not since:
        return before
    counts = consumer_counts(stopped)
    if counts.num_ack_pending:
        return max(before, counts.delivered_stream_seq)
    floor = counts.ack_floor_stream_seq
    if floor - before > since:
        try:
            found = await list_stored(server, latest.ref, read_patterns(latest), before, floor, since)
        except (NoReply, NoResponders, PermissionDenied):
            return None
        if found is None:
            return None
    return max(before, floor)


def _most_deliveries(latest: LiveResource, stopped: LiveResource) -> int:
    """Return how many messages a consumer may have handed out since the latest reading, at most; of a server that has forgotten some, as many as it hands out at once."""
    since = stopped.activity.deliveries - latest.activity.deliveries
    if since > 0:
        return since
    window: int = latest.get("max_ack_pending")
    return window if window > 0 else consumer_counts(latest).num_pending


async def _filter_nothing(
    server: JetStream, old: LiveResource, handed_out: StopPosition, **rest: object
) -> None:
    config = {
        name: value for name, value in old.config.items() if name not in ("filter_subject", "filter_subjects")
    }
    config |= rest | {"filter_subject": stop_subject(old.ref)}
    read = {} if old.is_stopped else {READ_KEY: " ".join(read_patterns(old))}
    config["metadata"] = {**old.metadata, STOPPED_KEY: handed_out.written, **read}
    await update_consumer(server, Resource(old.ref, config), f"stopping {old.ref}")


async def _await_stopped(server: JetStream, ref: Ref) -> LiveResource:
    """Return the consumer, once it is stopped. Raises ServerFault if it is not: a cluster's OK is only the proposal."""
    for _ in range(MAX_POLLS):
        now = await require_consumer(server, ref)
        if now.is_stopped:
            return now
        await asyncio.sleep(timing.CONSUMER_POLL_SECONDS)
    raise not_in_force_error(f"stopping {ref}")
