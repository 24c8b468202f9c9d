"""Replace a stream without loss: its messages move into a temporary stream, and from there into the new one.

The temporary stream T is a copy of S that is opened: it becomes a stream that takes messages in by itself. So is
the new S a copy of T. How streams are copied is the route (`live.routes`): a mirror, and before 2.12 sources.
Nothing is kept on the machine that applies: what has to be remembered is in T's metadata (`journal.Journal`), and
what is to be done next follows from the two living streams alone.

| stage     | S                        | T                         | next                                         |
|-----------|--------------------------|---------------------------|----------------------------------------------|
| WHOLE     | as it was                | does not exist            | create T as a copy of S                      |
| COPYING   | as it was                | copy of S                 | drain the consumers, note them, park S       |
| PARKED    | parked: takes nothing in | copy of S                 | T has all: open T, with the subjects of S    |
| COPIED    | parked                   | takes in what S did       | delete S                                     |
| GONE      | does not exist           | takes in what S did       | create S, new, as a copy of T                |
| RETURNING | copy of T                | takes messages in, parked | S has nearly all: park T; all: open S        |
| RETURNED  | takes messages in        | parked                    | place the consumers, complete S, delete T    |

A stream with a new name needs no temporary one: the old stream is T, and the move begins at GONE.

Up to PARKED S has everything, and a fault undoes the move. From COPIED on T has, and the next apply goes on; an
apply that finds S in COPYING or PARKED goes on as well, unless S may stay: then it undoes it. Of a rename, T has
everything up to RETURNING, and a fault undoes it. Publishers are refused, and know it, only between a park and the
opening that follows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cyborg_infra.live import ids, routes, standing
from cyborg_infra.live.carry import Manner
from cyborg_infra.live.faults import ApiError
from cyborg_infra.live.follow import caught_up, nearly
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.journal import INGEST, LIMITS, Journal, Stage, has_begun, runs_ahead, stage
from cyborg_infra.live.parking import parked, unmark
from cyborg_infra.live.routes import Route, is_empty, present, stream_counts
from cyborg_infra.live.standing import Standing
from cyborg_infra.live.write import create_empty, delete, update_stream, write
from cyborg_infra.model.canonical import sendable
from cyborg_infra.model.fields import PAUSE_SINCE, Config
from cyborg_infra.model.problems import PlanStale, Problem, ServerFault
from cyborg_infra.model.state import APPLIED, KIND, OWNER, Ref, Resource, copy_size, temporary

STORED = (
    "num_replicas",
    "placement",
    "compression",
    "duplicate_window",
    "allow_direct",
    "allow_msg_ttl",
)
"""What says how a stream keeps messages, without any limit: a copy has to have all."""

FIXED = ("storage", "max_consumers", "persist_mode", "retention")
"""What the new stream has to have from its creation on."""

ENABLED_FOR_EVER = ("allow_msg_ttl", "deny_delete", "deny_purge")
"""What no update takes back."""


async def replace(
    server: JetStream,
    via: Ref,
    desired: Resource,
    readers: Mapping[str, Resource],
    manner: Manner,
    *,
    must: bool,
) -> None:
    """The stream is as desired and has every message; `readers` have placeholders where the old ones stood; T is gone.

    T is `via`: a temporary stream, or the one whose name changes. `readers` go by the names of the old consumers.
    If the stream need not be replaced any more (`must` is false), a move that has only begun is undone instead.
    Raises ServerFault; then all is as it was, or the next apply goes on.
    """
    move = _Move(server, via, desired, readers, manner, must=must)
    try:
        await server.patiently(move.run)  # it begins by looking at what there is
    except ServerFault:
        with contextlib.suppress(ServerFault):  # the next apply finds the same, and goes on
            await move.undo()
        raise


@dataclass(frozen=True, slots=True)
class _Move:
    """One stream's move: every method looks at the server, or takes what was just seen there."""

    server: JetStream
    via: Ref
    desired: Resource
    readers: Mapping[str, Resource]
    manner: Manner
    must: bool

    @property
    def ref(self) -> Ref:
        return self.desired.ref

    @property
    def renames(self) -> bool:
        """T is the old stream under its old name."""
        return self.via != temporary(self.ref)

    async def run(self) -> None:
        """From wherever the server is to the end. Started again after the end, it does nothing."""
        stream, copy = await self._look()
        if stream is not None and copy is not None and (spoilt := self._spoilt(stream, copy)):
            await self._delete(spoilt)
            stream, copy = await self._look()
        if copy is not None and not has_begun(copy):
            await self._begin_rename(copy)
            stream, copy = await self._look()
        elif copy is None and stream is not None and stream.canonical() != self.desired.canonical():
            await self._begin(stream)
            stream, copy = await self._look()
        while copy is not None:
            await self._step(stream, copy)
            stream, copy = await self._look()

    def _spoilt(self, stream: Resource, copy: Resource) -> Ref | None:
        """The copy that an interrupted run began, if it may hold what its origin, which still has everything, does not.

        That is what workers have acknowledged since, where the copy could not wait until nobody worked any more.
        """
        reached = stage(stream, copy)
        if reached is Stage.RETURNING:
            return None if Journal.of(copy).by.begins_with(copy, stream) else self.ref
        if reached is Stage.COPYING and self.must and not self.renames:
            journal = Journal.of(copy)
            outdated = journal.consumed and not journal.by.can_wait
            return self.via if outdated or not journal.by.begins_with(stream, copy) else None
        return None

    async def undo(self) -> None:
        """The old stream takes messages in and its consumers are served, as before, if it still has everything."""
        stream, copy = await self._look()
        reached = stage(stream, copy)
        if runs_ahead(stream, copy):
            return
        if self.renames and copy is not None and reached in (Stage.GONE, Stage.RETURNING):
            if stream is not None:
                await self._delete(self.ref)
            await self._put_back(copy, Journal.of(copy))
        elif stream is not None and reached in (Stage.WHOLE, Stage.COPYING, Stage.PARKED):
            await self._put_back(stream, Journal.of(copy) if copy else None)
            await self._delete(self.via)

    async def _put_back(self, stream: Resource, journal: Journal | None) -> None:
        if journal is not None and stream.is_parked:
            with contextlib.suppress(ApiError):  # deny_purge: then a mark stays
                await unmark(self.server, stream.ref)
            await self._update(stream.ref, {**stream.config, **journal.open}, "putting it back")
        noted = journal.standing if journal is not None else None
        await standing.served(self.server, stream, noted, self.manner.version)
        if journal is not None and journal.labels:  # the journal itself: last
            config = {**stream.config, **journal.open, "metadata": journal.labels}
            await self._update(stream.ref, config, "putting it back")

    async def _look(self) -> tuple[Resource | None, Resource | None]:
        stream, copy = await asyncio.gather(self.server.info(self.ref), self.server.info(self.via))
        return stream, copy

    async def _step(self, stream: Resource | None, copy: Resource) -> None:
        reached = stage(stream, copy)
        if stream is None and reached is Stage.PARKED:
            await self._open(copy)  # somebody deleted S: T is what there is
        elif stream is None:
            await self._return(copy)
        elif not self.must and reached in (Stage.COPYING, Stage.PARKED) and not runs_ahead(stream, copy):
            await self.undo()
            await self._update(self.ref, self.desired.config, "updating it")
        else:
            await self._next[reached](stream, copy)

    @property
    def _next(self) -> Mapping[Stage, Callable[[Resource, Resource], Awaitable[None]]]:
        return {
            Stage.COPYING: self._leave,
            Stage.PARKED: self._promote,
            Stage.COPIED: self._forget,
            Stage.RETURNING: self._arrive,
            Stage.RETURNED: self._complete,
        }

    async def _begin_rename(self, copy: Resource) -> None:
        """The old stream is T, and remembers what it was."""
        if await self.server.info(self.ref) is not None:
            raise PlanStale(Problem("stale", f"{self.ref} was created since the plan was made"))
        journal = Journal.started(copy, self._route, labels=copy.metadata)
        config = {**copy.config, "metadata": journal.metadata(self.desired)}
        await self._update(self.via, config, "noting what it was")

    async def _begin(self, stream: Resource, stopped: Mapping[str, Config] | None = None) -> None:
        """T is a copy of S. What is acknowledged away while it is copied would come again: there, work ends first.

        That is before T is created, or at least before it copies, where it can wait.
        """
        journal = Journal.started(stream, self._route).noting(Standing({}, stopped or {}))
        waits = journal.consumed and journal.by.can_wait
        if journal.consumed and not waits:
            journal = journal.noting(await self._drained(self.ref, parked=False))
        config = {name: stream.config[name] for name in STORED if name in stream.config}
        config |= {"metadata": journal.metadata(self.desired), **journal.by.declared(self.ref, waiting=waits)}
        await self._create(
            self.via,
            config | self._limit(stream),
            # What is acknowledged meanwhile is missing anywhere in S, not at its beginning alone.
            is_empty if journal.consumed else partial(journal.by.begins_with, stream),
        )

    async def _leave(self, stream: Resource, copy: Resource) -> None:
        """The consumers of S wait and are noted, and S takes nothing in; T is so near that this lasts milliseconds."""
        noted = Journal.of(copy)
        if not noted.consumed:
            await nearly(self.server, self.ref, self.via, noted.by)
            await self._stand_still(stream, noted)
        elif routes.is_waiting(copy):
            await self._stand_still(stream, noted)
            config = {**await self._config(), **noted.by.declared(self.ref)}
            await self._update(self.via, config, "beginning to copy")
        elif (
            noted.noting(await self._drained(self.ref, parked=True)) != noted and not self.manner.repeats_work
        ):
            await self._delete(self.via)  # it has what was acknowledged since: once more
            await self._begin(stream, noted.consumers)
            return
        if noted.consumed:
            await nearly(self.server, self.ref, self.via, noted.by)
        await self._park(stream)

    async def _stand_still(self, stream: Resource, journal: Journal) -> Journal:
        """Nobody is served, and T's journal says where everybody stands."""
        journal = await self._note(journal.noting(await self._drained(stream.ref, parked=True)))
        if self.manner.version < PAUSE_SINCE:
            await standing.stopped(self.server, stream.ref)
            journal = await self._note(journal.noting(await self._drained(stream.ref, parked=True)))
        return journal

    async def _note(self, journal: Journal) -> Journal:
        config = {**await self._config(), "metadata": journal.metadata(self.desired)}
        await self._update(self.via, config, "noting its consumers")
        return journal

    async def _config(self) -> Config:
        """T as it is now: it may have been urged since it was looked at."""
        return routes.present(await self.server.info(self.via)).config

    async def _promote(self, stream: Resource, copy: Resource) -> None:
        """T has all that S has, and takes in what S did."""
        await caught_up(self.server, stream.ref, copy.ref, Journal.of(copy).by)
        await self._open(copy)

    async def _forget(self, stream: Resource, copy: Resource) -> None:
        """T is all there is. It is written once more before: promoted on a full disk, it is a mirror there (2.15.1)."""
        await self._update(copy.ref, copy.config, "making sure of it")
        await self._delete(stream.ref)

    async def _open(self, copy: Resource) -> None:
        """T takes in what S did."""
        rest = {name: value for name, value in routes.opened(copy.config).items() if name not in INGEST}
        await self._take_in(copy, rest, Journal.of(copy).ingest)

    async def _take_in(self, copy: Resource, rest: Config, ingest: Config) -> None:
        """The copy takes messages in, and knows the ids of those that T has, where that can be."""
        unknown = ids.are_unknown(copy, ingest)
        admitted = ids.with_room(copy.ref, ingest) if unknown else ingest
        await self._update(copy.ref, {**rest, **admitted}, "opening it")
        if unknown:
            try:
                await ids.tell(self.server, copy.ref, self.via, ingest)
            except ServerFault as fault:  # all that follows is the same
                why = fault.problems[0].message
                self.manner.waits(f"{self.ref}: a message that is sent again may be stored twice: {why}")

    async def _return(self, copy: Resource) -> None:
        """S is a copy of T, as desired in all that cannot be changed later; T has left out what is worked."""
        journal = Journal.of(copy)
        if copy.is_parked:
            await self._open(copy)
            return
        if self.renames:
            journal = await self._stand_still(copy, journal)
        if self.desired.config["retention"] == "workqueue" != journal.retention and journal.positions:
            first = await self._in_copy(journal, min(journal.positions.values()))
            if first > 1:  # with 1 it is a purge of everything (measured 2.10.26 and 2.12.8, not 2.15.1)
                await self._leave_out(first)
                copy = present(await self.server.info(self.via))
        metadata = {OWNER: self.desired.owner, KIND: self.desired.metadata.get(KIND, "")}
        config = {**self._creation(journal.by), "metadata": metadata, **journal.by.declared(self.via)}
        await self._create(self.ref, config | self._limit(copy), partial(journal.by.begins_with, copy))

    async def _arrive(self, stream: Resource, copy: Resource) -> None:
        """S takes messages in, still without limits. An S that the manifest no longer wants is begun anew."""
        route = Journal.of(copy).by
        if not self._fits(stream, route):
            await self._delete(self.ref)
            return
        if not copy.is_parked:
            await nearly(self.server, self.via, self.ref, route)
            await self._park(copy)
            return
        await caught_up(self.server, self.via, self.ref, route)
        ingest = {name: self.desired.config[name] for name in INGEST if name in self.desired.config}
        await self._take_in(stream, routes.opened(stream.config), ingest)

    async def _complete(self, stream: Resource, copy: Resource) -> None:
        """Consumers have their placeholders before S gets its limits and forgets what nobody waits for."""
        journal = Journal.of(copy)
        if not self._fits(stream, journal.by):
            raise ServerFault(
                Problem(
                    "changed-meanwhile",
                    f"{self.ref}: the manifest has changed since its replace was interrupted",
                    None,
                    "apply the manifest as it was then, and this one after that",
                )
            )
        if APPLIED not in stream.metadata:
            await unmark(self.server, self.ref)
            last, positions = routes.stream_counts(stream).last_seq, await self._numbers(journal)
            await standing.placed(self.server, self.desired, self.readers, positions, last=last)
        await self._update(self.ref, self.desired.config, "completing it")
        await self._delete(self.via)

    async def _numbers(self, journal: Journal) -> dict[str, int]:
        """Where the consumers shall stand in the new S: two hops from where they stood in the old one, or one."""
        standing_at, places = journal.standing.positions, {}
        for position in set(standing_at.values()):
            between = await self._in_copy(journal, position)
            places[position] = await journal.by.number(self.server, self.ref, self.via, between)
        return {name: places[position] for name, position in standing_at.items()}

    async def _in_copy(self, journal: Journal, position: int) -> int:
        """Where a consumer of the old stream would stand in T."""
        if self.renames:
            return position
        return await journal.by.number(self.server, self.via, self.ref, position)

    async def _drained(self, stream: Ref, *, parked: bool) -> Standing:
        return await standing.drained(self.server, stream, self.manner, parked=parked)

    @property
    def _route(self) -> Route:
        return routes.route_of(self.manner.version)

    async def _park(self, stream: Resource) -> None:
        """It takes nothing in but marks, which are beside its limits: else one would take the place of the oldest message."""
        unlimited = {name: -1 for name in LIMITS if name != "max_bytes" or not self.manner.sized}
        await self._update(stream.ref, {**parked(stream), **unlimited}, "parking it")

    def _creation(self, route: Route) -> dict[str, Any]:
        names = (*STORED, *FIXED, *route.creation)
        config = {name: self.desired.config[name] for name in names if name in self.desired.config}
        return config | ({"retention": "limits"} if config["retention"] == "interest" else {})

    def _limit(self, origin: Resource) -> dict[str, Any]:
        """Where the account asks for it, a copy has a limit, beyond what it is going to hold. Full all the same, it forgets nothing: it stops."""
        if not self.manner.sized:
            return {}
        known = origin.config.get("max_bytes", -1) if origin.ref == temporary(self.ref) else -1
        return {"max_bytes": known if known > 0 else copy_size(origin, self.desired), "discard": "new"}

    def _fits(self, stream: Resource, route: Route) -> bool:
        """Whether S, as it was created, can become what the manifest wants now."""
        held, wanted = stream.canonical(), Resource(self.ref, self._creation(route)).canonical()
        if any(held.get(name) and not self.desired.config.get(name) for name in ENABLED_FOR_EVER):
            return False
        return all(
            held.get(name) == wanted.get(name)
            for name in (*FIXED, *route.creation)
            if name != "retention" or "workqueue" in (held.get(name), wanted.get(name))
        )

    async def _leave_out(self, first: int) -> None:
        """T has no message before `first`."""

        async def holds() -> bool:
            return stream_counts(present(await self.server.info(self.via))).first_seq >= first

        verb, doing = f"STREAM.PURGE.{self.via}", f"leaving out what is worked in {self.ref}"
        await write(self.server, verb, {"seq": first}, doing=doing, holds=holds)

    async def _create(self, ref: Ref, config: Config, has_begun_empty: Callable[[Resource], bool]) -> None:
        body = {"storage": "file", "retention": "limits", "allow_rollup_hdrs": True, **config}
        body |= {"name": ref.stream}
        wanted = Resource(ref, sendable(body))
        await create_empty(self.server, wanted, f"moving {self.ref}: creating {ref}", has_begun_empty)

    async def _update(self, ref: Ref, config: Config, what: str) -> None:
        await update_stream(self.server, Resource(ref, sendable(config)), f"moving {self.ref}: {what}")

    async def _delete(self, ref: Ref) -> None:
        await delete(self.server, ref, f"moving {self.ref}: deleting {ref}")
