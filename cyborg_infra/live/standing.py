"""The consumers of a stream that is replaced: they stand still, are noted, and get their placeholders in the new one.

Since 2.11 they stand still because they are paused. Before, they are stopped by a filter that nothing matches; what
they were is noted as well, since only a new consumer goes on where a stopped one stood. Work under way that does not
end in time, and may come again, comes again; the plan counts that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, NamedTuple

from cyborg_infra.live import carry
from cyborg_infra.live.carry import PARKED, Manner
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.write import delete
from cyborg_infra.model.fields import PAUSE_SINCE, Config, Version
from cyborg_infra.model.state import PLACEHOLDER, Ref, Resource

WRITES_IN_FLIGHT = 32
SERVERS_OWN = ("JS_MIRROR_", "JS_SRC_")  # consumers by which the server itself reads (2.14+)


class Standing(NamedTuple):
    """The next message of every consumer by its name; and its configuration, where it has to be stopped."""

    positions: Mapping[str, int]
    consumers: Mapping[str, Config]


async def drained(server: JetStream, stream: Ref, manner: Manner, *, parked: bool) -> Standing:
    """Where the consumers stand, with nobody working on an earlier message. `parked`: they wait until resumed."""
    found = await _consumers(server, stream)
    until = PARKED if parked else None
    positions = await _all(carry.settled(server, old, manner, until) for old in found)
    noted: dict[str, int] = {}
    for old, position in zip(found, positions, strict=True):
        name = old.ref.consumer.removeprefix(PLACEHOLDER)
        noted[name] = max(position, noted.get(name, 0))
    stopping = _to_stop(found) if manner.version < PAUSE_SINCE else []
    return Standing(noted, {old.ref.consumer: old.config for old in stopping})


async def stopped(server: JetStream, stream: Ref) -> None:
    """Where consumers cannot be paused: nobody is served. Their configurations and positions are noted already.

    Only of a stream with limits retention: see docs/decisions/0015.
    """
    await _all(carry.stop(server, old, old) for old in _to_stop(await _consumers(server, stream)))


async def served(server: JetStream, stream: Resource, noted: Standing | None, version: Version) -> None:
    """The consumers are served again, and go on where they stood. On a workqueue that is with what is stored."""
    found = await _consumers(server, stream.ref)
    if version >= PAUSE_SINCE:
        await _all(carry.resume(server, old.ref) for old in found)
    alive = {old.ref.consumer: old for old in found}

    async def put_back(was: Resource, position: int) -> None:
        old = alive.get(was.ref.consumer)
        if old is None or old.is_stopped:
            position = max(position, carry.floor(old) + 1 if old else 0)
            if stream.config["retention"] != "workqueue" and carry.matters(was, position):
                await carry.keep(server, was, position)
            await delete(server, was.ref)
        await carry.finish(server, was, version)

    if noted is not None:
        await _all(
            put_back(Resource(Ref(stream.ref.stream, name), config), noted.positions.get(name, 0))
            for name, config in noted.consumers.items()
        )


async def placed(
    server: JetStream,
    new: Resource,
    readers: Mapping[str, Resource],
    positions: Mapping[str, int],
    *,
    last: int,
) -> None:
    """The `readers` of a new stream have placeholders at their `positions`, where they would not begin by themselves.

    Readers go by the names that the old consumers had; `last` is the number of the stream's last message.
    """
    if new.config["retention"] == "workqueue":
        return  # what is stored is the position
    interest = new.config["retention"] == "interest"
    standing = [
        (reader, position)
        for name, reader in readers.items()
        if (position := positions.get(name, 0))
        and position <= last + 1  # beyond: a memory stream that a restart has emptied
        and (interest or carry.matters(reader, position))
    ]
    await _all(carry.keep(server, reader, position) for reader, position in standing)
    if interest:  # a consumer that is new waits from the first message on: without it the server deletes them
        await _all(carry.begin(server, reader) for name, reader in readers.items() if name not in positions)


async def _consumers(server: JetStream, stream: Ref) -> list[Resource]:
    found = await server.consumers(stream)
    return [consumer for consumer in found if not consumer.ref.consumer.startswith(SERVERS_OWN)]


def _to_stop(consumers: Iterable[Resource]) -> list[Resource]:
    return [found for found in consumers if not found.ref.is_placeholder and not found.is_stopped]


async def _all(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """The results in order, a few at a time; every call has ended before the first fault is raised."""
    room = asyncio.Semaphore(WRITES_IN_FLIGHT)

    async def one(call: Awaitable[Any]) -> Any:
        async with room:
            return await call

    results = await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
