"""Describe live resources as an organisation, for `import`: the naming scheme read backwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from cyborg_infra.core.desired import naming
from cyborg_infra.core.desired.expand import expand_unchecked
from cyborg_infra.model import channels
from cyborg_infra.model.buckets import (
    STREAM_PREFIX,
    TOOL_BUCKETS,
    WORD_OF,
    bucket_subject,
    is_bucket,
    task_state_bucket,
)
from cyborg_infra.model.channels import (
    MEMBER,
    UPPER_ROLE,
    Channel,
    ConsumerKind,
    StreamKind,
    kinds_for_one_role,
    name_for,
    role_in,
)
from cyborg_infra.model.channels import Scope as ChannelScope
from cyborg_infra.model.consumer_position import filter_patterns
from cyborg_infra.model.fields import FIELDS, Field, Kind, Unit
from cyborg_infra.model.metadata_keys import KIND_KEY, RENAMED_FROM_KEY
from cyborg_infra.model.organisation import (
    Bucket,
    Event,
    FieldValues,
    Group,
    Org,
    Overrides,
    Role,
)
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveState, Resource
from cyborg_infra.model.server_versions import NEWEST_LEVEL
from cyborg_infra.model.subjects import covers, is_name, is_token, overlap
from cyborg_infra.model.units import MAX_INT64

SettingScope = tuple[StreamKind | ConsumerKind, str | None]
"""Where a manifest sets fields: a kind, and the role or bucket if it is for one alone."""

# What expand makes of other settings: set only where those settings do not lead to it.
_DERIVED = frozenset(
    {
        "subjects",  # mirror
        "duplicate_window",  # max_age, mirror
        "discard",  # sealed
        "deny_delete",
        "deny_purge",
        "allow_rollup_hdrs",  # sealed, subject_delete_marker_ttl, allow_msg_schedules
        "allow_msg_ttl",  # subject_delete_marker_ttl
        "ack_wait",  # backoff
        "priority_timeout",  # priority_policy
        "max_ack_pending",  # the stream's consumer_limits
        "inactive_threshold",
    }
)
# Settings of every stream, `defaults` in the manifest.
_OF_ALL = ("storage", "num_replicas", "placement")
# What names subjects or streams is a role's own, even where all roles are alike.
_NAMED_FIELDS = ("subjects", "mirror", "sources", "filter_subject", "filter_subjects", "deliver_subject")
# How a manifest says that there is none.
_EMPTY_VALUES: Mapping[Unit, Callable[[], Any]] = {
    Unit.OBJECT: dict,
    Unit.OBJECTS: list,
    Unit.NAMES: list,
    Unit.DURATIONS: list,
    Unit.METADATA: dict,
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # no manifest holds these
_RESERVED = "cyborg-infra."


def describe_org(live: LiveState, org: Org) -> Org:
    """Return `org`, of which names and channels are known, with the roles, events and settings that `live` shows.

    It expands to what is there, as far as a manifest can say it. What belongs to another organisation is not
    looked at. Without a role there is nothing to describe.
    """
    found = _of_scheme(live, org)
    names = _roles(found, org)
    former = {role: name for name, role in _former_names(found, names).items()}
    org = replace(org, roles=tuple(Role(name, renamed_from=former.get(name, "")) for name in names))
    org = replace(org, groups=tuple(_groups(found, org)))
    org = replace(org, events=tuple(_events(found, org)), buckets=tuple(_buckets(found, org)))
    level = live.server_info.level if live.server_info else NEWEST_LEVEL
    settings: dict[SettingScope, dict[str, Any]] = {}
    for later in (_DERIVED, frozenset[str]()):
        draft = expand_unchecked(replace(org, layers=(_layer(settings),)), level)
        for ref, wanted in draft.resources.items():
            if ref in found.resources:
                own = settings.setdefault(_scope(wanted), {})
                own |= _differences(found.resources[ref], wanted, later)
    return replace(org, layers=(_shortest(settings, org),))


def has_scheme_name(stream: Resource, org: Org) -> bool:
    """Return whether the stream's name is one of the scheme's, whichever role it may be of; or it is the organisation's bucket.

    A bucket's name says of itself whose it is only where it begins with the organisation's.
    """
    if bucket := bucket_of(stream):
        return stream.owner == org.name or bucket.startswith((f"{org.name}-", f"{org.name}_"))
    return stored_channel(stream, org) is not None


def stored_channel(stream: Resource, org: Org) -> Channel | None:
    """Return the channel whose streams are named so, whichever role it may be of."""
    bare = stream.ref.stream.removeprefix(org.stream_prefix)
    if org.stream_prefix + bare != stream.ref.stream:
        return None
    named = (each for each in org.channels if each.stream and role_in(each.stream.name, bare) is not None)
    return next(named, None)


def bucket_of(stream: Resource) -> str | None:
    """Return the name of the bucket that clients see in this stream; None for a copy of one, and for the tool's own."""
    name = stream.ref.stream.removeprefix(STREAM_PREFIX)
    stored = list(stream.get("subjects"))
    found = name not in (stream.ref.stream, *TOOL_BUCKETS) and is_bucket(name)
    return name if found and stored == [bucket_subject(name)] else None


