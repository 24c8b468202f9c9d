"""How an organisation is doing: its queues, broadcasts, dead letters and streams, and what is too much. Ages in nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from cyborg_infra.model.dead_letters import DeadLetter
from cyborg_infra.model.organisation import BROADCAST_ACK, Alerts
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Copy, LiveState, Unfinished
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.stored_messages import StoredMessage
from cyborg_infra.model.wording import Command, Option, worded

NEAR_LIMIT_SHARE = 0.9
"""The share of a limit that is an alarm: there is still time to do something."""


class Condition(StrEnum):
    """What a queue can be in and what can be wrong: one word, one meaning, one row each; the worst state first.

    Every output, schema and reference takes words and sentences from here. A queue's state is the first that holds
    of it. A message is in flight from its delivery until it is acknowledged, or delivered again.
    """

    means: str
    alarm: str  # from when on it is an alarm; empty if it never is
    remedy: str  # what to do about the alarm; what is typed stands in backticks
    is_state: bool  # of a queue
    is_monitors: bool  # no status tells it: it takes a plan, or somebody who goes on looking

    def __new__(
        cls,
        word: str,
        means: str,
        alarm: str = "",
        remedy: str = "",
        is_state: bool = True,  # noqa: FBT001, FBT002 - a column
        is_monitors: bool = False,  # noqa: FBT001, FBT002 - a column
    ) -> Self:
        """Return a row. The word is stable: for scripts."""
        self = str.__new__(cls, word)
        self._value_ = word
        self.means, self.alarm, self.remedy, self.is_state, self.is_monitors = (
            means,
            alarm,
            remedy,
            is_state,
            is_monitors,
        )
        return self

    # fmt: off
    NO_LEADER = ("no-leader", "No leader answers for a stream or consumer: nothing is stored, or nothing is delivered.", "at once", "bring back the servers that hold the stream")
    MISSING = ("missing", "A stream or consumer of the manifest is not on the server, or is another organisation's.", "at once", worded("`{}` shows what is missing, `{}` makes it", Command("plan"), Command("apply")))
    UNFINISHED = ("unfinished", "A change of the organisation is under way, or was interrupted: something is parked, paused or on its way.", "at once", worded("it says who applies; if nobody does, `{}` goes on from there. Publishers of a parked stream are refused until then", Command("apply")))
    PAUSED = ("paused", "A consumer is paused: it delivers nothing until the pause ends.", "at once", "somebody has paused the consumer; `nats consumer resume` ends it")
    AHEAD = ("ahead", "A consumer has got beyond the end of its stream, which has lost messages: what is stored there now is not handed out.", "at once", worded("`nats consumer rm STREAM CONSUMER`, then `{} {}`: the stream lost messages on its disk, and the consumer waits for numbers that are given out again. The plan says how many messages come again; what was lost is lost. Since nats-server 2.15 the server mends it at its start", Command("apply"), Option("allow", "repeats-work")))
    EXPIRED = ("expired", "All that is in flight is older than `ack_wait`, and nobody pulls: until somebody does there is neither a redelivery nor a dead letter.", "at once", "start the agent: the server looks for what has expired only when somebody pulls")
    STUCK = ("stuck", "Messages wait, workers wait, and nothing was delivered or acknowledged for longer than `ack_wait`.", "at once", "the agents ask and get nothing: look at the server")
    NO_WORKER = ("no-worker", "Messages wait, nothing is in flight, and nobody pulls.", "once the oldest has waited for longer than `ack_wait`", "start the agent")
    LAG = ("lag", "More messages wait in a queue of a role than `alerts.lag` allows.", "at once", "more agents, less work, or another threshold")
    WORKING = ("working", "Something is in flight, or waits and will be fetched.")
    IDLE = ("idle", "Nothing waits, and nothing is in flight.")
    REPLICAS = ("replicas", "A server's copies of streams or consumers are offline or not current: another loss may stop them.", "at once", 'bring the server back that it names. "At least" stands before the number until every leader has noticed, which takes some ten seconds. With three copies the others go on; one more loss, and they stand still', False)
    BROADCAST_ACK = ("broadcast-ack", "A role has not acknowledged a broadcast.", "once the broadcast is older than `alerts.broadcast_ack`", "look at the roles that it names", False)
    DEAD_LETTERS = ("dead-letters", "A role has dead letters that nobody has replayed or dropped.", "from the number in `alerts.dead_letters` on", worded("`{}`; replay or drop them. One that is kept is still to be handled: cron keeps, and so does an `apply`", Command("dlq list")), False)
    GIVEN_UP = ("given-up", "Messages of a workqueue used up their deliveries, and keep their place in it.", "at once", worded("`{}` too; until then they take places of the workqueue", Command("dlq")), False)
    UNMATCHED_SUBJECT = ("unmatched-subject", "Messages are stored under a subject that no consumer of their stream reads: nobody will be handed them.", "at once", "read them with a `filter_subjects` of a consumer, or delete them and store no more; `validate` warns of it by the same code, and where the manifest ignores the warning there is no alarm", False)
    NEAR_LIMIT = ("near-limit", "A limit of a stream is nearly used up: messages are about to be refused, or deleted unread.", "from 90% on", "`discard: old` and `max_age` delete what somebody has still to read, `discard: new` refuses what comes: read it, or raise the limit", False)
    UNREADABLE = ("unreadable", "The monitor cannot read the account: nothing is known of the organisation.", "once readings have failed for longer than an interval, or half a minute", "it says why: bring the server back, or give the monitor its rights back", False, True)
    DRIFT = ("drift", "The server is no longer as it was applied: somebody has changed it.", "at once", worded("`{}` shows what was changed; `{}` undoes it, or the manifest takes it over", Command("drift"), Command("apply")), False, True)
    NOTIFICATION = ("notification", "A receiver of notifications does not take what it is told, or dead letters cannot be read to be told.", "after the retries", "it says which receiver, and what it answered; the others are told, and dead letters that nobody took are kept", False, True)
    # fmt: on


STATES = tuple(each for each in Condition if each.is_state)
ALARMS = tuple(each for each in Condition if each.alarm and not each.is_monitors)
"""What a status tells of."""
MONITOR_ALARMS = tuple(each for each in Condition if each.is_monitors)
"""What only the monitor tells of, besides those of a status."""
CRITICAL = frozenset(
    {
        Condition.NO_LEADER,
        Condition.MISSING,
        Condition.AHEAD,
        Condition.EXPIRED,
        Condition.STUCK,
        Condition.UNREADABLE,
    }
)
"""The alarms at which work stands still; the others are warnings."""


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """One of a role's queues: what its consumer has still to do. Numbers are None where they could not be read."""

    channel: str  # tasks, inbox or events
    ref: Ref
    state: Condition
    waiting: int | None = None  # stored, not delivered yet
    in_flight: int | None = None  # delivered, not acknowledged
    expired: int | None = None  # of these, those whose ack_wait is over while nobody pulls; all or none
    redelivered: int | None = None  # of these, at most so many that were delivered before
    # Pull requests that wait for a message; 1 for a push consumer that is listened to.
    workers: int | None = None
    oldest_waiting: int | None = None  # age of the oldest message that waits
    # Since the last delivery, "in progress" or acknowledgement that the server remembers.
    last_activity: int | None = None
    paused: bool = False
    lag_threshold: int = 0  # more than so many waiting are an alarm


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """A role: its queues, and the worst of their states."""

    name: str
    state: Condition
    queues: tuple[QueueStatus, ...]


