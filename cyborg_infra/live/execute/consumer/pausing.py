"""Pause a consumer (since 2.11): it hands out nothing until a moment, and then goes on by itself.

Times that the server judges are made from its own clock, which its answers carry.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from cyborg_infra.live import timing
from cyborg_infra.live.api.idempotent import write_once
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import PAUSE_MARK, PAUSED_INDEFINITELY, LiveResource

PAUSED_UNTIL = PAUSED_INDEFINITELY
"""A new consumer is paused until then while it does not stand where it shall: dead or alive, nobody is served."""

MAX_POLLS = 100  # looks at one that is paused or resumed; measured: 1, and 2 in a cluster under load


async def require_consumer(server: JetStream, ref: Ref) -> LiveResource:
    """Return the consumer as it is now. Raises ServerFault if it is gone."""
    live = await server.info(ref)
    if live is None:
        raise ServerFault(
            Problem("gone", "the consumer was deleted while it was replaced", None, "plan again")
        )
    return live


def manually_paused_until(consumer: LiveResource) -> str:
    """Return until when somebody else has paused the consumer, as the server writes it; empty if nobody has."""
    until: str = consumer.get("pause_until") or ""
    ends = parse_pause(until)
    ours = until == PAUSED_UNTIL or ends is None or ends.microsecond == PAUSE_MARK
    return "" if ours or (ends and ends <= server_time(consumer)) else until


def server_time(consumer: LiveResource) -> datetime:
    """Return the server's time when it answered. Raises ValueError where it did not say."""
    return datetime.fromisoformat(consumer.activity.read_at)


def parse_pause(text: str | None) -> datetime | None:
    """Return the moment that a `pause_until` names, or None if it names none."""
    found = datetime.fromisoformat(text) if text else None
    return found if found and found.year > 1 else None  # Go's zero time is in the year 1


async def pause_for(server: JetStream, ref: Ref, seconds: float) -> None:
    """Pause the consumer for at least `seconds`, by the server's clock; a longer pause stays. Raises as `pause` does."""
    live = await require_consumer(server, ref)
    ends = (server_time(live) + timedelta(seconds=seconds + 1)).replace(microsecond=PAUSE_MARK)
    paused = parse_pause(live.get("pause_until"))
    if paused is None or paused < ends:
        await pause(server, ref, ends.isoformat())


async def resume(server: JetStream, ref: Ref, until: str = "") -> None:
    """Resume the consumer, or pause it `until` then, as somebody had paused it."""
    await pause(server, ref, until or None)


async def pause(server: JetStream, ref: Ref, until: str | None) -> None:
    """Pause the consumer `until` then; None resumes it. Raises ServerFault if that does not come into force.

    A cluster's OK is only the proposal: the consumer goes on for a moment, and if the leader dies, for ever.
    """
    verb, doing = f"CONSUMER.PAUSE.{ref.stream}.{ref.consumer}", f"{'pausing' if until else 'resuming'} {ref}"

    async def holds() -> bool:
        live = await server.info(ref)
        return live is None or parse_pause(live.get("pause_until")) == parse_pause(until)

    for _ in range(MAX_POLLS):
        await write_once(server, verb, {"pause_until": until} if until else {}, doing=doing, holds=holds)
        if await holds():
            return
        await asyncio.sleep(timing.CONSUMER_POLL_SECONDS)
    raise not_in_force_error(doing)


def not_in_force_error(doing: str) -> ServerFault:
    """Return the error of a change that the server accepted and that does not take effect."""
    return ServerFault(
        Problem("not-in-force", f"{doing}: the server answered OK, and does not do it", None, "apply again")
    )
