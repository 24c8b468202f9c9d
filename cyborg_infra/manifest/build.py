"""A source that the schema accepts -> Orgs in wire form. Knows the manifest's shape; judges no meaning (`rules`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cyborg_infra.manifest.schema import name as spoken
from cyborg_infra.manifest.source import Source
from cyborg_infra.manifest.wire import wire
from cyborg_infra.model.fields import FIELDS, Config, Kind
from cyborg_infra.model.org import (
    ROLE_CONSUMERS,
    ROLE_STREAMS,
    Alerts,
    ConsumerKind,
    Event,
    ExpectedServer,
    Ignore,
    Org,
    Overrides,
    Path,
    Role,
    StreamKind,
)
from cyborg_infra.model.problems import Mark, Problem
from cyborg_infra.model.units import parse_duration

_SHORT_NAMES = {"replicas": "num_replicas"}  # as `defaults` has it

Entry = tuple[Path, str, Mapping[str, Any]]
"""A role or an event: where it stands, its name, what is said of it."""


def build(source: Source) -> tuple[dict[str | None, Org], list[Problem]]:
    """The Org of every environment, None for none, and the values that are not what their unit asks for.

    A value of None counts as absent everywhere, so that what the schema refused can be blanked out first.
    """
    data, problems = source.data, list[Problem]()
    roles, events = list(_entries(source, "roles")), list(_entries(source, "events"))
    base = Org(
        name=data.get("org") or "",
        description=data.get("description") or "",
        roles=tuple(
            Role(name, body.get("description") or "", body.get("renamed_from") or "", source.key(path))
            for path, name, body in roles
        ),
        events=tuple(_event(source, entry) for entry in events),
        layers=(_overrides(source, (), data, roles, problems),),
        stream_prefix=_naming(data) or "",
        server=_server(data) or ExpectedServer(),
        alerts=_alerts(source, (), data, Alerts(), problems),
        marks=_marks_by_name(source, [*roles, *events]),
    )
    orgs: dict[str | None, Org] = {None: base}
    for name, body in _section(data, "environments").items():
        path: Path = ("environments", name)
        own = [((*path, "roles", role), role, body or {}) for role, body in _section(body, "roles").items()]
        prefix = _naming(body)
        orgs[name] = replace(
            base,
            environment=name,
            layers=(*base.layers, _overrides(source, path, body or {}, own, problems)),
            stream_prefix=base.stream_prefix if prefix is None else prefix,
            server=_server(body) or base.server,
            alerts=_alerts(source, path, body, base.alerts, problems),
        )
    return orgs, problems


def _section(data: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """A mapping inside `data`, empty if there is none."""
    return (data or {}).get(key) or {}


def _entries(source: Source, section: str) -> Iterator[Entry]:
    """The roles or events, whichever way they are written."""
    found = source.data.get(section) or {}
    if isinstance(found, dict):
        for name, body in found.items():
            yield (section, name), name, body or {}
        return
    for position, item in enumerate(found):
        if isinstance(item, dict) and item.get("name") is not None:
            yield (section, position), item["name"], item
        elif isinstance(item, str):
            yield (section, position), item, {}


def _event(source: Source, entry: Entry) -> Event:
    path, name, body = entry
    return Event(
        name,
        publishers=tuple(role for role in body.get("publishers") or () if role is not None),
        subscribers=tuple(role for role in body.get("subscribers") or () if role is not None),
        durable=bool(body.get("durable")),
        description=body.get("description") or "",
        mark=source.key(path),
    )


def _marks_by_name(source: Source, entries: list[Entry]) -> dict[Path, Mark]:
    """Every path's mark, in which roles and events stand by name also where they were written as a list."""
    names = {path: (path[0], name) for path, name, _body in entries}
    return {(*names.get(path[:2], path[:2]), *path[2:]): mark for path, mark in source.marks.items()}


def _overrides(
    source: Source, path: Path, data: Mapping[str, Any], roles: list[Entry], problems: list[Problem]
) -> Overrides:
    """One layer: what `data`, which stands at `path`, and `roles` set."""

    def fields(kind: Kind, values: Mapping[str, Any] | None, *keys: str) -> dict[str, Any]:
        return _fields(source, kind, values or {}, (*path, *keys), problems)

    streams, consumers = _section(data, "streams"), _section(data, "consumers")
    return Overrides(
        defaults=fields(Kind.STREAM, _section(data, "defaults"), "defaults"),
        streams={
            kind: fields(Kind.STREAM, streams[kind], "streams", kind)
            for kind in StreamKind
            if kind in streams
        },
        consumers={
            kind: fields(Kind.CONSUMER, consumers[kind], "consumers", kind)
            for kind in ConsumerKind
            if kind in consumers
        },
        roles={name: own for place, name, body in roles if (own := _role(source, place, body, problems))},
        ignored=(
            *_ignored(source, path, data),
            *(each for place, name, body in roles for each in _ignored(source, place, body, name)),
        ),
    )


def _ignored(
    source: Source, path: Path, body: Mapping[str, Any], role: str | None = None
) -> Iterator[Ignore]:
    """The warnings that `body`, which stands at `path`, does not want to hear."""
    for code, reason in _section(_section(body, "lint"), "ignore").items():
        if reason is not None:
            yield Ignore(code, reason, role, source.key((*path, "lint", "ignore", code)))


def _role(
    source: Source, path: Path, body: Mapping[str, Any], problems: list[Problem]
) -> dict[StreamKind | ConsumerKind, Config]:
    """What one role sets for its own stream and consumers."""
    return {
        kind: _fields(
            source,
            Kind.STREAM if kind in ROLE_STREAMS else Kind.CONSUMER,
            body[kind],
            (*path, kind.value),
            problems,
        )
        for kind in (*ROLE_STREAMS, *ROLE_CONSUMERS)
        if body.get(kind)
    }


def _fields(
    source: Source, kind: Kind, values: Mapping[str, Any], path: Path, problems: list[Problem]
) -> dict[str, Any]:
    """The values in wire form, by the table's units; those that cannot be are reported and left out."""
    found = {}
    for name, value in values.items():
        if value is None:
            continue
        field = FIELDS[kind][_SHORT_NAMES.get(name, name)]
        try:
            found[field.name] = wire(field, value)
        except ValueError as error:
            problems.append(_unusable(source, (*path, name), error))
    return found


def _unusable(source: Source, here: Path, error: ValueError) -> Problem:
    message, _, hint = str(error).partition("; ")
    return Problem("bad-value", f"{spoken(here)}: {message}", source.mark(here), hint or None)


def _alerts(
    source: Source, path: Path, data: Mapping[str, Any] | None, others: Alerts, problems: list[Problem]
) -> Alerts:
    """What one layer says of thresholds; `others` for what it leaves open."""
    said = _section(data, "alerts")
    lag, acknowledged = said.get("lag"), said.get("broadcast_ack")
    found = others if lag is None else replace(others, lag=lag)
    try:
        return (
            found if acknowledged is None else replace(found, broadcast_ack=parse_duration(str(acknowledged)))
        )
    except ValueError as error:
        problems.append(_unusable(source, (*path, "alerts", "broadcast_ack"), error))
        return found


def _naming(data: Mapping[str, Any] | None) -> str | None:
    return _section(data, "naming").get("stream_prefix")


def _server(data: Mapping[str, Any] | None) -> ExpectedServer | None:
    found = _section(data, "server")
    return ExpectedServer(found.get("account"), found.get("cluster")) if found else None
