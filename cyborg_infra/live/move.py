"""Replace a stream without loss: its messages move into a temporary stream, and from there into the new one.

The temporary stream T is a mirror that is promoted, and so is the new S: sequence numbers, gaps, timestamps and
headers are kept. Nothing is kept on the machine that applies: what has to be remembered is in T's metadata
(`journal.Journal`), and what is to be done next follows from the two living streams alone. Needs 2.12.

| stage     | S                        | T                         | next                                         |
|-----------|--------------------------|---------------------------|----------------------------------------------|
| WHOLE     | as it was                | does not exist            | create T as a mirror of S                    |
| COPYING   | as it was                | mirror of S               | drain the consumers, note them, park S       |
| PARKED    | parked: takes nothing in | mirror of S               | T has all: promote T, with the subjects of S |
| COPIED    | parked                   | takes in what S did       | delete S                                     |
| GONE      | does not exist           | takes in what S did       | create S, new, as a mirror of T              |
| RETURNING | mirror of T              | takes messages in, parked | S has nearly all: park T; all: promote S     |
| RETURNED  | takes messages in        | parked                    | place the consumers, complete S, delete T    |

A stream with a new name needs no temporary one: the old stream is T, and the move begins at GONE.

Up to PARKED S has everything, and a fault undoes the move. From COPIED on T has, and the next apply goes on; an
apply that finds S in COPYING or PARKED goes on as well, unless S may stay: then it undoes it. Of a rename, T has
everything up to RETURNING, and a fault undoes it. Publishers are refused, and know it, only between a park and the promotion that follows. Before 2.12 it refuses to be used.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any

from cyborg_infra.live import carry
from cyborg_infra.live.carry import PARKED, Manner
from cyborg_infra.live.faults import ApiError
from cyborg_infra.live.follow import caught_up, is_parked, nearly, parked, stream_counts, unmark
from cyborg_infra.live.jetstream import STREAM_NOT_FOUND, JetStream
from cyborg_infra.live.journal import INGEST, Journal, Stage, has_begun, runs_ahead, stage
from cyborg_infra.model.fields import Config, sendable
from cyborg_infra.model.problems import PlanStale, Problem, ServerFault
from cyborg_infra.model.state import (
    APPLIED,
    KIND,
    OWNER,
    PLACEHOLDER,
    Ref,
    Resource,
    temporary,
)

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

WRITES_IN_FLIGHT = 32
SERVERS_OWN = ("JS_MIRROR_", "JS_SRC_")  # consumers by which the server itself reads (2.14+)


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
        if stream is not None and copy is not None and self._is_outdated(stream, copy):
            await self._delete(self.via)
            copy = None
        if copy is not None and not has_begun(copy):
            await self._begin_rename(copy)
            stream, copy = await self._look()
        elif copy is None and stream is not None and stream.canonical() != self.desired.canonical():
            await self._begin(stream)
            stream, copy = await self._look()
        while copy is not None:
            await self._step(stream, copy)
            stream, copy = await self._look()

    def _is_outdated(self, stream: Resource, copy: Resource) -> bool:
        """Whether an earlier run was interrupted while it copied: what workers have acknowledged since is in T for ever."""
        copying = self.must and not self.renames and stage(stream, copy) is Stage.COPYING
        return copying and Journal.of(copy).retention != "limits"

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
        if journal is not None and is_parked(stream):
            with contextlib.suppress(ApiError):  # deny_purge: then a mark stays
                await unmark(self.server, stream.ref)
        if journal is not None and (is_parked(stream) or journal.labels):
            labels = {"metadata": journal.labels} if journal.labels else {}
            await self._update(stream.ref, {**stream.config, **journal.ingest, **labels}, "putting it back")
        await _all(carry.resume(self.server, found.ref) for found in await self._consumers(stream.ref))

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
        journal = Journal.started(copy, labels=copy.metadata)
        config = {**copy.config, "metadata": journal.metadata(self.desired)}
        await self._update(self.via, config, "noting what it was")

    async def _begin(self, stream: Resource) -> None:
        """T is a mirror of S. What is acknowledged away while it is copied would come again: there, work ends first."""
        consumed = stream.config.get("retention") != "limits"
        positions = await self._drained(self.ref, parked=False) if consumed else {}
        journal = with_(Journal.started(stream), positions=positions)
        config = {name: stream.config[name] for name in STORED if name in stream.config}
        await self._create(self.via, self.ref, config | {"metadata": journal.metadata(self.desired)})

    async def _leave(self, stream: Resource, copy: Resource) -> None:
        """The consumers of S wait and are noted, and S takes nothing in; T is so near that this lasts milliseconds."""
        noted = Journal.of(copy)
        if noted.retention == "limits":
            await nearly(self.server, self.ref, self.via)
        positions = await self._drained(self.ref, parked=True)
        if noted.retention == "limits":
            await self._note(copy, positions)
        elif positions != noted.positions and not self.manner.repeats_work:
            await self._delete(self.via)  # it has what was acknowledged since: once more
            await self._begin(stream)
            return
        else:
            await nearly(self.server, self.ref, self.via)
        await self._park(stream)

    async def _note(self, copy: Resource, positions: Mapping[str, int]) -> None:
        journal = with_(Journal.of(copy), positions=positions)
        config = {**copy.config, "metadata": journal.metadata(self.desired)}
        await self._update(self.via, config, "noting its consumers")

    async def _promote(self, stream: Resource, copy: Resource) -> None:
        """T has all that S has, and takes in what S did."""
        await caught_up(self.server, stream.ref, copy.ref)
        await self._open(copy)

    async def _forget(self, stream: Resource, _copy: Resource) -> None:
        await self._delete(stream.ref)

    async def _open(self, copy: Resource) -> None:
        """T takes in what S did."""
        config = {
            name: value for name, value in copy.config.items() if name not in ("mirror", "mirror_direct")
        }
        rest = {name: value for name, value in config.items() if name not in INGEST}
        await self._update(self.via, {**rest, **Journal.of(copy).ingest}, "opening it")

    async def _return(self, copy: Resource) -> None:
        """S is a mirror of T, as desired in all that cannot be changed later; T has left out what is worked."""
        journal = Journal.of(copy)
        if is_parked(copy):
            await self._open(copy)
            return
        if journal.positions is None:
            await self._note(copy, await self._drained(self.via, parked=True))
            return
        if self.desired.config["retention"] == "workqueue" != journal.retention and journal.positions:
            first = min(journal.positions.values())
            await self.server.call(
                f"STREAM.PURGE.{self.via}",
                {"seq": first},
                doing=f"leaving out what is worked in {self.ref}",
            )
        metadata = {OWNER: self.desired.owner, KIND: self.desired.metadata.get(KIND, "")}
        await self._create(self.ref, self.via, {**self._creation(), "metadata": metadata})

    async def _arrive(self, stream: Resource, copy: Resource) -> None:
        """S takes messages in, still without limits. An S that the manifest no longer wants is begun anew."""
        if not self._fits(stream):
            await self._delete(self.ref)
            return
        if not is_parked(copy):
            await nearly(self.server, self.via, self.ref)
            await self._park(copy)
            return
        await caught_up(self.server, self.via, self.ref)
        config = {
            name: value for name, value in stream.config.items() if name not in ("mirror", "mirror_direct")
        }
        ingest = {name: self.desired.config[name] for name in INGEST if name in self.desired.config}
        await self._update(self.ref, {**config, **ingest}, "opening it")

    async def _complete(self, stream: Resource, copy: Resource) -> None:
        """Consumers have their placeholders before S gets its limits and forgets what nobody waits for."""
        if not self._fits(stream):
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
            await self._place(stream, Journal.of(copy).positions or {})
        await self._update(self.ref, self.desired.config, "completing it")
        await self._delete(self.via)

    async def _place(self, stream: Resource, positions: Mapping[str, int]) -> None:
        if self.desired.config["retention"] == "workqueue":
            return  # what is stored is the position
        last = stream_counts(stream).last_seq
        interest = self.desired.config["retention"] == "interest"
        standing = [
            (reader, position)
            for name, reader in self.readers.items()
            if (position := positions.get(name, 0))
            and position <= last + 1  # beyond: a memory stream that a restart has emptied
            and (interest or carry.matters(reader, position))
        ]
        await _all(carry.keep(self.server, reader, position) for reader, position in standing)
        if (
            interest
        ):  # a consumer that is new waits from the first message on: without it the server deletes them
            new = [reader for name, reader in self.readers.items() if name not in positions]
            await _all(carry.begin(self.server, reader) for reader in new)

    async def _drained(self, stream: Ref, *, parked: bool) -> dict[str, int]:
        """The next message of every consumer, with nobody working on an earlier one. `parked`: they wait until resumed."""
        found = await self._consumers(stream)
        until = PARKED if parked else None
        positions = await _all(carry.settled(self.server, old, self.manner, until) for old in found)
        noted: dict[str, int] = {}
        for old, position in zip(found, positions, strict=True):
            name = old.ref.consumer.removeprefix(PLACEHOLDER)
            noted[name] = max(position, noted.get(name, 0))
        return noted

    async def _consumers(self, stream: Ref) -> list[Resource]:
        found = await self.server.consumers(stream)
        return [consumer for consumer in found if not consumer.ref.consumer.startswith(SERVERS_OWN)]

    async def _park(self, stream: Resource) -> None:
        await self._update(stream.ref, parked(stream), "parking it")

    def _creation(self) -> dict[str, Any]:
        config = {
            name: self.desired.config[name] for name in (*STORED, *FIXED) if name in self.desired.config
        }
        return config | ({"retention": "limits"} if config["retention"] == "interest" else {})

    def _fits(self, stream: Resource) -> bool:
        """Whether S, as it was created, can become what the manifest wants now."""
        held, wanted = stream.canonical(), Resource(self.ref, self._creation()).canonical()
        if any(held.get(name) and not self.desired.config.get(name) for name in ENABLED_FOR_EVER):
            return False
        return all(
            held.get(name) == wanted.get(name)
            for name in FIXED
            if name != "retention" or "workqueue" in (held.get(name), wanted.get(name))
        )

    async def _create(self, ref: Ref, origin: Ref, config: Config) -> None:
        body = {"storage": "file", "retention": "limits", "allow_rollup_hdrs": True, **config}
        body |= {"name": ref.stream, "mirror": {"name": origin.stream}}
        await self.server.call(
            f"STREAM.CREATE.{ref}", sendable(body), doing=f"moving {self.ref}: creating {ref}"
        )

    async def _update(self, ref: Ref, config: Config, what: str) -> None:
        await self.server.call(f"STREAM.UPDATE.{ref}", sendable(config), doing=f"moving {self.ref}: {what}")

    async def _delete(self, ref: Ref) -> None:
        try:
            await self.server.call(f"STREAM.DELETE.{ref}", None, doing=f"moving {self.ref}: deleting {ref}")
        except ApiError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise


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
