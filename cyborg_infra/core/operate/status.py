"""Judge the readings of a server: the status of queues, broadcasts, dead letters and streams, and alarms. Ages are by the server's clock."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from cyborg_infra.core.desired import naming
from cyborg_infra.core.desired.sandbox import MAX_RUN_NS, is_sandbox_of
from cyborg_infra.core.desired.settings import admitted, enforces_admission
from cyborg_infra.core.lint.lint import is_ignored
from cyborg_infra.core.lint.rules import UNMATCHED_SUBJECT
from cyborg_infra.core.operate import dead_letters, fill_level
from cyborg_infra.model.channels import (
    DEAD_LETTERS,
    GROUP_BROADCASTS,
    TASKS,
    ConsumerKind,
    Party,
    StreamKind,
    queues,
)
from cyborg_infra.model.consumer_position import filter_patterns
from cyborg_infra.model.metadata_keys import BECOMES_KEY, KIND_KEY
from cyborg_infra.model.organisation import LAG, LETTERS, LETTERS_WITHIN, Alerts, Org
from cyborg_infra.model.ref import PLACEHOLDER_PREFIX, Ref
from cyborg_infra.model.resources import (
    SILENT_NS,
    ConsumerCounts,
    Copy,
    DesiredResource,
    DesiredState,
    LiveResource,
    Resource,
    StreamCounts,
    Unfinished,
)
from cyborg_infra.model.status import (
    NEAR_LIMIT_SHARE,
    STATES,
    Alarm,
    BroadcastReceipt,
    BroadcastStatus,
    Condition,
    DeadLetterSummary,
    OrgStatus,
    QueueStatus,
    RoleStatus,
    StatusReadings,
    StoredBroadcast,
    StreamStatus,
)
from cyborg_infra.model.subjects import SubjectIndex, covers
from cyborg_infra.model.units import SECOND, age, format_age
from cyborg_infra.model.wording import Command, Option, first_few, worded

SETTLING_NS = 2 * SECOND
"""Within so long all leaders have noticed what the first of them has: they hear of their copies once a second."""

_UNFINISHED_TEXTS: Mapping[Unfinished, str] = {
    Unfinished.FENCED: "Parked, publishers are refused",
    Unfinished.MIGRATING: "On the way to another stream",
    Unfinished.PLACEHOLDER: "Keeping a position",
    Unfinished.STOPPED: "Stopped, nothing new is delivered",
    Unfinished.REFILLING: "Refilled, nothing is delivered",
    Unfinished.PAUSED: "Paused, nothing is delivered",
}
_SEVERITY = {state: rank for rank, state in enumerate(STATES)}
_MAX_NAMED = 7  # of what is missing or late; more say no more


def make_status(
    org: Org,
    desired: DesiredState,
    readings: StatusReadings,
    alerts: Alerts,
    roles: Collection[str] | None = None,
) -> OrgStatus:
    """Return the status of the organisation, or of some of its roles alone and what all of them share."""
    named = None if roles is None else frozenset(roles)
    chosen = {role.name: None for role in org.roles if named is None or role.name in named}  # in their order
    ours = DesiredState(
        {ref: found for ref, found in desired.resources.items() if found.role is None or found.role in chosen}
    )
    readers: dict[str, dict[str, DesiredResource]] = {name: {} for name in chosen}
    for reader in ours.consumers():
        if reader.role is not None:
            readers[reader.role][kind_label(reader)] = reader
    channels = queues(org.channels)
    for reader in ours.consumers() if roles is None else ():
        if reader.role is None and kind_label(reader) in channels:
            readers.setdefault(Party.OPERATOR, {})[kind_label(reader)] = reader
    alerts = alerts._replace(admitted=admitted(ours.streams()))
    unfinished = _unfinished(org, desired, ours, readings)
    letters, changing = _letters(org, readings), _changing(unfinished, readings)
    found = tuple(
        _role(name, wanted, channels, readings, alerts, letters, changing) for name, wanted in readers.items()
    )
    broadcasts = _broadcasts(org, ours, readings, letters)
    streams = tuple(_stream(stream, ours, readings) for stream in ours.streams())
    alarms = (
        *_unreadable(ours, readings),
        *_missing(org, ours, readings),
        *_unfinished_alarms(unfinished, readings, org),
        *_paused(ours, readings),
        *_ahead(ours, readings, changing),
        *_replicas(ours, readings),
        *(alarm for role in found for alarm in _queue_alarms(role, readings)),
        *_broadcast_alarms(broadcasts, ours, readings, alerts),
        *_dead_letter_alarms(org, readings, alerts, roles),
        *(alarm for stream in streams for alarm in _stream_alarms(stream, readings)),
        *_unmatched(org, ours, readings),
    )
    return OrgStatus(
        org=org.name,
        environment=org.environment,
        server_info=readings.live.server_info,
        now=readings.now,
        alerts=alerts,
        roles=found,
        broadcasts=broadcasts,
        dead_letters=_dead_letters(org, readings),
        streams=streams,
        unfinished=unfinished,
        behind=_behind(ours, readings),
        alarms=alarms,
        notes=(*readings.notes, *_abandoned_sandboxes(org, readings)),
    )


# Roles


GivenUp = Mapping[Ref, Collection[int]]
"""Consumer -> the numbers of messages that dead letters say it has given up."""


def _role(
    name: str,
    wanted: Mapping[str, DesiredResource],
    channels: Mapping[ConsumerKind, str],
    readings: StatusReadings,
    alerts: Alerts,
    letters: GivenUp,
    changing: AbstractSet[Ref],
) -> RoleStatus:
    """Return the task queue first: whether its worker is busy decides on the others."""
    found: list[QueueStatus] = []
    for kind, channel in channels.items():
        if kind in wanted:
            work = [queue for queue in found if queue.channel == TASKS]
            busy = any(queue.workers or (queue.in_flight or 0) > (queue.expired or 0) for queue in work)
            queue = replace(
                _queue(wanted[kind], channel, readings, letters),
                lag_threshold=alerts.of(LAG, name, channel),
            )
            found.append(replace(queue, state=_state(queue, readings, changing, busy=busy)))
    return RoleStatus(
        name,
        min((queue.state for queue in found), key=_SEVERITY.__getitem__, default=Condition.IDLE),
        tuple(found),
    )


def kind_label(resource: Resource) -> str:
    """Return what the mark of a resource says that it is."""
    return resource.metadata[KIND_KEY]


def _queue(wanted: DesiredResource, channel: str, readings: StatusReadings, letters: GivenUp) -> QueueStatus:
    """Return what is known of it; its state comes after."""
    ref = wanted.ref
    if {ref, Ref(ref.stream)} & readings.unread.keys():
        return QueueStatus(channel, ref, Condition.NO_LEADER)
    live = readings.live.resources.get(ref)
    if live is None or not isinstance(counts := live.counts, ConsumerCounts):
        return QueueStatus(channel, ref, Condition.MISSING)
    delivered, acked = (age(at, readings.now) for at in (live.activity.delivered_at, live.activity.acked_at))
    known = [passed for passed in (delivered, acked) if passed is not None]
    workers = counts.num_waiting or int(live.activity.bound)
    # The server looks for what has expired only when somebody pulls.
    over = not workers and delivered is not None and delivered > max_ack_wait_ns(live)
    first = readings.oldest.get(ref)
    return QueueStatus(
        channel,
        ref,
        Condition.IDLE,
        waiting=counts.num_pending,
        in_flight=counts.num_ack_pending,
        expired=counts.num_ack_pending if over else 0,
        redelivered=_again(counts, letters.get(ref, ())),
        workers=workers,
        oldest_waiting=age(first.at, readings.now) if first and counts.num_pending else None,
        last_activity=min(known, default=None),
        paused=live.activity.paused,
    )


def _again(counts: ConsumerCounts, given_up: Collection[int]) -> int:
    """Return how many in flight were delivered before: the server goes on counting what was given up, which is in flight no more."""
    return min(counts.num_ack_pending, max(0, counts.num_redelivered - len(given_up)))


def _state(
    queue: QueueStatus, readings: StatusReadings, changing: AbstractSet[Ref], *, busy: bool
) -> Condition:
    """Return the first that holds. `busy`: the role works on a task, or asks for one."""
    if queue.state is not Condition.IDLE:  # nothing of it can be read
        return queue.state
    waiting, in_flight = queue.waiting or 0, queue.in_flight or 0
    holds = {
        Condition.UNFINISHED: not changing.isdisjoint((queue.ref, Ref(queue.ref.stream))),
        Condition.PAUSED: queue.paused,
        Condition.AHEAD: queue.ref in readings.ahead,
        Condition.EXPIRED: bool(queue.expired),
        Condition.STUCK: _stalled(queue, max_ack_wait_ns(readings.live.resources[queue.ref])),
        Condition.NO_WORKER: bool(waiting) and not (in_flight or queue.workers or busy),
        Condition.LAG: waiting > queue.lag_threshold,
        Condition.WORKING: bool(waiting or in_flight),
        Condition.IDLE: True,
    }
    return next(state for state in STATES if holds.get(state))


def _stalled(queue: QueueStatus, ack_wait: int) -> bool:
    """Return whether messages and workers wait for each other: nothing was delivered or acknowledged for longer than work may take."""
    known = [passed for passed in (queue.oldest_waiting, queue.last_activity) if passed is not None]
    return bool(queue.waiting and queue.workers and known) and min(known, default=0) > ack_wait


def max_ack_wait_ns(consumer: Resource) -> int:
    """Return the longest time after which the server takes a delivery for lost, in nanoseconds."""
    longest: int = max(consumer.get("ack_wait"), *(consumer.get("backoff") or (0,)))
    return longest


def _queue_alarms(role: RoleStatus, readings: StatusReadings) -> Iterator[Alarm]:
    for queue in role.queues:
        live = readings.live.resources.get(queue.ref)
        if queue.waiting is None or live is None:
            continue
        what, ack_wait = f"{role.name}: {queue.channel}", max_ack_wait_ns(live)
        whose = (role.name, queue.channel)
        if queue.waiting > queue.lag_threshold:
            waiting = f"{queue.waiting:,} waiting, more than {queue.lag_threshold:,}"
            yield Alarm(Condition.LAG, f"{what}: {waiting}", *whose)
        if queue.expired:
            yield Alarm(Condition.EXPIRED, f"{what}: {_expired(queue, live)}", *whose)
        elif _stalled(queue, ack_wait) and not queue.paused:
            passed = f" for {format_age(queue.last_activity or 0)}" if queue.last_activity is not None else ""
            yield Alarm(
                Condition.STUCK,
                f"{what}: {queue.waiting:,} waiting, workers too, and nothing moved{passed}",
                *whose,
            )
        elif queue.state is Condition.NO_WORKER and (queue.oldest_waiting or 0) > ack_wait:
            yield Alarm(
                Condition.NO_WORKER,
                f"{what}: {queue.waiting:,} waiting for {format_age(queue.oldest_waiting or 0)}, and no worker is connected",
                *whose,
            )


def _expired(queue: QueueStatus, live: LiveResource) -> str:
    limit = live.get("max_deliver")
    last = bool(queue.redelivered) if limit != 1 else True
    may = f", perhaps after the last of {limit} deliveries" if limit > 0 and last else ""
    return (
        f"{queue.in_flight:,} in flight for {format_age(queue.last_activity or 0)}, longer than ack_wait, and nobody pulls{may}: "
        "no redelivery and no dead letter until somebody does"
    )


# Broadcasts


def _letters(org: Org, readings: StatusReadings) -> GivenUp:
    found: dict[Ref, set[int]] = {}
    for entry in readings.letters:
        letter = dead_letters.decode_entry(entry, org)
        found.setdefault(Ref(dead_letters.current_stream(letter, org), letter.consumer), set()).add(
            letter.sequence
        )
    return found


def _broadcasts(
    org: Org, organisation: DesiredState, readings: StatusReadings, letters: GivenUp
) -> tuple[BroadcastStatus, ...]:
    order = {role.name: position for position, role in enumerate(org.roles)}
    readers = {
        stream: sorted(
            (reader for reader in organisation.consumers(stream.stream) if reader.role in order),
            key=lambda reader: order[reader.role or ""],
        )
        for stream in {message.stream for message in readings.broadcasts}
    }
    channel = org.channel(GROUP_BROADCASTS)
    groups = {org.subject(channel.subject_of(each.name)): each.name for each in org.groups} if channel else {}
    found = []
    for message in reversed(readings.broadcasts):
        answers = {
            reader.role or "": answer
            for reader in readers[message.stream]
            if _is_meant_for(reader, message)
            and (answer := _receipt(reader, message, letters.get(reader.ref, ()), readings)) is not None
        }
        passed = age(message.at, readings.now) or 0
        to = groups.get(message.subject, "")
        found.append(BroadcastStatus(message.seq, passed, answers, message.stream, to))
    return tuple(found)


def _is_meant_for(reader: Resource, message: StoredBroadcast) -> bool:
    return any(covers(wanted, message.subject) for wanted in filter_patterns(reader))


def _receipt(
    reader: Resource, message: StoredBroadcast, given_up: Collection[int], readings: StatusReadings
) -> BroadcastReceipt | None:
    """Return what the reader has made of the broadcast; None where it was never meant for it: it starts later."""
    live = readings.live.resources.get(reader.ref)
    if live is None or not isinstance(counts := live.counts, ConsumerCounts):
        return BroadcastReceipt.UNKNOWN
    if live.get("deliver_policy") != "all" and (age(live.created, message.at) or 0) == 0:
        return None
    if message.seq in given_up:
        return BroadcastReceipt.GIVEN_UP
    if message.seq > counts.delivered_stream_seq:
        return BroadcastReceipt.OPEN
    if counts.num_ack_pending == 0 or message.seq <= counts.ack_floor_stream_seq:
        # A redelivery count that stays is of a message that was given up.
        told = not counts.num_redelivered or not age(message.at, readings.letters_since)
        return BroadcastReceipt.ACKNOWLEDGED if told else BroadcastReceipt.UNKNOWN
    at_most = _most_between(reader, counts, readings)
    return BroadcastReceipt.OPEN if counts.num_ack_pending >= at_most else BroadcastReceipt.UNKNOWN


def _most_between(reader: Resource, counts: ConsumerCounts, readings: StatusReadings) -> int:
    """Return how many broadcasts for the reader there are at most between its acknowledgement floor and its last delivery.

    Those that were read, if they go back so far; else there may be gaps, as for a group that it is not in.
    """
    floor, last = counts.ack_floor_stream_seq, counts.delivered_stream_seq
    known = [each for each in readings.broadcasts if each.stream.stream == reader.ref.stream]
    if min(each.seq for each in known) > floor + 1:
        return last - floor
    return sum(floor < each.seq <= last and _is_meant_for(reader, each) for each in known)


def _broadcast_alarms(
    broadcasts: Sequence[BroadcastStatus],
    organisation: DesiredState,
    readings: StatusReadings,
    alerts: Alerts,
) -> Iterator[Alarm]:
    for found in broadcasts:
        late = found.late(alerts)
        wanting = [
            *(role for role in found.roles(BroadcastReceipt.OPEN) if role in late),
            *(f"{role} (given up)" for role in found.roles(BroadcastReceipt.GIVEN_UP) if role in late),
        ]
        if wanting:
            yield Alarm(
                Condition.BROADCAST_ACK,
                f"broadcast {found}, {format_age(found.age)} old, is not acknowledged by {first_few(wanting, _MAX_NAMED)}",
                about=f"{found.stream} {found.seq}",
                parts=frozenset(wanting),
            )
    for reader in organisation.consumers():
        role = reader.role or ""
        unknown = [
            found
            for found in broadcasts
            if found.answers.get(role) is BroadcastReceipt.UNKNOWN and found.stream == Ref(reader.ref.stream)
        ]
        live = readings.live.resources.get(reader.ref)
        if (
            unknown
            and all(role in found.late(alerts) for found in unknown)
            and live
            and isinstance(live.counts, ConsumerCounts)
            and live.counts.num_ack_pending
        ):
            yield Alarm(
                Condition.BROADCAST_ACK,
                f"{live.counts.num_ack_pending:,} of the broadcasts up to {max(found.seq for found in unknown)} not acknowledged by {role}",
                role,
                str(reader.ref),
            )


def _dead_letters(org: Org, readings: StatusReadings) -> DeadLetterSummary:
    channel = org.channel(DEAD_LETTERS)
    if channel is None or channel.stream is None:
        return DeadLetterSummary(None)
    stream = readings.live.resources.get(Ref(naming.template_name(org, channel.stream)))
    if stream is None or not isinstance(stream.counts, StreamCounts):
        return DeadLetterSummary(None)
    recent = tuple(dead_letters.decode_entry(entry, org) for entry in readings.letters)
    newest = recent[0] if recent else None
    return DeadLetterSummary(stream.counts.messages, newest, age(stream.counts.last_ts, readings.now), recent)


def _dead_letter_alarms(
    org: Org, readings: StatusReadings, alerts: Alerts, roles: Collection[str] | None
) -> Iterator[Alarm]:
    """Yield the alarms of each role, and of consumers that are no role's. What is kept is still to be handled: cron keeps, and so does an apply."""
    read = [(entry.subject, dead_letters.decode_entry(entry, org)) for entry in readings.letters]
    letters = [
        letter
        for letter in dead_letters.one_per_message([letter for _, letter in read])
        if roles is None or not letter.role or letter.role in roles
    ]
    # What is kept or handed in is of any role under one subject.
    whose = {subject: letter.role for subject, letter in read if not dead_letters.is_whole(letter)}
    for role in sorted({letter.role for letter in letters}):
        most, within = alerts.of(LETTERS, role), alerts.of(LETTERS_WITHIN, role)
        ages = [age(letter.time, readings.now) or 0 for letter in letters if letter.role == role]
        ages = [passed for passed in ages if not within or passed <= within]
        unread = sum(
            number for subject, number in readings.letters_unread.items() if whose.get(subject) == role
        )
        number = len(ages) + (0 if within else unread)
        if 0 < most <= number:
            more = " or more" if readings.letters_since else ""
            see = worded("{} {}", Command("dlq list"), Option("role", role)) if role else Command("dlq list")
            newest = (
                f"{number:,} dead letter{'s' * (number > 1)}{more}, the newest {format_age(min(ages))} old"
            )
            yield Alarm(
                Condition.DEAD_LETTERS,
                worded("{}: {}; see {}", role or "no role", newest, see),
                role,
            )


