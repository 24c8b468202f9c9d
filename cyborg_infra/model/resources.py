"""Streams and consumers, live or desired, and a state of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

import orjson

from cyborg_infra.model.fields import ABSENT, Config, Kind
from cyborg_infra.model.metadata_keys import (
    BECOMES_KEY,
    KIND_KEY,
    OWNER_KEY,
    OWNERSHIP_KEYS,
    RESOURCE_KEY,
    ROLE_KEY,
    SERVER_VALUES_KEY,
    START_KEY,
    STATE_KEYS,
    STOPPED_KEY,
)
from cyborg_infra.model.normalise import (
    REQUIRED_LEVEL_KEY,
    SERVER_KEY_PREFIX,
    normalise_without_labels,
    user_labels,
)
from cyborg_infra.model.problems import SourcePosition
from cyborg_infra.model.ref import Ref, fence_subject, stop_subject
from cyborg_infra.model.server_values import as_requested, noted_values, with_server_values
from cyborg_infra.model.units import SECOND, whole_number
from cyborg_infra.model.valueclass import NamedTuple, valueclass

if TYPE_CHECKING:  # `validate` needs none of them
    from cyborg_infra.model.counting import CountQuery, MessageCount
    from cyborg_infra.model.field_names import (
        FlagField,
        NumberField,
        NumbersField,
        ObjectField,
        ObjectsField,
        TextField,
        TextsField,
    )
    from cyborg_infra.model.server import ServerInfo

REFILL_GROUP = "cyborg-infra"
"""The one priority group of a consumer that is not yet where the old one stood: it hands out to the tool alone."""

COPY_OVERHEAD_BYTES = 512
"""Bytes by which a message may be larger in a copy: a file takes more than memory, and sources add a header."""

PAUSED_INDEFINITELY = "2200-01-01T00:00:00Z"
"""A consumer is paused until then while it does not stand where it shall: dead or alive, nobody is served."""

PAUSE_MARK = 424_242
"""Microseconds of the second in which a pause of the tool's ends by itself: what outlives the tool is known by it."""

COPY_FIELDS = ("mirror", "mirror_direct", "sources")
"""What makes a stream a copy: without it, it takes messages in by itself."""

NAMED_SUBJECTS = frozenset({"subjects", "filter_subject", "filter_subjects"})
"""What the naming scheme gives to each, if nobody says otherwise: always such as a server takes."""

_ABSENT_OF_STREAM, _ABSENT_OF_CONSUMER = ABSENT[Kind.STREAM], ABSENT[Kind.CONSUMER]

_TOOL_KEYS = (*OWNERSHIP_KEYS, *STATE_KEYS)

_START_FIELDS = {"by_start_sequence": "opt_start_seq", "by_start_time": "opt_start_time"}


class Unfinished(StrEnum):
    """What shows that a change of a living organisation is under way, or was interrupted. Stable: for scripts."""

    FENCED = "parked"
    """A stream takes nothing in, and publishers are refused."""
    MIGRATING = "moving"
    """A stream holds the messages of one that is replaced or renamed."""
    PLACEHOLDER = "placeholder"
    """A consumer keeps the position of one that is replaced."""
    STOPPED = "stopped"
    """A consumer hands out nothing new, and goes on only as a new one."""
    REFILLING = "refilling"
    """A new consumer hands out to nobody but the tool, until it stands where it shall."""
    PAUSED = "paused"
    """A consumer is paused for good, until it stands where it shall."""


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


