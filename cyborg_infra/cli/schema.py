"""`schema`: the JSON Schema of a manifest, of a message, of every output. Needs no server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cyborg_infra.operations import manifest

EXAMPLES = "Example: cyborg-infra schema org > org.schema.json"

Name = Annotated[
    str | None,
    typer.Argument(
        help="Of what: org is the manifest, plan what `plan --format json` prints [default: list all names].",
        metavar="NAME",
        show_default=False,
        autocompletion=manifest.list_schemas,
    ),
]


def command(name: Name = None) -> None:
    """Print the JSON Schema of a manifest, a message or an output. Without a name it lists them."""
    sys.stdout.write(
        manifest.schema_text(name) if name else "".join(f"{each}\n" for each in manifest.list_schemas())
    )
