"""What would fail on this server, found before the first write. Knows the server by its Facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cyborg_infra.model.fields import FIELDS, OLDEST, Field, Kind, Unit
from cyborg_infra.model.org import Org
from cyborg_infra.model.plan import Action, Change, FieldChange
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.state import Facts, Ref, Resource, State
from cyborg_infra.model.subjects import SubjectIndex
from cyborg_infra.model.units import format_size


def of_server(org: Org | None, facts: Facts) -> Iterator[Problem]:
    """What is wrong with the server or account as a whole."""
    if facts.version < OLDEST:
        yield Problem(
            "server-version",
            f"nats-server {facts.version} is too old",
            None,
            f"{OLDEST} or newer is needed: before, streams and consumers have no metadata to mark what is owned",
        )
    if org is None:
        return
    for what in ("account", "cluster"):
        expected, found = getattr(org.server, what), getattr(facts, what)
        if expected is not None and expected != found:
            yield Problem(
                "server-expectation",
                f"the manifest expects {what} {expected!r}, and this server has {found or 'none'!r}",
                org.marks.get(("server", what)),
                "choose the right --server or --context, or --env",
            )


def of_fields(desired: Resource, changes: Sequence[FieldChange], facts: Facts) -> Iterator[Problem]:
    """Fields and values that this server does not know: it would refuse them (10025), or before 2.12 drop them silently."""
    wanted = desired.canonical()
    for name in wanted:
        field = FIELDS[desired.ref.kind][name]
        since = _since(field, wanted[name])
        if since > facts.level:
            yield Problem(
                "unknown-field",
                f"{desired.ref}: {name} needs API level {since}, and the server has level {facts.level} (nats-server {facts.version})",
                desired.origin,
                "take it out of the manifest, or update the server",
            )
    changed = {change.field for change in changes}
    if {"num_replicas", "placement"} <= changed:
        yield Problem(
            "move-and-scale",
            f"{desired.ref}: the server does not move and scale a stream in one update (10123)",
            desired.origin,
            "change placement first, and num_replicas in a second apply",
        )


def of_creation(desired: Resource) -> Iterator[Problem]:
    """What a new stream cannot have."""
    if desired.config.get("sealed"):
        yield Problem(
            "sealed",
            f"{desired.ref}: a stream cannot be created sealed",
            desired.origin,
            "apply without sealed first",
        )


def of_replicas(desired: Resource, facts: Facts) -> Iterator[Problem]:
    """More copies than there are servers (10074, 10005)."""
    replicas = desired.config.get("num_replicas", 0)
    if replicas > 1 and not facts.cluster:
        yield Problem(
            "replicas",
            f"{desired.ref}: {replicas} replicas need a cluster, and this is a single server",
            desired.origin,
            "set replicas to 1",
        )
    elif facts.peers and replicas > facts.peers:
        yield Problem(
            "replicas",
            f"{desired.ref}: {replicas} replicas, and the cluster has {facts.peers} servers",
            desired.origin,
        )


def overlaps(desired: State, in_the_way: Sequence[Resource]) -> Mapping[Ref, list[Problem]]:
    """Per desired stream, the live streams outside the plan that already store one of its subjects (10065)."""
    index = SubjectIndex()
    for stream in in_the_way:
        for subject in stream.config.get("subjects") or ():
            index.add(subject, stream.ref.stream)
    owners = {stream.ref.stream: stream.owner for stream in in_the_way}
    found: dict[Ref, list[Problem]] = {}
    for stream in desired.streams():
        for subject in stream.config.get("subjects") or ():
            for pattern, name in index.overlapping(subject):
                whose = (
                    f"stream {name} of organisation {owners[name]}"
                    if owners[name]
                    else f"stream {name}, which is not managed"
                )
                found.setdefault(stream.ref, []).append(
                    Problem(
                        "overlap",
                        f"{stream.ref}: {subject} is already stored by {whose} ({pattern})",
                        stream.origin,
                        _way_out(name, owners[name], stream),
                    ),
                )
    return found


def _way_out(name: str, owner: str | None, wanted: Resource) -> str:
    if owner and owner == wanted.owner:
        return f"{name} is no longer in the manifest: apply with --prune deletes it"
    return f"take the subject out of {name}, or out of the manifest"


def of_limits(changes: Sequence[Change], live: State, facts: Facts) -> Iterator[Problem]:
    """What the account would refuse: streams (10027), consumers per stream (10026), storage (10047, 10028), max_bytes (10113, 10122)."""
    limits = facts.limits
    created = [change.after for change in changes if change.after and change.action is Action.CREATE]
    deleted = [change.before for change in changes if change.before and change.action is Action.DELETE]
    streams = limits.streams + _net(Kind.STREAM, created, deleted)
    if 0 < limits.max_streams < streams:
        yield Problem(
            "limit-streams",
            f"{streams} streams are needed, and the account may have {limits.max_streams} (it has {limits.streams})",
            None,
            "raise the account's limit or remove streams",
        )
    if limits.max_consumers > 0:
        yield from _consumer_limit(created, live, limits.max_consumers)
    for storage, most, reserved in (
        ("file", limits.max_storage, limits.storage),
        ("memory", limits.max_memory, limits.memory),
    ):
        needed = reserved + sum(_growth(change, storage) for change in changes)
        if most > 0 and needed > max(most, reserved):
            yield Problem(
                "limit-storage",
                f"{format_size(needed)} of {storage} storage are needed (sum of max_bytes and replicas), and the account may have {format_size(most)}",
                None,
                "lower max_bytes, or raise the account's limit",
            )
    if limits.max_bytes_required:
        for change in changes:
            if (
                change.after
                and change.ref.kind is Kind.STREAM
                and change.after.config.get("max_bytes", -1) <= 0
            ):
                yield Problem(
                    "limit-max-bytes", f"{change.ref}: the account requires a max_bytes", change.after.origin
                )


def _net(kind: Kind, created: Sequence[Resource], deleted: Sequence[Resource]) -> int:
    return sum(item.ref.kind is kind for item in created) - sum(item.ref.kind is kind for item in deleted)


def _consumer_limit(created: Sequence[Resource], live: State, most: int) -> Iterator[Problem]:
    wanted: dict[str, int] = {}
    for resource in created:
        if resource.ref.kind is Kind.CONSUMER:
            wanted[resource.ref.stream] = wanted.get(resource.ref.stream, 0) + 1
    for stream, number in wanted.items():
        total = number + len(live.consumers(stream))
        if total > most:
            yield Problem(
                "limit-consumers",
                f"{stream} needs {total} consumers, and the account may have {most} per stream",
                None,
                "raise the account's limit",
            )


def _growth(change: Change, storage: str) -> int:
    """Bytes that a change reserves in addition; a reservation is max_bytes times replicas."""
    if change.ref.kind is Kind.CONSUMER:
        return 0
    return _reserved(change.after, storage) - _reserved(change.before, storage)


def _reserved(stream: Resource | None, storage: str) -> int:
    if stream is None or stream.config.get("storage", "file") != storage:
        return 0
    size: int = max(stream.config.get("max_bytes", 0), 0) * max(stream.config.get("num_replicas", 1), 1)
    return size


def _since(field: Field, value: object) -> int:
    return max(field.since, (field.choices or {}).get(str(value), 0) if field.unit is Unit.CHOICE else 0)
