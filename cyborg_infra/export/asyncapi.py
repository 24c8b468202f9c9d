"""An AsyncAPI 3 document: channels, what each role sends and receives, the messages with their schemas.

The bindings of NATS must be empty but for a queue; what JetStream has to say stands under `x-jetstream`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.export.exported import Export, ExportInput, Setting, head
from cyborg_infra.export.yaml_text import yaml_text
from cyborg_infra.model import channels
from cyborg_infra.model.channels import Channel, ConsumerKind, Scope, StreamKind
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.units import format_duration
from cyborg_infra.model.valueclass import NamedTuple

SETTINGS: Mapping[str, Setting] = {
    "server": Setting("nats://localhost:4222", "URL of the server"),
    "version": Setting("1.0.0", "version of the document"),
}

FILE = "asyncapi.yaml"
REPLIES = f"{channels.REQUESTS}.replies"  # with a dot, which no channel of a manifest has in its name
_OTHER = "message"
_KINDS: Mapping[str, MessageKind] = {
    channels.TASKS: MessageKind.TASK,
    channels.STATUS: MessageKind.STATUS,
    channels.REQUESTS: MessageKind.QUERY,
    channels.BROADCASTS: MessageKind.BROADCAST,
    channels.EVENTS: MessageKind.EVENT,
    channels.DEAD_LETTERS: MessageKind.DEAD_LETTER,
}
"""What a built-in channel carries; the others carry whatever agents agree on, an inbox alerts among it."""

_EVERY_ROLE = frozenset({"any role", "every role"})  # as the rows of the namespace say it
_ALL = ""
_NOT_IN_ASYNCAPI = ("$schema", "$id", "patternErrorMessage", "markdownDescription")


def write(given: ExportInput) -> Export:
    """Return the document."""
    document = {
        "asyncapi": "3.0.0",
        "id": f"urn:cyborg-infra:{re.sub(r'[^A-Za-z0-9-]', '-', given.org.name)}",
        "info": {
            "title": given.org.name,
            "version": given.settings["version"],
            "description": given.org.description or f"The messaging of the organisation {given.org.name}.",
        },
        "defaultContentType": "application/json",
        "servers": {"nats": _server(given.settings["server"])},
        "channels": dict(_channels(given)),
        "operations": dict(_operations(given)),
        "components": {"messages": dict(_messages(given))},
    }
    return Export({FILE: head(given, ()) + yaml_text([document]).removeprefix("---\n")})


def _server(url: str) -> dict[str, str]:
    scheme, _, host = url.rpartition("://")
    return {"host": host, "protocol": scheme or "nats"}


def _channels(given: ExportInput) -> Iterator[tuple[str, Any]]:
    for channel in given.org.channels:
        if channel.scope is Scope.EVENT:
            for event in given.org.events:
                stream = _stream_of(given, channel) if event.durable else None
                address = given.org.subject(channel.subject_of(event.name))
                yield _event_key(event.name), _channel(channel, address, event.description, stream, ())
        else:
            address = given.org.subject(channel.subject)
            yield (
                channel.name,
                _channel(
                    channel, address, channel.meaning, _stream_of(given, channel), given.org.each_of(channel)
                ),
            )
    if given.org.channel(channels.REQUESTS):
        reply = {"$ref": f"#/components/messages/{MessageKind.REPLY.value}"}
        yield (
            REPLIES,
            {
                "address": None,
                "description": "The inbox of whoever asked.",
                "messages": {MessageKind.REPLY.value: reply},
            },
        )


def _channel(
    channel: Channel, subject: str, meaning: str, stream: Resource | None, members: Sequence[str]
) -> dict[str, Any]:
    message = _message_of(channel)
    found: dict[str, Any] = {"address": subject}
    parameters: dict[str, Any] = {}
    if (member := channels.MEMBER.get(channel.scope)) and member in subject:
        of = str(channel.scope)
        parameters[of] = {"description": f"The {of} whose channel it is.", "enum": list(members)}
    address = []
    for number, token in enumerate(subject.split("."), 1):
        if token in ("*", ">"):
            name = f"token{number}" if token == "*" else "rest"
            what = "one token" if token == "*" else "one token or more"
            parameters[name] = {"description": f"What the publisher chooses: {what}."}
            address.append(f"{{{name}}}")
        else:
            address.append(token)
    found["address"] = ".".join(address)
    if meaning:
        found["description"] = meaning[:1].upper() + meaning[1:]
    if parameters:
        found["parameters"] = parameters
    found["messages"] = {message: {"$ref": f"#/components/messages/{message}"}}
    if stream is not None:
        found["x-jetstream"] = _stored(stream)
    return found


def _stream_of(given: ExportInput, channel: Channel) -> Resource | None:
    """Return the stream that stores the channel, the first of them where each role has its own."""
    if channel.stream is None:
        return None
    kind = channel.stream.kind
    return next((each for each in given.state.streams() if each.metadata.get(KIND_KEY) == kind), None)


def _stored(stream: Resource) -> dict[str, Any]:
    own = stream.metadata.get(KIND_KEY) == StreamKind.TASKS
    found: dict[str, Any] = {} if own and stream.role else {"stream": stream.ref.name}
    found["retention"] = stream.get("retention")
    if stream.get("max_age"):
        found["max_age"] = format_duration(stream.get("max_age"))
    found["duplicate_window"] = format_duration(stream.get("duplicate_window"))
    return found


class _Place(NamedTuple):
    """Where in the document a subject is: the key of its channel, and which of the channel's subjects it is."""

    key: str
    scope: Scope
    member: str  # the role, the group or the event; empty where there is one for all


