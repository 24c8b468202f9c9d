"""Rules of a manifest that a schema cannot express, one function each, listed in RULES.

A rule takes an Org and yields Problems. It must bear what the schema already refused: such values are absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from cyborg_infra.manifest import channel_rules
from cyborg_infra.manifest.suggest import NameIndex
from cyborg_infra.model import buckets, subjects
from cyborg_infra.model.channels import Party, Scope
from cyborg_infra.model.organisation import FieldValues, ManifestPath, Org, Role
from cyborg_infra.model.problems import Problem, SourcePosition

Rule = Callable[[Org], Iterator[Problem]]

_LONGEST_BUCKET = subjects.MAX_NAME - len(buckets.STREAM_PREFIX)
MAX_CIRCLE_SHOWN = 5
_MAX_DESCRIPTION = 4096  # bytes; the server's limit


def check_manifest(orgs: Iterable[Org]) -> list[Problem]:
    """Return what all rules have against all of `orgs`, each problem once."""
    every = (*RULES, *channel_rules.RULES)
    return list(dict.fromkeys(problem for org in orgs for rule in every for problem in rule(org)))


def org_is_a_token(org: Org) -> Iterator[Problem]:
    """Check that the organisation's name is the first token of its subjects."""
    yield from _name_problems("the organisation's name", org.name, org.marks.get(("org",)))


def roles_are_tokens(org: Org) -> Iterator[Problem]:
    """Check that a role's name is one subject token, and part of stream and consumer names."""
    for role in org.roles:
        yield from _name_problems("a role's name", role.name, role.mark)


def events_are_domain_and_event(org: Org) -> Iterator[Problem]:
    """Check that an event's name is two or more subject tokens."""
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
    """Find names that stand twice in their list."""
    for what, items in (("role", org.roles), ("event", org.events), ("bucket", org.buckets)):
        seen: dict[str, SourcePosition | None] = {}
        for item in items:
            if item.name in seen:
                message = f"the {what} {item.name} is already given in line {_line(seen[item.name])}"
                yield Problem("duplicate-name", message, item.mark, "keep one of them")
            seen.setdefault(item.name, item.mark)


def former_names_are_free(org: Org) -> Iterator[Problem]:
    """Check that each former name (`renamed_from`) belongs to no present role, and to one role only."""
    names, former = {role.name for role in org.roles}, dict[str, str]()
    for role in org.roles:
        if not role.renamed_from:
            continue
        where = org.marks.get(("roles", role.name, "renamed_from"), role.mark)
        yield from _name_problems("a role's former name", role.renamed_from, where)
        if role.renamed_from in names:
            message = f"{role.name} cannot be renamed from {role.renamed_from}: that role is in the manifest"
            yield Problem("bad-rename", message, where, "rename in two applies if roles swap their names")
        elif former.setdefault(role.renamed_from, role.name) != role.name:
            message = (
                f"{former[role.renamed_from]} and {role.name} cannot both be renamed from {role.renamed_from}"
            )
            yield Problem("bad-rename", message, where, "one role takes its tasks and its progress over")


def roles_scale_upwards(org: Org) -> Iterator[Problem]:
    """Check that no role's minimum of agents is above its maximum."""
    for role in org.roles:
        if role.scaling and role.scaling.min > role.scaling.max:
            where = org.marks.get(("roles", role.name, "scaling"), role.mark)
            message = (
                f"{role.name} cannot have {role.scaling.min} agents at least and {role.scaling.max} at most"
            )
            yield Problem("bad-value", message, where, "min is at most max")


def prefix_is_part_of_a_name(org: Org) -> Iterator[Problem]:
    """Check that the prefix of stream names may hold what a stream's name may."""
    if org.stream_prefix and not subjects.is_name(org.stream_prefix):
        yield Problem(
            "bad-name",
            f"the stream prefix {org.stream_prefix!r} cannot begin a stream's name",
            org.layered_mark("naming", "stream_prefix"),
            "at most 255 bytes without dots, white space, wildcards and slashes, such as GENBRAIN_",
        )


