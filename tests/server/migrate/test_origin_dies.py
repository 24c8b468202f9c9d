"""A stream in memory dies with its server while it is moved into a file: what was done comes again only as announced."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.metadata_keys import JOURNAL_KEY
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.ref import TEMPORARY_PREFIX
from tests.server.migrate.test_migration import EXACT, MOVING, Killed, die_at
from tests.support.agents import fetch
from tests.support.faults import Faults
from tests.support.scenario import Scenario, acked, changed, published
from tests.support.servers import StartServer
from tests.support.traffic import eventually

SUBJECT, STREAM, WORKER = "acme.agents.cto.tasks", "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"
COPY = f"{TEMPORARY_PREFIX}{STREAM}"
STEPS = (2, 3, 4, 5, 9)  # at the first of them its consumer may be at work, and then nobody
NOTED = 5  # the write at which a copy by mirror knows where the consumer stands


def manifest(storage: str) -> str:
    return f"org: acme\nroles: [cto]\nstreams: {{tasks: {{storage: {storage}}}}}\nconsumers: {{worker: {{max_ack_pending: 50}}}}\n"


def die(server: EmbeddedServer, scenario: Scenario, faults: Faults, step: int) -> int:
    """40 of 60 tasks are done, and 5 more after the tool died at this write, if the worker is served; then all is dark.

    Returns how many nobody has done.
    """
    scenario.converge(manifest("memory"))
    published(SUBJECT, 60)(scenario)
    acked(WORKER, 40)(scenario)
    with faults.context() as patched, suppress(Killed):
        die_at(patched, step)
        scenario.apply(scenario.request(manifest("file")))
    info = scenario.info(WORKER) if WORKER in scenario.refs() else {}
    works = bool(info) and not info.get("paused") and info["config"]["filter_subject"] == SUBJECT
    if works:
        acked(WORKER, 5)(scenario)
    server.kill()
    server.start()
    return 15 if works else 20


def journal_of(scenario: Scenario) -> str:
    """Return what the copy notes; nothing where there is none."""
    metadata = scenario.config(COPY)["metadata"] if COPY in scenario.refs() else {}
    return str(metadata.get(JOURNAL_KEY, "{}"))


def handed_out(scenario: Scenario) -> int:
    """Return how many tasks the worker gets now; it does them."""
    count = 0
    while scenario.info(WORKER)["num_pending"]:
        scenario.api.ask(fetch(scenario.api, WORKER).reply, b"+ACK")
        count += 1
    return count


def announced(plan: Plan) -> int:
    return sum(hazard.count for hazard in plan.hazards if hazard.name is HazardName.REPEATS_WORK)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("version", MOVING)
def test_what_was_done_comes_again_only_as_often_as_the_plan_says(
    start_server: StartServer, tmp_path: Path, faults: Faults, version: str, step: int
) -> None:
    """Until the consumer stood still nobody noted what it did. What the copy has and nobody did is not lost."""
    server = start_server(version=version)
    with Scenario(server.url, tmp_path) as scene:
        left = die(server, scene, faults, step)
    with Scenario(server.url, tmp_path) as scene:
        noted = "cto-worker" in (json.loads(journal_of(scene)).get("positions") or {})
        wish = scene.request(manifest("file"))
        said = announced(scene.plan(wish))
        scene.converge(manifest("file"))
        got = handed_out(scene)
        if scene.info(STREAM)["state"]["messages"]:
            assert left <= got <= left + said
            assert (said > 0) == (not noted or left == 15)
        assert said <= 20
        assert not scene.plan(wish)


@pytest.mark.parametrize("version", EXACT)
def test_who_stood_behind_all_that_was_copied_waits_for_what_comes(
    start_server: StartServer, tmp_path: Path, faults: Faults, version: str
) -> None:
    """As where the copy had not caught up: it ends before the consumer's position, and does not begin anew for that."""
    server = start_server(version=version)
    with Scenario(server.url, tmp_path) as scene:
        die(server, scene, faults, NOTED)
    with Scenario(server.url, tmp_path) as scene:
        labels = scene.config(COPY)["metadata"]
        journal = json.loads(journal_of(scene))
        journal["positions"]["cto-worker"] = 100
        changed(COPY, metadata={**labels, JOURNAL_KEY: json.dumps(journal)})(scene)
        scene.converge(manifest("file"))
        assert handed_out(scene) == 0
        published(SUBJECT, 1)(scene)
        assert eventually(lambda: handed_out(scene) == 1)