class StopPosition(NamedTuple):
    """Up to which number a consumer has handed out; if that is not `exact`, perhaps a little more.

    `floor`: the number up to which all was finished then, if that is noted; `incarnation` is the run of the server that
    said so, empty where it is not known. See `model.consumer_position.finished`.
    """

    number: int
    exact: bool = True
    floor: int | None = None
    incarnation: str = ""

    @property
    def written(self) -> str:
        """As a text: `12`, `12+`, or `12 8 NABC`."""
        noted = [] if self.floor is None else [str(self.floor), self.incarnation]
        return " ".join([f"{self.number}{'' if self.exact else '+'}", *noted]).rstrip()

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return what `user_labels` wrote; None where it did not."""
        first, *noted = text.split() or [""]
        number = whole_number(first.removesuffix("+"))
        if number is None:
            return None
        floor, incarnation = (*noted, "", "")[:2]
        return cls(number, not first.endswith("+"), whole_number(floor), incarnation)


SILENT_NS = 10 * SECOND
"""For so long a leader calls a copy current of which it does not hear any more (2.10 to 2.15)."""


class Copy(NamedTuple):
    """One replica that its leader does not call current. `silent`: nanoseconds since the leader has heard of it; 0 if never."""

    server: str  # empty: no server has been given one
    offline: bool = False
    silent: int = 0

    @property
    def is_down(self) -> bool:
        """Whether its server is: no election keeps a leader from hearing of its copies for so long."""
        return bool(self.server) and (self.offline or self.silent > SILENT_NS)


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
    incarnation: str = (
        ""  # by what is known which run of a server told it from its memory; empty where that is not
    )
    deliveries: int = 0  # that a consumer has made so far, the same message again included
    behind: tuple[
        Copy, ...
    ] = ()  # its copies that are not current; a moment after an election that may be all


_NO_COUNTS: Mapping[CountQuery, MessageCount] = MappingProxyType({})


@valueclass(frozen=True, slots=True)
class Resource:
    """One stream or consumer and its configuration, in wire form: what is desired, lives, or is about to be written."""

    ref: Ref
    config: Config
    _normalised: Mapping[str, Any] | None = field(default=None, init=False, repr=False, compare=False)
    _settings_digest: str | None = field(default=None, init=False, repr=False, compare=False)

    @overload
    def get(self, name: NumberField) -> int: ...
    @overload
    def get(self, name: TextField) -> str: ...
    @overload
    def get(self, name: FlagField) -> bool: ...
    @overload
    def get(self, name: TextsField) -> Sequence[str]: ...
    @overload
    def get(self, name: NumbersField) -> Sequence[int]: ...
    @overload
    def get(self, name: ObjectField) -> Config: ...
    @overload
    def get(self, name: ObjectsField) -> Sequence[Config]: ...
    @overload
    def get(self, name: Literal["metadata"]) -> Mapping[str, str]: ...
    @overload
    def get(self, name: str) -> Any: ...
    def get(self, name: str) -> Any:
        """Return a setting as the configuration has it, in wire form; where it is absent, what the server means by that.

        A list or an object that is absent is empty. `normalised` is for comparing: it knows spellings that mean the
        same. Of a field that only the other
        kind has, this kind has nothing. Raises KeyError for a name that neither has.
        """
        value = self.config.get(name)
        if value is not None:
            return value
        if name == "duplicate_window" and self.is_copy:
            return 0  # a copy has none unless it says so
        if name == "max_ack_pending" and self.get("ack_policy") == "none":
            return 0  # nothing is pending
        return (_ABSENT_OF_CONSUMER if self.ref.consumer else _ABSENT_OF_STREAM)[name]

    def config_part(self, names: Iterable[str]) -> dict[str, Any]:
        """Return those of these settings that the configuration has, as it has them."""
        return {name: self.config[name] for name in names if name in self.config}

    @property
    def filters(self) -> tuple[str, ...]:
        """The subjects that a consumer reads; empty if it reads all that its stream has."""
        one = self.get("filter_subject")
        return (one,) if one else tuple(self.get("filter_subjects"))

    @property
    def metadata(self) -> Mapping[str, str]:
        """The resource's metadata, empty if it has none."""
        return self.config.get("metadata") or {}

    @property
    def owner(self) -> str | None:
        """The organisation that this resource belongs to, or None: nobody has marked it, or its marks are another one's."""
        marks = self.metadata
        named = marks.get(RESOURCE_KEY)
        return marks.get(OWNER_KEY) if named is None or named == str(self.ref) else None

    @property
    def role(self) -> str | None:
        """The role that this resource belongs to, or None if it is shared."""
        return self.metadata.get(ROLE_KEY)

    @property
    def is_stopped(self) -> bool:
        """Whether it is a consumer that a replace has stopped: it goes on only as a new one."""
        return bool(self.ref.consumer) and self.get("filter_subject") == stop_subject(self.ref)

    @property
    def is_ephemeral(self) -> bool:
        """Whether it is a consumer that was made with a `name` and no `durable_name`, as newer clients do."""
        return bool(self.ref.consumer) and not self.get("durable_name")

    @property
    def is_copy(self) -> bool:
        """Whether it is a stream that still takes its messages from another one."""
        return not self.ref.consumer and any(self.get(name) for name in COPY_FIELDS)

    @property
    def is_refilling(self) -> bool:
        """Whether it is a consumer that a replace has made and that does not stand where the old one stood."""
        return bool(self.ref.consumer) and list(self.get("priority_groups")) == [REFILL_GROUP]

    @property
    def is_fenced(self) -> bool:
        """Whether it is a stream that takes in nothing that anybody publishes: it is replaced, deleted, or not complete."""
        return not self.ref.consumer and list(self.get("subjects")) == [fence_subject(self.ref)]

    @property
    def unfinished(self) -> Unfinished | None:
        """What of a change that is not finished this is, or None."""
        if self.ref.is_placeholder:
            return Unfinished.PLACEHOLDER
        if self.is_fenced:
            return Unfinished.FENCED
        if BECOMES_KEY in self.metadata:
            return Unfinished.MIGRATING
        if self.is_stopped:
            return Unfinished.STOPPED
        if self.is_refilling:
            return Unfinished.REFILLING
        return Unfinished.PAUSED if self.get("pause_until") == PAUSED_INDEFINITELY else None

    @property
    def stopped_at(self) -> StopPosition | None:
        """What a stopped consumer has handed out; None if it does not say."""
        return StopPosition.read(self.metadata.get(STOPPED_KEY, "")) if self.is_stopped else None

    def normalised(self) -> Mapping[str, Any]:
        """Return the managed configuration without the marks: what is compared, and what `digest` is taken of."""
        if self._normalised is None:
            found = normalise_without_labels(self.ref.kind, self._config_as_requested())
            if own := user_labels(self.metadata, *_TOOL_KEYS):
                found["metadata"] = own
            object.__setattr__(self, "_normalised", found)
        return self._normalised or {}

    def _config_as_requested(self) -> Config:
        """Return the configuration that was asked for, where an apply had to write another one: another start, or what the server's limits leave."""
        marks = self.metadata
        if SERVER_VALUES_KEY in marks:
            config = as_requested(self.config, marks[SERVER_VALUES_KEY])
        else:
            config = self.config
        return _with_requested_start(config, marks[START_KEY]) if START_KEY in marks else config

    def digest(self) -> str:
        """Return a short digest of the managed configuration; equal for two resources that are configured alike."""
        return digest_of(self.normalised())

    def settings_digest(self) -> str:
        """Return a digest of the same and the kind, but for NAMED_SUBJECTS: equal for all of a kind that are set alike."""
        if self._settings_digest is None:
            found = settings_digest(self.ref.kind, self.metadata.get(KIND_KEY, ""), self.normalised())
            object.__setattr__(self, "_settings_digest", found)
        return self._settings_digest or ""