def _buckets(live_state: LiveState, org: Org) -> Iterator[Bucket]:
    for stream in live_state.streams():
        if name := bucket_of(stream):
            yield Bucket(name, task_state=name == task_state_bucket(org.name))


def belongs_to(stream: Resource, org: Org) -> bool:
    """Return whether the stream is the organisation's by its mark, or stores one of its subjects."""
    ours = (
        [own] if (own := org.subject(">")) != ">" else [channel_pattern(org, each) for each in org.channels]
    )
    return stream.owner == org.name or any(
        overlap(subject, each) for subject in stream.get("subjects") for each in ours
    )


def channel_pattern(org: Org, channel: Channel) -> str:
    """Return every subject that the channel may have, whichever roles and events there are."""
    return org.subject(channel.subject_of("*.>" if channel.scope is ChannelScope.EVENT else "*"))


def _of_scheme(live: LiveState, org: Org) -> LiveState:
    """Return the streams with names of the scheme and what reads them; nobody else's, and no other organisation's subjects."""
    streams = {
        stream.ref.stream
        for stream in live.streams()
        if has_scheme_name(stream, org)
        and stream.owner in (None, org.name)
        and (belongs_to(stream, org) or not stream.get("subjects") or bucket_of(stream))
    }
    return LiveState(
        {
            ref: found
            for ref, found in live.resources.items()
            if ref.stream in streams and found.owner in (None, org.name)
        },
        live.server_info,
    )


def _roles(live_state: LiveState, org: Org) -> list[str]:
    """Return names of the roles, the surest of each: a name in upper case has lost `-` and lower case."""
    named: dict[str, str] = {}
    shared = any(UPPER_ROLE in of.name for each in org.channels for of in (each.stream, each.reader) if of)
    for name in _named_roles(live_state, org):
        named.setdefault(name_for(UPPER_ROLE, name) if shared else name, name)
    return sorted(named.values())


def _named_roles(live_state: LiveState, org: Org) -> Iterator[str]:
    """Yield names of roles, the surest first: what streams of one role tell, then what consumers do."""
    consumers: list[tuple[Resource, Channel]] = []
    for stream in live_state.streams():
        channel = stored_channel(stream, org)
        if channel is None or channel.stream is None:
            continue
        readers = live_state.consumers(stream.ref.stream)
        if channel.stream.is_for_each_role:
            told = filter(None, _candidate_names(stream, readers, channel, org))
            for name in told:
                if naming.template_name(org, channel.stream, Role(name)) == stream.ref.stream:
                    yield name
                    break
        else:
            consumers += ((consumer, channel) for consumer in readers)
    yield from filter(None, (reading_role(consumer, channel, org) for consumer, channel in consumers))


def _candidate_names(
    stream: Resource, readers: Iterable[Resource], channel: Channel, org: Org
) -> Iterator[str | None]:
    """Yield names that the role of a stream may have, the surest first."""
    yield stream.role
    for subject in stream.get("subjects"):
        yield role_of_subject(subject, channel, org)
    for consumer in readers:
        yield reading_role(consumer, channel, org)
    if channel.stream and UPPER_ROLE not in channel.stream.name:
        yield role_in(channel.stream.name, stream.ref.stream.removeprefix(org.stream_prefix))


