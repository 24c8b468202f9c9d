"""Find before the first write what this server would refuse, from what it says of itself."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from cyborg_infra.core.desired.naming import advisories_of_stream
from cyborg_infra.core.desired.rules import captured_subjects
from cyborg_infra.core.desired.settings import where_set
from cyborg_infra.model.changes import Action, Blocked, Change
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.constraints import exceeded
from cyborg_infra.model.consumer_position import filter_patterns
from cyborg_infra.model.fields import FIELDS, Kind, since
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import (
    DesiredResource,
    DesiredState,
    LiveResource,
    LiveState,
    Resource,
    StreamCounts,
    json_size,
)
from cyborg_infra.model.server import UNNAMED_CLUSTER, ServerInfo
from cyborg_infra.model.server_versions import OLDEST
from cyborg_infra.model.subjects import SubjectIndex, overlap
from cyborg_infra.model.wording import Option, worded

CAPTURE = "capture"
"""The code of a problem: a stream stores what the organisation wants stored by nobody."""


def check_server(org: Org | None, server_info: ServerInfo) -> Iterator[Problem]:
    """Yield what is wrong with the server or account as a whole."""
    if server_info.version < OLDEST:
        yield Problem(
            "server-version",
            f"nats-server {server_info.version} is too old",
            None,
            f"{OLDEST} or newer is needed: before, streams and consumers have no metadata to mark what is owned",
        )
    if org is None:
        return
    for what in ("account", "cluster"):
        expected, found = getattr(org.server, what), getattr(server_info, what)
        if expected is not None and what == "cluster" and found == UNNAMED_CLUSTER:
            yield Problem(
                "server-expectation",
                f"the manifest expects cluster {expected!r}, and this JetStream does not tell which cluster it is: it has no stream yet",
                org.marks.get(("server", what)),
                "apply the first time through a server of the cluster itself",
            )
        elif expected is not None and expected != found:
            yield Problem(
                "server-expectation",
                f"the manifest expects {what} {expected!r}, and this server has {found or 'none'!r}",
                org.marks.get(("server", what)),
                worded(
                    "choose the right {} or {}, or {}", Option("server"), Option("context"), Option("env")
                ),
            )


def check_fields(desired: DesiredResource, server_info: ServerInfo, org: Org | None) -> Iterator[Problem]:
    """Yield fields and values that this server does not know: it would refuse them (10025), or before 2.12 drop them silently."""
    table = FIELDS[desired.ref.kind]
    for name, value in desired.normalised().items():
        needed = since(table[name], value)
        if needed > server_info.level:
            yield Problem(
                "unknown-field",
                f"{desired.ref}: {name} needs API level {needed}, and the server has level {server_info.level} (nats-server {server_info.version})",
                where_set(desired, org, name),
                "take it out of the manifest, or update the server",
            )


def check_replicas(desired: DesiredResource, server_info: ServerInfo, org: Org | None) -> Iterator[Problem]:
    """Yield problems of replicas on a single server (10074). How many servers a cluster has, nobody tells: those that are down are not counted."""
    replicas = desired.get("num_replicas")
    if replicas > 1 and not server_info.cluster:
        yield Problem(
            "replicas",
            f"{desired.ref}: {replicas} replicas need a cluster, and this is a single server",
            where_set(desired, org, "num_replicas"),
            "set replicas to 1",
        )


def check_request_size(desired: DesiredResource, server_info: ServerInfo) -> Iterator[Problem]:
    """Yield problems of configurations that fit into no request (max_payload): with 7,000 roles and two notices each, that of DEAD_LETTERS."""
    size = json_size(desired.config)
    if 0 < server_info.max_payload < size:
        way = "raise max_payload on the server"
        if desired.metadata[KIND_KEY] == StreamKind.DEAD_LETTERS:
            subjects = ", ".join((desired.get("subjects")[0], *advisories_of_stream("*")))
            way += f", or, in an account that nobody else uses, set streams.dead_letters.subjects to [{subjects}]"
        yield Problem(
            "max-payload",
            f"{desired.ref}: its configuration has {size:,} bytes, and the server takes requests of {server_info.max_payload:,}",
            desired.origin,
            way,
        )


def check_overlaps(desired: DesiredState, foreign_streams: Sequence[Resource]) -> Mapping[Ref, list[Problem]]:
    """Return by desired stream the problems of live streams outside the plan that already store one of its subjects (10065)."""
    if not foreign_streams:
        return {}
    index = SubjectIndex()
    for stream in foreign_streams:
        for subject in stream.get("subjects"):
            index.add(subject, stream.ref.stream)
    owners = {stream.ref.stream: stream.owner for stream in foreign_streams}
    found: dict[Ref, list[Problem]] = {}
    for stream in desired.streams():
        for subject in stream.get("subjects"):
            for pattern, name in index.overlapping(subject):
                whose = _whose(name, owners[name])
                found.setdefault(stream.ref, []).append(
                    Problem(
                        "overlap",
                        f"{stream.ref}: {subject} is already stored by {whose} ({pattern})",
                        stream.origin,
                        _overlap_hint(name, owners[name], stream),
                    ),
                )
    return found


def _whose(name: str, owner: str | None) -> str:
    return f"stream {name} of organisation {owner}" if owner else f"stream {name}, which is not managed"


def _overlap_hint(name: str, owner: str | None, wanted: DesiredResource) -> str:
    return _prune_hint(name) if owner and owner == wanted.owner else _subject_hint(name)


def _prune_hint(name: str, what: str = "it") -> str:
    return worded("{} is no longer in the manifest: apply with {} deletes {}", name, Option("prune"), what)


def _subject_hint(name: str) -> str:
    return f"take the subject out of {name}, or out of the manifest"


def check_captures(org: Org, streams: Sequence[LiveResource], orphans: Container[Ref]) -> Iterator[Problem]:
    """Yield a problem for each of these streams that stores ephemeral subjects of the organisation: it answers requests itself (our own rule)."""
    captured: dict[str, list[tuple[str, str]]] = {}
    for subject, pattern, name in captured_subjects(org, streams):
        captured.setdefault(name, []).append((subject, pattern))
    for stream in streams:
        if met := captured.get(stream.ref.stream):
            (subject, pattern), more = met[0], len(met) - 1
            name = stream.ref.stream
            counts = stream.counts
            held = (
                f"it and its messages ({counts.messages:,})"
                if isinstance(counts, StreamCounts) and counts.messages
                else "it"
            )
            yield Problem(
                CAPTURE,
                f"{_whose(name, stream.owner)}{'' if stream.owner else ','} captures {subject} with {pattern}{f' (and {more} more like it)' if more else ''}: "
                "a stream answers a captured request itself, before any agent has spoken",
                None,
                _prune_hint(name, held) if stream.ref in orphans else _subject_hint(name),
            )


def separation_hint(desired: DesiredResource, owner: str) -> str:
    """Return the hint for two organisations in one account whose names are the same."""
    way = "set naming.stream_prefix"
    if desired.metadata[KIND_KEY] == StreamKind.KEY_VALUE:
        way = "choose another one for the bucket; no stream_prefix stands before it"
    return (
        f"two organisations in one account need different names: {way}; "
        f"an organisation cannot be renamed: if this one was {owner}, leave org: {owner}"
    )


def foreign_owner_problem(desired: DesiredResource, owner: str, others: int = 0) -> Problem:
    """Return the problem that this resource, and so many others of the manifest, belong to another organisation."""
    more = f", and so do {others:,} more" if others else ""
    return Problem(
        "foreign-owner",
        f"{desired.ref} belongs to organisation {owner}{more}",
        desired.origin,
        separation_hint(desired, owner),
    )


def owner_told_once(changes: Sequence[Change]) -> list[Change]:
    """Return the changes with the problem of a foreign owner once for each owner: at the first resource, with the number of the others."""
    alike: dict[tuple[str | None, str | None], list[Change]] = {}
    for change in changes:
        for problem in change.problems:
            if problem.code == "foreign-owner" and change.before:
                alike.setdefault((change.before.owner, problem.hint), []).append(change)
    known = {
        id(change): foreign_owner_problem(change.after, owner or "", len(group) - 1)
        if number == 0 and change.after
        else None
        for (owner, _), group in alike.items()
        for number, change in enumerate(group)
    }
    return [
        replace(
            change,
            problems=tuple(
                remaining
                for problem in change.problems
                if (remaining := known[id(change)] if problem.code == "foreign-owner" else problem)
            ),
        )
        if isinstance(change, Blocked) and id(change) in known
        else change
        for change in changes
    ]


def hinted_once(changes: Sequence[Change]) -> list[Change]:
    """Return the changes with each hint at the first problem that has it, and at no other."""
    given: set[tuple[str, str | None]] = set()
    found = []
    for change in changes:
        problems = []
        for problem in change.problems:
            said = (problem.code, problem.hint)
            problems.append(problem._replace(hint=None) if said in given else problem)
            given.add(said)
        found.append(replace(change, problems=tuple(problems)) if isinstance(change, Blocked) else change)
    return found


def check_consumer_limits(
    change: Change, live: LiveState, desired: DesiredState, server_info: ServerInfo
) -> Iterator[Problem]:
    """Yield limits of a living stream that some consumer exceeds, ours before and after it is changed, or a stranger's (10069).

    One that is changed first still has the old limits for what it leaves open.
    """
    if change.after is None or change.action not in (Action.UPDATE, Action.ADOPT):
        return
    if not any(field.field == "consumer_limits" for field in change.fields):
        return
    limits = change.after.get("consumer_limits")
    held = change.before.get("consumer_limits") if change.before else {}
    above: dict[str, list[str]] = {}
    for found in live.consumers(change.ref.stream):
        if found.ref.is_placeholder:  # which an apply brings within them
            continue
        wanted = desired.resources.get(found.ref, found).config
        first = {name: wanted.get(name) or limit for name, limit in held.items()}  # as the server fills it in
        names = [
            exceeded(limits, config, server_info.version) for config in (found.config, {**wanted, **first})
        ]
        if all(names):
            above.setdefault(names[1] or "", []).append(str(found.ref))
    for name, refs in above.items():
        if limits.get(name):
            yield Problem(
                "consumer-limits",
                f"{change.ref}: {', '.join(refs)} exceeds the consumer_limits in {name}",
                change.after.origin,
                "change or remove the consumer first, or raise the limit",
            )
        else:
            yield Problem(
                "consumer-limits",
                f"{change.ref}: nats-server {server_info.version} compares {', '.join(refs)} with consumer_limits that have no {name}",
                change.after.origin,
                f"give consumer_limits a high {name} instead of none, or update the server",
            )


def check_unread(change: Change, live: LiveState) -> Iterator[Problem]:
    """Yield problems of a stream with a foreign consumer that is on a server that is down: where that stands could not be kept."""
    taken = change.action in (Action.REPLACE, Action.DELETE) or change.preserves_messages
    if change.ref.kind is Kind.STREAM and (
        taken or any(field.field == "retention" for field in change.fields)
    ):
        for ref in live.unread:
            if ref.stream == change.current_ref.stream:
                yield Problem(
                    "unread-consumer",
                    f"{change.current_ref}: its consumer {ref} cannot be read, and what it has still to read is not known",
                    change.after.origin if change.after else None,
                    "bring its server back, or delete that consumer",
                )


def foreign_consumers(live: LiveState, desired: DesiredState) -> Mapping[str, Sequence[LiveResource]]:
    """Return workqueue -> its living consumers that are none of the manifest's: what they read, no other may (10099, 10100)."""
    queues = [stream for stream in live.streams() if stream.get("retention") == "workqueue"]
    found = {
        stream.ref.stream: [
            reader
            for reader in live.consumers(stream.ref.stream)
            if reader.ref not in desired.resources
            and not reader.ref.is_placeholder
            and not reader.get("sourcing")
        ]
        for stream in queues
    }
    return {name: readers for name, readers in found.items() if readers}


def conflicting_consumers(change: Change, others: Mapping[str, Sequence[LiveResource]]) -> list[LiveResource]:
    """Return those of a workqueue's other readers that read the same as a consumer that is made or changed."""
    if change.after is None or not change.ref.consumer:
        return []
    return [
        found
        for found in others.get(change.ref.stream, ())
        if found.ref != change.current_ref
        and any(
            overlap(one, other) for one in filter_patterns(change.after) for other in filter_patterns(found)
        )
    ]


def check_conflicting_consumers(change: Change, readers: Iterable[LiveResource]) -> Iterator[Problem]:
    """Yield a problem for each of these consumers that is in the way of this one."""
    for found in readers:
        ours = change.after is not None and found.owner == change.after.owner
        whose = "which is no longer in the manifest" if ours else "which is not managed"
        if found.owner and not ours:
            whose = f"of organisation {found.owner}"
        yield Problem(
            "workqueue",
            f"{change.ref}: consumer {found.ref.consumer} of the same workqueue, {whose}, reads the same messages ({', '.join(filter_patterns(found))})",
            change.after.origin if change.after else None,
            worded("apply with {} deletes it", Option("prune"))
            if ours
            else f"delete {found.ref.consumer}, or give it a filter of its own",
        )
