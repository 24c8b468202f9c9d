"""What only the monitor can tell: drift, and that nothing can be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cyborg_infra.core.operate.monitor import drift_alarms, drift_reading, unreadable_alarms
from cyborg_infra.model.changes import Action, Cause
from cyborg_infra.model.last_applied import AppliedRecord
from cyborg_infra.model.monitor import DriftReading, Observation
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.status import ALARMS, Condition
from tests.support.plan_examples import PLANS

LOST = Problem("connection-lost", "nobody answers")


@pytest.mark.parametrize("name", PLANS)
def test_every_change_of_a_plan_is_counted_once_by_its_action_and_cause(name: str) -> None:
    plan = PLANS[name]
    found = drift_reading(plan, 5.0)
    assert found.drifted.keys() == found.pending.keys() == set(Action)
    for action in Action:
        changes = [change for change in plan.changes if change.action is action]
        assert found.drifted[action] == sum(change.cause is not Cause.MANIFEST for change in changes)
        assert found.pending[action] == sum(change.cause is Cause.MANIFEST for change in changes)
    assert found.has_drift == plan.has_drift == (any(found.drifted.values()) or not plan.has_live_resources)
    assert (found.checked_at, found.orphans, found.hazards) == (5.0, len(plan.orphans), len(plan.hazards))


def test_what_the_account_remembers_of_the_last_apply_is_told() -> None:
    plan = next(plan for plan in PLANS.values() if plan.server_info)
    assert plan.server_info is not None
    facts = plan.server_info._replace(
        applied_record=AppliedRecord("0.9.0", complete=True, applied_at="2026-01-01T00:00:00.123456789Z")
    )
    found = drift_reading(replace(plan, server_info=facts), 5.0)
    assert found.applied_at == pytest.approx(1767225600.123)
    assert (found.applied_by, found.complete) == ("0.9.0", True)
    assert drift_reading(Plan("acme"), 5.0).applied_at is None


def test_drift_is_an_alarm_and_pending_changes_are_none() -> None:
    pending = DriftReading(0.0, {}, {Action.CREATE: 4})
    assert list(drift_alarms(None)) == list(drift_alarms(pending)) == []
    (alarm,) = drift_alarms(replace(pending, drifted={Action.UPDATE: 2, Action.DELETE: 0}, has_drift=True))
    assert (alarm.code, "2 to update" in alarm.message) == (Condition.DRIFT, True)
    (alarm,) = drift_alarms(replace(pending, has_drift=True))
    assert "nothing of it is there" in alarm.message


@pytest.mark.parametrize(
    ("problem", "seconds", "alarms"), [(None, 100.0, 0), (LOST, 10.0, 0), (LOST, 10.1, 1), (LOST, 900.0, 1)]
)
def test_an_account_that_cannot_be_read_is_an_alarm_once_that_lasts(
    problem: Problem | None, seconds: float, alarms: int
) -> None:
    assert len(list(unreadable_alarms(problem, seconds, 10.0))) == alarms


def test_without_a_reading_nobody_can_tell_whether_an_alarm_of_the_status_has_ended() -> None:
    assert Observation("acme", None).told == {Condition.UNREADABLE, Condition.NOTIFICATION}
    assert Observation("acme", None, drift=DriftReading(0.0)).told.isdisjoint(ALARMS)
