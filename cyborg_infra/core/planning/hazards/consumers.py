"""Hazards of changing, replacing or deleting a consumer, from its counts and from count queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.core.planning.hazards import abandoned
from cyborg_infra.core.planning.hazards.building_blocks import (
    deletes,
    format_count,
    hazard_of_amount,
    hazard_of_query,
    setting,
)
from cyborg_infra.model.changes import FieldChange, Hazard, HazardName
from cyborg_infra.model.consumer_position import (
    READS_EARLIER,
    filter_patterns,
    finished_up_to,
    may_have_forgotten,
    position_obstacle,
    read_patterns,
    reads_more,
)
from cyborg_infra.model.counting import CountKind, CountQuery, MessageCount, Share
from cyborg_infra.model.fields import Config
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import (
    DesiredResource,
    LiveResource,
    LiveState,
    Resource,
    consumer_counts,
    stream_counts,
)
from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.model.subjects import covers, overlap
from cyborg_infra.model.units import format_duration

LATE_POLICIES = ("new", "last", "last_per_subject")
"""Each begins behind messages that are stored already."""


def consumer_replace_hazards(
    live: LiveResource,
    desired: DesiredResource,
    live_state: LiveState,
    version: Version,
    *,
    renumbered: bool = False,
    fits: bool = True,
) -> Iterator[Hazard]:
    """Return the hazards of recreating a consumer where the old one stood: it costs only what this server cannot do, and what changes with it.

    `renumbered`: its stream is replaced as well, and gives messages other sequence numbers. `fits`: see `fits_journal`.
    """
    workqueue = _retention(live, live_state) == "workqueue"
    yield from open_work_hazards(
        live,
        desired,
        live_state,
        version,
        stream=_stream(live, live_state).config,
        renumbered=renumbered,
        fits=fits,
    )
    if workqueue:
        yield from abandoned.given_up_redelivered_hazards(live, live_state)
    yield from _later_start_hazards(live, desired, version)
    if not live.is_stopped:  # its filter is not its own
        yield from _filter_change_hazards(live, desired, live_state, replaced=True, starts_over=workqueue)


def open_work_hazards(
    live: LiveResource,
    desired: DesiredResource,
    live_state: LiveState,
    version: Version,
    *,
    stream: Config,
    renumbered: bool,
    fits: bool,
) -> Iterator[Hazard]:
    """Yield the hazard of redelivery: messages that cannot stay pending acknowledgement in the new consumer and are not finished in time, with all that was handed out behind them.

    While the plan is made and looked at, agents go on: as many more as they may have at once, of what is stored for them.
    """
    why = position_obstacle(live, desired, version, stream=stream, renumbered=renumbered, fits=fits)
    if why is None:
        if live.ref != desired.ref:
            yield from _late_acknowledgement_hazards(live)
        elif _retention(live, live_state) == "workqueue":
            yield from _of_earlier_messages(live, desired)
        return
    as_served = desired if live.is_stopped else live  # a stopped one has another filter and another limit
    most, questions = _most_redelivered(live, as_served, live_state, version)
    counts, stored = consumer_counts(live), stream_counts(_stream(live, live_state)).messages
    matching = CountQuery(live.ref, CountKind.PASSED, subjects=filter_patterns(as_served))
    passed = live.counts_by_query.get(matching) or MessageCount(min(stored, _last_handed_out(live)))
    # What waits for a stopped one, its filter does not say.
    held = stored if live.is_stopped else passed.messages + counts.num_pending
    most = min(most, max(held, counts.num_ack_pending))
    if most:
        reason = f"{format_count(most, 'message')} could be handed out again: {why}"
        yield hazard_of_amount(
            HazardName.REPEATS_WORK, reason, MessageCount(most), *questions, matching, exact=False
        )


def _most_redelivered(
    live: LiveResource, as_served: Resource, live_state: LiveState, version: Version
) -> tuple[int, Sequence[CountQuery]]:
    """Return at most how many messages are handed out again, whatever the stream has, and the query that makes it exact.

    `as_served` has the filter and the limit by which the consumer works.
    """
    counts, stopped, last = consumer_counts(live), live.stopped_at, _last_handed_out(live)
    window = setting(as_served, "max_ack_pending")
    at_once = window if window > 0 else counts.num_pending
    forgotten = may_have_forgotten(live)
    unsettled = stopped is not None and finished_up_to(live) < stopped.number
    pulled = version < Capability.PAUSE_CONSUMER.since and counts.num_waiting
    query = CountQuery(live.ref, CountKind.UNACKNOWLEDGED, last, subjects=filter_patterns(as_served))
    most, queries = 0, [query]
    if counts.num_ack_pending or unsettled or pulled:
        if _retention(live, live_state) == "workqueue" and not forgotten:
            # What is finished is gone, and what was given up is a hazard of its own.
            most, queries = counts.num_ack_pending, []
        else:
            counted = live.counts_by_query.get(query)
            stored = stream_counts(_stream(live, live_state)).messages
            bound = min(stored, last - finished_up_to(live))
            most = max(counts.num_ack_pending, counted.messages if counted else bound)
        most += 0 if live.is_stopped else at_once
    if stopped and not stopped.exact:  # what was handed out when the tool that stopped it died
        most += max(counts.delivered_stream_seq - stopped.number, at_once if forgotten else 0)
    return most, queries


def _last_handed_out(live: LiveResource) -> int:
    stopped = live.stopped_at
    return stopped.number if stopped else consumer_counts(live).delivered_stream_seq


def _of_earlier_messages(live: LiveResource, desired: DesiredResource) -> Iterator[Hazard]:
    """Yield the hazard of a wider filter on a workqueue: the new consumer begins before what only that reads, and so hands out more again."""
    working, old, new = consumer_counts(live).num_ack_pending, read_patterns(live), read_patterns(desired)
    if not working or not reads_more(live, desired):
        return
    question = CountQuery(live.ref, CountKind.PASSED, subjects=new, excluded_subjects=old)
    earlier = live.counts_by_query.get(question)
    if earlier is None or earlier.messages:
        window, pending = setting(live, "max_ack_pending"), consumer_counts(live).num_pending
        most = working + (0 if live.is_stopped else min(window, pending) if window > 0 else pending)
        reason = f"{format_count(most, 'message')} could be handed out again: {READS_EARLIER}"
        yield hazard_of_amount(HazardName.REPEATS_WORK, reason, MessageCount(most), question, exact=False)


def _late_acknowledgement_hazards(live: LiveResource) -> Iterator[Hazard]:
    """Return the hazard of late acknowledgements: what an agent answers names the old consumer, and there is none of that name any more when the apply is done."""
    if working := consumer_counts(live).num_ack_pending:
        reason = (
            f"{format_count(working, 'message')} being worked on could be handed out again:"
            " what agents answer after a rename counts no more"
        )
        yield hazard_of_amount(HazardName.REPEATS_WORK, reason, MessageCount(working), exact=False)


def _later_start_hazards(live: LiveResource, desired: DesiredResource, version: Version) -> Iterator[Hazard]:
    """Yield the hazard of a start beyond the old position, which holds. Before 2.14 a consumer that is carried over has no start by time."""
    counts, policy = consumer_counts(live), setting(desired, "deliver_policy")
    starts = ("deliver_policy", "opt_start_seq", "opt_start_time")
    if not counts.num_pending or all(setting(live, name) == setting(desired, name) for name in starts):
        return

    def told(amount: MessageCount) -> str:
        return f"{format_count(amount.messages, 'waiting message')} before the new start would be skipped"

    if policy == "by_start_sequence":
        start = setting(desired, "opt_start_seq")
        question = CountQuery(live.ref, CountKind.WAITING, start, subjects=filter_patterns(live))
        yield from hazard_of_query(
            HazardName.RESETS_PROGRESS, live, question, MessageCount(counts.num_pending), told
        )
    elif policy == "by_start_time" and version >= Capability.RESET_CONSUMER.since:
        most = MessageCount(counts.num_pending)
        yield hazard_of_amount(HazardName.RESETS_PROGRESS, told(most), most, exact=False)


def consumer_recreation_hazards(
    desired: DesiredResource, stream: LiveResource, subjects: Sequence[str], *, left_out: int = 0
) -> Iterator[Hazard]:
    """Yield the hazards of a consumer that somebody deleted: nothing tells where it stood in the living `stream`.

    A new one begins as its deliver_policy says, with what its filter matches. A workqueue stores only what is unfinished.
    `subjects` are those of the stream afterwards; `left_out`: so many of its messages it no longer has then.
    """
    filters, policy = filter_patterns(desired), setting(desired, "deliver_policy")
    question = CountQuery(stream.ref, CountKind.PRESENT, subjects=filters)
    most = _at_most(stream, question, left_out)
    if most and setting(stream, "retention") != "workqueue":
        read, where = format_count(most, "message"), "where the deleted consumer stood is not known"
        if policy != "new":
            reason = f"{read} could be handed out again: {where}"
            yield hazard_of_amount(HazardName.REPEATS_WORK, reason, MessageCount(most), question, exact=False)
        if policy in LATE_POLICIES:
            reason = f"{read} could be skipped: {where}, and deliver_policy {policy} begins behind them"
            yield hazard_of_amount(
                HazardName.RESETS_PROGRESS, reason, MessageCount(most), question, exact=False
            )
    former = tuple(
        subject
        for subject in stream.get("subjects")
        if not any(covers(wide, subject) for wide in (*subjects, *filters))
    )
    question = CountQuery(stream.ref, CountKind.PRESENT, subjects=former, excluded_subjects=filters)
    if former and (most := _at_most(stream, question, left_out)):
        reason = f"{format_count(most, 'message')} could be for the deleted consumer, and would not match the filter of the new one"
        yield hazard_of_amount(HazardName.RESETS_PROGRESS, reason, MessageCount(most), question, exact=False)


def _at_most(stream: LiveResource, question: CountQuery, left_out: int) -> int:
    """Return how many messages of a stream it is at most, of which it has so many fewer afterwards."""
    counted, held = stream.counts_by_query.get(question), stream_counts(stream).messages - left_out
    return max(0, min(counted.messages, held) if counted else held)


def consumer_delete_hazards(
    live: LiveResource, live_state: LiveState, taken_over: Sequence[str] = ()
) -> Iterator[Hazard]:
    """Return the hazards of deleting a consumer: what waits for it, and what is being worked on, reaches nobody through it.

    `taken_over`: what matches one of these another consumer gets.
    """
    if all(any(covers(wide, subject) for wide in taken_over) for subject in filter_patterns(live)):
        return
    partly = any(overlap(wide, subject) for wide in taken_over for subject in filter_patterns(live))
    yield from abandoned.given_up_forgotten_hazards(live, live_state, partly=partly)
    left = tuple(taken_over) if partly else ()
    undelivered = list(_undelivered_hazards(live, left, "no longer be delivered"))
    yield from undelivered
    if undelivered:
        yield from _lost_interest_hazards(live, left, live_state)


def _undelivered_hazards(
    live: LiveResource, kept: tuple[str, ...], fate: str, *, keeps_open: bool = False
) -> Iterator[Hazard]:
    """Yield what is unfinished in a consumer and matches no filter that is `kept`; `fate` is what becomes of what waits.

    `keeps_open`: what is being worked on comes again all the same. Which of what it was handed that is, nobody tells.
    """
    pending, unacknowledged = _all_pending(live, kept), _all_unacknowledged(live, kept)
    waiting, questions = _pending(live, kept), [pending]
    working = 0 if keeps_open else consumer_counts(live).num_ack_pending
    if kept and working:
        found = live.counts_by_query.get(unacknowledged)
        working = min(working, found.messages) if found else working
        questions.append(unacknowledged)
    if not waiting and not working:
        return
    if not working:
        reason = f"{format_count(waiting, 'waiting message')} would {fate}"
    elif not waiting:
        reason = f"{format_count(working, 'message')} being worked on would not be delivered again"
    else:
        reason = f"{format_count(waiting + working, 'unfinished message')} would {fate}: {waiting:,} waiting, {working:,} being worked on"
    exact = not kept or (not working and pending in live.counts_by_query)
    yield hazard_of_amount(
        HazardName.RESETS_PROGRESS, reason, MessageCount(waiting + working), *questions, exact=exact
    )


def _all_pending(consumer: LiveResource, left: tuple[str, ...] = ()) -> CountQuery:
    return CountQuery(
        consumer.ref, CountKind.WAITING, subjects=filter_patterns(consumer), excluded_subjects=left
    )


def _all_unacknowledged(consumer: LiveResource, left: tuple[str, ...]) -> CountQuery:
    return CountQuery(
        consumer.ref, CountKind.UNACKNOWLEDGED, subjects=filter_patterns(consumer), excluded_subjects=left
    )


def _pending(consumer: LiveResource, left: tuple[str, ...] = ()) -> int:
    """Return the pending messages as counted in the stream, if they were: the server's own number still has deleted messages in it (seen 2.11.11)."""
    found = consumer.counts_by_query.get(_all_pending(consumer, left))
    return found.messages if found else consumer_counts(consumer).num_pending


