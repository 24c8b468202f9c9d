"""The option that the commands about messages share."""

from __future__ import annotations

from typing import Annotated

import typer

from cyborg_infra.model.messages import MessageKind

MessageType = Annotated[
    MessageKind | None,
    typer.Option("--type", help="Type of all messages; else each tells its own.", show_default=False),
]
