"""The table that chooses how a consumer is replaced, by what the server can do."""

from __future__ import annotations

from collections.abc import Mapping

from cyborg_infra.live.execute.consumer.pause_and_reset import PauseAndReset
from cyborg_infra.live.execute.consumer.pause_and_start import PauseAndStart
from cyborg_infra.live.execute.consumer.stop_by_filter import StopByFilter
from cyborg_infra.live.execute.consumer.strategy import ReplacementStrategy
from cyborg_infra.model.server_versions import OLDEST, Capability, Version

STRATEGIES: Mapping[Version, ReplacementStrategy] = {
    Capability.RESET_CONSUMER.since: PauseAndReset(),
    Capability.PAUSE_CONSUMER.since: PauseAndStart(),
    OLDEST: StopByFilter(),
}
"""The first version that has what the strategy needs -> the strategy; the newest first."""


def strategy_for(version: Version) -> ReplacementStrategy:
    """Return how consumers are replaced on a server of this version."""
    return next((found for since, found in STRATEGIES.items() if version >= since), STRATEGIES[OLDEST])
