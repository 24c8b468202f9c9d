"""Lift a stream's `consumer_limits` where they stand in the way of a copy or of a placeholder.

A copy reads its origin as a consumer that the server makes. A `max_ack_pending` that the origin fills in is refused
to it (10082), and so is an `inactive_threshold` below its own 10 s (10153): 2.10.26 to 2.15.1, since 2.14 not where
the origin has interest or workqueue retention. So an origin has no such limits while it is copied.
"""

from __future__ import annotations

import asyncio

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.idempotent import update_consumer, update_stream
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import Config
from cyborg_infra.model.resources import LiveResource, Resource
from cyborg_infra.model.units import SECOND

LIMITS_FIELD, MAX_ACK_PENDING, INACTIVE_THRESHOLD = "consumer_limits", "max_ack_pending", "inactive_threshold"
UNLIMITED = -1  # a max_ack_pending that no limit excludes
LIFTED_THRESHOLD_NS = 10 * SECOND  # an inactive_threshold that every copy keeps within
LIMIT_CODES = (
    ErrorCode.JSStreamUpdateErrF,
    ErrorCode.JSStreamGeneralErrorF,  # in a cluster (2.10.26)
)


def limits_differ(one: Config, other: Config) -> bool:
    """Return whether two streams limit their consumers otherwise."""
    return _explicit_limits(one) != _explicit_limits(other)


def prevent_copying(stream: LiveResource) -> bool:
    """Return whether the server could not copy the stream."""
    said = _explicit_limits(stream.config)
    return MAX_ACK_PENDING in said or 0 < said.get(INACTIVE_THRESHOLD, 0) < LIFTED_THRESHOLD_NS


async def lift_limits(server: JetStream, stream: LiveResource) -> None:
    """Lift the limits of the stream that hinder its copies.

    Before 2.14.6 a stream without a limit refuses every consumer that has one (10069): there all consumers are
    unlimited for the moment in which it changes.
    """
    if not prevent_copying(stream):
        return
    threshold = _explicit_limits(stream.config).get(INACTIVE_THRESHOLD, 0)
    lifted = Resource(
        stream.ref,
        {
            **stream.config,
            LIMITS_FIELD: {INACTIVE_THRESHOLD: max(threshold, LIFTED_THRESHOLD_NS)} if threshold else {},
        },
    )
    try:
        await _update(server, lifted)
    except ApiError as error:
        if error.err_code not in LIMIT_CODES:
            raise
        await _lift_among_consumers(server, lifted)


async def fit_placeholders(server: JetStream, live: Resource, wanted: Resource) -> None:
    """Adapt placeholders that exceed the limits that the stream is about to have, as those of an earlier version did."""
    if limits_differ(live.config, wanted.config):
        for held in await server.consumers(live.ref):
            if held.ref.is_placeholder and held.get(MAX_ACK_PENDING) > 0:
                await _limit(server, held, {MAX_ACK_PENDING: UNLIMITED})


async def _lift_among_consumers(server: JetStream, lifted: Resource) -> None:
    """Lift the limits from durable consumers: an `inactive_threshold` of 0 does not let them expire; others keep theirs."""
    within = _explicit_limits(lifted.config)
    old = [
        (found, lifting)
        for found in await server.consumers(lifted.ref)
        if (lifting := _raised_settings(found, within))
    ]
    try:
        await asyncio.gather(*(_limit(server, found, lifting) for found, lifting in old))
        await _update(server, lifted)
    finally:
        await asyncio.gather(*(_limit(server, found, found.config_part(lifting)) for found, lifting in old))


def _raised_settings(consumer: LiveResource, within: Config) -> Config:
    """Return the settings that the consumer needs while the limits of its stream are lifted."""
    found: dict[str, int] = {}
    if consumer.get(MAX_ACK_PENDING) > 0:
        found[MAX_ACK_PENDING] = UNLIMITED
    if consumer.get(INACTIVE_THRESHOLD) and not within.get(INACTIVE_THRESHOLD) and not consumer.is_ephemeral:
        found[INACTIVE_THRESHOLD] = 0
    return found


async def _limit(server: JetStream, consumer: LiveResource, fields: Config) -> None:
    config = {**consumer.config, **fields}
    await update_consumer(server, Resource(consumer.ref, config), f"limiting {consumer.ref}")


async def _update(server: JetStream, stream: Resource) -> None:
    doing = f"lifting the consumer_limits of {stream.ref}"
    await update_stream(server, stream, doing)


def _explicit_limits(config: Config) -> Config:
    """Return the limits that say something."""
    return {name: value for name, value in (config.get(LIMITS_FIELD) or {}).items() if value}
