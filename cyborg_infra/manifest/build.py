"""A source that the schema accepts -> Orgs in wire form. Knows the manifest's shape; judges no meaning (`rules`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from cyborg_infra.manifest.schema import name as spoken
from cyborg_infra.manifest.source import Source
from cyborg_infra.manifest.wire import wire
from cyborg_infra.model.buckets import FIELD_OF, task_state_bucket
from cyborg_infra.model.fields import FIELDS, Config, Kind
from cyborg_infra.model.org import (
    ADMISSION,
    ROLE_CONSUMERS,
    ROLE_STREAMS,
    STREAM_KINDS,
    Alerts,
    Bucket,
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

_OF_DEFAULTS = {"replicas": "num_replicas"}

Entry = tuple[Path, str, Mapping[str, Any]]
"""A role, an event or a bucket: where it stands, its name, what is said of it."""


def build(source: Source) -> tuple[dict[str | None, Org], list[Problem]]:
    """The Org of every environment, None for none, and the values that are not what their unit asks for.

    A value of None counts as absent everywhere, so that what the schema refused can be blanked out first.
    """
    data, problems = source.data, list[Problem]()
    roles, events, buckets = (list(_entries(source, section)) for section in ("roles", "events", "key_value"))
    base = Org(
        name=data.get("org") or "",
        description=data.get("description") or "",
        roles=tuple(
            Role(name, body.get("description") or "", body.get("renamed_from") or "", source.key(path))
            for path, name, body in roles
        ),
        events=tuple(_event(source, entry) for entry in events),
        buckets=tuple(_buckets(source, buckets)),
        layers=(_overrides(source, (), data, roles, buckets, problems),),
        stream_prefix=_naming(data) or "",
        server=_server(data) or ExpectedServer(),
        alerts=_alerts(source, (), data, Alerts(), problems),
        marks=_marks_by_name(source, [*roles, *events, *buckets]),
    )
    orgs: dict[str | None, Org] = {None: base}
    for name, body in _section(data, "environments").items():
        path: Path = ("environments", name)
        own, changed = (_changed(body, path, section) for section in ("roles", "key_value"))
        prefix = _naming(body)
        orgs[name] = replace(
            base,
            environment=name,
            layers=(*base.layers, _overrides(source, path, body or {}, own, changed, problems)),
            stream_prefix=base.stream_prefix if prefix is None else prefix,
            server=_server(body) or base.server,
            alerts=_alerts(source, path, body, base.alerts, problems),
        )
    return orgs, problems


def _section(data: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """A mapping inside `data`, empty if there is none."""
    return (data or {}).get(key) or {}


def _entries(source: Source, section: str) -> Iterator[Entry]:
    """The roles, events or buckets, whichever way they are written."""
    found = source.data.get(section) or {}
    if isinstance(found, dict):
        for name, body in found.items():
            yield (section, name), name, body or {}
        return
    for position, item in enumerate(found):
        if isinstance(item, dict) and item.get("name") is not None:
            yield (section, position), item["name"], {key: item[key] for key in item if key != "name"}
        elif isinstance(item, str):
            yield (section, position), item, {}


def _changed(data: Mapping[str, Any] | None, path: Path, section: str) -> list[Entry]:
    """What the environment at `path` changes of roles or buckets, which exist without it."""
    return [((*path, section, name), name, body or {}) for name, body in _section(data, section).items()]


def _buckets(source: Source, entries: list[Entry]) -> Iterator[Bucket]:
    """The buckets, and the one of the task documents, which may stand among them with settings of its own."""
    ours = task_state_bucket(source.data.get("org") or "") if source.data.get("task_state") else None
    for path, name, _body in entries:
        yield Bucket(name, task_state=name == ours, mark=source.key(path))
    if ours and source.data.get("org") and ours not in [name for _path, name, _body in entries]:
        yield Bucket(ours, task_state=True, mark=source.key(("task_state",)))


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
    """Every path's mark, in which roles, events and buckets stand by name also where they were written as a list."""
    names = {path: (path[0], name) for path, name, _body in entries if path[1] != name}
    if not names:
        return source.marks
    return {(*names.get(path[:2], path[:2]), *path[2:]): mark for path, mark in source.marks.items()}


def _overrides(
    source: Source,
    path: Path,
    data: Mapping[str, Any],
    roles: list[Entry],
    buckets: list[Entry],
    problems: list[Problem],
) -> Overrides:
    """One layer: what `data`, which stands at `path`, `roles` and `buckets` set."""

    def fields(kind: Kind, values: Mapping[str, Any] | None, *keys: str) -> dict[str, Any]:
        return _fields(source, kind, values or {}, (*path, *keys), problems)

    streams, consumers = _section(data, "streams"), _section(data, "consumers")
    return Overrides(
        defaults=_fields(
            source, Kind.STREAM, _section(data, "defaults"), (*path, "defaults"), problems, _OF_DEFAULTS
        ),
        streams={
            kind: fields(Kind.STREAM, streams[kind], "streams", kind)
            for kind in STREAM_KINDS
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
        buckets={
            name: said
            for place, name, body in buckets
            if (said := _fields(source, Kind.STREAM, body, place, problems, FIELD_OF))
        },
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
    source: Source,
    kind: Kind,
    values: Mapping[str, Any],
    path: Path,
    problems: list[Problem],
    words: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The values in wire form, by the table's units; those that cannot be are reported and left out.

    `words` are those of this section that are not the table's.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        if name == ADMISSION:
            found[name] = {part: number for part, number in value.items() if number is not None}
            continue
        field = FIELDS[kind][words.get(name, name)]
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
    found = others if lag is None else others._replace(lag=lag)
    try:
        return (
            found if acknowledged is None else found._replace(broadcast_ack=parse_duration(str(acknowledged)))
        )
    except ValueError as error:
        problems.append(_unusable(source, (*path, "alerts", "broadcast_ack"), error))
        return found


def _naming(data: Mapping[str, Any] | None) -> str | None:
    return _section(data, "naming").get("stream_prefix")


def _server(data: Mapping[str, Any] | None) -> ExpectedServer | None:
    found = _section(data, "server")
    return ExpectedServer(found.get("account"), found.get("cluster")) if found else None
