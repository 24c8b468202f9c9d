"""The lint rules, one row each: settings that a manifest may have and that will cost something.

Most cost by a setting of one stream or consumer; the others by what streams and consumers are to one another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from cyborg_infra.core.desired import message_flow
from cyborg_infra.core.desired.naming import event_subject
from cyborg_infra.core.desired.settings import (
    admitted,
    kind_of,
    lag_mark,
    member_of,
    overridden_fields,
    source_mark,
)
from cyborg_infra.model.buckets import bucket_stream, task_state_bucket
from cyborg_infra.model.channels import DEAD_LETTERS, Channel, ConsumerKind, Party, Scope, StreamKind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import LAG, Org
from cyborg_infra.model.problems import SourcePosition
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import NAMED_SUBJECTS, DesiredState, Resource
from cyborg_infra.model.units import DAY, HOUR, MINUTE, SECOND
from cyborg_infra.model.valueclass import NamedTuple

Find = Callable[[Resource, Org], Iterator[str]]
"""The names of the fields that cost something in this stream or consumer."""


class Lint(NamedTuple):
    """One warning: the settings that it is about, why they cost, what to do instead, and how they are found."""

    code: str  # stable: manifests ignore it by this name
    about: str
    reason: str
    advice: str
    applies: Callable[[StreamKind | ConsumerKind, Channel | None], bool]  # of a bucket there is no channel
    find: Find


class Found(NamedTuple):
    """Something that costs: the role that it is about, what it is, and where the manifest says so."""

    role: str | None
    said: str
    where: SourcePosition | None


class LintOfAll(NamedTuple):
    """One warning about what streams and consumers are to one another; else as a Lint."""

    code: str
    about: str
    reason: str
    advice: str
    find: Callable[[DesiredState, Org], Iterator[Found]]


MIN_ACK_WAIT_NS = 5 * MINUTE
"""Agents reason about a task for up to 20 minutes; what takes less than 5 is rather an answer than work."""

ADVISED_DUPLICATE_WINDOW_NS = 20 * SECOND
"""A publisher repeats itself while a cluster has no leader: 9 s for an election, 10 s to notice that one is needed."""

MANY_ROUTES_ROLE_COUNT = 1000
"""Of so many the dead letters are routed one by one without anybody noticing (docs/scale.md)."""

DAYS_WORK: Mapping[str, int] = {
    "max_age": DAY,
    "max_msgs": 72,
    "max_msgs_per_subject": 72,
    "max_bytes": 1024**2,
}
"""What one agent gets done in a day at 20 minutes a task without a break; a task is a JSON object of at most 14 KiB."""

WEEKEND: Mapping[str, int] = {**DAYS_WORK, "max_age": 72 * HOUR}
"""A day's work may fail on a Friday, and a person looks on Monday; 64 hours, and a few to get to it."""

MIN_TASK_STATE_AGE_NS = 144 * HOUR
"""72 hours in its stream, and as a dead letter over a weekend."""

UNMATCHED_SUBJECT = "unmatched-subject"
"""The code of a warning before, and of an alarm after."""

_PRODUCTION = {"production", "prod", "live"}


def short_ack_wait(resource: Resource, _org: Org) -> Iterator[str]:
    """Find less than MIN_ACK_WAIT_NS for an agent; each step of backoff is the ack_wait of one delivery (2.10 to 2.15)."""
    steps = resource.get("backoff")
    if resource.get("ack_policy") != "none" and min(steps or [resource.get("ack_wait")]) < MIN_ACK_WAIT_NS:
        yield "backoff" if steps else "ack_wait"


def endless_deliveries(resource: Resource, _org: Org) -> Iterator[str]:
    """Find consumers that redeliver for ever."""
    if resource.get("ack_policy") != "none" and resource.get("max_deliver") <= 0:
        yield "max_deliver"


def one_delivery(resource: Resource, _org: Org) -> Iterator[str]:
    """Find consumers whose first delivery is the last one."""
    if resource.get("max_deliver") == 1:
        yield "max_deliver"


