"""Replace a consumer that can be paused and reset (since 2.14): as `pause_and_start`, but the new one is reset to its position.

Promises what `live.execute.consumer.pause_and_start` does, and besides that the configuration of the new consumer is
the manifest's own, with no start sequence in it. It is created paused indefinitely, reset, and only then served: who
dies in between leaves a consumer that serves nobody, and the next apply resets it. A consumer that begins with new
or last messages cannot be reset, and starts by a sequence as before.
"""

from __future__ import annotations

from cyborg_infra.live.execute.consumer.pause_and_start import PauseAndStart
from cyborg_infra.live.execute.consumer.starting import BY_RESET, BY_START_SEQUENCE, ConsumerStart
from cyborg_infra.model.resources import Resource

RESETTABLE_POLICIES = ("all", "by_start_sequence", "by_start_time")  # the others: 10204


class PauseAndReset(PauseAndStart):
    """Pause the old consumer, then stop it; reset the new one to the position."""

    def start_of(self, desired: Resource) -> ConsumerStart:
        """Return a start by reset if the consumer can be reset, else one by a start sequence."""
        return BY_RESET if desired.get("deliver_policy") in RESETTABLE_POLICIES else BY_START_SEQUENCE
