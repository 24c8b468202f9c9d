"""Every field of a consumer that never changes on a living one, changed under live traffic: lost 0, repeated 0.

Streams have theirs in tests/server/migrate/test_migration.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from cyborg_infra.model.changes import Action, HazardName
from cyborg_infra.model.fields import FIELDS, Kind, UpdateEffect
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.problems import PlanRefused
from cyborg_infra.model.server_versions import LEVELS, Capability, Version
from tests.support.scenario import Scenario
from tests.support.traffic import Publisher, Worker, eventually

WORKER, SUBJECT = "AGENT_CTO_TASKS/cto-worker", "acme.agents.cto.tasks"
STEPS: tuple[Mapping[str, object], ...] = (
    {"replay_policy": "original"},
    {"max_waiting": 100},
    {"mem_storage": True},
    {"ack_policy": "all"},
    {"deliver_policy": "by_start_sequence", "opt_start_seq": 1},
    {"deliver_policy": "by_start_sequence", "opt_start_seq": 2},
    {"deliver_policy": "by_start_time", "opt_start_time": "2026-01-31T00:00:00Z"},
    {"deliver_policy": "by_start_time", "opt_start_time": "2026-02-28T00:00:00Z"},
    {"deliver_policy": "new"},
    {"deliver_policy": "last"},
    {},
)
"""Each differs from the one before in a field that forces a new consumer, and each is what a pulling worker can have."""

PUSHED = {"deliver_subject", "flow_control", "idle_heartbeat"}
"""What a consumer that is pulled from cannot have; a change of it has nobody at work."""


def manifest(worker: Mapping[str, object]) -> str:
    settings = {"max_ack_pending": 20, "ack_wait": "5s", **worker}
    return f"org: acme\nroles: [cto]\nconsumers: {{worker: {json.dumps(settings)}}}\n"


def test_every_field_that_never_changes_in_place_is_among_the_steps() -> None:
    """By the table: whatever no version of the server would change between two of its values."""
    tried = {name for step in STEPS for name in step} | PUSHED
    newest = max(*LEVELS.values(), *(capability.since for capability in Capability))
    fixed = {
        name
        for name, field in FIELDS[Kind.CONSUMER].items()
        for before, after in ((field.default, "another"), ("another", field.default))
        if field.update(before, after, newest) is not UpdateEffect.IN_PLACE
    }
    assert fixed <= tried


def has_published(publisher: Publisher, number: int) -> bool:
    return len(publisher.acknowledged) >= number


def replaced(scenario: Scenario, step: Mapping[str, object]) -> int:
    """Return how many repetitions the plans announced. Where a worker came after the plan, apply refuses and it is planned anew."""
    wish = scenario.request(manifest(step))
    announced = 0
    for _ in range(20):
        plan = scenario.plan(wish)
        assert {(str(change.ref), change.action) for change in plan.changes} == {(WORKER, Action.REPLACE)}
        announced += sum(hazard.count for hazard in plan.hazards if hazard.name is HazardName.REPEATS_WORK)
        with suppress(PlanRefused):  # it has a hazard now that the plan had not
            (outcome,) = scenario.apply(wish, plan, allow=[hazard.name for hazard in plan.hazards])
            if outcome.status is ResultStatus.SUCCEEDED:
                return announced
            assert outcome.problem
            assert outcome.problem.code in ("at-work", "not-drained")
    raise AssertionError("a worker came between every plan and its apply")


def test_agents_go_on_while_every_fixed_field_of_their_consumer_is_changed(scenario: Scenario) -> None:
    """Before 2.11 no consumer can be paused: there what the plans announced may come again, and nothing else."""
    scenario.converge(manifest({}))
    announced = 0
    with Worker(scenario.url, WORKER) as worker:
        with Publisher(scenario.url, SUBJECT) as publisher:
            for step in STEPS:
                assert eventually(partial(has_published, publisher, len(publisher.acknowledged) + 10))
                announced += replaced(scenario, step)
        wanted = set(publisher.acknowledged)
        assert eventually(lambda: wanted <= worker.worked.keys()), sorted(wanted - worker.worked.keys())[:5]
    repeated = [name for name, times in worker.worked.items() if times > 1]
    exact = Version.parse(scenario.api.info["version"]) >= Capability.PAUSE_CONSUMER.since
    assert len(repeated) <= (0 if exact else announced)
    assert not scenario.plan(scenario.request(manifest(STEPS[-1])))
