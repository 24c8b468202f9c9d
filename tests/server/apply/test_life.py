"""The life of an organisation: it grows, changes its mind and ends, while everybody works; each message is worked on once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cyborg_infra.model.changes import Action, HazardName
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.operations import provision
from tests.support.scenario import EVERY_HAZARD, Scenario, published
from tests.support.servers import NEWEST, OLDEST, StartServer
from tests.support.traffic import Publisher, Worker, eventually

EVENT, EVENT_READER = "acme.events.ci.result", "ORG_EVENTS/a-event-reader"
ENOUGH = 15  # messages that each publisher has to get through before a chapter ends


class Role:
    """Its tasks, one who gives them and one who works on them."""

    def __init__(self, url: str, subject: str, reader: str) -> None:
        self.publisher, self.worker = Publisher(url, subject), Worker(url, reader)

    @classmethod
    def of(cls, url: str, name: str) -> Role:
        return cls(url, f"acme.agents.{name}.tasks", f"AGENT_{name.upper()}_TASKS/{name}-worker")

    @property
    def balances(self) -> bool:
        """Whether everything acknowledged was worked on."""
        return self.publisher.acknowledged.keys() <= self.worker.worked.keys()

    @property
    def twice(self) -> list[str]:
        return [name for name, times in self.worker.worked.items() if times > 1]


@contextmanager
def at_work(roles: Sequence[Role]) -> Iterator[None]:
    """Return all are at it during the block; it ends when each has got through some more. Afterwards every book balances."""
    with ExitStack() as workers:
        with ExitStack() as publishers:
            for role in roles:
                workers.enter_context(role.worker)
                publishers.enter_context(role.publisher)
            going_on(roles)
            yield
            going_on(roles)
        assert eventually(lambda: all(role.balances for role in roles))
    assert [role.twice for role in roles if role.twice] == []


def going_on(roles: Sequence[Role]) -> None:
    """Everybody's messages are taken in, and worked on."""
    seen = [len(role.publisher.acknowledged) for role in roles]
    done = [len(role.worker.worked) for role in roles]
    assert eventually(
        lambda: all(
            len(role.publisher.acknowledged) > told + ENOUGH and len(role.worker.worked) > worked + ENOUGH
            for role, told, worked in zip(roles, seen, done, strict=True)
        )
    )


def manifest(roles: str, retention: str = "limits", *, wait: int = 20, durable: bool = False) -> str:
    return (
        f"org: acme\nroles: [{roles}]\nstreams: {{tasks: {{retention: {retention}}}}}\n"
        f"events: {{ci.result: {{publishers: [b], subscribers: [a], durable: {str(durable).lower()}}}}}\n"
        f"consumers: {{worker: {{max_ack_pending: 20, ack_wait: {wait}s}}}}\n"
    )


def lived(scenario: Scenario, text: str, allow: Sequence[str] = ()) -> dict[str, Action]:
    """Return what an apply to this manifest did; everything that it planned, and nothing is left to do."""
    wish = scenario.request(text, prune=True)
    plan = scenario.plan(wish)
    outcomes = provision.apply(
        provision.ApplyRequest(plan, allow=allow, drain_timeout=10, lock_timeout=10), scenario.target
    )
    assert [outcome for outcome in outcomes if outcome.status is not ResultStatus.SUCCEEDED] == []
    assert not scenario.plan(wish)
    return {str(change.ref): change.action for change in plan.changes}


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_an_organisation_lives_while_everybody_works(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    """Before 2.12 a stream is not replaced with its messages, so the kind keeps its retention there."""
    kind = "workqueue" if version == NEWEST else "limits"
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        lived(scene, manifest("a, b, c"))
        founders = [Role.of(scene.url, name) for name in "abc"]
        with at_work(founders):
            done = lived(scene, manifest("a, b, c", kind, wait=25), allow=["mass-change", "deletes-messages"])
            for name in "ABC":
                assert done.get(f"AGENT_{name}_TASKS") == (Action.REPLACE if version == NEWEST else None)
            done = lived(scene, manifest("a, b, c, d, e", kind, wait=25))
            assert done["AGENT_D_TASKS"] == done["AGENT_E_TASKS/e-worker"] == Action.CREATE
            assert "AGENT_A_TASKS" not in done
            events = Role(scene.url, EVENT, EVENT_READER)
            done = lived(scene, manifest("a, b, c, d, e", kind, wait=25, durable=True))
            assert done[EVENT_READER] == Action.CREATE
            with at_work([*(Role.of(scene.url, name) for name in "de"), events]):
                lived(scene, manifest("a, b, c, d, e", kind, wait=30, durable=True))
            done = lived(scene, manifest("a, b, c, d, e", kind, wait=30), allow=EVERY_HAZARD)
            assert done["ORG_EVENTS"] == Action.DELETE
            assert (
                scene.plan(scene.request(manifest("a, b, c, d, e", kind, wait=30, durable=True))).hazards
                == ()
            )
        published("acme.agents.d.inbox", 3)(scene)
        assert_ends_with_nothing(scene, tmp_path)


def assert_ends_with_nothing(scenario: Scenario, directory: Path) -> None:
    """Destroyed, with everything that it held; the bucket of all organisations' leases stays, and no lease is in it."""
    end = provision.destroy_request(str(directory / "org.yaml"))
    plan = scenario.plan(end)
    assert HazardName.DELETES_MESSAGES in {hazard.name for hazard in plan.hazards}
    outcomes = provision.apply(
        provision.ApplyRequest(plan, allow=EVERY_HAZARD, lock_timeout=10), scenario.target
    )
    assert {outcome.status for outcome in outcomes} == {ResultStatus.SUCCEEDED}
    assert scenario.refs() == ["KV_cyborg-infra"]
    assert scenario.info("KV_cyborg-infra")["state"]["messages"] == 0