# Streams, and what is not there


def _stream(wanted: DesiredResource, organisation: DesiredState, readings: StatusReadings) -> StreamStatus:
    live = readings.live.resources.get(wanted.ref)
    if live is None or not isinstance(live.counts, StreamCounts):
        return StreamStatus(wanted.ref, leader=wanted.ref not in readings.unread)
    readers = [
        found
        for desired in organisation.consumers(wanted.ref.stream)
        if (found := readings.live.resources.get(desired.ref)) is not None
    ]
    return StreamStatus(
        wanted.ref,
        live.counts.messages,
        live.counts.bytes,
        fill_level.fullest_limit(live),
        max((fill_level.unread_limit(live, reader, readings) for reader in readers), default=None),
        readings.given_up.get(wanted.ref),
        replicas=live.get("num_replicas"),
        replicas_behind=len(readings.behind.get(wanted.ref, ())),
    )


def _stream_alarms(stream: StreamStatus, readings: StatusReadings) -> Iterator[Alarm]:
    live = readings.live.resources.get(stream.ref)
    if live is None:
        return
    whose = (live.role or "", str(stream.ref))
    refuses = live.get("discard") == "new"
    fill = fill_level.fullest_limit(live, besides="max_msgs" if enforces_admission(live) else "")
    if stream.given_up:
        limit = live.get("max_msgs")
        of = f" of at most {limit:,}" if limit > 0 else ""
        yield Alarm(
            Condition.GIVEN_UP,
            f"{stream.ref}: {stream.given_up:,}{of} messages used up their deliveries and keep their place in the workqueue",
            *whose,
        )
    if refuses and fill and fill.share >= NEAR_LIMIT_SHARE:
        yield Alarm(
            Condition.NEAR_LIMIT,
            f"{stream.ref}: {_percent(fill.share)} of {fill.limit} is used; at 100% new messages are refused",
            *whose,
        )
    unread = stream.unread
    if unread and unread.share >= NEAR_LIMIT_SHARE and (unread.limit == "max_age" or not refuses):
        yield Alarm(
            Condition.NEAR_LIMIT,
            f"{stream.ref}: what {unread.reader} has not read is at {_percent(unread.share)} of {unread.limit}; "
            "at 100% it is deleted unread",
            live.role or "",
            f"{stream.ref} {unread.reader}",
        )


