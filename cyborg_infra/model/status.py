"""How an organisation is doing: its queues, broadcasts, dead letters and streams, and what is too much. Ages in nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cyborg_infra.model.dead_letter import DeadLetter, Message
from cyborg_infra.model.org import Alerts
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.state import Facts, Ref, State


class QueueState(StrEnum):
    """What becomes of the messages of a queue, the worst first; the first that holds is the state.

    A message is in flight from its delivery until it is acknowledged, or delivered again.
    """

    STUCK = "stuck"
    """It does not go on by itself: its stream or consumer has no leader; it is paused while something waits or is in
    flight; everything in flight has expired and nobody pulls; or something waits for workers that are connected, and
    nothing moved for longer than ack_wait."""
    ABSENT = "absent"
    """Something waits, nothing is in flight and nobody pulls; or the queue does not exist. An inbox or event queue is
    not absent while the role works on a task: an agent reads its inbox between tasks."""
    BEHIND = "behind"
    """More messages wait than the lag threshold allows."""
    WORKING = "working"
    """Something is in flight, or waits and will be fetched."""
    IDLE = "idle"
    """Nothing waits, nothing is in flight."""


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """One of a role's queues: what its consumer has still to do. Numbers are None where they could not be read."""

    channel: str  # tasks, inbox or events
    ref: Ref
    state: QueueState
    waiting: int | None = None  # stored, not delivered yet
    in_flight: int | None = None  # delivered, not acknowledged
    expired: int | None = None  # of these, those whose ack_wait is over while nobody pulls; all or none
    redelivered: int | None = None
    workers: int | None = (
        None  # pull requests that wait for a message; 1 for a push consumer that is listened to
    )
    oldest_waiting: int | None = None  # age of the oldest message that waits
    last_activity: int | None = (
        None  # since the last delivery, "in progress" or acknowledgement that the server remembers
    )
    paused: bool = False


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """A role: its queues, and the worst of their states."""

    name: str
    state: QueueState
    queues: tuple[QueueStatus, ...]


class Answer(StrEnum):
    """What a role has made of a broadcast, as far as its consumer tells."""

    ACKNOWLEDGED = "acknowledged"
    """At or below the acknowledgement floor, or delivered while nothing is in flight; and no dead letter."""
    OPEN = "open"
    """Not delivered yet, or certainly in flight."""
    GIVEN_UP = "given up"
    """Terminated, or delivered as often as allowed: there is a dead letter of it."""
    UNKNOWN = "unknown"
    """Above the floor with others in flight: the API does not tell which of them are acknowledged."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a stream: its sequence number, and when it was stored."""

    seq: int
    at: str


@dataclass(frozen=True, slots=True)
class BroadcastStatus:
    """One broadcast, and what every role that it is meant for has made of it."""

    seq: int
    age: int
    answers: Mapping[str, Answer]

    def roles(self, answer: Answer) -> list[str]:
        """The roles with this answer, in the manifest's order."""
        return [role for role, given in self.answers.items() if given is answer]


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """How many there are, whether or not somebody has looked at them, and the newest."""

    count: int | None
    newest: DeadLetter | None = None
    newest_age: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class Fill:
    """Which share of a limit is used up; 1.0 is where messages are dropped or refused."""

    share: float
    limit: str  # max_msgs, max_bytes, max_msgs_per_subject or max_age
    reader: str = ""  # the consumer that has not read it


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A stream of the organisation and how full it is; None where it could not be read."""

    ref: Ref
    messages: int | None = None
    bytes: int | None = None
    fill: Fill | None = None  # of the limit that is nearest
    unread: Fill | None = (
        None  # the same for what a consumer has still to read: above 1.0 it is dropped unread
    )
    given_up: int | None = None  # workqueue: messages that used up their deliveries and keep their place
    leader: bool = True


class AlarmCode(StrEnum):
    """What can be too much, or does not go on by itself. Stable: for scripts."""

    NO_LEADER = "no-leader"
    """No leader answers for a stream or consumer: nothing is stored, or nothing delivered."""
    MISSING = "missing"
    """A stream or consumer of the manifest is not on the server."""
    PAUSED = "paused"
    """A consumer delivers nothing until its pause ends."""
    LAG = "lag"
    """More wait in a queue than `alerts.lag`."""
    EXPIRED = "expired"
    """In flight for longer than ack_wait, and nobody pulls: neither redelivery nor dead letter until somebody does."""
    STUCK = "stuck"
    """Messages wait, workers wait, and nothing moved for longer than ack_wait."""
    ABSENT = "absent"
    """The oldest message waits for longer than ack_wait, and no worker is there."""
    BROADCAST_ACK = "broadcast-ack"
    """A broadcast is older than `alerts.broadcast_ack`, and a role has not acknowledged it."""
    GIVEN_UP = "given-up"
    """Messages of a workqueue used up their deliveries and keep their place."""
    NEAR_LIMIT = "near-limit"
    """A limit is nearly used up: messages are about to be refused, or deleted unread."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is too much: which, and a sentence."""

    code: AlarmCode
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read of a server for a status. `unread` says why something is not in `live`."""

    live: State
    unread: Mapping[Ref, Problem] = field(default_factory=dict)
    now: str = ""  # by the server's clock
    oldest: Mapping[Ref, Stored] = field(
        default_factory=dict
    )  # consumer -> the first message that waits for it
    broadcasts: tuple[Stored, ...] = ()  # the newest ones, oldest first
    letters: tuple[Message, ...] = ()  # the newest ones, newest first
    letters_since: str = ""  # the time from which on `letters` has them all; empty: all that there are
    given_up: Mapping[Ref, int] = field(default_factory=dict)  # workqueue stream -> messages, read twice
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """How an organisation is doing; `alarms` is empty if all is well."""

    org: str
    environment: str | None
    facts: Facts | None
    now: str
    alerts: Alerts
    roles: tuple[RoleStatus, ...]
    broadcasts: tuple[BroadcastStatus, ...]  # newest first
    dead_letters: DeadLetters
    streams: tuple[StreamStatus, ...]
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...] = ()
