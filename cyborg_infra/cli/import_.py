"""`import`: a manifest of what an account holds already. Changes nothing; never overwrites a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import connected
from cyborg_infra.cli.output import create, warn
from cyborg_infra.operations.imports import imported

EXAMPLES = "Example: cyborg-infra import --org acme --out org.yaml"

Org = Annotated[
    str,
    typer.Option("--org", help="The organisation's name: the first token of its subjects.", metavar="NAME"),
]
Prefix = Annotated[
    str, typer.Option("--stream-prefix", help="What its streams' names begin with.", metavar="PREFIX")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The file to write [default: stdout].", metavar="FILE", show_default=False),
]


@connected
def command(*, org: Org, stream_prefix: Prefix = "", out: Out = None, flags: pipeline.Flags) -> None:
    """Write a manifest of the streams and consumers that a server has, for `plan` to adopt."""
    server = pipeline.resolve(flags, os.environ)
    warn(*server.warnings)
    text, notes = imported(org, stream_prefix, server)
    if out is None:
        sys.stdout.write(text)
    else:
        create(out, text)
    for note in notes:
        sys.stderr.write(f"Note: {note}\n")
    if out is not None:
        sys.stderr.write(f"Wrote {out}. Next: cyborg-infra plan {out}\n")
