"""The channels of an organisation: one row for each way that messages go, which all its subjects, streams and consumers are made from.

A further channel is a further row: nothing else asks which ones there are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Final

from cyborg_infra.model.problems import SourcePosition
from cyborg_infra.model.units import DAY, HOUR, MINUTE
from cyborg_infra.model.valueclass import NamedTuple

_MIB_BYTES = 1024 * 1024


class StreamKind(str):
    """What a stream carries: the value of its label, and its key under `streams:`. The built-in ones are named here."""

    __slots__ = ()

    TASKS: ClassVar[StreamKind]
    INBOXES: ClassVar[StreamKind]
    BROADCASTS: ClassVar[StreamKind]
    EVENTS: ClassVar[StreamKind]
    DEAD_LETTERS: ClassVar[StreamKind]
    KEY_VALUE: ClassVar[StreamKind]
    """A bucket: as many as the manifest names under `key_value:`, and no channel."""


StreamKind.TASKS = StreamKind("tasks")
StreamKind.INBOXES = StreamKind("inboxes")
StreamKind.BROADCASTS = StreamKind("broadcasts")
StreamKind.EVENTS = StreamKind("events")
StreamKind.DEAD_LETTERS = StreamKind("dead_letters")
StreamKind.KEY_VALUE = StreamKind("key_value")


class ConsumerKind(str):
    """What a consumer does: the value of its label, and its key under `consumers:`. The built-in ones are named here."""

    __slots__ = ()

    WORKER: ClassVar[ConsumerKind]
    INBOX_READER: ClassVar[ConsumerKind]
    BROADCAST_READER: ClassVar[ConsumerKind]
    EVENT_READER: ClassVar[ConsumerKind]
    DEAD_LETTER_ALERTS: ClassVar[ConsumerKind]


ConsumerKind.WORKER = ConsumerKind("worker")
ConsumerKind.INBOX_READER = ConsumerKind("inbox_reader")
ConsumerKind.BROADCAST_READER = ConsumerKind("broadcast_reader")
ConsumerKind.EVENT_READER = ConsumerKind("event_reader")
ConsumerKind.DEAD_LETTER_ALERTS = ConsumerKind("dead_letter_alerts")


class Scope(StrEnum):
    """What there is one subject each of."""

    ROLE = "role"
    GROUP = "group"
    ORG = "org"
    EVENT = "event"


class Party(StrEnum):
    """Who publishes or reads, where that is not said by name."""

    ANYONE = "anyone"
    """Every role; of publishers, whoever else may."""
    SELF = "self"
    """The role whose subject it is; the members of the group whose it is; of an event, those that it names."""
    CHART = "chart"
    """Who gives work to the role, by the chart; without a chart every role."""
    SERVER = "server"
    OPERATOR = "operator"
    """Somebody who watches over all roles and is none."""


Parties = tuple[Party | str, ...]
"""Parties, and names of roles."""

ROLE, UPPER_ROLE = "{role}", "{ROLE}"
"""Stand in a template for a role's name as it is, and in upper case with _ for -."""

GROUP, _EVENT = "{group}", "{event}"

MEMBER: Mapping[Scope, str] = MappingProxyType({Scope.ROLE: ROLE, Scope.GROUP: GROUP, Scope.EVENT: _EVENT})
"""What stands in a channel's subject for that which it has one each of."""


class StreamTemplate(NamedTuple):
    """The streams of a channel: one for each role if ROLE or UPPER_ROLE is in the name, else one for all."""

    kind: StreamKind
    name: str  # what comes behind the organisation's stream_prefix
    defaults: Mapping[str, Any] = MappingProxyType({})  # in wire form, where the server's own would not do

    @property
    def is_for_each_role(self) -> bool:
        """Whether each role has a stream of its own."""
        return ROLE in self.name or UPPER_ROLE in self.name


