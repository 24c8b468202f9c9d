"""What is told of alarms and dead letters. Times are unix seconds by the clock of whoever tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cyborg_infra.model.dead_letters import DeadLetter
from cyborg_infra.model.status import Alarm
from cyborg_infra.model.valueclass import NamedTuple


class Turn(StrEnum):
    """What has become of an alarm that is told."""

    BEGUN = "begun"
    SPREAD = "spread"  # it holds of more than it was told of
    LASTING = "lasting"
    OVER = "over"


class AlarmTurn(NamedTuple):
    """An alarm that began, lasts or is over, and since when it has lasted, in seconds."""

    turn: Turn
    alarm: Alarm
    lasted: float


@dataclass(frozen=True, slots=True)
class Episode:
    """An alarm from its beginning until it has not come back for a while after its end."""

    alarm: Alarm  # with its newest message
    since: float
    told_at: float | None = None  # when it was told last; None if it was not yet
    parts: frozenset[str] = frozenset()  # of what it was told
    gone_since: float | None = None
    over: bool = False  # its end was told
    returns: int = 0  # how often it came back lately


@dataclass(frozen=True, slots=True)
class Notification:
    """What one role's alarms, or some dead letters, come to: one message to each receiver. `role` is empty for the organisation."""

    role: str
    turns: tuple[AlarmTurn, ...] = ()
    letters: tuple[DeadLetter, ...] = ()
    more: int = 0  # dead letters that wait besides


class NotificationKind(StrEnum):
    """What receivers that have colours or sounds for it make of a message."""

    FAILURE = "failure"
    WARNING = "warning"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class Message:
    """A notification as it is delivered. Whoever gets it twice, after something was killed, knows it by `id`."""

    id: str
    title: str
    body: str
    kind: NotificationKind = NotificationKind.FAILURE
    letters: tuple[str, ...] = ()  # the dead letters that it tells of, by what tells them from others
    about: str = ""  # the one receiver that it does not go to: it is about that


class ReceiverStatus(NamedTuple):
    """How it goes with one receiver since the monitor began; `reason` is why the last try failed, empty if it did not."""

    name: str
    delivered: int
    failed: int  # tries; a message is tried until it is taken
    waiting: int
    failing: bool = False  # several tries in a row have failed
    reason: str = ""
