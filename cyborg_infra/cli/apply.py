"""`apply`: make the server what a manifest or a saved plan says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.options import (
    MANIFESTS,
    Drain,
    Env,
    Format,
    LockTimeout,
    ManifestsOrPlan,
    NoColor,
    NoLock,
    Output,
    PlanFormat,
    Prune,
    Targets,
    Yes,
    seconds,
)
from cyborg_infra.cli.output import confirm, put_plans
from cyborg_infra.cli.run import Allow, perform, require_allowed
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.operations import targets

if TYPE_CHECKING:
    from cyborg_infra.operations import provision

EXAMPLES = "Example: cyborg-infra apply tonight.plan --yes"


@connected
def command(
    file: ManifestsOrPlan = MANIFESTS,
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
    flags: targets.Flags,
) -> None:
    """Show the plan, ask, and carry it out. Exits 3, with nothing written, if it could lose something not allowed.

    Of several manifests all plans are shown, allowed and confirmed before the first is carried out; after one that fails
    no other is begun.
    """
    from cyborg_infra.operations import provision

    drain, lock = seconds("--drain-timeout", drain_timeout), seconds("--lock-timeout", lock_timeout)
    requests = provision.load_requests(file, env, prune=prune, targets=target or ())
    for wanted in requests:
        _refuse_ignored(wanted, env=env, prune=prune, target=target)
    server = target_of(flags)
    plans = [provision.plan(wanted, server) for wanted in requests]
    if output is Format.TEXT:
        put_plans(
            plans,
            PlanFormat.TEXT,
            no_color=no_color,
            command="apply",
            allowed=allow or (),
            saved_in=file[0] if requests[0].saved is not None else None,
            manifests=file,
        )
    for found in filter(None, plans):
        require_allowed(found, allow or (), shown=output is Format.TEXT)
    if actions := sum(len(found.changes) for found in plans):
        confirm(f"Do you want to perform these {actions} actions?", "yes", yes=yes)
    perform(
        plans,
        server,
        allow=allow or (),
        drain=drain,
        lock=None if no_lock else lock,
        output=output,
        no_color=no_color,
    )


def _refuse_ignored(
    request: provision.PlanRequest, *, env: str | None, prune: bool, target: Sequence[str] | None
) -> None:
    """Refuse options that a saved plan already has in it: targets, --prune and the environment."""
    if request.saved is None:
        return
    if env is not None and env != request.environment:
        made = f"for environment {request.environment}" if request.environment else "without an environment"
        raise UsageInvalid(
            Problem(
                "usage",
                f"the saved plan was made {made}, not for {env} (--env or CYBORG_INFRA_ENV)",
                None,
                f"make a new plan with --env {env}",
            )
        )
    given = [name for name, value in (("--prune", prune), ("--target", target)) if value]
    if given:
        raise UsageInvalid(
            Problem(
                "usage",
                f"{', '.join(given)} cannot be used with a saved plan",
                None,
                "it does exactly what was planned; make a new plan",
            )
        )
