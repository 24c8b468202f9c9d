"""What `apply` and `destroy` share: carry a plan out, show how it goes, say how it ended."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cyborg_infra.cli.options import Format
from cyborg_infra.cli.output import put_json_of_each, warn
from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.problems import EXIT_ERROR, CyborgError, PlanRefused, Problem
from cyborg_infra.operations import targets

Allow = Annotated[
    list[HazardName] | None,
    typer.Option(
        "--allow",
        help="Accept a hazard, by the name that the plan gives it; may be repeated.",
        metavar="HAZARD",
        show_default=False,
    ),
]


_MOST_TOLD = 10
"""So many problems are told once more, where the plan with all of them is not on the same screen."""


def require_allowed(plan: Plan, allow: Sequence[str], *, shown: bool) -> None:
    """Raise PlanRefused if the plan may not be applied: with every problem, or in short where the plan has just been `shown`."""
    from cyborg_infra.operations import provision

    try:
        provision.refuse_unless_allowed(plan, allow)
    except PlanRefused as refused:
        if not shown or (plan.forbidden and not plan.blocking_problems):
            raise
        raise PlanRefused(_in_short(plan, refused), *told_elsewhere(refused)) from None


def told_elsewhere(refused: PlanRefused) -> Sequence[Problem]:
    """Return the first of what the plan is refused for, if the plan went to a file or a pipe: who reads the error does not see it."""
    if sys.stdout.isatty():
        return ()
    return [found._replace(hint=None) for found in refused.problems[:_MOST_TOLD]]


def _in_short(plan: Plan, refused: PlanRefused) -> Problem:
    """Return what the plan is refused for, in one sentence."""
    count = len(refused.problems)
    if plan.blocking_problems:
        return Problem(
            "impossible",
            f"nothing was changed: {count} problem{'s' * (count > 1)} of this plan must be solved first",
            None,
            'each stands behind an "Error" in the plan, with what to do',
        )
    accepting = " ".join(f"--allow {name}" for name in sorted({found.code for found in refused.problems}))
    names = Counter(problem.code for problem in refused.problems)
    hazards = ", ".join(f"{name} ({times})" if times > 1 else name for name, times in sorted(names.items()))
    return Problem(
        "not-allowed",
        f"nothing was changed: not allowed by name: {hazards}",
        None,
        f"the plan says what each would cost; accept it with {accepting}",
    )


def perform(
    plans: Sequence[Plan],
    target: targets.Target,
    *,
    allow: Sequence[str],
    lock: float | None,
    output: Format,
    no_color: bool,
    drain: float = 0.0,
    command: str = "apply",
) -> None:
    """Apply each plan and print its outcomes, in the words of `command`. Exits 1 unless every change is done; after one that is not no other plan is begun."""
    answers: list[dict[str, Any]] = []
    waiting = list(plans)
    succeeded = True
    while waiting and succeeded:
        plan = waiting.pop(0)
        try:
            outcomes = _apply(plan, target, allow=allow, lock=lock, drain=drain, no_color=no_color)
        except CyborgError as error:
            if len(plans) > 1:
                _tell_of_the_others(error, answers, waiting, output=output, no_color=no_color)
            raise
        succeeded = all(outcome.status is ResultStatus.SUCCEEDED for outcome in outcomes)
        if output is Format.JSON:
            from cyborg_infra.render import json_format

            answers.append(json_format.applied(plan, outcomes))
        elif plan:
            from cyborg_infra.render.terminal import console
            from cyborg_infra.render.terminal import plan as text

            console.stdout(no_color=no_color).print(text.applied(outcomes, command))
    if output is Format.JSON:
        put_json_of_each(answers, several=len(plans) > 1)
    _warn_of_waiting(waiting)
    if not succeeded:
        raise typer.Exit(EXIT_ERROR)


def _tell_of_the_others(
    error: CyborgError,
    answers: list[dict[str, Any]],
    waiting: Sequence[Plan],
    *,
    output: Format,
    no_color: bool,
) -> None:
    """Say what of several was not begun; and in JSON, of which there is one document, how those before ended. That exits."""
    _warn_of_waiting(waiting)
    if output is Format.JSON:
        from cyborg_infra.render import json_format
        from cyborg_infra.render.terminal import console, problems

        put_json_of_each([*answers, json_format.problems(error)], several=True)
        console.stderr(no_color=no_color).print(problems.problems(error))
        raise typer.Exit(error.exit_code) from None


def _warn_of_waiting(waiting: Sequence[Plan]) -> None:
    if waiting:
        warn(f"not begun: {', '.join(plan.org for plan in waiting)}")


def _apply(
    plan: Plan,
    target: targets.Target,
    *,
    allow: Sequence[str],
    lock: float | None,
    drain: float,
    no_color: bool,
) -> list[Outcome]:
    """Apply the plan, show how it goes, and return how each change ended."""
    from cyborg_infra.operations import provision
    from cyborg_infra.render.terminal import console, progress

    if not plan and not provision.needs_record(plan):
        return []
    warnings: list[str] = []
    with progress.bar(console.stderr(no_color=no_color), len(plan.changes)) as (tell, waits):
        request = provision.ApplyRequest(
            plan,
            allow=allow,
            drain_timeout=drain,
            lock_timeout=lock,
            on_outcome=tell,
            on_wait=waits,
            on_warning=warnings.append,
        )
        outcomes = provision.apply(request, target)
    warn(*warnings)
    return outcomes
