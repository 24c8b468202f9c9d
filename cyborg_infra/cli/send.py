"""`send`: give a role a task, write to its inbox, tell all of them something."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import MANIFEST, Env, Format, NoColor, Output, connected
from cyborg_infra.cli.output import put_json, say_where, warn
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.outgoing import Channel
from cyborg_infra.model.problems import EXIT_ERROR, EXIT_REFUSED
from cyborg_infra.operations import send as operation

HELP = "Give a role a task, write to its inbox, or tell all roles something."


class Allowance(StrEnum):
    """What `--allow` takes."""

    OVER_LIMIT = "over-limit"


Role = Annotated[str, typer.Argument(help="The role.", metavar="ROLE", show_default=False)]
File = Annotated[
    str,
    typer.Argument(
        help="One message, or one a line (JSON lines); - is standard input.",
        metavar="FILE",
        show_default=False,
    ),
]
ManifestOption = Annotated[
    str, typer.Option("--manifest", "-f", help="The manifest.", metavar="MANIFEST", show_default=True)
]
Kind = Annotated[
    MessageKind | None,
    typer.Option("--type", help="Type of all messages; else each tells its own.", show_default=False),
]
Allow = Annotated[
    list[Allowance] | None,
    typer.Option(
        "--allow",
        help="over-limit: send even if more would wait for the role than alerts.lag.",
        metavar="NAME",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and send nothing.")]


@connected
def task(
    role: Role,
    file: File,
    *,
    manifest: ManifestOption = MANIFEST,
    env: Env = None,
    allow: Allow = None,
    dry_run: DryRun = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Give a role a task. Its task_id is the id under which it is stored once."""
    post = operation.post(manifest, env, Channel.TASK, role, file, MessageKind.TASK)
    _send(post, flags, allow, dry_run=dry_run, output=output, no_color=no_color)


@connected
def inbox(
    role: Role,
    file: File,
    *,
    kind: Kind = None,
    manifest: ManifestOption = MANIFEST,
    env: Env = None,
    allow: Allow = None,
    dry_run: DryRun = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Write to a role's inbox. The same content for the same role is stored once."""
    post = operation.post(manifest, env, Channel.INBOX, role, file, kind)
    _send(post, flags, allow, dry_run=dry_run, output=output, no_color=no_color)


@connected
def broadcast(
    file: File,
    *,
    manifest: ManifestOption = MANIFEST,
    env: Env = None,
    dry_run: DryRun = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Tell all roles something. The same content is stored once."""
    post = operation.post(manifest, env, Channel.BROADCAST, "", file, MessageKind.BROADCAST)
    _send(post, flags, None, dry_run=dry_run, output=output, no_color=no_color)


COMMANDS = {
    "task": (task, "Example: cyborg-infra send task backend task.json"),
    "inbox": (inbox, "Example: cyborg-infra send inbox ceo alert.json"),
    "broadcast": (broadcast, "Example: cyborg-infra send broadcast policy.json --dry-run"),
}


def _send(
    post: operation.Post,
    flags: pipeline.Flags,
    allow: list[Allowance] | None,
    *,
    dry_run: bool,
    output: Format,
    no_color: bool,
) -> None:
    """The messages are sent and the results are on stdout. Exits 3 if a full stream refused one, 1 for anything else."""
    from cyborg_infra.render import console, outgoing

    server = pipeline.resolve(flags, os.environ)
    warn(*server.warnings)
    results = operation.send(post, server, say_where, over_limit=bool(allow), dry_run=dry_run)
    if output is Format.JSON:
        put_json(outgoing.data(results, dry_run=dry_run))
    else:
        console.stdout(no_color=no_color).print(outgoing.sent(results, dry_run=dry_run))
    if problem := next((result.problem for result in results if result.problem), None):
        raise typer.Exit(EXIT_REFUSED if problem.code == Allowance.OVER_LIMIT else EXIT_ERROR)
