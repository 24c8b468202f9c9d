"""Org to desired State: every stream and consumer, every managed field written out. Knows no server but its API level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cyborg_infra.core import namespace, rules
from cyborg_infra.core.settings import explicit, place, set_alone
from cyborg_infra.model import buckets
from cyborg_infra.model.canonical import canonical, each_normal
from cyborg_infra.model.fields import FIELDS, NEWEST_LEVEL, Kind
from cyborg_infra.model.org import ADMISSION, Bucket, ConsumerKind, Member, Org, Role, StreamKind
from cyborg_infra.model.state import (
    APPLIED,
    BUCKETS,
    KIND,
    MARKS,
    OWNER,
    RENAMED_FROM,
    ROLE,
    Ref,
    Resource,
    State,
    digest_of,
    encoded,
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
    common = _Common(org, level)
    readers = list(_readers(org))
    count = Counter(reader.ref.stream for reader in readers)
    streams = {
        stream.ref: stream
        for kind, member in _stored(org)
        for stream in (_stream(common, kind, member, count),)
    }
    limits = {
        ref.stream: found
        for ref, stream in streams.items()
        if (found := stream.config.get("consumer_limits"))
    }
    consumers = {
        reader.ref: _consumer(common, reader, limits.get(reader.ref.stream, {})) for reader in readers
    }
    return State(streams | consumers)


def _stored(org: Org) -> Iterator[tuple[StreamKind, Member | None]]:
    """What there is a stream of."""
    yield from ((StreamKind.TASKS, role) for role in org.roles)
    yield from ((kind, None) for kind in namespace.shared_streams(org))
    yield from ((StreamKind.KEY_VALUE, bucket) for bucket in org.buckets)


class _Reader(NamedTuple):
    """What there is a consumer of; `events` are those that an event reader is for."""

    ref: Ref
    kind: ConsumerKind
    role: Role | None
    events: Sequence[str] = ()


def _readers(org: Org) -> Iterator[_Reader]:
    events = namespace.durable_events_by_reader(org)
    tasks, others = ConsumerKind.WORKER, (ConsumerKind.INBOX_READER, ConsumerKind.BROADCAST_READER)
    shared = {
        kind: namespace.stream_name(org, namespace.STREAM_OF[kind])
        for kind in ConsumerKind
        if kind is not tasks
    }
    for role in org.roles:
        yield _Reader(
            Ref(namespace.stream_name(org, StreamKind.TASKS, role), namespace.consumer_name(tasks, role)),
            tasks,
            role,
        )
        for kind in others:
            yield _Reader(Ref(shared[kind], namespace.consumer_name(kind, role)), kind, role)
        if role.name in events:
            kind = ConsumerKind.EVENT_READER
            yield _Reader(
                Ref(shared[kind], namespace.consumer_name(kind, role)), kind, role, events[role.name]
            )
    kind = ConsumerKind.DEAD_LETTER_ALERTS
    yield _Reader(Ref(shared[kind], namespace.consumer_name(kind)), kind, None)


class _Settings(NamedTuple):
    """A configuration without what has the member's name in it, its canonical form, and the labels with their marks."""

    config: dict[str, Any]
    canonical: dict[str, Any]
    labels: dict[str, str]


class _Common:
    """What the streams and consumers of an organisation are set to. What roles have in common is worked out once."""

    def __init__(self, org: Org, level: int) -> None:
        self.org = org
        self.level = level
        self._alone = set_alone(org)
        self._found: dict[tuple[StreamKind | ConsumerKind, bytes], _Settings] = {}

    def of(self, kind: StreamKind | ConsumerKind, member: Member | None) -> _Settings:
        """The settings of one member, or of the one stream or consumer of this kind."""
        if isinstance(member, Bucket):
            return self._settings(kind, member)
        alone = member if member and (kind, member.name) in self._alone else None
        key = (
            kind,
            encoded([layer.roles.get(alone.name, {}).get(kind) for layer in self.org.layers])
            if alone
            else b"",
        )
        if key not in self._found:
            self._found[key] = self._settings(kind, alone)
        return self._found[key]

    def _settings(self, kind: StreamKind | ConsumerKind, member: Member | None) -> _Settings:
        settings = explicit(self.org, kind, member)
        if isinstance(kind, ConsumerKind):
            found = _consumer_config(kind, settings, self.level)
        else:
            found = _stream_config(self.org, kind, settings, member, self.level)
        config: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value != {}  # how a manifest says that there is none
        }
        consumer = isinstance(kind, ConsumerKind)
        return _Settings(
            dict.fromkeys(("name", "durable_name") if consumer else ("name",), "") | config,
            canonical(Kind.CONSUMER if consumer else Kind.STREAM, config),
            {**config.get("metadata", {}), OWNER: self.org.name, KIND: kind.value},
        )