def _unmatched(org: Org, organisation: DesiredState, readings: StatusReadings) -> Iterator[Alarm]:
    """Yield alarms for messages that no consumer reads, unless the manifest ignores the warning of the same name.

    While a consumer is changed it has other filters.
    """
    for stream in organisation.streams():
        readers = readings.live.consumers(stream.ref.stream)
        stored = readings.subjects.get(stream.ref, {})
        channel = org.channel_of(StreamKind(kind_label(stream)))
        if (
            not stored
            or (channel is not None and not channel.readers)  # others read it
            or is_ignored(org, UNMATCHED_SUBJECT, stream.role)
            or any(each.unfinished for each in readers)
        ):
            continue
        read = SubjectIndex((subject, "") for reader in readers for subject in filter_patterns(reader))
        left = {subject: number for subject, number in stored.items() if not read.covers(subject)}
        if left:
            yield Alarm(
                Condition.UNMATCHED_SUBJECT,
                f"{stream.ref}: {sum(left.values()):,} messages that none of its consumers reads, under {first_few(sorted(left), _MAX_NAMED)}",
                stream.role or "",
                str(stream.ref),
            )


def _unreadable(organisation: DesiredState, readings: StatusReadings) -> Iterator[Alarm]:
    """Yield one alarm for all that cannot be read for the same reason: in an election that is a third of a cluster's streams."""
    found: dict[str, list[str]] = {}
    for ref, problem in readings.unread.items():
        if ref in organisation.resources:
            found.setdefault(problem.message.partition(": ")[2], []).append(str(ref))
    for reason, names in found.items():
        said = f"{first_few(names, _MAX_NAMED)}: {reason}"
        yield Alarm(Condition.NO_LEADER, said, about=reason, parts=frozenset(names))


