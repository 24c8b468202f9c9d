"""The options that the commands of operator mode share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.options import seconds

Account = Annotated[
    str,
    typer.Option(
        "--account",
        help="Public key of the account with JetStream (A...), or a file with its token [CYBORG_INFRA_ACCOUNT].",
        metavar="KEY|FILE",
        envvar="CYBORG_INFRA_ACCOUNT",
        show_envvar=False,
        show_default=False,
    ),
]
AgentsAccount = Annotated[
    str,
    typer.Option(
        "--agents-account",
        help="The same of the roles' account, which has no JetStream [CYBORG_INFRA_AGENTS_ACCOUNT].",
        metavar="KEY|FILE",
        envvar="CYBORG_INFRA_AGENTS_ACCOUNT",
        show_envvar=False,
        show_default=False,
    ),
]
Keys = Annotated[
    Path, typer.Option("--keys", help="Directory of the signing keys and credentials.", metavar="DIR")
]
KEYS = Path("keys")
IdentityName = Annotated[str, typer.Argument(help="A role, or a standing identity.", metavar="IDENTITY")]
Expires = Annotated[
    str,
    typer.Option(
        "--expires",
        help="How long new credentials are good for, such as 30d; for ever without it.",
        metavar="DURATION",
        show_default=False,
    ),
]
ClaimsFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--claims",
        help="Read an account's token from this file instead of the server, and write it there; once for each account.",
        metavar="FILE",
        show_default=False,
    ),
]
OperatorKey = Annotated[
    Path | None,
    typer.Option(
        "--operator-key",
        help="File with a seed of the operator, or of a signing key of his [the seed: CYBORG_INFRA_OPERATOR_SEED].",
        metavar="FILE",
        show_default=False,
    ),
]


def lifetime(expires: str) -> float | None:
    """Return for how many seconds credentials are good; None for ever. Raises UsageInvalid."""
    return seconds("--expires", expires) if expires else None
