"""`show`: what a manifest expands to. Needs no server."""

from __future__ import annotations

from cyborg_infra import offline
from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, NoColor, Output
from cyborg_infra.cli.output import put_json

EXAMPLES = "Example: cyborg-infra show org.yaml --format json"


def command(
    manifest: Manifest = MANIFEST, *, env: Env = None, output: Output = Format.TEXT, no_color: NoColor = False
) -> None:
    """Show the namespace, streams and consumers that a manifest expands to. Needs no server."""
    org, subjects, state = offline.show(manifest, env)
    if output is Format.JSON:
        from cyborg_infra.render import data

        put_json(data.show(org, subjects, state))
    else:
        from cyborg_infra.render import console, show

        console.stdout(no_color=no_color).print(show.show(org, subjects, state))
