"""Load and check the messages of an organisation, and report every problem with its place.

Which type a message has is told by the caller, or found from what is in it. Nothing is sent, kept or changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from cyborg_infra.manifest import json_source, schema
from cyborg_infra.manifest.input import read_input
from cyborg_infra.manifest.schema import SchemaMessages
from cyborg_infra.manifest.yaml_source import Source
from cyborg_infra.model.messages import ASSIGNMENT, FOLLOW_UP, MessageKind, OrgMessage
from cyborg_infra.model.problems import MessageInvalid, Problem, SourcePosition
from cyborg_infra.model.subjects import is_token
from cyborg_infra.model.task_lifecycle import INITIAL_STATUS, TaskStatus, next_statuses
from cyborg_infra.model.wording import Option, worded

MAX_MESSAGES = 100_000
STDIN = "<stdin>"

DEAD_LETTER_TYPES = ("io.nats.jetstream.advisory.v1.max_deliver", "io.nats.jetstream.advisory.v1.terminated")
IDENTIFYING_MEMBERS: Mapping[MessageKind, Mapping[str, tuple[str, ...]]] = {
    MessageKind.TASK: {"task_id": (), "assigned_to": ()},
    MessageKind.STATUS: {"task_id": (), "status": ()},
    MessageKind.ALERT: {"type": ("security_alert",)},
    MessageKind.BROADCAST: {"policy": (), "issued_by": ()},
    MessageKind.QUERY: {"type": ("query",)},
    MessageKind.DEAD_LETTER: {"type": DEAD_LETTER_TYPES},
}
"""What tells a message's type: the members it has, with one of these values if there are any."""
WEAK_MEMBERS: Mapping[MessageKind, str] = {MessageKind.EVENT: "timestamp", MessageKind.REPLY: "status"}
"""What tells the type of a message without a task_id that nothing else tells."""
STORED_KINDS = (MessageKind.TASK, MessageKind.ALERT, MessageKind.BROADCAST)
"""What streams keep, and agents give up: with a `reason` it is a dead letter."""


def load_message_file(path: str, kind: MessageKind | None = None) -> list[OrgMessage]:
    """Return the messages in the file at `path`, or on standard input if it is `-`; as `check_messages` gives them.

    Raises:
        MessageInvalid: as `check_messages` does; or there is no readable file, it is too large, or not UTF-8.
    """
    if path == "-":
        return check_messages(read_input(STDIN, "message", MessageInvalid, fd=0), STDIN, kind)
    return check_messages(read_input(path, "message", MessageInvalid), path, kind)


def check_messages(text: str, file: str, kind: MessageKind | None = None) -> list[OrgMessage]:
    """Return the messages in `text`, one JSON object or one a line, each of type `kind` or of the type that it tells.

    All keep their schema and the rules; the statuses of one task follow one another as model/task_lifecycle.py allows.
    `file` is the name that places carry.

    Raises:
        MessageInvalid: with every problem found, in the order of their places; or there is no message.
    """
    messages: list[OrgMessage] = []
    problems: list[Problem] = []
    lives = _TaskStates()
    for count, source in enumerate(json_source.parse_json_messages(text, file)):
        if count == MAX_MESSAGES:
            problems.append(
                Problem("too-many-messages", f"more than {MAX_MESSAGES} messages", source.mark(()))
            )
            break
        found = _check_one(source, kind)
        if isinstance(found, OrgMessage):
            messages.append(found)
            problems += lives.check_transition(found, source)
        else:
            lives.forget()  # what it would have told of its task is not known
            problems += found
    if not messages and not problems:
        problems.append(Problem("no-message", "there is no message", SourcePosition(file, 1, 1)))
    if problems:
        raise MessageInvalid(
            *sorted(problems, key=lambda problem: problem.where or SourcePosition(file, 1, 1))
        )
    return messages


def _check_one(source: Source, kind: MessageKind | None) -> OrgMessage | list[Problem]:
    """Check one message by itself: return it, or raise with everything that is wrong with it."""
    if source.problems:
        return source.problems
    found = kind or _infer_kind(source)
    if isinstance(found, Problem):
        return [found]
    refused = schema.check_schema(
        source, schema_of(found), SchemaMessages(f"the {found.words}", "an object", "null")
    )
    problems = [*(problem for _path, problem in refused), *_follow_up(source, found)]
    if problems:
        return problems
    places = {path: source.mark(path) for path in ASSIGNMENT if found is MessageKind.TASK}
    return OrgMessage(found, source.data, source.mark(()), places)


def schema_of(kind: MessageKind) -> str:
    """Return the file in schemas/ that says what a message of this type is."""
    return f"messages/{kind}.schema.json"


