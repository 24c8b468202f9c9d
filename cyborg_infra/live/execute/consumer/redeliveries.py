"""What would be handed out again once a consumer was replaced: it is counted, refused, or archived before."""

from __future__ import annotations

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.placeholder import retention_of
from cyborg_infra.live.read.counting import count_messages
from cyborg_infra.model.consumer_position import (
    finished_up_to,
    may_have_forgotten,
    read_patterns,
)
from cyborg_infra.model.counting import CountKind, CountQuery
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, LiveState, consumer_counts


async def count_redeliveries(server: JetStream, consumer: LiveResource) -> int:
    """Return how many messages a new consumer would hand out again that begins behind what is all finished; perhaps fewer."""
    stopped = consumer.stopped_at
    last = stopped.number if stopped else consumer_counts(consumer).delivered_stream_seq
    handed_out = last - finished_up_to(consumer)
    stream = await server.info(Ref(consumer.ref.stream))
    if stream is None or handed_out <= 0:
        return 0
    question = CountQuery(consumer.ref, CountKind.UNACKNOWLEDGED, last, subjects=read_patterns(consumer))
    live = LiveState({stream.ref: stream, consumer.ref: consumer})
    found = (
        (await count_messages(server, live, [question])).resources[consumer.ref].counts_by_query.get(question)
    )
    return found.messages if found else handed_out


async def require_announced(server: JetStream, stopped: LiveResource, options: ApplyOptions) -> None:
    """Raise ServerFault if the server of a stopped consumer was started anew since, and more may come again than was announced.

    It may have forgotten what was finished between the last look and the stop. The consumer stays stopped; the next
    plan counts that.
    """
    if not may_have_forgotten(stopped):
        return
    again, announced = (
        await count_redeliveries(server, stopped),
        options.allowed_redeliveries.get(stopped.ref, 0),
    )
    if again > announced:
        raise stays_stopped_error(
            stopped, "its server was started anew while it was stopped", again, announced
        )


async def require_announced_if_made_anew(
    server: JetStream, stopped: LiveResource, options: ApplyOptions
) -> None:
    """Raise ServerFault if more would come again from a new consumer in the place of a stopped one than this plan announced of it.

    What a plan says nothing of was allowed when an earlier one was applied.
    """
    announced = options.allowed_redeliveries.get(stopped.ref)
    if announced is None:
        return
    if (again := await count_redeliveries(server, stopped)) > announced:
        raise stays_stopped_error(stopped, "agents are at work on what it handed out", again, announced)


async def archive_given_up(server: JetStream, consumer: Ref, options: ApplyOptions) -> None:
    """Archive what the consumer gave up: an interest stream would delete it with the consumer, a workqueue redeliver it."""
    if await retention_of(server, consumer) != "limits":
        await options.archive_dead_letters(Ref(consumer.stream), Ref(consumer.stream))


def interrupted_error(consumer: LiveResource) -> ServerFault:
    """Return the error that ends a wait which nobody wants any more."""
    open_now = consumer_counts(consumer).num_ack_pending
    working = f", {open_now} being worked on" if open_now else ""
    return ServerFault(
        Problem(
            "interrupted",
            f"{consumer.ref}: interrupted before it was replaced{working}; {_left(consumer)}",
        )
    )


def drain_timeout_error(consumer: LiveResource, options: ApplyOptions, why: str | None) -> ServerFault:
    """Return the error that work under way did not end in time; `why`: what keeps it from staying open."""
    open_now, announced = (
        consumer_counts(consumer).num_ack_pending,
        options.allowed_redeliveries.get(consumer.ref, 0),
    )
    more = f", and more than the {announced:,} that were announced would come again" if announced else ""
    because = f"; they cannot stay open: {why}" if why else ""
    return ServerFault(
        Problem(
            "not-drained",
            f"{consumer.ref}: {open_now} messages were still being worked on after {options.drain_timeout:g}s{more}{because}; {_left(consumer)}",
            None,
            "plan again: it counts what would be handed out again; or apply when they are finished",
        )
    )


def stays_stopped_error(stopped: LiveResource, why: str, again: int, announced: int) -> ServerFault:
    """Return the error that more would come again from a stopped consumer than was announced."""
    return ServerFault(
        Problem(
            "not-drained",
            f"{stopped.ref}: {why}: {again:,} messages may be handed out again, and {announced:,} were announced; "
            "it stays stopped",
            None,
            "plan again: it counts what would be handed out again; or apply when they are finished",
        )
    )


def _left(consumer: LiveResource) -> str:
    return "it stays stopped until the next apply" if consumer.is_stopped else "it was left as it is"