class ConsumerTemplate(NamedTuple):
    """The consumers of a channel, one for each reader."""

    kind: ConsumerKind
    name: str
    defaults: Mapping[str, Any] = MappingProxyType({})


class Channel(NamedTuple):
    """One way that messages go. Without a stream it is ephemeral: who does not listen at that moment misses it.

    Of events, each says for itself whether it is durable; then it has a place in the stream.
    """

    name: str
    scope: Scope
    subject: str  # what comes behind the organisation's subject prefix; ROLE, GROUP or {event} for what there is one each of
    stream: StreamTemplate | None = None
    reader: ConsumerTemplate | None = None
    publishers: Parties = (Party.ANYONE,)
    readers: Parties = (Party.SELF,)
    meaning: str = ""
    label: str = ""  # what `show` and scripts call it, if that is not its name
    send_to: str = ""  # tokens for the wildcards of its subject, where the tool itself publishes
    mark: SourcePosition | None = None

    @property
    def is_own(self) -> bool:
        """Whether the manifest made it up."""
        return self.name not in BUILT_IN_NAMES

    @property
    def is_mail(self) -> bool:
        """Whether what it stores is sent to one role, and nobody else reads it."""
        return self.scope is Scope.ROLE and self.stream is not None and self.readers == (Party.SELF,)

    @property
    def is_of_no_role(self) -> bool:
        """Whether it has one consumer, which is no role's."""
        return self.readers == (Party.OPERATOR,)

    def subject_of(self, member: str = "") -> str:
        """Return its subject for one role, group or event, behind the organisation's prefix."""
        return self.subject.replace(MEMBER.get(self.scope, ROLE), member)

    def send_subject_of(self, member: str = "", instead: str = "") -> str:
        """Return where one message for a role is published, behind the organisation's prefix; `instead` for wildcards that `send_to` has nothing for.

        Empty if there is nothing for a wildcard.
        """
        left = self.send_to.split(".") if self.send_to else []
        said: list[str] = []
        for token in self.subject_of(member).split("."):
            if token == ">" and left:
                said += left
            elif token in ("*", ">"):
                said.append(left.pop(0) if left else instead)
            else:
                said.append(token)
        return ".".join(said) if all(said) else ""


def own_channel(name: str, scope: Scope, *, durable: bool) -> Channel:
    """Return a channel that the manifest makes up, as it is where nothing else is said of it."""
    own = ConsumerTemplate(
        ConsumerKind(f"{name}_reader"), f"{ROLE}-{name.replace('_', '-')}-reader", _OWN_READER
    )
    words = {
        Scope.ROLE: ("AGENT", f"agents.{ROLE}.{name}"),
        Scope.GROUP: ("GROUP", f"groups.{GROUP}.{name}"),
        Scope.ORG: ("ORG", f"org.{name}"),
    }
    begin, subject = words[scope]
    return Channel(
        name,
        scope,
        subject,
        StreamTemplate(StreamKind(name), f"{begin}_{name.upper()}", _OWN_STREAM) if durable else None,
        own if durable else None,
        readers=(Party.ANYONE if scope is Scope.ORG else Party.SELF,),
    )


_OWN_STREAM: Mapping[str, Any] = {"max_age": 168 * HOUR, "max_bytes": 500 * _MIB_BYTES, "allow_direct": True}
_OWN_READER: Mapping[str, Any] = {"ack_policy": "explicit", "ack_wait": 10 * MINUTE, "max_deliver": 3}

_NAME = r"[a-z][a-z0-9_]*"


def is_channel_name(name: str) -> bool:
    """Return whether a channel may have this name, which is part of subjects and names, and a key."""
    return bool(re.fullmatch(_NAME, name))


def is_kind(name: str, *, consumer: bool) -> bool:
    """Return whether some organisation has streams, or consumers, of this kind."""
    if consumer:
        own = name.endswith("_reader") and is_channel_name(name.removesuffix("_reader"))
        return own or name in consumer_kinds(KNOWN)
    return is_channel_name(name)