def reading_role(consumer: Resource, channel: Channel, org: Org) -> str | None:
    """Return the role whose consumer of the channel it is: its mark tells, or what it filters for, or its name. None for no role's."""
    if channel.reader is None or channel.is_of_no_role:
        return None
    template, name = channel.reader.name, consumer.ref.consumer
    filtered = [role_of_subject(subject, channel, org) for subject in consumer.filters]
    told = [consumer.role, *(filtered if any(filtered) else [role_in(template, name)])]
    return next((role for role in told if role and _is_role(role) and name_for(template, role) == name), None)


def role_of_subject(subject: str, channel: Channel, org: Org) -> str | None:
    """Return the role whose subject of the channel this is."""
    return _member_of_subject(subject, channel, org) if channel.scope is ChannelScope.ROLE else None


def _member_of_subject(subject: str, channel: Channel, org: Org) -> str | None:
    """Return the role or group whose subject of the channel this is."""
    member = MEMBER.get(channel.scope, "")
    wanted, tokens = org.subject(channel.subject).split("."), subject.split(".")
    if len(wanted) != len(tokens) or member not in wanted:
        return None
    own = tokens[wanted.index(member)]
    rest = all(place in (member, token) for place, token in zip(wanted, tokens, strict=True))
    return own if rest and _is_role(own) else None


def _groups(live_state: LiveState, org: Org) -> Iterator[Group]:
    """Yield the groups that streams have a subject of, and those that are known already; who reads one is a member."""
    found: dict[str, dict[str, None]] = {}
    for channel in org.channels:
        if channel.scope is not ChannelScope.GROUP or channel.stream is None:
            continue
        name = naming.template_name(org, channel.stream)
        for consumer in live_state.consumers(name):
            for subject in consumer.filters:
                group, role = _member_of_subject(subject, channel, org), reading_role(consumer, channel, org)
                if group and role:
                    found.setdefault(group, {})[role] = None
    known = {group.name: group for group in org.groups}
    yield from (replaced for replaced in known.values() if replaced.name not in found)
    yield from (Group(name, tuple(members)) for name, members in sorted(found.items()))


def _former_names(live_state: LiveState, names: Collection[str]) -> Mapping[str, str]:
    """Return the name that a role had before -> the role, as marked on what is its own; each name once, and none that is in use."""
    former = {
        found.metadata[RENAMED_FROM_KEY]: found.role
        for found in live_state.resources.values()
        if found.role in names and RENAMED_FROM_KEY in found.metadata
    }
    return {name: role for name, role in former.items() if role and _is_role(name) and name not in names}


def _is_role(name: str) -> bool:
    return is_token(name) and is_name(name) and name.isprintable()


def _events(live_state: LiveState, org: Org) -> Iterator[Event]:
    """Yield the durable events: those that their stream names, or that a reader of a wider subject in it filters for."""
    channel = org.channel(channels.EVENTS)
    name = naming.template_name(org, channel.stream) if channel and channel.stream else ""
    if channel is None or Ref(name) not in live_state.resources:
        return
    stored = live_state.resources[Ref(name)].get("subjects")
    filters = {
        role: filter_patterns(consumer)
        for consumer in live_state.consumers(name)
        if (role := reading_role(consumer, channel, org))
    }
    read = [subject for wanted in filters.values() for subject in wanted]
    inside = [subject for subject in read if any(covers(pattern, subject) for pattern in stored)]
    begin = naming.event_subject(org, "")
    for subject in sorted({*stored, *inside}):
        event = subject.removeprefix(begin)
        if event != subject and "." in event and all(map(_is_event_token, event.split("."))):
            readers = [
                role for role, wanted in filters.items() if any(covers(one, subject) for one in wanted)
            ]
            yield Event(event, subscribers=tuple(readers), durable=True)


def _is_event_token(token: str) -> bool:
    return is_token(token) and token.isprintable()


def _scope(resource: Resource) -> SettingScope:
    """Return the scope (kind and member) that a resource made by `expand` takes its settings from."""
    kind = resource.metadata[KIND_KEY]
    typed = StreamKind(kind) if resource.ref.kind is Kind.STREAM else ConsumerKind(kind)
    return typed, bucket_of(resource) if typed == StreamKind.KEY_VALUE else resource.role


