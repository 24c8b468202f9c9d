"""The table of fields: one row per JetStream field, with what a change of it does.

Everything that has to know a field knows it from here: the schema, expand, diff, plan, the writer, the
reference in docs/. Values are in wire form throughout: JetStream's own names, durations in integer
nanoseconds, sizes in bytes. Sources: measured on nats-server 2.10.26 to 2.15.1, `tests/server/plan/test_fields.py`
tries every row on a real server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any

from cyborg_infra.model import units
from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.model.valueclass import NamedTuple

Config = Mapping[str, Any]
"""A stream's or consumer's configuration in wire form, as JSON gives it."""


class Kind(StrEnum):
    """What a resource is to JetStream."""

    STREAM = "stream"
    CONSUMER = "consumer"


class Unit(StrEnum):
    """What a field's value is, in the manifest and on the wire."""

    SIZE = "size"  # manifest: `100MB`; wire: bytes; -1 unlimited
    DURATION = "duration"  # manifest: `72h`; wire: integer nanoseconds
    DURATIONS = "list of durations"
    COUNT = "count"
    FLAG = "flag"
    TEXT = "text"
    CHOICE = "choice"
    SUBJECT = "subject"
    SUBJECTS = "set of subjects"  # order never matters
    NAMES = "list of names"
    TIME = "time"  # RFC 3339
    OBJECT = "object"
    OBJECTS = "list of objects"
    METADATA = "metadata"


MESSAGE_ID = "Nats-Msg-Id"
"""The header by which a stream knows a message for its duplicate_window."""

EXPECTED_LAST_SEQUENCE = "Nats-Expected-Last-Sequence"
"""The header by which a stream takes a message only right behind that one."""


class UpdateEffect(Enum):
    """What a server does when a field of a living stream or consumer is changed."""

    IN_PLACE = "updated in place"
    REFUSED = "refused by the server"
    IGNORED = "accepted by the server without effect"


UpdateRule = Callable[[Any, Any, Version], UpdateEffect]
"""(before, after, server version) -> UpdateEffect; both values normalised. Its docstring is the reference's text."""


def mutable(_before: object, _after: object, _version: Version) -> UpdateEffect:
    """Yes."""
    return UpdateEffect.IN_PLACE


def immutable(_before: object, _after: object, _version: Version) -> UpdateEffect:
    """No."""
    return UpdateEffect.REFUSED


def first_seq_rule(_before: object, after: object, _version: Version) -> UpdateEffect:
    """Only to 0, which asks for nothing; to any other number the server answers OK and nothing changes."""
    return UpdateEffect.IGNORED if after else UpdateEffect.IN_PLACE


def enable_only(_before: object, after: object, _version: Version) -> UpdateEffect:
    """Only from false to true."""
    return UpdateEffect.IN_PLACE if after else UpdateEffect.REFUSED


def msg_ttl_rule(before: object, after: object, version: Version) -> UpdateEffect:
    """Only from false to true, since 2.11.2."""
    return (
        enable_only(before, after, version)
        if version >= Capability.ENABLE_MSG_TTL_LATER.since
        else UpdateEffect.REFUSED
    )


def retention_rule(before: object, after: object, _version: Version) -> UpdateEffect:
    """Between limits and interest; never to or from workqueue."""
    return UpdateEffect.REFUSED if "workqueue" in (before, after) else UpdateEffect.IN_PLACE


def max_consumers_rule(_before: object, _after: object, version: Version) -> UpdateEffect:
    """Since 2.12.5."""
    return UpdateEffect.IN_PLACE if version >= Capability.UPDATE_MAX_CONSUMERS.since else UpdateEffect.REFUSED


def mem_storage_rule(_before: object, _after: object, version: Version) -> UpdateEffect:
    """No: refused since 2.14.4; before, the configuration changes, and at the next restart the position is lost."""
    return (
        UpdateEffect.REFUSED if version >= Capability.REFUSE_OTHER_MEM_STORAGE.since else UpdateEffect.IGNORED
    )


def mirror_rule(_before: object, after: object, version: Version) -> UpdateEffect:
    """Only removing it (promotion), since 2.12."""
    return (
        UpdateEffect.IN_PLACE
        if not after and version >= Capability.PROMOTE_MIRROR.since
        else UpdateEffect.REFUSED
    )


def deliver_subject_rule(before: object, after: object, _version: Version) -> UpdateEffect:
    """Another subject, yes, while nobody listens on the old one (10013); between pull and push, no."""
    return UpdateEffect.IN_PLACE if before and after else UpdateEffect.REFUSED


