"""What is, or what shall be: the same type for the live server and for the manifest's wish."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import orjson

from cyborg_infra.model.canonical import without_labels, written
from cyborg_infra.model.fields import Config, Kind, Version
from cyborg_infra.model.problems import Mark
from cyborg_infra.model.valueclass import valueclass

OWNER = "cyborg-infra.org"
KIND = "cyborg-infra.kind"
ROLE = "cyborg-infra.role"
APPLIED = "cyborg-infra.applied"
MARKS = (OWNER, KIND, ROLE, APPLIED)
"""The metadata that says whose a resource is and what was last applied to it."""

RENAMED_FROM = "cyborg-infra.renamed-from"
"""The name that a resource's role had before, as long as the manifest says so."""

BUCKETS = "cyborg-infra.buckets"
"""On DEAD_LETTERS: the names of the buckets that were applied. Of a bucket that somebody deleted nothing else tells."""

START = "cyborg-infra.start"
"""On a consumer that was replaced on a server before 2.14: the deliver_policy that its start sequence stands for."""

STOPPED = "cyborg-infra.stopped"
"""On a consumer that is stopped: up to which number it has handed out; with a `+` behind it, perhaps a little more."""

PLACEHOLDER = "cyborg-infra-placeholder-"
"""Begins the name of a consumer that keeps the position of one being replaced; also such a consumer's kind."""

POSITION = "cyborg-infra.position"
"""On such a consumer: where the new one shall go on, if that is further than what the placeholder waits for."""

TEMPORARY = "cyborg-infra-temporary-"
"""Begins the name of a stream that holds the messages of one being replaced; also such a stream's kind."""

BECOMES = "cyborg-infra.becomes"
"""On such a stream: the name of the stream that its messages are for."""

JOURNAL = "cyborg-infra.journal"
"""On such a stream: what is needed to go on, or back, after an interruption."""

COPY_OVERHEAD = 512
"""Bytes by which a message may be larger in a copy: a file takes more than memory, and sources add a header."""

NOTES = (START, STOPPED)
"""What a replace notes on a consumer; no plan is about it."""

_WRITTEN = (*MARKS, *NOTES)
_START_FIELDS = {"by_start_sequence": "opt_start_seq", "by_start_time": "opt_start_time"}


_STREAM, _CONSUMER = (
    Kind.STREAM,
    Kind.CONSUMER,
)  # to look a member up in its enumeration takes longer than the rest


class Ref(NamedTuple):
    """A stream, or a consumer of one. Sorts a stream before its consumers; prints `STREAM` or `STREAM/consumer`."""

    stream: str
    consumer: str = ""

    @property
    def kind(self) -> Kind:
        """Stream or consumer."""
        return _CONSUMER if self.consumer else _STREAM

    @property
    def name(self) -> str:
        """Its own name: the consumer's, or the stream's."""
        return self.consumer or self.stream

    @property
    def is_placeholder(self) -> bool:
        """Whether it is a consumer that keeps the position of one being replaced."""
        return self.consumer.startswith(PLACEHOLDER)

    def __str__(self) -> str:
        return f"{self.stream}/{self.consumer}" if self.consumer else self.stream


def unused_subject(consumer: Ref) -> str:
    """What a stopped consumer waits for. Each has its own: two of a workqueue may not wait for the same (10100)."""
    return f"_parked.{consumer.stream}.{consumer.consumer}"


def parking(stream: Ref) -> str:
    """The subject that a parked stream takes in: nobody else uses it."""
    return f"_parked.{stream}"


def temporary(stream: Ref) -> Ref:
    """Where the messages of a stream are while it is replaced."""
    return Ref(f"{TEMPORARY}{stream.stream}")


