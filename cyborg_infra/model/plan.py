"""The difference between two States, and what may be done about it: a plain value that renders and runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from cyborg_infra.model.buckets import TOOL_BUCKETS, bucket_stream
from cyborg_infra.model.changes import Action, Cause, Change, Hazard, HazardName
from cyborg_infra.model.counting import CountQuery
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, LiveResource, LiveState
from cyborg_infra.model.server import Limits, ServerInfo
from cyborg_infra.model.valueclass import NamedTuple, valueclass
from cyborg_infra.model.wording import Option, worded

_MOST_TOLD = 30
"""So many changes are told one by one where a plan is printed, and all that cost something."""

_MOST_ORPHANS = 3


class Reservation(NamedTuple):
    """What a plan reserves of one storage: the sum of max_bytes times replicas of what is created or grows.

    The account holds or has reserved `taken` bytes so far, and may have `most`; -1 for any number.
    """

    storage: str
    bytes: int
    taken: int
    most: int


@valueclass(frozen=True, slots=True)
class Plan:
    """Everything that apply needs to decide. Falsy when the server matches the manifest.

    `live_digests` maps every live resource that the plan looked at to a digest of its configuration: the plan holds
    for that state alone. `desired` is what it leads to.
    """

    org: str
    changes: tuple[Change, ...] = ()
    orphans: tuple[LiveResource, ...] = ()  # owned, no longer in the manifest, and not pruned by this plan
    problems: tuple[Problem, ...] = ()  # what stops the plan as a whole, or stands in the way of it
    notes: tuple[str, ...] = ()  # true things worth knowing; they stop nothing
    forbidden: tuple[Problem, ...] = ()  # what the user who planned may not do: somebody else may apply it
    live_digests: Mapping[Ref, str] = field(default_factory=dict)
    desired: DesiredState = field(default_factory=DesiredState)
    server_info: ServerInfo | None = None
    environment: str | None = None
    targets: tuple[str, ...] = ()
    prune: bool = False
    reserves: tuple[Reservation, ...] = ()
    # Consumer that is replaced -> what agents work on now.
    waits: Mapping[Ref, int] = field(default_factory=dict)
    unchanged_count: int = 0
    plan_hazards: tuple[Hazard, ...] = ()  # hazards of the plan as a whole, not of one change
    first: frozenset[Ref] = frozenset()  # is done before anything else
    last: frozenset[Ref] = frozenset()  # is done after everything, the deletions too
    # The subjects that the stream among the last stores from the beginning on.
    early_subjects: tuple[str, ...] = ()
    has_live_resources: bool = True  # something that the organisation owns is on the server
    # What to measure, so that the notes become exact.
    note_queries: tuple[CountQuery, ...] = field(default=(), repr=False, compare=False)
    # What it was made from, unless it was saved.
    live: LiveState | None = field(default=None, repr=False, compare=False)
    # What was asked for, unless it was saved.
    request: PlanRequest | None = field(default=None, repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.changes or self.problems)

    def is_valid_for(self, live: LiveState) -> bool:
        """Return whether the plan surely still holds for `live`, without planning again.

        It only creates, in an account without limits, and all there is as it was, but for the tool's own buckets.
        """
        if self.live is None or any(change.before for change in self.changes):
            return False
        then, now = self.live.server_info, live.server_info
        return (
            then is not None
            and now is not None
            and then.limits.without_usage() == now.limits.without_usage() == Limits()
            and then._replace(limits=Limits()) == now._replace(limits=Limits())
            and _without_own_buckets(self.live) == _without_own_buckets(live)
        )

    @property
    def hazards(self) -> tuple[Hazard, ...]:
        """Every hazard of every change, in order, and then those of the plan as a whole."""
        return (*(hazard for change in self.changes for hazard in change.hazards), *self.plan_hazards)

    @property
    def has_drift(self) -> bool:
        """Whether somebody changed the server, whatever else the manifest wants; or nothing of the organisation is there."""
        return not self.has_live_resources or any(
            change.cause is not Cause.MANIFEST for change in self.changes
        )

    @property
    def announced_redeliveries(self) -> Mapping[Ref, int]:
        """Old consumer -> how many messages may be handed out again when it is replaced, as the plan announces it."""
        return {
            change.current_ref: sum(
                hazard.count for hazard in change.hazards if hazard.name is HazardName.REPEATS_WORK
            )
            for change in self.changes
            if change.current_ref.consumer and (change.action is Action.REPLACE or change.preserves_messages)
        }

    @property
    def count_queries(self) -> frozenset[CountQuery]:
        """What to measure, so that the hazards and the notes become exact."""
        return frozenset(question for hazard in self.hazards for question in hazard.count_queries).union(
            self.note_queries
        )

    @property
    def blocking_problems(self) -> tuple[Problem, ...]:
        """Every reason why this plan cannot be applied at all."""
        return self.problems + tuple(problem for change in self.changes for problem in change.problems)

    def count(self, *actions: Action) -> int:
        """Return how many changes have one of these actions."""
        return sum(change.action in actions for change in self.changes)

    @property
    def rename_count(self) -> int:
        """How many of the replaces only give another name."""
        return sum(change.is_rename for change in self.changes)

    @property
    def summary(self) -> str:
        """The plan in one line, in Terraform's words; a replacement counts as one to add and one to destroy, unless it is a rename."""
        if not self and self.targets:
            roles = f"role{'s' * (len(self.targets) > 1)} {', '.join(self.targets)}"
            return f"No changes. What belongs to {roles} matches the manifest; nothing else was compared."
        if not self:
            return "No changes. Your infrastructure matches the manifest."
        renames = self.rename_count
        add = self.count(Action.CREATE, Action.REPLACE) - renames
        destroy = self.count(Action.DELETE, Action.REPLACE) - renames
        rest = ((renames, "rename"), (self.count(Action.ADOPT), "adopt"))
        more = "".join(f", {count} to {what}" for count, what in rest if count)
        return f"Plan: {add} to add, {self.count(Action.UPDATE)} to change, {destroy} to destroy{more}."

    def __str__(self) -> str:
        """Return the summary, and a line for each thing that somebody has to know: what costs something or cannot be done first."""
        costly = [str(change) for change in self.changes if change.hazards or change.problems]
        others = [str(change) for change in self.changes if not (change.hazards or change.problems)]
        first = [*map(str, self.plan_hazards), *map(str, self.problems), *costly]
        left = max(0, _MOST_TOLD - len(first))
        more = [f"and {len(others) - left:,} more"] if len(others) > left else []
        names = [str(found.ref) for found in self.orphans]
        orphans = ", ".join(names[:_MOST_ORPHANS]) + ", ..." * (len(names) > _MOST_ORPHANS)
        staying = (
            [worded("orphans that {} would delete: {} ({})", Option("prune"), len(names), orphans)]
            if names
            else []
        )
        lines = [*first, *others[:left], *more, *staying, *(f"note: {note}" for note in self.notes)]
        return "\n".join((self.summary, *(f"  {line}" for line in lines)))


