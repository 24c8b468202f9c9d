"""Propose names for an import: what streams and consumers of the built-in channels are called where that is not what they would be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from cyborg_infra.core.importing.describe import channel_pattern, reading_role, role_of_subject
from cyborg_infra.model.channels import (
    ROLE,
    UPPER_ROLE,
    Channel,
    Scope,
    common_template,
    name_for,
    role_in,
)
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.resources import LiveState, Resource
from cyborg_infra.model.subjects import covers, is_token


def propose_names(live: LiveState, org: Org) -> Org:
    """Return `org`, whose channels are the built-in ones, with the subject prefix and the names that `live` shows.

    A channel keeps the usual names where a stream has one of them. What stores several channels, or shows no pattern, is
    nobody's stream here.
    """
    org = replace(org, subject_prefix=_prefix(live, org))
    stored = _streams_by_channel(live, org)
    rows = {
        channel.name: _with_stream(channel, stored.get(channel.name, ()), org) for channel in org.channels
    }
    org = replace(org, channels=tuple(rows.values()))
    roles = sorted(set(_roles(live, stored, org)), key=len, reverse=True)
    read = (
        _with_reader(channel, list(_consumers(live, stored.get(channel.name, ()))), roles, org)
        for channel in org.channels
    )
    return replace(org, channels=tuple(read))


def _prefix(live: LiveState, org: Org) -> str | None:
    """Return what subjects of roles begin with, if that is not the organisation's name but has it as a token."""
    prefixes = set(_prefixes(live, org))
    if org.subject_prefix is not None or org.name in prefixes:
        return org.subject_prefix
    named = {prefix for prefix in prefixes if org.name in prefix.split(".")}
    return named.pop() if len(named) == 1 else None


def _prefixes(live: LiveState, org: Org) -> Iterator[str]:
    below = [
        each.subject.split(".")
        for each in org.channels
        if each.scope is Scope.ROLE and each.stream is not None
    ]
    of_streams = (subject for stream in live.streams() for subject in stream.get("subjects"))
    of_readers = (subject for consumer in live.consumers() for subject in consumer.filters)
    for tokens in (subject.split(".") for subject in (*of_streams, *of_readers)):
        for wanted in below:
            front, back = tokens[: -len(wanted)], tokens[-len(wanted) :]
            alike = all(place in (ROLE, token) for place, token in zip(wanted, back, strict=False))
            if front and alike and all(map(is_token, front)):
                yield ".".join(front)


def _streams_by_channel(live: LiveState, org: Org) -> Mapping[str, list[Resource]]:
    """Return the streams that store subjects of one channel, and nothing else but notices of the server."""
    patterns = [(each, channel_pattern(org, each)) for each in org.channels if each.stream]
    found: dict[str, list[Resource]] = {}
    for stream in live.streams():
        if stream.owner in (None, org.name):
            stored = {
                tuple(
                    channel.name
                    for channel, pattern in patterns
                    if covers(pattern, subject) or covers(subject, pattern)
                )
                for subject in stream.get("subjects")
                if not subject.startswith("$")
            }
            if len(stored) == 1 and len(names := stored.pop()) == 1:
                found.setdefault(names[0], []).append(stream)
    return found


def _with_stream(channel: Channel, streams: Sequence[Resource], org: Org) -> Channel:
    """Return the channel with the name that its streams have; the usual one where none or only some show another."""
    template = channel.stream
    names = [stream.ref.stream.removeprefix(org.stream_prefix) for stream in streams]
    if template is None or not names or any(role_in(template.name, name) is not None for name in names):
        return channel
    of_roles = [
        (role, name)
        for stream, name in zip(streams, names, strict=True)
        for role in dict.fromkeys(role_of_subject(each, channel, org) for each in stream.get("subjects"))
        if role
    ]
    made = common_template(of_roles) if of_roles else names[0] if len(names) == 1 else None
    return channel._replace(stream=template._replace(name=made)) if made else channel


def _consumers(live: LiveState, streams: Iterable[Resource]) -> Iterator[Resource]:
    for stream in streams:
        yield from live.consumers(stream.ref.stream)


def _roles(live: LiveState, stored: Mapping[str, Sequence[Resource]], org: Org) -> Iterator[str]:
    """Yield the roles that subjects and filters name, and what consumers under the usual names do."""
    for channel in org.channels:
        streams = stored.get(channel.name, ())
        consumers = list(_consumers(live, streams))
        subjects = [subject for stream in streams for subject in stream.get("subjects")]
        subjects += [subject for consumer in consumers for subject in consumer.filters]
        yield from filter(None, (role_of_subject(subject, channel, org) for subject in subjects))
        yield from filter(None, (reading_role(consumer, channel, org) for consumer in consumers))


def _with_reader(channel: Channel, consumers: Sequence[Resource], roles: Sequence[str], org: Org) -> Channel:
    """Return the channel with the name that its consumers have; the usual one where one of them has it, or none shows another."""
    template = channel.reader
    if template is None:
        return channel
    if channel.is_of_no_role:
        (name,) = {each.ref.consumer for each in consumers} if len(consumers) == 1 else {template.name}
        return channel._replace(reader=template._replace(name=name))
    pairs = [
        (role, consumer.ref.consumer)
        for consumer in consumers
        if (role := _reader_of(consumer, channel, roles, org))
    ]
    made = common_template(pairs)
    if made is None or any(name_for(template.name, role) == name for role, name in pairs):
        return channel
    return channel._replace(reader=template._replace(name=made))


def _reader_of(consumer: Resource, channel: Channel, roles: Sequence[str], org: Org) -> str | None:
    """Return the role that the consumer's filter or label names; else the longest role that is part of its name."""
    of_filter = (role_of_subject(subject, channel, org) for subject in consumer.filters)
    in_name = (
        role
        for role in roles
        if role in consumer.ref.consumer or name_for(UPPER_ROLE, role) in consumer.ref.consumer
    )
    return next(filter(None, (*of_filter, consumer.role, *in_name)), None)
