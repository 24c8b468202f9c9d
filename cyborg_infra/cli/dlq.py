"""`dlq`: look at the dead letters, and replay, keep or drop them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cyborg_infra.cli import complete
from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, NoColor, Output, Yes
from cyborg_infra.cli.output import confirm, put_answer, say_where
from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.dead_letters import DeadLetter, DeadLetterAction, DeadLetterResult, DeathType
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import EXIT_ERROR, EXIT_REFUSED, Problem, UsageInvalid
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.status import Condition
from cyborg_infra.model.units import parse_duration
from cyborg_infra.operations import targets

if TYPE_CHECKING:
    from cyborg_infra.operations.dead_letters import Selection
    from cyborg_infra.operations.expected_server import OnServer

Number = Annotated[int, typer.Argument(help="Its number, as `dlq list` shows it.", metavar="N")]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="Numbers, as `dlq list` shows them; then the manifest [default: org.yaml].",
        metavar="[N]... [MANIFEST]",
        show_default=False,
    ),
]
RoleName = Annotated[
    str,
    typer.Option(
        "--role", help="Only this role's.", metavar="ROLE", show_default=False, autocompletion=complete.roles
    ),
]
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
    OVER_LIMIT = "over-limit"
    UNMATCHED_SUBJECT = Condition.UNMATCHED_SUBJECT.value


REFUSALS = {*Allowance}
"""Codes of problems that nothing is wrong with: what may be allowed by name, and a stream that takes no more now."""


Allow = Annotated[
    list[Allowance] | None,
    typer.Option(
        "--allow",
        help="repeats-work: publish again also what an interrupted replay may have published. "
        "over-limit: even if more would wait for the role than alerts.lag. "
        "unmatched-subject: even if no consumer reads its subject any more.",
        metavar="NAME",
        show_default=False,
    ),
]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be published, and publish nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing unless one failed; for cron.")]

HELP = "Look at the dead letters, and replay, keep or drop them."


@connected
def list_(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    role: RoleName = "",
    type_: Type = None,
    older_than: OlderThan = "",
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """List what failed for good. It says when, whose, how, and whether the message is still there."""
    from cyborg_infra.render import dead_letters

    letters = _found(manifest, env, flags, _selection(role, type_, older_than))
    put_answer(letters, output, dead_letters.data, dead_letters.listed, no_color=no_color)


@connected
def show(
    number: Number,
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Show how one dead letter failed, and its message with headers."""
    from cyborg_infra.operations.dead_letters import Selection
    from cyborg_infra.render import dead_letters

    letters = _found(manifest, env, flags, Selection((number,)))
    put_answer(
        letters, output, dead_letters.data, lambda found: dead_letters.shown(found[0]), no_color=no_color
    )


