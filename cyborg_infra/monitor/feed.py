"""What the monitor shows is handed to it by this: it never asks a server itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from cyborg_infra.model.monitor import Observation
from cyborg_infra.model.organisation import Org


class Feed(Protocol):
    """Whoever observes."""

    @property
    def org(self) -> Org:
        """What is observed."""
        ...

    @property
    def interval(self) -> float:
        """Seconds between two readings."""
        ...

    @property
    def observation(self) -> Observation:
        """What is known now."""
        ...

    def changes(self) -> AsyncIterator[Observation]:
        """Yield what is known now, and then each time that it changes; who is slow misses what was in between."""
        ...
