"""`drift`: tell whether somebody changed the server since the last apply; for CI."""

from __future__ import annotations

from typing import Annotated

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
    Targets,
)
from cyborg_infra.cli.output import put_drift
from cyborg_infra.model.problems import EXIT_DIFFERENCES
from cyborg_infra.operations import targets

EXAMPLES = "Example: cyborg-infra drift org.yaml --format markdown"

Pending = Annotated[
    bool, typer.Option("--pending", help="Fail as well on what the manifest wants and nobody has applied.")
]


@connected
def command(
    manifest: Manifests = MANIFESTS,
    *,
    env: Env = None,
    target: Targets = None,
    pending: Pending = False,
    output: PlanOutput = PlanFormat.TEXT,
    max_chars: MaxChars = MOST_CHARS,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Show what somebody changed on the server since the last apply. Exits 2 if anybody did, or with --pending if anything differs, else 0."""
    from cyborg_infra.operations import provision

    server = target_of(flags)
    requests = provision.load_requests(manifest, env, targets=target or ())
    plans = [provision.plan(request, server) for request in requests]
    put_drift(plans, output, no_color=no_color, max_chars=max_chars)
    if any(found.has_drift or (pending and (found or found.orphans)) for found in plans):
        raise typer.Exit(EXIT_DIFFERENCES)
