"""What `apply` and `destroy` share: carry a plan out, show how it goes, say how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import Format
from cyborg_infra.cli.output import put_json
from cyborg_infra.model.plan import Done, HazardName, Outcome, Plan
from cyborg_infra.model.problems import EXIT_ERROR

Allow = Annotated[
    list[HazardName] | None,
    typer.Option(
        "--allow",
        help="Accept a hazard, by the name that the plan gives it; may be repeated.",
        metavar="HAZARD",
        show_default=False,
    ),
]


def perform(
    plan: Plan,
    wanted: pipeline.Wish,
    target: pipeline.Target,
    *,
    allow: Sequence[str],
    lock: float | None,
    output: Format,
    no_color: bool,
    drain: float = 0.0,
) -> None:
    """The plan is carried out and its outcomes are on stdout. Exits 1 unless every change is done."""
    from cyborg_infra.render import console, progress, text

    outcomes: list[Outcome] = []
    if plan:
        with progress.bar(console.stderr(no_color=no_color), len(plan.changes)) as (tell, waits):
            outcomes = pipeline.apply(
                plan, wanted, target, allow=allow, drain=drain, lock=lock, tell=tell, waits=waits
            )
    if output is Format.JSON:
        from cyborg_infra.render import data

        put_json(data.applied(plan, outcomes))
    elif plan:
        console.stdout(no_color=no_color).print(text.applied(outcomes))
    if any(outcome.done is not Done.DONE for outcome in outcomes):
        raise typer.Exit(EXIT_ERROR)
