"""What a schema cannot say of one manifest: one function a rule, listed in RULES. Knows nothing of expanded streams.

A rule takes an Org and yields Problems. It must bear what the schema already refused: such values are absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cyborg_infra.manifest.schema import nearest
from cyborg_infra.model import buckets, subjects
from cyborg_infra.model.namespace import tasks_stream
from cyborg_infra.model.org import Org, Path
from cyborg_infra.model.problems import Mark, Problem

Rule = Callable[[Org], Iterator[Problem]]

# The longest name of a consumer that is made of a role's.
_LONGEST_CONSUMER = "{}-broadcast-reader"
_LONGEST_BUCKET = subjects.MAX_NAME - len(buckets.STREAM_PREFIX)
_MAX_DESCRIPTION = 4096  # bytes; the server's limit


def check(orgs: Iterable[Org]) -> list[Problem]:
    """What all rules have against all of `orgs`, each problem once."""
    return list(dict.fromkeys(problem for org in orgs for rule in RULES for problem in rule(org)))


def org_is_a_token(org: Org) -> Iterator[Problem]:
    """The organisation's name is the first token of its subjects."""
    yield from _name_problems("the organisation's name", org.name, org.marks.get(("org",)))


def roles_are_tokens(org: Org) -> Iterator[Problem]:
    """A role's name is one subject token, and part of stream and consumer names."""
    for role in org.roles:
        yield from _name_problems("a role's name", role.name, role.mark)


def events_are_domain_and_event(org: Org) -> Iterator[Problem]:
    """An event's name is two or more subject tokens."""
    for event in org.events:
        tokens = event.name.split(".")
        if event.name and len(tokens) == 1:
            hint = "an event is <domain>.<event>, such as deploy.complete"
            yield Problem("bad-name", f"the event {event.name!r} has no domain", event.mark, hint)
            continue
        for token in tokens if event.name else ():
            fault = _token_fault(token)
            if fault:
                message = f"{token!r} cannot be part of the event {event.name!r}"
                yield Problem("bad-name", message, event.mark, fault)


def names_are_given_once(org: Org) -> Iterator[Problem]:
    """No role, event or bucket stands in its list twice."""
    for what, items in (("role", org.roles), ("event", org.events), ("bucket", org.buckets)):
        seen: dict[str, Mark | None] = {}
        for item in items:
            if item.name in seen:
                message = f"the {what} {item.name} is already given in line {_line(seen[item.name])}"
                yield Problem("duplicate-name", message, item.mark, "keep one of them")
            seen.setdefault(item.name, item.mark)


def roles_have_streams_of_their_own(org: Org) -> Iterator[Problem]:
    """No two roles meet in the name of their task stream."""
    seen: dict[str, str] = {}
    for role in org.roles:
        stream = _stream(org, role.name)
        other = seen.setdefault(stream, role.name)
        if other != role.name:
            yield Problem(
                "same-stream",
                f"the roles {other} and {role.name} would share the stream {stream}",
                role.mark,
                "rename one of them",
            )


def former_names_are_free(org: Org) -> Iterator[Problem]:
    """A role was renamed_from a name that nobody has now, and that nobody else had."""
    names, former = {role.name for role in org.roles}, dict[str, str]()
    for role in org.roles:
        where = org.marks.get(("roles", role.name, "renamed_from"), role.mark)
        yield from _name_problems("a role's former name", role.renamed_from, where)
        if role.renamed_from in names:
            message = f"{role.name} cannot be renamed from {role.renamed_from}: that role is in the manifest"
            yield Problem("bad-rename", message, where, "rename in two applies if roles swap their names")
        elif role.renamed_from and former.setdefault(role.renamed_from, role.name) != role.name:
            message = (
                f"{former[role.renamed_from]} and {role.name} cannot both be renamed from {role.renamed_from}"
            )
            yield Problem("bad-rename", message, where, "one role takes its tasks and its progress over")


def names_fit(org: Org) -> Iterator[Problem]:
    """The server's limit for the names of streams and consumers (10102)."""
    for role in org.roles:
        for longest in (_stream(org, role.name), _LONGEST_CONSUMER.format(role.name)):
            size = len(longest.encode())
            if size > subjects.MAX_NAME:
                message = f"{longest[:24]}... would have {size} bytes; the server takes {subjects.MAX_NAME}"
                yield Problem("name-too-long", message, role.mark, "choose a shorter name")
                break


def prefix_is_part_of_a_name(org: Org) -> Iterator[Problem]:
    """The prefix of stream names may hold what a stream's name may."""
    if org.stream_prefix and not subjects.is_name(org.stream_prefix):
        yield Problem(
            "bad-name",
            f"the stream prefix {org.stream_prefix!r} cannot begin a stream's name",
            _layered_mark(org, "naming", "stream_prefix"),
            "at most 255 bytes without dots, white space, wildcards and slashes, such as GENBRAIN_",
        )


def buckets_are_named_for_clients(org: Org) -> Iterator[Problem]:
    """Every client can open the buckets, none is the tool's own, and no stream is called like one."""
    for bucket in org.buckets:
        if not buckets.is_bucket(bucket.name) and bucket.name:
            hint = "clients take letters of the English alphabet, digits, - and _"
            if bucket.task_state:
                hint = f"the task documents' bucket has the organisation's name in it; {hint}"
            yield Problem("bad-name", f"{bucket.name!r} cannot be a bucket's name", bucket.mark, hint)
        elif bucket.name == buckets.LEASES:
            message = f"the bucket {bucket.name} holds the leases of this tool"
            yield Problem("bad-name", message, bucket.mark, "choose another name")
        elif len(buckets.bucket_stream(bucket.name)) > subjects.MAX_NAME:
            message = f"the bucket {bucket.name[:24]}... has a name of more than {_LONGEST_BUCKET} bytes"
            yield Problem("name-too-long", message, bucket.mark, "choose a shorter name")
    if org.buckets and org.stream_prefix.startswith(buckets.STREAM_PREFIX):
        yield Problem(
            "bad-name",
            f"the stream prefix {org.stream_prefix!r} would make buckets of streams",
            _layered_mark(org, "naming", "stream_prefix"),
            f"clients know a bucket by {buckets.STREAM_PREFIX} in its stream's name",
        )


