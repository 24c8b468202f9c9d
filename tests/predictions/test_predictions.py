"""What `validate` and `plan` say that a server takes is what it takes, refuses and keeps.

Drawn settings and changes, which `make fuzz` tries at length; and settings that once failed in the middle of an apply.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cyborg_infra.core.desired.rules import OWN_RULES
from cyborg_infra.model.changes import Action
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.problems import ManifestInvalid, Problem
from cyborg_infra.model.units import HOUR, SECOND
from tests.predictions.cases import Case, Draw, smaller
from tests.predictions.draw import Bench, Miss, Tally, manifest, misses
from tests.support.scenario import Scenario
from tests.support.servers import VERSIONS

pytestmark = pytest.mark.versions

CASES = 300
SEED = 11
"""These cases, whoever runs them; `make fuzz` draws others."""


@pytest.fixture(scope="module", params=VERSIONS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Yield one server for all cases of a version."""
    with Bench(str(request.param), tmp_path_factory.mktemp("predictions")) as found:
        yield found


def test_what_is_called_applicable_is_taken_and_kept_and_what_is_refused_is_refused(bench: Bench) -> None:
    *wrong, tally = misses(bench, SEED, range(CASES))
    assert "\n".join(map(str, wrong)) == ""
    assert isinstance(tally, Tally)
    assert min(tally.taken, tally.refused) > CASES / 3  # both ways are tried
    assert tally.ours < CASES / 5


def _case(*settings: tuple[dict[str, Any], dict[str, Any]]) -> Case:
    return tuple({Kind.STREAM: tasks, Kind.CONSUMER: worker} for tasks, worker in settings)


# fmt: off
ONCE_WRONG: tuple[Case, ...] = (
    _case(({"consumer_limits": {"inactive_threshold": SECOND}}, {}), ({"consumer_limits": {"max_ack_pending": 2000}}, {})),
    _case(({}, {}), ({"consumer_limits": {"max_ack_pending": 2000}}, {"inactive_threshold": HOUR})),
    _case(({"consumer_limits": {"max_ack_pending": 2000}}, {"max_ack_pending": 0})),
    _case(({"consumer_limits": {"max_ack_pending": 2000}}, {"max_ack_pending": 1000})),
    _case(({"sources": [{"name": "ORIGIN"}, {"name": "COPY"}]}, {}), ({"sources": [{"name": "COPY"}, {"name": "ORIGIN"}]}, {})),
    _case(({"sources": [{"name": "NOBODYS"}], "duplicate_window": 0}, {})),
    _case(({"mirror": {"name": "ORIGIN"}, "subjects": [], "duplicate_window": 1}, {})),
    _case(({"max_age": SECOND, "duplicate_window": 0}, {})),
    _case(({"republish": {"src": ">", "dest": ">"}, "subjects": ["free.a"], "subject_transform": {"src": "free.a", "dest": "stored"}}, {"filter_subject": ""})),
    _case(({"republish": {"src": "", "dest": "copy.>"}}, {})),
    _case(({"subject_transform": {"src": "acme.*.*.tasks", "dest": "copy.{{left(1,2)}}"}}, {})),
    _case(({"allow_batched": False}, {})),
    _case(({}, {"max_bytes": -1})),
    _case(({"subjects": []}, {"filter_subject": ""})),
    _case(({}, {"deliver_subject": "push.here", "ack_policy": "none"})),
    _case(({}, {}), ({}, {"filter_subject": "acme.>"})),
)
"""What `make fuzz` has found, as small as it gets."""
# fmt: on


@pytest.mark.parametrize("number", range(len(ONCE_WRONG)))
def test_what_was_predicted_wrongly_once_is_right(bench: Bench, number: int) -> None:
    assert bench.wrong(ONCE_WRONG[number], number) is None


def test_an_apply_sends_the_requests_that_permissions_are_predicted_from(bench: Bench) -> None:
    """The same through the whole of apply, which replaces without losing anything: nothing fails, and nothing is left."""
    applied = 0
    for number in range(500, 620):
        setting = Draw(SEED, number).case()[0]
        text = json.dumps({"org": "acme", "roles": {"base": _manifest_of(setting)}}, ensure_ascii=False)
        applied += _applied(bench.scene, text)
    bench.scene.converge('{"org": "acme", "roles": ["base"]}')
    assert applied > 3


def _manifest_of(setting: Any) -> Any:
    (role,) = json.loads(manifest(0, setting))["roles"].values()
    return json.loads(json.dumps(role).replace("r0", "base").replace("AGENT_R0_TASKS", "AGENT_BASE_TASKS"))


