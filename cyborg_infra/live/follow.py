"""A copy that catches up with its origin is waited for. Moves nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from cyborg_infra.live.faults import ApiError
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.parking import mark
from cyborg_infra.live.routes import Route, present, stream_counts
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.state import Ref, Resource, StreamCounts

NEARLY = 500  # messages that may still be missing when the origin is parked: they take a few milliseconds
POLL = 0.025  # seconds; a parked stream that has not grown for so long has taken in all that was under way
SLOW = 0.5  # seconds in which a copy stores what was under way
STALLED = 45.0  # seconds; a copy looks for its origin every 10, and waits 30 for an answer that was lost
ANEW = 3.0  # seconds after which another server of a cluster looks for the origin, which takes less than one


async def nearly(server: JetStream, origin: Ref, copy: Ref, route: Route) -> None:
    """The copy misses so little that the origin can be parked. Raises ServerFault if it stops growing."""
    watch = _Watch(server, route)
    while True:
        now = await _look(server, origin, copy, route)
        if now.has_most():
            return
        await watch.saw(now)
        await asyncio.sleep(POLL)


async def caught_up(server: JetStream, origin: Ref, copy: Ref, route: Route) -> None:
    """The copy has every message of the parked origin. Raises ServerFault if it stops growing before."""
    await _fence(server, origin)
    watch, last = _Watch(server, route), -1
    while True:
        now = await _look(server, origin, copy, route)
        still, last = last == now.held.last_seq, now.held.last_seq
        if still and now.has_as_many() and await route.is_end(server, now.origin, now.reached):
            return
        await watch.saw(now)
        await asyncio.sleep(POLL)


class _Look(NamedTuple):
    """An origin and its copy, a moment later; and the number in the origin of the copy's last message."""

    origin: Resource
    copy: Resource
    reached: int

    @property
    def held(self) -> StreamCounts:
        return stream_counts(self.origin)

    def has_as_many(self) -> bool:
        return self.held.messages <= stream_counts(self.copy).messages

    def has_most(self) -> bool:
        begun = self.reached > 0 and self.held.last_seq - self.reached <= NEARLY
        return begun or self.has_as_many()


async def _fence(server: JetStream, origin: Ref) -> None:
    """The origin stores nothing any more that it took in before it was parked, however slow its copies are.

    They are stored in order: once it has acknowledged one more message, it has all that came before. One that is full of
    bytes, where it must keep its max_bytes, may refuse it, and has taken in nothing either. In an interest stream a
    message that nobody waits for would leave nothing but a gap: the copy does, but not while it looks for its origin.
    """
    stream = await server.info(origin)
    if stream is None or stream.config.get("num_replicas", 1) == 1:
        return  # a message is stored as it comes
    if stream.config["retention"] == "interest":
        await asyncio.sleep(SLOW)
        return
    with contextlib.suppress(ApiError):
        await mark(server, origin)


async def _look(server: JetStream, origin: Ref, copy: Ref, route: Route) -> _Look:
    held = present(await server.info(origin))  # first: what the copy has later is no less
    got = present(await server.info(copy))
    return _Look(held, got, await route.reached(server, got))


class _Watch:
    """Urges a copy that has not grown for a while, and gives up after STALLED seconds.

    Who leads the copy in a cluster asks who leads the origin for a consumer. If that one has just died nobody answers,
    and the copy waits for 30 seconds (2.15.1: 4 of 70 deaths under load) while publishers are refused. A new leader
    asks anew.
    """

    def __init__(self, server: JetStream, route: Route) -> None:
        self._server, self._route = server, route
        self._seen, self._since, self._urged, self._led = -1, 0.0, False, 0.0

    async def saw(self, now: _Look) -> None:
        got, moment = stream_counts(now.copy).last_seq, asyncio.get_running_loop().time()
        if got != self._seen:
            self._seen, self._since, self._led = got, moment, moment
        elif moment - self._since > STALLED:
            raise ServerFault(
                Problem(
                    "copy-stalled",
                    f"{now.copy.ref} stopped at message {got:,}",
                    None,
                    "is there room for a second copy of the messages? apply again",
                )
            )
        elif moment - self._since >= self._route.patience and not self._urged:
            self._urged = True
            await self._route.urge(self._server, now.origin, now.copy)
        elif moment - self._led >= ANEW and self._server.clustered:
            self._led = moment
            await self._lead_anew(now.copy.ref)

    async def _lead_anew(self, copy: Ref) -> None:
        """Another server leads the copy, if there is one and we may ask for it."""
        verb, doing = f"STREAM.LEADER.STEPDOWN.{copy}", f"giving {copy} another leader"
        with contextlib.suppress(ServerFault):
            await self._server.call(verb, {}, doing=doing, timeout=ANEW)
