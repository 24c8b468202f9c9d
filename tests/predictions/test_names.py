"""Streams that swap names, roles that get other subjects before others, deleted consumers: what the plans say is what it costs."""

from __future__ import annotations

import pytest

from tests.predictions.names import Topic, misses
from tests.support.draws import SHARE
from tests.support.scenario import Scenario
from tests.support.servers import VERSIONS

pytestmark = [pytest.mark.versions, pytest.mark.servers(*VERSIONS)]

SEED = 5
CASES = 4


@pytest.mark.parametrize("topic", Topic)
def test_several_plans_together_say_what_it_costs(scenario: Scenario, topic: Topic) -> None:
    found = list(misses(scenario, topic, SEED, range(max(1, round(CASES * SHARE)))))
    assert [miss for miss in found if miss] == []
