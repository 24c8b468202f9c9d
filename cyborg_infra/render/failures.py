"""How a message failed for good, in words."""

from __future__ import annotations

from collections.abc import Mapping

from cyborg_infra.model.dead_letters import DeadLetter, DeathType

_FAILED: Mapping[DeathType, str] = {
    DeathType.MAX_DELIVER: "delivered as often as allowed, and never acknowledged",
    DeathType.TERMINATED: "terminated by an agent",
    DeathType.GIVEN_UP: "given up by an agent",
}


def how_it_failed(letter: DeadLetter) -> str:
    """Return in words why a message became a dead letter, without the agent's own reason."""
    return _FAILED[letter.type] + (f", {letter.deliveries:,} deliveries" if letter.deliveries > 1 else "")
