"""The two routes by which a stream is copied: how a copy is declared, followed and opened. Moves nothing itself.

|                      | MIRROR, since 2.12              | SOURCES, before                                        |
|----------------------|---------------------------------|--------------------------------------------------------|
| keeps                | numbers, gaps, times, ids       | order, ids; a header says where each message came from |
| is complete          | when its last number is         | when the origin has nothing behind its last message    |
| does not come nearer | the end was deleted: mark it    | an id came twice, further apart than is remembered     |
| can wait             | no: what it copies is immutable | yes: with a filter that nothing matches                |
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from cyborg_infra.live.faults import ApiError
from cyborg_infra.live.jetstream import NO_MESSAGE, JetStream
from cyborg_infra.live.parking import mark
from cyborg_infra.live.write import update_stream
from cyborg_infra.model.canonical import sendable
from cyborg_infra.model.fields import PROMOTE_SINCE, Config, Version
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.state import Ref, Resource, StreamCounts, parking
from cyborg_infra.model.units import age

COPIES = ("mirror", "mirror_direct", "sources")
"""What makes a stream a copy: without it, it takes messages in by itself."""

SOURCE = "Nats-Stream-Source:"  # `origin number filter transform`, of the last hop alone (measured 2.10.26, 2.11.11)
SHORTEST_WINDOW = 100_000_000  # nanoseconds; the server has no shorter memory of message ids


def is_copy(stream: Resource) -> bool:
    """Whether it still takes its messages from another stream."""
    return any(stream.config.get(name) for name in COPIES)


def is_empty(copy: Resource) -> bool:
    """Whether it has never held anything."""
    return not stream_counts(copy).last_seq


def opened(config: Config) -> dict[str, Any]:
    """The configuration of a copy without what makes it one."""
    return {name: value for name, value in config.items() if name not in COPIES}


class Route(ABC):
    """How streams are copied on one line of servers."""

    name: str
    can_wait: bool  # whether a copy can exist before it copies
    creation: tuple[str, ...]  # what else a new stream has to have from its creation on
    patience: float  # seconds without growth after which `urge` is of use

    @abstractmethod
    def declared(self, origin: Ref, *, waiting: bool = False) -> dict[str, Any]:
        """What makes a stream a copy of `origin`; a `waiting` one copies nothing yet."""

    @abstractmethod
    def begins_with(self, origin: Resource, copy: Resource) -> bool:
        """Whether the copy holds nothing but copies: it may have begun with the files of an earlier stream, see `write`.

        No if that cannot be told any more: `origin`, as it was before or is now, begins with something else.
        """

    @abstractmethod
    async def reached(self, server: JetStream, copy: Resource) -> int:
        """The number that the copy's last message has in the origin; 0 if there is none."""

    @abstractmethod
    async def is_end(self, server: JetStream, origin: Resource, reached: int) -> bool:
        """Whether the origin, which takes nothing in, has nothing behind this message."""

    @abstractmethod
    async def urge(self, server: JetStream, origin: Resource, copy: Resource) -> None:
        """What may hold the copy up no longer does."""

    @abstractmethod
    async def number(self, server: JetStream, copy: Ref, origin: Ref, position: int) -> int:
        """Where in `copy` begins what `origin` had from `position` on."""


class _Mirror(Route):
    name = "mirror"
    can_wait = False
    creation = ()
    patience = 0.0

    def declared(self, origin: Ref, *, waiting: bool = False) -> dict[str, Any]:
        if waiting:
            raise ValueError("a mirror cannot wait")
        return {"mirror": {"name": origin.stream}}

    def begins_with(self, origin: Resource, copy: Resource) -> bool:
        theirs, ours = stream_counts(origin), stream_counts(copy)
        return is_empty(copy) or (ours.first_seq, ours.first_ts) == (theirs.first_seq, theirs.first_ts)

    async def reached(self, _server: JetStream, copy: Resource) -> int:
        return stream_counts(copy).last_seq

    async def is_end(self, _server: JetStream, origin: Resource, reached: int) -> bool:
        """Beyond it is a mirror that was promoted before, on a full disk; a restart has taken that back (2.15.1)."""
        return stream_counts(origin).last_seq <= reached

    async def urge(self, server: JetStream, origin: Resource, _copy: Resource) -> None:
        """It does not learn of a deleted message at the end, and would give its number to another one."""
        if origin.is_parked:
            await mark(server, origin.ref)

    async def number(self, _server: JetStream, _copy: Ref, _origin: Ref, position: int) -> int:
        return position


