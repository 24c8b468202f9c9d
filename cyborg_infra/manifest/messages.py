"""`checked(text, file) -> messages`: what is said about messages is true of each, or every problem has its place.

Which type a message has is told by the caller, or found from what is in it. Nothing is sent, kept or changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from cyborg_infra.manifest import json_lines, schema
from cyborg_infra.manifest.files import text_of
from cyborg_infra.manifest.schema import Words
from cyborg_infra.manifest.source import Source
from cyborg_infra.model.lifecycle import FIRST, Status, following
from cyborg_infra.model.messages import Message, MessageKind
from cyborg_infra.model.problems import Mark, MessageInvalid, Problem
from cyborg_infra.model.subjects import is_token

MAX_MESSAGES = 100_000
STDIN = "<stdin>"

ADVISORIES = ("io.nats.jetstream.advisory.v1.max_deliver", "io.nats.jetstream.advisory.v1.terminated")
TELLING: Mapping[MessageKind, Mapping[str, tuple[str, ...]]] = {
    MessageKind.TASK: {"task_id": (), "assigned_to": ()},
    MessageKind.STATUS: {"task_id": (), "status": ()},
    MessageKind.ALERT: {"type": ("security_alert",)},
    MessageKind.BROADCAST: {"policy": (), "issued_by": ()},
    MessageKind.QUERY: {"type": ("query",)},
    MessageKind.DEAD_LETTER: {"type": ADVISORIES},
}
"""What tells a message's type: the members it has, with one of these values if there are any."""
VAGUE: Mapping[MessageKind, str] = {MessageKind.EVENT: "timestamp", MessageKind.REPLY: "status"}
"""What tells the type of a message without a task_id that nothing else tells."""
KEPT = (MessageKind.TASK, MessageKind.ALERT, MessageKind.BROADCAST)
"""What streams keep, and agents give up: with a `reason` it is a dead letter."""


def read(path: str, kind: MessageKind | None = None) -> list[Message]:
    """The messages in the file at `path`, or on standard input if it is `-`; as `checked` gives them.

    Raises:
        MessageInvalid: as `checked` does; or there is no readable file, it is too large, or not UTF-8.
    """
    if path == "-":
        return checked(text_of(STDIN, "message", MessageInvalid, fd=0), STDIN, kind)
    return checked(text_of(path, "message", MessageInvalid), path, kind)


def checked(text: str, file: str, kind: MessageKind | None = None) -> list[Message]:
    """The messages in `text`, one JSON object or one a line, each of type `kind` or of the type that it tells.

    All keep their schema and the rules; the statuses of one task follow one another as model/lifecycle.py allows.
    `file` is the name that places carry.

    Raises:
        MessageInvalid: with every problem found, in the order of their places; or there is no message.
    """
    messages: list[Message] = []
    problems: list[Problem] = []
    lives = _Lives()
    for count, source in enumerate(json_lines.parse(text, file)):
        if count == MAX_MESSAGES:
            problems.append(
                Problem("too-many-messages", f"more than {MAX_MESSAGES} messages", source.mark(()))
            )
            break
        found = _judged(source, kind)
        if isinstance(found, Message):
            messages.append(found)
            problems += lives.told(found, source)
        else:
            lives.forget()  # what it would have told of its task is not known
            problems += found
    if not messages and not problems:
        problems.append(Problem("no-message", "there is no message", Mark(file, 1, 1)))
    if problems:
        raise MessageInvalid(*sorted(problems, key=lambda problem: problem.where or Mark(file, 1, 1)))
    return messages


def _judged(source: Source, kind: MessageKind | None) -> Message | list[Problem]:
    """The message, or everything that is wrong with it by itself."""
    if source.problems:
        return source.problems
    found = kind or _told(source)
    if isinstance(found, Problem):
        return [found]
    refused = schema.check(source, schema_of(found), Words(f"the {found.words}", "an object", "null"))
    problems = [*(problem for _path, problem in refused), *_follow_up(source, found)]
    return problems or Message(found, source.data, source.mark(()))


def schema_of(kind: MessageKind) -> str:
    """The file in schemas/ that says what a message of this type is."""
    return f"messages/{kind}.schema.json"