class Field(NamedTuple):
    """One JetStream field: what it is, what an absent one means, who may change it, since when."""

    kind: Kind
    name: str
    unit: Unit
    default: Any  # wire value that a server means when the field is absent; never shown as a difference
    update: UpdateRule
    since: int  # API level
    doc: str  # one sentence for the schema and the reference
    example: Any  # as the manifest writes it
    choices: Mapping[str, int] | None = None  # Unit.CHOICE: value -> API level that knows it
    parts: Mapping[str, Unit] | None = None  # Unit.OBJECT(S): name -> unit
    least: int | None = None  # Unit.COUNT: the smallest value that makes sense
    most: int | None = None


def _stream(
    name: str, unit: Unit, default: Any, update: UpdateRule, since: int, doc: str, example: Any, **more: Any
) -> Field:
    return Field(Kind.STREAM, name, unit, default, update, since, doc, example, **more)


def _consumer(
    name: str, unit: Unit, default: Any, update: UpdateRule, since: int, doc: str, example: Any, **more: Any
) -> Field:
    return Field(Kind.CONSUMER, name, unit, default, update, since, doc, example, **more)


_U = Unit
_TRANSFORM = {"src": _U.SUBJECT, "dest": _U.TEXT}
_ORIGIN = {
    "name": _U.TEXT,
    "opt_start_seq": _U.COUNT,
    "opt_start_time": _U.TIME,
    "filter_subject": _U.SUBJECT,
    "external": _U.OBJECT,
    "subject_transforms": _U.OBJECTS,
}

# fmt: off
STREAM_FIELDS: tuple[Field, ...] = (
    _stream("description", _U.TEXT, "", mutable, 0, "What the stream is for; at most 4096 bytes.", "Tasks of the CTO"),
    _stream("subjects", _U.SUBJECTS, (), mutable, 0, "The subjects that the stream stores.", ["genbrain.agents.cto.tasks"]),
    _stream("retention", _U.CHOICE, "limits", retention_rule, 0, "When messages go: at the limits, when every interested consumer has acknowledged, or when one worker has.", "limits", choices={"limits": 0, "interest": 0, "workqueue": 0}),
    _stream("max_consumers", _U.COUNT, -1, max_consumers_rule, 0, "Most consumers that the stream may have; -1 is the server's default (1000 since 2.15, unlimited before).", 2000, least=-1),
    _stream("max_msgs", _U.COUNT, -1, mutable, 0, "Most messages kept; -1 is unlimited. Lowering it deletes the oldest at once under discard old.", 10000, least=-1),
    _stream("max_bytes", _U.SIZE, -1, mutable, 0, "Most bytes kept, and reserved on the server; -1 is unlimited. Lowering it deletes the oldest at once under discard old.", "100MB"),
    _stream("max_age", _U.DURATION, 0, mutable, 0, "How long a message is kept; 0 is for ever. Lowering it deletes what is older at once.", "72h"),
    _stream("max_msgs_per_subject", _U.COUNT, -1, mutable, 0, "Most messages kept per subject; -1 is unlimited.", 100, least=-1),
    _stream("max_msg_size", _U.SIZE, -1, mutable, 0, "Largest message that is accepted; -1 is the server's own limit.", "1MB"),
    _stream("storage", _U.CHOICE, "file", immutable, 0, "Where messages are kept.", "file", choices={"file": 0, "memory": 0}),
    _stream("discard", _U.CHOICE, "old", mutable, 0, "At a limit, drop the oldest message or refuse the new one.", "old", choices={"old": 0, "new": 0}),
    _stream("discard_new_per_subject", _U.FLAG, False, mutable, 0, "Refuse new messages per subject; needs discard new and max_msgs_per_subject.", True),
    _stream("num_replicas", _U.COUNT, 1, mutable, 0, "Copies of the stream in the cluster; 3 survives the loss of one server.", 3, least=1, most=5),
    _stream("no_ack", _U.FLAG, False, mutable, 0, "Do not acknowledge publishes; a publisher cannot know that its message was stored.", False),
    _stream("duplicate_window", _U.DURATION, 120 * units.SECOND, mutable, 0, "How long a message id is remembered; at most max_age.", "2m"),
    _stream("placement", _U.OBJECT, None, mutable, 0, "The cluster and server tags where the stream lives; changing it moves the stream; {} is anywhere.", {"cluster": "eu-west", "tags": ["ssd"]}, parts={"cluster": _U.TEXT, "tags": _U.NAMES}),
    _stream("mirror", _U.OBJECT, None, mirror_rule, 0, "The stream that this one copies; it then has no subjects of its own.", {"name": "AGENT_CTO_TASKS"}, parts=_ORIGIN),
    _stream("sources", _U.OBJECTS, None, mutable, 0, "Streams whose messages are copied into this one.", [{"name": "AGENT_CTO_TASKS"}], parts=_ORIGIN),
    _stream("compression", _U.CHOICE, "none", mutable, 0, "Compression of files.", "s2", choices={"none": 0, "s2": 0}),
    _stream("first_seq", _U.COUNT, 0, first_seq_rule, 0, "The sequence number of the first message; only at creation.", 1000, least=0),
    _stream("subject_transform", _U.OBJECT, None, mutable, 0, "Stores a message under another subject than it came on; {} is none.", {"src": "orders.*", "dest": "stored.{{wildcard(1)}}"}, parts=_TRANSFORM),
    _stream("republish", _U.OBJECT, None, mutable, 0, "Publishes every stored message again on another subject.", {"src": ">", "dest": "copy.>"}, parts={**_TRANSFORM, "headers_only": _U.FLAG}),
    _stream("allow_direct", _U.FLAG, False, mutable, 0, "Every replica answers reads of single messages.", True),
    _stream("mirror_direct", _U.FLAG, False, mutable, 0, "A mirror answers reads for its origin.", False),
    _stream("sealed", _U.FLAG, False, enable_only, 0, "Closed for ever: nothing is added or deleted. Cannot be set at creation.", False),
    _stream("deny_delete", _U.FLAG, False, enable_only, 0, "Refuse deletion of single messages, for ever.", True),
    _stream("deny_purge", _U.FLAG, False, enable_only, 0, "Refuse purges, for ever.", True),
    _stream("allow_rollup_hdrs", _U.FLAG, False, mutable, 0, "Allow a message to replace all before it (Nats-Rollup).", False),
    _stream("consumer_limits", _U.OBJECT, None, mutable, 0, "Upper limits for the consumers of this stream, and their defaults.", {"max_ack_pending": 100}, parts={"inactive_threshold": _U.DURATION, "max_ack_pending": _U.COUNT}),
    _stream("allow_msg_ttl", _U.FLAG, False, msg_ttl_rule, 1, "Allow a time to live per message (Nats-TTL).", True),
    _stream("subject_delete_marker_ttl", _U.DURATION, 0, mutable, 1, "How long a marker stays after the last message of a subject expired; switches on allow_msg_ttl and allow_rollup_hdrs.", "1h"),
    _stream("allow_msg_counter", _U.FLAG, False, immutable, 2, "Messages are counters (Nats-Incr).", False),
    _stream("allow_atomic", _U.FLAG, False, mutable, 2, "Allow atomic batch publishing.", False),
    _stream("allow_msg_schedules", _U.FLAG, False, enable_only, 2, "Allow delayed messages (Nats-Schedule); switches on allow_rollup_hdrs.", True),
    _stream("persist_mode", _U.CHOICE, "default", immutable, 2, "async acknowledges before the disk has it; only file storage with one replica.", "default", choices={"default": 2, "async": 2}),
    _stream("allow_batched", _U.FLAG, False, mutable, 4, "Allow fast batch publishing.", False),
    _stream("metadata", _U.METADATA, None, mutable, 0, "Text labels of your own; keys of cyborg-infra and _nats are reserved.", {"team": "platform"}),
)