@connected
def replay(
    words: Words = None,
    *,
    env: Env = None,
    role: RoleName = "",
    type_: Type = None,
    older_than: OlderThan = "",
    all_: All = False,
    allow: Allow = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    quiet: Quiet = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Publish the messages again, each once. A dead letter that was replayed is gone. What is not named by number is asked for."""
    numbers, manifest = _apart(words or [])
    wanted = _chosen(numbers, _selection(role, type_, older_than), all_=all_)
    asked = not (numbers or dry_run or yes)
    if asked:
        wanted = _approved("Publish {} again?", manifest, env, flags, wanted)
    _handle(
        DeadLetterAction.REPLAY,
        manifest,
        env,
        flags,
        wanted,
        output,
        on_server=_silent if asked else say_where,
        allow=allow or (),
        dry_run=dry_run,
        quiet=quiet,
        no_color=no_color,
    )


@connected
def keep(
    words: Words = None,
    *,
    env: Env = None,
    role: RoleName = "",
    type_: Type = None,
    older_than: OlderThan = "",
    quiet: Quiet = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Copy the messages before their streams drop them; for cron. They are in DEAD_LETTERS then, and a workqueue has its slots back."""
    numbers, manifest = _apart(words or [])
    wanted = _chosen(numbers, _selection(role, type_, older_than), all_=True)
    _handle(DeadLetterAction.KEEP, manifest, env, flags, wanted, output, quiet=quiet, no_color=no_color)


@connected
def drop(
    words: Words = None,
    *,
    env: Env = None,
    role: RoleName = "",
    type_: Type = None,
    older_than: OlderThan = "",
    all_: All = False,
    yes: Yes = False,
    quiet: Quiet = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Delete dead letters, and what was kept of them, for good."""
    numbers, manifest = _apart(words or [])
    wanted = _chosen(numbers, _selection(role, type_, older_than), all_=all_)
    if not yes:
        wanted = _approved("Delete {} for good?", manifest, env, flags, wanted)
    on_server = say_where if yes else _silent
    _handle(
        DeadLetterAction.DROP,
        manifest,
        env,
        flags,
        wanted,
        output,
        on_server=on_server,
        quiet=quiet,
        no_color=no_color,
    )


COMMANDS = {
    "list": (list_, "Example: cyborg-infra dlq list --role cto"),
    "show": (show, "Example: cyborg-infra dlq show 12"),
    "replay": (replay, "Example: cyborg-infra dlq replay 12 13"),
    "keep": (keep, "Example: cyborg-infra dlq keep --quiet"),
    "drop": (drop, "Example: cyborg-infra dlq drop --older-than 30d --yes"),
}


def _selection(role: str, type_: DeathType | None, older_than: str) -> Selection:
    from cyborg_infra.operations.dead_letters import Selection

    try:
        age = parse_duration(older_than) if older_than else 0
    except ValueError as error:
        raise UsageInvalid(Problem("usage", f"--older-than: {error}")) from None
    return Selection(None, role, type_, age)


def _apart(words: list[str]) -> tuple[tuple[int, ...], str]:
    """Return the numbers, and the manifest, which comes last. Raises UsageInvalid for more than one that is no number."""
    last = words[-1:] if words and not words[-1].isdecimal() else []
    numbers = words[: len(words) - len(last)]
    if wrong := next((word for word in numbers if not word.isdecimal()), None):
        hint = "numbers as `cyborg-infra dlq list` shows them come first, and the manifest last"
        raise UsageInvalid(Problem("usage", f"{wrong!r} is no number of a dead letter", None, hint))
    return tuple(int(number) for number in numbers), next(iter(last), MANIFEST)


def _chosen(numbers: tuple[int, ...], selection: Selection, *, all_: bool) -> Selection:
    """Return the selection. What changes dead letters never means all of them by saying nothing."""
    from cyborg_infra.operations.dead_letters import Selection

    if not numbers and selection == Selection() and not all_:
        raise UsageInvalid(
            Problem(
                "usage",
                "no dead letter is named",
                None,
                "give numbers as `cyborg-infra dlq list` shows them, or choose by --role, --type, --older-than or --all",
            )
        )
    return replace(selection, numbers=numbers) if numbers else selection


def _approved(
    question: str, manifest: str, env: str | None, flags: targets.Flags, selection: Selection
) -> Selection:
    """Return those that are there now and were approved, by number. Raises UsageInvalid where nobody approves of them."""
    from cyborg_infra.operations.dead_letters import Selection

    found = _found(manifest, env, flags, selection)
    if found:
        confirm(question.format(f"{len(found):,} dead letter{'s' * (len(found) > 1)}"), "yes", yes=False)
    return Selection(tuple(letter.number for letter in found))


def _found(manifest: str, env: str | None, flags: targets.Flags, selection: Selection) -> list[DeadLetter]:
    from cyborg_infra.operations import dead_letters as operation

    return operation.find(manifest, env, target_of(flags), selection, say_where)


def _handle(
    action: DeadLetterAction,
    manifest: str,
    env: str | None,
    flags: targets.Flags,
    selection: Selection,
    output: Format,
    *,
    on_server: OnServer = say_where,
    allow: Collection[Allowance] = (),
    dry_run: bool = False,
    quiet: bool = False,
    no_color: bool,
) -> None:
    """Process the dead letters; report each on stderr as it is done, and all of them on stdout; if `quiet`, what failed and nothing else.

    Exits 1 if one failed, 3 if that is a refusal.
    """
    from cyborg_infra.operations import dead_letters as operation
    from cyborg_infra.render import dead_letters
    from cyborg_infra.render.terminal import console

    talk = console.stderr(no_color=no_color)

    def tell(handled: DeadLetterResult) -> None:
        if handled.problem or not quiet:
            talk.print(dead_letters.outcome(action, handled, dry_run=dry_run))

    results = operation.process(
        action,
        manifest,
        env,
        target_of(flags),
        selection,
        _silent if quiet else on_server,
        tell,
        allow_duplicates=Allowance.REPEATS_WORK in allow,
        over_limit=Allowance.OVER_LIMIT in allow,
        unmatched=Allowance.UNMATCHED_SUBJECT in allow,
        dry_run=dry_run,
    )
    codes = {result.problem.code for result in results if result.problem}
    if codes or not quiet:
        put_answer(
            results,
            output,
            partial(dead_letters.results, action, dry_run=dry_run),
            partial(dead_letters.summary, action, dry_run=dry_run),
            no_color=no_color,
        )
    if codes:
        raise typer.Exit(EXIT_REFUSED if codes <= REFUSALS else EXIT_ERROR)


def _silent(_org: Org, _facts: ServerInfo) -> None:
    """Report nothing: the server was reported before, or nobody wants to hear it."""