def _missing(org: Org, organisation: DesiredState, readings: StatusReadings) -> Iterator[Alarm]:
    gone: dict[str, list[str]] = {}
    for ref in organisation.resources:
        if not {ref, Ref(ref.stream)} & readings.unread.keys() and ref not in readings.live.resources:
            gone.setdefault(readings.others.get(ref, ""), []).append(str(ref))
    for whose, names in sorted(gone.items()):
        where = f"of organisation {whose}, and not of {org.name}" if whose else "not on the server"
        yield Alarm(
            Condition.MISSING,
            worded("{}: {}; see {}", where, first_few(names, _MAX_NAMED), Command("plan")),
            about=whose,
            parts=frozenset(names),
        )


def _paused(organisation: DesiredState, readings: StatusReadings) -> Iterator[Alarm]:
    for reader in organisation.consumers():
        live = readings.live.resources.get(reader.ref)
        if live and live.activity.paused and live.unfinished is None:
            until = live.get("pause_until")
            yield Alarm(
                Condition.PAUSED,
                f"{reader.ref}: nothing is delivered{f' until {until}' if until else ''}",
                reader.role or "",
                str(reader.ref),
            )


def _ahead(
    organisation: DesiredState, readings: StatusReadings, changing: AbstractSet[Ref]
) -> Iterator[Alarm]:
    for reader in organisation.consumers():
        live = readings.live.resources.get(reader.ref)
        if (
            reader.ref in readings.ahead
            and changing.isdisjoint((reader.ref, Ref(reader.ref.stream)))
            and live is not None
            and isinstance(live.counts, ConsumerCounts)
        ):
            yield Alarm(
                Condition.AHEAD,
                worded(
                    "{}: it has got to {}, and its stream, which has lost messages, ends at {}: "
                    "nothing is handed out until it is made anew; nats consumer rm {} {}, then {}",
                    reader.ref,
                    f"{live.counts.delivered_stream_seq:,}",
                    f"{readings.ahead[reader.ref]:,}",
                    reader.ref.stream,
                    reader.ref.consumer,
                    Command("apply"),
                ),
                reader.role or "",
                str(reader.ref),
            )


