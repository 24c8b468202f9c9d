"""The life of a task: every status, and every step from one to the next. A law; watches no task itself."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """Where a task stands, as its messages write it."""

    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    IN_PROGRESS = "in_progress"
    COMPLETED_UNVERIFIED = "completed_unverified"
    COMPLETED = "completed"
    REJECTED = "rejected"
    FAILED = "failed"


class Step(NamedTuple):
    """One allowed transition, and when it is taken."""

    before: Status
    after: Status
    when: str


FIRST = Status.ASSIGNED
"""Publishing the task is what makes it so."""

STEPS = (
    Step(Status.ASSIGNED, Status.ACCEPTED, "acknowledged within the SLA"),
    Step(Status.ASSIGNED, Status.REJECTED, "it needs another assignee"),
    Step(Status.ACCEPTED, Status.IN_PROGRESS, "work begins"),
    Step(Status.ACCEPTED, Status.FAILED, "it cannot be done"),
    Step(Status.IN_PROGRESS, Status.IN_PROGRESS, "how far it has come"),
    Step(Status.IN_PROGRESS, Status.COMPLETED_UNVERIFIED, "done, review pending"),
    Step(Status.IN_PROGRESS, Status.FAILED, "it cannot be done"),
    Step(Status.COMPLETED_UNVERIFIED, Status.COMPLETED, "approved"),
    Step(Status.COMPLETED_UNVERIFIED, Status.IN_PROGRESS, "the review found something"),
)


def following(status: Status) -> tuple[Status, ...]:
    """What may come right after `status`; nothing once the task has ended."""
    return tuple(step.after for step in STEPS if step.before is status)