_Places = Mapping[str, Sequence[_Place]]
"""By the key of their channel."""


def _operations(given: ExportInput) -> Iterator[tuple[str, Any]]:
    """Yield what each role sends and receives."""
    places = dict(_places(given.org))
    # A subject without a place is that of a role's old name: the channel has the new one.
    rows = [(row, places[row.subject]) for row in given.subjects if row.subject in places]
    sent = _by_role((row.publishers, place) for row, place in rows)
    ephemeral = _by_role((row.readers, place) for row, place in rows if not row.durable)
    stored = _by_role((row.readers, place) for row, place in rows if row.durable)
    consumers: dict[str | None, list[Resource]] = {}
    for consumer in given.state.consumers():
        consumers.setdefault(consumer.role, []).append(consumer)

    for role in given.org.roles:
        for key, found in _of(sent, role.name).items():
            more = _some_roles(given.org, role.name, found) | _some_groups(given.org, found)
            yield f"{role.name}-sends-{key}", _operation(given, "send", key, role.name, more)
        for key, found in _of(ephemeral, role.name).items():
            more = _some_groups(given.org, found)
            yield f"{role.name}-receives-{key}", _operation(given, "receive", key, role.name, more)
        read = _of(stored, role.name)
        for consumer in consumers.get(role.name, ()):
            for key in _keys(given.org, consumer, read):
                more = _some_groups(given.org, read.get(key, ())) | {"x-jetstream": _consumer(consumer)}
                yield f"{role.name}-receives-{key}", _operation(given, "receive", key, role.name, more)


def _places(org: Org) -> Iterator[tuple[str, _Place]]:
    for channel in org.channels:
        for member in org.each_of(channel):
            key = _event_key(member) if channel.scope is Scope.EVENT else channel.name
            yield org.subject(channel.subject_of(member)), _Place(key, channel.scope, member)


def _by_role(found: Iterable[tuple[Sequence[str], _Place]]) -> Mapping[str, _Places]:
    """Return role -> its places, from places with who is there; those of every role once, not once for each."""
    by_role: dict[str, dict[str, list[_Place]]] = {}
    for parties, place in found:
        for party in parties if _EVERY_ROLE.isdisjoint(parties) else (_ALL,):
            by_role.setdefault(party, {}).setdefault(place.key, []).append(place)
    return by_role


def _of(by_role: Mapping[str, _Places], role: str) -> _Places:
    return {**by_role.get(_ALL, {}), **by_role.get(role, {})}


