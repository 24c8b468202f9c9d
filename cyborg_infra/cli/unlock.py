"""`unlock`: free a lease that was abandoned, without waiting until it expires."""

from __future__ import annotations

import sys

from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.options import MANIFEST, Env, Manifest, Yes
from cyborg_infra.cli.output import confirm
from cyborg_infra.operations import targets

EXAMPLES = "Example: cyborg-infra unlock org.yaml --yes"


@connected
def command(
    manifest: Manifest = MANIFEST, *, env: Env = None, yes: Yes = False, flags: targets.Flags
) -> None:
    """Free the lease of an apply that is no longer running. If it runs after all, it writes nothing more."""
    from cyborg_infra.operations import provision

    wanted = provision.load_request(manifest, env)
    server = target_of(flags)
    if holder := provision.lease_holder(wanted, server):
        end = f"; it ends at {holder.until}, unless its holder still runs" if holder.until else ""
        sys.stderr.write(
            f"The lease of {wanted.owner} is held by {holder.holder} since {holder.since}{end}.\n"
        )
        confirm(f"Free the lease of organisation {wanted.owner}?", "yes", yes=yes)
    held = provision.unlock(wanted, server, _wait) if holder else None
    found = f"It was held by {held.holder} since {held.since}." if held else "Nobody held it."
    sys.stdout.write(f"The lease of {wanted.owner} is free. {found}\n")


def _wait(seconds: float) -> None:
    sys.stderr.write(
        f"Waiting {seconds:g}s, after which its holder writes nothing more, should it still run.\n"
    )
