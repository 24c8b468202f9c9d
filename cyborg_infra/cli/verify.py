"""`verify`: prove on the server at hand that tasks, messages and dead letters go as they should."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.options import MANIFEST, Env, Manifest, NoColor
from cyborg_infra.cli.output import put_json, say_where
from cyborg_infra.model.problems import EXIT_ERROR, Problem, UsageInvalid
from cyborg_infra.model.verification import CheckName, CheckResult, VerifyStage
from cyborg_infra.operations import targets

EXAMPLES = "Example: cyborg-infra verify --format junit > verify.xml"


class VerifyFormat(StrEnum):
    """How the answer is printed; junit is for a CI server."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"


Embedded = Annotated[
    bool,
    typer.Option(
        "--embedded",
        help="On a nats-server of its own, which is restarted in the middle of the work. Needs cyborg-infra[server].",
    ),
]
Checks = Annotated[
    list[CheckName] | None,
    typer.Option("--check", help="Only this check; may be repeated.", metavar="NAME", show_default=False),
]
Clean = Annotated[
    bool,
    typer.Option(
        "--clean",
        help="Remove what runs that were killed have left, and check nothing.",
    ),
]
Auth = Annotated[
    bool,
    typer.Option(
        "--auth",
        help="The identities: with --embedded each does its work, and is refused all else; with --keys the server says what each may.",
    ),
]
Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        help="With --auth: the seeds or credentials, one file each.",
        metavar="DIR",
        show_default=False,
    ),
]
VerifyOutput = Annotated[
    VerifyFormat, typer.Option("--format", help="How to print the answer; junit is for a CI server.")
]


@connected
def command(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    embedded: Embedded = False,
    checks: Checks = None,
    clean: Clean = False,
    auth: Auth = False,
    keys: Keys = None,
    output: VerifyOutput = VerifyFormat.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Prove that the patterns work, on a copy of the manifest. The copy is made on the server and removed. Exits 1 if one fails."""
    from cyborg_infra.operations import verify as operation
    from cyborg_infra.render import verification
    from cyborg_infra.render.terminal import console

    _refuse_wrong_options(clean=clean, embedded=embedded, checks=checks, auth=auth, keys=keys, output=output)
    target = target_of(flags)
    if clean:
        removed = operation.clean(manifest, env, target, say_where)
        console.stdout(no_color=no_color).print(verification.cleaned(removed))
        return
    talk = console.stderr(no_color=no_color)

    def tell(value: VerifyStage | CheckResult) -> None:
        if (page := verification.progress(value)) is not None:
            talk.print(page)

    if auth:
        from cyborg_infra.operations import verify_identities

        found = (
            verify_identities.verify_identities(manifest, env, target, keys, tell)
            if keys
            else verify_identities.verify_identities_embedded(manifest, env, tell)
        )
    else:
        found = operation.verify(
            manifest, env, target, say_where, checks or (), embedded=embedded, on_progress=tell
        )
    match output:
        case VerifyFormat.JSON:
            put_json(verification.data(found))
        case VerifyFormat.JUNIT:
            sys.stdout.write(verification.junit(found))
        case VerifyFormat.TEXT:
            console.stdout(no_color=no_color).print(verification.text(found))
    if not found.passed:
        raise typer.Exit(EXIT_ERROR)


def _refuse_wrong_options(
    *,
    clean: bool,
    embedded: bool,
    checks: list[CheckName] | None,
    auth: bool,
    keys: Path | None,
    output: VerifyFormat,
) -> None:
    """Raise UsageInvalid for options that do not go together."""
    if clean and (embedded or checks or output is not VerifyFormat.TEXT):
        raise UsageInvalid(Problem("usage", "--clean goes neither with --embedded nor --check nor --format"))
    if auth and (clean or checks or embedded == (keys is not None)):
        hint = "say either --embedded or --keys DIR"
        raise UsageInvalid(
            Problem("usage", "--auth goes with --embedded or --keys, and with no --check", None, hint)
        )
    if keys and not auth:
        raise UsageInvalid(Problem("usage", "--keys goes with --auth only"))
