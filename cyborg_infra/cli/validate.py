"""`validate`: every problem of a manifest, at once, and warnings of what it will cost. Needs no server."""

from __future__ import annotations

from typing import Annotated

import typer

from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, Output
from cyborg_infra.cli.output import put_json
from cyborg_infra.model.problems import EXIT_ERROR
from cyborg_infra.operations import manifest as offline

EXAMPLES = "Example: cyborg-infra validate org.yaml --env production --strict"

Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 if there is a warning.")]


def command(
    manifest: Manifest = MANIFEST, *, env: Env = None, strict: Strict = False, output: Output = Format.TEXT
) -> None:
    """Check a manifest, and report every problem with its line. Needs no server.

    What is legal and will cost something is a warning, which the manifest can ignore by its code, with a reason.
    """
    from cyborg_infra.render.terminal import console, problems

    org, state = offline.expand_manifest(manifest, env)
    warnings, notes = offline.lint(org, state), offline.notes(org, state)
    if output is Format.JSON:
        from cyborg_infra.render import json_format

        put_json(json_format.valid(org, state, warnings, notes))
    else:
        console.stdout().print(problems.valid(manifest, org, state))
    if warnings or notes:
        console.stderr().print(problems.warnings(warnings, notes))
    if warnings and strict:
        raise typer.Exit(EXIT_ERROR)
