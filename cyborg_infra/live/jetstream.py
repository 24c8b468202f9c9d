"""One account's JetStream over its JSON API: read all of it, make one change true. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from cyborg_infra.live.again import Outage, Result, may_pass
from cyborg_infra.live.connect import Connection, connect
from cyborg_infra.live.faults import (
    CONSUMER_NOT_FOUND,
    STREAM_NOT_FOUND,
    ApiError,
    ConnectionLost,
    NoLeader,
    NotStored,
    Retry,
    Unanswered,
    raise_for_error,
)
from cyborg_infra.live.listing import ChangedMeanwhile, every_row
from cyborg_infra.live.rows import limits, resource
from cyborg_infra.live.target import Target
from cyborg_infra.model.fields import LEVELS, Version, level_of
from cyborg_infra.model.problems import Problem, ServerFault, SnapshotIncomplete
from cyborg_infra.model.state import Facts, Ref, Resource, State

if TYPE_CHECKING:
    from cyborg_infra.model.dead_letter import Headers

READS_IN_FLIGHT = 128  # measured: the server drops its whole queue at 10,000; beyond 128 nothing is gained
CLUSTER_TIMEOUT = 10.0  # seconds; an election takes 4 to 9, and LIST waits 4 for what does not answer
READINGS = 3  # a listing that changed while it was read is read again

NO_META_LEADER = 10008
NO_MESSAGE = 10037


class JetStream:
    """The JetStream of one account, through one connection."""

    def __init__(self, connection: Connection, target: Target) -> None:
        self._connection = connection
        self._target = target
        self._timeout = max(target.timeout, CLUSTER_TIMEOUT) if connection.cluster else target.timeout
        self._outage = Outage()

    @property
    def clustered(self) -> bool:
        """Whether the server is one of a cluster: others may take its place, and what it accepts holds a little later."""
        return bool(self._connection.cluster)

    async def call(
        self,
        verb: str,
        body: Mapping[str, Any] | None = None,
        *,
        doing: str,
        timeout: float | None = None,  # noqa: ASYNC109 - part of the request, and named in its error
        longer: float = 0.0,
    ) -> dict[str, Any]:
        """The API's answer to one request. Raises ApiError for an error in it, and whatever `Connection.request` raises.

        It may take `timeout` seconds, or those of most requests and `longer`.
        """
        seconds = timeout or self._timeout + longer
        return await self._ask(f"{self._target.api_prefix}.{verb}", body, {}, doing, seconds)

    async def insist(self, verb: str, body: Mapping[str, Any] | None = None, *, doing: str) -> dict[str, Any]:
        """As `call`, for what may be done twice, as reading may: asked again where a cluster needs time to elect.

        Raises NoLeader for an answer on a stream or consumer that has none: it may be old.
        """

        async def ask() -> dict[str, Any]:
            answer = await self.call(verb, body, doing=doing)
            if _leaderless(answer):
                raise NoLeader(doing)
            return answer

        return await self._outage.outlast(ask, self._worth_asking_again)

    async def patiently(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """What `attempt` returns, tried again where a cluster needs time to elect: it begins by reading what holds."""
        return await self._outage.outlast(attempt, self._worth_writing_again)

    def _worth_writing_again(self, fault: ServerFault) -> bool:
        """A single server that is gone has nobody to take its place."""
        return may_pass(fault) and (self.clustered or not isinstance(fault, ConnectionLost))

    def _worth_asking_again(self, fault: ServerFault) -> bool:
        """A single server that does not answer will not do so at the next request either."""
        return (
            fault.retry is Retry.RETRY if isinstance(fault, ApiError) else self.clustered and may_pass(fault)
        )

    async def publish(
        self, subject: str, body: Mapping[str, Any], headers: Mapping[str, str], *, doing: str
    ) -> dict[str, Any]:
        """The stream's acknowledgement of one stored message. Raises as `call` does."""
        return await self._ask(subject, body, headers, doing)

    async def store(
        self, subject: str, data: bytes, headers: Headers, *, doing: str, stream: str
    ) -> dict[str, Any]:
        """The acknowledgement of a message that this stream, and no other, has stored. Raises as `call` does, and NotStored."""
        told = (*headers, ("Nats-Expected-Stream", stream))
        # A dict has each name once; nats-py strips names, so that spaces tell them apart until then.
        unique = {f"{name}{' ' * number}": value for number, (name, value) in enumerate(told)}
        reply = await self._connection.request(subject, data, headers=unique, timeout=self._timeout)
        answer = self._understood(reply, doing)
        if not answer.get("seq"):
            raise NotStored(doing)
        return answer

    async def _ask(
        self,
        subject: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        doing: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `call`
    ) -> dict[str, Any]:
        payload = orjson.dumps(body) if body is not None else b""
        try:
            reply = await self._connection.request(
                subject, payload, headers=headers, timeout=timeout or self._timeout
            )
        except Unanswered:
            self._outage.begun()
            raise
        return self._understood(reply, doing)

    def _understood(self, reply: bytes, doing: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = orjson.loads(reply)
        except ValueError:
            raise ServerFault(
                Problem(
                    "no-api",
                    f"{doing}: the answer is no JSON",
                    None,
                    "something else listens on this subject: check --js-api-prefix",
                )
            ) from None
        if answer.get("error", {}).get("err_code") == NO_META_LEADER:
            self._outage.begun()
        elif not _leaderless(answer):
            self._outage.ended()
        raise_for_error(answer, doing)
        return answer

    async def facts(self) -> Facts:
        """What the server and the account are. Raises NoResponders or ApiError 10039 where there is no JetStream."""
        info, account = await asyncio.gather(
            self.insist("INFO", doing="reading the account"), self._connection.account()
        )
        level = info.get("api", {}).get("level", 0)
        return Facts(
            version=_effective(self._connection.server_version, level),
            level=level,
            server=self._connection.server_name,
            url=self._connection.url,
            account=account,
            cluster=self._connection.cluster,
            domain=info.get("domain", self._target.domain),
            peers=self._connection.peers,
            context=self._target.context,
            source=self._target.source,
            limits=limits(info),
            max_payload=self._connection.max_payload,
        )

    async def snapshot(self, owner: str, names: Collection[str]) -> State:
        """Every stream of the account, and the consumers of those that are in `names` or marked as `owner`'s.

        Complete, or not at all: raises SnapshotIncomplete for a stream or consumer that could not be read.
        """
        live, unread = await self._steady(owner, names, patient=True)
        if unread:
            raise SnapshotIncomplete(*unread.values())
        return live

    async def glance(self, owner: str, names: Collection[str]) -> tuple[State, Mapping[Ref, Problem]]:
        """The same as far as it can be read at once, and why not for the rest: a stream without a leader, for example.

        Good for looking; never plan from it.
        """
        return await self._steady(owner, names, patient=False)

    async def _steady(
        self, owner: str, names: Collection[str], *, patient: bool
    ) -> tuple[State, Mapping[Ref, Problem]]:
        facts = await self.facts()
        for _ in range(READINGS):
            try:
                unread: dict[Ref, Problem] = {}
                return await self._listing(facts, owner, frozenset(names), unread, patient=patient), unread
            except ChangedMeanwhile:
                continue
        raise SnapshotIncomplete(
            Problem(
                "unstable",
                "the account keeps changing while it is read",
                None,
                "try again when nobody else creates or deletes streams and consumers",
            )
        )

    async def info(self, ref: Ref) -> Resource | None:
        """One stream or consumer as it is now, or None if there is none."""
        try:
            row = await self.insist(_info(ref), doing=f"reading {ref}")
        except ApiError as error:
            if error.err_code in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
                return None
            raise
        return resource(ref, row)

    async def consumers(self, stream: Ref) -> list[Resource]:
        """The consumers of one stream as they are now. Raises ServerFault if the stream is gone."""
        info = await self.insist(f"STREAM.INFO.{stream}", doing=f"reading {stream}")
        try:
            found, missing = await self._consumers(stream.stream, info)
        except ChangedMeanwhile:
            raise ServerFault(
                Problem(
                    "unstable", f"the consumers of {stream} change while they are read", None, "try again"
                )
            ) from None
        if missing:
            raise SnapshotIncomplete(*missing.values())
        return list(found.values())

    async def members(
        self,
        ref: Ref,
        *,
        timeout: float,  # noqa: ASYNC109 - as in `call`
    ) -> Mapping[str, Any] | None:
        """INFO's `cluster`: which servers lead and hold copies; None on a single server. Asks once, and raises as `call` does."""
        row = await self.call(_info(ref), doing=f"reading {ref}", timeout=timeout)
        found: Mapping[str, Any] | None = row.get("cluster")
        return found

    async def _listing(
        self,
        facts: Facts,
        owner: str,
        names: frozenset[str],
        unread: dict[Ref, Problem],
        *,
        patient: bool,
    ) -> State:
        one = self._stream_row if patient else _unanswered
        streams, missing = await every_row(self.insist, "STREAM.LIST", "streams", "listing the streams", one)
        unread |= {Ref(name): problem for name, problem in missing.items()}
        found = {Ref(name): resource(Ref(name), row) for name, row in streams.items()}
        ours = [ref.stream for ref, stream in found.items() if ref.stream in names or stream.owner == owner]
        # The longest listings first: they take longest, and the short ones fit in between.
        ours.sort(key=lambda name: _readers(streams[name]), reverse=True)
        left = (name for name in ours if _readers(streams[name]))

        async def some() -> None:
            for name in left:
                consumers, absent = await self._consumers(name, streams[name], patient=patient)
                found.update(consumers)
                unread.update(absent)

        # So many that each reads one after the other, instead of one for each that waits for its turn.
        readers = [asyncio.ensure_future(some()) for _ in range(min(len(ours), READS_IN_FLIGHT))]
        try:
            await asyncio.gather(*readers)
        finally:
            for reader in readers:
                reader.cancel()  # of a listing that cannot be completed nobody reads the rest
        return State(found, facts._replace(peers=_peers(facts.peers, streams)))

    async def _consumers(
        self, stream: str, row: Mapping[str, Any], *, patient: bool = True
    ) -> tuple[dict[Ref, Resource], dict[Ref, Problem]]:
        """The consumers of one stream, and why one could not be read. In a cluster a stream that is gone lists as empty, without an error."""

        async def read(name: str) -> dict[str, Any]:
            return await self.insist(f"CONSUMER.INFO.{stream}.{name}", doing=f"reading {stream}/{name}")

        try:
            rows, missing = await every_row(
                self.insist,
                f"CONSUMER.LIST.{stream}",
                "consumers",
                f"listing the consumers of {stream}",
                read if patient else _unanswered,
            )
        except ApiError as error:
            if error.err_code == STREAM_NOT_FOUND:
                raise ChangedMeanwhile from None
            raise
        if not rows and not missing and _readers(row):
            raise ChangedMeanwhile
        # At once, while what was read is at hand: of all consumers together it would be half of the memory.
        return (
            {(ref := Ref(stream, name)): resource(ref, row) for name, row in rows.items()},
            {Ref(stream, name): problem for name, problem in missing.items()},
        )

    async def _stream_row(self, name: str) -> dict[str, Any]:
        return await self.insist(f"STREAM.INFO.{name}", doing=f"reading {name}")


@contextlib.asynccontextmanager
async def opened(target: Target) -> AsyncIterator[JetStream]:
    """The account behind the target, closed after the block. Raises ConnectFailed."""
    async with connect(target) as connection:
        yield JetStream(connection, target)


async def _unanswered(_name: str) -> dict[str, Any]:
    """No second look: the listing has waited for it already."""
    raise ServerFault(Problem("no-leader", "its leader did not answer in time", None))


def _info(ref: Ref) -> str:
    return f"CONSUMER.INFO.{ref.stream}.{ref.consumer}" if ref.consumer else f"STREAM.INFO.{ref.stream}"


def _leaderless(answer: Mapping[str, Any]) -> bool:
    """Whether this is about a stream or consumer that has no leader: what it says may be old (measured 2.15.1)."""
    members = answer.get("cluster")
    return members is not None and not members.get("leader")


def _peers(told: int, streams: Mapping[str, Mapping[str, Any]]) -> int:
    """At least so many servers can hold a replica; 0 is unknown. Clients are told of those that are up, and a stream proves its own."""
    return max(told, *(row["config"]["num_replicas"] for row in streams.values()), 1) if told else 0


def _readers(row: Mapping[str, Any]) -> int:
    count: int = row["state"].get("consumer_count", 0)
    return count


def _effective(connected: str, level: int) -> Version:
    """The version whose rules hold: the connected server's, unless the API leader answers for another one.

    In a cluster of mixed versions, or through a leaf node, the leader's level decides; then it is the oldest
    version of that level.
    """
    version = Version.parse(connected)
    return version if level_of(version) == level or level not in LEVELS else LEVELS[level]
