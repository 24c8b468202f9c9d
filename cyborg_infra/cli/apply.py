"""`apply`: make the server what a manifest or a saved plan says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import (
    MANIFEST,
    Drain,
    Env,
    Format,
    LockTimeout,
    NoColor,
    NoLock,
    Output,
    PlanFormat,
    Prune,
    Targets,
    Yes,
    connected,
    seconds,
)
from cyborg_infra.cli.output import confirm, put_plan, warn
from cyborg_infra.cli.run import Allow, perform
from cyborg_infra.model.problems import Problem, UsageInvalid

EXAMPLES = "Example: cyborg-infra apply tonight.plan --yes"

File = Annotated[str, typer.Argument(help="A manifest, or a plan saved with `plan --out`.", metavar="FILE")]


@connected
def command(
    file: File = MANIFEST,
    *,
    env: Env = None,
    prune: Prune = False,
    target: Targets = None,
    allow: Allow = None,
    yes: Yes = False,
    drain_timeout: Drain = "1m",
    lock_timeout: LockTimeout = "0s",
    no_lock: NoLock = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Show the plan, ask, and carry it out. Exits 3, with nothing written, if it could lose something not allowed."""
    drain, lock = seconds("--drain-timeout", drain_timeout), seconds("--lock-timeout", lock_timeout)
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
    if found:
        pipeline.refuse_unless_allowed(found, allow or ())
        confirm(f"Do you want to perform these {len(found.changes)} actions?", "yes", yes=yes)
    perform(
        found,
        wanted,
        server,
        allow=allow or (),
        drain=drain,
        lock=None if no_lock else lock,
        output=output,
        no_color=no_color,
    )


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
