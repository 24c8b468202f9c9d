"""The names that an agent needs, for whichever language writes them: subjects, streams, consumers, events, buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cyborg_infra.export.exported import ExportInput
from cyborg_infra.model.channels import EVENTS, Scope
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.naming import inbox_prefix
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.units import SECOND
from cyborg_infra.model.valueclass import NamedTuple


class ConsumerNames(NamedTuple):
    """How an agent binds to a consumer, and how long it may hold a message: seconds, after which it comes again."""

    stream: str
    name: str
    ack_wait: float
    max_deliver: int


class RoleNames(NamedTuple):
    """What a role is reached by, by channel; and what it reads, by the kind of consumer."""

    inbox_prefix: str
    subjects: Mapping[str, str]
    consumers: Mapping[str, ConsumerNames]


class GroupNames(NamedTuple):
    """Who is in a group, and what all of them hear it by, by channel."""

    members: Sequence[str]
    subjects: Mapping[str, str]


class OrgNames(NamedTuple):
    """All of it. `subjects` and `consumers` are those of no role and no group; `every_role` has a wildcard for the role's name."""

    org: str
    roles: Mapping[str, RoleNames]
    every_role: Mapping[str, str]
    subjects: Mapping[str, str]
    groups: Mapping[str, GroupNames]
    consumers: Mapping[str, ConsumerNames]
    events: Mapping[str, str]
    streams: Sequence[str]
    buckets: Sequence[str]

    @property
    def role_channels(self) -> Sequence[str]:
        """The channels that each role has a subject of."""
        return list(dict.fromkeys(name for role in self.roles.values() for name in role.subjects))

    @property
    def group_channels(self) -> Sequence[str]:
        """The channels that each group has a subject of."""
        return list(dict.fromkeys(name for group in self.groups.values() for name in group.subjects))

    @property
    def role_consumers(self) -> Sequence[str]:
        """The kinds of consumers that some role has."""
        return list(dict.fromkeys(kind for role in self.roles.values() for kind in role.consumers))


def org_names(given: ExportInput) -> OrgNames:
    """Return the names of the organisation, in the order of its manifest."""
    org = given.org
    of_role: dict[str | None, dict[str, ConsumerNames]] = {}
    for consumer in given.state.consumers():
        of_role.setdefault(consumer.role, {})[consumer.metadata.get(KIND_KEY, consumer.ref.consumer)] = (
            _consumer(consumer)
        )
    channels = {
        scope: [channel for channel in org.channels if channel.scope is scope]
        for scope in (Scope.ROLE, Scope.GROUP, Scope.ORG)
    }
    roles = {
        role.name: RoleNames(
            inbox_prefix(given.org.stream_prefix, role.name),
            {channel.name: org.subject(channel.subject_of(role.name)) for channel in channels[Scope.ROLE]},
            of_role.get(role.name, {}),
        )
        for role in org.roles
    }
    events = org.channel(EVENTS)
    return OrgNames(
        org.name,
        roles,
        {channel.name: org.subject(channel.subject_of("*")) for channel in channels[Scope.ROLE]},
        {channel.name: org.subject(channel.subject_of()) for channel in channels[Scope.ORG]},
        {
            group.name: GroupNames(
                group.members,
                {
                    channel.name: org.subject(channel.subject_of(group.name))
                    for channel in channels[Scope.GROUP]
                },
            )
            for group in org.groups
        },
        of_role.get(None, {}),
        {event.name: org.subject(events.subject_of(event.name)) for event in org.events} if events else {},
        [stream.ref.name for stream in given.state.streams()],
        [bucket.name for bucket in org.buckets],
    )


def _consumer(consumer: Resource) -> ConsumerNames:
    seconds = consumer.get("ack_wait") / SECOND
    return ConsumerNames(
        consumer.ref.stream,
        consumer.ref.name,
        int(seconds) if seconds.is_integer() else seconds,
        consumer.get("max_deliver"),
    )