def implicit_ack(resource: Resource, _org: Org) -> Iterator[str]:
    """Find consumers with implicit acknowledgement: messages count as done that nobody acknowledged."""
    if resource.get("ack_policy") != "explicit":
        yield "ack_policy"


def skips_waiting(resource: Resource, _org: Org) -> Iterator[str]:
    """Find consumers that skip what is in the stream already."""
    if resource.get("deliver_policy") in ("new", "last", "last_per_subject"):
        yield "deliver_policy"


def push_to_all(resource: Resource, _org: Org) -> Iterator[str]:
    """Find push consumers without a queue group."""
    if resource.get("deliver_subject") and not resource.get("deliver_group"):
        yield "deliver_subject"


def vanishing_consumer(resource: Resource, _org: Org) -> Iterator[str]:
    """Find consumers that the server deletes when nobody uses them, durable or not."""
    if resource.get("inactive_threshold"):
        yield "inactive_threshold"


def memory_progress(resource: Resource, _org: Org) -> Iterator[str]:
    """Find consumers whose state is in memory."""
    if resource.get("mem_storage"):
        yield "mem_storage"


def memory_storage(resource: Resource, _org: Org) -> Iterator[str]:
    """Find streams in memory."""
    if resource.get("storage") == "memory":
        yield "storage"


def no_duplicate_window(resource: Resource, _org: Org) -> Iterator[str]:
    """Find streams that leave the duplicate_window to the server; a mirror has none of its own."""
    if not resource.get("mirror") and not resource.get("duplicate_window"):
        yield "duplicate_window"


def short_duplicate_window(resource: Resource, _org: Org) -> Iterator[str]:
    """Find duplicate windows shorter than publishing may fail during an election."""
    if 0 < resource.get("duplicate_window") < ADVISED_DUPLICATE_WINDOW_NS:
        yield "duplicate_window"


def unconfirmed_publish(resource: Resource, _org: Org) -> Iterator[str]:
    """Find streams that do not answer a publisher."""
    if resource.get("no_ack"):
        yield "no_ack"


def async_persist(resource: Resource, _org: Org) -> Iterator[str]:
    """Find streams that answer a publisher too early."""
    if resource.get("persist_mode") == "async":
        yield "persist_mode"


def drops_unread(resource: Resource, _org: Org) -> Iterator[str]:
    """Find streams whose limits hold less than DAYS_WORK."""
    return _limits_below(DAYS_WORK, resource)


def drops_dead_letters(resource: Resource, _org: Org) -> Iterator[str]:
    """Find DEAD_LETTERS whose limits hold less than a WEEKEND of a failing agent."""
    return _limits_below(WEEKEND, resource)


def _limits_below(least: Mapping[str, int], resource: Resource) -> Iterator[str]:
    """Yield the limits that delete what nobody has read; max_age does under discard new as well (2.10 to 2.15)."""
    refuses: Mapping[str, bool] = {
        "max_msgs": resource.get("discard") == "new",
        "max_bytes": resource.get("discard") == "new",
        "max_msgs_per_subject": resource.get("discard_new_per_subject"),
    }
    for name, enough in least.items():
        if 0 < resource.get(name) < enough and not refuses.get(name):
            yield name


def deletes_terminated(resource: Resource, _org: Org) -> Iterator[str]:
    """Find streams that delete what nobody has still to finish: a terminated message is finished."""
    if resource.get("retention") != "limits":
        yield "retention"


def many_routes(resource: Resource, _org: Org) -> Iterator[str]:
    """Find more than two subject transforms for each of MANY_ROUTES_ROLE_COUNT roles: the server compares each with every other."""
    if len(resource.get("subjects")) > 2 * MANY_ROUTES_ROLE_COUNT:
        yield "subjects"


