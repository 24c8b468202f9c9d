"""What was read of a server -> how the organisation is doing, and what is too much. Reads no clock: ages are the server's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from cyborg_infra.core import capacity, dead_letters, namespace
from cyborg_infra.model.org import Alerts, ConsumerKind, Org, StreamKind
from cyborg_infra.model.state import KIND, ConsumerCounts, Ref, Resource, State, StreamCounts
from cyborg_infra.model.status import (
    Alarm,
    AlarmCode,
    Answer,
    BroadcastStatus,
    DeadLetters,
    Observed,
    QueueState,
    QueueStatus,
    RoleStatus,
    Status,
    Stored,
    StreamStatus,
)
from cyborg_infra.model.units import age, format_age

CHANNELS: Mapping[str, str] = {
    ConsumerKind.WORKER: "tasks",
    ConsumerKind.INBOX_READER: "inbox",
    ConsumerKind.EVENT_READER: "events",
}
"""The queues of a role, by the kind of their consumer. Broadcasts are everyone's, and have a threshold of their own."""

NEAR = 0.9
"""The share of a limit that is an alarm: there is still time to do something."""

_SEVERITY = {state: rank for rank, state in enumerate(QueueState)}
_NAMED = 7  # of what is missing or late; more say no more


def status(
    org: Org, desired: State, seen: Observed, alerts: Alerts, roles: Collection[str] | None = None
) -> Status:
    """The status of the organisation, or of some of its roles alone and what all of them share."""
    chosen = [role.name for role in org.roles if roles is None or role.name in roles]
    ours = State(
        {ref: found for ref, found in desired.resources.items() if found.role is None or found.role in chosen}
    )
    readers: dict[str, dict[str, Resource]] = {name: {} for name in chosen}
    for reader in ours.consumers():
        if reader.role is not None:
            readers[reader.role][kind_of(reader)] = reader
    found = tuple(_role(name, wanted, seen, alerts) for name, wanted in readers.items())
    broadcasts = _broadcasts(org, ours, seen)
    streams = tuple(_stream(stream, ours, seen) for stream in ours.streams())
    alarms = (
        *_unreadable(ours, seen),
        *_missing(ours, seen),
        *_paused(ours, seen),
        *(alarm for role in found for alarm in _queue_alarms(role, seen, alerts)),
        *_broadcast_alarms(broadcasts, ours, seen, alerts),
        *(alarm for stream in streams for alarm in _stream_alarms(stream, seen)),
    )
    return Status(
        org=org.name,
        environment=org.environment,
        facts=seen.live.facts,
        now=seen.now,
        alerts=alerts,
        roles=found,
        broadcasts=broadcasts,
        dead_letters=_dead_letters(org, seen),
        streams=streams,
        alarms=alarms,
        notes=seen.notes,
    )


# Roles


def _role(name: str, wanted: Mapping[str, Resource], seen: Observed, alerts: Alerts) -> RoleStatus:
    """The task queue first: whether its worker is busy decides on the others."""
    queues: list[QueueStatus] = []
    for kind in CHANNELS:
        if kind in wanted:
            busy = any(queue.workers or (queue.in_flight or 0) > (queue.expired or 0) for queue in queues[:1])
            queues.append(_queue(wanted[kind], seen, alerts, busy=busy))
    return RoleStatus(name, min((queue.state for queue in queues), key=_SEVERITY.__getitem__), tuple(queues))


def kind_of(resource: Resource) -> str:
    """What the mark of a resource says that it is."""
    return resource.metadata[KIND]


def _queue(wanted: Resource, seen: Observed, alerts: Alerts, *, busy: bool) -> QueueStatus:
    """`busy`: the role works on a task, or asks for one."""
    channel, ref = CHANNELS[kind_of(wanted)], wanted.ref
    if ref in seen.unread or Ref(ref.stream) in seen.unread:
        return QueueStatus(channel, ref, QueueState.STUCK)
    live = seen.live.resources.get(ref)
    if live is None or not isinstance(counts := live.counts, ConsumerCounts):
        return QueueStatus(channel, ref, QueueState.ABSENT)
    delivered, acked = (age(at, seen.now) for at in (live.activity.delivered_at, live.activity.acked_at))
    known = [passed for passed in (delivered, acked) if passed is not None]
    workers = counts.num_waiting or int(live.activity.bound)
    # The server looks for what has expired only when somebody pulls.
    over = not workers and delivered is not None and delivered > longest_wait(live)
    first = seen.oldest.get(ref)
    queue = QueueStatus(
        channel,
        ref,
        QueueState.IDLE,
        waiting=counts.num_pending,
        in_flight=counts.num_ack_pending,
        expired=counts.num_ack_pending if over else 0,
        redelivered=counts.num_redelivered,
        workers=workers,
        oldest_waiting=age(first.at, seen.now) if first and counts.num_pending else None,
        last_activity=min(known, default=None),
        paused=live.activity.paused,
    )
    return _with_state(queue, longest_wait(live), alerts, busy=busy)


