"""Where a command's answer goes: data on stdout in the format that was asked for, talk on stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyborg_infra.cli.options import MANIFEST, PlanFormat
from cyborg_infra.model.problems import Problem, UsageInvalid

if TYPE_CHECKING:  # what is printed was made where these are imported
    from cyborg_infra.model.org import Org
    from cyborg_infra.model.plan import Plan
    from cyborg_infra.model.state import Facts


def put_json(value: dict[str, Any]) -> None:
    """`value` is on stdout, indented."""
    sys.stdout.write(_text(value))


def put_plan(
    plan: Plan,
    output: PlanFormat,
    *,
    no_color: bool,
    saved_to: str | None = None,
    saved_in: str | None = None,
    manifest: str = MANIFEST,
) -> None:
    """The plan is on stdout; as text it ends with the command that applies it."""
    match output:
        case PlanFormat.JSON:
            from cyborg_infra.render import data

            put_json(data.plan(plan))
        case PlanFormat.MARKDOWN:
            from cyborg_infra.render import markdown

            sys.stdout.write(markdown.plan(plan))
        case PlanFormat.TEXT:
            from cyborg_infra.render import console, text

            named = manifest if manifest != MANIFEST else None
            page = text.plan(plan, saved_to=saved_to, saved_in=saved_in, manifest=named)
            console.stdout(no_color=no_color).print(page)


def put_drift(plan: Plan, output: PlanFormat, *, no_color: bool) -> None:
    """What differs is on stdout: as data the plan, as text with a verdict."""
    from cyborg_infra.render import console, text

    if output is PlanFormat.TEXT:
        console.stdout(no_color=no_color).print(text.drift(plan))
    else:
        put_plan(plan, output, no_color=no_color)


def save(plan: Plan, path: Path) -> None:
    """The plan is in the file, readable for its owner alone. Raises UsageInvalid if it cannot be written."""
    from cyborg_infra.render import data

    try:
        path.touch(mode=0o600)
        path.write_text(_text(data.saved(plan)), encoding="utf-8")
    except OSError as error:
        raise UsageInvalid(Problem("out", f"cannot write {path}: {error.strerror}")) from None


def create(path: Path, text: str) -> None:
    """The text is in a new file. Raises UsageInvalid if there is a file already: it stays as it is."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        hint = "name another file, or remove it first"
        raise UsageInvalid(Problem("exists", f"{path} exists and stays as it is", None, hint)) from None
    except OSError as error:
        raise UsageInvalid(Problem("write", f"cannot write {path}: {error.strerror}")) from None


def confirm(question: str, word: str, *, yes: bool) -> None:
    """Returns if the user types `word`, or --yes was given. Raises UsageInvalid otherwise, with nothing changed.

    Never waits for an answer where nobody can give one.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageInvalid(
            Problem(
                "no-terminal",
                "there is no terminal to ask on, and nothing was changed",
                None,
                "use --yes to go on without asking",
            )
        )
    sys.stderr.write(f"\n{question}\n  Only '{word}' will be accepted to approve.\n\n  Enter a value: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != word:
        raise UsageInvalid(Problem("cancelled", "cancelled; nothing was changed"))
    sys.stderr.write("\n")


def say_where(org: Org, facts: Facts) -> None:
    """On which server a command works is a line on stderr, before anything is done."""
    from cyborg_infra.render import console, differences, layout

    console.stderr().print(layout.Page((layout.line(differences.place(org.name, org.environment, facts)),)))


def warn(*warnings: str) -> None:
    """Each warning is a line on stderr."""
    for warning in warnings:
        sys.stderr.write(f"Warning: {warning}\n")


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