class _Sources(Route):
    name = "sources"
    can_wait = True
    creation = ("first_seq",)
    patience = 12.0  # after a restart it looks for its origin every 10

    def declared(self, origin: Ref, *, waiting: bool = False) -> dict[str, Any]:
        nothing = {"filter_subject": parking(origin)} if waiting else {}
        return {"sources": [{"name": origin.stream, **nothing}]}

    def begins_with(self, _origin: Resource, copy: Resource) -> bool:
        """What it has copied is as old as the copying."""
        return not age(stream_counts(copy).first_ts, copy.created)

    async def reached(self, server: JetStream, copy: Resource) -> int:
        counts = stream_counts(copy)
        for number in range(counts.last_seq, max(1, counts.first_seq) - 1, -1):
            found = await _message(server, copy.ref, {"seq": number})
            if found and found.source_seq:  # a time to live may have taken the last; others were not copied
                return found.source_seq
        return 0

    async def is_end(self, server: JetStream, origin: Resource, reached: int) -> bool:
        return await _from(server, origin.ref, reached + 1) is None

    async def urge(self, server: JetStream, _origin: Resource, copy: Resource) -> None:
        """It refuses an id that it remembers, and asks for it again and again (measured 2.10.26, 2.11.11).

        An id that the origin has twice came again after the origin had forgotten it; so must the copy.
        """
        config = {**copy.config, "duplicate_window": SHORTEST_WINDOW}
        await update_stream(server, Resource(copy.ref, sendable(config)), f"copying into {copy.ref}")

    async def number(self, server: JetStream, copy: Ref, origin: Ref, position: int) -> int:
        counts = stream_counts(present(await server.info(copy)))
        low, high = max(1, counts.first_seq), counts.last_seq + 1
        while low < high:
            middle = (low + high) // 2
            found = await _from(server, copy, middle)
            if found and found.source == origin.stream and found.source_seq < position:
                low = found.seq + 1
            else:
                high = middle
        return low


MIRROR: Route = _Mirror()
SOURCES: Route = _Sources()
ROUTES: Mapping[str, Route] = {route.name: route for route in (MIRROR, SOURCES)}


def route_of(version: Version) -> Route:
    """The exact route, where the server has it."""
    return MIRROR if version >= PROMOTE_SINCE else SOURCES


def is_waiting(copy: Resource) -> bool:
    """Whether it was declared to copy nothing yet."""
    return any(source.get("filter_subject") for source in copy.config.get("sources") or ())


def present(stream: Resource | None) -> Resource:
    """A stream that has to be there. Raises ServerFault if it is gone."""
    if stream is None:
        raise ServerFault(Problem("gone", "the stream was deleted while it was replaced", None, "plan again"))
    return stream


def stream_counts(stream: Resource) -> StreamCounts:
    """What a living stream holds."""
    return stream.counts if isinstance(stream.counts, StreamCounts) else StreamCounts()


class _Message(NamedTuple):
    seq: int
    source: str  # the stream that it was copied from, or empty
    source_seq: int


async def _from(server: JetStream, stream: Ref, seq: int) -> _Message | None:
    """The first message with this number or a later one."""
    return await _message(server, stream, {"seq": seq, "next_by_subj": ">"})


async def _message(server: JetStream, stream: Ref, which: Mapping[str, Any]) -> _Message | None:
    try:
        answer = await server.call(f"STREAM.MSG.GET.{stream}", which, doing=f"reading a message of {stream}")
    except ApiError as error:
        if error.err_code != NO_MESSAGE:
            raise
        return None
    headers = base64.b64decode(answer["message"].get("hdrs", "")).decode(errors="replace").splitlines()
    source = next(
        (line.removeprefix(SOURCE).split() for line in headers if line.startswith(SOURCE)), ["", "0"]
    )
    return _Message(answer["message"]["seq"], source[0], int(source[1]))
