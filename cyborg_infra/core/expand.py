"""Org to desired State: every stream and consumer, every managed field written out. Knows no server but its API level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.core import namespace, rules
from cyborg_infra.core.settings import explicit, place
from cyborg_infra.model import buckets
from cyborg_infra.model.fields import FIELDS, NEWEST_LEVEL, Kind
from cyborg_infra.model.org import ADMISSION, Bucket, ConsumerKind, Member, Org, Role, StreamKind
from cyborg_infra.model.state import (
    APPLIED,
    BUCKETS,
    KIND,
    OWNER,
    RENAMED_FROM,
    ROLE,
    Ref,
    Resource,
    State,
)
from cyborg_infra.model.units import DAY, HOUR, MINUTE

MIB = 1024 * 1024

# What an organisation needs where the server's own default would not do.
# allow_direct is how the `nats` CLI creates streams.
STREAM_DEFAULTS: Mapping[StreamKind, Mapping[str, Any]] = {
    StreamKind.TASKS: {"max_age": 72 * HOUR, "max_bytes": 100 * MIB, "allow_direct": True},
    StreamKind.INBOXES: {"max_age": 168 * HOUR, "max_bytes": 500 * MIB, "allow_direct": True},
    StreamKind.BROADCASTS: {"max_age": 30 * DAY, "allow_direct": True},
    StreamKind.EVENTS: {"max_age": 168 * HOUR, "max_bytes": 500 * MIB, "allow_direct": True},
    StreamKind.DEAD_LETTERS: {"max_msgs": 10_000, "allow_direct": True},
    StreamKind.KEY_VALUE: buckets.DEFAULTS,
}
CONSUMER_DEFAULTS: Mapping[ConsumerKind, Mapping[str, Any]] = {
    ConsumerKind.WORKER: {
        "ack_policy": "explicit",
        "ack_wait": 30 * MINUTE,
        "max_deliver": 3,
        "max_ack_pending": 5,
    },
    ConsumerKind.INBOX_READER: {"ack_policy": "explicit", "ack_wait": 10 * MINUTE, "max_deliver": 3},
    ConsumerKind.BROADCAST_READER: {"ack_policy": "explicit", "ack_wait": 5 * MINUTE, "max_deliver": 3},
    ConsumerKind.EVENT_READER: {"ack_policy": "explicit", "ack_wait": 10 * MINUTE, "max_deliver": 3},
    ConsumerKind.DEAD_LETTER_ALERTS: {"ack_policy": "explicit", "ack_wait": 5 * MINUTE},
}

# What sealing a stream does to its other fields.
SEALED: Mapping[str, Any] = {
    "max_age": 0,
    "discard": "new",
    "deny_delete": True,
    "deny_purge": True,
    "allow_rollup_hdrs": False,
}
PINNED_CLIENT_TIMEOUT = 2 * MINUTE
PULL_ONLY = ("max_waiting", "max_batch", "max_expires", "max_bytes")

# From 2.15 (level 5) on, a stream with max_consumers -1 takes 1000 consumers and no more (400/10026).
CONSUMER_CAP = 1000
CONSUMER_CAP_LEVEL = 5


def expand(org: Org, level: int = NEWEST_LEVEL) -> State:
    """The streams and consumers that `org` wants on a server of this API level, ownership marks included.

    Every field that the level knows is written out, so that deleting a line from the manifest returns the
    field to its default. Raises ManifestInvalid if they cannot exist together (`core.rules`).
    """
    state = drafted(org, level)
    rules.check(org, state)
    return state


def drafted(org: Org, level: int = NEWEST_LEVEL) -> State:
    """The same, whether or not they can exist together."""
    consumers = list(_consumers(org, level))
    readers: dict[str, int] = {}
    for consumer in consumers:
        readers[consumer.ref.stream] = readers.get(consumer.ref.stream, 0) + 1
    streams = {stream.ref: stream for stream in _streams(org, level, readers)}
    placed = [_under_limits(consumer, streams[Ref(consumer.ref.stream)]) for consumer in consumers]
    return State({resource.ref: _signed(resource) for resource in [*streams.values(), *placed]})


def _streams(org: Org, level: int, readers: Mapping[str, int]) -> Iterator[Resource]:
    for role in org.roles:
        yield _stream(org, level, readers, StreamKind.TASKS, role)
    for kind in namespace.shared_streams(org):
        yield _stream(org, level, readers, kind)
    for bucket in org.buckets:
        yield _stream(org, level, readers, StreamKind.KEY_VALUE, bucket)


def _stream(
    org: Org, level: int, readers: Mapping[str, int], kind: StreamKind, member: Member | None = None
) -> Resource:
    name = namespace.stream_name(org, kind, member)
    built_in: dict[str, Any] = {
        field: value
        for field, value in STREAM_DEFAULTS[kind].items()
        if FIELDS[Kind.STREAM][field].since <= level
    }
    built_in["subjects"] = namespace.captured(org, kind, member)
    if kind is StreamKind.DEAD_LETTERS:
        built_in["subject_transform"] = namespace.dead_letter_transform(org)
    if isinstance(member, Bucket) and member.task_state:
        built_in |= buckets.TASK_STATE
    if level >= CONSUMER_CAP_LEVEL and readers.get(name, 0) > CONSUMER_CAP:
        # Room for up to a thousand more, so that a new role does not mean a change of the stream.
        built_in["max_consumers"] = (readers[name] // CONSUMER_CAP + 1) * CONSUMER_CAP
    settings = explicit(org, kind, member)
    settings.pop(ADMISSION, None)
    config = _filled(Kind.STREAM, level) | built_in | settings
    if config.get("mirror"):
        config |= {
            "subjects": settings.get("subjects", ()),
            "duplicate_window": settings.get("duplicate_window", 0),
        }
    elif config["max_age"] and "duplicate_window" not in settings:
        config["duplicate_window"] = min(config["duplicate_window"], config["max_age"])
    if config.get("sealed"):
        config |= SEALED  # as the server would
    if config.get("subject_delete_marker_ttl"):
        config |= {"allow_msg_ttl": True, "allow_rollup_hdrs": True}  # as the server would
    if config.get("allow_msg_schedules"):
        config["allow_rollup_hdrs"] = True  # as the server would
    return _marked(org, Ref(name), config, kind, member)


def _consumers(org: Org, level: int) -> Iterator[Resource]:
    events = namespace.durable_events_by_reader(org)
    for role in org.roles:
        yield _consumer(org, level, ConsumerKind.WORKER, role)
        yield _consumer(org, level, ConsumerKind.INBOX_READER, role)
        yield _consumer(org, level, ConsumerKind.BROADCAST_READER, role)
        if role.name in events:
            yield _consumer(org, level, ConsumerKind.EVENT_READER, role, events[role.name])
    yield _consumer(org, level, ConsumerKind.DEAD_LETTER_ALERTS)


def _consumer(
    org: Org, level: int, kind: ConsumerKind, role: Role | None = None, events: Sequence[str] = ()
) -> Resource:
    stream = namespace.stream_name(org, namespace.STREAM_OF[kind], role)
    settings = explicit(org, kind, role)
    config = {**_filled(Kind.CONSUMER, level), **CONSUMER_DEFAULTS[kind], **settings}
    if not settings.keys() & {"filter_subject", "filter_subjects"}:
        config |= _filter(namespace.delivered(org, kind, role, events))
    if config.get("backoff"):
        config["ack_wait"] = config["backoff"][0]  # as the server would
    if config.get("priority_policy") == "pinned_client" and not config.get("priority_timeout"):
        config["priority_timeout"] = PINNED_CLIENT_TIMEOUT  # as the server would
    if config.get("deliver_subject"):
        config = {name: value for name, value in config.items() if name not in PULL_ONLY or name in settings}
    name = namespace.consumer_name(kind, role)
    return _marked(org, Ref(stream, name), config, kind, role)


def _filled(kind: Kind, level: int) -> dict[str, Any]:
    """The server's own defaults, written out; a default that is an absence stays absent."""
    return {
        field.name: field.default
        for field in FIELDS[kind].values()
        if field.since <= level and field.default not in (None, "", ())
    }


