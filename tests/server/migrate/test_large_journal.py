"""A stream of so many subjects that its journal is larger than metadata may be is moved with its messages all the same."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.metadata_keys import JOURNAL_KEY
from cyborg_infra.model.ref import Ref, temporary_stream
from tests.server.migrate.test_migration import Killed, die_at
from tests.support.faults import Faults
from tests.support.scenario import Scenario, published
from tests.support.servers import VERSIONS, StartServer

# 140 kB; metadata may have 128 KiB.
MANY = [f"acme.agents.cto.{'x' * 200}{number:04}" for number in range(700)]


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


@pytest.mark.parametrize("version", VERSIONS)
def test_it_goes_on_where_it_was_interrupted(
    start_server: StartServer, tmp_path: Path, faults: Faults, version: str
) -> None:
    """The plan reads the journal as well, which is packed."""
    subjects = ", ".join(["acme.agents.cto.tasks", *MANY])
    text = f"org: acme\nroles: {{cto: {{tasks: {{subjects: [{subjects}], storage: %s}}}}}}\n"
    with Scenario(start_server(version=version).url, tmp_path) as scenario:
        scenario.converge(text % "file")
        published(MANY[-1], 2)(scenario)
        wish = scenario.request(text % "memory")
        with faults.context() as patched, suppress(Killed):
            die_at(patched, "STREAM.DELETE.AGENT_CTO_TASKS")
            scenario.apply(wish)
        assert scenario.config(temporary_stream(Ref("AGENT_CTO_TASKS")).stream)["metadata"][
            JOURNAL_KEY
        ].startswith("zlib:")
        assert scenario.plan(wish).changes
        scenario.converge(text % "memory")
        assert not scenario.plan(scenario.request(text % "memory"))
        assert scenario.info("AGENT_CTO_TASKS")["state"]["messages"] == 2