class StreamCounts(NamedTuple):
    """What a live stream holds. Times are RFC 3339 as the server writes them, empty where there is no message."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    first_ts: str = ""
    last_ts: str = ""
    oldest_age: int = 0  # nanoseconds since the oldest message was stored, by the server's clock
    num_subjects: int = 0
    consumers: int = 0


class ConsumerCounts(NamedTuple):
    """Where a live consumer stands: not yet delivered, being worked on, delivered and acknowledged up to."""

    num_pending: int = 0
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0  # pull requests
    delivered_stream_seq: int = 0
    ack_floor_stream_seq: int = 0


class Stopped(NamedTuple):
    """Up to which number a consumer has handed out; if that is not `exact`, perhaps a little more."""

    number: int
    exact: bool


class Activity(NamedTuple):
    """When a live stream or consumer was read and last moved; RFC 3339 by the server's clock.

    `delivered_at` moves with a delivery and with an agent's "in progress" (measured 2.10.26 and 2.15.1). The server
    forgets both times when it restarts; they are empty then, as before the first delivery.
    """

    read_at: str = ""
    delivered_at: str = ""
    acked_at: str = ""
    paused: bool = False  # since 2.11
    bound: bool = False  # a push consumer that somebody listens to


class Measure(StrEnum):
    """What a second, closer reading finds out about messages that a change would cost."""

    # Of a stream, at its front: what a limit of `limit` would delete.
    ABOVE_COUNT = "the oldest, until `limit` are left"
    ABOVE_SIZE = "the oldest, until at most `limit` bytes are left"
    OLDER = "stored more than `limit` nanoseconds ago"
    ABOVE_PER_SUBJECT = "the oldest of each subject, until `limit` of it are left"
    # Of a consumer: messages that match `within` and not `without`.
    PASSED = "in the stream, up to where the consumer has got"
    WAITING = "in the stream beyond that, and below sequence `limit` if there is one"


class Question(NamedTuple):
    """Which messages of a live stream or consumer a closer reading shall count."""

    ref: Ref
    measure: Measure
    limit: int = 0
    within: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class Amount(NamedTuple):
    """So many messages, exactly; bytes as the server counts them, 0 where they are not known."""

    messages: int = 0
    bytes: int = 0


_NOTHING: Mapping[Question, Amount] = MappingProxyType({})


@valueclass(frozen=True, slots=True)
class Resource:
    """One stream or consumer; `config` in wire form. `origin` only when desired; `counts` and what follows only when live."""

    ref: Ref
    config: Config
    origin: Mark | None = None
    counts: StreamCounts | ConsumerCounts | None = None
    created: str = ""
    measured: Mapping[Question, Amount] = field(default_factory=lambda: _NOTHING, repr=False)
    activity: Activity = field(default=Activity(), repr=False, compare=False)
    _canonical: Mapping[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The resource's metadata, empty if it has none."""
        found: Mapping[str, str] = self.config.get("metadata") or {}
        return found

    @property
    def owner(self) -> str | None:
        """The organisation that this resource belongs to, or None if nobody has marked it."""
        return self.metadata.get(OWNER)

    @property
    def role(self) -> str | None:
        """The role that this resource belongs to, or None if it is shared."""
        return self.metadata.get(ROLE)

    @property
    def is_stopped(self) -> bool:
        """Whether it is a consumer that a replace has stopped, where none can be paused: it goes on only as a new one."""
        return bool(self.ref.consumer) and self.config.get("filter_subject") == unused_subject(self.ref)

    @property
    def is_parked(self) -> bool:
        """Whether it is a stream that takes in nothing that anybody publishes: it is replaced, deleted, or not complete."""
        return not self.ref.consumer and list(self.config.get("subjects") or ()) == [parking(self.ref)]

    @property
    def stopped_at(self) -> Stopped | None:
        """What a stopped consumer has handed out; None if it does not say."""
        text = self.metadata.get(STOPPED, "") if self.is_stopped else ""
        number = text.removesuffix("+")
        return Stopped(int(number), exact=number == text) if number.isdigit() else None

    @classmethod
    def with_canonical(
        cls, ref: Ref, config: Config, origin: Mark | None, canonical: Mapping[str, Any]
    ) -> Self:
        """The desired resource, whose canonical form somebody has worked out already."""
        made = cls(ref, config, origin)
        object.__setattr__(made, "_canonical", canonical)
        return made

    def canonical(self) -> Mapping[str, Any]:
        """The managed configuration without the marks: what is compared, and what `digest` is taken of."""
        if self._canonical is None:
            found = without_labels(self.ref.kind, self._as_wished())
            if own := written(self.metadata, *_WRITTEN):
                found["metadata"] = own
            object.__setattr__(self, "_canonical", found)
        return self._canonical or {}

    def is_as(self, wanted: Resource) -> bool:
        """Whether both are configured and marked alike. Then one canonical form serves both: most of a large plan's are.

        False where a replace has noted something, or where the marks differ: then `canonical` tells.
        """
        if wanted.metadata != written(self.metadata):
            return False
        said = wanted.canonical()
        found = without_labels(self.ref.kind, self._as_wished())
        if "metadata" in said:
            found["metadata"] = said["metadata"]
        if found != said:
            return False
        object.__setattr__(self, "_canonical", said)
        return True

    def _as_wished(self) -> Config:
        """The configuration with the start that was asked for, where a replace had to write another one."""
        if START not in self.metadata:
            return self.config
        policy, _, value = self.metadata[START].partition(" ")
        if not policy or bool(value) != (policy in _START_FIELDS):
            return self.config
        rest = {name: found for name, found in self.config.items() if name not in _START_FIELDS.values()}
        start = {_START_FIELDS[policy]: int(value) if value.isdigit() else value} if value else {}
        return {**rest, "deliver_policy": policy, **start}

    def digest(self) -> str:
        """A short digest of the managed configuration; equal for two resources that are configured alike."""
        return digest_of(self.canonical())


