"""Who may publish and hear what: every identity of an organisation, each subject with its reason.

An agent gets what its role does and nothing else. It reads consumers that exist before it comes, and may not make one:
whoever may make a consumer on a stream can read all of it, and take over or delete another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cyborg_infra.core.desired import naming
from cyborg_infra.core.desired.chart import Assigners
from cyborg_infra.core.identity import grants
from cyborg_infra.core.identity.standing import MEANINGS, OWN_PERMISSIONS, standing_permissions
from cyborg_infra.model.buckets import bucket_stream
from cyborg_infra.model.channels import Channel, Party, Scope
from cyborg_infra.model.identities import Grant, Identity, IdentityKind
from cyborg_infra.model.naming import ANSWERS, INBOX_ROOT, inbox_prefix
from cyborg_infra.model.organisation import Bucket, Org, Role
from cyborg_infra.model.problems import ManifestInvalid, Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, Resource
from cyborg_infra.model.standing import Standing


def identities(org: Org, state: DesiredState, domain: str | None = None) -> tuple[Identity, ...]:
    """Return the identities of an organisation: its roles as the manifest has them, then the standing ones.

    `state` is what it expands to. `domain` is the JetStream domain that its clients reach through a leaf node.
    Raises ManifestInvalid where a role has the name of a standing identity, and where a channel's subject would take in
    subjects that are not the organisation's.
    """
    _refuse_equal_names(org)
    _refuse_subjects_of_the_server(org)
    roles = _Roles(org, state)
    found = [
        *(roles.identity(role) for role in org.roles),
        *(_standing(org, state, each) for each in Standing),
    ]
    return tuple(
        each._replace(
            publish=_each_once(grants.in_domain(each.publish, domain)),
            subscribe=_each_once(each.subscribe),
        )
        for each in found
    )


def _each_once(rows: Iterable[Grant]) -> tuple[Grant, ...]:
    """Return the grants without those of a subject that came before; the first reason stands."""
    return tuple({row.subject: row for row in reversed(list(rows))}.values())[::-1]


def _refuse_equal_names(org: Org) -> None:
    problems = [
        Problem(
            "identity-name",
            f"role {role.name} and the standing identity {standing} have the same name",
            role.mark,
            f"call the standing one otherwise: auth: {{names: {{{standing}: {standing}-user}}}}",
        )
        for standing in Standing
        if (role := org.role(org.auth.name_of(standing)))
    ]
    if problems:
        raise ManifestInvalid(*problems)


def _refuse_subjects_of_the_server(org: Org) -> None:
    """Raise ManifestInvalid if a grant for a channel would also cover JetStream's API or inboxes."""
    problems = [
        Problem(
            "identity-subject",
            f"no permission can be derived for channel {channel.name}: {subject} takes in subjects that are not the organisation's",
            channel.mark,
            "let it begin with a token of its own, or set naming: {subject_prefix: ...}",
        )
        for channel in org.channels
        for subject in _subjects_of(org, channel)
        if subject.startswith(_RESERVED)
    ]
    if problems:
        raise ManifestInvalid(*dict.fromkeys(problems))


_RESERVED = ("*", ">", "$", INBOX_ROOT)
"""What a subject begins with that is, or may be, the server's own or somebody's inbox."""


def _subjects_of(org: Org, channel: Channel) -> Iterator[str]:
    yield from (org.subject(channel.subject_of(member)) for member in org.each_of(channel))


def _pattern_of(org: Org, channel: Channel) -> str:
    """Return a pattern for a channel's subjects of all roles or groups; its subject, if it has one only."""
    return org.subject(channel.subject_of("*"))


def _is_one_pattern(org: Org, channel: Channel) -> bool:
    """Return whether a pattern may stand for a channel's subjects: one that begins with a wildcard meets JetStream's own."""
    return channel.scope is not Scope.ROLE or _pattern_of(org, channel).split(".")[0] not in ("*", ">")


def _inbox(prefix: str) -> Grant:
    return Grant(f"{prefix}.>", "its inbox: answers, and the messages that it pulls")


def _standing(org: Org, state: DesiredState, standing: Standing) -> Identity:
    name = org.auth.name_of(standing)
    prefix = inbox_prefix(org.stream_prefix, name)
    may = standing_permissions(org, state, standing, prefix)
    return Identity(
        name,
        IdentityKind.STANDING,
        prefix,
        may.publish,
        (_inbox(prefix), *may.subscribe),
        may.deny_publish,
        may.deny_subscribe,
        meaning=MEANINGS[standing],
        is_apart=standing is Standing.ALERTS,
    )


