"""`validate`: every problem of a manifest, at once. Needs no server."""

from __future__ import annotations

from cyborg_infra import pipeline
from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, Output
from cyborg_infra.cli.output import put_json

EXAMPLES = "Example: cyborg-infra validate org.yaml --env production"


def command(manifest: Manifest = MANIFEST, *, env: Env = None, output: Output = Format.TEXT) -> None:
    """Check a manifest; every problem is reported with its line. Needs no server."""
    from cyborg_infra.render import console, data, text

    org, _, state = pipeline.show(manifest, env)
    if output is Format.JSON:
        put_json(data.valid(org, state))
    else:
        console.stdout().print(text.valid(manifest, org, state))