def _infer_kind(source: Source) -> MessageKind | Problem:
    """Return the type that the message's members identify, or why none can be known."""
    data = source.data
    kinds = [kind for kind in IDENTIFYING_MEMBERS if not _missing_members(data, kind)]
    if not kinds and "task_id" not in data:
        kinds = [kind for kind in WEAK_MEMBERS if not _missing_members(data, kind)]
    if len(kinds) == 1:
        return MessageKind.DEAD_LETTER if kinds[0] in STORED_KINDS and "reason" in data else kinds[0]
    if kinds:
        message = f"this message may be of type {' or '.join(kinds)}"
        return Problem(
            "type-ambiguous", message, source.mark(()), worded("say which with {}", Option("type"))
        )
    nearest = max(MessageKind, key=lambda kind: len(data.keys() & _members(kind)))
    near = data.keys() & _members(nearest)
    lack = (
        f"; the nearest is {nearest}, which needs {' and '.join(_missing_members(data, nearest))}"
        if near
        else ""
    )
    hint = worded("types are {}; say which with {}", ", ".join(MessageKind), Option("type"))
    return Problem("type-unknown", f"nothing tells the type of this message{lack}", source.mark(()), hint)


def _missing_members(data: Mapping[str, Any], kind: MessageKind) -> list[str]:
    """Return what a message would need to tell that it is of this type."""
    telling = IDENTIFYING_MEMBERS[kind] if kind in IDENTIFYING_MEMBERS else {WEAK_MEMBERS[kind]: ()}
    return [
        f"{name}: {' or '.join(values)}" if values else name
        for name, values in telling.items()
        if name not in data or (values and data[name] not in values)
    ]


@cache
def _members(kind: MessageKind) -> frozenset[str]:
    found = schema.read_schema(schema_of(kind))
    parts = [found, *found.get("$defs", {}).values()]
    return frozenset(name for part in parts for name in part.get("properties", ()))


def _follow_up(source: Source, kind: MessageKind) -> Iterator[Problem]:
    """Check that a follow-up task is published where a role takes its tasks from."""
    match source.data:
        case {"on_complete": {"publish_to": str(subject)}} if kind is MessageKind.TASK and subject:
            tokens = subject.split(".")
            org_role = tokens[:1] + tokens[2:3]
            if [*tokens[1:2], *tokens[3:]] != ["agents", "tasks"] or not all(map(is_token, org_role)):
                yield Problem(
                    "bad-value",
                    f"publish_to must be a tasks subject, not {subject!r}",
                    source.mark(FOLLOW_UP),
                    "write <org>.agents.<role>.tasks",
                )


class _TaskStates:
    """Where each task stands, as far as the messages before have told it."""

    def __init__(self) -> None:
        self._stands: dict[str, tuple[TaskStatus, SourcePosition]] = {}

    def forget(self) -> None:
        """Forget the status of every task."""
        self._stands.clear()

    def check_transition(self, message: OrgMessage, source: Source) -> Iterator[Problem]:
        """Return what is wrong with the message after those before; from now on the task stands as this one says."""
        if message.kind is MessageKind.TASK:
            yield from self._check_task(message, source)
        elif message.kind is MessageKind.STATUS:
            yield from self._check_status(message, source)

    def _check_task(self, message: OrgMessage, source: Source) -> Iterator[Problem]:
        task = message.data["task_id"]
        stands, where = self._stands.get(task, (TaskStatus.REJECTED, message.mark))
        if stands is not TaskStatus.REJECTED:  # that needs another assignee: it is published again
            yield Problem(
                "task-twice",
                f"task {task} was {stands} already in line {where.line}",
                source.mark(("task_id",)),
                "only a rejected task is published again; another task needs another task_id",
            )
        self._stands[task] = INITIAL_STATUS, message.mark

    def _check_status(self, message: OrgMessage, source: Source) -> Iterator[Problem]:
        task, data = message.data["task_id"], message.data
        before, now = TaskStatus(data["previous_status"]), TaskStatus(data["status"])
        stands, where = self._stands.get(task, (before, message.mark))
        self._stands[task] = now, message.mark
        if before is not stands:
            yield Problem(
                "status-gap",
                f"task {task} was {stands} in line {where.line}, not {before}",
                source.mark(("previous_status",)),
                _allowed(stands),
            )
        if now not in next_statuses(before):
            yield Problem(
                "status-step",
                f"task {task} cannot go from {before} to {now}",
                source.mark(("status",)),
                _allowed(before),
            )


def _allowed(status: TaskStatus) -> str:
    after = next_statuses(status)
    return f"after {status} comes {' or '.join(after)}" if after else f"nothing comes after {status}"
