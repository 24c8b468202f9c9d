"""The options that several commands share, as typer annotations."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from cyborg_infra.cli import complete
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.units import SECOND, parse_duration


class Format(StrEnum):
    """How a command prints its answer."""

    TEXT = "text"
    JSON = "json"


class ShowFormat(StrEnum):
    """How `show` prints; mermaid and dot are a picture."""

    TEXT = "text"
    JSON = "json"
    MERMAID = "mermaid"
    DOT = "dot"


class ValidateFormat(StrEnum):
    """How `validate` prints; github, gitlab and sarif are shown beside the line by who hosts the repository."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"
    GITLAB = "gitlab"
    SARIF = "sarif"


class PlanFormat(StrEnum):
    """How a plan is printed; markdown is for a pull request."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


MANIFEST = "org.yaml"
MANIFESTS = [MANIFEST]

CONNECTION = "Connection (as in the nats CLI)"
"""The heading of the options that `connected` adds."""


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


Manifest = Annotated[str, typer.Argument(help="The manifest.", metavar="MANIFEST", show_default=True)]
Manifests = Annotated[
    list[str],
    typer.Argument(
        help="The manifest; of several, each is planned.", metavar="MANIFEST...", show_default=True
    ),
]
ManifestsOrPlan = Annotated[
    list[str],
    typer.Argument(
        help="A manifest, several, or a plan saved with `plan --out`.", metavar="MANIFEST...|PLAN"
    ),
]
ManifestOrPlan = Annotated[
    str, typer.Argument(help="A manifest, or a plan saved with `plan --out`.", metavar="MANIFEST|PLAN")
]
Env = Annotated[
    str | None,
    typer.Option(
        "--env",
        help="Environment of the manifest to lay over it [CYBORG_INFRA_ENV].",
        metavar="NAME",
        envvar="CYBORG_INFRA_ENV",
        show_envvar=False,
        show_default=False,
        autocompletion=complete.environments,
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
        autocompletion=complete.roles,
    ),
]
ShowOutput = Annotated[
    ShowFormat,
    typer.Option("--format", help="How to print it; mermaid and dot draw who talks to whom."),
]
ValidateOutput = Annotated[
    ValidateFormat,
    typer.Option("--format", help="How to print it; github, gitlab and sarif are shown beside the line."),
]
MessageType = Annotated[
    MessageKind | None,
    typer.Option("--type", help="Type of all messages; else each tells its own.", show_default=False),
]
Output = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
PlanOutput = Annotated[
    PlanFormat, typer.Option("--format", help="How to print the plan; markdown is for a pull request.")
]
MOST_CHARS = 65_000
MaxChars = Annotated[
    int,
    typer.Option(
        "--max-chars",
        help="The longest that markdown may be; what does not fit is counted.",
        metavar="N",
        min=2000,
    ),
]
NoColor = Annotated[bool, typer.Option("--no-color", help="Print without colour [NO_COLOR].")]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Drain = Annotated[
    str,
    typer.Option(
        "--drain-timeout",
        help="How long a consumer that is replaced waits for work under way, as long as some of it gets done.",
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
    "inbox_prefix": (str, _connection("inbox-prefix", "Subject prefix of replies.", metavar="PREFIX")),
    "timeout": (
        str,
        _connection("timeout", "How long to wait for one answer, such as 5s.", "NATS_TIMEOUT", "DURATION"),
    ),
}


def seconds(name: str, text: str) -> float:
    """Return the duration of option `name`, such as 30s. Raises UsageInvalid for what is none."""
    try:
        return parse_duration(text) / SECOND
    except ValueError as error:
        raise UsageInvalid(Problem("usage", f"{name}: {error}")) from None


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