def _behind(organisation: DesiredState, readings: StatusReadings) -> dict[str, tuple[Ref, ...]]:
    """Return by the server that holds the copy."""
    found: dict[str, dict[Ref, None]] = {}
    for ref in organisation.resources:
        for copy in readings.behind.get(ref, ()):
            found.setdefault(copy.server, {})[ref] = None
    return {server: tuple(refs) for server, refs in sorted(found.items())}


def _replicas(organisation: DesiredState, readings: StatusReadings) -> Iterator[Alarm]:
    known = organisation.resources.keys().isdisjoint(readings.unread)
    for server, refs in _behind(organisation, readings).items():
        copies = [copy for ref in refs for copy in readings.behind[ref] if copy.server == server]
        streams, consumers = (
            [str(ref) for ref in refs if bool(ref.consumer) is kind] for kind in (False, True)
        )
        whose = " and of ".join(
            f"{len(names):,} {what}{'s' * (len(names) > 1)}"
            for names, what in ((streams, "stream"), (consumers, "consumer"))
            if names
        )
        silent = max(copy.silent for copy in copies)
        offline = any(copy.offline for copy in copies)
        since = f", and has not been heard of for {format_age(silent)}" if silent > SECOND else ""
        whose = whose if known and _have_all_noticed(copies) else f"at least {whose}"
        who = (
            f"server {server} {'is offline' if offline else 'is behind'}{since}: its"
            if server
            else "no server has all"
        )
        yield Alarm(
            Condition.REPLICAS,
            f"{who} copies of {whose}: {first_few(streams or consumers, _MAX_NAMED)}",
            about=server,
            parts=frozenset(map(str, refs)),
        )


