"""`apply`: make the server what a manifest or a saved plan says."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import (
    MANIFEST,
    Env,
    Format,
    NoColor,
    Output,
    PlanFormat,
    Prune,
    Targets,
    connected,
)
from cyborg_infra.cli.output import put_json, put_plan, warn
from cyborg_infra.model.plan import Done, HazardName, Outcome, Plan
from cyborg_infra.model.problems import EXIT_ERROR, Problem, UsageInvalid

EXAMPLES = "Example: cyborg-infra apply tonight.plan --yes"

File = Annotated[str, typer.Argument(help="A manifest, or a plan saved with `plan --out`.", metavar="FILE")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Allow = Annotated[
    list[HazardName] | None,
    typer.Option("--allow", help="Accept this hazard; may be repeated.", show_default=False),
]


@connected
def command(
    file: File = MANIFEST,
    *,
    env: Env = None,
    prune: Prune = False,
    target: Targets = None,
    allow: Allow = None,
    yes: Yes = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Show the plan, ask, and carry it out. Exits 3, with nothing written, if it could lose something not allowed."""
    from cyborg_infra.render import console, data, progress, text

    wanted = pipeline.wish(file, env, prune=prune, targets=target or ())
    _refuse_ignored(wanted, env=env, prune=prune, target=target)
    server = pipeline.resolve(flags, os.environ)
    warn(*server.warnings)
    found = pipeline.plan(wanted, server)
    if output is Format.TEXT:
        put_plan(
            found,
            PlanFormat.TEXT,
            no_color=no_color,
            saved_in=file if wanted.saved is not None else None,
            manifest=file,
        )
    outcomes: list[Outcome] = []
    if found:
        pipeline.refuse_unless_allowed(found, allow or ())
        _ask(found, yes=yes)
        with progress.bar(console.stderr(no_color=no_color), len(found.changes)) as tell:
            outcomes = pipeline.apply(found, wanted, server, allow=allow or (), tell=tell)
    if output is Format.JSON:
        put_json(data.applied(found, outcomes))
    elif found:
        console.stdout(no_color=no_color).print(text.applied(outcomes))
    if any(outcome.done is not Done.DONE for outcome in outcomes):
        raise typer.Exit(EXIT_ERROR)


def _refuse_ignored(
    wanted: pipeline.Wish, *, env: str | None, prune: bool, target: Sequence[str] | None
) -> None:
    """A saved plan has its environment, targets and --prune in it."""
    given = [name for name, value in (("--env", env), ("--prune", prune), ("--target", target)) if value]
    if wanted.saved is not None and given:
        raise UsageInvalid(
            Problem(
                "usage",
                f"{', '.join(given)} cannot be used with a saved plan",
                None,
                "it does exactly what was planned; make a new plan",
            )
        )


def _ask(plan: Plan, *, yes: bool) -> None:
    """Returns if the user, or --yes, agrees. Never waits for an answer where nobody can give one."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageInvalid(
            Problem(
                "no-terminal",
                "there is no terminal to ask on, and nothing was changed",
                None,
                "use --yes to apply without asking",
            )
        )
    sys.stderr.write(
        f"\nDo you want to perform these {len(plan.changes)} actions?\n  Only 'yes' will be accepted to approve.\n\n  Enter a value: "
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip() != "yes":
        raise UsageInvalid(Problem("cancelled", "apply cancelled; nothing was changed"))
    sys.stderr.write("\n")
