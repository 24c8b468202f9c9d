"""The names and subjects of an organisation, from its channels: which stream stores them, who reads them under which name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cyborg_infra.core.desired.chart import Assigners
from cyborg_infra.model import channels
from cyborg_infra.model.buckets import STREAM_PREFIX, bucket_stream
from cyborg_infra.model.channels import (
    BUILT_IN,
    Channel,
    Parties,
    Party,
    Scope,
    StreamKind,
    StreamTemplate,
    name_for,
)
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.naming import Subject
from cyborg_infra.model.organisation import Bucket, Group, Member, Org, Role
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, LiveState, Resource
from cyborg_infra.model.subjects import covers

# The server's own notices of what failed for good. Plain publishes: captured like any subject.
ADVISORIES = "$JS.EVENT.ADVISORY.CONSUMER"
EVERY_ADVISORY = f"{ADVISORIES}.>"
MAX_DELIVERIES, MSG_TERMINATED = "MAX_DELIVERIES", "MSG_TERMINATED"
_ADVISORY_KINDS = (MAX_DELIVERIES, MSG_TERMINATED)


def stream_name(org: Org, kind: StreamKind, member: Member | None = None) -> str:
    """Return `AGENT_CTO_TASKS`, `ORG_BROADCASTS` ..., behind the organisation's stream_prefix; a bucket's `KV_drafts` alone."""
    if isinstance(member, Bucket):
        return bucket_stream(member.name)
    channel = org.channel_of(kind)
    if channel is None or channel.stream is None:
        raise ValueError(f"the organisation has no {kind} stream")
    return template_name(org, channel.stream, member)


def template_name(org: Org, stream: StreamTemplate, role: Role | None = None) -> str:
    """Return the name of a channel's stream, of the one that is the role's where there is one for each."""
    if not stream.is_for_each_role:
        return org.stream_prefix + stream.name
    if role is None:
        raise ValueError(f"a {stream.kind} stream belongs to a role")
    return org.stream_prefix + name_for(stream.name, role.name)


def may_be_named(resource: Resource) -> bool:
    """Return whether an organisation, behind whatever stream_prefix, names a resource of this kind and role so.

    Asked of what has no label with its name: that was made when all channels were built in, and their names fixed. True
    of what those say nothing of: temporary streams, placeholders, what a newer version may have made.
    """
    kind, role, name = resource.metadata.get(KIND_KEY), resource.role, resource.ref.name
    if not resource.ref.consumer and kind == StreamKind.KEY_VALUE:
        return name.startswith(STREAM_PREFIX)
    for channel in BUILT_IN:
        of = channel.reader if resource.ref.consumer else channel.stream
        if of and of.kind == kind:
            made = name_for(of.name, role or "")
            if role is None and made != of.name:
                return True
            return name == made if resource.ref.consumer else name.endswith(made)
    return True


def durable_events(org: Org) -> list[str]:
    """Return subjects of the durable events, sorted."""
    return sorted(event_subject(org, event.name) for event in org.events if event.durable)


def subjects_by_reader(org: Org, channel: Channel) -> Mapping[str, list[str]]:
    """Return role -> the subjects of a channel that it reads, sorted: durable events that it subscribes to, groups that it is in.

    Roles without one are absent; and all, where it is not each subject that says who reads it.
    """
    named: list[tuple[str, Iterable[str]]] = []
    if channel.scope is Scope.EVENT:
        named = [(event.name, event.subscribers) for event in org.events if event.durable]
    elif channel.scope is Scope.GROUP and channel.readers == (Party.SELF,):
        named = [(group.name, group.members) for group in org.groups]
    found: dict[str, set[str]] = {}
    for member, readers in named:
        for reader in org.members(readers):
            found.setdefault(reader, set()).add(org.subject(channel.subject_of(member)))
    return {reader: sorted(subjects) for reader, subjects in found.items()}


def event_subject(org: Org, event: str) -> str:
    """Return `genbrain.events.deploy.complete`."""
    channel = org.channel(channels.EVENTS)
    return org.subject(channel.subject_of(event)) if channel else ""


def channel_subject(org: Org, name: str, role: str = "") -> str:
    """Return `genbrain.agents.cto.tasks` for the channel `tasks`, `genbrain.org.broadcasts` for `broadcasts`.

    Raises ValueError for a channel that the organisation does not have.
    """
    channel = org.channel(name)
    if channel is None:
        raise ValueError(f"the organisation has no {name}")
    return org.subject(channel.subject_of(role))


def role_names(role: Role) -> list[str]:
    """Return the role's name, and the one that it had before: what is still sent there reaches it as well."""
    return [role.name, role.renamed_from] if role.renamed_from else [role.name]


