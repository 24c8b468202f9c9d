"""`import`: a manifest of what an account holds already, or other tools' files say. Changes nothing; never overwrites a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.files import create_manifest
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.operations import manifest, targets
from cyborg_infra.operations.imports import READERS, import_files, import_manifest

EXAMPLES = "Example: cyborg-infra import --org acme --out org.yaml"

OrgName = Annotated[
    str,
    typer.Option("--org", help="The organisation's name: the first token of its subjects.", metavar="NAME"),
]
Prefix = Annotated[
    str, typer.Option("--stream-prefix", help="What its streams' names begin with.", metavar="PREFIX")
]
Naming = Annotated[
    str | None,
    typer.Option(
        "--naming",
        help="A manifest, or the naming and channels of one, by which to read; its roles are ignored.",
        metavar="FILE",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The file to write [default: stdout].", metavar="FILE", show_default=False),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help=f"Read FILE... of another tool instead of a server: {', '.join(READERS)}.",
        metavar="TOOL",
        show_default=False,
        autocompletion=lambda: list(READERS),
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Argument(help="Files of that tool; of nats a folder.", metavar="FILE...", show_default=False),
]


@connected
def command(
    files: Files = None,
    *,
    org: OrgName,
    source: From = None,
    stream_prefix: Prefix = "",
    naming: Naming = None,
    out: Out = None,
    flags: targets.Flags,
) -> None:
    """Write a manifest of what a server has, for `plan` to adopt. Changes nothing on the server.

    With --from it reads what another tool's files say, and needs no server.
    """
    if source is None:
        if files:
            raise UsageInvalid(
                Problem("usage", "files are read with --from", None, f"--from {' or '.join(READERS)}")
            )
        server = target_of(flags)
        text, notes = import_manifest(org, stream_prefix, server, naming)
    elif source not in READERS:
        raise UsageInvalid(Problem("usage", f"--from {source}: there are {', '.join(READERS)}"))
    elif not files:
        raise UsageInvalid(Problem("usage", f"--from {source} needs the files to read"))
    else:
        text, notes = import_files(source, files, org, stream_prefix, naming)
    text = manifest.SCHEMA_LINE + text
    written = create_manifest(out, text) if out else ""
    if out is None:
        sys.stdout.write(text)
    for note in notes:
        sys.stderr.write(f"Note: {note}\n")
    if out is not None:
        sys.stderr.write(f"Wrote {written}. Next: cyborg-infra plan {out}\n")