def events_are_between_roles(org: Org) -> Iterator[Problem]:
    """Publishers and subscribers of events are roles of the organisation."""
    known = [role.name for role in org.roles]
    roles = set(known)
    for event in org.events:
        for part, members in (("publishers", event.publishers), ("subscribers", event.subscribers)):
            for position, member in enumerate(members):
                if member not in roles:
                    where = org.marks.get(("events", event.name, part, position), event.mark)
                    yield _no_role(f"{part[:-1]} {member} of {event.name}", member, known, where)


def environments_change_what_exists(org: Org) -> Iterator[Problem]:
    """An environment cannot add a role or a bucket."""
    known = [role.name for role in org.roles]
    named = [bucket.name for bucket in org.buckets]
    for path, layer in _layers(org):
        for name in layer.buckets.keys() - set(named):
            where = org.marks.get((*path, "key_value", name))
            message = f"{name}, which the environment {org.environment} changes, is no bucket"
            meant = nearest(name, named)
            yield Problem(
                "unknown-bucket",
                message,
                where,
                f"did you mean {meant}?" if meant else "name it in key_value",
            )
        for name in layer.roles.keys() - set(known):
            where = org.marks.get((*path, "roles", name))
            yield _no_role(f"{name}, which the environment {org.environment} changes,", name, known, where)


def filters_are_one_or_many(org: Org) -> Iterator[Problem]:
    """The server takes filter_subject or filter_subjects, never both (10136)."""
    for path, fields in _settings(org):
        if fields.get("filter_subject") and fields.get("filter_subjects"):
            yield Problem(
                "two-filters",
                "filter_subject and filter_subjects are both given",
                org.marks.get((*path, "filter_subject")),
                "keep filter_subjects",
            )


def descriptions_fit(org: Org) -> Iterator[Problem]:
    """The server counts bytes, where the schema counts characters."""
    for path, fields in _settings(org):
        size = len(fields.get("description", "").encode())
        if size > _MAX_DESCRIPTION:
            yield Problem(
                "bad-value",
                f"description must be at most {_MAX_DESCRIPTION} bytes long, not {size}",
                org.marks.get((*path, "description")),
            )


RULES: tuple[Rule, ...] = (
    org_is_a_token,
    roles_are_tokens,
    events_are_domain_and_event,
    names_are_given_once,
    roles_have_streams_of_their_own,
    former_names_are_free,
    names_fit,
    prefix_is_part_of_a_name,
    buckets_are_named_for_clients,
    events_are_between_roles,
    environments_change_what_exists,
    filters_are_one_or_many,
    descriptions_fit,
)


def _name_problems(what: str, name: str, where: Mark | None) -> Iterator[Problem]:
    """Against a name that is one token and, as part of stream and consumer names, of directories."""
    if not name:  # missing, or refused by the schema
        return
    fault = _token_fault(name)
    if "." in name:
        fault = "one token, so no dots"
    elif "/" in name or "\\" in name:
        fault = "no slashes: names become directories on the server"
    if fault:
        yield Problem("bad-name", f"{name!r} cannot be {what}", where, fault)


def _token_fault(token: str) -> str | None:
    """What keeps `token` from being a subject token, or None."""
    if not token:
        return "no token may be empty"
    if subjects.is_token(token) and token.isprintable():
        return None
    return "no white space, wildcards (* and >) or invisible characters, and no $ in front"


def _no_role(what: str, name: str, known: list[str], where: Mark | None) -> Problem:
    meant = nearest(name, known)
    hint = f"did you mean {meant}?" if meant else f"roles: {', '.join(list(dict.fromkeys(known))[:12])}"
    return Problem("unknown-role", f"{what} is no role", where, hint)


def _stream(org: Org, role: str) -> str:
    return tasks_stream(org.stream_prefix, role)


def _line(mark: Mark | None) -> int:
    return mark.line if mark else 1


def _layers(org: Org) -> Iterator[tuple[Path, Any]]:
    """The manifest's own layer and the environment's, each with the path where it stands."""
    prefixes: tuple[Path, ...] = ((), ("environments", org.environment or ""))
    yield from zip(prefixes, org.layers, strict=False)


def _settings(org: Org) -> Iterator[tuple[Path, Any]]:
    """Every place where fields are set, with what is set there."""
    for path, layer in _layers(org):
        for kind, fields in layer.streams.items():
            yield (*path, "streams", kind.value), fields
        for kind, fields in layer.consumers.items():
            yield (*path, "consumers", kind.value), fields
        for role, kinds in layer.roles.items():
            for kind, fields in kinds.items():
                yield (*path, "roles", role, kind.value), fields
        for bucket, fields in layer.buckets.items():
            yield (*path, "key_value", bucket), fields


def _layered_mark(org: Org, *keys: str) -> Mark | None:
    """The place of a setting that an environment's replaces."""
    paths = [(*path, *keys) for path, _layer in reversed(list(_layers(org)))]
    return next((org.marks[path] for path in paths if path in org.marks), None)
