"""Consumers during a stream's migration: drain and pause them (stop them before 2.11), record their positions, and create placeholders there in the new stream.

Since 2.11 they stand still because they are paused. Before, they are stopped by a filter that nothing matches; what
they were is noted as well, since only a new consumer goes on where a stopped one stood. Work under way that does not
end in time, and may come again, comes again; the plan counts that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from cyborg_infra.live.api.idempotent import delete
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.consumer.creation import create_at_saved_position, ensure_exists
from cyborg_infra.live.execute.consumer.draining import drain
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.pausing import manually_paused_until, pause
from cyborg_infra.live.execute.consumer.placeholder import needs_saved_position, save_position, saved_position
from cyborg_infra.live.execute.consumer.redeliveries import require_announced_if_made_anew
from cyborg_infra.live.execute.consumer.stop_by_filter import ensure_stoppable, stop_with_placeholder
from cyborg_infra.live.execute.consumer.stopping import speed_up
from cyborg_infra.live.execute.consumer.strategies import strategy_for
from cyborg_infra.model.consumer_position import (
    ConsumerPositions,
    Position,
    finished_up_to,
    fits_journal,
)
from cyborg_infra.model.fields import Config
from cyborg_infra.model.ref import PLACEHOLDER_PREFIX, Ref
from cyborg_infra.model.resources import LiveResource, Resource

CONSUMERS_IN_FLIGHT = 32
SERVER_CONSUMER_PREFIXES = ("JS_MIRROR_", "JS_SRC_")  # consumers by which the server itself reads (2.14+)


async def read_manual_pauses(server: JetStream, stream: Ref) -> ConsumerPositions:
    """Return which consumers somebody has paused, and until when; where they stand is another question."""
    found = await _consumers(server, stream)
    return ConsumerPositions(
        paused_until={old.ref.consumer: until for old in found if (until := manually_paused_until(old))}
    )


async def restore_manual_pauses(server: JetStream, stream: Ref, paused: Mapping[str, str]) -> None:
    """Pause again the consumers that somebody had paused, until the same moments."""
    alive = [old.ref for old in await _consumers(server, stream) if old.ref.consumer in paused]
    await _gather(pause(server, ref, paused[ref.consumer]) for ref in alive)


async def drain_consumers(
    server: JetStream,
    stream: Ref,
    readers: Mapping[str, Resource],
    options: ApplyOptions,
    *,
    stay_paused: bool,
    renumbered: bool,
    target: Config,
) -> ConsumerPositions:
    """Drain the consumers, and return their positions with the earlier messages that somebody works on. `stay_paused`: they wait until resumed.

    `readers` will stand in the stream with the configuration `target`, by the names of the old ones. `renumbered`: it gives
    other numbers.
    """

    async def position(old: LiveResource) -> Position:
        if old.ref.is_placeholder:
            return saved_position(old)
        desired = readers.get(old.ref.consumer)
        return await drain(
            strategy,
            server,
            old,
            desired,
            options,
            renumbered=renumbered,
            target=target,
            fits=fits_journal(found, options.version),
        )

    strategy = strategy_for(options.version)
    found = await _consumers(server, stream)
    positions = await _gather(position(old) for old in found)
    if stay_paused:
        held = await _gather(
            strategy.keep_still(server, old, stands) for old, stands in zip(found, positions, strict=True)
        )
        if not all(held):  # now they are paused for good: what they say this time holds
            options = replace(options, drain_timeout=0)
            found = await _consumers(server, stream)
            positions = await _gather(position(old) for old in found)
    noted: dict[str, Position] = {}
    for old, stands in zip(found, positions, strict=True):
        name = old.ref.consumer.removeprefix(PLACEHOLDER_PREFIX)
        noted[name] = max(stands, noted.get(name, stands), key=lambda found: found.next)
    return ConsumerPositions(noted, {old.ref.consumer: old.config for old in strategy.to_stop(found)})


async def ensure_consumers_stoppable(server: JetStream, stream: Ref, options: ApplyOptions) -> None:
    """Ensure that consumers which cannot be paused may be stopped; what they were is noted already. See `stop_by_filter.ensure_stoppable`."""
    await _gather(
        ensure_stoppable(server, old, options)
        for old in strategy_for(options.version).to_stop(await _consumers(server, stream))
    )


async def as_served(server: JetStream, stream: Ref, options: ApplyOptions) -> ConsumerPositions:
    """Return what the consumers are that have to be stopped; where they stand is another question."""
    return ConsumerPositions(
        configs={
            old.ref.consumer: old.config
            for old in strategy_for(options.version).to_stop(await _consumers(server, stream))
        }
    )


async def read_ack_floors(server: JetStream, stream: Ref) -> dict[str, int]:
    """Return the number behind what each consumer has finished, while it works."""
    found = await _consumers(server, stream)
    return {old.ref.consumer: finished_up_to(old) + 1 for old in found if not old.ref.is_placeholder}


async def stop_consumers(server: JetStream, stream: Ref, options: ApplyOptions) -> None:
    """Stop the consumers where they cannot be paused (before 2.11). Their configurations and positions are recorded already.

    Only of a stream with limits retention: see docs/decisions/0015.
    """
    await _gather(
        stop_with_placeholder(server, old, old, options)
        for old in strategy_for(options.version).to_stop(await _consumers(server, stream))
    )


async def resume_consumers(
    server: JetStream, stream: LiveResource, noted: ConsumerPositions, options: ApplyOptions
) -> None:
    """Resume the consumers where they stood. On a workqueue that is with what is stored.

    Before 2.11 one that was stopped is made anew, which hands out again what is open. Raises ServerFault, with that one
    stopped still, where that is more than was announced.
    """
    found = await _consumers(server, stream.ref)
    release = strategy_for(options.version).release
    await _gather(release(server, old.ref, noted.paused_until.get(old.ref.consumer, "")) for old in found)
    alive = {old.ref.consumer: old for old in found}

    async def put_back(was: Resource, position: int) -> None:
        old = alive.get(was.ref.consumer)
        if old is not None and old.is_stopped:
            await require_announced_if_made_anew(server, old, options)
        if old is None or old.is_stopped:
            position = max(position, finished_up_to(old) + 1 if old else 0)
            if stream.get("retention") != "workqueue" and needs_saved_position(was, position):
                await save_position(server, was, Position(position))
            await delete(server, was.ref)
        elif old.get("max_ack_pending") != was.get("max_ack_pending"):
            await speed_up(server, was)
        await create_at_saved_position(server, was, options)

    await _gather(
        put_back(Resource(Ref(stream.ref.stream, name), config), noted.positions.get(name, Position()).next)
        for name, config in noted.configs.items()
    )


async def create_placeholders(
    server: JetStream,
    new: Resource,
    readers: Mapping[str, Resource],
    noted: ConsumerPositions,
    *,
    last: int,
) -> None:
    """Create placeholders for the `readers` of a new stream at the old positions, where they would not begin there by themselves.

    Readers go by the names that the old consumers had; `last` is the number of the stream's last message. On a
    workqueue what is stored is the position, and only what is open, or a pause, has to be known.
    """
    retention = new.get("retention")

    def placed(reader: Resource, position: Position, paused: str) -> bool:
        if not 0 < position.next <= last + 1:  # beyond: a memory stream that a restart has emptied
            return False
        if position.unfinished or paused or retention == "interest":
            return True
        return retention != "workqueue" and needs_saved_position(reader, position.next)

    saved = [
        (reader, noted.positions.get(name, Position()), noted.paused_until.get(name, ""))
        for name, reader in readers.items()
    ]
    await _gather(save_position(server, *each) for each in saved if placed(*each))
    if retention == "interest":  # one that is new waits from the first message on, or the server deletes it
        new_ones = [reader for name, reader in readers.items() if name not in noted.positions]
        await _gather(ensure_exists(server, reader) for reader in new_ones)


async def _consumers(server: JetStream, stream: Ref) -> list[LiveResource]:
    found = await server.consumers(stream)
    return [consumer for consumer in found if not consumer.ref.consumer.startswith(SERVER_CONSUMER_PREFIXES)]


async def _gather(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """Return the results in order, a few at a time; every call has ended before the first fault is raised."""
    room = asyncio.Semaphore(CONSUMERS_IN_FLIGHT)

    async def one(call: Awaitable[Any]) -> Any:
        async with room:
            return await call

    results = await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
