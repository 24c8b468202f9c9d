"""Build organisations in wire form from a source that the schema accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import reduce
from types import MappingProxyType
from typing import Any

from cyborg_infra.manifest.channels import read_channels, unfold_settings, with_names
from cyborg_infra.manifest.field_values import to_wire
from cyborg_infra.manifest.notifications import read_notifications
from cyborg_infra.manifest.schema import value_text as spoken
from cyborg_infra.manifest.yaml_source import Source
from cyborg_infra.model.buckets import BUCKET_USERS, FIELD_OF, task_state_bucket
from cyborg_infra.model.channels import (
    Channel,
    ConsumerKind,
    StreamKind,
    consumer_kinds,
    kinds_for_one_role,
    queues,
    stream_kinds,
)
from cyborg_infra.model.fields import FIELDS, Config, Kind
from cyborg_infra.model.organisation import (
    ADMISSION,
    THRESHOLDS,
    Bucket,
    Event,
    ExpectedServer,
    Group,
    IgnoredWarning,
    ManifestPath,
    Org,
    Overrides,
    Role,
    Scaling,
    Thresholds,
)
from cyborg_infra.model.problems import Problem, SourcePosition
from cyborg_infra.model.standing import AuthSettings, Standing
from cyborg_infra.model.units import parse_duration

_OF_DEFAULTS = {"replicas": "num_replicas"}

Entry = tuple[ManifestPath, str, Mapping[str, Any]]
"""A role, an event or a bucket: where it stands, its name, what is said of it."""


def build(source: Source) -> tuple[dict[str | None, Org], list[Problem]]:
    """Return environment -> Org, with None for no environment, and a problem for each value that its unit does not allow.

    A value of None counts as absent everywhere, so that what the schema refused can be blanked out first.
    """
    data, problems = source.data, list[Problem]()
    channels = read_channels(source, problems)
    problems += unfold_settings(source, channels)
    roles, events, buckets = (list(_entries(source, section)) for section in ("roles", "events", "key_value"))
    base = Org(
        name=data.get("org") or "",
        description=data.get("description") or "",
        roles=tuple(_position(source, entry, problems) for entry in roles),
        events=tuple(_event(source, entry) for entry in events),
        buckets=tuple(_buckets(source, buckets)),
        layers=(_overrides(source, (), data, roles, buckets, channels, problems),),
        stream_prefix=_naming(data, "stream_prefix") or "",
        subject_prefix=_naming(data, "subject_prefix"),
        channels=channels,
        server=_server(data) or ExpectedServer(),
        auth=_auth(source),
        environment_required=bool(data.get("environment_required")),
        marks=_marks_by_name(source, [*roles, *events, *buckets]),
        groups=tuple(
            Group(name, _names(members), source.key(("groups", name)))
            for name, members in _section(data, "groups").items()
        ),
    )
    orgs: dict[str | None, Org] = {None: base}
    for name, body in _section(data, "environments").items():
        path: ManifestPath = ("environments", name)
        own, changed = (_changed(body, path, section) for section in ("roles", "key_value"))
        prefix, subject = _naming(body, "stream_prefix"), _naming(body, "subject_prefix")
        orgs[name] = replace(
            base,
            environment=name,
            layers=(*base.layers, _overrides(source, path, body or {}, own, changed, channels, problems)),
            stream_prefix=base.stream_prefix if prefix is None else prefix,
            subject_prefix=base.subject_prefix if subject is None else subject,
            channels=with_names(channels, _section(body, "naming")),
            server=_server(body) or base.server,
        )
    return orgs, problems


def _section(data: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """Return a mapping inside `data`, empty if there is none."""
    return (data or {}).get(key) or {}


def _entries(source: Source, section: str) -> Iterator[Entry]:
    """Yield the roles, events or buckets, whichever way they are written."""
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


def _changed(data: Mapping[str, Any] | None, path: ManifestPath, section: str) -> list[Entry]:
    """Return what the environment at `path` changes of roles or buckets, which exist without it."""
    return [((*path, section, name), name, body or {}) for name, body in _section(data, section).items()]


def _buckets(source: Source, entries: list[Entry]) -> Iterator[Bucket]:
    """Yield the buckets, and the one of the task documents, which may stand among them with settings of its own."""
    ours = task_state_bucket(source.data.get("org") or "") if source.data.get("task_state") else None
    for path, name, body in entries:
        yield Bucket(
            name,
            task_state=name == ours,
            mark=source.key(path),
            readers=_names(body.get("readers")),
            writers=_names(body.get("writers")),
            watchers=_names(body.get("watchers")),
        )
    if ours and source.data.get("org") and ours not in [name for _path, name, _body in entries]:
        yield Bucket(ours, task_state=True, mark=source.key(("task_state",)))


def _position(source: Source, entry: Entry, problems: list[Problem]) -> Role:
    """Return the role of this entry, with whom it reports to and assigns to."""
    path, name, body = entry
    if not body:
        return Role(name, mark=source.key(path))
    above = body.get("reports_to")
    if above is True:
        place = (*path, "reports_to")
        problems.append(
            Problem(
                "bad-value",
                f"{spoken(place)} must be a role, or false for one that reports to nobody",
                source.mark(place),
            )
        )
    return Role(
        name,
        description=body.get("description") or "",
        renamed_from=body.get("renamed_from") or "",
        mark=source.key(path),
        reports_to=above if isinstance(above, str) else "",
        is_head=isinstance(above, bool),
        assigns=_names(body.get("assigns")),
        scaling=_scaling(body.get("scaling")),
    )


def _scaling(said: Mapping[str, int | None] | None) -> Scaling | None:
    most = (said or {}).get("max")
    return None if most is None else Scaling((said or {}).get("min") or 0, most)


def _names(listed: list[str | None] | None) -> tuple[str, ...]:
    """Return the names in a list of the manifest, without those that the schema refused."""
    return tuple(name for name in listed or () if name is not None)


def _event(source: Source, entry: Entry) -> Event:
    path, name, body = entry
    return Event(
        name,
        publishers=_names(body.get("publishers")),
        subscribers=_names(body.get("subscribers")),
        durable=bool(body.get("durable")),
        description=body.get("description") or "",
        mark=source.key(path),
    )


def _marks_by_name(source: Source, entries: list[Entry]) -> dict[ManifestPath, SourcePosition]:
    """Return every path's mark, in which roles, events and buckets stand by name also where they were written as a list."""
    names = {path: (path[0], name) for path, name, _body in entries if path[1] != name}
    if not names:
        return source.marks
    return {(*names.get(path[:2], path[:2]), *path[2:]): mark for path, mark in source.marks.items()}


