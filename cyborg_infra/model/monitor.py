"""What the monitor knows of an organisation at one moment. Times are unix seconds by the clock of the machine that it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cyborg_infra.model.changes import Action
from cyborg_infra.model.dead_letters import DeadLetter
from cyborg_infra.model.notifications import ReceiverStatus
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.status import ALARMS, Alarm, Condition, OrgStatus
from cyborg_infra.model.valueclass import NamedTuple


@dataclass(frozen=True, slots=True)
class DriftReading:
    """What the newest plan that could be made says: what somebody has changed, and what the manifest wants besides.

    A change by somebody of what the manifest has changed too counts as drift.
    """

    checked_at: float  # when that plan was made
    drifted: Mapping[Action, int] = field(default_factory=dict)  # every action, 0 for none
    pending: Mapping[Action, int] = field(default_factory=dict)  # the same, of what nobody has applied yet
    orphans: int = 0  # owned and no longer in the manifest
    hazards: int = 0  # of all changes
    has_drift: bool = False  # also where nothing of the organisation is left
    applied_at: float | None = None  # of the last apply; None if the account does not remember one
    applied_by: str = ""  # the version of cyborg-infra that it was applied with
    # Whether that apply came to its end; None if the account does not remember one.
    complete: bool | None = None


@dataclass(frozen=True, slots=True)
class WatchedLetter:
    """A dead letter with the task that its message names; the message itself, which may be large, is not kept."""

    letter: DeadLetter
    task_id: str = ""
    title: str = ""
    replays_to: str = ""  # the subject; empty if it cannot be replayed, or if nobody knows


class Attempts(NamedTuple):
    """How many succeeded and failed since the monitor began."""

    done: int = 0
    failed: int = 0


NO_ATTEMPTS = Attempts()


@dataclass(frozen=True, slots=True)
class Observation:
    """The newest readings. What could not be read is None, and never what was read before."""

    org: str
    environment: str | None
    status: OrgStatus | None = None  # None before the first reading, and once the newest one failed
    read_at: float | None = None  # of the last reading that succeeded
    read_seconds: float | None = None  # how long that took
    problem: Problem | None = None  # why the newest reading failed
    drift: DriftReading | None = None  # None before the first plan, and once the newest one failed
    drift_problem: Problem | None = None  # why the newest plan failed
    alarms: tuple[Alarm, ...] = ()  # all that are active now, as far as `told` goes
    readings: Attempts = NO_ATTEMPTS
    plans: Attempts = NO_ATTEMPTS
    dead_letters: tuple[WatchedLetter, ...] = ()  # the newest ones, newest first
    receivers: tuple[ReceiverStatus, ...] = ()  # those who are told

    @property
    def told(self) -> frozenset[Condition]:
        """The alarms that this observation can tell of: of another code it says neither that it lasts nor that it has ended."""
        unknown = {
            *(ALARMS if self.status is None else ()),
            *((Condition.DRIFT,) if self.drift is None else ()),
        }
        return frozenset(each for each in Condition if each.alarm and each not in unknown)