def _some_roles(org: Org, role: str, places: Sequence[_Place]) -> dict[str, Any]:
    """Return the roles that a role sends to, if these are some of the others; the places are those of one channel."""
    if not _are_some(places, Scope.ROLE, len(org.roles)) or [place.member for place in places] == [role]:
        return {}
    return {"x-roles": [place.member for place in places]}


def _some_groups(org: Org, places: Sequence[_Place]) -> dict[str, Any]:
    if not _are_some(places, Scope.GROUP, len(org.groups)):
        return {}
    return {"x-groups": [place.member for place in places]}


def _are_some(places: Sequence[_Place], scope: Scope, everybody: int) -> bool:
    return 0 < len(places) < everybody and places[0].scope is scope


def _keys(org: Org, consumer: Resource, read: _Places) -> Sequence[str]:
    """Return the channel that a consumer reads; of one that reads events, which of them."""
    channel = org.channel_of(ConsumerKind(consumer.metadata.get(KIND_KEY, "")))
    if channel is None:
        return ()
    if channel.scope is not Scope.EVENT:
        return (channel.name,)
    return [key for key, (place, *_) in read.items() if place.scope is Scope.EVENT]


def _operation(
    given: ExportInput, action: str, key: str, role: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    channel = given.org.channel(key)
    message = _message_of(channel) if channel else MessageKind.EVENT.value
    where = f"#/channels/{key}"
    found: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": where},
        "messages": [{"$ref": f"{where}/messages/{message}"}],
        "tags": [{"name": role, "description": f"What {role} sends and receives."}],
        **more,
    }
    if key == channels.REQUESTS:
        found["reply"] = {
            "address": {
                "location": "$message.header#/replyTo",
                "description": "The reply subject of the request.",
            },
            "channel": {"$ref": f"#/channels/{REPLIES}"},
            "messages": [{"$ref": f"#/channels/{REPLIES}/messages/{MessageKind.REPLY.value}"}],
        }
    return found


def _consumer(consumer: Resource) -> dict[str, Any]:
    return {
        "stream": consumer.ref.stream,
        "consumer": consumer.ref.name,
        "ack_policy": consumer.get("ack_policy"),
        "ack_wait": format_duration(consumer.get("ack_wait")),
        "max_deliver": consumer.get("max_deliver"),
    }


def _event_key(event: str) -> str:
    return f"event.{event}"


def _message_of(channel: Channel) -> str:
    kind = _KINDS.get(channel.name)
    return kind.value if kind else _OTHER


def _messages(given: ExportInput) -> Iterator[tuple[str, Any]]:
    used = {_message_of(channel) for channel in given.org.channels}
    if given.org.channel(channels.REQUESTS):
        used.add(MessageKind.REPLY.value)
    for kind, schema in given.schemas.items():
        if kind in used:
            yield (
                kind,
                {
                    "name": kind,
                    "title": schema.get("title", kind),
                    "contentType": "application/json",
                    "headers": _HEADERS,
                    "payload": {
                        "schemaFormat": "application/schema+json;version=draft-07",
                        "schema": _inlined(schema, schema.get("$defs", {})),
                    },
                },
            )
    if _OTHER in used:
        yield (
            _OTHER,
            {
                "name": _OTHER,
                "title": "Message",
                "contentType": "application/json",
                "payload": {"type": "object", "description": "Whatever its publishers and readers agree on."},
            },
        )


_HEADERS = {
    "type": "object",
    "properties": {
        "Nats-Msg-Id": {
            "type": "string",
            "description": "By which a stream knows a message that it has already.",
        }
    },
}


def _inlined(schema: Any, parts: Mapping[str, Any]) -> Any:
    """Return the schema with what it refers to in the place of the reference."""
    match schema:
        case {"$ref": str(where), **rest}:
            return _inlined({**parts[where.rpartition("/")[2]], **rest}, parts)
        case Mapping():
            return {
                key: _inlined(value, parts)
                for key, value in schema.items()
                if key != "$defs" and key not in _NOT_IN_ASYNCAPI
            }
        case list():
            return [_inlined(each, parts) for each in schema]
    return schema
