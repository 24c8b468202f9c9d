"""`dlq`: look at the dead letters, and replay, keep or drop them."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import MANIFEST, Env, Format, NoColor, Output, Yes, connected
from cyborg_infra.cli.output import confirm, put_json, say_where, warn
from cyborg_infra.model.dead_letter import DeadLetter, DeathType, Handling
from cyborg_infra.model.plan import HazardName
from cyborg_infra.model.problems import EXIT_ERROR, EXIT_REFUSED, Problem, UsageInvalid
from cyborg_infra.model.units import parse_duration
from cyborg_infra.operations import dead_letters as operation
from cyborg_infra.operations.dead_letters import Selection
from cyborg_infra.operations.place import Meet

File = Annotated[
    str, typer.Option("--manifest", "-f", help="The manifest.", metavar="MANIFEST", show_default=True)
]
Number = Annotated[int, typer.Argument(help="Its number, as `dlq list` shows it.", metavar="N")]
Numbers = Annotated[
    list[int] | None, typer.Argument(help="Numbers, as `dlq list` shows them.", metavar="N...")
]
Role = Annotated[str, typer.Option("--role", help="Only this role's.", metavar="ROLE", show_default=False)]
Type = Annotated[
    DeathType | None, typer.Option("--type", help="Only those that failed so.", show_default=False)
]
OlderThan = Annotated[
    str,
    typer.Option(
        "--older-than", help="Only those that failed so long ago.", metavar="DURATION", show_default=False
    ),
]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


class Allowance(StrEnum):
    """What `--allow` takes."""

    REPEATS_WORK = HazardName.REPEATS_WORK.value


REFUSALS = {*Allowance, "over-limit"}
"""Codes of problems that nothing is wrong with: what may be allowed by name, and a stream that takes no more now."""


Allow = Annotated[
    list[Allowance] | None,
    typer.Option(
        "--allow",
        help="repeats-work: publish again also what an interrupted replay may have published.",
        metavar="NAME",
        show_default=False,
    ),
]

HELP = "Look at the dead letters, and replay, keep or drop them."


@connected
def list_(
    *,
    manifest: File = MANIFEST,
    env: Env = None,
    role: Role = "",
    type_: Type = None,
    older_than: OlderThan = "",
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """List what failed for good: when, whose, how, and whether the message is still there."""
    from cyborg_infra.render import console, dead_letters

    letters = _found(manifest, env, flags, _selection(role, type_, older_than))
    if output is Format.JSON:
        put_json(dead_letters.data(letters))
    else:
        console.stdout(no_color=no_color).print(dead_letters.listed(letters))


@connected
def show(
    number: Number,
    *,
    manifest: File = MANIFEST,
    env: Env = None,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Show one dead letter: how it failed, and the message with its headers."""
    from cyborg_infra.render import console, dead_letters

    letters = _found(manifest, env, flags, Selection((number,)))
    if output is Format.JSON:
        put_json(dead_letters.data(letters))
    else:
        console.stdout(no_color=no_color).print(dead_letters.shown(letters[0]))


@connected
def replay(
    numbers: Numbers = None,
    *,
    manifest: File = MANIFEST,
    env: Env = None,
    role: Role = "",
    type_: Type = None,
    older_than: OlderThan = "",
    all_: All = False,
    allow: Allow = None,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Publish the messages again, each once: a dead letter that was replayed is gone."""
    wanted = _chosen(numbers, _selection(role, type_, older_than), all_=all_)
    _handle(Handling.REPLAY, manifest, env, flags, wanted, output, repeat=bool(allow), no_color=no_color)


@connected
def keep(
    *,
    manifest: File = MANIFEST,
    env: Env = None,
    role: Role = "",
    type_: Type = None,
    older_than: OlderThan = "",
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Copy the messages into DEAD_LETTERS before their streams drop them; for cron. A workqueue has its slots back."""
    wanted = _selection(role, type_, older_than)
    _handle(Handling.KEEP, manifest, env, flags, wanted, output, no_color=no_color)


@connected
def drop(
    numbers: Numbers = None,
    *,
    manifest: File = MANIFEST,
    env: Env = None,
    role: Role = "",
    type_: Type = None,
    older_than: OlderThan = "",
    all_: All = False,
    yes: Yes = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Delete dead letters, and what was kept of them, for good."""
    wanted = _chosen(numbers, _selection(role, type_, older_than), all_=all_)
    found = _found(manifest, env, flags, wanted)
    if found:
        confirm(f"Delete {len(found)} dead letters for good?", "yes", yes=yes)
    chosen = Selection(tuple(letter.number for letter in found))
    _handle(
        Handling.DROP, manifest, env, flags, chosen, output, told=lambda _org, _facts: None, no_color=no_color
    )


COMMANDS = {
    "list": (list_, "Example: cyborg-infra dlq list --role cto"),
    "show": (show, "Example: cyborg-infra dlq show 12"),
    "replay": (replay, "Example: cyborg-infra dlq replay 12 13"),
    "keep": (keep, "Example: cyborg-infra dlq keep --format json"),
    "drop": (drop, "Example: cyborg-infra dlq drop --older-than 30d --yes"),
}


def _selection(role: str, type_: DeathType | None, older_than: str) -> Selection:
    try:
        age = parse_duration(older_than) if older_than else 0
    except ValueError as error:
        raise UsageInvalid(Problem("usage", f"--older-than: {error}")) from None
    return Selection(None, role, type_, age)


def _chosen(numbers: list[int] | None, wanted: Selection, *, all_: bool) -> Selection:
    """What changes dead letters never means all of them by saying nothing."""
    if not numbers and wanted == Selection() and not all_:
        raise UsageInvalid(
            Problem(
                "usage",
                "no dead letter is named",
                None,
                "give numbers as `cyborg-infra dlq list` shows them, or choose by --role, --type, --older-than or --all",
            )
        )
    return replace(wanted, numbers=tuple(numbers)) if numbers else wanted


def _found(manifest: str, env: str | None, flags: pipeline.Flags, wanted: Selection) -> list[DeadLetter]:
    return operation.find(manifest, env, _target(flags), wanted, say_where)


def _handle(
    handling: Handling,
    manifest: str,
    env: str | None,
    flags: pipeline.Flags,
    wanted: Selection,
    output: Format,
    *,
    told: Meet = say_where,
    repeat: bool = False,
    no_color: bool,
) -> None:
    """Each is told on stderr as it is done, and all of them on stdout. Exits 1 if one failed, 3 if that is a refusal."""
    from cyborg_infra.render import console, dead_letters

    talk = console.stderr(no_color=no_color)
    results = operation.handle(
        handling,
        manifest,
        env,
        _target(flags),
        wanted,
        told,
        lambda handled: talk.print(dead_letters.outcome(handling, handled)),
        repeat=repeat,
    )
    if output is Format.JSON:
        put_json(dead_letters.results(handling, results))
    else:
        console.stdout(no_color=no_color).print(dead_letters.summary(handling, results))
    if codes := {result.problem.code for result in results if result.problem}:
        raise typer.Exit(EXIT_REFUSED if codes <= REFUSALS else EXIT_ERROR)


def _target(flags: pipeline.Flags) -> pipeline.Target:
    target = pipeline.resolve(flags, os.environ)
    warn(*target.warnings)
    return target