def _lost_interest_hazards(
    live: LiveResource, kept: Sequence[str], live_state: LiveState
) -> Iterator[Hazard]:
    """Return the hazard of lost interest: on an interest stream the server deletes at once what no consumer waits for any more; `kept` are filters that stay."""
    counts = consumer_counts(live)
    unfinished = _pending(live) + counts.num_ack_pending
    if _retention(live, live_state) != "interest" or not unfinished:
        return
    others = [other for other in live_state.consumers(live.ref.stream) if other.ref != live.ref]
    alone = not any(
        overlap(mine, theirs)
        for mine in filter_patterns(live)
        for theirs in (*kept, *(subject for other in others for subject in filter_patterns(other)))
    )
    reason, amount = (
        f"{format_count(unfinished, 'message')} that only this consumer waits for",
        MessageCount(unfinished),
    )
    yield deletes(reason, amount, Share(unfinished, exact=alone), exact=alone)


def consumer_update_hazards(
    live: LiveResource, desired: DesiredResource, changes: Sequence[FieldChange], live_state: LiveState
) -> Iterator[Hazard]:
    """Return the hazards of changing a living consumer in place."""
    changed = {change.field for change in changes}
    if changed & {"ack_wait", "backoff"}:
        yield from _shorter_ack_wait_hazards(live, desired)
    if "max_deliver" in changed and is_lower_max_deliver(
        setting(desired, "max_deliver"), setting(live, "max_deliver")
    ):
        yield from _lowered_max_deliver_hazards(live, desired)
    if changed & {"filter_subject", "filter_subjects"}:
        yield from _filter_change_hazards(live, desired, live_state)


