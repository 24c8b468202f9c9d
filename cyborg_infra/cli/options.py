"""The options that several commands share, as typer annotations."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cyborg_infra.cli import complete
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.units import SECOND, parse_duration


class Format(StrEnum):
    """How a command prints its answer."""

    TEXT = "text"
    JSON = "json"


class PlanFormat(StrEnum):
    """How a plan is printed; markdown is for a pull request."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


MANIFEST = "org.yaml"
MANIFESTS = [MANIFEST]

CONNECTION = "Connection (as in the nats CLI)"
"""The heading of the options of `connection_options`."""


Manifest = Annotated[str, typer.Argument(help="The manifest.", metavar="MANIFEST", show_default=True)]
Manifests = Annotated[
    list[str],
    typer.Argument(
        help="The manifest; of several, each is planned.", metavar="MANIFEST...", show_default=True
    ),
]
ManifestsOrPlan = Annotated[
    list[str],
    typer.Argument(
        help="A manifest, several, or a plan saved with `plan --out`.", metavar="MANIFEST...|PLAN"
    ),
]
ManifestOrPlan = Annotated[
    str, typer.Argument(help="A manifest, or a plan saved with `plan --out`.", metavar="MANIFEST|PLAN")
]
Env = Annotated[
    str | None,
    typer.Option(
        "--env",
        help="Environment of the manifest to lay over it [CYBORG_INFRA_ENV].",
        metavar="NAME",
        envvar="CYBORG_INFRA_ENV",
        show_envvar=False,
        show_default=False,
        autocompletion=complete.environments,
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Delete what this organisation owns and the manifest no longer has.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        help="Only what belongs to this role; may be repeated.",
        metavar="ROLE",
        show_default=False,
        autocompletion=complete.roles,
    ),
]
Output = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
PlanOutput = Annotated[
    PlanFormat, typer.Option("--format", help="How to print the plan; markdown is for a pull request.")
]
MOST_CHARS = 65_000
MaxChars = Annotated[
    int,
    typer.Option(
        "--max-chars",
        help="The longest that markdown may be; what does not fit is counted.",
        metavar="N",
        min=2000,
    ),
]
NoColor = Annotated[bool, typer.Option("--no-color", help="Print without colour [NO_COLOR].")]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Drain = Annotated[
    str,
    typer.Option(
        "--drain-timeout",
        help="How long a consumer that is replaced waits for work under way, as long as some of it gets done.",
        metavar="DURATION",
    ),
]
LockTimeout = Annotated[
    str,
    typer.Option("--lock-timeout", help="How long to wait while somebody else applies.", metavar="DURATION"),
]
NoLock = Annotated[
    bool, typer.Option("--no-lock", help="Apply without the lease that keeps two applies apart.")
]


def seconds(name: str, text: str) -> float:
    """Return the duration of option `name`, such as 30s. Raises UsageInvalid for what is none."""
    try:
        return parse_duration(text) / SECOND
    except ValueError as error:
        raise UsageInvalid(Problem("usage", f"{name}: {error}")) from None