def no_limit(resource: Resource, _org: Org) -> Iterator[str]:
    """Find streams that never delete anything; named is the limit that they have by default."""
    limits = ("max_age", "max_msgs", "max_bytes", "max_msgs_per_subject")
    if (
        resource.get("retention") == "limits"
        and not resource.get("sealed")
        and all(resource.get(name) <= 0 for name in limits)
    ):
        yield "max_msgs" if resource.metadata[KIND_KEY] == StreamKind.DEAD_LETTERS else "max_age"


def endless_bucket(resource: Resource, org: Org) -> Iterator[str]:
    """Find buckets that never delete a value. For task documents that is meant: a lost one would be a lost task."""
    if (
        not _is_task_state_bucket(resource, org)
        and resource.get("max_age") <= 0
        and resource.get("max_bytes") <= 0
    ):
        yield "max_bytes"


def short_task_state(resource: Resource, org: Org) -> Iterator[str]:
    """Find task documents that expire before the tasks."""
    if _is_task_state_bucket(resource, org) and 0 < resource.get("max_age") < MIN_TASK_STATE_AGE_NS:
        yield "max_age"


def bounded_task_state(resource: Resource, org: Org) -> Iterator[str]:
    """Find limits on the number of task documents."""
    if _is_task_state_bucket(resource, org) and resource.get("max_bytes") > 0:
        yield "max_bytes"


def _is_task_state_bucket(resource: Resource, org: Org) -> bool:
    """Return whether it is the bucket of task documents."""
    return bool(resource.get("name") == bucket_stream(task_state_bucket(org.name)))


def single_replica(resource: Resource, org: Org) -> Iterator[str]:
    """Find resources with one replica in an environment that is called production, prod or live, alone or as a part of its name."""
    words = set(re.split(r"[^a-z]+", (org.environment or "").lower()))
    if resource.get("num_replicas") == 1 and words & _PRODUCTION:
        yield "num_replicas"


def unmatched_subject(state: DesiredState, org: Org) -> Iterator[Found]:
    """Find subjects under which messages are stored and no consumer is handed them."""
    events = {event_subject(org, event.name): event.mark for event in org.events}
    read = _kinds_to_follow(org)
    for stream in state.streams():
        if stream.metadata[KIND_KEY] in read:
            for subject in message_flow.unmatched(stream, state):
                member = member_of(org, stream)
                where = events.get(subject) or source_mark(org, kind_of(stream), member, *_STORED_BY)
                yield Found(stream.role, f"{subject} of {stream.ref}", where)


def _kinds_to_follow(org: Org) -> set[StreamKind]:
    """Return the kinds of streams that consumers of roles are for; the scheme itself gives a role's own stream and its reader the same subjects."""
    kinds, alone = overridden_fields(org, *NAMED_SUBJECTS, *_STORED_BY)
    by_hand = kinds | {kind for kind, _role in alone}
    return {
        channel.stream.kind
        for channel in org.channels
        if channel.stream
        and _is_read(channel.stream.kind, channel)
        and not (
            channel.is_mail
            and channel.stream.is_for_each_role
            and channel.reader
            and by_hand.isdisjoint((channel.stream.kind, channel.reader.kind))
        )
    }


def lag_below_admission(state: DesiredState, org: Org) -> Iterator[Found]:
    """Find roles for whose tasks a lag is an alarm that they are allowed to have."""
    most = admitted(state.streams())
    alerts, roles = org.alerts._replace(admitted=most), {role.name: role for role in org.roles}
    for (name, channel), count in most.items():
        lag = alerts.of(LAG, name, channel)
        if lag < count and name in roles:
            yield Found(
                name,
                f"lag {lag} of {name}'s {channel}, of which {count} are admitted",
                lag_mark(org, roles[name]),
            )


def own_notices(state: DesiredState, org: Org) -> Iterator[Found]:
    """Find consumers that are handed the notices of what they failed with themselves."""
    for reader in message_flow.told_of_themselves(state):
        stream = state.resources[Ref(reader.ref.stream)]
        where = source_mark(org, kind_of(stream), member_of(org, stream), "subjects")
        yield Found(reader.role, f"{reader.ref}", where)


