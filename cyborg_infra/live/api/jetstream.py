"""Client for one account's JetStream JSON API: read a snapshot of the account, send one request, publish."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from cyborg_infra.live import timing
from cyborg_infra.live.api import cluster_name, unreachable
from cyborg_infra.live.api.decode import decode_limits, decode_resource
from cyborg_infra.live.api.errors import (
    ApiError,
    NoHolder,
    NoLeader,
    NotReached,
    NotStored,
    Retry,
    raise_for_error,
)
from cyborg_infra.live.api.paging import (
    MAX_ROWS_IN_ALL,
    ConcurrentModification,
    MissingRow,
    Rows,
    TooMany,
    read_all_rows,
)
from cyborg_infra.live.api.retry import (
    Result,
    RetryPolicy,
    is_transient,
)
from cyborg_infra.live.connection.errors import ConnectionLost, NoReply, NoResponders, Unanswered
from cyborg_infra.live.connection.reconnecting import ReconnectingConnection, open_connection
from cyborg_infra.live.connection.replies import (
    BadAnswer,
    ServerIdentity,
    decode_acknowledgement,
    decode_answer,
)
from cyborg_infra.live.connection.target import DEFAULT_PREFIX, Target
from cyborg_infra.live.interception import API_REQUESTS, JOINT_REQUESTS, ApiRequest
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.permissions import Permissions
from cyborg_infra.model.problems import Problem, ServerFault, SnapshotIncomplete
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, LiveState, Resource, State
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import LEVELS, Version, level_of

if TYPE_CHECKING:
    from cyborg_infra.live.connection.nats_client import OnMessage
    from cyborg_infra.model.stored_messages import Headers

READS_IN_FLIGHT = 128  # measured: the server drops its whole queue at 10,000; beyond 128 nothing is gained
AT_ONCE = 2_000  # messages that are handed to the connection in one piece
MAX_SNAPSHOT_ATTEMPTS = 3  # a listing that changed while it was read is read again


READ_VERBS = (
    "INFO",
    "STREAM.INFO.",
    "STREAM.LIST",
    "STREAM.NAMES",
    "STREAM.MSG.GET.",
    "CONSUMER.INFO.",
    "CONSUMER.LIST.",
    "CONSUMER.NAMES.",
)
"""How requests begin that change nothing. Every other one is a write."""


class JetStream:
    """The JetStream of one account, through one connection."""

    def __init__(
        self,
        connection: ReconnectingConnection,
        target: Target,
        before_write: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._connection = connection
        self._target = target
        self._clustered = bool(connection.cluster)
        self._answered = False
        self._outage = RetryPolicy()
        self._before_write = before_write

    def with_write_check(self, before_write: Callable[[], Awaitable[None]]) -> JetStream:
        """Return this JetStream with `before_write` called right before each request that may change something. What that raises, the request raises."""
        return JetStream(self._connection, self._target, before_write)

    @property
    def is_clustered(self) -> bool:
        """Whether a cluster answers, as far as is known. In a cluster others can take a server's place, and a write takes effect a little after its answer."""
        return self._clustered

    @property
    def is_remote(self) -> bool:
        """Whether JetStream is reached by a domain or an API prefix: it may be another server's, or another account's."""
        return self.api_prefix != DEFAULT_PREFIX

    @property
    def is_lost(self) -> bool:
        """Whether the connection was lost; as `ReconnectingConnection.is_lost`."""
        return self._connection.is_lost

    @property
    def api_prefix(self) -> str:
        """The prefix of the subjects of all API requests."""
        return self._target.api_prefix

    async def permissions(self) -> Permissions | None:
        """Return what this user may do; None where the server does not say."""
        return await self._connection.permissions()

    async def hold_interest(self, subject: str) -> None:
        """Hold a subscription to the subject as long as the connection is open; as `ReconnectingConnection.hold_interest`."""
        await self._connection.hold_interest(subject)

    async def has_interest(self, subject: str) -> bool | None:
        """Return whether somebody listens on the subject; as `ReconnectingConnection.has_interest`."""
        return await self._connection.has_interest(subject)

    @property
    def _timeout(self) -> float:
        return (
            max(self._target.timeout, timing.CLUSTER_TIMEOUT_SECONDS)
            if self._clustered
            else self._target.timeout
        )

    def request(
        self,
        verb: str,
        body: Mapping[str, Any] | None = None,
        *,
        doing: str,
        timeout: float | None = None,
        longer: float = 0.0,
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """Return the API's answer to one request. Raises ApiError for an error in it, and whatever `ReconnectingConnection.request` raises.

        It may take `timeout` seconds, or those of most requests and `longer`.
        """
        seconds = timeout or self._timeout + longer

        async def send(request: ApiRequest) -> dict[str, Any]:
            subject, writes = f"{self.api_prefix}.{request.verb}", not request.verb.startswith(READ_VERBS)
            reply = await self._ask(subject, request.body, {}, seconds, writes=writes)
            return self._decode_reply(decode_answer(request.verb, reply, doing), doing)

        return API_REQUESTS.send(ApiRequest(verb, body), send)

    async def write_together(
        self, requests: Sequence[tuple[str, Mapping[str, Any]]], *, doing: str, longer: float = 0.0
    ) -> list[dict[str, Any] | ServerFault]:
        """Send the requests in one write, in order, without waiting in between; return what each is answered, or what `request` raises for it.

        Nothing of ours comes between them, not even our end. A server begins them in this order, and may carry them out at once.
        """

        async def send(joint: Sequence[ApiRequest]) -> list[dict[str, Any] | ServerFault]:
            sent = [(f"{self.api_prefix}.{verb}", orjson.dumps(body)) for verb, body in joint]
            await self._check_before_write()
            replies = await self._connection.request_together(sent, timeout=self._timeout + longer)
            answers: list[dict[str, Any] | ServerFault] = []
            for (verb, _), reply in zip(joint, replies, strict=True):
                try:
                    if isinstance(reply, ServerFault):
                        raise reply
                    answers.append(self._decode_reply(decode_answer(verb, reply, doing), doing))
                except ServerFault as fault:
                    answers.append(fault)
            return answers

        return await JOINT_REQUESTS.send([ApiRequest(verb, body) for verb, body in requests], send)

    async def request_with_retry(
        self, verb: str, body: Mapping[str, Any] | None = None, *, doing: str
    ) -> dict[str, Any]:
        """Send an idempotent request, and retry it while a cluster has no leader.

        Raises NoLeader for an answer on a stream or consumer that has none: it may be old.
        """
        lists = ".LIST" in verb  # takes as long as the slowest of all
        patience = timing.ELECTION_TIMEOUT_SECONDS if lists else timing.RESOURCE_ELECTION_SECONDS

        async def ask() -> dict[str, Any]:
            left = self._timeout if lists else max(1.0, self._outage.seconds_left(patience))
            answer = await self.request(verb, body, doing=doing, timeout=min(self._timeout, left))
            if _has_no_leader(answer):
                raise NoLeader(doing)
            return answer

        try:
            return await self._outage.run(ask, self._is_read_retryable, patience)
        except NoReply as fault:
            if self.is_clustered and (held := _subject_of_request(verb)):
                raise NoHolder(fault, held) from None
            raise

    async def retry(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Run `attempt`, and again where a cluster needs time to elect: it begins by reading what holds."""
        return await self._outage.run(attempt, self._is_write_retryable, timing.ELECTION_TIMEOUT_SECONDS)

    def _is_write_retryable(self, fault: ServerFault) -> bool:
        """Return whether a write is tried again: after a fault that may pass, but not once a single server is gone."""
        return is_transient(fault) and (self.is_clustered or not isinstance(fault, ConnectionLost))

    def _is_read_retryable(self, fault: ServerFault) -> bool:
        """Return whether a read is tried again: in a cluster after a fault that may pass, but not where JetStream has never answered."""
        if isinstance(fault, ApiError):
            return fault.retry is Retry.AFTER_REREAD
        nowhere = isinstance(fault, NoResponders) and not self._answered
        return self.is_clustered and is_transient(fault) and not nowhere

    async def publish(
        self, subject: str, body: Mapping[str, Any] | None, headers: Mapping[str, str], *, doing: str
    ) -> dict[str, Any]:
        """Return the stream's acknowledgement of one stored message. Raises as `request` does, and NotReached."""

        async def send(way: str) -> bytes:
            return await self._ask(way, body, headers, self._timeout, writes=True)

        return self._decode_reply(decode_acknowledgement(await self._reaching(subject, send), doing), doing)

    async def acknowledge(self, subjects: Sequence[str], payload: bytes) -> None:
        """Acknowledge many deliveries with the same payload, in order, and wait for the reply to the last one.

        Raises what `ReconnectingConnection.request` raises.
        """
        await self._check_before_write()
        for start in range(0, len(subjects) - 1, AT_ONCE):
            await self._connection.send_all(
                subjects[start : min(start + AT_ONCE, len(subjects) - 1)], payload
            )
        await self._connection.request(subjects[-1], payload, timeout=self._timeout)

    async def subscribe(self, subject: str, heard: OnMessage) -> Callable[[], Awaitable[None]]:
        """Call `heard` for all that arrives on the subject, until the returned function is. Raises ConnectionLost."""
        return await self._connection.subscribe(subject, heard)

    @property
    def current_connection(self) -> object:
        """The connection that requests go by at the moment: another one does not listen to what this one did."""
        return self._connection.current_connection

    def may_subscribe(self, subject: str) -> bool:
        """Return whether no reply so far has said that this user may not listen to the subject."""
        return self._connection.may_subscribe(subject)

    def inbox(self) -> str:
        """Return a subject of our own that nobody else uses."""
        return self._connection.inbox()

    async def send(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send without waiting; an answer goes to `reply`. Raises ConnectionLost."""
        await self._check_before_write()
        await self._connection.send(subject, payload, reply)

    async def pull(self, consumer: Ref, body: Mapping[str, Any], inbox: str) -> None:
        """Send a pull request to the consumer; messages arrive at `inbox`. Raises ConnectionLost."""

        async def send(request: ApiRequest) -> dict[str, Any]:
            await self._check_before_write()
            subject = f"{self._target.api_prefix}.{request.verb}"
            await self._connection.send(subject, orjson.dumps(request.body), inbox)
            return {}

        verb = f"CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.consumer}"
        await API_REQUESTS.send(ApiRequest(verb, body), send)

    async def require_pull_permission(self, consumer: Ref) -> None:
        """Raise PermissionDenied if this user may not. The request is no JSON, and only refused (400; 2.11.11 to 2.15.1)."""
        verb = f"CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.consumer}"
        await self._connection.request(f"{self._target.api_prefix}.{verb}", b"{", timeout=self._timeout)

    @property
    def timeout(self) -> float:
        """Seconds that a request may take."""
        return self._timeout

    async def publish_to(
        self, subject: str, data: bytes, headers: Headers, *, doing: str, stream: str
    ) -> dict[str, Any]:
        """Return the acknowledgement of a message that this stream, and no other, has stored. Raises as `publish` does, and NotStored."""
        told = (*headers, ("Nats-Expected-Stream", stream))
        # A dict has each name once; names are stripped when they are sent, so that spaces tell them apart until then.
        unique = {f"{name}{' ' * number}": value for number, (name, value) in enumerate(told)}

        async def send(way: str) -> bytes:
            return await self._send(way, data, unique, self._timeout, writes=True)

        answer = self._decode_reply(decode_acknowledgement(await self._reaching(subject, send), doing), doing)
        if not answer["seq"]:
            raise NotStored(doing)
        if answer["stream"] != stream:
            raise BadAnswer(doing, f"the stream {answer['stream']}", f"what was sent to {stream}")
        return answer

    async def _reaching(self, subject: str, send: Callable[[str], Awaitable[Result]]) -> Result:
        """Return what `send` returns for the subject, or for what stands for it in a domain.

        A bucket of a domain is reached as nats.go does it: servers with different domains do not pass on `$KV` itself.
        A stream that is new may not be heard of everywhere, so what leads nowhere is tried again for a moment.
        """
        in_domain = self._target.domain and subject.startswith("$KV.")
        way = f"{self.api_prefix}.{subject}" if in_domain else subject
        for pause in (*timing.UNKNOWN_STREAM_BACKOFF_SECONDS, None):
            try:
                return await send(way)
            except NoResponders:
                if not self.is_remote:
                    raise
            if pause is not None:
                await asyncio.sleep(pause)
        raise NotReached(subject, self.api_prefix)

    async def _ask(
        self,
        subject: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        timeout: float,  # noqa: ASYNC109 - as in `request`
        *,
        writes: bool,
    ) -> bytes:
        payload = orjson.dumps(body) if body is not None else b""
        try:
            return await self._send(subject, payload, headers, timeout, writes=writes)
        except Unanswered as fault:
            self._outage.record_failure(timeout if isinstance(fault, NoReply) else 0.0)
            raise

    async def _send(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str],
        timeout: float,  # noqa: ASYNC109 - as in `request`
        *,
        writes: bool,
    ) -> bytes:
        """Send a request, and return the reply. Nothing comes between `before_write` and a request that may change something."""
        if fenced := writes and self._before_write is not None:
            await self._check_before_write()
        return await self._connection.request(
            subject, payload, headers=headers, timeout=timeout, at_once=fenced
        )

    async def _check_before_write(self) -> None:
        """Call `before_write`: what comes next may change something."""
        if self._before_write is not None:
            await self._connection.ensure_connected()
            await self._before_write()

    def _decode_reply(self, answer: dict[str, Any], doing: str) -> dict[str, Any]:
        """Return the answer, unless it is an error: raises ApiError."""
        self._answered = True
        if answer.get("error", {}).get("err_code") == ErrorCode.JSClusterNotAvailErr:
            self._outage.record_failure()
        elif not _has_no_leader(answer):
            self._outage.record_success()
        raise_for_error(answer, doing)
        return answer

    async def server_info(self) -> ServerInfo:
        """Return what the server and the account are. Raises NoResponders or ApiError 10039 where there is no JetStream."""
        facts, witness = await self._server_info()
        streams: Rows = {}
        if cluster_name.certain_cluster_name(witness, facts.domain) is None:
            page = await self.request_with_retry("STREAM.LIST", {"offset": 0}, doing="listing the streams")
            streams = cluster_name.streams_of_page(page)
        return await self._with_cluster(facts, witness, streams)

    async def _server_info(self) -> tuple[ServerInfo, ServerIdentity]:
        """Return the server's facts without its cluster, and who may know which cluster that is."""
        info, witness = await asyncio.gather(
            self.request_with_retry("INFO", doing="reading the account"), self._connection.server_identity()
        )
        level = info.get("api", {}).get("level", 0)
        facts = ServerInfo(
            version=_effective_version(self._connection.server_version, level),
            level=level,
            server=self._connection.server_name,
            url=self._connection.url,
            account=witness.account,
            domain=info.get("domain", self._target.domain),
            context=self._target.context,
            source=self._target.source,
            limits=decode_limits(info),
            max_payload=self._connection.max_payload,
        )
        return facts, witness

    async def _with_cluster(
        self, server_info: ServerInfo, witness: ServerIdentity, streams: Rows
    ) -> ServerInfo:
        """Return the facts with the cluster that answers, as the witness or these streams of the account tell it."""
        cluster = cluster_name.certain_cluster_name(witness, server_info.domain)
        if cluster is None:
            cluster = await cluster_name.cluster_name_of_streams(
                witness, server_info.domain, streams, self.request_with_retry
            )
        self._clustered = bool(cluster)
        known = self._connection.peers if cluster and cluster == self._connection.cluster else 0
        return server_info._replace(cluster=cluster, peers=_peer_count(known, cluster, streams))

    async def snapshot(self, owner: str, desired: State[Resource]) -> LiveState:
        """Return every stream of the account, and the consumers of those that are `desired` or marked as `owner`'s.

        Complete as far as it is the owner's, or not at all: raises SnapshotIncomplete for what could not be read and may be.
        """
        live, unread = await self._consistent_snapshot(owner, desired, patient=True)
        if unread:
            raise SnapshotIncomplete(*unread.values())
        return live

    async def snapshot_best_effort(
        self, owner: str, desired: State[Resource]
    ) -> tuple[LiveState, Mapping[Ref, Problem]]:
        """Return the snapshot as far as it can be read at once, and a problem for each resource that cannot, such as a stream without a leader.

        Good for looking; never plan from it.
        """
        return await self._consistent_snapshot(owner, desired, patient=False)

    async def _consistent_snapshot(
        self, owner: str, desired: State[Resource], *, patient: bool
    ) -> tuple[LiveState, Mapping[Ref, Problem]]:
        facts, witness = await self._server_info()
        for _ in range(MAX_SNAPSHOT_ATTEMPTS):
            try:
                unread: dict[Ref, Problem] = {}
                return (
                    await self._read_account(facts, witness, owner, desired, unread, patient=patient),
                    unread,
                )
            except ConcurrentModification:
                continue
        raise SnapshotIncomplete(
            Problem(
                "unstable",
                "the account keeps changing while it is read",
                None,
                "try again when nobody else creates or deletes streams and consumers",
            )
        )

    async def info(self, ref: Ref) -> LiveResource | None:
        """Return one stream or consumer as it is now, or None if there is none."""
        try:
            row = await self.request_with_retry(_info(ref), doing=f"reading {ref}")
        except ApiError as error:
            if error.err_code in (ErrorCode.JSStreamNotFoundErr, ErrorCode.JSConsumerNotFoundErr):
                return None
            raise
        return self._resource(ref, row)

    async def consumers(self, stream: Ref) -> list[LiveResource]:
        """Return the consumers of one stream as they are now. Raises ServerFault if the stream is gone."""
        info = await self.request_with_retry(f"STREAM.INFO.{stream}", doing=f"reading {stream}")
        begun = asyncio.get_running_loop().time()
        try:
            rows, missing = await self._consumers(stream.stream, info)
            ours = {Ref(stream.stream, name): row for name, row in missing.items()}
            found, problems = await unreachable.read_missing(ours, self._read_missing, begun)
        except ConcurrentModification:
            raise ServerFault(
                Problem(
                    "unstable", f"the consumers of {stream} change while they are read", None, "try again"
                )
            ) from None
        if problems:
            raise SnapshotIncomplete(*problems.values())
        return list((self._resources(stream.stream, rows) | self._missing_resources(found)).values())

    async def cluster_info(
        self,
        ref: Ref,
        *,
        timeout: float,  # noqa: ASYNC109 - as in `request`
    ) -> Mapping[str, Any] | None:
        """Return INFO's `cluster`: which servers lead and hold copies; None on a single server. Asks once, and raises as `request` does."""
        row = await self.request(_info(ref), doing=f"reading {ref}", timeout=timeout)
        found: Mapping[str, Any] | None = row.get("cluster")
        return found

    async def _read_account(
        self,
        server_info: ServerInfo,
        witness: ServerIdentity,
        owner: str,
        desired: State[Resource],
        unread: dict[Ref, Problem],
        *,
        patient: bool,
    ) -> LiveState:
        """Return the account as a plan or a status needs it; note in `unread` what could not be read and may be the owner's."""
        begun = asyncio.get_running_loop().time()
        read_missing = unreachable.read_missing if patient else unreachable.looked_at
        streams, missing = await read_all_rows(
            self.request_with_retry, "STREAM.LIST", "streams", "listing the streams"
        )
        foreign = set()
        if missing and patient:
            foreign = await unreachable.find_foreign_streams(self.request_with_retry, missing, owner, desired)
        ours = {Ref(name): row for name, row in missing.items() if name not in foreign}
        rows, problems = await read_missing(ours, self._read_missing, begun)
        streams |= {ref.stream: row for ref, row in rows.items()}
        unread |= problems
        if patient and unread:
            return LiveState()  # nobody wants the rest
        found = {(ref := Ref(name)): self._resource(ref, row) for name, row in streams.items()}
        unread_foreign = [Ref(name) for name in foreign]

        async def read_consumers(name: str) -> None:
            listed, missing = await self._consumers(name, streams[name])
            if missing:
                foreign = unreachable.find_foreign_consumers(missing, listed, name, owner, desired)
                unread_foreign.extend(Ref(name, reader) for reader in foreign)
                ours = {Ref(name, reader): row for reader, row in missing.items() if reader not in foreign}
                rows, problems = await read_missing(ours, self._read_missing, begun)
                found.update(self._missing_resources(rows))
                unread.update(problems)
            found.update(self._resources(name, listed))
            if len(found) > MAX_ROWS_IN_ALL:
                raise TooMany("listing the consumers", len(found), MAX_ROWS_IN_ALL)

        wanted = {stream.ref.stream for stream in desired.streams()}
        with_consumers = [
            ref.stream
            for ref, stream in found.items()
            if ref.stream in wanted or (stream.owner == owner and not ref.is_rehearsal)
            if _consumer_count(streams[ref.stream])
        ]
        # The longest listings first: they take longest, and the short ones fit in between.
        with_consumers.sort(key=lambda name: _consumer_count(streams[name]), reverse=True)
        await _call_for_each(with_consumers, read_consumers)
        facts = await self._with_cluster(server_info, witness, streams)
        return LiveState(found, facts, tuple(sorted(unread_foreign)))

    def _missing_resources(self, rows: Mapping[Ref, dict[str, Any]]) -> dict[Ref, LiveResource]:
        return {ref: self._resource(ref, row) for ref, row in rows.items()}

    def _resources(self, stream: str, consumers: Rows) -> dict[Ref, LiveResource]:
        """Decode the consumers now, so that their rows can go: kept for all of them they would be half of the memory."""
        return {(ref := Ref(stream, name)): self._resource(ref, row) for name, row in consumers.items()}

    def _resource(self, ref: Ref, row: Mapping[str, Any]) -> LiveResource:
        return decode_resource(ref, row, self._incarnation(row.get("cluster")))

    def _incarnation(self, members: Mapping[str, Any] | None) -> str:
        """Return which run of a server answered for a resource with these members; empty where it may be another server than ours.

        What several keep, a leader tells as they have agreed on it, however often it was started.
        """
        if members:
            own = self._connection.server_name
            leader: str = members.get("leader", own)
            if members.get("replicas"):
                return leader
            if leader != own:
                return ""
        return "" if self.is_remote else self._connection.incarnation

    async def _read_missing(self, ref: Ref, timeout: float) -> dict[str, Any]:  # noqa: ASYNC109 - as in `request`
        """Read once a resource that a listing has no row for."""
        row = await self.request(_info(ref), doing=f"reading {ref}", timeout=timeout)
        if _has_no_leader(row):
            raise NoLeader(f"reading {ref}")
        return row

    async def _consumers(self, stream: str, row: Mapping[str, Any]) -> tuple[Rows, dict[str, MissingRow]]:
        """Return the consumers of one stream by name. In a cluster a stream that is gone lists as empty, without an error."""
        doing = f"listing the consumers of {stream}"
        try:
            rows, missing = await read_all_rows(
                self.request_with_retry, f"CONSUMER.LIST.{stream}", "consumers", doing
            )
        except ApiError as error:
            if error.err_code == ErrorCode.JSStreamNotFoundErr:
                raise ConcurrentModification from None
            raise
        if not rows and not missing and _consumer_count(row):
            raise ConcurrentModification
        return rows, missing


async def _call_for_each(names: Sequence[str], call: Callable[[str], Awaitable[None]]) -> None:
    """Call the function with each name, READS_IN_FLIGHT at a time, begun in this order. The first fault ends all."""
    left = iter(names)

    async def some() -> None:
        for name in left:
            await call(name)

    # So many that each calls one after the other, instead of one for each that waits for its turn.
    callers = [asyncio.ensure_future(some()) for _ in range(min(len(names), READS_IN_FLIGHT))]
    try:
        await asyncio.gather(*callers)
    finally:
        for caller in callers:
            caller.cancel()


@contextlib.asynccontextmanager
async def connect_account(target: Target) -> AsyncIterator[JetStream]:
    """Yield the account behind the target for the time of the block. Raises ConnectFailed."""
    async with open_connection(target) as connection:
        yield JetStream(connection, target)


def _info(ref: Ref) -> str:
    return f"CONSUMER.INFO.{ref.stream}.{ref.consumer}" if ref.consumer else f"STREAM.INFO.{ref.stream}"


def _subject_of_request(verb: str) -> str:
    """Return the stream or consumer that a request is about; empty if it is about no single one."""
    for beginning in ("STREAM.INFO.", "STREAM.MSG.GET.", "CONSUMER.INFO."):
        if verb.startswith(beginning):
            return verb.removeprefix(beginning).replace(".", "/")
    return ""


def _has_no_leader(answer: Mapping[str, Any]) -> bool:
    """Return whether the answer is about a stream or consumer without a leader: it may be old then (measured 2.15.1)."""
    members = answer.get("cluster")
    return members is not None and not members.get("leader")


def _peer_count(told: int, cluster: str, streams: Rows) -> int:
    """Return how many servers of the cluster can hold a replica, at least; 0 is unknown.

    Clients are `told` of those that are up, and a stream proves its own.
    """
    here = (row for row in streams.values() if (row.get("cluster") or {}).get("name") == cluster)
    return max(told, *(row["config"]["num_replicas"] for row in here), 1) if told else 0


def _consumer_count(row: Mapping[str, Any]) -> int:
    count: int = row["state"].get("consumer_count", 0)
    return count


def _effective_version(connected: str, level: int) -> Version:
    """Return the version whose rules hold: the connected server's, unless the API leader answers for another one.

    In a cluster of mixed versions, or through a leaf node, the leader's level decides; then it is the oldest
    version of that level.
    """
    version = Version.parse(connected)
    return version if level_of(version) == level or level not in LEVELS else LEVELS[level]
