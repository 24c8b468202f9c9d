"""The placeholder of a consumer: another durable consumer that keeps its position in the account while it is replaced.

It is there from before the old consumer is deleted until the new one stands where the old one stood, so that nothing
is kept on the machine that applies. On an interest stream it also keeps the messages: these wait for it.
"""

from __future__ import annotations

from typing import Any

from cyborg_infra.live.api.idempotent import create_consumer, delete, update_consumer
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.consumer_limits import UNLIMITED
from cyborg_infra.model.consumer_position import Position
from cyborg_infra.model.metadata_keys import KIND_KEY, OWNER_KEY, PAUSED_KEY, POSITION_KEY, RESOURCE_KEY
from cyborg_infra.model.ref import PLACEHOLDER_PREFIX, Ref, stop_subject
from cyborg_infra.model.resources import LiveResource, Resource


def placeholder_ref(ref: Ref) -> Ref:
    """Return the name under which a consumer's position is kept while it is replaced."""
    return Ref(ref.stream, f"{PLACEHOLDER_PREFIX}{ref.consumer}")


def saved_position(mark: LiveResource) -> Position:
    """Return the position that a placeholder says."""
    read = Position.decode(mark.metadata.get(POSITION_KEY, ""))
    return read if read.next else Position(mark.get("opt_start_seq"))


async def save_position(
    server: JetStream, desired: Resource, position: Position, paused: str = "", *, passed: bool = False
) -> None:
    """Save `position` in the consumer's placeholder, whatever it said before; it also keeps what is `passed`.

    One that waits for enough is left waiting: without it an interest stream would forget what it waits for.
    """
    mark, doing = placeholder_ref(desired.ref), f"keeping the position of {desired.ref}"
    workqueue = await retention_of(server, desired.ref) == "workqueue"
    first = 1 if passed else position.first
    wanted = Resource(mark, _placeholder_config(desired, mark, first, workqueue=workqueue))
    said = {**wanted.metadata, POSITION_KEY: position.encode, **({PAUSED_KEY: paused} if paused else {})}
    held = await server.info(mark)
    if held is not None and _covers(held, wanted):
        await update_consumer(server, Resource(mark, {**held.config, "metadata": said}), doing)
        return
    await delete(server, mark)
    await create_consumer(server, Resource(mark, {**wanted.config, "metadata": said}), doing)


def needs_saved_position(desired: Resource, position: int) -> bool:
    """Return whether a new consumer would start anywhere else by itself. One that begins with new messages always would."""
    policy, start = desired.get("deliver_policy"), desired.get("opt_start_seq")
    return policy not in ("all", "by_start_sequence") or position > max(start, 1)


async def needs_placeholder(server: JetStream, desired: Resource, position: Position) -> bool:
    """Return whether a placeholder has to stand for the consumer while there is none.

    On an interest stream always: what nobody waits for is deleted, also where nothing was handed out yet. On a
    workqueue only to know what is open: what is acknowledged is gone, so the stream itself is the position.
    """
    retention = await retention_of(server, desired.ref)
    if position.unfinished or retention == "interest":
        return True
    return retention != "workqueue" and needs_saved_position(desired, position.next)


async def retention_of(server: JetStream, consumer: Ref) -> str | None:
    """Return the retention of the consumer's stream; None if that is gone."""
    stream = await server.info(Ref(consumer.stream))
    return stream.get("retention") if stream else None


def _covers(held: Resource, wanted: Resource) -> bool:
    """Return whether a placeholder waits for all that another one would."""
    filters = ("filter_subject", "filter_subjects")
    alike = all(held.get(name) == wanted.get(name) for name in filters)
    held_start, start = (found.get("opt_start_seq") for found in (held, wanted))
    return alike and (not start or 0 < held_start <= start)


def _placeholder_config(desired: Resource, mark: Ref, first: int, *, workqueue: bool) -> dict[str, Any]:
    """Return the placeholder: the new consumer's filter from `first` on, owned, serving nobody.

    Its max_ack_pending of -1 is within every limit that a stream or account has or gets (2.10.26 to 2.15.1), with any
    ack_policy; the server's own default of 1000 is not (10069, 10121), nor is what a stream fills in (10082).
    A workqueue has one consumer for each message, which begins at the beginning: there it waits for nothing.
    """
    kept = (
        "filter_subject",
        "filter_subjects",
        "ack_policy",
        "num_replicas",
        "replay_policy",
        "deliver_policy",
    )
    config = {
        **desired.config_part(kept),
        "name": mark.consumer,
        "durable_name": mark.consumer,
        "max_ack_pending": UNLIMITED,
        "metadata": {OWNER_KEY: desired.owner or "", KIND_KEY: PLACEHOLDER_PREFIX, RESOURCE_KEY: str(mark)},
    }
    if workqueue:
        config.pop("filter_subjects", None)
        return {**config, "deliver_policy": "all", "filter_subject": stop_subject(mark)}
    return {**config, "deliver_policy": "by_start_sequence", "opt_start_seq": first}
