"""The options that commands share, each written once. Knows what they are called, not what they do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.units import SECOND, parse_duration


class Format(StrEnum):
    """How a command prints its answer."""

    TEXT = "text"
    JSON = "json"


class PlanFormat(StrEnum):
    """How a plan is printed; markdown is for a pull request."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


MANIFEST = "org.yaml"

_CONNECTION = "Connection (as in the nats CLI)"


def _connection(flag: str, doc: str, env: str = "", metavar: str = "TEXT") -> Any:
    return typer.Option(
        f"--{flag}",
        help=f"{doc} [{env}]" if env else doc,
        metavar=metavar,
        rich_help_panel=_CONNECTION,
        show_default=False,
    )


Manifest = Annotated[str, typer.Argument(help="The manifest.", metavar="MANIFEST", show_default=True)]
Env = Annotated[
    str | None,
    typer.Option(
        "--env", help="Environment of the manifest to lay over it.", metavar="NAME", show_default=False
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Delete what this organisation owns and the manifest no longer has.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        help="Only what belongs to this role; may be repeated.",
        metavar="ROLE",
        show_default=False,
    ),
]
Output = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
PlanOutput = Annotated[
    PlanFormat, typer.Option("--format", help="How to print the plan; markdown is for a pull request.")
]
NoColor = Annotated[bool, typer.Option("--no-color", help="Print without colour [NO_COLOR].")]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Drain = Annotated[
    str,
    typer.Option(
        "--drain-timeout",
        help="How long a consumer that is replaced waits for work under way.",
        metavar="DURATION",
    ),
]
LockTimeout = Annotated[
    str,
    typer.Option("--lock-timeout", help="How long to wait while somebody else applies.", metavar="DURATION"),
]
NoLock = Annotated[
    bool, typer.Option("--no-lock", help="Apply without the lease that keeps two applies apart.")
]

_FLAGS: dict[str, tuple[Any, Any]] = {
    "server": (
        str,
        typer.Option(
            "--server",
            "-s",
            help="URL of the server, or several with commas [NATS_URL].",
            metavar="URL",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "context": (str, _connection("context", "A context of the nats CLI, or a file.", "NATS_CONTEXT", "NAME")),
    "no_context": (
        bool,
        typer.Option("--no-context", help="Ignore the selected context.", rich_help_panel=_CONNECTION),
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
        typer.Option("--tlsfirst", help="TLS before the server's first word.", rich_help_panel=_CONNECTION),
    ),
    "js_domain": (str, _connection("js-domain", "JetStream domain.", metavar="NAME")),
    "js_api_prefix": (
        str,
        _connection("js-api-prefix", "Subject prefix of the JetStream API.", metavar="PREFIX"),
    ),
    "inbox_prefix": (str, _connection("inbox-prefix", "Subject prefix of replies.", metavar="PREFIX")),
    "timeout": (
        str,
        _connection("timeout", "How long to wait for one answer, such as 5s.", "NATS_TIMEOUT", "DURATION"),
    ),
}


def seconds(name: str, text: str) -> float:
    """The duration of option `name`, such as 30s. Raises UsageInvalid for what is none."""
    try:
        return parse_duration(text) / SECOND
    except ValueError as error:
        raise UsageInvalid(Problem("usage", f"{name}: {error}")) from None


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every connection option; it takes them together, as `flags`."""
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
        from cyborg_infra.pipeline import Flags

        flags = Flags(**{name: given.pop(name) for name in _FLAGS})
        command(flags=flags, **given)

    # typer reads the signature and the annotations.
    with_flags.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    with_flags.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return with_flags