def unheard_failures(_state: DesiredState, org: Org) -> Iterator[Found]:
    """Find an organisation that leaves the dead letters out."""
    if org.channel(DEAD_LETTERS) is None and any(channel.reader for channel in org.channels):
        yield Found(None, "dead_letters: false", org.marks.get(("channels", DEAD_LETTERS)))


def open_assignment(_state: DesiredState, org: Org) -> Iterator[Found]:
    """Find an organisation of several roles that says of none to whom it reports."""
    if len(org.roles) > 1 and not org.has_chart:
        yield Found(None, "roles without reports_to", org.marks.get(("roles",)))


def trusted_subject(_state: DesiredState, org: Org) -> Iterator[Found]:
    """Find the channels of which the subject alone says that one of a few has published."""
    for channel in org.channels:
        named = [party for party in channel.publishers if not isinstance(party, Party)]
        if named and channel.stream is None and Party.ANYONE not in channel.publishers:
            where = org.marks.get(("channels", channel.name, "publishers"))
            yield Found(None, f"{channel.name} has publishers, and is not stored", where)


def heard_by_its_publisher(_state: DesiredState, org: Org) -> Iterator[Found]:
    """Find the channels and events that nobody reads but the role that publishes."""
    for channel in org.channels:
        own = channel.scope is Scope.ROLE and channel.publishers == channel.readers == (Party.SELF,)
        if own or _is_one_role(org, channel.publishers, channel.readers):
            where = org.marks.get(("channels", channel.name), channel.mark)
            yield Found(None, f"{channel.name} is read by the role alone that publishes", where)
    for event in org.events:
        if _is_one_role(org, event.publishers, event.subscribers):
            yield Found(None, f"{event.name} is read by the role alone that publishes", event.mark)


def _is_one_role(org: Org, publishers: Sequence[str], readers: Sequence[str]) -> bool:
    """Return whether both name one role, and the same."""
    if any(isinstance(party, Party) for party in (*publishers, *readers)):
        return False
    return len({*org.members(publishers)}) == 1 and {*org.members(publishers)} == {*org.members(readers)}


def watched_bucket(_state: DesiredState, org: Org) -> Iterator[Found]:
    """Find the buckets that some may watch, who so may publish what is in them anywhere."""
    for bucket in org.buckets:
        if bucket.watchers:
            where = org.marks.get(("key_value", bucket.name, "watchers"), bucket.mark)
            yield Found(None, f"{bucket.name} has watchers", where)


_STORED_BY = ("subject_transform", "mirror", "sources", "subjects")


def _is_bucket(kind: StreamKind | ConsumerKind, _channel: Channel | None) -> bool:
    return kind == StreamKind.KEY_VALUE


def _is_stream(kind: StreamKind | ConsumerKind, channel: Channel | None) -> bool:
    return channel is not None and isinstance(kind, StreamKind)


def _is_mail(kind: StreamKind | ConsumerKind, channel: Channel | None) -> bool:
    """Return whether it stores what is sent to one role, which nobody else reads."""
    return channel is not None and channel.is_mail and isinstance(kind, StreamKind)


def _is_mail_reader(kind: StreamKind | ConsumerKind, channel: Channel | None) -> bool:
    return channel is not None and channel.is_mail and isinstance(kind, ConsumerKind)


def _is_role_reader(kind: StreamKind | ConsumerKind, channel: Channel | None) -> bool:
    return channel is not None and not channel.is_of_no_role and isinstance(kind, ConsumerKind)


def _is_worker(kind: StreamKind | ConsumerKind, _channel: Channel | None) -> bool:
    return kind == ConsumerKind.WORKER


def _is_dead_letters(kind: StreamKind | ConsumerKind, _channel: Channel | None) -> bool:
    return kind == StreamKind.DEAD_LETTERS


