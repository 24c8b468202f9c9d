"""`destroy`: delete everything that an organisation owns."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import (
    MANIFEST,
    Env,
    Format,
    LockTimeout,
    Manifest,
    NoColor,
    NoLock,
    Output,
    PlanFormat,
    connected,
    seconds,
)
from cyborg_infra.cli.output import confirm, put_plan, warn
from cyborg_infra.cli.run import Allow, perform
from cyborg_infra.model.plan import HazardName

EXAMPLES = "Example: cyborg-infra destroy org.yaml --allow deletes-messages --allow stops-capture"

Confirm = Annotated[
    str | None,
    typer.Option(
        "--confirm", help="The organisation's name, instead of typing it.", metavar="NAME", show_default=False
    ),
]


@connected
def command(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    allow: Allow = None,
    confirmed: Confirm = None,
    lock_timeout: LockTimeout = "0s",
    no_lock: NoLock = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Delete every stream and consumer that the manifest's organisation owns, once its name has been typed."""
    lock = None if no_lock else seconds("--lock-timeout", lock_timeout)
    wanted = pipeline.destruction(manifest, env)
    server = pipeline.resolve(flags, os.environ)
    warn(*server.warnings)
    found = pipeline.plan(wanted, server)
    # Whoever types the organisation's name means all of it.
    accepted = [*(allow or ()), HazardName.MASS_CHANGE]
    if output is Format.TEXT:
        put_plan(found, PlanFormat.TEXT, no_color=no_color, manifest=manifest)
    if found:
        pipeline.refuse_unless_allowed(found, accepted)
        question = f"Do you really want to destroy organisation {wanted.owner}?"
        confirm(question, wanted.owner, yes=confirmed == wanted.owner)
    perform(found, wanted, server, allow=accepted, lock=lock, output=output, no_color=no_color)
