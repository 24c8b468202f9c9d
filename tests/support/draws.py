"""How many examples a property is tried with: fewer in `make test-fast`, ten times as many in `make fuzz`."""

from __future__ import annotations

import os
from collections.abc import Collection

from hypothesis import HealthCheck, settings

SHARE = float(os.environ.get("CYBORG_INFRA_TEST_DRAWS", "1"))


def draws(examples: int = 100, *, ignoring: Collection[HealthCheck] = ()) -> settings:
    """Return the settings of a property that `make test` tries with so many examples; however long one takes.

    They are the same whoever runs it; `make fuzz` draws others each time.
    """
    return settings(
        deadline=None,
        derandomize=SHARE <= 1,
        max_examples=max(1, round(examples * SHARE)),
        suppress_health_check=[HealthCheck.too_slow, *ignoring],
    )
