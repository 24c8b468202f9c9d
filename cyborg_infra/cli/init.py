"""`init`: a commented manifest to start from. Never overwrites."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra import offline
from cyborg_infra.cli.options import MANIFEST
from cyborg_infra.cli.output import create

EXAMPLES = "Example: cyborg-infra init --org acme --role ceo --role backend"

Org = Annotated[
    str,
    typer.Option("--org", help="The organisation's name: the first token of every subject.", metavar="NAME"),
]
Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        help="A role; may be repeated [default: ceo, cto, backend].",
        metavar="ROLE",
        show_default=False,
    ),
]
To = Annotated[Path, typer.Argument(help="The file to write.", metavar="MANIFEST")]


def command(manifest: To = Path(MANIFEST), *, org: Org = "genbrain", role: Roles = None) -> None:
    """Write a commented manifest to start from; an existing file stays as it is."""
    text = offline.starter(org, role or ["ceo", "cto", "backend"])
    create(manifest, text)
    sys.stderr.write(
        f"Wrote {manifest}. Next: cyborg-infra show {manifest}, then cyborg-infra plan {manifest}\n"
    )