class BroadcastReceipt(StrEnum):
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
class MessageTime:
    """A message in a stream: its sequence number, and when it was stored."""

    seq: int
    at: str


@dataclass(frozen=True, slots=True)
class StoredBroadcast(MessageTime):
    """A broadcast, to all or to a group."""

    stream: Ref
    subject: str


@dataclass(frozen=True, slots=True)
class BroadcastStatus:
    """One broadcast, and what every role that it is meant for has made of it; the group that it is meant for, if that is not all."""

    seq: int
    age: int
    answers: Mapping[str, BroadcastReceipt]
    stream: Ref
    group: str = ""

    def __str__(self) -> str:
        return f"{self.seq} to {self.group}" if self.group else str(self.seq)

    def roles(self, answer: BroadcastReceipt) -> list[str]:
        """Return the roles with this answer, in the manifest's order."""
        return [role for role, given in self.answers.items() if given is answer]

    def late(self, alerts: Alerts) -> set[str]:
        """Return the roles that should have acknowledged it by now."""
        return {role for role in self.answers if self.is_late(role, alerts)}

    def is_late(self, role: str, alerts: Alerts) -> bool:
        """Return whether this role should have acknowledged it by now."""
        return self.age > alerts.of(BROADCAST_ACK, role)


@dataclass(frozen=True, slots=True)
class DeadLetterSummary:
    """How many there are, whether or not somebody has looked at them, and the newest."""

    count: int | None
    newest: DeadLetter | None = None
    newest_age: int | None = None
    recent: tuple[DeadLetter, ...] = ()  # the newest ones, newest first, each entry without its message