def role_subjects(org: Org, channel: Channel, role: Role) -> list[str]:
    """Return the subjects of a channel that are one role's."""
    return [org.subject(channel.subject_of(name)) for name in role_names(role)]


def stream_subjects(org: Org, channel: Channel, role: Role | None = None) -> list[str]:
    """Return the subjects that a channel's stream stores, of the one that is the role's where there is one for each."""
    match channel.scope:
        case Scope.ROLE if role is not None:
            return role_subjects(org, channel, role)
        case Scope.ROLE:
            return [org.subject(channel.subject_of("*"))]
        case Scope.GROUP:
            return [org.subject(channel.subject_of(group)) for group in org.each_of(channel)]
        case Scope.EVENT:
            return durable_events(org)
    own = [org.subject(channel.subject)]
    return [*own, *_advisories(org)] if channel.name == channels.DEAD_LETTERS else own


def _advisories(org: Org) -> list[str]:
    """Return the dead-letter notices of the organisation's streams and no one else's; not of DEAD_LETTERS itself: no loops."""
    watched: list[str] = []
    for channel in existing_channels(org):
        if channel.stream and channel.stream.is_for_each_role:
            of_roles = (name for role in org.roles for name in role_names(role))
            watched += (org.stream_prefix + name_for(channel.stream.name, name) for name in of_roles)
        elif channel.stream and channel.name != channels.DEAD_LETTERS:
            watched.append(template_name(org, channel.stream))
    return [subject for stream in dict.fromkeys(watched) for subject in advisories_of_stream(stream)]


def existing_channels(org: Org) -> Iterator[Channel]:
    """Yield the channels that have streams: that of events only if one is durable, those of groups only if there are groups."""
    stored = {Scope.EVENT: any(event.durable for event in org.events), Scope.GROUP: bool(org.groups)}
    for channel in org.channels:
        if channel.stream and stored.get(channel.scope, True):
            yield channel


def advisories_of_stream(stream: str) -> list[str]:
    """Return the subjects on which the server says that a message of this stream failed for good, for any consumer."""
    return [f"{ADVISORIES}.{event}.{stream}.*" for event in _ADVISORY_KINDS]


def stores_dead_letters(handed_in: str, live: LiveState) -> bool:
    """Return whether any stream stores what is published on this subject of the dead letters: DEAD_LETTERS takes all of them or, between two streams, none."""
    return any(covers(wide, handed_in) for stream in live.streams() for wide in stream.get("subjects"))


def stream_of_advisory(subject: str) -> str | None:
    """Return the stream whose dead-letter notices come on this subject, or None if it is no such subject."""
    tokens = subject.split(".")
    notice = len(tokens) == len(ADVISORIES.split(".")) + 3 and subject.startswith(f"{ADVISORIES}.")
    return tokens[-2] if notice and tokens[-3] in _ADVISORY_KINDS else None


def dead_letter_transform(org: Org) -> dict[str, str]:
    """Return the transform that stores an advisory under `<org>.org.deadletter.<stream>.<consumer>`; messages on other subjects stay as they are."""
    return {
        "src": f"{ADVISORIES}.*.*.*",
        "dest": f"{channel_subject(org, channels.DEAD_LETTERS)}.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}",
    }


def ephemeral_subjects(org: Org, may_meet: Callable[[str], object]) -> list[str]:
    """Return subjects that no stream may capture: a captured request is answered by the stream, not by the agent.

    Of a channel of roles all or none: `may_meet` is asked of its subject with a wildcard for the role.
    """
    of_roles = [
        channel
        for channel in org.channels
        if channel.scope is Scope.ROLE
        and not channel.stream
        and may_meet(org.subject(channel.subject_of("*")))
    ]
    found = [org.subject(channel.subject_of(role.name)) for role in org.roles for channel in of_roles]
    found += [
        org.subject(channel.subject_of(member))
        for channel in org.channels
        if channel.scope in (Scope.ORG, Scope.GROUP) and not channel.stream
        for member in org.each_of(channel)
    ]
    return found + [event_subject(org, event.name) for event in org.events if not event.durable]


def readers(org: Org, channel: Channel) -> Iterator[tuple[Role | None, Sequence[str]]]:
    """Yield each role that has a consumer of this channel, None for one that is no role's, and the subjects that it filters for.

    None of them means all of its stream.
    """
    if channel.is_of_no_role:
        yield None, ()
    elif channel.scope is Scope.EVENT or (channel.scope is Scope.GROUP and channel.readers == (Party.SELF,)):
        listed = subjects_by_reader(org, channel)
        yield from ((role, listed[role.name]) for role in org.roles if role.name in listed)
    elif channel.is_mail:
        yield from ((role, role_subjects(org, channel, role)) for role in org.roles)
    else:
        named = {*org.members(party for party in channel.readers if not isinstance(party, Party))}
        everyone = any(isinstance(party, Party) for party in channel.readers)
        common = (org.subject(channel.subject if channel.scope is Scope.ORG else channel.subject_of("*")),)
        yield from ((role, common) for role in org.roles if everyone or role.name in named)


