"""A mirror that catches up with its origin, and the parking of the origin for it. Moves nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from cyborg_infra.live.faults import ApiError
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.state import Ref, Resource, StreamCounts

NEARLY = 500  # messages that may still be missing when the origin is parked: they take a few milliseconds
POLL = 0.025  # seconds; a parked stream that has not grown for so long has taken in all that was under way
SLOW = 0.5  # seconds in which a copy stores what was under way
STALLED = 30.0  # seconds; after a restart a mirror looks for its origin every 10


async def nearly(server: JetStream, origin: Ref, copy: Ref) -> None:
    """The copy misses so little that the origin can be parked. Raises ServerFault if it stops growing."""
    watch = _Watch(copy)
    while True:
        held, got = await _both(server, origin, copy)
        begun = got.last_seq > 0 and held.last_seq - got.last_seq <= NEARLY
        if begun or held.messages <= got.messages:
            return
        watch.saw(got)
        await asyncio.sleep(POLL)


async def caught_up(server: JetStream, origin: Ref, copy: Ref) -> None:
    """The copy has every message of the parked origin, and its last sequence number or a later one.

    Later it is where the copy has been promoted before, on a full disk, and a restart has taken that back (2.15.1).

    A mirror does not learn of a deleted message at the end, and would give its number to another one: where it does
    not come any nearer, one more message, on the parking subject, goes ahead of it. Raises ServerFault if the copy
    stops growing all the same.
    """
    await _fence(server, origin)
    watch, held, got, marked = _Watch(copy), StreamCounts(), StreamCounts(), False
    while True:
        before, (held, got) = (held, got), await _both(server, origin, copy)
        still = before[0].last_seq == held.last_seq
        if still and held.last_seq <= got.last_seq and held.messages <= got.messages:
            return
        if still and before[1].last_seq == got.last_seq != held.last_seq and not marked:
            await server.publish(_parking(origin), {}, {}, doing=f"marking the end of {origin}")
            marked = True
        watch.saw(got)
        await asyncio.sleep(POLL)


async def _fence(server: JetStream, origin: Ref) -> None:
    """The origin stores nothing any more that it took in before it was parked, however slow its copies are.

    They are stored in order: once it has acknowledged one more message, it has all that came before. A stream that is
    full takes nothing in, and in an interest stream a message that nobody waits for would leave nothing but a gap.
    """
    stream = await server.info(origin)
    if stream is None or stream.config.get("num_replicas", 1) == 1:
        return  # a message is stored as it comes
    if stream.config["retention"] == "interest":
        await asyncio.sleep(SLOW)
        return
    with contextlib.suppress(ApiError):
        await server.publish(_parking(origin), {}, {}, doing=f"marking the end of {origin}")


def parked(stream: Resource) -> dict[str, Any]:
    """Its configuration with a subject that nobody uses: publishers are refused, and know it."""
    rest = {
        name: value
        for name, value in stream.config.items()
        if name not in ("subject_transform", "republish")  # what marks an end is for nobody
    }
    return {**rest, "subjects": [_parking(stream.ref)], "no_ack": False}


def is_parked(stream: Resource) -> bool:
    """Whether it takes in nothing that anybody publishes."""
    return list(stream.config.get("subjects") or ()) == [_parking(stream.ref)]


async def unmark(server: JetStream, stream: Ref) -> None:
    """The stream has none of the messages that `caught_up` puts at an end."""
    await server.call(f"STREAM.PURGE.{stream}", {"filter": "_parked.*"}, doing=f"tidying {stream}")


def stream_counts(stream: Resource | None) -> StreamCounts:
    """What a stream that has to be there holds. Raises ServerFault if it is gone."""
    if stream is None or not isinstance(stream.counts, StreamCounts):
        raise ServerFault(Problem("gone", "the stream was deleted while it was replaced", None, "plan again"))
    return stream.counts


async def _both(server: JetStream, origin: Ref, copy: Ref) -> tuple[StreamCounts, StreamCounts]:
    held = stream_counts(await server.info(origin))  # first: what the copy has later is no less
    return held, stream_counts(await server.info(copy))


class _Watch:
    """Raises ServerFault once a copy has not grown for STALLED seconds."""

    def __init__(self, copy: Ref) -> None:
        self._copy, self._seen, self._since = copy, -1, 0.0

    def saw(self, counts: StreamCounts) -> None:
        now = asyncio.get_running_loop().time()
        if counts.last_seq != self._seen:
            self._seen, self._since = counts.last_seq, now
        elif now - self._since > STALLED:
            raise ServerFault(
                Problem(
                    "copy-stalled",
                    f"{self._copy} stopped at message {self._seen:,}",
                    None,
                    "is there room for a second copy of the messages? apply again",
                )
            )


def _parking(ref: Ref) -> str:
    return f"_parked.{ref}"
