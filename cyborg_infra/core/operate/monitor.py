"""Judge what only the monitor knows: what a plan says of drift, and which alarms are active besides those of a status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from cyborg_infra.model.changes import Action, Cause
from cyborg_infra.model.monitor import DriftReading
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.status import Alarm, Condition
from cyborg_infra.model.wording import Command, worded


def drift_reading(plan: Plan, checked_at: float) -> DriftReading:
    """Return what a plan says of drift; it was made at `checked_at`, in unix seconds."""
    record = plan.server_info.applied_record if plan.server_info else None
    return DriftReading(
        checked_at,
        _counts(plan, drift=True),
        _counts(plan, drift=False),
        len(plan.orphans),
        len(plan.hazards),
        plan.has_drift,
        _unix_seconds(record.applied_at) if record else None,
        record.version if record else "",
        record.complete if record else None,
    )


def drift_alarms(drift: DriftReading | None) -> Iterator[Alarm]:
    """Yield the alarm that somebody has changed the server."""
    if drift is None or not drift.has_drift:
        return
    actions = ", ".join(f"{number:,} to {action}" for action, number in drift.drifted.items() if number)
    what = f"changed on the server since it was applied: {actions}" if actions else "nothing of it is there"
    yield Alarm(Condition.DRIFT, worded("{}; see {}", what, Command("drift")))


def unreadable_alarms(problem: Problem | None, failing_seconds: float, patience: float) -> Iterator[Alarm]:
    """Yield the alarm that the account cannot be read: readings have failed for `failing_seconds`, longer than `patience`."""
    if problem is not None and failing_seconds > patience:
        yield Alarm(Condition.UNREADABLE, problem.message)


def _counts(plan: Plan, *, drift: bool) -> Mapping[Action, int]:
    return {
        action: sum(
            change.action is action and (change.cause is not Cause.MANIFEST) is drift
            for change in plan.changes
        )
        for action in Action
    }


def _unix_seconds(time: str) -> float | None:
    """Return the unix seconds of a time in RFC 3339 with up to nine digits behind the second; None if it is none."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return None
