"""Expand an organisation into its desired streams and consumers, with every managed field written out, for one API level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cyborg_infra.core.desired import naming, rules
from cyborg_infra.core.desired.settings import explicit_settings, overridden_for_role, source_mark
from cyborg_infra.model import buckets
from cyborg_infra.model.channels import Channel, ConsumerKind, StreamKind, name_for
from cyborg_infra.model.fields import FIELDS, Kind
from cyborg_infra.model.metadata_keys import (
    APPLIED_KEY,
    BUCKETS_KEY,
    KIND_KEY,
    OWNER_KEY,
    OWNERSHIP_KEYS,
    RENAMED_FROM_KEY,
    RESOURCE_KEY,
    ROLE_KEY,
)
from cyborg_infra.model.normalise import normalise_config, normalise_fields
from cyborg_infra.model.organisation import ADMISSION, Bucket, Member, Org, Role
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import (
    NAMED_SUBJECTS,
    DesiredResource,
    DesiredState,
    canonical_json,
    digest_of,
    settings_digest,
)
from cyborg_infra.model.server_values import LIMITED_FIELDS
from cyborg_infra.model.server_versions import NEWEST_LEVEL
from cyborg_infra.model.units import MINUTE
from cyborg_infra.model.valueclass import NamedTuple

# What sealing a stream does to its other fields.
SEALED: Mapping[str, Any] = {
    "max_age": 0,
    "discard": "new",
    "deny_delete": True,
    "deny_purge": True,
    "allow_rollup_hdrs": False,
}
PINNED_CLIENT_TIMEOUT_NS = 2 * MINUTE
PULL_ONLY = ("max_waiting", "max_batch", "max_expires", "max_bytes")

# From 2.15 (level 5) on, a stream with max_consumers -1 takes 1000 consumers and no more (400/10026).
CONSUMER_CAP = 1000
CONSUMER_CAP_LEVEL = 5

# From 2.14 (level 4) on, a stream with sources has no duplicate_window unless it says so.
NO_WINDOW_LEVEL = 4


BY_LEVEL = frozenset(
    {"max_consumers", "duplicate_window"}
    | {field.name for fields in FIELDS.values() for field in fields.values() if field.since}
)
"""The fields of which an organisation wants more, or something else, of a newer server."""


def expand(org: Org, level: int = NEWEST_LEVEL) -> DesiredState:
    """Return the streams and consumers that `org` wants on a server of this API level, ownership marks included.

    Every field that the level knows is written out, so that deleting a line from the manifest returns the
    field to its default. Raises ManifestInvalid if they cannot exist together (`core.desired.rules`).
    """
    state = expand_unchecked(org, level)
    rules.check_state(org, state)
    return state


def expand_unchecked(org: Org, level: int = NEWEST_LEVEL) -> DesiredState:
    """Return the streams and consumers that `org` wants, whether or not they can exist together."""
    common = _TemplateCache(org, level)
    readers = list(_readers(org))
    count = Counter(reader.ref.stream for reader in readers)
    streams = {
        planned.ref: _stream(common, planned, count[planned.ref.stream]) for planned in _planned_streams(org)
    }
    limits = {
        ref.stream: found for ref, stream in streams.items() if (found := stream.get("consumer_limits"))
    }
    consumers = {reader.ref: _consumer(common, reader, limits.get(reader.ref.stream)) for reader in readers}
    return DesiredState(streams | consumers)


class _Planned(NamedTuple):
    """What there is a stream of; of a bucket there is no channel."""

    ref: Ref
    kind: StreamKind
    member: Member | None
    channel: Channel | None


def _planned_streams(org: Org) -> Iterator[_Planned]:
    for channel in naming.existing_channels(org):
        stream = channel.stream
        if stream:
            members = org.roles if stream.is_for_each_role else (None,)
            for role in members:
                yield _Planned(Ref(naming.template_name(org, stream, role)), stream.kind, role, channel)
    for bucket in org.buckets:
        yield _Planned(Ref(buckets.bucket_stream(bucket.name)), StreamKind.KEY_VALUE, bucket, None)


class _Reader(NamedTuple):
    """What there is a consumer of; `subjects` are what it filters for, all of its stream if there are none."""

    ref: Ref
    kind: ConsumerKind
    role: Role | None
    subjects: Sequence[str]


def _readers(org: Org) -> Iterator[_Reader]:
    for channel in naming.existing_channels(org):
        stream, reader = channel.stream, channel.reader
        if stream is None or reader is None:
            continue
        shared = "" if stream.is_for_each_role else naming.template_name(org, stream)
        for role, subjects in naming.readers(org, channel):
            ref = Ref(
                shared or naming.template_name(org, stream, role),
                name_for(reader.name, role.name if role else ""),
            )
            yield _Reader(ref, reader.kind, role, subjects)


class _Template:
    """What those have in common that are set alike: a configuration without what has the member's name in it, its canonical form, the labels with their marks, and what is left open."""

    def __init__(
        self,
        kind: Kind,
        label: StreamKind | ConsumerKind,
        config: dict[str, Any],
        canonical: dict[str, Any],
        labels: dict[str, str],
        left_open: frozenset[str],
    ) -> None:
        self.kind, self.config, self.labels, self.left_open = kind, config, labels, left_open
        self.digest = settings_digest(kind, label, canonical)
        self._canonical = canonical
        self._latest: tuple[dict[str, Any], dict[str, Any], str] = ({}, canonical, digest_of(canonical))

    def canonical(self, own: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Return the canonical form with these fields besides, and its digest. All who read the same of one stream have the same."""
        latest, form, digest = self._latest
        if own != latest:
            form = self._canonical | normalise_fields(self.kind, own)
            digest = digest_of(form)
            self._latest = own, form, digest
        return form, digest


class _TemplateCache:
    """What the streams and consumers of an organisation are set to. What roles have in common is worked out once."""

    def __init__(self, org: Org, level: int) -> None:
        self.org = org
        self.level = level
        self._alone = overridden_for_role(org)
        self._found: dict[tuple[StreamKind | ConsumerKind, bytes], _Template] = {}

    def settings_of(self, kind: StreamKind | ConsumerKind, member: Member | None) -> _Template:
        """Return the settings of one member, or of the one stream or consumer of this kind."""
        if isinstance(member, Bucket):
            return self._settings(kind, member)
        alone = member if member and (kind, member.name) in self._alone else None
        own = b""
        if alone:
            own = canonical_json([layer.roles.get(alone.name, {}).get(kind) for layer in self.org.layers])
        found = self._found.get((kind, own))
        if found is None:
            found = self._found[kind, own] = self._settings(kind, alone)
        return found

    def _settings(self, kind: StreamKind | ConsumerKind, member: Member | None) -> _Template:
        settings = explicit_settings(self.org, kind, member)
        if isinstance(kind, ConsumerKind):
            found = _consumer_config(self.org, kind, settings, self.level)
        else:
            found = _stream_config(self.org, kind, settings, member, self.level)
        which = Kind.CONSUMER if isinstance(kind, ConsumerKind) else Kind.STREAM
        said = normalise_config(which, found)
        config: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value != {}  # how a manifest says that there is none
            and (
                name in said or FIELDS[which][name].since <= self.level
            )  # what says nothing, no server has to know
        }
        return _Template(
            which,
            kind,
            dict.fromkeys(("name", "durable_name") if which is Kind.CONSUMER else ("name",), "") | config,
            said,
            {**config.get("metadata", {}), OWNER_KEY: self.org.name, KIND_KEY: str(kind)},
            _left_open(kind, {*settings, *_defaults(self.org, kind)}, config),
        )


def _stream(common: _TemplateCache, planned: _Planned, readers: int) -> DesiredResource:
    org, (ref, kind, member, channel) = common.org, planned
    settings = common.settings_of(kind, member)
    own: dict[str, Any] = {}
    given = settings.config
    if "subjects" not in given:
        if isinstance(member, Bucket):
            own["subjects"] = [buckets.bucket_subject(member.name)]
        elif channel:
            own["subjects"] = naming.stream_subjects(org, channel, member)
    elif not given["subjects"] and not given.get("mirror") and not given.get("sources"):
        own["subjects"] = [ref.name]  # as the server would
    if wanted := given.get("republish"):
        own["republish"] = _republish(wanted, given, own.get("subjects") or given["subjects"])
    crowded = common.level >= CONSUMER_CAP_LEVEL and readers > CONSUMER_CAP
    if crowded and "max_consumers" not in explicit_settings(org, kind, member):
        # Room for up to a thousand more, so that a new role does not mean a change of the stream.
        own["max_consumers"] = (readers // CONSUMER_CAP + 1) * CONSUMER_CAP
    noted = {}
    if kind == StreamKind.DEAD_LETTERS and org.buckets:
        noted[BUCKETS_KEY] = " ".join(sorted(bucket.name for bucket in org.buckets))
    return _resource(org, ref, settings, own, kind, member, noted)


def _consumer(common: _TemplateCache, reader: _Reader, limits: Mapping[str, Any] | None) -> DesiredResource:
    """Return the desired consumer; `limits` are its stream's `consumer_limits`."""
    ref, kind, role, subjects = reader
    settings = common.settings_of(kind, role)
    given = settings.config
    own = {} if "filter_subject" in given or "filter_subjects" in given else _filter(subjects)
    if limits:
        said = explicit_settings(common.org, kind, role)
        for name, limit in limits.items():
            # The stream's limit is the default of what the consumer leaves open, as on the server.
            default = FIELDS[Kind.CONSUMER][name].default
            if limit and not said.get(name) and given.get(name, default) in (default, 0):
                own[name] = limit
    return _resource(common.org, ref, settings, own, kind, role)


def _resource(
    org: Org,
    ref: Ref,
    settings: _Template,
    own: dict[str, Any],
    kind: StreamKind | ConsumerKind,
    member: Member | None,
    noted: Mapping[str, str] = MappingProxyType({}),
) -> DesiredResource:
    """Return the resource with its ownership keys and digest, by which the next plan tells drift from a change of the manifest."""
    labels = settings.labels.copy()
    if isinstance(member, Role):
        labels[ROLE_KEY] = member.name
        if member.renamed_from:
            noted = {RENAMED_FROM_KEY: member.renamed_from}
    canonical, digest = settings.canonical(own)
    if noted:
        labels |= noted
        said = {key: text for key, text in sorted(labels.items()) if key not in OWNERSHIP_KEYS}
        canonical = canonical | {"metadata": said}
        digest = digest_of(canonical)
    labels[APPLIED_KEY] = digest
    labels[RESOURCE_KEY] = str(ref)
    stream, consumer = ref
    config = settings.config | own
    config["name"] = consumer or stream
    if consumer:
        config["durable_name"] = consumer
    config["metadata"] = labels
    alike = own.keys() <= NAMED_SUBJECTS
    return DesiredResource.from_normalised(
        ref,
        config,
        source_mark(org, kind, member),
        canonical,
        settings.left_open if alike else settings.left_open.difference(own),
        settings.digest if alike and not noted else None,
    )


def _left_open(
    kind: StreamKind | ConsumerKind, said: Collection[str], config: Mapping[str, Any]
) -> frozenset[str]:
    """Return the fields that a server's own limits may decide: those that nobody has set, or has set to 0, which is the same on the wire."""
    which = Kind.CONSUMER if isinstance(kind, ConsumerKind) else Kind.STREAM
    return frozenset(
        name for name in LIMITED_FIELDS[which] if not (name in said and config.get(name)) and name in config
    )


def _stream_config(
    org: Org, kind: StreamKind, settings: dict[str, Any], member: Member | None, level: int
) -> dict[str, Any]:
    """Return everything but the subjects, unless they are set."""
    settings.pop(ADMISSION, None)
    built_in: dict[str, Any] = {
        field: value
        for field, value in _defaults(org, kind).items()
        if FIELDS[Kind.STREAM][field].since <= level
    }
    if kind == StreamKind.DEAD_LETTERS:
        built_in["subject_transform"] = naming.dead_letter_transform(org)
    if isinstance(member, Bucket) and member.task_state:
        built_in |= buckets.TASK_STATE
    config = _server_defaults(Kind.STREAM, level) | built_in | settings
    config["duplicate_window"] = _window(config, settings, level)
    if config.get("mirror"):
        config["subjects"] = settings.get("subjects", ())
    if config.get("sealed"):
        config |= SEALED  # as the server would
    if config.get("subject_delete_marker_ttl"):
        config |= {"allow_msg_ttl": True, "allow_rollup_hdrs": True}  # as the server would
    if config.get("allow_msg_schedules"):
        config["allow_rollup_hdrs"] = True  # as the server would
    if not (config.get("republish") or {}).get("dest"):
        config.pop("republish", None)  # it leads nowhere; an update would make > of it
    return config


def _defaults(org: Org, kind: StreamKind | ConsumerKind) -> Mapping[str, Any]:
    """Return what an organisation needs where the server's own default would not do."""
    if kind == StreamKind.KEY_VALUE:
        return buckets.DEFAULTS
    channel = org.channel_of(kind)
    of = channel and (channel.reader if isinstance(kind, ConsumerKind) else channel.stream)
    if not of:
        raise ValueError(f"the organisation has no {kind}")
    return of.defaults


def _window(config: Mapping[str, Any], settings: Mapping[str, Any], level: int) -> int:
    """Return the duplicate_window that the server would make of these settings.

    It forgets a mirror's at its next start, a cluster at once.
    """
    usual: int = FIELDS[Kind.STREAM]["duplicate_window"].default
    given: int | None = settings.get("duplicate_window")
    if config.get("mirror"):
        return 0
    if given or (given == 0 and config.get("sources") and level >= NO_WINDOW_LEVEL):
        return given
    if 0 < config["max_age"] < usual:
        return int(config["max_age"])
    return 0 if given == 0 and not config.get("sources") else usual


def _republish(
    wanted: Mapping[str, Any], config: Mapping[str, Any], subjects: Sequence[str]
) -> dict[str, Any]:
    """Return `republish` as the server would write it: a missing `src` becomes `>`.

    From all to all, where everything is stored under one other subject, means that subject: 2.11.11, and 2.12.2 and later,
    write it so themselves; to others all to all would be a circle (10052).
    """
    src, dest = wanted.get("src") or ">", wanted["dest"]
    way = config.get("subject_transform") or {}
    if (src, dest) == (">", ">") and way.get("dest") and list(subjects) == [way.get("src")]:
        src = dest = way["dest"]
    return {**wanted, "src": src, "dest": dest}


def _consumer_config(org: Org, kind: ConsumerKind, settings: dict[str, Any], level: int) -> dict[str, Any]:
    """Return everything but the filter, unless it is set."""
    config = {**_server_defaults(Kind.CONSUMER, level), **_defaults(org, kind), **settings}
    if config.get("backoff"):
        config["ack_wait"] = config["backoff"][0]  # as the server would
    if config.get("priority_policy") == "pinned_client" and not config.get("priority_timeout"):
        config["priority_timeout"] = PINNED_CLIENT_TIMEOUT_NS  # as the server would
    if config.get("deliver_subject"):
        config = {
            name: value
            for name, value in config.items()
            if name not in PULL_ONLY or value != FIELDS[Kind.CONSUMER][name].default
        }
        if (
            config["ack_policy"] == "none"
            and config["max_ack_pending"] == FIELDS[Kind.CONSUMER]["max_ack_pending"].default
        ):
            del config["max_ack_pending"]  # nothing is pending (10082)
    return config


def _server_defaults(kind: Kind, level: int) -> dict[str, Any]:
    """Return the server's own defaults, written out; a default that is an absence stays absent."""
    return {
        field.name: field.default
        for field in FIELDS[kind].values()
        if field.since <= level and field.default not in (None, "", ())
    }


def _filter(wanted: Sequence[str]) -> dict[str, Any]:
    """Return the filter field: one subject and several go into different fields; both together are refused (10136)."""
    match wanted:
        case ():
            return {}
        case (one,):
            return {"filter_subject": one}
    return {"filter_subjects": list(wanted)}
