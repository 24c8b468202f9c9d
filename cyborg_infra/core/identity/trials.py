"""What `verify --auth` tries: what an identity has to be refused, and what the server says of one against what the manifest wants.

What is refused is said here by the manifest's own words, the chart and who publishes and reads, and not by the grants: so that a
grant that is too wide shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.core.desired.chart import may_publish
from cyborg_infra.model import channels
from cyborg_infra.model.buckets import bucket_stream, bucket_subject
from cyborg_infra.model.channels import Channel, Party, Scope
from cyborg_infra.model.identities import Identity, Operation
from cyborg_infra.model.organisation import Org, Role
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, DesiredState
from cyborg_infra.model.standing import Standing
from cyborg_infra.model.subjects import covers
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.verification import USER_INFO, IdentityWork, Misuse

MOST_OTHERS = 24
"""Of so many other roles is tried what belongs to each; in a larger organisation that is those beside it in the manifest."""


MOST_VICTIMS = 3
"""At the queues of so many of them an answer is aimed."""


def work_of(org: Org, state: DesiredState, name: str) -> IdentityWork:
    """Return what the identity of this name has to be able to do: a role, or whoever reads dead letters."""
    role = org.role(name)
    if role is None:
        is_alerts = name == org.auth.name_of(Standing.ALERTS)
        letters = [each for each in state.consumers() if each.role is None and is_alerts]
        return IdentityWork(tuple(_reads(state, letters)))
    own = [each for each in state.consumers() if each.role == name]
    steps = [
        *_event_steps(org, role),
        *(step for each in org.channels if each.scope is not Scope.EVENT for step in _steps(org, each, role)),
    ]

    def of(kind: str) -> Iterator[tuple[str, str]]:
        return ((subject, peer) for what, subject, peer in steps if what == kind)

    return IdentityWork(
        consumers=tuple(_reads(state, own)),
        stored=tuple(subject for subject, _ in of("stored")),
        published=tuple(of("published")),
        heard=tuple(of("heard")),
        asked=tuple(of("asked")),
        read=tuple(
            each.name
            for each in org.buckets
            if not each.readers or name in org.members((*each.readers, *each.watchers))
        ),
        written=tuple(
            each.name for each in org.buckets if not each.writers or name in org.members(each.writers)
        ),
        watched=tuple(each.name for each in org.buckets if name in org.members(each.watchers)),
    )


_Steps = Iterator[tuple[str, str, str]]
"""What is done, by the word of `IdentityWork`; a subject; who is at the other end, empty for nobody."""


def _event_steps(org: Org, role: Role) -> _Steps:
    channel = org.channel(channels.EVENTS)
    for event in org.events if channel else ():
        subject = org.subject(channel.subject_of(event.name)) if channel else ""
        publishers = org.members(event.publishers)
        if role.name in publishers:
            monitor = "" if event.durable else org.auth.name_of(Standing.MONITOR)
            yield "stored" if event.durable else "published", subject, monitor
        if role.name in org.members(event.subscribers) and not event.durable:
            yield "heard", subject, next((each for each in publishers if each != role.name), "")


def _steps(org: Org, channel: Channel, role: Role) -> _Steps:
    """Yield what a role does on a channel of the roles, or of the organisation."""
    others = other_roles(org, role)
    done = "stored" if channel.stream else "published"
    if channel.scope is Scope.ROLE:
        own = _literal(org.subject(channel.subject_of(role.name)))
        if Party.SELF in channel.publishers:
            watched = not channel.stream and Party.OPERATOR in channel.readers
            yield done, own, org.auth.name_of(Standing.MONITOR) if watched else ""
        if channel.stream is None and Party.SELF in channel.readers:
            is_asked = channel.name == channels.REQUESTS and others
            yield ("asked", own, others[0].name) if is_asked else ("heard", own, "")
    for member in _members(org, channel, others):
        subject = _literal(org.subject(channel.subject_of(member)))
        if may_publish(org, channel, role.name, member):
            yield done, subject, ""
        if channel.scope is Scope.GROUP and channel.stream is None and _may_hear(org, channel, role, member):
            yield "heard", subject, ""


def _reads(state: DesiredState, consumers: Sequence[DesiredResource]) -> Iterator[tuple[Ref, str, bool]]:
    """Yield the pull consumers whose messages are acknowledged, each with a subject that it reads."""
    for consumer in consumers:
        if consumer.get("deliver_subject") or consumer.get("ack_policy") != "explicit":
            continue
        stream = state.resources[Ref(consumer.ref.stream)]
        one = consumer.get("filter_subject")
        read = [one] if one else (consumer.get("filter_subjects") or stream.get("subjects"))
        if read:
            yield consumer.ref, _literal(read[0]), consumer.get("max_deliver") != 1


class Attempt(NamedTuple):
    """Something that has to be refused."""

    direction: Operation  # PUBLISH or SUBSCRIBE
    subject: str


def other_roles(org: Org, role: Role) -> Sequence[Role]:
    """Return the other roles that this one is tried against."""
    at = org.roles.index(role)
    around = [*org.roles[at + 1 :], *org.roles[:at]]
    return around[:MOST_OTHERS]


def refused_attempts(org: Org, state: DesiredState, found: Sequence[Identity], role: Role) -> list[Attempt]:
    """Return what a role has to be refused, each subject once."""
    others = other_roles(org, role)
    names = {other.name for other in others}
    own = [consumer for consumer in state.consumers() if consumer.role == role.name]
    attempts = [
        *(_publish(subject) for consumer in state.consumers() for subject in _meddling(consumer)),
        *(_publish(subject) for stream in state.streams() for subject in _meddling_with_stream(stream)),
        *(
            _publish(subject)
            for consumer in state.consumers()
            if consumer.role is None or consumer.role in names
            for subject in (*_working(consumer), *(_working_by_way_of(consumer, each) for each in own))
        ),
        *(_subscribe(f"{each.inbox_prefix}.>") for each in found if each.name != role.name),
        *map(_subscribe, ("_INBOX.>", ">", "$JS.ACK.>", "$JS.API.>")),
        *(attempt for channel in org.channels for attempt in _of_channel(org, channel, role, others)),
        *_of_buckets(org, role),
    ]
    return list(dict.fromkeys(attempts))


def own_question(org: Org, identity: Identity) -> str:
    """Return a subject on which a role hears what it may publish itself; empty if there is none."""
    requests = org.channel(channels.REQUESTS)
    subject = org.subject(requests.subject_of(identity.name)) if requests else ""
    mine = subject and identity.publish_rules.cover(subject) and identity.subscribe_rules.cover(subject)
    return subject if mine else ""


def misuse_of(org: Org, state: DesiredState, found: Sequence[Identity], name: str) -> Misuse:
    """Return what an identity might do by naming a reply subject: the server publishes its answer there, whoever may."""
    work, role = work_of(org, state, name), org.role(name)
    others = {other.name for other in (other_roles(org, role) if role else org.roles)[:MOST_VICTIMS]}
    victims = [
        (ref, subject, each.role)
        for each in state.consumers()
        if each.role in others and each.ref.stream not in {own.stream for own, _, _ in work.consumers}
        for ref, subject, _ in _reads(state, [each])
    ]
    attempts = (
        refused_attempts(org, state, found, role)
        if role
        else [
            _publish(_literal(subject))
            for stream in state.streams()
            for subject in stream.get("subjects") or ()
        ]
    )
    refused = [
        attempt.subject
        for attempt in attempts
        if attempt.direction is Operation.PUBLISH and not attempt.subject.startswith("$JS.")
    ]
    storing = {
        subject: stream.ref.stream
        for subject in refused
        for stream in state.streams()
        if any(covers(each, subject) for each in stream.get("subjects") or ())
    }
    written = {*work.stored, *(f"{bucket_subject(each).removesuffix('>')}trial" for each in work.written)}
    own_streams = {
        stream.ref.stream
        for stream in state.streams()
        if any(covers(each, subject) for each in stream.get("subjects") or () for subject in written)
    }
    return Misuse(
        consumers=tuple((ref, subject) for ref, subject, _ in work.consumers),
        requests=(
            *(f"$JS.API.CONSUMER.INFO.{ref.stream}.{ref.consumer}" for ref, _, _ in work.consumers),
            *(f"$JS.API.STREAM.INFO.{bucket_stream(each)}" for each in (*work.read, *work.written)),
            *sorted(written),
            USER_INFO,
        ),
        replies=(
            *(
                f"$JS.API.CONSUMER.{verb}.{ref.stream}.{ref.consumer}"
                for ref, _, _ in victims
                for verb in ("MSG.NEXT", "DELETE")
            ),
            *(f"$JS.API.STREAM.{verb}.{ref.stream}" for ref, _, _ in victims for verb in ("PURGE", "DELETE")),
            *storing,
        ),
        victims=tuple(victims),
        streams=tuple(sorted({*storing.values(), *(ref.stream for ref, _, _ in victims)} - own_streams)),
    )


def _publish(subject: str) -> Attempt:
    return Attempt(Operation.PUBLISH, subject)


def _subscribe(subject: str) -> Attempt:
    return Attempt(Operation.SUBSCRIBE, subject)


def _working(consumer: DesiredResource) -> Iterator[str]:
    """Yield what working on another's messages takes."""
    stream, name = consumer.ref
    yield f"$JS.API.CONSUMER.INFO.{stream}.{name}"
    yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
    yield f"$JS.ACK.{stream}.{name}.1.1.1.1.1"
    yield f"$JS.ACK._.HASH.{stream}.{name}.1.1.1.1.1"