def _overrides(
    source: Source,
    path: ManifestPath,
    data: Mapping[str, Any],
    roles: list[Entry],
    buckets: list[Entry],
    channels: tuple[Channel, ...],
    problems: list[Problem],
) -> Overrides:
    """Return one layer: what `data`, which stands at `path`, `roles` and `buckets` set."""

    def fields(kind: Kind, values: Mapping[str, Any] | None, *keys: str) -> dict[str, Any]:
        return _fields(source, kind, values or {}, (*path, *keys), problems)

    streams, consumers = _section(data, "streams"), _section(data, "consumers")
    for_one = kinds_for_one_role(channels)
    roles = [entry for entry in roles if entry[2]]  # of the others nothing is said
    return Overrides(
        defaults=_fields(
            source, Kind.STREAM, _section(data, "defaults"), (*path, "defaults"), problems, _OF_DEFAULTS
        ),
        streams={
            kind: fields(Kind.STREAM, streams[kind], "streams", kind)
            for kind in stream_kinds(channels)
            if kind in streams
        },
        consumers={
            kind: fields(Kind.CONSUMER, consumers[kind], "consumers", kind)
            for kind in consumer_kinds(channels)
            if kind in consumers
        },
        roles={
            name: own for place, name, body in roles if (own := _role(source, place, body, for_one, problems))
        },
        ignored=(
            *_ignored(source, path, data),
            *(each for place, name, body in roles for each in _ignored(source, place, body, name)),
        ),
        buckets={
            name: said
            for place, name, body in buckets
            if (said := _fields(source, Kind.STREAM, _settings(body), place, problems, FIELD_OF))
        },
        alerts=_alerts(source, path, data, roles, channels, problems),
        notifications=read_notifications(source, (*path, "alerts"), _section(data, "alerts"), problems),
    )


