"""What keeps a plan from being applied, or from being called applied: staleness, hazards, what does not hold after all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cyborg_infra.model.plan import Change, Done, Outcome, Plan
from cyborg_infra.model.problems import CyborgError, PlanRefused, PlanStale, Problem
from cyborg_infra.model.state import Facts


def refuse_unless_same(saved: Plan, now: Plan) -> None:
    """Nothing, or PlanStale with everything that has changed on the server between two plans."""
    problems = []
    for ref in sorted(saved.base.keys() | now.base.keys()):
        match saved.base.get(ref), now.base.get(ref):
            case None, str():
                problems.append(Problem("stale", f"{ref} was created since the plan was made"))
            case str(), None:
                problems.append(Problem("stale", f"{ref} was deleted since the plan was made"))
            case before, after if before != after:
                problems.append(Problem("stale", f"{ref} was changed since the plan was made"))
    problems += [
        Problem("stale", f"the plan was made for {what} {was or 'none'!r}, and this is {found or 'none'!r}")
        for what, was, found in _identities(saved.facts, now.facts)
        if was != found
    ]
    if problems:
        raise PlanStale(
            Problem(
                "stale", "the saved plan is stale: the server is no longer as it was", None, "make a new plan"
            ),
            *problems,
        )


def refuse_unless_allowed(plan: Plan, allow: Sequence[str]) -> None:
    """Nothing, or PlanRefused: the plan cannot be done, or has a hazard that `allow` does not name."""
    if plan.impossible:
        raise PlanRefused(*plan.impossible)
    refused = [
        (f"{change.ref}: ", hazard)
        for change in plan.changes
        for hazard in change.hazards
        if hazard.name not in allow
    ]
    refused += [("", hazard) for hazard in plan.whole if hazard.name not in allow]
    if refused:
        raise PlanRefused(
            *(
                Problem(
                    hazard.name,
                    f"{where}{hazard.name}: {hazard.reason}",
                    None,
                    f"allow it with --allow {hazard.name}",
                )
                for where, hazard in refused
            )
        )


def verified(outcomes: Sequence[Outcome], rest: Plan) -> list[Outcome]:
    """The outcomes, with what a plan made afterwards still finds turned into failures: done means that it holds."""
    left = {change.ref: change for change in rest.changes}
    return [
        replace(outcome, done=Done.FAILED, problem=_not_held(left[outcome.change.ref]))
        if outcome.change.ref in left
        else outcome
        for outcome in outcomes
    ]


def unread(outcomes: Sequence[Outcome], error: CyborgError) -> list[Outcome]:
    """The outcomes, all failed: the server answered each write with OK, and could not be read afterwards."""
    reason = error.problems[0].message
    return [
        replace(
            outcome,
            done=Done.FAILED,
            problem=Problem(
                "not-read-back",
                f"{outcome.change.ref} was written, and could not be read back: {reason}",
                None,
                "plan again to see what the server holds",
            ),
        )
        for outcome in outcomes
    ]


def _not_held(change: Change) -> Problem:
    fields = ", ".join(field.field for field in change.fields)
    what = f"differs in {fields}" if fields else f"still has to be: {change.action}"
    return Problem(
        "not-held",
        f"{change.ref} was written and, read back, {what}",
        None,
        "somebody changed it at the same time, or this server version dropped a field: plan again",
    )


def _identities(saved: Facts | None, now: Facts | None) -> list[tuple[str, object, object]]:
    names = ("account", "cluster", "domain", "level")
    return [(name, getattr(saved, name), getattr(now, name)) for name in names] if saved and now else []