def _with_state(queue: QueueStatus, ack_wait: int, alerts: Alerts, *, busy: bool) -> QueueStatus:
    waiting, in_flight = queue.waiting or 0, queue.in_flight or 0
    if (queue.paused and (waiting or in_flight)) or queue.expired or _stalled(queue, ack_wait):
        state = QueueState.STUCK
    elif waiting and not (in_flight or queue.workers or busy):
        state = QueueState.ABSENT
    elif waiting > alerts.lag:
        state = QueueState.BEHIND
    else:
        state = QueueState.WORKING if waiting or in_flight else QueueState.IDLE
    return replace(queue, state=state)


def _stalled(queue: QueueStatus, ack_wait: int) -> bool:
    """Messages and workers wait for each other: nothing was delivered or acknowledged for longer than work may take."""
    known = [passed for passed in (queue.oldest_waiting, queue.last_activity) if passed is not None]
    return bool(queue.waiting and queue.workers and known) and min(known, default=0) > ack_wait


def longest_wait(consumer: Resource) -> int:
    """The longest time after which the server takes a delivery for lost, in nanoseconds."""
    longest: int = max(consumer.config.get("ack_wait", 0), *(consumer.config.get("backoff") or (0,)))
    return longest


def _queue_alarms(role: RoleStatus, seen: Observed, alerts: Alerts) -> Iterator[Alarm]:
    for queue in role.queues:
        live = seen.live.resources.get(queue.ref)
        if queue.waiting is None or live is None:
            continue
        what, ack_wait = f"{role.name}: {queue.channel}", longest_wait(live)
        if queue.waiting > alerts.lag:
            yield Alarm(AlarmCode.LAG, f"{what}: {queue.waiting:,} waiting, more than {alerts.lag:,}")
        if queue.expired:
            yield Alarm(AlarmCode.EXPIRED, f"{what}: {_expired(queue, live)}")
        elif _stalled(queue, ack_wait) and not queue.paused:
            passed = f" for {format_age(queue.last_activity or 0)}" if queue.last_activity is not None else ""
            yield Alarm(
                AlarmCode.STUCK, f"{what}: {queue.waiting:,} waiting, workers too, and nothing moved{passed}"
            )
        elif queue.state is QueueState.ABSENT and (queue.oldest_waiting or 0) > ack_wait:
            yield Alarm(
                AlarmCode.ABSENT,
                f"{what}: {queue.waiting:,} waiting for {format_age(queue.oldest_waiting or 0)}, and no worker is connected",
            )


def _expired(queue: QueueStatus, live: Resource) -> str:
    limit = live.config.get("max_deliver", -1)
    last = bool(queue.redelivered) if limit != 1 else True
    may = f", perhaps after the last of {limit} deliveries" if limit > 0 and last else ""
    return (
        f"{queue.in_flight:,} in flight for {format_age(queue.last_activity or 0)}, longer than ack_wait, and nobody pulls{may}: "
        "no redelivery and no dead letter until somebody does"
    )


# Broadcasts


def _broadcasts(org: Org, ours: State, seen: Observed) -> tuple[BroadcastStatus, ...]:
    readers = [
        found for found in ours.consumers() if found.metadata.get(KIND) == ConsumerKind.BROADCAST_READER
    ]
    letters = [dead_letters.read(entry, org) for entry in seen.letters]
    given_up = {(Ref(dead_letters.home(letter, org), letter.consumer), letter.sequence) for letter in letters}
    order = {role.name: position for position, role in enumerate(org.roles)}
    readers.sort(key=lambda reader: order[reader.role or ""])
    found = []
    for message in reversed(seen.broadcasts):
        answers = {
            reader.role or "": answer
            for reader in readers
            if (answer := _answer(reader.ref, message, given_up, seen)) is not None
        }
        found.append(BroadcastStatus(message.seq, age(message.at, seen.now) or 0, answers))
    return tuple(found)


def _answer(
    reader: Ref, message: Stored, given_up: Collection[tuple[Ref, int]], seen: Observed
) -> Answer | None:
    """None where the broadcast was never meant for this reader: it starts later."""
    live = seen.live.resources.get(reader)
    if live is None or not isinstance(counts := live.counts, ConsumerCounts):
        return Answer.UNKNOWN
    if live.config.get("deliver_policy", "all") != "all" and (age(live.created, message.at) or 0) == 0:
        return None
    if (reader, message.seq) in given_up:
        return Answer.GIVEN_UP
    if message.seq > counts.delivered_stream_seq:
        return Answer.OPEN
    if counts.num_ack_pending == 0 or message.seq <= counts.ack_floor_stream_seq:
        # A redelivery count that stays is of a message that was given up.
        told = not counts.num_redelivered or message.at >= seen.letters_since
        return Answer.ACKNOWLEDGED if told else Answer.UNKNOWN
    between = counts.delivered_stream_seq - counts.ack_floor_stream_seq  # at most so many: there may be gaps
    return Answer.OPEN if counts.num_ack_pending >= between else Answer.UNKNOWN