def _settings(bucket: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a bucket's stream."""
    return {name: value for name, value in bucket.items() if name not in BUCKET_USERS}


def _ignored(
    source: Source, path: ManifestPath, body: Mapping[str, Any], role: str | None = None
) -> Iterator[IgnoredWarning]:
    """Yield the warnings that `body`, which stands at `path`, does not want to hear."""
    for code, reason in _section(_section(body, "lint"), "ignore").items():
        if reason is not None:
            yield IgnoredWarning(code, reason, role, source.key((*path, "lint", "ignore", code)))


def _role(
    source: Source,
    path: ManifestPath,
    body: Mapping[str, Any],
    kinds: tuple[StreamKind | ConsumerKind, ...],
    problems: list[Problem],
) -> dict[StreamKind | ConsumerKind, Config]:
    """Return what one role sets for its own stream and consumers."""
    return {
        kind: _fields(
            source,
            Kind.STREAM if isinstance(kind, StreamKind) else Kind.CONSUMER,
            body[kind],
            (*path, kind),
            problems,
        )
        for kind in kinds
        if body.get(kind)
    }


def _fields(
    source: Source,
    kind: Kind,
    values: Mapping[str, Any],
    path: ManifestPath,
    problems: list[Problem],
    words: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the values in wire form, by the table's units; those that cannot be are reported and left out.

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
            found[field.name] = to_wire(field, value)
        except ValueError as error:
            problems.append(_unusable(source, (*path, name), error))
    return found


def _unusable(source: Source, here: ManifestPath, error: ValueError) -> Problem:
    message, _, hint = str(error).partition("; ")
    return Problem("bad-value", f"{spoken(here)}: {message}", source.mark(here), hint or None)


def _alerts(
    source: Source,
    path: ManifestPath,
    data: Mapping[str, Any],
    roles: list[Entry],
    channels: tuple[Channel, ...],
    problems: list[Problem],
) -> Thresholds:
    """Return the alarm thresholds of one layer: for all, for a queue of all roles, for a role, for one queue of it."""
    found: dict[tuple[str, str], Mapping[str, int]] = {}
    known = queues(channels).values()
    for place, role, body in ((path, "", data), *roles):
        if said := _section(body, "alerts"):
            for queue in ("", *known):
                values = _section(said, queue) if queue else said
                here = (*place, "alerts", *filter(None, (queue,)))
                found[role, queue] = dict(_thresholds(source, here, values, problems))
    return found


def _thresholds(
    source: Source, path: ManifestPath, values: Mapping[str, Any], problems: list[Problem]
) -> Iterator[tuple[str, int]]:
    for name, threshold in THRESHOLDS.items():
        *sections, last = name.split(".")
        inner = reduce(_section, sections, values)
        if (value := inner.get(last)) is None:
            continue
        try:
            yield name, parse_duration(str(value)) if threshold.duration else value
        except ValueError as error:
            problems.append(_unusable(source, (*path, *sections, last), error))


def _auth(source: Source) -> AuthSettings:
    """Return what the manifest says of identities."""
    body = _section(source.data, "auth")
    return AuthSettings(
        {each: name for each in Standing if (name := _section(body, "names").get(each)) is not None}
    )


def _naming(data: Mapping[str, Any] | None, key: str) -> str | None:
    return _section(data, "naming").get(key)


def _server(data: Mapping[str, Any] | None) -> ExpectedServer | None:
    found = _section(data, "server")
    return ExpectedServer(found.get("account"), found.get("cluster")) if found else None
