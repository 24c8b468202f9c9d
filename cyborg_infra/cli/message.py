"""`message check`: every problem of messages, at once. Needs no server."""

from __future__ import annotations

from typing import Annotated

import typer

from cyborg_infra.cli.message_options import MessageType
from cyborg_infra.cli.options import Env, Format, Output
from cyborg_infra.cli.output import put_answer
from cyborg_infra.operations import manifest as operation

HELP = "Check tasks, statuses, alerts and the other messages."

File = Annotated[
    str,
    typer.Argument(
        help="One message, or one a line (JSON lines); - is standard input.",
        metavar="FILE",
        show_default=False,
    ),
]


HeldTo = Annotated[
    str | None,
    typer.Argument(
        help="The manifest whose chart the tasks are held to.", metavar="[MANIFEST]", show_default=False
    ),
]


def check(
    file: File,
    manifest: HeldTo = None,
    *,
    kind: MessageType = None,
    env: Env = None,
    output: Output = Format.TEXT,
) -> None:
    """Check messages, and that the statuses of a task follow one another. Needs no server.

    With a manifest, tasks are held to its chart: who gives them to whom, and who gets what follows.
    """
    from cyborg_infra.render import json_format
    from cyborg_infra.render.terminal import messages

    found = operation.load_messages(file, kind, manifest, env)
    put_answer(found, output, json_format.checked, messages.checked)


COMMANDS = {"check": (check, "Example: cyborg-infra message check task.json --type task")}