def _is_read(kind: StreamKind | ConsumerKind, channel: Channel | None) -> bool:
    """Return whether it stores what consumers of roles are for; not where the manifest says that others read it."""
    return (
        channel is not None
        and bool(channel.readers)
        and not channel.is_of_no_role
        and isinstance(kind, StreamKind)
    )


def _is_single(kind: StreamKind | ConsumerKind, channel: Channel | None) -> bool:
    """Return whether what it stores is of one role, or happened once: a second copy of it is a second one."""
    return _is_stream(kind, channel) and channel is not None and channel.scope in (Scope.ROLE, Scope.EVENT)


def _is_kept(kind: StreamKind | ConsumerKind, channel: Channel | None) -> bool:
    """Return whether it stores what has to be there still when somebody comes back."""
    return _is_single(kind, channel) or _is_dead_letters(kind, channel)


def _is_confirmed(kind: StreamKind | ConsumerKind, channel: Channel | None) -> bool:
    """Return whether its publishers rely on the answer that a message is stored: nobody else will send it."""
    return _is_mail(kind, channel) or _is_dead_letters(kind, channel)


def _is_any(_kind: StreamKind | ConsumerKind, _channel: Channel | None) -> bool:
    return True


LINTS: tuple[Lint, ...] = (
    Lint(
        "short-ack-wait",
        "`ack_wait`, or a step of `backoff`, of a worker under 5m",
        "a task is handed out again while its agent still works on it, and the work is paid for twice",
        "agents reason for up to 20 minutes: 30m is the default",
        _is_worker,
        short_ack_wait,
    ),
    Lint(
        "endless-deliveries",
        "`max_deliver` -1 of a role's consumer",
        "a message that makes its agent fail is worked on again for ever, and never becomes a dead letter",
        "3 is the default",
        _is_role_reader,
        endless_deliveries,
    ),
    Lint(
        "one-delivery",
        "`max_deliver` 1 of a worker",
        "the first crash makes a task a dead letter, which only a person sends again",
        "3 is the default",
        _is_worker,
        one_delivery,
    ),
    Lint(
        "implicit-ack",
        "`ack_policy` none or all of a worker or an inbox reader",
        "none counts a message as done when it is handed out, all counts those before it that others work on:"
        " a crash loses them",
        "use ack_policy: explicit",
        _is_mail_reader,
        implicit_ack,
    ),
    Lint(
        "skips-waiting",
        "`deliver_policy` new, last or last_per_subject of a worker or an inbox reader",
        "what waits in the stream when the consumer is created, also for a second time, is never handed out",
        "use deliver_policy: all",
        _is_mail_reader,
        skips_waiting,
    ),
    Lint(
        "push-to-all",
        "`deliver_subject` without `deliver_group` of a worker",
        "every agent that listens is handed every task, and each does the work",
        "name a deliver_group, or let agents pull",
        _is_worker,
        push_to_all,
    ),
    Lint(
        "vanishing-consumer",
        "`inactive_threshold` of a role's consumer, its own or by its stream's `consumer_limits`",
        "a role that is away for longer loses its consumer, and a new one starts over with what was done long ago",
        "leave inactive_threshold out",
        _is_role_reader,
        vanishing_consumer,
    ),
    Lint(
        "memory-progress",
        "`mem_storage` of a role's consumer",
        "a restart of its server forgets the consumer, and a new one starts over with what was done long ago",
        "leave mem_storage out",
        _is_role_reader,
        memory_progress,
    ),
    Lint(
        "memory-storage",
        "`storage` memory for tasks, inboxes, durable events or dead letters",
        "what waits is gone when its servers stop; a single server forgets even the stream",
        "use storage: file",
        _is_kept,
        memory_storage,
    ),
    Lint(
        "no-duplicate-window",
        "`duplicate_window` 0 for tasks, inboxes or durable events",
        "0 leaves it to the server, which takes 2m, or none at all for a stream with sources since 2.14:"
        " what is published twice is then done twice",
        "say how long ids are remembered, such as 2m",
        _is_single,
        no_duplicate_window,
    ),
    Lint(
        "short-duplicate-window",
        "`duplicate_window` under 20s for tasks, inboxes or durable events",
        "a publisher without an answer repeats itself for up to 20s while a cluster elects a leader:"
        " what is stored twice is done twice",
        "2m is the default",
        _is_single,
        short_duplicate_window,
    ),
    Lint(
        "unconfirmed-publish",
        "`no_ack` for tasks or inboxes",
        "a publisher is never told that its message was stored, or that it was refused",
        "leave no_ack out",
        _is_mail,
        unconfirmed_publish,
    ),
    Lint(
        "async-persist",
        "`persist_mode` async for tasks, inboxes or dead letters",
        "a publisher is told that its message is stored before the disk has it: a crash of the server loses it",
        "leave persist_mode out",
        _is_confirmed,
        async_persist,
    ),
    Lint(
        "drops-unread",
        "a limit that deletes tasks or messages in an inbox before a day's work is done: `max_age` under 24h;"
        " `max_msgs` or `max_msgs_per_subject` under 72, or `max_bytes` under 1 MiB, where the oldest go",
        "a role that is away for a day loses what it was sent, without a dead letter",
        "raise the limit; max_msgs and max_bytes can also refuse what is new, with discard: new",
        _is_mail,
        drops_unread,
    ),
    Lint(
        "drops-dead-letters",
        "a limit that deletes dead letters over a weekend: `max_age` under 72h; `max_msgs` or"
        " `max_msgs_per_subject` under 72, or `max_bytes` under 1 MiB, where the oldest go",
        "a dead letter waits for a person, and is gone before one looks on Monday",
        "raise the limit; the default is 10000 messages of any age",
        _is_dead_letters,
        drops_dead_letters,
    ),
    Lint(
        "deletes-terminated",
        "`retention` workqueue, and so `admission`, or interest for tasks, inboxes, broadcasts or durable events",
        "a message that its agent terminates is deleted with that, and its dead letter has no content: nobody can look at"
        " it or send it again",
        "let agents publish such a message whole to <org>.org.deadletter and acknowledge it, or let it use up its deliveries;"
        " or take retention limits",
        _is_read,
        deletes_terminated,
    ),
    Lint(
        "many-routes",
        "two subjects of `DEAD_LETTERS` for each of more than 1,000 streams",
        "the server compares each with every other, at every change and at every start: 1.5 s for 1,000 roles, more than"
        " 20 s for 5,000, and from about 7,000 on no request has room for them",
        "in an account that nobody else uses, set streams.dead_letters.subjects to <org>.org.deadletter and"
        " $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.*.* and $JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.*.*, and"
        " consumers.dead_letter_alerts.ack_policy to none: of what that consumer terminates there would be a notice for"
        " itself, without end",
        _is_dead_letters,
        many_routes,
    ),
    Lint(
        "no-limit",
        "a stream without `max_age`, `max_msgs`, `max_bytes` and `max_msgs_per_subject`",
        "it grows until the account's storage is full, and then no stream of the account stores anything",
        "set one of them",
        _is_stream,
        no_limit,
    ),
    Lint(
        "memory-bucket",
        "`storage` memory of a bucket",
        "its values are gone when its servers stop; a single server forgets even the bucket",
        "use storage: file, except for a cache",
        _is_bucket,
        memory_storage,
    ),
    Lint(
        "endless-bucket",
        "a bucket without `ttl` and `max_bytes`, other than that of `task_state`",
        "it grows with every new key until the account's storage is full,"
        " and then no stream of the account stores anything",
        "set one of them",
        _is_bucket,
        endless_bucket,
    ),
    Lint(
        "short-task-state",
        "`ttl` under 144h of the bucket of `task_state`",
        "a task that waits for longer, as a dead letter over a weekend, has no document when somebody gets to it",
        "leave ttl out, or take one that is longer than any task waits",
        _is_bucket,
        short_task_state,
    ),
    Lint(
        "bounded-task-state",
        "`max_bytes` of the bucket of `task_state`",
        "a full bucket refuses every put: no task can change its state any more",
        "leave max_bytes out, and watch the account's storage",
        _is_bucket,
        bounded_task_state,
    ),
    Lint(
        "single-replica",
        "`num_replicas` 1 in an environment that is called production, prod or live",
        "while its server is down nothing is stored or handed out, and what its disk loses is lost",
        "use replicas: 3 in defaults; a cluster of three servers survives the loss of one",
        _is_any,
        single_replica,
    ),
)
"""Each warning about one stream or consumer. A further one is one function and one row, and a case in tests/cases/lint."""