class _Roles:
    """The permissions of roles. What is the same for all of them, or takes all of them to know, is worked out once."""

    def __init__(self, org: Org, state: DesiredState) -> None:
        self._org, self._state = org, state
        self._consumers: dict[str, list[Resource]] = {}
        for consumer in state.consumers():
            if consumer.role is not None:
                self._consumers.setdefault(consumer.role, []).append(consumer)
        self._receivers: dict[str, list[Role]] = {}
        assigners = Assigners(org)
        for role in org.roles if org.has_chart else ():
            for name in assigners.of(role):
                self._receivers.setdefault(name, []).append(role)

    def identity(self, role: Role) -> Identity:
        """Return what one role is on the server."""
        prefix = inbox_prefix(self._org.stream_prefix, role.name)
        publish, deny, subscribe = list[Grant](), list[Grant](), [_inbox(prefix)]
        for channel in self._org.channels:
            if channel.scope is Scope.EVENT:
                publish += self._published_events(channel, role)
                subscribe += self._heard_events(channel, role)
                continue
            subscribe += self._heard(channel, role)
            if refused := self._refused_of_all(channel, role):
                publish += self._all(channel, "by the chart, but for those that it may not publish")
                deny += refused
            else:
                publish += self._published(channel, role)
        if len(subscribe) > 1:
            publish.append(Grant(ANSWERS, "answers to whom it hears: who asks has an inbox there"))
        for consumer in self._consumers.get(role.name, ()):
            out, pushed = grants.use_consumer(consumer)
            publish += out
            subscribe += pushed
        for bucket in self._org.buckets:
            publish += self._bucket(bucket, role)
        publish.append(OWN_PERMISSIONS)
        return Identity(
            role.name,
            IdentityKind.ROLE,
            prefix,
            tuple(publish),
            tuple(subscribe),
            tuple(deny),
            meaning=role.description,
            is_apart=True,
        )

    def _published(self, channel: Channel, role: Role) -> Iterator[Grant]:
        """Yield where the role publishes on a channel."""
        for party in channel.publishers:
            match party:
                case Party.SELF if channel.scope is Scope.GROUP:
                    yield from self._of_groups(channel, role)
                case Party.SELF:
                    yield from self._subjects(channel, [role], "its own")
                case Party.CHART if self._org.has_chart:
                    receivers = self._receivers.get(role.name, [])
                    yield from self._subjects(channel, receivers, "by the chart")
                case Party.CHART | Party.ANYONE:
                    yield from self._all(channel, "anyone")
                case Party.SERVER | Party.OPERATOR:
                    pass
                case _ if role.name in self._org.members([party]):
                    yield from self._all(channel, f"publishers: {party}")

    def _refused_of_all(self, channel: Channel, role: Role) -> list[Grant]:
        """Return what a role may not publish on a channel, if that is shorter to say than what it may; else nothing.

        Whoever is at the head gives tasks to all but himself. Two lines say so for any number of roles.
        """
        if channel.publishers != (Party.CHART,) or not _is_one_pattern(self._org, channel):
            return []
        receivers = {each.name for each in self._receivers.get(role.name, ())}
        others = [each for each in self._org.roles if each.name not in receivers]
        refused = list(self._subjects(channel, others, "not by the chart"))
        return refused if len(refused) + 1 < len(list(self._published(channel, role))) else []

    def _heard(self, channel: Channel, role: Role) -> Iterator[Grant]:
        """Yield what the role hears on a channel that nothing stores. Of one that is stored it has a consumer."""
        if channel.stream is not None:
            return
        for party in channel.readers:
            match party:
                case Party.SELF if channel.scope is Scope.GROUP:
                    yield from self._of_groups(channel, role)
                case Party.SELF:
                    own = channel.subject_of(role.name)
                    yield Grant(self._org.subject(own), f"channel {channel.name}: its own")
                case Party.ANYONE:
                    yield from self._all(channel, "anyone")
                case Party():
                    pass
                case _ if role.name in self._org.members([party]):
                    yield from self._all(channel, f"readers: {party}")

    def _of_groups(self, channel: Channel, role: Role) -> Iterator[Grant]:
        """Yield a channel's subjects of the groups that the role is in."""
        for group in self._org.groups:
            if role.name in group.members:
                subject = self._org.subject(channel.subject_of(group.name))
                yield Grant(subject, f"channel {channel.name} of {group.name}: a member of it")

    def _subjects(self, channel: Channel, of: Iterable[Role], why: str) -> Iterator[Grant]:
        """Yield a channel's subjects of some roles; what a stream stores is stored under a role's former name as well."""
        for role in of:
            for name in naming.role_names(role) if channel.stream else (role.name,):
                reason = (
                    f"channel {channel.name} of {name}: {why}"
                    if why != "its own"
                    else f"channel {channel.name}: {why}"
                )
                yield Grant(self._org.subject(channel.subject_of(name)), reason)

    def _all(self, channel: Channel, why: str) -> Iterator[Grant]:
        """Yield a channel's subjects of all roles: one pattern, unless it would begin with a wildcard, and so meet JetStream's own."""
        if _is_one_pattern(self._org, channel):
            yield Grant(_pattern_of(self._org, channel), f"channel {channel.name}: {why}")
        else:
            yield from self._subjects(channel, self._org.roles, why)

    def _published_events(self, channel: Channel, role: Role) -> Iterator[Grant]:
        for event in self._org.events:
            if role.name in self._org.members(event.publishers):
                subject = self._org.subject(channel.subject_of(event.name))
                yield Grant(subject, f"event {event.name}: publishes it")

    def _heard_events(self, channel: Channel, role: Role) -> Iterator[Grant]:
        for event in self._org.events:
            if not event.durable and role.name in self._org.members(event.subscribers):
                subject = self._org.subject(channel.subject_of(event.name))
                yield Grant(subject, f"event {event.name}: subscribes to it")

    def _bucket(self, bucket: Bucket, role: Role) -> Iterator[Grant]:
        reads, writes = (
            not named or role.name in self._org.members(named) for named in (bucket.readers, bucket.writers)
        )
        watches = role.name in self._org.members(bucket.watchers)
        if reads or writes or watches:
            yield grants.open_bucket(bucket.name)
        if reads or watches:
            stream = self._state.resources.get(Ref(bucket_stream(bucket.name)))
            yield from grants.read_bucket(bucket.name, direct=bool(stream and stream.get("allow_direct")))
        if watches:
            yield from grants.watch_bucket(bucket.name)
        if writes:
            yield grants.write_bucket(bucket.name)