def name_for(template: str, role: str) -> str:
    """Return the name that a template makes for a role; two roles may meet in one."""
    if UPPER_ROLE in template:
        template = template.replace(UPPER_ROLE, role.upper().replace("-", "_"))
    return template.replace(ROLE, role)


def role_in(template: str, name: str) -> str | None:
    """Return what stands in a name for the role: in upper case where the template has it so, "" if it has none; None if it makes no such name."""
    for placeholder in (UPPER_ROLE, ROLE):
        begin, found, end = template.partition(placeholder)
        if found:
            inside = name[len(begin) : len(name) - len(end)]
            return inside if inside and name == begin + inside + end else None
    return "" if name == template else None


def common_template(names: Iterable[tuple[str, str]]) -> str | None:
    """Return the template that makes most of these (role, name) pairs; None if no name has its role in it.

    Of two that make as many, the one with the role in upper case, and further in front.
    """
    found = Counter[str]()
    for role, name in names:
        for text, placeholder in ((name_for(UPPER_ROLE, role), UPPER_ROLE), (role, ROLE)) if role else ():
            starts = (each.start() for each in re.finditer(f"(?={re.escape(text)})", name))
            found.update(f"{name[:start]}{placeholder}{name[start + len(text) :]}" for start in starts)
    return found.most_common(1)[0][0] if found else None


TASKS: Final = "tasks"
INBOX: Final = "inbox"
STATUS: Final = "status"
REQUESTS: Final = "requests"
BROADCASTS: Final = "broadcasts"
GROUP_BROADCASTS: Final = "group_broadcasts"
EVENTS: Final = "events"
DEAD_LETTERS: Final = "dead_letters"

DEAD_LETTERS_BELOW: Final = "org.deadletter"
"""Where agents publish what they give up, behind the organisation's prefix, unless its manifest says another subject."""

# allow_direct is how the `nats` CLI creates streams.
BUILT_IN: tuple[Channel, ...] = (
    Channel(
        TASKS,
        Scope.ROLE,
        "agents.{role}.tasks",
        StreamTemplate(
            StreamKind.TASKS,
            "AGENT_{ROLE}_TASKS",
            {"max_age": 72 * HOUR, "max_bytes": 100 * _MIB_BYTES, "allow_direct": True},
        ),
        ConsumerTemplate(
            ConsumerKind.WORKER,
            "{role}-worker",
            {"ack_policy": "explicit", "ack_wait": 30 * MINUTE, "max_deliver": 3, "max_ack_pending": 5},
        ),
        publishers=(Party.CHART,),
        meaning="task assignments: each is worked on once",
    ),
    Channel(
        INBOX,
        Scope.ROLE,
        "agents.{role}.inbox",
        StreamTemplate(
            StreamKind.INBOXES,
            "AGENT_INBOXES",
            {"max_age": 168 * HOUR, "max_bytes": 500 * _MIB_BYTES, "allow_direct": True},
        ),
        ConsumerTemplate(
            ConsumerKind.INBOX_READER,
            "{role}-inbox-reader",
            {"ack_policy": "explicit", "ack_wait": 10 * MINUTE, "max_deliver": 3},
        ),
        meaning="general messages",
    ),
    Channel(
        STATUS,
        Scope.ROLE,
        "agents.{role}.status",
        publishers=(Party.SELF,),
        readers=(Party.OPERATOR,),
        meaning="heartbeat and state",
    ),
    Channel(
        REQUESTS,
        Scope.ROLE,
        "agents.{role}.requests",
        meaning="request-reply: synchronous questions",
    ),
    Channel(
        BROADCASTS,
        Scope.ORG,
        "org.broadcasts",
        StreamTemplate(StreamKind.BROADCASTS, "ORG_BROADCASTS", {"max_age": 30 * DAY, "allow_direct": True}),
        ConsumerTemplate(
            ConsumerKind.BROADCAST_READER,
            "{role}-broadcast-reader",
            {"ack_policy": "explicit", "ack_wait": 5 * MINUTE, "max_deliver": 3},
        ),
        readers=(Party.ANYONE,),
        meaning="policy changes: every role reads all of them",
    ),
    Channel(
        EVENTS,
        Scope.EVENT,
        "events.{event}",
        StreamTemplate(
            StreamKind.EVENTS,
            "ORG_EVENTS",
            {"max_age": 168 * HOUR, "max_bytes": 500 * _MIB_BYTES, "allow_direct": True},
        ),
        ConsumerTemplate(
            ConsumerKind.EVENT_READER,
            "{role}-event-reader",
            {"ack_policy": "explicit", "ack_wait": 10 * MINUTE, "max_deliver": 3},
        ),
        publishers=(Party.SELF,),
    ),
    Channel(
        DEAD_LETTERS,
        Scope.ORG,
        DEAD_LETTERS_BELOW,
        StreamTemplate(StreamKind.DEAD_LETTERS, "DEAD_LETTERS", {"max_msgs": 10_000, "allow_direct": True}),
        ConsumerTemplate(
            ConsumerKind.DEAD_LETTER_ALERTS,
            "dead-letter-alerts",
            {"ack_policy": "explicit", "ack_wait": 5 * MINUTE},
        ),
        publishers=(Party.SERVER, Party.ANYONE),
        readers=(Party.OPERATOR,),
        meaning="what failed for good, for a person to look at",
        label="deadletter",
    ),
)
"""What every organisation has that says nothing else. Dead-letter notices are stored in this order of their streams."""

