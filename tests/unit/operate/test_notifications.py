"""By which consumer dead letters can be told, and how often the server has to hear that they are worked on."""

from __future__ import annotations

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.operate.notifications import unusable_consumer, work_seconds
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource


def alerts(settings: str) -> Resource:
    manifest = f"{{org: acme, roles: [cto], consumers: {{dead_letter_alerts: {settings}}}}}"
    return expand(loads(manifest)).resources[Ref("DEAD_LETTERS", "dead-letter-alerts")]


@pytest.mark.parametrize("policy", ["none", "all"])
def test_a_consumer_that_would_lose_what_was_not_told_is_not_read(policy: str) -> None:
    found = alerts(f"{{ack_policy: {policy}}}")
    problem = unusable_consumer(found)
    assert problem is not None
    assert f"has ack_policy {policy}" in problem.message
    assert unusable_consumer(alerts("{}")) is None


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [("{}", 100), ("{ack_wait: 3s}", 1), ("{backoff: [6s, 9s], max_deliver: 3}", 2)],
)
def test_the_server_hears_of_work_thrice_before_it_would_hand_it_out_again(
    settings: str, seconds: float
) -> None:
    assert work_seconds(alerts(settings)) == seconds