def _applied(scenario: Scenario, text: str) -> bool:
    try:
        wish = scenario.request(text)
    except ManifestInvalid:
        return False
    plan = scenario.plan(wish)
    if plan.blocking_problems or any(
        change.action is Action.REPLACE and not change.ref.consumer for change in plan.changes
    ):
        return False  # moving a stream takes seconds: tests/server/migrate/test_migration.py
    scenario.converge(text)
    assert not scenario.plan(scenario.request(text))
    return True


# fmt: off
REFUSED: tuple[dict[str, Any], ...] = (
    {"tasks": {"max_age": "50ms"}},
    {"tasks": {"allow_msg_counter": True, "discard": "new"}},
    {"tasks": {"allow_msg_counter": True, "allow_msg_ttl": True}},
    {"tasks": {"allow_msg_counter": True, "retention": "workqueue"}},
    {"tasks": {"persist_mode": "async", "storage": "memory"}},
    {"tasks": {"subject_delete_marker_ttl": "500ms"}},
    {"tasks": {"deny_purge": True, "allow_rollup_hdrs": True}},
    {"tasks": {"mirror": {"name": "X"}, "subjects": [], "first_seq": 5}},
    {"tasks": {"sources": [{"name": "AGENT_CTO_TASKS"}]}},
    {"tasks": {"sources": [{"name": "X"}, {"name": "X"}]}},
    {"tasks": {"republish": {"src": ">", "dest": "copy"}}},
    {"tasks": {"subject_transform": {"src": "acme.agents.*.tasks", "dest": "copy.{{nope(1)}}"}}},
    {"tasks": {"subjects": ["$SYS.foo", "acme.agents.cto.tasks"]}},
    {"worker": {"idle_heartbeat": "5s"}},
    {"worker": {"rate_limit_bps": 1000}},
    {"worker": {"flow_control": True, "deliver_subject": "p.cto"}},
    {"worker": {"deliver_subject": "p.*"}},
    {"worker": {"sample_freq": "abc"}},
    {"worker": {"max_expires": "1ns"}},
    {"worker": {"priority_timeout": "1m"}},
    {"worker": {"priority_groups": ["a b"]}},
    {"worker": {"priority_groups": ["a b"], "priority_policy": "overflow"}},
    {"worker": {"priority_groups": ["first"]}},
    {"worker": {"priority_policy": "overflow"}},
    # The old would be gone by the time that the server refuses the new.
    {"tasks": {"retention": "workqueue", "subject_transform": {"src": "acme.agents.*.tasks", "dest": "copy.{{nope(1)}}"}}},
    {"tasks": {"storage": "memory", "persist_mode": "async"}},
    {"worker": {"max_waiting": 100, "rate_limit_bps": 1000}},
)
"""Settings that the server refuses, of a new role and of one that lives."""

REFUSED_TO_NEW_ONES: tuple[dict[str, Any], ...] = ({"tasks": {"mirror_direct": True}}, {"tasks": {"sealed": True}})
"""Settings that it takes of one that lives alone."""
# fmt: on


def against(scenario: Scenario, role: str, setting: dict[str, Any]) -> tuple[Problem, ...]:
    """Return what `validate` or `plan` has against a role that is set so."""
    text = (
        json.dumps({"org": "acme", "roles": {role: setting}})
        .replace("cto", role)
        .replace("CTO", role.upper())
    )
    try:
        return scenario.plan(scenario.request(text)).blocking_problems
    except ManifestInvalid as error:
        return error.problems


@pytest.mark.parametrize("setting", [*REFUSED, *REFUSED_TO_NEW_ONES], ids=json.dumps)
def test_a_new_role_is_refused_before_the_first_write(bench: Bench, setting: dict[str, Any]) -> None:
    problems = against(bench.scene, "cto", setting)
    assert problems
    assert not {problem.code for problem in problems} & OWN_RULES.keys()
    assert all(problem.where and problem.where.column > 1 and problem.hint for problem in problems)


@pytest.mark.parametrize("setting", REFUSED, ids=json.dumps)
def test_a_change_is_refused_before_the_first_write(bench: Bench, setting: dict[str, Any]) -> None:
    problems = against(bench.scene, "base", setting)
    assert problems
    assert not {problem.code for problem in problems} & OWN_RULES.keys()


def test_a_case_that_does_not_hold_is_told_by_the_least_of_it() -> None:
    """Whatever is dropped from a case, what is left is smaller: shrinking ends."""
    case = Draw(SEED, 3).case()
    for less in smaller(case):
        assert len(str(less)) < len(str(case))
    assert str(Miss(case, 3, "because")).startswith("case 3: because\n")