OPTIONAL: tuple[Channel, ...] = (
    Channel(
        GROUP_BROADCASTS,
        Scope.GROUP,
        "org.broadcasts.{group}",
        StreamTemplate(
            StreamKind("group_broadcasts"),
            "ORG_GROUP_BROADCASTS",
            {"max_age": 30 * DAY, "allow_direct": True},
        ),
        ConsumerTemplate(
            ConsumerKind("group_broadcast_reader"),
            "{role}-group-broadcast-reader",
            {"ack_policy": "explicit", "ack_wait": 5 * MINUTE, "max_deliver": 3},
        ),
        meaning="what every member of a group reads",
        label="broadcasts",
    ),
)
"""What an organisation has whose manifest names it under `channels:`."""

KNOWN = (*BUILT_IN, *OPTIONAL)

BUILT_IN_NAMES = frozenset(channel.name for channel in KNOWN)


def stream_kinds(channels: Sequence[Channel]) -> tuple[StreamKind, ...]:
    """Return the kinds of their streams: the keys of `streams:`."""
    return tuple(each.stream.kind for each in channels if each.stream)


def consumer_kinds(channels: Sequence[Channel]) -> tuple[ConsumerKind, ...]:
    """Return the kinds of their consumers: the keys of `consumers:`."""
    return tuple(each.reader.kind for each in channels if each.reader)


def queues(channels: Sequence[Channel]) -> Mapping[ConsumerKind, str]:
    """Return the queues of a role, by the kind of their consumer.

    Broadcasts are everyone's, and have a threshold of their own; nor are dead letters any role's.
    """
    return {
        each.reader.kind: each.name
        for each in channels
        if each.reader and each.stream and each.name not in (BROADCASTS, GROUP_BROADCASTS, DEAD_LETTERS)
    }


def kinds_for_one_role(channels: Sequence[Channel]) -> tuple[StreamKind | ConsumerKind, ...]:
    """Return what may be set for one role alone: `roles: {cto: {tasks: ..., worker: ...}}`; the streams first."""
    streams = [each.stream.kind for each in channels if each.stream and each.stream.is_for_each_role]
    readers = [
        each.reader.kind for each in channels if each.reader and each.stream and not each.is_of_no_role
    ]
    return (*streams, *readers)
