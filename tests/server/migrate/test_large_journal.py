"""A stream of so many subjects that its journal is larger than metadata may be is moved with its messages all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyborg_infra.model.changes import HazardName
from tests.support.scenario import Scenario, published
from tests.support.servers import VERSIONS, StartServer

MANY = [
    f"acme.agents.cto.{'x' * 200}{number:04}" for number in range(700)
]  # 140 kB; metadata may have 128 KiB


@pytest.mark.parametrize("version", VERSIONS)
def test_many_subjects_are_moved_with_their_messages(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    subjects = ", ".join(["acme.agents.cto.tasks", *MANY])
    text = f"org: acme\nroles: {{cto: {{tasks: {{subjects: [{subjects}], storage: %s}}}}}}\n"
    with Scenario(start_server(version=version).url, tmp_path) as scenario:
        scenario.converge(text % "file")
        published("acme.agents.cto.tasks", 3)(scenario)
        published(MANY[-1], 2)(scenario)
        plan = scenario.plan(scenario.request(text % "memory"))
        assert HazardName.DELETES_MESSAGES not in {hazard.name for hazard in plan.hazards}
        scenario.converge(text % "memory")
        assert not scenario.plan(scenario.request(text % "memory"))
        state = scenario.info("AGENT_CTO_TASKS")["state"]
        assert (state["messages"], len(scenario.config("AGENT_CTO_TASKS")["subjects"])) == (5, 701)