def _have_all_noticed(copies: Sequence[Copy]) -> bool:
    """Return whether no leader calls a copy current that is on the same server as these, and as they are.

    When a server has died, who led before does so for as long as he may not have heard of it; a leader that is new has
    not heard of it at all, and never will. Who is heard of is there, and catches up.
    """
    silent = SILENT_NS + SETTLING_NS
    return any(not copy.server or copy.offline or copy.silent > silent for copy in copies) or all(
        0 < copy.silent <= SECOND for copy in copies
    )


def _unfinished(
    org: Org, desired: DesiredState, organisation: DesiredState, readings: StatusReadings
) -> dict[Ref, Unfinished]:
    """Return what a change has left so far, without what it has left of other roles."""
    others = {stream.ref.stream for stream in desired.streams()} - {
        stream.ref.stream for stream in organisation.streams()
    }
    return {
        ref: what
        for ref, found in readings.live.resources.items()
        if (what := found.unfinished) and (found.owner == org.name or ref in desired.resources)
        if found.metadata.get(BECOMES_KEY, ref.stream) not in others
    }


def _changing(unfinished: Mapping[Ref, Unfinished], readings: StatusReadings) -> set[Ref]:
    """Return the streams and consumers that this is about, by the names that they have in the manifest."""
    return {
        Ref(
            readings.live.resources[ref].metadata.get(BECOMES_KEY, ref.stream),
            ref.consumer.removeprefix(PLACEHOLDER_PREFIX),
        )
        for ref in unfinished
    }


