"""`plan`: what apply would do, and what it would cost. Writes nothing to the server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import (
    MANIFEST,
    Env,
    Manifest,
    NoColor,
    PlanFormat,
    PlanOutput,
    Prune,
    Targets,
    connected,
)
from cyborg_infra.cli.output import put_plan, save, warn
from cyborg_infra.model.problems import EXIT_DIFFERENCES, EXIT_REFUSED

EXAMPLES = "Example: cyborg-infra plan org.yaml --env production --out tonight.plan"

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Save the plan for `apply FILE`.", metavar="FILE", show_default=False),
]
Detailed = Annotated[bool, typer.Option("--detailed-exitcode", help="Exit 2 if there are differences.")]


@connected
def command(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    prune: Prune = False,
    target: Targets = None,
    out: Out = None,
    detailed: Detailed = False,
    output: PlanOutput = PlanFormat.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Compare a manifest with the server and show what apply would do. Exits 3 if it cannot be done."""
    wanted = pipeline.wish(manifest, env, prune=prune, targets=target or ())
    server = pipeline.resolve(flags, os.environ)
    warn(*server.warnings)
    found = pipeline.plan(wanted, server)
    if out is not None:
        save(found, out)
    put_plan(found, output, no_color=no_color, saved_to=str(out) if out else None, manifest=manifest)
    if found.impossible:
        raise typer.Exit(EXIT_REFUSED)
    if found and detailed:
        raise typer.Exit(EXIT_DIFFERENCES)
