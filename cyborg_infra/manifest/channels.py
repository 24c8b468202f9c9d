"""Read the channels of a manifest: the built-in ones, as it changes them or without those that it leaves out, and its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cyborg_infra.manifest.suggest import NameIndex
from cyborg_infra.manifest.yaml_source import Source
from cyborg_infra.model.channels import (
    BUILT_IN,
    BUILT_IN_NAMES,
    KNOWN,
    OPTIONAL,
    ROLE,
    Channel,
    Parties,
    Party,
    Scope,
    is_channel_name,
    kinds_for_one_role,
    own_channel,
    queues,
)
from cyborg_infra.model.organisation import ManifestPath
from cyborg_infra.model.problems import Problem

_OPTIONAL = frozenset(row.name for row in OPTIONAL)
_SETTINGS = {"stream": "streams", "reader": "consumers"}
"""Where the same is said by kind."""


def read_channels(source: Source, problems: list[Problem]) -> tuple[Channel, ...]:
    """Return the channels of the organisation, the built-in ones first, under the names that its manifest gives them.

    Values that the schema refused are absent. Reports what says nothing.
    """
    said = _mapping(source.data.get("channels"))
    changed = (
        _changed(source, row, _mapping(said.get(row.name)))
        for row in KNOWN
        if said.get(row.name) is not False and (row in BUILT_IN or row.name in said)
    )
    return with_names((*changed, *_own(source, said, problems)), _mapping(source.data.get("naming")))


def with_names(channels: tuple[Channel, ...], naming: Mapping[str, Any]) -> tuple[Channel, ...]:
    """Return the channels with the names of streams and consumers that `naming` gives them."""
    streams, consumers = _mapping(naming.get("streams")), _mapping(naming.get("consumers"))
    if not streams and not consumers:
        return channels
    return tuple(_named(channel, streams, consumers) for channel in channels)


def unfold_settings(source: Source, channels: tuple[Channel, ...]) -> Iterator[Problem]:
    """Move the settings of streams and consumers from their channel to their kind. Yield a problem for what is set at both."""
    for channel in channels:
        for part, of in (("stream", channel.stream), ("reader", channel.reader)):
            place: ManifestPath = ("channels", channel.name, part)
            fields = _mapping(_mapping(_mapping(source.data.get("channels")).get(channel.name)).get(part))
            if of is None:
                if fields:
                    hint = "say durable: true, or take it out"
                    yield Problem(
                        "not-durable",
                        f"{channel.name} is not durable: it has no {part}",
                        source.key(place),
                        hint,
                    )
                continue
            kind: ManifestPath = (_SETTINGS[part], str(of.kind))
            if channel.mark:
                source.marks.setdefault(kind, channel.mark)
            if fields:
                yield from _moved(source, place, kind, fields)


def _moved(
    source: Source, place: ManifestPath, kind: ManifestPath, fields: Mapping[str, Any]
) -> Iterator[Problem]:
    section = source.data.get(str(kind[0]))
    if not isinstance(section, dict):
        section = source.data[str(kind[0])] = {}
    there = _mapping(section.get(kind[1]))
    for name in fields:
        if there.get(name) is not None and fields[name] is not None:
            message = f"{name} is said here and at {'.'.join(map(str, place))}"
            yield Problem("said-twice", message, source.key((*kind, name)), "keep one of them")
    section[kind[1]] = {**fields, **{name: value for name, value in there.items() if value is not None}}
    for marks in (source.marks, source.keys):
        found = {path: mark for path, mark in marks.items() if path[: len(place)] == place}
        for path, mark in found.items():
            marks.setdefault((*kind, *path[len(place) :]), mark)


def describe_channels(channels: tuple[Channel, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the `channels:` and `naming:` of a manifest with these channels: what differs from the built-in ones."""
    said = {row.name: _description(row, _usual(row)) or row.name in _OPTIONAL for row in channels}
    left_out = {row.name: False for row in BUILT_IN if row.name not in said}
    names: dict[str, dict[str, str]] = {"streams": {}, "consumers": {}}
    for row in channels:
        usual = _usual(row)
        for section, of, as_usual in (
            ("streams", row.stream, usual.stream),
            ("consumers", row.reader, usual.reader),
        ):
            if of and as_usual and of.name != as_usual.name:
                names[section][of.kind] = of.name
    return {name: body for name, body in said.items() if body} | left_out, names


