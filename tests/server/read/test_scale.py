"""A thousand roles and more: limits that only then matter, and work that grows with the organisation, not its square."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import Action
from cyborg_infra.model.fields import Config
from cyborg_infra.model.organisation import Event, Org, Role
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.ref import REHEARSAL_PREFIX, Ref
from cyborg_infra.model.resources import (
    ConsumerCounts,
    DesiredState,
    LiveResource,
    LiveState,
    Resource,
    State,
    StreamCounts,
)
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import LEVELS, NEWEST_LEVEL
from tests.support.scenario import Scenario

FACTS = ServerInfo(LEVELS[NEWEST_LEVEL], NEWEST_LEVEL)
SOME = 100
GROWTH = 2.3  # for twice the roles; sorting is allowed, a square would be 4


def organisation(size: int) -> Org:
    """Roles that subscribe to durable events: as many events as roles, three readers each."""
    roles = [f"role{number}" for number in range(size)]
    events = [
        Event(f"domain{n}.done", (roles[n],), tuple(roles[(n + step) % size] for step in range(3)), durable=True)
        for n in range(size)
    ]  # fmt: skip
    return Org("genbrain", tuple(map(Role, roles)), tuple(events))


def live(
    desired: DesiredState, change: Callable[[Resource], Config] = lambda found: found.config
) -> LiveState:
    """Return what a server would hold that was in sync, but for a change of every configuration."""
    return LiveState(
        {
            ref: LiveResource(
                ref, change(found), counts=ConsumerCounts() if ref.consumer else StreamCounts(messages=1)
            )
            for ref, found in desired.resources.items()
        },
        FACTS,
    )


def described(found: Resource) -> Config:
    return {**found.config, "description": "by hand"}


def in_memory(found: Resource) -> Config:
    return found.config if found.ref.consumer else {**found.config, "storage": "memory"}


def limited(found: Resource) -> Config:
    return found.config if found.ref.consumer else {**found.config, "consumer_limits": {"max_ack_pending": 9}}


def moved(found: Resource) -> Config:
    subjects = [f"old.{subject}" for subject in found.config.get("subjects", ())]
    return found.config if found.ref.consumer else {**found.config, "subjects": subjects}


def plan(org: Org, desired: DesiredState, found: LiveState, *, prune: bool = False) -> Plan:
    return make_plan(found, desired, owner=org.name, org=org, prune=prune)


def from_nothing(org: Org) -> Plan:
    return plan(org, expand(org), LiveState({}, FACTS))


def in_sync(org: Org) -> Plan:
    return plan(org, expand(org), live(expand(org)))


def all_updated(org: Org) -> Plan:
    return plan(org, expand(org), live(expand(org), described))


def all_replaced(org: Org) -> Plan:
    return plan(org, expand(org), live(expand(org), in_memory))


def all_moved(org: Org) -> Plan:
    return plan(org, expand(org), live(expand(org), moved))


def all_tightened(org: Org) -> Plan:
    desired = expand(org)
    tight = DesiredState(
        {ref: replace(found, config=limited(found)) for ref, found in desired.resources.items()}
    )
    return plan(org, tight, live(desired, described))


def all_pruned(org: Org) -> Plan:
    one = expand(replace(org, roles=org.roles[:1], events=()))
    return plan(org, one, live(expand(org)), prune=True)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (from_nothing, Action.CREATE),
        (in_sync, None),
        (all_updated, Action.UPDATE),
        (all_replaced, Action.REPLACE),
        (all_moved, Action.UPDATE),
        (all_tightened, Action.UPDATE),
        (all_pruned, Action.DELETE),
    ],
)
def test_twice_the_roles_are_twice_the_work(make: Callable[[Org], Plan], expected: Action | None) -> None:
    small, large = organisation(SOME), organisation(2 * SOME)
    assert {change.action for change in make(small).changes} >= ({expected} if expected else set())
    assert calls(lambda: make(large)) < GROWTH * calls(lambda: make(small))


def test_more_readers_than_a_server_takes_by_default_raise_the_stream_s_own_limit() -> None:
    """Since 2.15 a stream takes 1000 consumers unless it says otherwise; before, the field stays as it was."""
    org = organisation(1001)
    shared = [Ref("AGENT_INBOXES"), Ref("ORG_BROADCASTS"), Ref("ORG_EVENTS")]
    most = {level: expand(org, level) for level in (NEWEST_LEVEL - 1, NEWEST_LEVEL)}
    assert _most(most[NEWEST_LEVEL], shared) == [2000, 2000, 2000]
    assert _most(most[NEWEST_LEVEL - 1], shared) == [-1, -1, -1]
    assert _most(most[NEWEST_LEVEL], [Ref("DEAD_LETTERS"), Ref("AGENT_ROLE0_TASKS")]) == [-1, -1]
    assert _most(expand(organisation(1000)), shared) == [-1, -1, -1]


def test_ten_thousand_roles_are_in_sync_with_themselves() -> None:
    org = organisation(10_000)
    desired = expand(org)
    assert len(desired.resources) == 50_005
    assert not plan(org, desired, live(desired))


def test_two_hundred_roles_are_applied(server: EmbeddedServer, tmp_path: Path) -> None:
    roles = [f"role{number}" for number in range(200)]
    manifest = f"org: genbrain\nroles: {roles}\n"
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(manifest)
        assert not scene.plan(scene.request(manifest))
        names = scene.ask("STREAM.NAMES")["streams"]
        assert len([name for name in names if not name.startswith("KV_")]) == 203


def test_a_plan_asks_for_each_stream_once_and_an_apply_writes_each_resource_once(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    """Counted for as many roles and for twice as many: what is not there for every role is there once."""
    with Scenario(server.url, tmp_path) as scene:
        tried: list[int] = []  # one of each kind, under a name of the tool's own
        for roles in (20, 40):
            manifest = f"org: genbrain\nroles: {[f'role{number}' for number in range(roles)]}\n"
            wish = scene.request(manifest)
            missing = len(scene.plan(wish).changes)
            with scene.requests() as requests:
                scene.apply(wish)
            creations = [request.verb for request in requests if ".CREATE." in request.verb]
            changed = Counter(verb for verb in creations if REHEARSAL_PREFIX not in verb)
            tried.append(len(creations) - changed.total())
            assert (changed.total(), set(changed.values())) == (missing - (1 if roles > 20 else 0), {1})
            with scene.requests() as requests:
                assert not scene.plan(wish)
            asked = Counter(request.verb.rpartition(".LIST")[0] or request.verb for request in requests)
            assert asked == {"INFO": 1, "STREAM": 1, "CONSUMER": roles + 3}
        assert tried[1] <= tried[0] < 20


def calls(work: Callable[[], Any]) -> int:
    """Return how many functions were called and generators resumed: a measure that no other process disturbs."""
    count = 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def _most(state: State[Resource], refs: list[Ref]) -> list[int]:
    return [state.resources[ref].config["max_consumers"] for ref in refs]
