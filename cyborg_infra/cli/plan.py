"""`plan`: what apply would do, and what it would cost. Writes nothing to the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.options import (
    MANIFESTS,
    MOST_CHARS,
    Env,
    Manifests,
    MaxChars,
    NoColor,
    PlanFormat,
    PlanOutput,
    Prune,
    Targets,
)
from cyborg_infra.cli.output import put_plans
from cyborg_infra.model.problems import EXIT_DIFFERENCES, EXIT_REFUSED, Problem, UsageInvalid
from cyborg_infra.operations import targets

if TYPE_CHECKING:
    from cyborg_infra.model.plan import Plan

_made: list[Plan] = []
"""The plans of this command, until the process ends: to take a large one apart takes a thirtieth of the command's time."""

EXAMPLES = "Example: cyborg-infra plan org.yaml --env production --out tonight.plan"

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Save the plan for `apply FILE`.", metavar="FILE", show_default=False),
]
Detailed = Annotated[bool, typer.Option("--detailed-exitcode", help="Exit 2 if there are differences.")]


@connected
def command(
    manifest: Manifests = MANIFESTS,
    *,
    env: Env = None,
    prune: Prune = False,
    target: Targets = None,
    out: Out = None,
    detailed: Detailed = False,
    output: PlanOutput = PlanFormat.TEXT,
    max_chars: MaxChars = MOST_CHARS,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Compare a manifest with the server, and show what to change. Writes nothing. Exits 3 if `apply` could not do it.

    Several manifests are planned one after the other; none of them may be in another's way.
    """
    from cyborg_infra.operations import provision

    if out is not None and len(manifest) > 1:
        hint = "save a plan of each"
        raise UsageInvalid(Problem("usage", "--out cannot be used with several manifests", None, hint))
    requests = provision.load_requests(manifest, env, prune=prune, targets=target or ())
    server = target_of(flags)
    plans = [provision.plan(request, server) for request in requests]
    _made[:] = plans
    if out is not None:
        from cyborg_infra.cli.files import save

        save(plans[0], out)
    put_plans(
        plans,
        output,
        no_color=no_color,
        saved_to=str(out) if out else None,
        manifests=manifest,
        max_chars=max_chars,
    )
    if any(found.blocking_problems for found in plans):
        raise typer.Exit(EXIT_REFUSED)
    if any(plans) and detailed:
        raise typer.Exit(EXIT_DIFFERENCES)