CONSUMER_FIELDS: tuple[Field, ...] = (
    _consumer("description", _U.TEXT, "", mutable, 0, "What the consumer is for; at most 4096 bytes.", "The CTO's worker"),
    _consumer("deliver_policy", _U.CHOICE, "all", immutable, 0, "Where delivery starts.", "all", choices={"all": 0, "last": 0, "new": 0, "by_start_sequence": 0, "by_start_time": 0, "last_per_subject": 0}),
    _consumer("opt_start_seq", _U.COUNT, 0, immutable, 0, "The first sequence number, with deliver_policy by_start_sequence.", 1000, least=0),
    _consumer("opt_start_time", _U.TIME, None, immutable, 0, "The earliest time, with deliver_policy by_start_time.", "2026-01-31T00:00:00Z"),
    _consumer("ack_policy", _U.CHOICE, "none", immutable, 0, "Which messages have to be acknowledged.", "explicit", choices={"none": 0, "all": 0, "explicit": 0}),
    _consumer("ack_wait", _U.DURATION, 30 * units.SECOND, mutable, 0, "How long a worker may hold a message before it is handed out again. Must exceed the longest work.", "30m"),
    _consumer("max_deliver", _U.COUNT, -1, mutable, 0, "How often a message is handed out before it becomes a dead letter; -1 is for ever.", 3, least=-1),
    _consumer("backoff", _U.DURATIONS, None, mutable, 0, "Waits before each redelivery, instead of ack_wait; at most max_deliver of them.", ["30m", "1h"]),
    _consumer("filter_subject", _U.SUBJECT, "", mutable, 0, "The one subject that is delivered.", "genbrain.agents.cto.tasks"),
    _consumer("filter_subjects", _U.SUBJECTS, (), mutable, 0, "The subjects that are delivered, where there are several.", ["genbrain.events.deploy.complete", "genbrain.events.ci.result"]),
    _consumer("replay_policy", _U.CHOICE, "instant", immutable, 0, "Deliver at once, or at the pace of publishing.", "instant", choices={"instant": 0, "original": 0}),
    _consumer("sample_freq", _U.TEXT, "", mutable, 0, "Share of acknowledgements that are sampled, in per cent.", "100"),
    _consumer("rate_limit_bps", _U.COUNT, 0, mutable, 0, "Most bits per second of a push consumer; 0 is unlimited.", 1000000, least=0),
    _consumer("max_ack_pending", _U.COUNT, 1000, mutable, 0, "Most messages being worked on at once over all workers.", 5, least=-1),
    _consumer("max_waiting", _U.COUNT, 512, immutable, 0, "Most pull requests that may wait.", 512, least=1),
    _consumer("headers_only", _U.FLAG, False, mutable, 0, "Deliver headers without the body.", False),
    _consumer("max_batch", _U.COUNT, 0, mutable, 0, "Most messages that one pull may ask for; 0 is unlimited. (natscli: --max-pull-batch)", 10, least=0),
    _consumer("max_expires", _U.DURATION, 0, mutable, 0, "Longest time that one pull may wait; 0 is unlimited. (natscli: --max-pull-expire)", "5m"),
    _consumer("max_bytes", _U.SIZE, 0, mutable, 0, "Most bytes that one pull may ask for; 0 is unlimited. (natscli: --max-pull-bytes)", "1MB"),
    _consumer("inactive_threshold", _U.DURATION, 0, mutable, 0, "The server deletes the consumer after this long without use; 0 is never.", "720h"),
    _consumer("num_replicas", _U.COUNT, 0, mutable, 0, "Copies of the consumer's state; 0 is as many as its stream has.", 3, least=0, most=5),
    _consumer("mem_storage", _U.FLAG, False, mem_storage_rule, 0, "Keep the consumer's state in memory.", False),
    _consumer("deliver_subject", _U.SUBJECT, "", deliver_subject_rule, 0, "Where a push consumer delivers; a pull consumer has none.", "genbrain.push.cto"),
    _consumer("deliver_group", _U.TEXT, "", mutable, 0, "Queue group of a push consumer.", "workers"),
    _consumer("flow_control", _U.FLAG, False, immutable, 0, "Flow control of a push consumer; needs idle_heartbeat.", False),
    _consumer("idle_heartbeat", _U.DURATION, 0, immutable, 0, "Heartbeat of a push consumer; 0 is none.", "15s"),
    _consumer("priority_groups", _U.NAMES, None, mutable, 1, "Names of the groups that pulls belong to.", ["primary"]),
    _consumer("priority_policy", _U.CHOICE, "none", mutable, 1, "How pulls of different priority are served.", "overflow", choices={"none": 1, "overflow": 1, "pinned_client": 1, "prioritized": 2}),
    _consumer("priority_timeout", _U.DURATION, 0, mutable, 1, "How long a pinned client may be silent (pinned_client: 2m if absent).", "2m"),
    _consumer("metadata", _U.METADATA, None, mutable, 0, "Text labels of your own; keys of cyborg-infra and _nats are reserved.", {"team": "platform"}),
)
# fmt: on

