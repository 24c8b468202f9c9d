"""Print a command's answer: data on stdout in the format that was asked for, messages on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from cyborg_infra.cli.options import MANIFEST, MOST_CHARS, Format, PlanFormat
from cyborg_infra.interrupts import end_in_order
from cyborg_infra.model.problems import Problem, UsageInvalid

if TYPE_CHECKING:  # what is printed was made where these are imported
    from cyborg_infra.model.organisation import Org
    from cyborg_infra.model.plan import Plan
    from cyborg_infra.model.server import ServerInfo
    from cyborg_infra.render.terminal.layout import Page

Answer = TypeVar("Answer")


def put_json(value: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print `value` as JSON, indented."""
    sys.stdout.write(json_text(value))


def put_answer(
    found: Answer,
    output: Format,
    data: Callable[[Answer], dict[str, Any]],
    page: Callable[[Answer], Page],
    *,
    no_color: bool = False,
) -> None:
    """Print what was found: by `data` as JSON, or by `page` for people."""
    if output is Format.JSON:
        put_json(data(found))
        return
    from cyborg_infra.render.terminal import console

    console.stdout(no_color=no_color).print(page(found))


def put_json_of_each(answers: Sequence[dict[str, Any]], *, several: bool) -> None:
    """Print the answer about one manifest as it is, those about several as a list."""
    from cyborg_infra.render import json_format

    put_json(json_format.of_each(answers) if several else answers[0])


def put_plan(
    plan: Plan,
    output: PlanFormat,
    *,
    no_color: bool,
    command: str = "plan",
    allowed: Sequence[str] = (),
    implied: Sequence[str] = (),
    saved_to: str | None = None,
    saved_in: str | None = None,
    manifest: str = MANIFEST,
    max_chars: int = MOST_CHARS,
) -> None:
    """Print the plan; as text it ends with what it takes to carry it out."""
    match output:
        case PlanFormat.JSON:
            from cyborg_infra.render import json_format

            put_json(json_format.plan(plan))
        case PlanFormat.MARKDOWN:
            from cyborg_infra.render import markdown

            sys.stdout.write(markdown.plan(plan, max_chars))
        case PlanFormat.TEXT:
            from cyborg_infra.render.terminal import console
            from cyborg_infra.render.terminal import plan as text

            named = manifest if manifest != MANIFEST else None
            shown = text.Shown(command, allowed, saved_to, saved_in, named, implied)
            console.stdout(no_color=no_color).print(text.plan(plan, shown))


def put_plans(
    plans: Sequence[Plan],
    output: PlanFormat,
    *,
    no_color: bool,
    manifests: Sequence[str],
    command: str = "plan",
    allowed: Sequence[str] = (),
    saved_to: str | None = None,
    saved_in: str | None = None,
    max_chars: int = MOST_CHARS,
) -> None:
    """Print the plan of each manifest. As Markdown they share the characters."""
    if output is PlanFormat.JSON:
        _put_plans_as_json(plans)
        return
    for position, (plan, manifest) in enumerate(zip(plans, manifests, strict=True)):
        if position:
            sys.stdout.write("\n")
        put_plan(
            plan,
            output,
            no_color=no_color,
            command=command,
            allowed=allowed,
            saved_to=saved_to,
            saved_in=saved_in,
            manifest=manifest,
            max_chars=max_chars // len(plans),
        )


def put_drift(plans: Sequence[Plan], output: PlanFormat, *, no_color: bool, max_chars: int) -> None:
    """Print what differs of each organisation: as data the plan, as text with a verdict."""
    if output is PlanFormat.JSON:
        _put_plans_as_json(plans)
        return
    for position, plan in enumerate(plans):
        if position:
            sys.stdout.write("\n")
        if output is PlanFormat.MARKDOWN:
            from cyborg_infra.render import markdown

            sys.stdout.write(markdown.drift(plan, max_chars // len(plans)))
        else:
            from cyborg_infra.render.terminal import console
            from cyborg_infra.render.terminal import plan as text

            console.stdout(no_color=no_color).print(text.drift(plan))


def _put_plans_as_json(plans: Sequence[Plan]) -> None:
    from cyborg_infra.render import json_format

    put_json_of_each([json_format.plan(plan) for plan in plans], several=len(plans) > 1)


def has_terminal() -> bool:
    """Return whether there is somebody who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, default: str) -> str:
    """Return what the user types, or `default` for nothing. Raises UsageInvalid after Ctrl-C or Ctrl-D."""
    end_in_order()
    sys.stderr.write(f"{question} [{default}]: ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer:
        sys.stderr.write("\n")
        raise UsageInvalid(Problem("cancelled", "cancelled; nothing was written"))
    return answer.strip() or default


def confirm(question: str, word: str, *, yes: bool) -> None:
    """Raise UsageInvalid, with nothing changed, unless the user types `word` or --yes was given.

    Never waits for an answer where nobody can give one.
    """
    if yes:
        return
    if not has_terminal():
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
    try:
        answer = sys.stdin.readline().strip()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        answer = ""
    if answer != word:
        raise UsageInvalid(Problem("cancelled", "cancelled; nothing was changed"))
    sys.stderr.write("\n")


def say_where(org: Org, server_info: ServerInfo) -> None:
    """Print on stderr which server a command works on, before anything is done."""
    from cyborg_infra.render import change_lines
    from cyborg_infra.render.terminal import console, layout

    console.stderr().print(
        layout.Page((layout.line(change_lines.place(org.name, org.environment, server_info)),))
    )


def warn(*warnings: str) -> None:
    """Print each warning as a line on stderr."""
    from cyborg_infra.render.command_line import spoken

    for warning in warnings:
        sys.stderr.write(f"Warning: {spoken(warning)}\n")


def json_text(value: dict[str, Any] | list[dict[str, Any]]) -> str:
    """Return `value` as JSON for people, too: indented."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