@valueclass(frozen=True, slots=True)
class DesiredResource(Resource):
    """A resource as a manifest or a saved plan asks for it. `origin`: where the manifest does, if that is known.

    `left_open`: of what a server's own limits may decide (`model.server_values`), what the manifest says nothing of.
    """

    origin: SourcePosition | None = None
    left_open: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    @classmethod
    def from_normalised(
        cls,
        ref: Ref,
        config: Config,
        origin: SourcePosition | None,
        normalised: Mapping[str, Any],
        left_open: frozenset[str],
        settings_digest: str | None,
    ) -> Self:
        """Return the desired resource, whose canonical form somebody has worked out already, and perhaps the digest of its settings."""
        made = cls(ref, config, origin, left_open=left_open)
        object.__setattr__(made, "_normalised", normalised)
        object.__setattr__(made, "_settings_digest", settings_digest)
        return made


@valueclass(frozen=True, slots=True)
class LiveResource(Resource):
    """A resource as a server has it: `counts` are of its kind, and None of what a saved plan tells of.

    `created` is RFC 3339 as the server writes it. `counts_by_query` has what was counted for a plan.
    """

    counts: StreamCounts | ConsumerCounts | None = None
    created: str = ""
    counts_by_query: Mapping[CountQuery, MessageCount] = field(default_factory=lambda: _NO_COUNTS, repr=False)
    activity: Activity = field(default=Activity(), repr=False, compare=False)

    @property
    def is_left_paused(self) -> bool:
        """Whether it is a consumer that an apply has paused, and that still is: for good, or until a moment to come."""
        until = self.get("pause_until") if self.activity.paused else ""
        return until == PAUSED_INDEFINITELY or until.partition(".")[2].startswith(str(PAUSE_MARK))

    def matches(self, wanted: DesiredResource, expected: Config | None = None) -> bool:
        """Return True if the live resource equals the desired one, ownership keys included. May return False for equal ones: `normalised` then decides.

        False where a replace has noted something, or where the marks differ: then `normalised` tells. `expected` is a
        configuration that is known to mean what is desired, if there is one.
        """
        said = wanted.normalised()
        if self.config != expected and not self._is_normalised_as(wanted, said):
            return False
        object.__setattr__(self, "_normalised", said)
        return True

    def _is_normalised_as(self, wanted: DesiredResource, said: Mapping[str, Any]) -> bool:
        labels = wanted.metadata
        marks = dict(self.metadata)
        marks.pop(REQUIRED_LEVEL_KEY, None)  # the one that a listing has, of those that come next
        if marks != labels:
            marks = {key: text for key, text in marks.items() if not key.startswith(SERVER_KEY_PREFIX)}
            if marks != labels and (
                RESOURCE_KEY in marks or marks | {RESOURCE_KEY: labels.get(RESOURCE_KEY)} != labels
            ):
                return False
        found = normalise_without_labels(self.ref.kind, self._config_as_requested())
        if "metadata" in said:
            found["metadata"] = said["metadata"]
        return found == said


