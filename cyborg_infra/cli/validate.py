"""`validate`: every problem of a manifest, at once, and warnings of what it will cost. Needs no server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from cyborg_infra import __version__
from cyborg_infra.cli.options import MANIFEST, Env, Manifest
from cyborg_infra.cli.output import put_json
from cyborg_infra.model.problems import EXIT_ERROR, CyborgError, Problem
from cyborg_infra.operations import manifest as offline

EXAMPLES = "Example: cyborg-infra validate org.yaml --env production --strict"


class ValidateFormat(StrEnum):
    """How `validate` prints; github, gitlab and sarif are shown beside the line by who hosts the repository."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"
    GITLAB = "gitlab"
    SARIF = "sarif"


ValidateOutput = Annotated[
    ValidateFormat,
    typer.Option("--format", help="How to print it; github, gitlab and sarif are shown beside the line."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 if there is a warning.")]


def command(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    strict: Strict = False,
    output: ValidateOutput = ValidateFormat.TEXT,
) -> None:
    """Check a manifest, and report every problem with its line. Needs no server.

    What is legal and will cost something is a warning, which the manifest can ignore by its code, with a reason.
    """
    from cyborg_infra.render.terminal import console, problems

    try:
        org, state = offline.expand_manifest(manifest, env)
    except CyborgError as error:
        _put_findings(output, manifest, error.problems)
        raise
    warnings, notes = offline.lint(org, state), offline.notes(org, state)
    match output:
        case ValidateFormat.JSON:
            from cyborg_infra.render import json_format

            put_json(json_format.valid(org, state, warnings, notes))
        case ValidateFormat.TEXT:
            console.stdout().print(problems.valid(manifest, org, state))
        case _:
            _put_findings(output, manifest, (), warnings, notes)
    if warnings or notes:
        console.stderr().print(problems.warnings(warnings, notes))
    if warnings and strict:
        raise typer.Exit(EXIT_ERROR)


def _put_findings(
    output: ValidateFormat,
    manifest: str,
    errors: Sequence[Problem],
    warnings: Sequence[Problem] = (),
    notes: Sequence[Problem] = (),
) -> None:
    """Print what was found as the host of the repository reads it; nothing in the other formats."""
    from cyborg_infra.render import findings

    found = findings.collect(manifest, errors, warnings, notes)
    match output:
        case ValidateFormat.GITHUB:
            sys.stdout.write(findings.github(found))
        case ValidateFormat.GITLAB:
            put_json(findings.gitlab(found))
        case ValidateFormat.SARIF:
            put_json(findings.sarif(found, __version__))
