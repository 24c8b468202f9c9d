"""What a plan says that a change costs is what it costs; at length it is `make fuzz`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.predictions.handovers import misses
from tests.support.scenario import Scenario
from tests.support.servers import VERSIONS, server_binary

pytestmark = pytest.mark.versions

SEED = 3
ONCE_WRONG = (7, 11, 21, 30, 41)
"""Of these cases the plan did not say what they cost, or the apply ended half-way, in one version of the tool or another."""


@pytest.fixture(params=VERSIONS)
def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scenario]:
    with (
        EmbeddedServer(tmp_path, binary=server_binary(str(request.param))) as server,
        Scenario(server.url, tmp_path) as opened,
    ):
        yield opened


def test_finished_work_comes_again_and_unfinished_to_nobody_only_as_the_plan_says(scenario: Scenario) -> None:
    found = list(misses(scenario, SEED, ONCE_WRONG))
    assert [miss for miss in found if miss] == []
    assert len(found) > len(ONCE_WRONG) // 2  # the others are refused
