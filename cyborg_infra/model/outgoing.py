"""A message on its way to a stream: what is published where under which id, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.state import Ref


class Channel(StrEnum):
    """What can be sent to, by the word of `send`."""

    TASK = "task"
    INBOX = "inbox"
    BROADCAST = "broadcast"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A checked message, ready to publish. A stream stores one of all those with the same id."""

    kind: MessageKind
    id: str
    subject: str
    stream: Ref
    data: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """A message and where it is stored; with a problem it is not, or nobody knows. Without either it was not reached."""

    message: Outgoing
    sequence: int = 0
    duplicate: bool = False  # it was there already
    problem: Problem | None = None