def _differences(live: Resource, wanted: Resource, later: Iterable[str]) -> dict[str, Any]:
    """Return the settings that make `wanted` what `live` is, in wire form, without those in `later`."""
    held, meant = _sayable_settings(live), _sayable_settings(wanted)
    words: Container[str] = WORD_OF if bucket_of(wanted) else FIELDS[live.ref.kind]
    found = {}
    for name, field in FIELDS[live.ref.kind].items():
        value = held.get(name, field.default)
        if (
            value != meant.get(name, field.default)
            and name in words
            and name not in later
            and _is_sayable(value)
        ):
            found[name] = _plain(field, value)
    if found.keys() & {
        "filter_subject",
        "filter_subjects",
    }:  # one of them at most, which also lifts the other
        name = "filter_subjects" if held.get("filter_subjects") else "filter_subject"
        others = {key: value for key, value in found.items() if not key.startswith("filter_subject")}
        found = {**others, name: _plain(FIELDS[Kind.CONSUMER][name], held.get(name, ""))}
    return found


def _sayable_settings(resource: Resource) -> dict[str, Any]:
    """Return its canonical configuration, with the labels that a manifest can say."""
    found = dict(resource.normalised())
    labels = _labels(found.pop("metadata", None))
    return found | ({"metadata": labels} if labels else {})


def _labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {
        key: text
        for key, text in (labels or {}).items()
        if key and not key.startswith(_RESERVED) and _is_sayable([key, text])
    }


def _is_sayable(value: Any) -> bool:
    """Return whether a manifest can hold the value at all."""
    match value:
        case str():
            return not _CONTROL.search(value)
        case int():
            return abs(value) <= MAX_INT64
        case Mapping():
            return all(_is_sayable(item) for item in value.values())
        case list() | tuple():
            return all(_is_sayable(item) for item in value)
    return True


def _plain(field: Field, value: Any) -> Any:
    if not value and field.unit in _EMPTY_VALUES:
        return _EMPTY_VALUES[field.unit]()
    return list(value) if isinstance(value, tuple) else value


def _layer(settings: Mapping[SettingScope, FieldValues]) -> Overrides:
    """Return the settings as one layer of a manifest, each at the place of its scope."""
    roles: dict[str, dict[StreamKind | ConsumerKind, FieldValues]] = {}
    buckets: dict[str, FieldValues] = {}
    for (kind, member), fields in settings.items():
        if member is not None and fields and kind == StreamKind.KEY_VALUE:
            buckets[member] = fields
        elif member is not None and fields:
            roles.setdefault(member, {})[kind] = fields
    shared = {kind: fields for (kind, role), fields in settings.items() if role is None and fields}
    return Overrides(
        streams={kind: fields for kind, fields in shared.items() if isinstance(kind, StreamKind)},
        consumers={kind: fields for kind, fields in shared.items() if isinstance(kind, ConsumerKind)},
        roles=roles,
        buckets=buckets,
    )


def _shortest(settings: Mapping[SettingScope, FieldValues], org: Org) -> Overrides:
    """Return the settings written once where they are shared: by all streams under `defaults`, by all roles at their kind."""
    rest = {scope: dict(fields) for scope, fields in settings.items()}
    streams = [fields for (kind, _), fields in rest.items() if isinstance(kind, StreamKind)]
    defaults = _take_common(streams, lambda name: name in _OF_ALL)
    for kind in kinds_for_one_role(org.channels):
        of_roles = [fields for (own, _), fields in rest.items() if own == kind]
        if common := _take_common(of_roles, lambda name: name not in _NAMED_FIELDS):
            rest[kind, None] = common
    return _layer(rest)._replace(defaults=defaults)


def _take_common(alike: list[dict[str, Any]], wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Return the wanted settings that all have in common, taken out of each; labels one by one."""
    if not alike:
        return {}
    first, *others = alike
    common = {
        name: value
        for name, value in first.items()
        if wanted(name) and name != "metadata" and all(other.get(name) == value for other in others)
    }
    labels = {
        key: text
        for key, text in first.get("metadata", {}).items()
        if wanted("metadata") and all(other.get("metadata", {}).get(key) == text for other in others)
    }
    if labels:
        common["metadata"] = labels
    for fields in alike:
        for name in common.keys() - {"metadata"}:
            del fields[name]
        if kept := {key: text for key, text in fields.pop("metadata", {}).items() if key not in labels}:
            fields["metadata"] = kept
    return common