FIELDS: Mapping[Kind, Mapping[str, Field]] = {
    Kind.STREAM: {field.name: field for field in STREAM_FIELDS},
    Kind.CONSUMER: {field.name: field for field in CONSUMER_FIELDS},
}

_EMPTY: Mapping[Unit, Any] = {
    Unit.SUBJECTS: (),
    Unit.NAMES: (),
    Unit.DURATIONS: (),
    Unit.OBJECTS: (),
    Unit.OBJECT: MappingProxyType({}),
    Unit.METADATA: MappingProxyType({}),
    Unit.TIME: "",
}

UNMANAGED: Mapping[str, Any] = {"name": "", "durable_name": "", "pause_until": "", "sourcing": False}
"""What a configuration has besides, that no manifest sets; and what it is where it is absent."""

ABSENT: Mapping[Kind, Mapping[str, Any]] = {
    kind: {
        **UNMANAGED,
        **{
            row.name: _EMPTY.get(row.unit, row.default)
            for row in (*STREAM_FIELDS, *CONSUMER_FIELDS, *FIELDS[kind].values())
        },
    }
    for kind in Kind
}
"""What a setting is where a configuration does not have it, of the fields above and of those that no manifest sets."""


def since(field: Field, value: object) -> int:
    """Return the first API level that knows this field, and this value of it."""
    return max(field.since, (field.choices or {}).get(str(value), 0) if field.unit is Unit.CHOICE else 0)
