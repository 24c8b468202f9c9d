"""`destroy`: delete everything that an organisation owns."""

from __future__ import annotations

from typing import Annotated

import typer

from cyborg_infra.cli.connection_options import connected, target_of
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
    seconds,
)
from cyborg_infra.cli.output import confirm, put_plan
from cyborg_infra.cli.run import Allow, perform, require_allowed
from cyborg_infra.model.changes import HazardName
from cyborg_infra.operations import targets

EXAMPLES = "Example: cyborg-infra destroy org.yaml --allow deletes-messages"

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
    flags: targets.Flags,
) -> None:
    """Delete every stream and consumer that an organisation owns. Asks for its name first."""
    from cyborg_infra.operations import provision

    lock = None if no_lock else seconds("--lock-timeout", lock_timeout)
    wanted = provision.destroy_request(manifest, env)
    server = target_of(flags)
    found = provision.plan(wanted, server)
    implied = [HazardName.MASS_CHANGE]  # whoever types the organisation's name means all of it
    accepted = [*(allow or ()), *implied]
    if output is Format.TEXT:
        put_plan(
            found,
            PlanFormat.TEXT,
            no_color=no_color,
            command="destroy",
            allowed=allow or (),
            implied=implied,
            manifest=manifest,
        )
    if found:
        require_allowed(found, accepted, shown=output is Format.TEXT)
        question = f"Do you really want to destroy organisation {wanted.owner}?"
        confirm(question, wanted.owner, yes=confirmed == wanted.owner)
    perform(
        [found],
        server,
        allow=accepted,
        lock=lock,
        output=output,
        no_color=no_color,
        command="destroy",
    )