def origin_of(resource: Resource) -> SourcePosition | None:
    """Return where the manifest asks for it; None for what lives, or is written on the way."""
    return resource.origin if isinstance(resource, DesiredResource) else None


def with_what_is_said(live: LiveResource, desired: DesiredResource) -> LiveResource:
    """Return what lives, with what the server made of fields that the manifest says by now as any other value."""
    noted = noted_values(live.config)
    if noted.keys() <= desired.left_open:
        return live
    labels = {key: text for key, text in live.metadata.items() if key != SERVER_VALUES_KEY}
    still = {name: value for name, value in noted.items() if name in desired.left_open}
    return replace(live, config=with_server_values({**live.config, "metadata": labels}, still))


def copy_max_bytes(origin: LiveResource, desired: Resource) -> int:
    """Return the max_bytes of a copy of this stream, in an account that requires one: twice what it or the new one may hold.

    What is copied may be larger than it was, and what the origin has forgotten meanwhile is in the copy still.
    """
    held = stream_counts(origin)
    largest: int = max(held.bytes, *(stream.get("max_bytes") for stream in (origin, desired)))
    return 2 * largest + COPY_OVERHEAD_BYTES * held.messages


def _with_requested_start(config: Config, noted: str) -> Config:
    """Return the configuration with the start that was asked for; as it is, if that is not what `requested_start` wrote."""
    policy, _, value = noted.partition(" ")
    if not policy or bool(value) != (policy in _START_FIELDS):
        return config
    rest = {name: found for name, found in config.items() if name not in _START_FIELDS.values()}
    number = whole_number(value)
    start = {_START_FIELDS[policy]: value if number is None else number} if value else {}
    return {**rest, "deliver_policy": policy, **start}


def requested_start(config: Config) -> str:
    """Return where a consumer's configuration says that delivery starts: the text of START."""
    policy: str = config["deliver_policy"]
    return f"{policy} {config[_START_FIELDS[policy]]}" if policy in _START_FIELDS else policy


def settings_digest(kind: Kind, label: str, normalised: Config) -> str:
    """Return a short digest of a canonical form but for NAMED_SUBJECTS; `label` says which of a kind it is."""
    settings = {name: value for name, value in normalised.items() if name not in NAMED_SUBJECTS}
    return digest_of([kind, label, settings])


def digest_of(value: object) -> str:
    """Return a short, stable digest of any JSON value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:16]


def canonical_json(value: object) -> bytes:
    """Return a JSON value in its one spelling: keys sorted, no spaces, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def json_size(value: object) -> int:
    """Return how many bytes a JSON value has."""
    return len(orjson.dumps(value))


_R_co = TypeVar("_R_co", bound=Resource, covariant=True)


@valueclass(frozen=True, slots=True)
class State(Generic[_R_co]):
    """Streams and consumers by Ref, sorted."""

    resources: Mapping[Ref, _R_co] = field(default_factory=dict)
    _streams: Sequence[_R_co] = field(init=False, repr=False, compare=False)
    _readers: Mapping[str, Sequence[_R_co]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        streams: list[_R_co] = []
        readers: dict[str, list[_R_co]] = {}
        ordered = {ref: self.resources[ref] for ref in sorted(self.resources)}
        for ref, resource in ordered.items():
            if ref.consumer:
                readers.setdefault(ref.stream, []).append(resource)
            else:
                streams.append(resource)
        object.__setattr__(self, "resources", ordered)
        object.__setattr__(self, "_streams", streams)
        object.__setattr__(self, "_readers", readers)

    def streams(self) -> Sequence[_R_co]:
        """Return the streams, sorted by name."""
        return self._streams

    def consumers(self, stream: str | None = None) -> Sequence[_R_co]:
        """Return the consumers, of one stream or of all, sorted."""
        if stream is not None:
            return self._readers.get(stream, ())
        return [consumer for readers in self._readers.values() for consumer in readers]


@valueclass(frozen=True, slots=True)
class DesiredState(State[DesiredResource]):
    """What an organisation comes to. `DesiredState()` is nothing at all."""


@valueclass(frozen=True, slots=True)
class LiveState(State[LiveResource]):
    """What a server has of it. `unread` is there as well, on servers that are down, and is certain to be somebody else's."""

    server_info: ServerInfo | None = None
    unread: tuple[Ref, ...] = field(default=(), compare=False)


def stream_counts(resource: LiveResource) -> StreamCounts:
    """Return the counts of the stream; all zero if they were not read."""
    return resource.counts if isinstance(resource.counts, StreamCounts) else StreamCounts()


def consumer_counts(resource: LiveResource) -> ConsumerCounts:
    """Return the counts of the consumer; all zero if they were not read."""
    return resource.counts if isinstance(resource.counts, ConsumerCounts) else ConsumerCounts()
