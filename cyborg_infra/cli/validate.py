"""`validate`: every problem of a manifest, at once, and warnings of what it will cost. Needs no server."""

from __future__ import annotations

from typing import Annotated

import typer

from cyborg_infra import offline
from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, Output
from cyborg_infra.cli.output import put_json
from cyborg_infra.model.problems import EXIT_ERROR

EXAMPLES = "Example: cyborg-infra validate org.yaml --env production --strict"

Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 if there is a warning.")]


def command(
    manifest: Manifest = MANIFEST, *, env: Env = None, strict: Strict = False, output: Output = Format.TEXT
) -> None:
    """Check a manifest; every problem is reported with its line. Needs no server.

    What is legal and will cost something is a warning, which the manifest can ignore by its code, with a reason.
    """
    from cyborg_infra.render import console, findings

    org, state = offline.expanded(manifest, env)
    warnings = offline.lint(org, state)
    if output is Format.JSON:
        from cyborg_infra.render import data

        put_json(data.valid(org, state, warnings))
    else:
        console.stdout().print(findings.valid(manifest, org, state))
    if warnings:
        console.stderr().print(findings.warnings(warnings))
    if warnings and strict:
        raise typer.Exit(EXIT_ERROR)