def _told(source: Source) -> MessageKind | Problem:
    """The type that the message tells, or why it cannot be known."""
    data = source.data
    told = [kind for kind in TELLING if not _lacking(data, kind)]
    if not told and "task_id" not in data:
        told = [kind for kind in VAGUE if not _lacking(data, kind)]
    if len(told) == 1:
        return MessageKind.DEAD_LETTER if told[0] in KEPT and "reason" in data else told[0]
    if told:
        message = f"this message may be of type {' or '.join(told)}"
        return Problem("type-ambiguous", message, source.mark(()), "say which with --type")
    nearest = max(MessageKind, key=lambda kind: len(data.keys() & _members(kind)))
    near = data.keys() & _members(nearest)
    lack = f"; the nearest is {nearest}, which needs {' and '.join(_lacking(data, nearest))}" if near else ""
    hint = f"types are {', '.join(MessageKind)}; say which with --type"
    return Problem("type-unknown", f"nothing tells the type of this message{lack}", source.mark(()), hint)


def _lacking(data: Mapping[str, Any], kind: MessageKind) -> list[str]:
    """What a message would need to tell that it is of this type."""
    telling = TELLING[kind] if kind in TELLING else {VAGUE[kind]: ()}
    return [
        f"{name}: {' or '.join(values)}" if values else name
        for name, values in telling.items()
        if name not in data or (values and data[name] not in values)
    ]


@cache
def _members(kind: MessageKind) -> frozenset[str]:
    found = schema.find(schema_of(kind))
    parts = [found, *found.get("$defs", {}).values()]
    return frozenset(name for part in parts for name in part.get("properties", ()))


def _follow_up(source: Source, kind: MessageKind) -> Iterator[Problem]:
    """The task that follows is published where a role takes its tasks from."""
    match source.data:
        case {"on_complete": {"publish_to": str(subject)}} if kind is MessageKind.TASK and subject:
            tokens = subject.split(".")
            org_role = tokens[:1] + tokens[2:3]
            if [*tokens[1:2], *tokens[3:]] != ["agents", "tasks"] or not all(map(is_token, org_role)):
                yield Problem(
                    "bad-value",
                    f"publish_to must be a tasks subject, not {subject!r}",
                    source.mark(("on_complete", "publish_to")),
                    "write <org>.agents.<role>.tasks",
                )


class _Lives:
    """Where each task stands, as far as the messages before have told it."""

    def __init__(self) -> None:
        self._stands: dict[str, tuple[Status, Mark]] = {}

    def forget(self) -> None:
        """Nothing is known of any task."""
        self._stands.clear()

    def told(self, message: Message, source: Source) -> Iterator[Problem]:
        """What cannot be, after the messages before; from now on it stands as this one says."""
        if message.kind is MessageKind.TASK:
            yield from self._published(message, source)
        elif message.kind is MessageKind.STATUS:
            yield from self._stepped(message, source)

    def _published(self, message: Message, source: Source) -> Iterator[Problem]:
        task = message.data["task_id"]
        stands, where = self._stands.get(task, (Status.REJECTED, message.mark))
        if stands is not Status.REJECTED:  # that needs another assignee: it is published again
            yield Problem(
                "task-twice",
                f"task {task} was {stands} already in line {where.line}",
                source.mark(("task_id",)),
                "only a rejected task is published again; another task needs another task_id",
            )
        self._stands[task] = FIRST, message.mark

    def _stepped(self, message: Message, source: Source) -> Iterator[Problem]:
        task, data = message.data["task_id"], message.data
        before, now = Status(data["previous_status"]), Status(data["status"])
        stands, where = self._stands.get(task, (before, message.mark))
        self._stands[task] = now, message.mark
        if before is not stands:
            yield Problem(
                "status-gap",
                f"task {task} was {stands} in line {where.line}, not {before}",
                source.mark(("previous_status",)),
                _allowed(stands),
            )
        if now not in following(before):
            yield Problem(
                "status-step",
                f"task {task} cannot go from {before} to {now}",
                source.mark(("status",)),
                _allowed(before),
            )


def _allowed(status: Status) -> str:
    after = following(status)
    return f"after {status} comes {' or '.join(after)}" if after else f"nothing comes after {status}"
