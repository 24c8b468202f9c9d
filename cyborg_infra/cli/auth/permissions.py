"""`auth show` and `auth explain`: what each identity may do, and why."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, NoColor, Output
from cyborg_infra.cli.output import put_answer, put_json
from cyborg_infra.model.identities import Operation
from cyborg_infra.model.problems import EXIT_REFUSED
from cyborg_infra.operations import identities as operation


class AuthFormat(StrEnum):
    """How identities are printed; markdown is for a page or a review."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


Name = Annotated[
    str | None,
    typer.Option(
        "--identity",
        help="Only this role or standing identity, with each subject.",
        metavar="NAME",
        show_default=False,
    ),
]
Identity = Annotated[str, typer.Argument(help="A role, or a standing identity.", metavar="IDENTITY")]
What = Annotated[
    str,
    typer.Argument(
        help="A subject; of pull a consumer, of request also a role.",
        metavar="WHAT",
    ),
]
Wanted = Annotated[
    Operation,
    typer.Argument(help="What it wants to do.", metavar="|".join(Operation)),
]
Domain = Annotated[
    str | None,
    typer.Option(
        "--js-domain",
        help="JetStream domain of the hub, for clients that are connected to a leaf node.",
        metavar="NAME",
        show_default=False,
    ),
]
AuthOutput = Annotated[
    AuthFormat, typer.Option("--format", help="How to print it; markdown is for a page or a review.")
]


def show(
    manifest: Manifest = MANIFEST,
    *,
    identity: Name = None,
    env: Env = None,
    domain: Domain = None,
    output: AuthOutput = AuthFormat.TEXT,
    no_color: NoColor = False,
) -> None:
    """Show who may publish and hear what, and why. Needs no server.

    Of every role, and of those who run the organisation: who plans, applies, sends, looks.
    """
    from cyborg_infra.render import identities as render
    from cyborg_infra.render.terminal import console

    org, _, found, crossings = operation.load_identities(manifest, env, domain)
    if identity is not None:
        found = (operation.find_identity(found, identity),)
    match output:
        case AuthFormat.JSON:
            put_json(render.data(org, found, crossings))
        case AuthFormat.MARKDOWN:
            sys.stdout.write(render.markdown(org, found, crossings))
        case AuthFormat.TEXT:
            console.stdout(no_color=no_color).print(
                render.text(org, found, crossings, chosen=identity is not None)
            )


def explain(
    identity: Identity,
    wanted: Wanted,
    what: What,
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    domain: Domain = None,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
) -> None:
    """Say whether an identity may do something, and by which row. Exits 3 if it may not. Needs no server."""
    from cyborg_infra.render import identities as render

    found = operation.explain_identity(manifest, env, identity, wanted, what, domain)
    put_answer(found, output, render.explanation_data, render.explanation, no_color=no_color)
    if not found.is_allowed:
        raise typer.Exit(EXIT_REFUSED)


COMMANDS = {
    "show": (show, "Example: cyborg-infra auth show org.yaml --identity cto"),
    "explain": (explain, "Example: cyborg-infra auth explain cto publish acme.agents.backend.tasks"),
}
