"""`drift`: whether the server is still as it was applied. For CI. Writes nothing."""

from __future__ import annotations

import os
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
    Targets,
    connected,
)
from cyborg_infra.cli.output import put_drift, warn
from cyborg_infra.model.problems import EXIT_DIFFERENCES

EXAMPLES = "Example: cyborg-infra drift org.yaml --format markdown"

Pending = Annotated[
    bool, typer.Option("--pending", help="Fail as well on what the manifest wants and nobody has applied.")
]


@connected
def command(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    target: Targets = None,
    pending: Pending = False,
    output: PlanOutput = PlanFormat.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Exit 2 if somebody changed the server since the last apply (with --pending: if anything differs), else 0."""
    server = pipeline.resolve(flags, os.environ)
    warn(*server.warnings)
    found = pipeline.plan(pipeline.wish(manifest, env, targets=target or ()), server)
    put_drift(found, output, no_color=no_color)
    if pipeline.drifted(found) or (pending and (found or found.orphans)):
        raise typer.Exit(EXIT_DIFFERENCES)