def _working_by_way_of(consumer: DesiredResource, own: DesiredResource) -> str:
    """Return an ack of another's consumer, in the first form, that ends like one of its own in the second."""
    return f"$JS.ACK.{'.'.join(consumer.ref)}.{'.'.join(own.ref)}.1.1.1"


def _meddling(consumer: DesiredResource) -> Iterator[str]:
    """Yield what nobody may do with a consumer who works with it."""
    stream, name = consumer.ref
    yield from (f"$JS.API.CONSUMER.{verb}.{stream}.{name}" for verb in ("CREATE", "DELETE", "PAUSE", "RESET"))
    yield f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}"
    yield f"$JS.API.CONSUMER.CREATE.{stream}.{name}.trial"


def _meddling_with_stream(stream: DesiredResource) -> Iterator[str]:
    verbs = ("UPDATE", "DELETE", "PURGE", "MSG.DELETE")
    yield from (f"$JS.API.STREAM.{verb}.{stream.ref}" for verb in verbs)
    if not stream.ref.stream.startswith(bucket_stream("")):  # of a bucket some may read, and watch
        yield f"$JS.API.CONSUMER.CREATE.{stream.ref}"
        yield from (f"$JS.API.{verb}.{stream.ref}" for verb in ("STREAM.MSG.GET", "DIRECT.GET"))