@dataclass(frozen=True, slots=True, order=True)
class LimitUsage:
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
    fill: LimitUsage | None = None  # of the limit that is nearest
    # The same for what a consumer has still to read: above 1.0 it is dropped unread.
    unread: LimitUsage | None = None
    given_up: int | None = None  # workqueue: messages that used up their deliveries and keep their place
    leader: bool = True
    replicas: int | None = None  # copies that there shall be
    replicas_behind: int | None = None  # of these, those that are offline or not current


@dataclass(frozen=True, slots=True)
class Alarm:
    """One threshold exceeded or condition found, with its stable code.

    `message` has numbers in it that change while it lasts. `role` and `about` do not: two readings tell of the same alarm
    if code, role and `about` are the same.
    """

    code: Condition
    message: str
    role: str = ""  # empty where it is no role's, or several roles'
    about: str = ""  # the queue, stream, consumer, server or broadcast; empty where the code says it all
    parts: frozenset[str] = field(default=frozenset(), compare=False)
    """All that it holds of, where that is more than one thing: the message names the first of them."""

    @property
    def key(self) -> tuple[Condition, str, str]:
        """What tells it from others for as long as it lasts."""
        return self.code, self.role, self.about

    def __str__(self) -> str:
        return worded("{}: {}", self.code, self.message)


@dataclass(frozen=True, slots=True)
class StatusReadings:
    """What was read of a server for a status. `unread` says why something is not in `live`."""

    live: LiveState
    unread: Mapping[Ref, Problem] = field(default_factory=dict)
    now: str = ""  # by the server's clock
    # Consumer -> the first message that waits for it.
    oldest: Mapping[Ref, MessageTime] = field(default_factory=dict)
    broadcasts: tuple[StoredBroadcast, ...] = ()  # the newest ones, oldest first
    letters: tuple[StoredMessage, ...] = ()  # the newest ones and the newest of each subject, newest first
    letters_since: str = ""  # the time from which on `letters` has them all; empty: all that there are
    letters_unread: Mapping[str, int] = field(default_factory=dict)  # subject -> those that `letters` lacks
    given_up: Mapping[Ref, int] = field(default_factory=dict)  # workqueue stream -> messages, read twice
    # Stream -> its subjects with their messages, where some may be read by nobody.
    subjects: Mapping[Ref, Mapping[str, int]] = field(default_factory=dict)
    behind: Mapping[Ref, tuple[Copy, ...]] = field(default_factory=dict)  # copies that stay so
    ahead: Mapping[Ref, int] = field(default_factory=dict)  # consumer -> the last number of its stream
    # What has a name of ours and is another organisation's, which `live` lacks -> whose.
    others: Mapping[Ref, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    # Who applies, and since when; empty is nobody; read where something is unfinished.
    applying: str | None = None


@dataclass(frozen=True, slots=True)
class OrgStatus:
    """How an organisation is doing; `alarms` is empty if all is well."""

    org: str
    environment: str | None
    server_info: ServerInfo | None
    now: str
    alerts: Alerts
    roles: tuple[RoleStatus, ...]
    broadcasts: tuple[BroadcastStatus, ...]  # newest first
    dead_letters: DeadLetterSummary
    streams: tuple[StreamStatus, ...]
    unfinished: Mapping[Ref, Unfinished]
    # Server -> what it has a copy of that is not current; empty is no server.
    behind: Mapping[str, tuple[Ref, ...]]
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the state of every role, and every alarm."""
        named = f"{self.org} ({self.environment})" if self.environment else self.org
        rest = (*(f"note: {note}" for note in self.notes),)
        lines = [
            *(f"{role.name}: {role.state}" for role in self.roles),
            *(f"! {alarm}" for alarm in self.alarms),
        ]
        return "\n".join((f"{named}, alarms: {len(self.alarms)}", *(f"  {line}" for line in (*lines, *rest))))