def list_subjects(org: Org, state: DesiredState, most_publishers: int | None = None) -> tuple[Subject, ...]:
    """Return every subject of the organisation: what carries it, who publishes and who reads; of those whom the chart names so many."""
    of_roles = [channel for channel in org.channels if channel.scope is Scope.ROLE]
    of_all = [channel for channel in org.channels if channel.scope is Scope.ORG]
    assigners = Assigners(org) if org.has_chart else None
    return (
        *(
            row
            for role in org.roles
            for row in _of_role(org, of_roles, role, state, assigners, most_publishers)
        ),
        *_events(org, state),
        *(_subject(org, channel, None, state) for channel in of_all),
        *_of_groups(org, state),
    )


def _of_role(
    org: Org,
    of_roles: Sequence[Channel],
    role: Role,
    state: DesiredState,
    assigners: Assigners | None,
    most: int | None,
) -> Iterator[Subject]:
    rows = [_subject(org, channel, role, state) for channel in of_roles]
    if assigners:
        givers, others = assigners.first(role, most)
        rows = [
            row._replace(publishers=givers or ("the operator",), more_publishers=others)
            if channel.publishers == (Party.CHART,)
            else row
            for channel, row in zip(of_roles, rows, strict=True)
        ]
    yield from rows
    if role.renamed_from:  # what is still sent to the old name reaches the role
        for channel, row in zip(of_roles, rows, strict=True):
            if row.durable:
                yield row._replace(subject=org.subject(channel.subject_of(role.renamed_from)))


def _of_groups(org: Org, state: DesiredState) -> Iterator[Subject]:
    for channel in org.channels:
        for group in org.groups if channel.scope is Scope.GROUP else ():
            row = _subject(org, channel, None, state)
            yield row._replace(
                subject=org.subject(channel.subject_of(group.name)),
                channel=f"{row.channel}.{group.name}",
                publishers=_with_members(channel.publishers, group, row.publishers),
                readers=_with_members(channel.readers, group, row.readers),
            )


def _with_members(parties: Parties, group: Group, others: tuple[str, ...]) -> tuple[str, ...]:
    """Return who publishes or reads, where it is not the group itself."""
    return group.members if parties == (Party.SELF,) else others


def _subject(org: Org, channel: Channel, role: Role | None, state: DesiredState) -> Subject:
    stream = template_name(org, channel.stream, role) if channel.stream else None
    return Subject(
        org.subject(channel.subject_of(role.name if role else "")),
        "agents" if role else "org",
        role.name if role else None,
        channel.label or channel.name,
        durable=stream is not None,
        stream=_existing(state, stream),
        publishers=tuple(_publishers(org, channel, role)),
        readers=tuple(_readers(org, channel, role)),
        meaning=channel.meaning,
    )


def _publishers(org: Org, channel: Channel, role: Role | None) -> Iterator[str]:
    for party in channel.publishers:
        match party:
            case Party.SELF if role:
                yield role.name
            case Party.SERVER:
                yield "the server"
            case Party():
                yield "any role"
            case _:
                yield from org.members([party])


def _readers(org: Org, channel: Channel, role: Role | None) -> Iterator[str]:
    """Yield consumers where each reads for one; where several read the same, who they are."""
    for party in channel.readers:
        match party:
            case Party.ANYONE:
                yield "every role"
            case Party() if channel.reader:
                yield name_for(channel.reader.name, role.name if role else "")
            case Party.SELF if role:
                yield role.name
            case Party():
                yield "monitoring"
            case _:
                yield from org.members([party])


def _events(org: Org, state: DesiredState) -> Iterator[Subject]:
    channel = org.channel(channels.EVENTS)
    stream = template_name(org, channel.stream) if channel and channel.stream else None
    for event in org.events:
        yield Subject(
            event_subject(org, event.name),
            "events",
            None,
            event.name,
            durable=event.durable,
            stream=_existing(state, stream) if event.durable else None,
            publishers=org.members(event.publishers),
            readers=org.members(event.subscribers),
            meaning=event.description,
        )


def _existing(state: DesiredState, stream: str | None) -> str | None:
    return stream if stream and Ref(stream) in state.resources else None
