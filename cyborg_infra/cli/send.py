"""`send`: give a role a task, write to its inbox, tell all of them something."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyborg_infra.cli import complete
from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.message_options import MessageType
from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, NoColor, Output
from cyborg_infra.cli.output import put_answer, say_where
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.outgoing import Destination, NewTask
from cyborg_infra.model.problems import EXIT_ERROR, EXIT_REFUSED, Problem, UsageInvalid
from cyborg_infra.operations import targets

if TYPE_CHECKING:
    from cyborg_infra.operations import send as operation

HELP = "Give a role a task, write to its inbox, or publish a broadcast."


class Allowance(StrEnum):
    """What `--allow` takes."""

    OVER_LIMIT = "over-limit"


RoleName = Annotated[
    str, typer.Argument(help="The role.", metavar="ROLE", show_default=False, autocompletion=complete.roles)
]
File = Annotated[
    str,
    typer.Option(
        "--file",
        "-f",
        help="One message, or one a line (JSON lines); - is standard input.",
        metavar="FILE",
        show_default=False,
    ),
]
TaskFile = Annotated[
    str | None,
    typer.Option(
        "--file",
        "-f",
        help="One task, or one a line (JSON lines); - is standard input.",
        metavar="FILE",
        show_default=False,
    ),
]


def _member(flag: str, doc: str, metavar: str = "TEXT") -> Any:
    return typer.Option(flag, help=doc, metavar=metavar, rich_help_panel=_WORDED, show_default=False)


_WORDED = "Instead of a file"
Title = Annotated[str | None, _member("--title", "The task in one line.")]
TaskType = Annotated[str | None, _member("--type", "What kind of work it is [default: task].")]
Priority = Annotated[
    str | None, _member("--priority", "low, normal, high or critical [default: normal].", "NAME")
]
Description = Annotated[str | None, _member("--description", "The task in full.")]
TaskContext = Annotated[
    list[str] | None, _member("--task-context", "What helps to do it; may be repeated.", "KEY=VALUE")
]
AssignedBy = Annotated[
    str | None, _member("--assigned-by", "The role that wants it done [default: operator].", "ROLE")
]
TaskId = Annotated[
    str | None,
    _member("--task-id", "The id under which it is stored once [default: a new one].", "ID"),
]
Allow = Annotated[
    list[Allowance] | None,
    typer.Option(
        "--allow",
        help="over-limit: send even if more would wait for the role than alerts.lag.",
        metavar="NAME",
        show_default=False,
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="The role that sends: refused where the chart does not have it so.",
        metavar="ROLE",
        show_default=False,
        autocompletion=complete.roles,
    ),
]
Group = Annotated[
    str | None,
    typer.Option("--group", help="Tell a group alone.", metavar="GROUP", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and send nothing.")]


@connected
def task(
    role: RoleName,
    manifest: Manifest = MANIFEST,
    *,
    file: TaskFile = None,
    title: Title = None,
    type_: TaskType = None,
    priority: Priority = None,
    description: Description = None,
    task_context: TaskContext = None,
    assigned_by: AssignedBy = None,
    task_id: TaskId = None,
    as_: As = None,
    env: Env = None,
    allow: Allow = None,
    dry_run: DryRun = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Give a role a task, from a file or worded here. Its task_id is the id under which it is stored once."""
    from cyborg_infra.operations import send as operation

    worded = {
        "title": title,
        "type": type_,
        "priority": priority,
        "description": description,
        "assigned_by": assigned_by or (None if file else as_),
        "task_id": task_id,
        "context": _pairs(task_context or ()),
    }
    source = _source(file, {name: value for name, value in worded.items() if value})
    post = operation.load_send_request(manifest, env, Destination.TASK, role, source, MessageKind.TASK, as_)
    _send(post, flags, allow, dry_run=dry_run, output=output, no_color=no_color)


@connected
def inbox(
    role: RoleName,
    manifest: Manifest = MANIFEST,
    *,
    file: File,
    kind: MessageType = None,
    as_: As = None,
    env: Env = None,
    allow: Allow = None,
    dry_run: DryRun = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Write to a role's inbox. The same content for the same role is stored once."""
    from cyborg_infra.operations import send as operation

    post = operation.load_send_request(manifest, env, Destination.INBOX, role, file, kind, as_)
    _send(post, flags, allow, dry_run=dry_run, output=output, no_color=no_color)


@connected
def broadcast(
    manifest: Manifest = MANIFEST,
    *,
    file: File,
    group: Group = None,
    as_: As = None,
    env: Env = None,
    dry_run: DryRun = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Tell all roles something, or the members of a group. The same content is stored once."""
    from cyborg_infra.operations import send as operation

    to = Destination.BROADCAST if group is None else Destination.GROUP_BROADCAST
    post = operation.load_send_request(manifest, env, to, group or "", file, MessageKind.BROADCAST, as_)
    _send(post, flags, None, dry_run=dry_run, output=output, no_color=no_color)


_FLAGS = {"assigned_by": "assigned-by", "task_id": "task-id", "context": "task-context"}


def _source(file: str | None, worded: dict[str, Any]) -> str | NewTask:
    """Return where the task comes from. Raises UsageInvalid if that is both a file and options, or neither."""
    if file is not None and worded:
        given = ", ".join(f"--{_FLAGS.get(name, name)}" for name in worded)
        hint = "give --file, or the task's members as options"
        raise UsageInvalid(Problem("usage", f"{given} cannot be used with --file", None, hint))
    if file is not None:
        return file
    if "title" not in worded:
        hint = "give --file with the task, or word it here: --title 'Add passkeys to the login'"
        raise UsageInvalid(Problem("usage", "there is no task to send", None, hint))
    return NewTask(**worded)


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    """Return `key=value` for each. Raises UsageInvalid for what has no key, or one that came before."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals or key in found:
            why = "is there twice" if key in found else "is not key=value"
            raise UsageInvalid(Problem("usage", f"--task-context: {text!r} {why}"))
        found[key] = value
    return found


COMMANDS = {
    "task": (task, "Example: cyborg-infra send task backend --title 'Add passkeys to the login'"),
    "inbox": (inbox, "Example: cyborg-infra send inbox ceo -f alert.json"),
    "broadcast": (broadcast, "Example: cyborg-infra send broadcast -f policy.json --dry-run"),
}


def _send(
    post: operation.SendRequest,
    flags: targets.Flags,
    allow: list[Allowance] | None,
    *,
    dry_run: bool,
    output: Format,
    no_color: bool,
) -> None:
    """Send the messages and print the results. Exits 3 if a full stream refused one, 1 for anything else."""
    from cyborg_infra.operations import send as operation
    from cyborg_infra.render import outgoing

    server = target_of(flags)
    results = operation.send(post, server, say_where, over_limit=bool(allow), dry_run=dry_run)
    put_answer(
        results,
        output,
        partial(outgoing.data, dry_run=dry_run),
        partial(outgoing.sent, dry_run=dry_run),
        no_color=no_color,
    )
    if problem := next((result.problem for result in results if result.problem), None):
        raise typer.Exit(EXIT_REFUSED if problem.code == Allowance.OVER_LIMIT else EXIT_ERROR)
