"""`show`: what a manifest expands to, or what a saved plan would do. Needs no server."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from cyborg_infra.cli.options import (
    MANIFEST,
    Env,
    ManifestOrPlan,
    NoColor,
    PlanFormat,
)
from cyborg_infra.cli.output import put_json, put_plan
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.operations import manifest

EXAMPLES = "Example: cyborg-infra show org.yaml --format json"


class ShowFormat(StrEnum):
    """How `show` prints; mermaid and dot are a picture."""

    TEXT = "text"
    JSON = "json"
    MERMAID = "mermaid"
    DOT = "dot"


ShowOutput = Annotated[
    ShowFormat,
    typer.Option("--format", help="How to print it; mermaid and dot draw who talks to whom."),
]


def command(
    file: ManifestOrPlan = MANIFEST,
    *,
    env: Env = None,
    output: ShowOutput = ShowFormat.TEXT,
    no_color: NoColor = False,
) -> None:
    """Show what a manifest expands to, or what a saved plan would do. Needs no server.

    mermaid and dot draw the chart, the channels and who talks to whom; a pull request shows Mermaid as a picture.
    """
    if manifest.is_saved(file):
        if output not in (ShowFormat.TEXT, ShowFormat.JSON):
            hint = "show the manifest, or the plan as text or json"
            raise UsageInvalid(Problem("usage", f"a saved plan cannot be drawn as {output}", None, hint))
        if env:
            hint = "its environment was chosen when it was made"
            raise UsageInvalid(Problem("usage", "--env cannot be used with a saved plan", None, hint))
        put_plan(manifest.load_saved_plan(file), PlanFormat(output), no_color=no_color, saved_in=file)
        return
    org, subjects, state = manifest.show(file, env)
    match output:
        case ShowFormat.JSON:
            from cyborg_infra.render import json_format

            put_json(json_format.show(org, subjects, state))
        case ShowFormat.TEXT:
            from cyborg_infra.render.terminal import console, show

            console.stdout(no_color=no_color).print(show.show(org, subjects, state))
        case ShowFormat.MERMAID | ShowFormat.DOT:
            from cyborg_infra.render import diagram

            sys.stdout.write(diagram.DIALECTS[output](diagram.draw(org)))