def _broadcast_alarms(
    broadcasts: Sequence[BroadcastStatus], ours: State, seen: Observed, alerts: Alerts
) -> Iterator[Alarm]:
    late = [found for found in broadcasts if found.age > alerts.broadcast_ack]
    for found in late:
        wanting = [
            *found.roles(Answer.OPEN),
            *(f"{role} (given up)" for role in found.roles(Answer.GIVEN_UP)),
        ]
        if wanting:
            yield Alarm(
                AlarmCode.BROADCAST_ACK,
                f"broadcast {found.seq}, {format_age(found.age)} old, is not acknowledged by {_some(wanting)}",
            )
    for reader in ours.consumers():
        unknown = [
            found.seq for found in broadcasts if found.answers.get(reader.role or "") is Answer.UNKNOWN
        ]
        live = seen.live.resources.get(reader.ref)
        if (
            unknown
            and {found.seq for found in late} >= set(unknown)
            and live
            and isinstance(live.counts, ConsumerCounts)
            and live.counts.num_ack_pending
        ):
            yield Alarm(
                AlarmCode.BROADCAST_ACK,
                f"{live.counts.num_ack_pending:,} of the broadcasts up to {max(unknown)} not acknowledged by {reader.role}",
            )


def _dead_letters(org: Org, seen: Observed) -> DeadLetters:
    stream = seen.live.resources.get(Ref(namespace.stream_name(org, StreamKind.DEAD_LETTERS)))
    if stream is None or not isinstance(stream.counts, StreamCounts):
        return DeadLetters(None)
    newest = dead_letters.read(seen.letters[0], org) if seen.letters else None
    return DeadLetters(stream.counts.messages, newest, age(stream.counts.last_ts, seen.now))


# Streams, and what is not there


def _stream(wanted: Resource, ours: State, seen: Observed) -> StreamStatus:
    live = seen.live.resources.get(wanted.ref)
    if live is None or not isinstance(live.counts, StreamCounts):
        return StreamStatus(wanted.ref, leader=wanted.ref not in seen.unread)
    readers = [
        found
        for wish in ours.consumers(wanted.ref.stream)
        if (found := seen.live.resources.get(wish.ref)) is not None
    ]
    return StreamStatus(
        wanted.ref,
        live.counts.messages,
        live.counts.bytes,
        capacity.fill(live),
        max((capacity.unread(live, reader, seen) for reader in readers), default=None),
        seen.given_up.get(wanted.ref),
    )


def _stream_alarms(stream: StreamStatus, seen: Observed) -> Iterator[Alarm]:
    live = seen.live.resources.get(stream.ref)
    if live is None:
        return
    refuses = live.config.get("discard") == "new"
    if stream.given_up:
        limit = live.config.get("max_msgs", -1)
        of = f" of at most {limit:,}" if limit > 0 else ""
        yield Alarm(
            AlarmCode.GIVEN_UP,
            f"{stream.ref}: {stream.given_up:,}{of} messages used up their deliveries and keep their place in the workqueue",
        )
    if refuses and stream.fill and stream.fill.share >= NEAR:
        yield Alarm(
            AlarmCode.NEAR_LIMIT,
            f"{stream.ref}: {_percent(stream.fill.share)} of {stream.fill.limit} is used; at 100% new messages are refused",
        )
    unread = stream.unread
    if unread and unread.share >= NEAR and (unread.limit == "max_age" or not refuses):
        yield Alarm(
            AlarmCode.NEAR_LIMIT,
            f"{stream.ref}: what {unread.reader} has not read is at {_percent(unread.share)} of {unread.limit}; "
            "at 100% it is deleted unread",
        )


def _unreadable(ours: State, seen: Observed) -> Iterator[Alarm]:
    for ref, problem in seen.unread.items():
        if ref in ours.resources:
            yield Alarm(AlarmCode.NO_LEADER, f"{ref}: no leader answers for it ({problem.message})")


def _missing(ours: State, seen: Observed) -> Iterator[Alarm]:
    gone = [
        str(ref)
        for ref in ours.resources
        if not {ref, Ref(ref.stream)} & seen.unread.keys() and ref not in seen.live.resources
    ]
    if gone:
        yield Alarm(AlarmCode.MISSING, f"not on the server: {_some(gone)}; see cyborg-infra plan")


def _paused(ours: State, seen: Observed) -> Iterator[Alarm]:
    for reader in ours.consumers():
        live = seen.live.resources.get(reader.ref)
        if live and live.activity.paused:
            until = live.config.get("pause_until")
            yield Alarm(
                AlarmCode.PAUSED, f"{reader.ref}: nothing is delivered{f' until {until}' if until else ''}"
            )


def _some(names: Sequence[str]) -> str:
    """The first few by name."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _percent(share: float) -> str:
    return f"{int(share * 100)}%"
