"""What looks wrong for a moment in a healthy account as well, and stays wrong: copies behind, consumers ahead. Writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice

from cyborg_infra.live import timing
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import (
    ConsumerCounts,
    Copy,
    DesiredState,
    LiveResource,
    LiveState,
    StreamCounts,
)

FEW = 64  # are looked at again; of what is on the same servers the others are taken to be alike


async def behind(server: JetStream, desired: DesiredState, live: LiveState) -> dict[Ref, tuple[Copy, ...]]:
    """Return the copies of what is desired that are not current and do not become so at once.

    After an election the new leader calls none of them current until it has heard of them.
    """
    found = {
        ref: resource.activity.behind
        for ref in desired.resources
        if (resource := live.resources.get(ref)) is not None and resource.activity.behind
    }
    down = {copy.server for copies in found.values() for copy in copies if copy.is_down}
    doubtful = [ref for ref, copies in found.items() if not {copy.server for copy in copies} <= down]
    stay = await _stay(server, islice(doubtful, FEW), lambda _, now: bool(now.activity.behind))
    if stay:
        stay |= set(doubtful[FEW:])
    certain = {
        ref: tuple(copy for copy in copies if ref in stay or copy.server in down)
        for ref, copies in found.items()
    }
    return {ref: copies for ref, copies in certain.items() if copies}


async def ahead(server: JetStream, desired: DesiredState, live: LiveState) -> dict[Ref, int]:
    """Return consumer -> its stream's last number, for consumers that have handed out more than the stream has ever held.

    The streams are read before their consumers: what came between is no loss.
    """
    reached: dict[Ref, dict[Ref, int]] = {}
    for wanted in desired.consumers():
        reader, stream = live.resources.get(wanted.ref), live.resources.get(Ref(wanted.ref.stream))
        if (
            reader is not None
            and stream is not None
            and isinstance(reader.counts, ConsumerCounts)
            and (number := reader.counts.delivered_stream_seq) > _last(stream)
        ):
            reached.setdefault(stream.ref, {})[reader.ref] = number
    last: dict[Ref, int] = {}

    def lacks(ref: Ref, now: LiveResource) -> bool:
        last[ref] = _last(now)
        return max(reached[ref].values()) > last[ref]

    lacking = await _stay(server, reached, lacks)
    return {
        reader: last[ref]
        for ref in lacking & last.keys()
        for reader, number in reached[ref].items()
        if number > last[ref]
    }


def _last(stream: LiveResource) -> int:
    return stream.counts.last_seq if isinstance(stream.counts, StreamCounts) else 0


async def _stay(
    server: JetStream, refs: Iterable[Ref], wrong: Callable[[Ref, LiveResource], bool]
) -> set[Ref]:
    """Return the resources for which `wrong` holds at every further look, or that cannot be looked at."""
    left = set(refs)

    async def is_wrong(ref: Ref) -> bool:
        try:
            now = await server.info(ref)
        except ServerFault:
            return True
        return now is not None and wrong(ref, now)

    for pause in timing.CONSISTENCY_BACKOFF_SECONDS:
        if left:
            await asyncio.sleep(pause)
            order = list(left)
            found = await asyncio.gather(*map(is_wrong, order))
            left = {ref for ref, is_so in zip(order, found, strict=True) if is_so}
    return left
