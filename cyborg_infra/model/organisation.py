"""The organisation as its manifest says it: validated, in wire form, each value with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import Any

from cyborg_infra.model.channels import BUILT_IN, Channel, ConsumerKind, Scope, StreamKind
from cyborg_infra.model.notification_settings import NotificationOverrides, NotificationSettings
from cyborg_infra.model.problems import SourcePosition
from cyborg_infra.model.standing import AuthSettings
from cyborg_infra.model.units import MINUTE
from cyborg_infra.model.valueclass import NamedTuple, valueclass

ManifestPath = tuple[str | int, ...]
"""Where a value stands in the manifest: `("roles", "cto", "tasks", "max_age")`."""


FieldValues = Mapping[str, Any]
"""JetStream fields in wire form, only those that somebody set; and of tasks perhaps ADMISSION."""

_NONE: Mapping[Any, Any] = MappingProxyType({})

ADMISSION = "admission"
"""The one setting that is no JetStream field: `{"max_pending": 5}`, or {} for none. `core.desired.settings` says what it means."""


class Scaling(NamedTuple):
    """How many agents of a role run: with nothing to do, and at most."""

    min: int
    max: int


class Role(NamedTuple):
    """A position in the organisation. `renamed_from` is the name that it had before; empty if it has always had this one.

    `reports_to` is the role above it, empty for one at the head; `is_head` if the manifest says that it is one.
    `assigns` are the roles and groups that it gives tasks to besides those below it.
    """

    name: str
    description: str = ""
    renamed_from: str = ""
    mark: SourcePosition | None = None
    reports_to: str = ""
    is_head: bool = False
    assigns: tuple[str, ...] = ()
    scaling: Scaling | None = None


class Group(NamedTuple):
    """Roles that can be named together, wherever roles are named."""

    name: str
    members: tuple[str, ...]
    mark: SourcePosition | None = None


class Event(NamedTuple):
    """`<domain>.<event>`, the roles and groups that publish and read it; durable ones are stored in ORG_EVENTS."""

    name: str
    publishers: tuple[str, ...] = ()
    subscribers: tuple[str, ...] = ()
    durable: bool = False
    description: str = ""
    mark: SourcePosition | None = None


class IgnoredWarning(NamedTuple):
    """A warning that `validate` shall not give: its code, why, and the one role that is meant; None is all of them."""

    code: str
    reason: str
    role: str | None = None
    mark: SourcePosition | None = None


class Bucket(NamedTuple):
    """A key-value bucket, by the name that clients open it with; `task_state` if it keeps the task documents.

    Its users are roles and groups. Without any `readers` or `writers` all roles are; `watchers` are those that are named.
    """

    name: str
    task_state: bool = False
    mark: SourcePosition | None = None
    readers: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()
    watchers: tuple[str, ...] = ()


Member = Role | Bucket
"""What a kind of stream or consumer has one each of."""


class Threshold(NamedTuple):
    """What is too much where nobody says anything else: a number, or nanoseconds if it is a `duration`."""

    default: int
    duration: bool = False


LAG, BROADCAST_ACK = "lag", "broadcast_ack"
LETTERS, LETTERS_WITHIN = "dead_letters.count", "dead_letters.within"

THRESHOLDS: Mapping[str, Threshold] = {
    LAG: Threshold(5),  # messages that wait in one queue
    BROADCAST_ACK: Threshold(5 * MINUTE, duration=True),  # until a role has acknowledged a broadcast
    LETTERS: Threshold(1),  # dead letters of one role; 0 for any number
    LETTERS_WITHIN: Threshold(0, duration=True),  # only of those that are not older; 0 for however old
}
"""What `alerts` may set, by its path there. The schema says for which of it a queue may have its own."""

Thresholds = Mapping[tuple[str, str], Mapping[str, int]]
"""What one layer sets for a role and a queue; an empty name is all of them."""


class Alerts(NamedTuple):
    """What `status` calls too much. Later layers win; within one, a queue of a role, then a role, a queue, and all.

    What is `given` for this one look wins over all of them. A queue in `admitted` is full by declaration: there, what is said
    for all queues is not below that.
    """

    layers: tuple[Thresholds, ...] = ()
    given: Mapping[str, int] = _NONE
    # Of a role's queue: how much may wait in it.
    admitted: Mapping[tuple[str, str], int] = MappingProxyType({})

    def of(self, name: str, role: str = "", queue: str = "") -> int:
        """Return the threshold that holds for a queue of a role."""
        if (given := self.given.get(name)) is not None:
            return int(given)
        least = self.admitted.get((role, queue), 0) if name == LAG else 0
        for layer in reversed(self.layers):
            for scope in ((role, queue), (role, ""), ("", queue)):
                if (found := layer.get(scope, _NONE).get(name)) is not None:
                    return int(found)
            if (found := layer.get(("", ""), _NONE).get(name)) is not None:
                return max(int(found), least)
        return max(THRESHOLDS[name].default, least)


class Overrides(NamedTuple):
    """One layer of settings: the manifest's own, or an environment's. Within it defaults < kind < role."""

    defaults: FieldValues = _NONE  # stream fields for all: storage, num_replicas, placement
    streams: Mapping[StreamKind, FieldValues] = _NONE
    consumers: Mapping[ConsumerKind, FieldValues] = _NONE
    roles: Mapping[str, Mapping[StreamKind | ConsumerKind, FieldValues]] = _NONE
    ignored: tuple[IgnoredWarning, ...] = ()
    buckets: Mapping[str, FieldValues] = _NONE
    alerts: Thresholds = _NONE
    notifications: NotificationOverrides = _NONE


class ExpectedServer(NamedTuple):
    """Where this manifest may be applied; None means anywhere."""

    account: str | None = None
    cluster: str | None = None


@valueclass(frozen=True, slots=True)
class Org:
    """A validated manifest. Later layers win over earlier ones. `marks` finds the line of any path in it.

    It `has_chart` if it says of any role whom that reports to or assigns to. Without one everybody gives work to everybody.
    """

    name: str
    roles: tuple[Role, ...]
    events: tuple[Event, ...] = ()
    description: str = ""
    layers: tuple[Overrides, ...] = ()
    stream_prefix: str = ""
    server: ExpectedServer = field(default_factory=ExpectedServer)
    environment: str | None = None
    environment_required: bool = False  # nothing is planned without one
    marks: Mapping[ManifestPath, SourcePosition] = field(default_factory=dict)
    buckets: tuple[Bucket, ...] = ()
    groups: tuple[Group, ...] = ()
    channels: tuple[Channel, ...] = BUILT_IN
    auth: AuthSettings = AuthSettings()
    subject_prefix: str | None = None  # what all subjects begin with; None is the name, "" is nothing
    has_chart: bool = field(init=False, repr=False, compare=False)
    _roles: Mapping[str, Role] = field(init=False, repr=False, compare=False)
    _groups: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    _channels: Mapping[str, Channel] = field(init=False, repr=False, compare=False)
    _stored_by: Mapping[StreamKind, Channel] = field(init=False, repr=False, compare=False)
    _read_by: Mapping[ConsumerKind, Channel] = field(init=False, repr=False, compare=False)
    _begin: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        prefix = self.name if self.subject_prefix is None else self.subject_prefix
        found: Mapping[str, Any] = {
            "_roles": {role.name: role for role in reversed(self.roles)},
            "_groups": {group.name: group.members for group in self.groups},
            "_channels": {each.name: each for each in self.channels},
            "_stored_by": {each.stream.kind: each for each in self.channels if each.stream},
            "_read_by": {each.reader.kind: each for each in self.channels if each.reader},
            "_begin": f"{prefix}." if prefix else "",
        }
        for name, values in found.items():
            object.__setattr__(self, name, values)
        has_chart = any(role.reports_to or role.is_head or role.assigns for role in self.roles)
        object.__setattr__(self, "has_chart", has_chart)

    def __str__(self) -> str:
        named = f"{self.name} ({self.environment})" if self.environment else self.name
        return f"organisation {named}: {', '.join(role.name for role in self.roles)}"

    def members(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the roles that `names` of roles and groups stand for, each once."""
        return tuple(dict.fromkeys(role for name in names for role in self._groups.get(name, (name,))))

    @property
    def alerts(self) -> Alerts:
        """The thresholds of all layers."""
        return Alerts(tuple(layer.alerts for layer in self.layers))

    @property
    def notifications(self) -> NotificationSettings:
        """Who is told of alarms, and when, by all layers."""
        said = {name: value for layer in self.layers for name, value in layer.notifications.items()}
        return NotificationSettings(**said)

    def role(self, name: str | None) -> Role | None:
        """Return the role of this name, the first if there are several, or None."""
        return self._roles.get(name or "")

    def each_of(self, channel: Channel) -> Sequence[str]:
        """Return the roles, groups or events of which the channel has a subject each; one empty name if it has one subject."""
        match channel.scope:
            case Scope.ROLE:
                return [role.name for role in self.roles]
            case Scope.GROUP:
                return [group.name for group in self.groups]
            case Scope.EVENT:
                return [event.name for event in self.events]
            case Scope.ORG:
                return [""]

    def channel(self, name: str) -> Channel | None:
        """Return the channel of this name, or None if the organisation has none."""
        return self._channels.get(name)

    def channel_of(self, kind: StreamKind | ConsumerKind) -> Channel | None:
        """Return the channel that this kind of stream stores or this kind of consumer reads; None for what is no channel's."""
        return self._read_by.get(kind) if isinstance(kind, ConsumerKind) else self._stored_by.get(kind)

    def subject(self, below: str) -> str:
        """Return the subject that stands behind the organisation's prefix."""
        return self._begin + below

    def layers_by_path(self) -> Iterator[tuple[ManifestPath, Overrides]]:
        """Yield the manifest's own layer, then its environment's, each with the path where it stands."""
        paths: tuple[ManifestPath, ...] = ((), ("environments", self.environment or ""))
        yield from zip(paths, self.layers, strict=False)

    def layered_mark(self, *keys: str) -> SourcePosition | None:
        """Return where a setting stands that any layer may have: in the last of those that have it, which wins."""
        marks = [self.marks.get((*path, *keys)) for path, _ in self.layers_by_path()]
        return next((mark for mark in reversed(marks) if mark), None)
