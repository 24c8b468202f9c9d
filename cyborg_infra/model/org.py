"""The organisation as its manifest says it: validated, in wire form, each value with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from cyborg_infra.model.problems import Mark
from cyborg_infra.model.units import MINUTE
from cyborg_infra.model.valueclass import valueclass

Path = tuple[str | int, ...]
"""Where a value stands in the manifest: `("roles", "cto", "tasks", "max_age")`."""


class StreamKind(StrEnum):
    """The streams of an organisation, by what they carry; also the keys of `streams:`, except KEY_VALUE.

    Of that kind there are as many as the manifest names under `key_value:`.
    """

    TASKS = "tasks"
    INBOXES = "inboxes"
    BROADCASTS = "broadcasts"
    EVENTS = "events"
    DEAD_LETTERS = "dead_letters"
    KEY_VALUE = "key_value"


class ConsumerKind(StrEnum):
    """The consumers of an organisation, by what they do; also the keys of `consumers:`."""

    WORKER = "worker"
    INBOX_READER = "inbox_reader"
    BROADCAST_READER = "broadcast_reader"
    EVENT_READER = "event_reader"
    DEAD_LETTER_ALERTS = "dead_letter_alerts"


# What may be set for every stream of a kind: `streams: {tasks: ...}`.
STREAM_KINDS = tuple(kind for kind in StreamKind if kind is not StreamKind.KEY_VALUE)
# What may be set for one role alone: `roles: {cto: {tasks: ..., worker: ...}}`.
ROLE_STREAMS = (StreamKind.TASKS,)
ROLE_CONSUMERS = (
    ConsumerKind.WORKER,
    ConsumerKind.INBOX_READER,
    ConsumerKind.BROADCAST_READER,
    ConsumerKind.EVENT_READER,
)

Fields = Mapping[str, Any]
"""JetStream fields in wire form, only those that somebody set; and of tasks perhaps ADMISSION."""

_NONE: Mapping[Any, Any] = MappingProxyType({})

ADMISSION = "admission"
"""The one setting that is no JetStream field: `{"max_pending": 5}`, or {} for none. `core.settings` says what it means."""


class Role(NamedTuple):
    """A position in the organisation. `renamed_from` is the name that it had before; empty if it has always had this one."""

    name: str
    description: str = ""
    renamed_from: str = ""
    mark: Mark | None = None


class Event(NamedTuple):
    """`<domain>.<event>`, who publishes it and who reads it; durable ones are stored in ORG_EVENTS."""

    name: str
    publishers: tuple[str, ...] = ()
    subscribers: tuple[str, ...] = ()
    durable: bool = False
    description: str = ""
    mark: Mark | None = None


class Ignore(NamedTuple):
    """A warning that `validate` shall not give: its code, why, and the one role that is meant; None is all of them."""

    code: str
    reason: str
    role: str | None = None
    mark: Mark | None = None


class Bucket(NamedTuple):
    """A key-value bucket, by the name that clients open it with; `task_state` if it keeps the task documents."""

    name: str
    task_state: bool = False
    mark: Mark | None = None


Member = Role | Bucket
"""What a kind of stream or consumer has one each of."""


class Overrides(NamedTuple):
    """One layer of settings: the manifest's own, or an environment's. Within it defaults < kind < role."""

    defaults: Fields = _NONE  # stream fields for all: storage, num_replicas, placement
    streams: Mapping[StreamKind, Fields] = _NONE
    consumers: Mapping[ConsumerKind, Fields] = _NONE
    roles: Mapping[str, Mapping[StreamKind | ConsumerKind, Fields]] = _NONE
    ignored: tuple[Ignore, ...] = ()
    buckets: Mapping[str, Fields] = _NONE


class ExpectedServer(NamedTuple):
    """Where this manifest may be applied; None means anywhere."""

    account: str | None = None
    cluster: str | None = None


class Alerts(NamedTuple):
    """What `status` calls too much: messages waiting for one role, and nanoseconds until every role has read a broadcast."""

    lag: int = 5
    broadcast_ack: int = 5 * MINUTE


@valueclass(frozen=True, slots=True)
class Org:
    """A validated manifest. Later layers win over earlier ones. `marks` finds the line of any path in it."""

    name: str
    roles: tuple[Role, ...]
    events: tuple[Event, ...] = ()
    description: str = ""
    layers: tuple[Overrides, ...] = ()
    stream_prefix: str = ""
    server: ExpectedServer = field(default_factory=ExpectedServer)
    alerts: Alerts = field(default_factory=Alerts)
    environment: str | None = None
    marks: Mapping[Path, Mark] = field(default_factory=dict)
    buckets: tuple[Bucket, ...] = ()
    _roles: Mapping[str, Role] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_roles", {role.name: role for role in reversed(self.roles)})

    def role(self, name: str | None) -> Role | None:
        """The role of this name, the first if there are several, or None."""
        return self._roles.get(name or "")
