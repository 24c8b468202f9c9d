"""What changing, replacing or deleting a consumer would cost, as exactly as its counts and a closer reading tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.core.costs import (
    all_passed,
    consumer_counts,
    counted,
    filters,
    hazard,
    measured,
    stream_counts,
    value,
)
from cyborg_infra.model.fields import PAUSE_SINCE, RESET_SINCE, Version
from cyborg_infra.model.plan import FieldChange, Hazard, HazardName
from cyborg_infra.model.state import Amount, Measure, Question, Ref, Resource, State
from cyborg_infra.model.subjects import covers, overlap
from cyborg_infra.model.units import format_duration


def of_replace(live: Resource, desired: Resource, found: State, version: Version) -> Iterator[Hazard]:
    """Recreating a consumer where the old one stood: it costs only what this server cannot do, and what changes with it."""
    counts, workqueue = consumer_counts(live), _retention(live, found) == "workqueue"
    most = 0
    if version < PAUSE_SINCE and (counts.num_ack_pending or counts.num_waiting):
        window = value(live, "max_ack_pending")
        most = counts.num_ack_pending + (window if window > 0 else counts.num_pending)
    stopped = live.stopped_at
    if stopped and not stopped.exact:  # what was handed out when the tool that stopped it died
        most += max(counts.delivered_stream_seq - stopped.number, 0)
    if most:
        yield Hazard(
            HazardName.REPEATS_WORK,
            f"up to {counted(most, 'message')} could be handed out again: nats-server {version} cannot pause a consumer",
            most,
            exact=False,
        )
    if workqueue:
        yield from _given_up(live, found)
    yield from _of_later_start(live, desired, version)
    if not live.is_stopped:  # its filter is not its own
        yield from _of_filter_change(live, desired, found, starts_over=workqueue)


def _given_up(live: Resource, found: State) -> Iterator[Hazard]:
    """What a workqueue still stores behind a consumer, beside what is being worked on: a new consumer starts with it."""
    counts, question = consumer_counts(live), all_passed(live)
    passed = live.measured.get(question)
    if passed is not None:
        most = passed.messages - counts.num_ack_pending
    elif value(live, "max_deliver") == 1:  # nothing counts those that were handed out once
        most = stream_counts(_stream(live, found)).messages
    else:
        most = counts.num_redelivered
    if most > 0 and counts.delivered_stream_seq:
        yield hazard(
            HazardName.REPEATS_WORK,
            f"{counted(most, 'message')} given up before would be handed out again",
            Amount(most),
            question,
            exact=passed is not None,
        )


def _of_later_start(live: Resource, desired: Resource, version: Version) -> Iterator[Hazard]:
    """A start beyond the old position holds; before 2.14 a consumer that is carried over can have no start by time."""
    counts, policy = consumer_counts(live), value(desired, "deliver_policy")
    starts = ("deliver_policy", "opt_start_seq", "opt_start_time")
    if not counts.num_pending or all(value(live, name) == value(desired, name) for name in starts):
        return

    def told(amount: Amount) -> str:
        return f"{counted(amount.messages, 'waiting message')} before the new start would be skipped"

    if policy == "by_start_sequence":
        start = value(desired, "opt_start_seq")
        question = Question(live.ref, Measure.WAITING, start, within=filters(live))
        yield from measured(HazardName.RESETS_PROGRESS, live, question, Amount(counts.num_pending), told)
    elif policy == "by_start_time" and version >= RESET_SINCE:
        most = Amount(counts.num_pending)
        yield hazard(HazardName.RESETS_PROGRESS, told(most), most, exact=False)


def of_recreation(desired: Resource, found: State) -> Iterator[Hazard]:
    """A consumer that somebody deleted begins again: where it stood, nothing tells.

    Only under limits retention are messages stored that it had finished.
    """
    stream = found.resources.get(Ref(desired.ref.stream))
    begins_behind = desired.ref.consumer and value(desired, "deliver_policy") != "new"
    if stream is None or not begins_behind or value(stream, "retention") != "limits":
        return
    if held := stream_counts(stream).messages:
        yield Hazard(
            HazardName.REPEATS_WORK,
            f"up to {counted(held, 'message')} could be handed out again: where the deleted consumer stood is not known",
            held,
            exact=False,
        )


def of_delete(live: Resource, found: State) -> Iterator[Hazard]:
    """Deleting a consumer: what waits for it, and what is being worked on, reaches nobody through it."""
    counts = consumer_counts(live)
    waiting, working = _waiting(live), counts.num_ack_pending
    if not waiting and not working:
        return
    if not working:
        reason = f"{counted(waiting, 'waiting message')} would no longer be delivered"
    elif not waiting:
        reason = f"{counted(working, 'message')} being worked on would not be delivered again"
    else:
        reason = f"{counted(waiting + working, 'unfinished message')} would no longer be delivered: {waiting:,} waiting, {working:,} being worked on"
    amount = Amount(waiting + working)
    yield hazard(HazardName.RESETS_PROGRESS, reason, amount, _all_waiting(live), exact=True)
    yield from _of_lost_interest(live, (), found)


def _all_waiting(consumer: Resource) -> Question:
    return Question(consumer.ref, Measure.WAITING, within=filters(consumer))


def _waiting(consumer: Resource) -> int:
    """As counted in the stream, if it was: the server's own number still has deleted messages in it (seen 2.11.11)."""
    found = consumer.measured.get(_all_waiting(consumer))
    return found.messages if found else consumer_counts(consumer).num_pending