def _usual(row: Channel) -> Channel:
    """Return the channel as it is by default, from its name, scope and readers alone."""
    if not row.is_own:
        return next(each for each in KNOWN if each.name == row.name)
    return _read_by(own_channel(row.name, row.scope, durable=row.stream is not None), row.readers)


def _description(row: Channel, usual: Channel) -> dict[str, Any]:
    of = {"of": str(row.scope), "durable": row.stream is not None} if row.is_own else {}
    bare = own_channel(row.name, row.scope, durable=False) if row.is_own else usual
    settings = {
        "subject": (row.subject, usual.subject),
        "description": (row.meaning, usual.meaning),
        "publishers": (_said(row.publishers), _said(usual.publishers)),
        "readers": (_said(row.readers), _said(bare.readers)),
        "send_to": (row.send_to, usual.send_to),
    }
    return {name: value for name, value in of.items() if value} | {
        name: value for name, (value, as_usual) in settings.items() if value != as_usual
    }


def _said(parties: Parties) -> str | list[str]:
    return str(parties[0]) if len(parties) == 1 and isinstance(parties[0], Party) else [*map(str, parties)]


def own_keys(data: Any) -> Mapping[str, tuple[str, ...]]:
    """Return the keys that a manifest's own channels add to the sections of it: streams, consumers, role, alerts.

    Whatever the manifest is: it is asked before anything is known of it.
    """
    said = _mapping(_mapping(data).get("channels"))
    scratch = Source("")
    scratch.data = {"channels": said, "naming": _mapping(_mapping(data).get("naming"))}
    rows = [row for row in read_channels(scratch, []) if row.is_own or row.name in _OPTIONAL]
    return {
        "streams": tuple(row.stream.kind for row in rows if row.stream),
        "consumers": tuple(row.reader.kind for row in rows if row.reader),
        "roles": tuple(kinds_for_one_role(rows)),
        "alerts": tuple(queues(rows).values()),
    }


def _own(source: Source, said: Mapping[Any, Any], problems: list[Problem]) -> Iterator[Channel]:
    for name, body in said.items():
        if not isinstance(name, str) or name in BUILT_IN_NAMES or not is_channel_name(name):
            continue
        if body is True or body is None:
            hint = "say what it is of: {of: role}, {of: group} or {of: org}"
            problems.append(
                Problem("missing-key", f"{name} needs the key of", source.key(("channels", name)), hint)
            )
        if body is False:
            meant = NameIndex(row.name for row in KNOWN).nearest(name)
            problems.append(
                Problem(
                    "unknown-channel",
                    f"{name} is no built-in channel, and so there is nothing to leave out",
                    source.key(("channels", name)),
                    f"did you mean {meant}?" if meant else "take the line out",
                )
            )
        scope = _mapping(body).get("of")
        if scope in (Scope.ROLE, Scope.GROUP, Scope.ORG):
            row = own_channel(name, Scope(scope), durable=bool(_mapping(body).get("durable")))
            yield _changed(source, row, _mapping(body))


def _changed(source: Source, row: Channel, body: Mapping[str, Any]) -> Channel:
    if not body:
        return row._replace(mark=source.keys.get(("channels", row.name)))
    row = _read_by(row, _parties(body.get("readers"), row.readers))
    return row._replace(
        subject=_text(body.get("subject")) or row.subject,
        publishers=_parties(body.get("publishers"), row.publishers),
        meaning=_text(body.get("description")) or row.meaning,
        send_to=_text(body.get("send_to")),
        mark=source.key(("channels", row.name)),
    )


def _read_by(row: Channel, readers: Parties) -> Channel:
    reader = row.reader
    if reader and row.is_own and readers == (Party.OPERATOR,):  # there is one, which is no role's
        reader = reader._replace(name=reader.name.removeprefix(f"{ROLE}-"))
    return row._replace(reader=reader, readers=readers)


def _named(channel: Channel, streams: Mapping[str, Any], consumers: Mapping[str, Any]) -> Channel:
    stream, reader = channel.stream, channel.reader
    if stream and _text(streams.get(stream.kind)):
        stream = stream._replace(name=streams[stream.kind])
    if reader and _text(consumers.get(reader.kind)):
        reader = reader._replace(name=consumers[reader.kind])
    return channel._replace(stream=stream, reader=reader)


def _parties(value: Any, usual: Parties) -> Parties:
    if isinstance(value, str) and value in [*Party]:
        return (Party(value),)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else usual


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}