def _of_channel(org: Org, channel: Channel, role: Role, others: Sequence[Role]) -> Iterator[Attempt]:
    if channel.scope is Scope.EVENT:
        for event in org.events:
            subject = org.subject(channel.subject_of(event.name))
            if role.name not in org.members(event.publishers):
                yield _publish(subject)
            if event.durable or role.name not in org.members(event.subscribers):
                yield _subscribe(subject)
        return
    for member in _members(org, channel, others):
        subject = _literal(org.subject(channel.subject_of(member)))
        if not may_publish(org, channel, role.name, member):
            yield _publish(subject)
        if channel.stream is not None or not _may_hear(org, channel, role, member):
            yield _subscribe(subject)


def _members(org: Org, channel: Channel, others: Sequence[Role]) -> Sequence[str]:
    """Return the roles or groups that have a subject of the channel; one empty name if it has one subject for all."""
    return [other.name for other in others] if channel.scope is Scope.ROLE else org.each_of(channel)


def _literal(subject: str) -> str:
    """Return a subject with a token in the place of each wildcard."""
    return ".".join("trial" if token in ("*", ">") else token for token in subject.split("."))


def _may_hear(org: Org, channel: Channel, role: Role, member: str) -> bool:
    """Return whether a role hears what is another's, or a group's."""
    named = [party for party in channel.readers if not isinstance(party, Party)]
    own = [member] if member and Party.SELF in channel.readers else []
    return Party.ANYONE in channel.readers or role.name in org.members([*named, *own])


def _of_buckets(org: Org, role: Role) -> Iterator[Attempt]:
    for bucket in org.buckets:
        stream = bucket_stream(bucket.name)
        if bucket.readers and role.name not in org.members((*bucket.readers, *bucket.watchers)):
            yield _publish(f"$JS.API.DIRECT.GET.{stream}.$KV.{bucket.name}.trial")
            yield _publish(f"$JS.API.STREAM.MSG.GET.{stream}")
        if role.name not in org.members(bucket.watchers):
            yield _publish(f"$JS.API.CONSUMER.CREATE.{stream}")
            yield _publish(f"$JS.API.CONSUMER.CREATE.{stream}.trial")
        if bucket.writers and role.name not in org.members(bucket.writers):
            yield _publish(f"$KV.{bucket.name}.trial")


def permission_differences(identity: Identity, actual: Mapping[str, Any]) -> list[str]:
    """Return how what the server tells of a user differs from what the manifest wants; `told` is its `permissions`."""
    found: list[str] = []
    for direction, rules in (("publish", identity.publish_rules), ("subscribe", identity.subscribe_rules)):
        held = actual.get(direction) or {}
        for word, wanted in zip(rules._fields, rules, strict=True):
            has = set(held.get(word) or ())
            found += [f"{direction} {word} {subject} is missing" for subject in wanted if subject not in has]
            found += [
                f"{direction} {word} {subject} is too much" for subject in sorted(has.difference(wanted))
            ]
    if actual.get("responses"):
        found.append("allow_responses is too much: who may ask himself could publish anywhere by it")
    return found
