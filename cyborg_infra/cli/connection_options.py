"""The options that every command with a connection takes."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyborg_infra.cli import complete
from cyborg_infra.cli.options import CONNECTION
from cyborg_infra.cli.output import warn

if TYPE_CHECKING:
    from cyborg_infra.operations.targets import Flags, Target


def _connection(
    flag: str,
    doc: str,
    env: str = "",
    metavar: str = "TEXT",
    completed: Callable[[str], list[str]] | None = None,
) -> Any:
    return typer.Option(
        f"--{flag}",
        help=f"{doc} [{env}]" if env else doc,
        metavar=metavar,
        rich_help_panel=CONNECTION,
        show_default=False,
        autocompletion=completed,
    )


_FLAGS: dict[str, tuple[Any, Any]] = {
    "server": (
        str,
        typer.Option(
            "--server",
            "-s",
            help="URL of the server, or several with commas [NATS_URL].",
            metavar="URL",
            rich_help_panel=CONNECTION,
            show_default=False,
        ),
    ),
    "context": (
        str,
        _connection(
            "context", "A context of the nats CLI, or a file.", "NATS_CONTEXT", "NAME", complete.contexts
        ),
    ),
    "no_context": (
        bool,
        typer.Option("--no-context", help="Ignore the selected context.", rich_help_panel=CONNECTION),
    ),
    "user": (str, _connection("user", "User, or a token if there is no password.", "NATS_USER")),
    "password": (str, _connection("password", "Password.", "NATS_PASSWORD")),
    "token": (str, _connection("token", "Token.", "NATS_TOKEN")),
    "creds": (str, _connection("creds", "Credentials file.", "NATS_CREDS", "FILE")),
    "nkey": (str, _connection("nkey", "NKey seed file.", "NATS_NKEY", "FILE")),
    "jwt": (str, _connection("jwt", "User JWT, with --seed.", "NATS_JWT")),
    "seed": (str, _connection("seed", "NKey seed of the JWT.", "NATS_SEED")),
    "tlscert": (str, _connection("tlscert", "Client certificate.", "NATS_CERT", "FILE")),
    "tlskey": (str, _connection("tlskey", "Key of the client certificate.", "NATS_KEY", "FILE")),
    "tlsca": (str, _connection("tlsca", "Certificate authority of the server.", "NATS_CA", "FILE")),
    "tlsfirst": (
        bool,
        typer.Option("--tlsfirst", help="TLS before the server's first word.", rich_help_panel=CONNECTION),
    ),
    "js_domain": (str, _connection("js-domain", "JetStream domain.", metavar="NAME")),
    "js_api_prefix": (
        str,
        _connection("js-api-prefix", "Subject prefix of the JetStream API.", metavar="PREFIX"),
    ),
    "inbox_prefix": (
        str,
        _connection("inbox-prefix", "Subject prefix of replies.", "CYBORG_INFRA_INBOX_PREFIX", "PREFIX"),
    ),
    "timeout": (
        str,
        _connection("timeout", "How long to wait for one answer, such as 5s.", "NATS_TIMEOUT", "DURATION"),
    ),
}


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with every connection option; it takes them together, as `flags`."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "flags"]
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=type_(), annotation=Annotated[type_, option]
        )
        for name, (type_, option) in _FLAGS.items()
    ]

    @functools.wraps(command)
    def with_flags(**given: Any) -> None:
        from cyborg_infra.operations.targets import Flags

        flags = Flags(**{name: given.pop(name) for name in _FLAGS})
        command(flags=flags, **given)

    # typer reads the signature and the annotations.
    with_flags.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    with_flags.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return with_flags


def target_of(flags: Flags) -> Target:
    """Return the server that the options, the environment and the contexts name; what is odd about it is said on stderr."""
    from cyborg_infra.operations.targets import resolve

    target = resolve(flags, os.environ)
    warn(*target.warnings)
    return target
