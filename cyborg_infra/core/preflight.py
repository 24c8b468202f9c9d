"""What would fail on this server, found before the first write. Knows the server by its Facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cyborg_infra.core.namespace import advisories_of
from cyborg_infra.model.fields import FIELDS, OLDEST, Field, Unit, Version
from cyborg_infra.model.org import Org, StreamKind
from cyborg_infra.model.plan import Action, Change
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.state import KIND, Facts, Ref, Resource, State, encoded
from cyborg_infra.model.subjects import SubjectIndex

# Measured: 2.14.0 and before refuse consumer_limits without a member that some consumer has; 2.14.6 does not.
ABSENT_LIMIT_IS_NONE = Version(2, 14, 6)


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


def of_fields(desired: Resource, facts: Facts) -> Iterator[Problem]:
    """Fields and values that this server does not know: it would refuse them (10025), or before 2.12 drop them silently."""
    wanted = desired.canonical()
    for name in wanted:
        field = FIELDS[desired.ref.kind][name]
        needed = since(field, wanted[name])
        if needed > facts.level:
            yield Problem(
                "unknown-field",
                f"{desired.ref}: {name} needs API level {needed}, and the server has level {facts.level} (nats-server {facts.version})",
                desired.origin,
                "take it out of the manifest, or update the server",
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
    """Copies on a single server (10074). How many servers a cluster has, nobody tells: those that are down are not counted."""
    replicas = desired.config.get("num_replicas", 0)
    if replicas > 1 and not facts.cluster:
        yield Problem(
            "replicas",
            f"{desired.ref}: {replicas} replicas need a cluster, and this is a single server",
            desired.origin,
            "set replicas to 1",
        )


def of_size(desired: Resource, facts: Facts) -> Iterator[Problem]:
    """A configuration that fits into no request (max_payload): with 7,000 roles and two notices each, that of DEAD_LETTERS."""
    size = len(encoded(desired.config))
    if 0 < facts.max_payload < size:
        way = "raise max_payload on the server"
        if desired.metadata[KIND] == StreamKind.DEAD_LETTERS:
            subjects = ", ".join((desired.config["subjects"][0], *advisories_of("*")))
            way += f", or, in an account that nobody else uses, set streams.dead_letters.subjects to [{subjects}]"
        yield Problem(
            "max-payload",
            f"{desired.ref}: its configuration has {size:,} bytes, and the server takes requests of {facts.max_payload:,}",
            desired.origin,
            way,
        )


def overlaps(desired: State, in_the_way: Sequence[Resource]) -> Mapping[Ref, list[Problem]]:
    """Per desired stream, the live streams outside the plan that already store one of its subjects (10065)."""
    if not in_the_way:
        return {}
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


def way_apart(desired: Resource) -> str:
    """How two organisations in one account get different names."""
    way = "set naming.stream_prefix"
    if desired.metadata[KIND] == StreamKind.KEY_VALUE:
        way = "choose another one for the bucket; no stream_prefix stands before it"
    return f"two organisations in one account need different names: {way}"


def of_consumer_limits(change: Change, live: State, desired: State, facts: Facts) -> Iterator[Problem]:
    """Limits of a living stream that some consumer, ours as it shall be or a stranger's, exceeds (10069)."""
    if change.after is None or change.action not in (Action.UPDATE, Action.ADOPT):
        return
    if not any(field.field == "consumer_limits" for field in change.fields):
        return
    limits = change.after.config.get("consumer_limits") or {}
    readers = [desired.resources.get(found.ref, found) for found in live.consumers(change.ref.stream)]
    for name in ("max_ack_pending", "inactive_threshold"):
        most = limits.get(name) or 0
        above = [str(found.ref) for found in readers if found.config.get(name, 0) > most]
        if above and most:
            yield Problem(
                "consumer-limits",
                f"{change.ref}: {', '.join(above)} exceeds the consumer_limits in {name}",
                change.after.origin,
                "change or remove the consumer first, or raise the limit",
            )
        elif above and facts.version < ABSENT_LIMIT_IS_NONE:
            yield Problem(
                "consumer-limits",
                f"{change.ref}: nats-server {facts.version} compares {', '.join(above)} with consumer_limits that have no {name}",
                change.after.origin,
                f"give consumer_limits a high {name} instead of none, or update the server",
            )


def since(field: Field, value: object) -> int:
    """The first API level that knows this field, and this value of it."""
    return max(field.since, (field.choices or {}).get(str(value), 0) if field.unit is Unit.CHOICE else 0)