def buckets_are_named_for_clients(org: Org) -> Iterator[Problem]:
    """Check that every client can open the buckets, none is the tool's own, and no stream is called like one."""
    for bucket in org.buckets:
        if not buckets.is_bucket(bucket.name) and bucket.name:
            hint = "clients take letters of the English alphabet, digits, - and _"
            if bucket.task_state:
                hint = f"the task documents' bucket has the organisation's name in it; {hint}"
            yield Problem("bad-name", f"{bucket.name!r} cannot be a bucket's name", bucket.mark, hint)
        elif bucket.name in buckets.TOOL_BUCKETS:
            message = f"the bucket {bucket.name} is this tool's own"
            yield Problem("bad-name", message, bucket.mark, "choose another name")
        elif len(buckets.bucket_stream(bucket.name)) > subjects.MAX_NAME:
            message = f"the bucket {bucket.name[:24]}... has a name of more than {_LONGEST_BUCKET} bytes"
            yield Problem("name-too-long", message, bucket.mark, "choose a shorter name")
    if org.buckets and org.stream_prefix.startswith(buckets.STREAM_PREFIX):
        yield Problem(
            "bad-name",
            f"the stream prefix {org.stream_prefix!r} would make buckets of streams",
            org.layered_mark("naming", "stream_prefix"),
            f"clients know a bucket by {buckets.STREAM_PREFIX} in its stream's name",
        )


def groups_are_of_roles(org: Org) -> Iterator[Problem]:
    """Check that a group has a name that no role has, and that its members are roles."""
    roles = _role_index(org)
    former = {role.renamed_from: role.name for role in org.roles if role.renamed_from}
    for group in org.groups:
        yield from _name_problems("a group's name", group.name, group.mark)
        if group.name in roles:
            message = f"{group.name} is a role, and so cannot be a group"
            yield Problem("duplicate-name", message, group.mark, "rename the group")
        elif now := former.get(group.name):
            message = f"{group.name} is what {now} was called, and so cannot be a group yet"
            hint = "what still names the role would mean the group: rename it, or take renamed_from out first"
            yield Problem("duplicate-name", message, group.mark, hint)
        for position, member in enumerate(group.members):
            if member not in roles:
                where = org.marks.get(("groups", group.name, position), group.mark)
                yield _no_role(f"{member}, which is in the group {group.name},", member, roles, where)


def channels_of_groups_have_some(org: Org) -> Iterator[Problem]:
    """Check that where each group shall have a subject, there are groups."""
    for channel in org.channels:
        if channel.scope is Scope.GROUP and not org.groups:
            message = f"{channel.name} is of groups, and the manifest has none"
            yield Problem("no-group", message, channel.mark, "name them under groups, or take it out")


def named_roles_exist(org: Org) -> Iterator[Problem]:
    """Find names that are neither a role nor a group of the organisation, where these are named."""
    known = _role_index(org, *(group.name for group in org.groups))
    missing = "no role or group" if org.groups else "no role"
    for what, path, names, fallback in _named_roles(org):
        for position, name in enumerate(names):
            if name not in known:
                where = org.marks.get((*path, position), fallback)
                yield _no_role(what.format(name), name, known, where, missing)


def _named_roles(org: Org) -> Iterator[tuple[str, ManifestPath, Sequence[str], SourcePosition | None]]:
    """Yield each list of roles and groups: what a name in it is, and where it stands."""
    for event in org.events:
        path: ManifestPath = ("events", event.name)
        yield f"publisher {{}} of {event.name}", (*path, "publishers"), event.publishers, event.mark
        yield f"subscriber {{}} of {event.name}", (*path, "subscribers"), event.subscribers, event.mark
    for bucket in org.buckets:
        path = ("key_value", bucket.name)
        for part in buckets.BUCKET_USERS:
            yield f"{part[:-1]} {{}} of {bucket.name}", (*path, part), getattr(bucket, part), bucket.mark
    for channel in org.channels:
        for part, parties in (("publishers", channel.publishers), ("readers", channel.readers)):
            named = [party for party in parties if not isinstance(party, Party)]
            yield f"{part[:-1]} {{}} of {channel.name}", ("channels", channel.name, part), named, channel.mark
    for role in org.roles:
        yield f"{{}}, which {role.name} assigns to,", ("roles", role.name, "assigns"), role.assigns, role.mark


def roles_report_to_one_head(org: Org) -> Iterator[Problem]:
    """Check the chart: everybody reports to a role, not in a circle, and at most one to nobody without saying so."""
    roles = _role_index(org)
    for role in org.roles:
        if role.reports_to and role.reports_to not in roles:
            message = f"{role.reports_to}, whom {role.name} reports to,"
            yield _no_role(message, role.reports_to, roles, _reports_to_mark(org, role))
    for circle in _circles(org):
        yield Problem(
            "chart-circle",
            _in_words(circle),
            _reports_to_mark(org, circle[0]),
            "let one of them report to a role above them all, or to nobody",
        )
    heads = [role for role in org.roles if not role.reports_to and not role.is_head]
    if org.has_chart:
        for role in heads[1:]:
            yield Problem(
                "second-head",
                f"{role.name} reports to nobody, as {heads[0].name} does",
                role.mark,
                "write reports_to: ROLE, or reports_to: false if that is meant",
            )