def _shorter_ack_wait_hazards(live: LiveResource, desired: DesiredResource) -> Iterator[Hazard]:
    """Yield the hazard of a shorter wait: the server times what is being worked on anew, at once, and does not tell at which delivery a message is."""
    counts, old, new = consumer_counts(live), _redelivery_delays(live), _redelivery_delays(desired)
    steps = range(max(len(old), len(new)))
    waits = [(old[min(step, len(old) - 1)], new[min(step, len(new) - 1)]) for step in steps]
    shorter = [step for step, (before, after) in zip(steps, waits, strict=True) if after < before]
    again = min(counts.num_ack_pending, counts.num_redelivered)  # at most so many are beyond the first step
    most = again if shorter and shorter[0] > 0 else counts.num_ack_pending
    if not shorter or not most:
        return
    before, after = waits[shorter[0]]
    once = setting(desired, "max_deliver") == 1
    yield hazard_of_amount(
        HazardName.RESETS_PROGRESS if once else HazardName.REPEATS_WORK,
        f"{format_count(most, 'message')} being worked on would be {'given up' if once else 'handed out again'} "
        f"after {format_duration(after)} instead of {format_duration(before)}",
        MessageCount(most),
        exact=once or not again,
    )


def _lowered_max_deliver_hazards(live: LiveResource, desired: DesiredResource) -> Iterator[Hazard]:
    """Return the hazard of a lowered max_deliver: what has been delivered so often already is not delivered again. Only "more than once" is counted by the server."""
    counts, limit = consumer_counts(live), setting(desired, "max_deliver")
    most = counts.num_ack_pending if limit == 1 else min(counts.num_ack_pending, counts.num_redelivered)
    if most:
        tried = "" if limit == 1 else f", delivered {limit} times or more,"
        yield hazard_of_amount(
            HazardName.RESETS_PROGRESS,
            f"{format_count(most, 'message')} being worked on{tried} would not be handed out again",
            MessageCount(most),
            exact=limit == 1,
        )