LINTS_OF_ALL: tuple[LintOfAll, ...] = (
    LintOfAll(
        UNMATCHED_SUBJECT,
        "a subject under which tasks, messages in inboxes, broadcasts or durable events are stored, after transforms and"
        " from sources, and which no consumer of the stream reads",
        "what is stored there is handed to nobody; under retention interest it is acknowledged and gone at once",
        "let a consumer read it, by its filter_subjects or as a subscriber of the event, or do not store it",
        unmatched_subject,
    ),
    LintOfAll(
        "own-notices",
        "a consumer that is handed the notices of what it failed with itself, such as `dead_letter_alerts` where the"
        " subjects of `DEAD_LETTERS` have a wildcard for the stream",
        "it is handed the notice of each message that it terminates or uses the deliveries of up; if it terminates that as"
        " well, thousands come within seconds, and push all others out",
        "name the streams in the subjects, or set ack_policy: none of the consumer, for which there are no notices",
        own_notices,
    ),
    LintOfAll(
        "lag-below-admission",
        "an `alerts.lag` of tasks or of a role that is below what its `admission` allows",
        "the role is an alarm while it is as full as it may be, which is how it works at full load",
        "let lag be max_pending or more, or none: a general alerts.lag does not concern such a role",
        lag_below_admission,
    ),
    LintOfAll(
        "unheard-failures",
        "`channels: {dead_letters: false}`",
        "a message that fails for good is handed out no more, and nobody is told: it stays in its stream until a limit deletes it",
        "keep the dead letters, or subscribe to $JS.EVENT.ADVISORY.CONSUMER.> yourself and read what you miss meanwhile",
        unheard_failures,
    ),
)
"""Each warning about several. A further one is one function and one row, and a case in tests/cases/lint."""

