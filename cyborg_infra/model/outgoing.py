"""A message on its way to a stream: what is published where under which id, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref


class Destination(StrEnum):
    """What can be sent to, by the word of `send`."""

    TASK = "task"
    INBOX = "inbox"
    BROADCAST = "broadcast"
    GROUP_BROADCAST = "group-broadcast"


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task that somebody words on the command line. Without a `task_id` it gets a new one."""

    title: str
    type: str = "task"
    priority: str = "normal"
    description: str = ""
    assigned_by: str = "operator"
    task_id: str = ""
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A checked message, ready to publish. A stream stores one of all those with the same id."""

    kind: MessageKind
    id: str
    subject: str
    stream: Ref
    data: bytes


@dataclass(frozen=True, slots=True)
class SendResult:
    """A message and where it is stored; with a problem it is not, or nobody knows. Without either it was not reached."""

    message: OutgoingMessage
    sequence: int = 0
    duplicate: bool = False  # it was there already
    problem: Problem | None = None