def _circles(org: Org) -> Iterator[list[Role]]:
    """Yield the roles of each circle, in the order of reporting, beginning with the first in the manifest."""
    done: set[str] = set()
    for start in org.roles:
        way: dict[str, Role] = {}
        role: Role | None = start
        while role and role.name not in done and role.name not in way:
            way[role.name] = role
            role = org.role(role.reports_to)
        if role and role.name in way:
            names = list(way)
            yield [way[name] for name in names[names.index(role.name) :]]
        done.update(way)


def _in_words(circle: Sequence[Role]) -> str:
    first, *others = [role.name for role in circle]
    if not others:
        return f"{first} reports to itself"
    shown = others[:MAX_CIRCLE_SHOWN]
    if more := len(others) - len(shown):
        shown.append(f"{more} more")
    return f"{first} reports to {', who reports to '.join((*shown, first))}"


def _reports_to_mark(org: Org, role: Role) -> SourcePosition | None:
    return org.marks.get(("roles", role.name, "reports_to"), role.mark)


def environments_change_what_exists(org: Org) -> Iterator[Problem]:
    """Check that an environment cannot add a role or a bucket."""
    roles = _role_index(org)
    buckets_there = NameIndex(bucket.name for bucket in org.buckets)
    for path, layer in org.layers_by_path():
        for name in (name for name in layer.buckets if name not in buckets_there):
            where = org.marks.get((*path, "key_value", name))
            message = f"{name}, which the environment {org.environment} changes, is no bucket"
            meant = buckets_there.nearest(name)
            yield Problem(
                "unknown-bucket",
                message,
                where,
                f"did you mean {meant}?" if meant else "name it in key_value",
            )
        changed = dict.fromkeys([*layer.roles, *(role for role, _queue in layer.alerts if role)])
        for name in (name for name in changed if name not in roles):
            where = org.marks.get((*path, "roles", name))
            yield _no_role(f"{name}, which the environment {org.environment} changes,", name, roles, where)


def filters_are_one_or_many(org: Org) -> Iterator[Problem]:
    """Check that nobody sets both filter_subject and filter_subjects, which the server refuses (10136)."""
    for path, fields in _settings(org):
        if fields.get("filter_subject") and fields.get("filter_subjects"):
            yield Problem(
                "two-filters",
                "filter_subject and filter_subjects are both given",
                org.marks.get((*path, "filter_subject")),
                "keep filter_subjects",
            )


def descriptions_fit(org: Org) -> Iterator[Problem]:
    """Check the length of descriptions in bytes, which the server counts; the schema counts characters."""
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
    former_names_are_free,
    roles_scale_upwards,
    prefix_is_part_of_a_name,
    buckets_are_named_for_clients,
    groups_are_of_roles,
    channels_of_groups_have_some,
    named_roles_exist,
    roles_report_to_one_head,
    environments_change_what_exists,
    filters_are_one_or_many,
    descriptions_fit,
)


def _name_problems(what: str, name: str, where: SourcePosition | None) -> Iterator[Problem]:
    """Yield what is wrong with a name that is one token and, as part of stream and consumer names, of directories."""
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
    """Return what keeps `token` from being a subject token, or None."""
    if not token:
        return "no token may be empty"
    if subjects.is_token(token) and token.isprintable():
        return None
    return "no white space, wildcards (* and >) or invisible characters, and no $ in front"


def _role_index(org: Org, *besides: str) -> NameIndex:
    """Return the names of the roles, by which one that was renamed is found as well."""
    former = {role.renamed_from: role.name for role in org.roles if role.renamed_from}
    return NameIndex([*(role.name for role in org.roles), *besides], former)


def _no_role(
    what: str, name: str, known: NameIndex, where: SourcePosition | None, missing: str = "no role"
) -> Problem:
    meant = known.nearest(name)
    hint = f"did you mean {meant}?" if meant else f"roles: {', '.join(known.first(12))}"
    return Problem("unknown-role", f"{what} is {missing}", where, hint)


def _line(mark: SourcePosition | None) -> int:
    return mark.line if mark else 1


def _settings(org: Org) -> Iterator[tuple[ManifestPath, FieldValues]]:
    """Yield every place where fields are set, with what is set there."""
    for path, layer in org.layers_by_path():
        for stream, fields in layer.streams.items():
            yield (*path, "streams", stream), fields
        for consumer, fields in layer.consumers.items():
            yield (*path, "consumers", consumer), fields
        for role, kinds in layer.roles.items():
            for kind, fields in kinds.items():
                yield (*path, "roles", role, kind), fields
        for bucket, fields in layer.buckets.items():
            yield (*path, "key_value", bucket), fields