NOTES: tuple[LintOfAll, ...] = (
    LintOfAll(
        "open-assignment",
        "several roles, and no `reports_to` among them",
        "every role may give work to every other",
        "say whom each role reports to with reports_to, and whom it gives work to besides with assigns",
        open_assignment,
    ),
    LintOfAll(
        "trusted-subject",
        "a channel of one's own that is not stored, with `publishers`",
        "who pulls a message, or is answered, names the subject that it comes on, and no permission closes that",
        "let its readers look at the subject and the content of what they hear, and believe neither for its sender",
        trusted_subject,
    ),
    LintOfAll(
        "heard-by-its-publisher",
        "a channel or an event that only the role reads which publishes on it",
        "a role tells itself, and nobody else hears it",
        "name the readers, or readers: operator for whoever watches over all roles",
        heard_by_its_publisher,
    ),
    LintOfAll(
        "watched-bucket",
        "a bucket with `watchers`",
        "a watch is a consumer, and whoever makes it says where the values go: to any subject of the account, whoever may publish there",
        "let those watch whom you would give the account, and the others read values by their keys",
        watched_bucket,
    ),
)
"""What is told as a note: right for many, but somebody should have decided it. `--strict` does not mind it."""

EVERY_LINT: tuple[Lint | LintOfAll, ...] = (*LINTS, *LINTS_OF_ALL, *NOTES)
