"""What a server would refuse is told with the place in the manifest at which somebody can change it."""

from __future__ import annotations

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.plan import Plan, PlanRequest
from tests.support.scenario import Scenario
from tests.support.servers import OLDEST

pytestmark = pytest.mark.servers(OLDEST)

MANIFEST = """\
org: acme
roles:
  cto:
  cso: {tasks: {allow_msg_ttl: true}}
streams:
  inboxes:
    allow_msg_ttl: true
environments:
  production:
    defaults:
      replicas: 3
"""


def planned(scenario: Scenario, env: str | None = None) -> Plan:
    org = loads(MANIFEST, env)
    return scenario.plan(PlanRequest(org.name, expand(org), org))


def test_a_field_that_the_server_does_not_know_is_told_where_it_is_set(scenario: Scenario) -> None:
    """And not at the role or the organisation's name: there is nothing to change there."""
    problems = planned(scenario).blocking_problems
    assert {(found.code, str(found.where)) for found in problems} == {
        ("unknown-field", "org.yaml:4:32"),
        ("unknown-field", "org.yaml:7:20"),
    }


def test_replicas_of_a_single_server_are_told_where_they_are_set(scenario: Scenario) -> None:
    places = [
        str(found.where)
        for found in planned(scenario, "production").blocking_problems
        if found.code == "replicas"
    ]
    assert places == ["org.yaml:11:17"] * 5