def _filter(wanted: Sequence[str]) -> dict[str, Any]:
    """One subject and several go into different fields; both together are refused (10136)."""
    match wanted:
        case ():
            return {}
        case (one,):
            return {"filter_subject": one}
    return {"filter_subjects": wanted}


def _under_limits(consumer: Resource, stream: Resource) -> Resource:
    """The stream's consumer_limits are the default of what the consumer leaves open, as on the server."""
    config = dict(consumer.config)
    for name, limit in (stream.config.get("consumer_limits") or {}).items():
        default = FIELDS[Kind.CONSUMER][name].default
        if limit and config.get(name, default) == default:
            config[name] = limit
    return Resource(consumer.ref, config, consumer.origin)


def _marked(
    org: Org, ref: Ref, config: Mapping[str, Any], kind: StreamKind | ConsumerKind, member: Member | None
) -> Resource:
    labels = {OWNER: org.name, KIND: kind.value}
    if isinstance(member, Role):
        labels |= {ROLE: member.name} | ({RENAMED_FROM: member.renamed_from} if member.renamed_from else {})
    if kind is StreamKind.DEAD_LETTERS and org.buckets:
        labels[BUCKETS] = " ".join(sorted(bucket.name for bucket in org.buckets))
    identity = {"name": ref.name} | ({"durable_name": ref.name} if ref.consumer else {})
    metadata = {**(config.get("metadata") or {}), **labels}
    plain = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in config.items()
        if value != {}  # how a manifest says that there is none
    }
    return Resource(ref, {**identity, **plain, "metadata": metadata}, place(org, kind, member))


def _signed(resource: Resource) -> Resource:
    """With the digest of what it says: the next plan tells drift from pending by it."""
    metadata = {**resource.metadata, APPLIED: resource.digest()}
    return Resource(resource.ref, {**resource.config, "metadata": metadata}, resource.origin)
