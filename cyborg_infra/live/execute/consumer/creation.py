"""Create a consumer at the position that its placeholder keeps, with what is being worked on still open in it."""

from __future__ import annotations

import asyncio

from cyborg_infra.live import timing
from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.idempotent import create_consumer, delete, update_consumer
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import NoReply, NoResponders, PermissionDenied
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.pausing import pause
from cyborg_infra.live.execute.consumer.placeholder import (
    needs_saved_position,
    placeholder_ref,
    saved_position,
)
from cyborg_infra.live.execute.consumer.position import (
    BATCH_SIZE,
    MAX_ATTEMPTS,
    PositionRestore,
    PullFailed,
    UnexpectedDelivery,
    restore_config,
)
from cyborg_infra.live.execute.consumer.starting import AS_CONFIGURED, ConsumerStart
from cyborg_infra.live.execute.consumer.strategies import strategy_for
from cyborg_infra.live.execute.consumer.strategy import FinalPosition
from cyborg_infra.live.execute.consumer.unacknowledged import find_unacknowledged
from cyborg_infra.model.consumer_position import Position, max_open
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.metadata_keys import PAUSED_KEY
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, Resource, consumer_counts


async def ensure_exists(server: JetStream, desired: Resource) -> None:
    """Create the consumer, if it does not exist or has never been at work."""
    if await server.info(desired.ref) is None:
        await create_consumer(server, desired, f"creating {desired.ref}")


async def create_at_saved_position(
    server: JetStream,
    desired: Resource,
    options: ApplyOptions,
    old_ref: Ref | None = None,
    known: FinalPosition = FinalPosition(),  # noqa: B008 - immutable
) -> None:
    """Create the consumer at its placeholder's position, let it deliver, and delete the placeholder.

    A server of a cluster that has not heard of the placeholder yet may tell an earlier position than is `known`. It
    takes over from the consumer `old_ref`, and stays paused until then if that one was, by hand.
    """
    ref, placeholder_at = desired.ref, placeholder_ref(desired.ref)
    live, held = await server.info(ref), await server.info(placeholder_at)
    position, paused_until = _later_position(held, known)
    if live is not None and live.is_refilling:
        position = await _without_finished(server, live, position)
        await delete(server, ref)
        live = None
    start = strategy_for(options.version).start_of(desired)
    if position.unfinished:
        if live is None:
            await _create_with_open_messages(
                server, desired, options, old_ref or ref, position, paused_until, start
            )
    else:
        await _create_at(server, desired, position.next, paused_until, start, exists=live is not None)
    await delete(server, placeholder_at)
    if old_ref is not None:
        await options.ack_listener.stop(old_ref)


def _later_position(placeholder: LiveResource | None, known: FinalPosition) -> FinalPosition:
    """Return what the placeholder keeps, or what is known where that says more."""
    saved = saved_position(placeholder) if placeholder else Position()
    is_up_to_date = saved.next >= known.position.next and (saved.unfinished or not known.position.unfinished)
    paused_until = placeholder.metadata.get(PAUSED_KEY, "") if placeholder else ""
    return FinalPosition(saved if is_up_to_date else known.position, known.paused_until or paused_until)


async def _create_at(
    server: JetStream,
    desired: Resource,
    position: int,
    paused_until: str,
    start: ConsumerStart,
    *,
    exists: bool,
) -> None:
    """Create the consumer at `position` and let it deliver."""
    ref = desired.ref
    if not position or not needs_saved_position(desired, position):
        start = AS_CONFIGURED
    if not exists:
        config = {
            **start.served_config(desired.config, position),
            **({"pause_until": paused_until} if paused_until else {}),
            **start.unserved_fields(),
        }
        await create_consumer(server, Resource(ref, config), f"creating {ref}")
    await start.move(server, ref, position, paused_until)


async def _create_with_open_messages(
    server: JetStream,
    desired: Resource,
    options: ApplyOptions,
    old_ref: Ref,
    position: Position,
    paused_until: str,
    start: ConsumerStart,
) -> None:
    """Create the consumer with the same messages pending acknowledgement, and let it deliver. See `live.execute.consumer.position`."""
    ref, stream = desired.ref, await server.info(Ref(desired.ref.stream))
    config = stream.config if stream else {}
    room = _open_limit(desired, position, max_open(config))
    if config.get("retention") == "workqueue" or not needs_saved_position(desired, position.first):
        start = AS_CONFIGURED
    final = start.served_config(desired.config, position.first)
    known: int | None = None
    for _ in range(MAX_ATTEMPTS):
        first = {**restore_config(final, room), **start.unserved_fields()}
        try:
            await create_consumer(server, Resource(ref, first), f"creating {ref}")
        except ApiError as error:
            if error.err_code != ErrorCode.JSConsumerMaxPendingAckExcessErrF:
                raise
            room = desired.get("max_ack_pending")
            continue
        await start.move(server, ref, position.first)
        refill = PositionRestore(server, ref, position, room=room)
        try:
            await refill.run(known)
        except UnexpectedDelivery as overrun:
            known = overrun.number
            await delete(server, ref)
            continue
        except PullFailed:  # as by a server that has just stopped leading: it is begun anew
            await delete(server, ref)
            continue
        await options.ack_listener.forward(server, old_ref, refill.open)
        if paused_until:
            await pause(server, ref, paused_until)
        # Killed before, the server would hand out all of it again.
        await asyncio.sleep(timing.CONSUMER_FLUSH_SECONDS)
        await update_consumer(server, Resource(ref, final), f"serving {ref}")
        await options.ack_listener.forward(server, old_ref, refill.open)
        return
    raise ServerFault(
        Problem(
            "not-refilled",
            f"{ref}: its messages went while it was made to stand where the old one stood",
            None,
            "apply again: it goes on from there",
        )
    )


async def _without_finished(server: JetStream, begun: LiveResource, position: Position) -> Position:
    """Return the position without what agents have finished in a consumer whose restore was interrupted."""
    try:
        found = await find_unacknowledged(server, begun)
    except (PermissionDenied, NoResponders, NoReply):
        found = None
    if found is None:
        return position  # then it is handed out again
    handed_out = consumer_counts(begun).delivered_stream_seq
    reached = {number for number in position.unfinished if number <= handed_out}
    return position.without_finished(frozenset(reached.difference(found)))


def _open_limit(desired: Resource, position: Position, limit: int) -> int:
    """Return how many messages may be open while it is refilled: so many that it goes fast, and no more than the stream allows."""
    own: int = desired.get("max_ack_pending")
    if own < 0:
        return own
    room = max(own, len(position.unfinished) + BATCH_SIZE)
    return min(room, limit) if limit > 0 else room