def _stream(common: _Common, kind: StreamKind, member: Member | None, readers: Mapping[str, int]) -> Resource:
    org, settings = common.org, common.of(kind, member)
    ref = Ref(namespace.stream_name(org, kind, member))
    own: dict[str, Any] = {}
    if "subjects" not in settings.config:
        own["subjects"] = namespace.captured(org, kind, member)
    crowded = common.level >= CONSUMER_CAP_LEVEL and readers[ref.stream] > CONSUMER_CAP
    if crowded and "max_consumers" not in explicit(org, kind, member):
        # Room for up to a thousand more, so that a new role does not mean a change of the stream.
        own["max_consumers"] = (readers[ref.stream] // CONSUMER_CAP + 1) * CONSUMER_CAP
    return _resource(org, ref, settings, own, kind, member)


def _consumer(common: _Common, reader: _Reader, limits: Mapping[str, Any]) -> Resource:
    """`limits` are its stream's `consumer_limits`."""
    ref, kind, role, events = reader
    settings = common.of(kind, role)
    own: dict[str, Any] = {}
    if "filter_subject" not in settings.config and "filter_subjects" not in settings.config:
        own = _filter(namespace.delivered(common.org, kind, role, events))
    for name, limit in limits.items():
        # The stream's limit is the default of what the consumer leaves open, as on the server.
        default = FIELDS[Kind.CONSUMER][name].default
        if limit and settings.config.get(name, default) == default:
            own[name] = limit
    return _resource(common.org, ref, settings, own, kind, role)


def _resource(
    org: Org,
    ref: Ref,
    settings: _Settings,
    own: dict[str, Any],
    kind: StreamKind | ConsumerKind,
    member: Member | None,
) -> Resource:
    """With its marks, the digest of what it says among them: the next plan tells drift from pending by it."""
    labels = settings.labels.copy()
    more: dict[str, str] = {}
    if isinstance(member, Role):
        labels[ROLE] = member.name
        if member.renamed_from:
            more[RENAMED_FROM] = member.renamed_from
    if kind is StreamKind.DEAD_LETTERS and org.buckets:
        more[BUCKETS] = " ".join(sorted(bucket.name for bucket in org.buckets))
    meaning = settings.canonical | each_normal(ref.kind, own)
    if more:
        labels |= more
        meaning["metadata"] = {key: text for key, text in sorted(labels.items()) if key not in MARKS}
    labels[APPLIED] = digest_of(meaning)
    config = settings.config | own
    config["name"] = ref.name
    if ref.consumer:
        config["durable_name"] = ref.name
    config["metadata"] = labels
    return Resource.with_canonical(ref, config, place(org, kind, member), meaning)


def _stream_config(
    org: Org, kind: StreamKind, settings: dict[str, Any], member: Member | None, level: int
) -> dict[str, Any]:
    """Everything but the subjects, unless they are set."""
    settings.pop(ADMISSION, None)
    built_in: dict[str, Any] = {
        field: value
        for field, value in STREAM_DEFAULTS[kind].items()
        if FIELDS[Kind.STREAM][field].since <= level
    }
    if kind is StreamKind.DEAD_LETTERS:
        built_in["subject_transform"] = namespace.dead_letter_transform(org)
    if isinstance(member, Bucket) and member.task_state:
        built_in |= buckets.TASK_STATE
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
    return config


def _consumer_config(kind: ConsumerKind, settings: dict[str, Any], level: int) -> dict[str, Any]:
    """Everything but the filter, unless it is set."""
    config = {**_filled(Kind.CONSUMER, level), **CONSUMER_DEFAULTS[kind], **settings}
    if config.get("backoff"):
        config["ack_wait"] = config["backoff"][0]  # as the server would
    if config.get("priority_policy") == "pinned_client" and not config.get("priority_timeout"):
        config["priority_timeout"] = PINNED_CLIENT_TIMEOUT  # as the server would
    if config.get("deliver_subject"):
        config = {name: value for name, value in config.items() if name not in PULL_ONLY or name in settings}
    return config


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
    return {"filter_subjects": list(wanted)}