@valueclass(frozen=True, slots=True)
class PlanRequest:
    """What the user asked for: a manifest's organisation or a saved plan, with `prune` and `targets`."""

    owner: str
    desired: DesiredState
    org: Org | None = None
    saved: Plan | None = None
    prune: bool = False
    targets: tuple[str, ...] = ()

    @property
    def environment(self) -> str | None:
        """The environment of the manifest that it is for."""
        if self.saved is not None:
            return self.saved.environment
        return self.org.environment if self.org else None

    def announced(self, plan: Plan) -> Plan:
        """Return the plan whose costs were reviewed: the saved one, or else the one that was just shown."""
        return plan if self.saved is None else self.saved


def _without_own_buckets(live: LiveState) -> dict[Ref, LiveResource]:
    own = {Ref(bucket_stream(bucket)) for bucket in TOOL_BUCKETS}
    return {ref: found for ref, found in live.resources.items() if ref not in own}


class ResultStatus(StrEnum):
    """The status of a change after an apply."""

    SUCCEEDED = "done"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@valueclass(frozen=True, slots=True)
class Outcome:
    """How one change of a plan ended; one per change, always. `problem` if it failed."""

    change: Change
    status: ResultStatus
    problem: Problem | None = None

    def __str__(self) -> str:
        return f"{self.status}: {self.change}" + (f": {self.problem}" if self.problem else "")
