"""What the page consists of: each part as it is shown, in words, and which part of an organisation a page is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cyborg_infra.model.status import CRITICAL, Condition
from cyborg_infra.monitor.page.chart import Chart


class Severity(StrEnum):
    """How bad something is: each has a colour and a shape of its own."""

    CRITICAL = "critical"
    WARNING = "warning"
    WORKING = "working"
    IDLE = "idle"
    GOOD = "good"
    UNKNOWN = "unknown"


def severity_of(condition: Condition) -> Severity:
    """Return how bad a state or an alarm is."""
    if condition is Condition.WORKING:
        return Severity.WORKING
    if condition is Condition.IDLE:
        return Severity.IDLE
    return Severity.CRITICAL if condition in CRITICAL else Severity.WARNING


@dataclass(frozen=True, slots=True)
class View:
    """Which part of the organisation is asked for: all that matters, one role, or the roles in a state, a part at a time."""

    role: str = ""
    state: Condition | None = None
    part: int = 1


OVERVIEW = View()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text; `typed` if it is what one types."""

    text: str
    typed: bool = False


Text = Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Link:
    """A place on this page, or on another part of it."""

    text: str
    address: str
    severity: Severity = Severity.IDLE
    is_here: bool = False


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One alarm. `role` is left out of the message, and `address` is empty, where it is no role's."""

    key: str
    role: str
    address: str
    message: Text


@dataclass(frozen=True, slots=True)
class AlarmGroup:
    """The alarms with one code, the first ones of them in words, and what to do about them."""

    code: str
    severity: Severity
    rows: Sequence[AlarmRow]
    hidden: int
    address: str  # of the roles in this state; empty where it is no state
    remedy: Text


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue as it is shown. `heads` if it is the first of its role."""

    role: str
    address: str
    heads: bool
    channel: str
    state: Condition
    severity: Severity
    waiting: str
    above: bool  # more wait than `lag` allows
    oldest: str
    in_flight: str
    expired: bool
    again: str
    workers: str
    active: str

    @property
    def key(self) -> str:
        """What tells it from other rows."""
        return f"queue/{self.role}/{self.channel}"


@dataclass(frozen=True, slots=True)
class BroadcastRow:
    """A broadcast, and who has not acknowledged it."""

    key: str
    name: str
    severity: Severity
    age: str
    said: str
    is_late: bool


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A dead letter, and what one types to have it handled."""

    key: str
    number: int
    role: str
    address: str
    at: str
    age: str
    task_id: str
    title: str
    why: str
    place: str
    command: str
    note: str


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A stream and the limit of it that is nearest."""

    name: str
    severity: Severity
    percent: int
    limit: str
    holds: str


@dataclass(frozen=True, slots=True)
class DriftRow:
    """What a plan said, and when it was applied."""

    severity: Severity
    said: Text
    checked_at: str = ""
    applied_at: str = ""
    applied: str = ""


@dataclass(frozen=True, slots=True)
class PageValues:
    """All of it."""

    org: str
    environment: str
    title: str
    severity: Severity
    headline: str
    why: Text  # the server cannot be read
    server: str
    read_at: str
    view: View
    alarms: Sequence[AlarmGroup]
    known: bool  # something was read: there are queues to show
    states: Sequence[Link]
    queues: Sequence[QueueRow]
    queues_note: str
    parts: Sequence[Link]
    role: Sequence[tuple[str, str, Sequence[Link]]]
    broadcasts: Sequence[BroadcastRow]
    letters: Sequence[LetterRow]
    letters_count: str
    letters_note: Text
    streams: Sequence[StreamRow]
    streams_note: str
    chart: Chart | None
    chart_severities: Mapping[str, Severity]
    chart_says: Sequence[str]
    drift: DriftRow | None
    notes: Sequence[Text]