def _unfinished_alarms(
    unfinished: Mapping[Ref, Unfinished], readings: StatusReadings, org: Org
) -> Iterator[Alarm]:
    if not unfinished:
        return
    kinds = {what: [ref for ref, found in unfinished.items() if found is what] for what in Unfinished}
    told = "; ".join(
        f"{_UNFINISHED_TEXTS[what]}: {first_few([str(ref) for ref in refs], _MAX_NAMED)}"
        for what, refs in kinds.items()
        if refs
    )
    if readings.applying:
        who = f"is under way, by {readings.applying}"
    elif readings.applying is not None:
        who = worded("was interrupted; {} goes on", Command("apply"))
    else:
        who = worded("is under way, or was interrupted; then {} goes on", Command("apply"))
    letters = org.channel(DEAD_LETTERS)
    if (
        letters
        and letters.stream
        and Ref(naming.template_name(org, letters.stream)) in _changing(unfinished, readings)
        and not naming.stores_dead_letters(org.subject(letters.subject), readings.live)
    ):
        told += "; no stream stores notices of what fails for good: until one does, it becomes no dead letter"
    yield Alarm(Condition.UNFINISHED, worded("a change {}. {}", who, told))


def _abandoned_sandboxes(org: Org, readings: StatusReadings) -> Iterator[str]:
    """Yield copies of `verify` that are too old for a run under way."""
    left = {
        stream.owner
        for stream in readings.live.streams()
        if is_sandbox_of(org, stream.owner) and (age(stream.created, readings.now) or 0) > MAX_RUN_NS
    }
    if left:
        names = first_few(sorted(name or "" for name in left), _MAX_NAMED)
        yield worded(
            "a verify that was killed has left {}; the next one removes that, or {} {}",
            names,
            Command("verify"),
            Option("clean"),
        )


def _percent(share: float) -> str:
    return f"{int(share * 100)}%"
