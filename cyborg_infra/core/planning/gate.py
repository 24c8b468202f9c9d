"""The gate before an apply: refuse a stale plan or a hazard that was not allowed; and verify the outcomes after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from cyborg_infra.core.planning.hazards.building_blocks import format_count
from cyborg_infra.model.changes import Change, Hazard, HazardName
from cyborg_infra.model.counting import CountKind
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.problems import CyborgError, PlanRefused, PlanStale, Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.server import UNNAMED_CLUSTER
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Option, worded

NEGLIGIBLE_COUNT = 10  # messages that come while a plan is looked at


def refuse_unless_same(saved: Plan, now: Plan) -> None:
    """Raise PlanStale, with everything that has changed on the server, unless both plans are the same."""
    problems = []
    for ref in sorted(saved.live_digests.keys() | now.live_digests.keys()):
        match saved.live_digests.get(ref), now.live_digests.get(ref):
            case None, str():
                problems.append(Problem("stale", f"{ref} was created since the plan was made"))
            case str(), None:
                problems.append(Problem("stale", f"{ref} was deleted since the plan was made"))
            case before, after if before != after:
                problems.append(Problem("stale", f"{ref} was changed since the plan was made"))
    elsewhere = [
        Problem("stale", f"the plan was made for {what} {was or 'none'!r}, and this is {found or 'none'!r}")
        for what, was, found in _identities(saved, now)
        if was != found
    ]
    if problems or elsewhere:
        done = not now and not elsewhere
        raise PlanStale(
            Problem(
                "stale",
                "the plan is stale: the server is no longer as it was",
                None,
                "nothing of it is left to do: it was applied, or somebody did the same"
                if done
                else "make a new plan",
            ),
            *problems,
            *elsewhere,
        )


def refuse_unless_allowed(plan: Plan, allow: Collection[str]) -> None:
    """Raise PlanRefused if the plan cannot be done, not by this user, or has a hazard that `allow` does not name."""
    if plan.blocking_problems:
        raise PlanRefused(*plan.blocking_problems)
    if plan.forbidden:
        raise PlanRefused(*plan.forbidden)
    refused = [
        (f"{change.ref}: ", hazard)
        for change in plan.changes
        for hazard in change.hazards
        if hazard.name not in allow
    ]
    refused += [("", hazard) for hazard in plan.plan_hazards if hazard.name not in allow]
    if refused:
        raise PlanRefused(
            *(
                Problem(
                    hazard.name,
                    f"{where}{hazard}",
                    None,
                    worded("allow it with {}", Option("allow", hazard.name)),
                )
                for where, hazard in refused
            )
        )


def refuse_unless_shown(shown: Plan, now: Plan) -> None:
    """Raise PlanStale if what is planned now has a hazard that was not shown, or a much larger one.

    What is allowed is a kind of cost, on one resource, up to a number. Of messages that are stored, wait or are worked
    on more come all the time, so that a few more are the same. What may be handed out again by a new consumer is held
    to the number that was shown while it is done: see `Plan.announced_redeliveries`.
    """
    announced = _cost_by_change(shown)
    problems = [
        Problem("stale", _exceeded_problem(cost, number, announced.get(cost, 0)), None, "plan again")
        for cost, number in _cost_by_change(now).items()
        if number > _tolerated_count(announced.get(cost, 0))
    ]
    if problems:
        raise PlanStale(*problems)


class _Cost(NamedTuple):
    """A kind of cost of one change; None is the plan as a whole. What is unfinished of it counts for itself as well."""

    ref: Ref | None
    name: HazardName
    unfinished: bool = False


def _cost_by_change(plan: Plan) -> dict[_Cost, int]:
    """Return how many messages each change costs."""
    counted = [
        (change.ref, hazard)
        for change in plan.changes
        for hazard in change.hazards
        if hazard.name is not HazardName.REPEATS_WORK or change.current_ref not in plan.announced_redeliveries
    ]
    found = Counter[_Cost]()
    for ref, hazard in [*counted, *((None, hazard) for hazard in plan.plan_hazards)]:
        found[_Cost(ref, hazard.name)] += 1 if _grows_by_work(hazard) else max(hazard.count, 1)
        if hazard.unfinished:
            found[_Cost(ref, hazard.name, unfinished=True)] += hazard.unfinished.messages
    return dict(found)


def _grows_by_work(hazard: Hazard) -> bool:
    """Return whether the hazard grows while agents work: it counts what consumers have finished."""
    kinds = {question.kind for question in hazard.count_queries}
    return hazard.unfinished is not None and bool(kinds & {CountKind.PASSED, CountKind.PASSED_BY_ALL})


def _tolerated_count(announced: int) -> int:
    """Return up to which count a cost is the same as the announced one."""
    return announced + max(NEGLIGIBLE_COUNT, announced // 100) if announced else 0


def _exceeded_problem(cost: _Cost, number: int, announced: int) -> str:
    where = f"{cost.ref}: " if cost.ref else ""
    if not announced and not cost.unfinished:
        return f"{where}{cost.name} has come since the plan was made"
    what = format_count(number, "unfinished message") if cost.unfinished else f"{number:,}"
    return f"{where}{cost.name} would concern {what}, and the plan announced {announced:,}"


def verify_outcomes(outcomes: Sequence[Outcome], remaining: Plan) -> list[Outcome]:
    """Return the outcomes, with what a plan made afterwards still finds turned into failures: done means that it holds."""
    left = {change.ref: change for change in remaining.changes}
    return [
        replace(outcome, status=ResultStatus.FAILED, problem=_not_applied_problem(left[outcome.change.ref]))
        if outcome.change.ref in left
        else outcome
        for outcome in outcomes
    ]


def fail_unverified(outcomes: Sequence[Outcome], error: CyborgError) -> list[Outcome]:
    """Return the outcomes, all failed: the server answered each write with OK, and could not be read afterwards."""
    reason = error.problems[0].message
    return [
        replace(
            outcome,
            status=ResultStatus.FAILED,
            problem=Problem(
                "not-read-back",
                f"{outcome.change.ref} was written, and could not be read back: {reason}",
                None,
                "plan again to see what the server holds",
            ),
        )
        for outcome in outcomes
    ]


def _not_applied_problem(change: Change) -> Problem:
    fields = ", ".join(field.field for field in change.fields)
    what = f"differs in {fields}" if fields else f"still has to be: {change.action}"
    return Problem(
        "not-held",
        f"{change.ref} was written and, read back, {what}",
        None,
        "somebody changed it at the same time, or this server version dropped a field: plan again",
    )


def _identities(saved: Plan, now: Plan) -> list[tuple[str, object, object]]:
    """Return what tells whose plan it is. Where something of the organisation lives, the times at which that was created tell more.

    A server without a name of its own has another one after each start (2.10.26 to 2.15.1): its first plan ends with it.
    """
    was, found = saved.server_info, now.server_info
    if was is None or found is None:
        return []
    names = ["account", "cluster", "domain", "level"]
    if UNNAMED_CLUSTER in (was.cluster, found.cluster) and was.cluster and found.cluster:
        names.remove("cluster")  # the first stream tells it
    if not (saved.live_digests or was.cluster or found.cluster):
        names.append("server")
    return [(name, getattr(was, name), getattr(found, name)) for name in names]
