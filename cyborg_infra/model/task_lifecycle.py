"""The statuses of a task, and the transitions between them."""

from __future__ import annotations

from enum import StrEnum

from cyborg_infra.model.valueclass import NamedTuple


class TaskStatus(StrEnum):
    """Where a task stands, as its messages write it."""

    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    IN_PROGRESS = "in_progress"
    COMPLETED_UNVERIFIED = "completed_unverified"
    COMPLETED = "completed"
    REJECTED = "rejected"
    FAILED = "failed"


class StatusChange(NamedTuple):
    """One allowed transition, and when it is taken."""

    before: TaskStatus
    after: TaskStatus
    when: str


INITIAL_STATUS = TaskStatus.ASSIGNED
"""Publishing the task is what makes it so."""

STATUS_CHANGES = (
    StatusChange(TaskStatus.ASSIGNED, TaskStatus.ACCEPTED, "acknowledged within the SLA"),
    StatusChange(TaskStatus.ASSIGNED, TaskStatus.REJECTED, "it needs another assignee"),
    StatusChange(TaskStatus.ACCEPTED, TaskStatus.IN_PROGRESS, "work begins"),
    StatusChange(TaskStatus.ACCEPTED, TaskStatus.FAILED, "it cannot be done"),
    StatusChange(TaskStatus.IN_PROGRESS, TaskStatus.IN_PROGRESS, "how far it has come"),
    StatusChange(TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED_UNVERIFIED, "done, review pending"),
    StatusChange(TaskStatus.IN_PROGRESS, TaskStatus.FAILED, "it cannot be done"),
    StatusChange(TaskStatus.COMPLETED_UNVERIFIED, TaskStatus.COMPLETED, "approved"),
    StatusChange(TaskStatus.COMPLETED_UNVERIFIED, TaskStatus.IN_PROGRESS, "the review found something"),
)


def next_statuses(status: TaskStatus) -> tuple[TaskStatus, ...]:
    """Return what may come right after `status`; nothing once the task has ended."""
    return tuple(step.after for step in STATUS_CHANGES if step.before is status)