def _filter_change_hazards(
    live: LiveResource,
    desired: DesiredResource,
    live_state: LiveState,
    *,
    replaced: bool = False,
    starts_over: bool = False,
) -> Iterator[Hazard]:
    """Yield the hazards of another filter: the cursor stays, so that what only the new one matches below it is skipped (measured 2.10 to 2.15).

    What was handed out comes again whatever the filter has become, but not through a consumer that has `replaced` it.
    """
    counts, old, new = consumer_counts(live), filter_patterns(live), filter_patterns(desired)
    if set(old) == set(new):
        return
    if any(not any(covers(wide, subject) for wide in new) for subject in old):
        kept = new if any(overlap(wide, subject) for wide in new for subject in old) else ()
        yield from _undelivered_hazards(live, kept, "no longer match the filter", keeps_open=not replaced)
        yield from _lost_interest_hazards(live, new, live_state)
        yield from abandoned.given_up_forgotten_hazards(live, live_state, partly=True)
    if not starts_over and any(not any(covers(wide, subject) for wide in old) for subject in new):
        yield from hazard_of_query(
            HazardName.RESETS_PROGRESS,
            live,
            CountQuery(live.ref, CountKind.PASSED, subjects=new, excluded_subjects=old),
            MessageCount(counts.delivered_stream_seq),
            lambda gone: (
                f"{format_count(gone.messages, 'earlier message')} that only the new filter matches would be skipped"
            ),
        )


def _redelivery_delays(consumer: Resource) -> Sequence[int]:
    """Return how long the server waits for an acknowledgement, delivery by delivery; the last holds for all that follow."""
    return setting(consumer, "backoff") or (setting(consumer, "ack_wait"),)


def is_lower_max_deliver(new: int, old: int) -> bool:
    """Return whether a max_deliver of `new` gives up earlier than `old` did; -1 is never."""
    return new > 0 and (old <= 0 or new < old)


def _stream(consumer: LiveResource, live_state: LiveState) -> LiveResource:
    return live_state.resources[Ref(consumer.ref.stream)]


def _retention(consumer: LiveResource, live_state: LiveState) -> str:
    retention: str = setting(_stream(consumer, live_state), "retention")
    return retention