def _of_lost_interest(live: Resource, kept: Sequence[str], found: State) -> Iterator[Hazard]:
    """On an interest stream the server deletes at once what no consumer waits for any more; `kept` are filters that stay."""
    counts = consumer_counts(live)
    unfinished = _waiting(live) + counts.num_ack_pending
    if _retention(live, found) != "interest" or not unfinished:
        return
    others = [other for other in found.consumers(live.ref.stream) if other.ref != live.ref]
    alone = not any(
        overlap(mine, theirs)
        for mine in filters(live)
        for theirs in (*kept, *(subject for other in others for subject in filters(other)))
    )
    yield hazard(
        HazardName.DELETES_MESSAGES,
        f"{counted(unfinished, 'message')} that only this consumer waits for",
        Amount(unfinished),
        exact=alone,
    )


def of_update(
    live: Resource, desired: Resource, changes: Sequence[FieldChange], found: State
) -> Iterator[Hazard]:
    """Changing a living consumer in place."""
    changed = {change.field for change in changes}
    if changed & {"ack_wait", "backoff"}:
        yield from _of_shorter_wait(live, desired)
    if "max_deliver" in changed and fewer(value(desired, "max_deliver"), value(live, "max_deliver")):
        yield from _of_fewer_deliveries(live, desired)
    if changed & {"filter_subject", "filter_subjects"}:
        yield from _of_filter_change(live, desired, found)


def _of_shorter_wait(live: Resource, desired: Resource) -> Iterator[Hazard]:
    """The server times what is being worked on anew, at once. Which delivery a message is at, it does not tell."""
    counts, old, new = consumer_counts(live), _waits(live), _waits(desired)
    steps = range(max(len(old), len(new)))
    waits = [(old[min(step, len(old) - 1)], new[min(step, len(new) - 1)]) for step in steps]
    shorter = [step for step, (before, after) in zip(steps, waits, strict=True) if after < before]
    again = min(counts.num_ack_pending, counts.num_redelivered)  # at most so many are beyond the first step
    most = again if shorter and shorter[0] > 0 else counts.num_ack_pending
    if not shorter or not most:
        return
    before, after = waits[shorter[0]]
    once = value(desired, "max_deliver") == 1
    yield hazard(
        HazardName.RESETS_PROGRESS if once else HazardName.REPEATS_WORK,
        f"{counted(most, 'message')} being worked on would be {'given up' if once else 'handed out again'} "
        f"after {format_duration(after)} instead of {format_duration(before)}",
        Amount(most),
        exact=once or not again,
    )


def _of_fewer_deliveries(live: Resource, desired: Resource) -> Iterator[Hazard]:
    """What has been delivered so often already is not delivered again. Only "more than once" is counted by the server."""
    counts, limit = consumer_counts(live), value(desired, "max_deliver")
    most = counts.num_ack_pending if limit == 1 else min(counts.num_ack_pending, counts.num_redelivered)
    if most:
        tried = "" if limit == 1 else f", delivered {limit} times or more,"
        yield hazard(
            HazardName.RESETS_PROGRESS,
            f"{counted(most, 'message')} being worked on{tried} would not be handed out again",
            Amount(most),
            exact=limit == 1,
        )


def _of_filter_change(
    live: Resource, desired: Resource, found: State, *, starts_over: bool = False
) -> Iterator[Hazard]:
    """The cursor stays where it is: what matches only the new filter below it is skipped (measured 2.10 to 2.15)."""
    counts, old, new = consumer_counts(live), filters(live), filters(desired)
    if set(old) == set(new):
        return
    name = HazardName.RESETS_PROGRESS
    if any(not any(covers(wide, subject) for wide in new) for subject in old):
        yield from measured(
            name,
            live,
            Question(live.ref, Measure.WAITING, within=old, without=new),
            Amount(counts.num_pending),
            lambda gone: f"{counted(gone.messages, 'waiting message')} would no longer match the filter",
        )
        yield from _of_lost_interest(live, new, found)
    if not starts_over and any(not any(covers(wide, subject) for wide in old) for subject in new):
        yield from measured(
            name,
            live,
            Question(live.ref, Measure.PASSED, within=new, without=old),
            Amount(counts.delivered_stream_seq),
            lambda gone: (
                f"{counted(gone.messages, 'earlier message')} that only the new filter matches would be skipped"
            ),
        )


def _waits(consumer: Resource) -> Sequence[int]:
    """How long the server waits for an acknowledgement, delivery by delivery; the last holds for all that follow."""
    return value(consumer, "backoff") or (value(consumer, "ack_wait"),)


def fewer(new: int, old: int) -> bool:
    """Whether a max_deliver of `new` gives up earlier than `old` did; -1 is never."""
    return new > 0 and (old <= 0 or new < old)


def _stream(consumer: Resource, found: State) -> Resource:
    return found.resources[Ref(consumer.ref.stream)]


def _retention(consumer: Resource, found: State) -> str:
    retention: str = value(_stream(consumer, found), "retention")
    return retention
