"""`init`: a commented manifest to start from. Never overwrites."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.files import create_manifest
from cyborg_infra.cli.options import MANIFEST
from cyborg_infra.cli.output import ask, has_terminal
from cyborg_infra.operations import manifest as offline

EXAMPLES = "Example: cyborg-infra init --org acme --role ceo --role backend"

ORG = "genbrain"
ROLES = ("ceo", "cto", "backend")

OrgName = Annotated[
    str | None,
    typer.Option(
        "--org",
        help=f"The organisation's name: the first token of every subject [default: {ORG}].",
        metavar="NAME",
        show_default=False,
    ),
]
Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        help=f"A role; may be repeated [default: {', '.join(ROLES)}].",
        metavar="ROLE",
        show_default=False,
    ),
]
To = Annotated[Path, typer.Argument(help="The file to write.", metavar="MANIFEST")]


def command(manifest: To = Path(MANIFEST), *, org: OrgName = None, role: Roles = None) -> None:
    """Write a commented manifest to start from. A file that is there stays as it is. On a terminal it asks for names."""
    if org is None and not role and has_terminal():
        org = ask("The organisation's name", ORG)
        role = ask("Its roles, with spaces between", " ".join(ROLES)).replace(",", " ").split()
    text = offline.starter(org or ORG, role or ROLES)
    written = create_manifest(manifest, text)
    sys.stderr.write(
        f"Wrote {written}. Next: cyborg-infra show {manifest}, then cyborg-infra plan {manifest}\n"
    )
