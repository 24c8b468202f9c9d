"""`message check`: every problem of messages, at once. Needs no server."""

from __future__ import annotations

from typing import Annotated

import typer

from cyborg_infra import offline
from cyborg_infra.cli.options import Format, Output
from cyborg_infra.cli.output import put_json
from cyborg_infra.model.messages import MessageKind

HELP = "Check the messages of an organisation: tasks, statuses, alerts and the others."

File = Annotated[
    str,
    typer.Argument(
        help="One message, or one a line (JSON lines); - is standard input.",
        metavar="FILE",
        show_default=False,
    ),
]
Kind = Annotated[
    MessageKind | None,
    typer.Option("--type", help="Type of all messages; else each tells its own.", show_default=False),
]


def check(file: File, *, kind: Kind = None, output: Output = Format.TEXT) -> None:
    """Check messages, and that the statuses of a task follow one another. Needs no server."""
    from cyborg_infra.render import console, data, messages

    found = offline.messages_in(file, kind)
    if output is Format.JSON:
        put_json(data.checked(found))
    else:
        console.stdout().print(messages.checked(found))


COMMANDS = {"check": (check, "Example: cyborg-infra message check task.json --type task")}
