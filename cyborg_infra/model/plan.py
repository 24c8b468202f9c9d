"""The difference between two States, and what may be done about it: a plain value that renders and runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, NamedTuple

from cyborg_infra.model.buckets import LEASES, bucket_stream
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.state import Facts, Limits, Question, Ref, Resource, State
from cyborg_infra.model.valueclass import valueclass


class Action(StrEnum):
    """What happens to one resource."""

    CREATE = "create"
    ADOPT = "adopt"  # exists unowned under the name: marked, and updated where it differs
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    IMPOSSIBLE = "impossible"


class Cause(StrEnum):
    """Why live and desired differ."""

    PENDING = "pending"  # the manifest has changed since the last apply
    DRIFT = "drift"  # somebody changed the server
    BOTH = "pending and drift"


class HazardName(StrEnum):
    """What a change may cost; the word that `--allow` takes."""

    DELETES_MESSAGES = "deletes-messages"
    RESETS_PROGRESS = "resets-progress"
    STOPS_CAPTURE = "stops-capture"
    REPEATS_WORK = "repeats-work"
    MASS_CHANGE = "mass-change"


@valueclass(frozen=True, slots=True)
class Hazard:
    """One cost of one change. `exact` is false where `count` is an upper bound; bytes 0 where they are not known.

    `questions` are the readings that make it exact, or tell its bytes; none where no reading can.
    """

    name: HazardName
    reason: str  # "1,204 messages (3.1 MiB) older than 24h"
    count: int = 0
    bytes: int = 0
    exact: bool = True
    questions: tuple[Question, ...] = ()


class FieldChange(NamedTuple):
    """One field, before and after, in wire form; None where the field is absent. `reason` if it forces more than an update."""

    field: str
    before: Any
    after: Any
    reason: str | None = None


@valueclass(frozen=True, slots=True)
class Change:
    """One action on one resource. `before` or `after` is present. `needs` must be done first, where it is in the plan.

    A replace may give it another name: then `before` and `after` have different refs.
    """

    action: Action
    before: Resource | None
    after: Resource | None
    fields: tuple[FieldChange, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    cause: Cause = Cause.PENDING
    needs: tuple[Ref, ...] = ()
    problems: tuple[Problem, ...] = ()  # why it is impossible
    reason: str = ""  # why this action, in one clause; empty where it is plain
    carried: bool = (
        False  # a replaced stream with its messages; a consumer that goes on where a placeholder stands
    )
    via: Ref | None = None  # of such a stream: the one that holds its messages meanwhile
    readers: Mapping[str, Resource] = field(
        default_factory=dict
    )  # name of its consumer now -> the desired one that shall stand where it does
    ref: Ref = field(init=False, repr=False, compare=False)  # what is changed: asked for two dozen times

    def __post_init__(self) -> None:
        resource = self.after or self.before
        if resource is None:
            raise ValueError("a change has a before or an after")
        object.__setattr__(self, "ref", resource.ref)

    @property
    def place(self) -> Ref:
        """What is there now, under whichever name, or would be."""
        return self.before.ref if self.before else self.ref


@valueclass(frozen=True, slots=True)
class Plan:
    """Everything that apply needs to decide. Falsy when the server matches the manifest.

    `base` maps every live resource that the plan looked at to a digest of its configuration: the plan holds
    for that state alone. `desired` is what it leads to.
    """

    org: str
    changes: tuple[Change, ...] = ()
    orphans: tuple[Resource, ...] = ()  # owned, no longer in the manifest, and not pruned by this plan
    problems: tuple[Problem, ...] = ()  # what stops the plan as a whole, or stands in the way of it
    notes: tuple[str, ...] = ()  # true things worth knowing; they stop nothing
    base: Mapping[Ref, str] = field(default_factory=dict)
    desired: State = field(default_factory=State)
    facts: Facts | None = None
    environment: str | None = None
    targets: tuple[str, ...] = ()
    prune: bool = False
    unchanged: int = 0
    whole: tuple[Hazard, ...] = ()  # hazards of the plan as a whole, not of one change
    live: State | None = field(
        default=None, repr=False, compare=False
    )  # what it was made from, unless it was saved

    def __bool__(self) -> bool:
        return bool(self.changes or self.problems)

    def holds_for(self, live: State) -> bool:
        """Whether the same would be planned now, as far as that is known without planning it.

        It only creates, in an account without limits, and all there is as it was, but for the bucket of our own lease.
        """
        if self.live is None or any(change.before for change in self.changes):
            return False
        then, now = self.live.facts, live.facts
        return (
            then is not None
            and now is not None
            and then.limits.without_usage() == now.limits.without_usage() == Limits()
            and then._replace(limits=Limits()) == now._replace(limits=Limits())
            and _without_lease(self.live) == _without_lease(live)
        )

    @property
    def hazards(self) -> tuple[Hazard, ...]:
        """Every hazard of every change, in order, and then those of the plan as a whole."""
        return (*(hazard for change in self.changes for hazard in change.hazards), *self.whole)

    @property
    def questions(self) -> frozenset[Question]:
        """What to measure, so that the hazards become exact."""
        return frozenset(question for hazard in self.hazards for question in hazard.questions)

    @property
    def impossible(self) -> tuple[Problem, ...]:
        """Every reason why this plan cannot be applied at all."""
        return self.problems + tuple(problem for change in self.changes for problem in change.problems)

    def count(self, *actions: Action) -> int:
        """How many changes have one of these actions."""
        return sum(change.action in actions for change in self.changes)


def _without_lease(live: State) -> dict[Ref, Resource]:
    lease = Ref(bucket_stream(LEASES))
    return {ref: found for ref, found in live.resources.items() if ref != lease}


class Done(StrEnum):
    """How a change ended."""

    DONE = "done"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@valueclass(frozen=True, slots=True)
class Outcome:
    """How one change of a plan ended; one per change, always. `problem` if it failed."""

    change: Change
    done: Done
    problem: Problem | None = None
