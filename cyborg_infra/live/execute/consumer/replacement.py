"""Replace a consumer without loss: the new one continues at the old one's position.

1. The old consumer is brought to a position that is final: it stands still, and what is being worked on ends, or is
   known. How differs between servers: `live.execute.consumer.strategies`.
2. The position is saved in a placeholder (`live.execute.consumer.placeholder`), in the account and never on the machine
   that applies.
3. The old consumer is deleted, and the new one created at the saved position (`live.execute.consumer.creation`). What is
   being worked on stays open (`live.execute.consumer.position`).
4. The placeholder is deleted.

Interrupted at any step, the next apply finds the placeholder and goes on.
"""

from __future__ import annotations

from cyborg_infra.live.api.idempotent import delete
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.consumer.creation import create_at_saved_position
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.pausing import PAUSED_UNTIL
from cyborg_infra.live.execute.consumer.redeliveries import archive_given_up
from cyborg_infra.live.execute.consumer.strategies import strategy_for
from cyborg_infra.live.execute.consumer.strategy import FinalPosition
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource


async def replace_consumer(server: JetStream, old_ref: Ref, desired: Resource, options: ApplyOptions) -> None:
    """Replace the consumer called `old_ref` by the desired one at its position; delete the old one and the placeholder.

    Raises ServerFault, with the old consumer serving again, if work under way can neither stay under way nor end in
    time, and more would come again than was announced.
    """
    old, final = await server.info(old_ref), FinalPosition()
    if old is not None and old.get("pause_until") != PAUSED_UNTIL and not old.is_refilling:
        # What has no room stops us before anything was touched.
        await archive_given_up(server, desired.ref, options)
        final = await strategy_for(options.version).settle(server, old, desired, options)
    if old is None or not old.is_refilling or old_ref != desired.ref:  # that one has something to tell
        await delete(server, old_ref)
    await create_at_saved_position(server, desired, options, old_ref, final)
