"""`unlock`: free a lease that was abandoned, without waiting until it expires."""

from __future__ import annotations

import os
import sys

from cyborg_infra import pipeline
from cyborg_infra.cli.options import MANIFEST, Env, Manifest, Yes, connected
from cyborg_infra.cli.output import confirm, warn

EXAMPLES = "Example: cyborg-infra unlock org.yaml --yes"


@connected
def command(
    manifest: Manifest = MANIFEST, *, env: Env = None, yes: Yes = False, flags: pipeline.Flags
) -> None:
    """Free the lease of an apply that is no longer running. An apply that still runs stops at its next renewal."""
    wanted = pipeline.wish(manifest, env)
    server = pipeline.resolve(flags, os.environ)
    warn(*server.warnings)
    confirm(f"Free the lease of organisation {wanted.owner}, whoever holds it?", "yes", yes=yes)
    held = pipeline.unlock(wanted, server)
    found = f"It was held by {held.holder} since {held.since}." if held else "Nobody held it."
    sys.stdout.write(f"The lease of {wanted.owner} is free. {found}\n")