def copy_size(origin: Resource, desired: Resource) -> int:
    """The max_bytes of a copy of this stream, in an account that requires one: twice what it or the new one may hold.

    What is copied may be larger than it was, and what the origin has forgotten meanwhile is in the copy still.
    """
    held = origin.counts if isinstance(origin.counts, StreamCounts) else StreamCounts()
    largest: int = max(held.bytes, *(stream.config.get("max_bytes", -1) for stream in (origin, desired)))
    return 2 * largest + COPY_OVERHEAD * held.messages


def start_of(config: Config) -> str:
    """Where a consumer's configuration says that delivery starts: the text of START."""
    policy: str = config["deliver_policy"]
    return f"{policy} {config[_START_FIELDS[policy]]}" if policy in _START_FIELDS else policy


def digest_of(value: object) -> str:
    """A short, stable digest of any JSON value."""
    return hashlib.sha256(encoded(value)).hexdigest()[:16]


def encoded(value: object) -> bytes:
    """A JSON value in its one spelling: keys sorted, no spaces, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


class Limits(NamedTuple):
    """What the account may have; -1 is unlimited. From `$JS.API.INFO`."""

    max_streams: int = -1
    max_consumers: int = -1
    max_storage: int = -1
    max_memory: int = -1
    max_ack_pending: int = -1
    max_file_stream: int = -1  # largest max_bytes of one stream
    max_memory_stream: int = -1
    max_bytes_required: bool = False
    streams: int = 0
    consumers: int = 0
    storage: int = 0
    memory: int = 0

    def without_usage(self) -> Limits:
        """What the account may have alone."""
        return self._replace(streams=0, consumers=0, storage=0, memory=0)


class Facts(NamedTuple):
    """What is known of the server and account that a State was read from. Holds no secret."""

    version: Version  # the oldest that answers for the API: see live.jetstream
    level: int
    server: str = ""
    url: str = ""
    account: str = ""
    cluster: str = ""
    domain: str = ""
    peers: int = 0  # servers that can hold a replica, as far as we know: others may be down; 0 is unknown
    context: str = ""
    source: str = ""  # where url and context came from
    limits: Limits = Limits()
    max_payload: int = 0  # bytes that a request may have; 0 is unknown


@valueclass(frozen=True, slots=True)
class State:
    """Streams and consumers by Ref, sorted. `facts` only when live. `State()` is nothing at all."""

    resources: Mapping[Ref, Resource] = field(default_factory=dict)
    facts: Facts | None = None
    _streams: Sequence[Resource] = field(init=False, repr=False, compare=False)
    _readers: Mapping[str, Sequence[Resource]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        streams: list[Resource] = []
        readers: dict[str, list[Resource]] = {}
        ordered = {ref: self.resources[ref] for ref in sorted(self.resources)}
        for ref, resource in ordered.items():
            if ref.consumer:
                readers.setdefault(ref.stream, []).append(resource)
            else:
                streams.append(resource)
        object.__setattr__(self, "resources", ordered)
        object.__setattr__(self, "_streams", streams)
        object.__setattr__(self, "_readers", readers)

    def streams(self) -> Sequence[Resource]:
        """The streams, sorted by name."""
        return self._streams

    def consumers(self, stream: str | None = None) -> Sequence[Resource]:
        """The consumers, of one stream or of all, sorted."""
        if stream is not None:
            return self._readers.get(stream, ())
        return [consumer for readers in self._readers.values() for consumer in readers]
