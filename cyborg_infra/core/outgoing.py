"""Checked messages -> what is published where, under which id; and whether the role may have more. Sends nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from cyborg_infra.core import namespace
from cyborg_infra.model.messages import Message, MessageKind
from cyborg_infra.model.namespace import tasks_stream
from cyborg_infra.model.org import ConsumerKind, Org, StreamKind
from cyborg_infra.model.outgoing import Channel, Outgoing
from cyborg_infra.model.problems import MessageInvalid, Problem, SendRefused
from cyborg_infra.model.state import ConsumerCounts, Ref, Resource

ELSEWHERE: Mapping[MessageKind, str] = {
    MessageKind.TASK: "cyborg-infra send task",
    MessageKind.BROADCAST: "cyborg-infra send broadcast",
    MessageKind.STATUS: "a status goes to the status subject of its role, which no stream keeps",
    MessageKind.QUERY: "a query goes to the requests subject of a role, which no stream keeps",
}
"""What does not belong in an inbox, and where it belongs."""

# A header cannot hold line ends, and loses spaces at its ends: two ids could become one.
_PLAIN_ID = re.compile(r"[!-~]{1,128}")
_DIGEST = "sha256:"


def outgoing(org: Org, channel: Channel, role: str, messages: Sequence[Message]) -> list[Outgoing]:
    """What is published for `messages`; `role` is empty for broadcasts.

    Raises MessageInvalid for a task that is assigned to another role, and for what does not belong in an inbox.
    """
    problems = [problem for message in messages if (problem := _misplaced(channel, role, message))]
    if problems:
        raise MessageInvalid(*problems)
    subject, stream = _place(org, channel, role)
    return [
        Outgoing(message.kind, _id(message, subject), subject, stream, _text(message)) for message in messages
    ]


def _place(org: Org, channel: Channel, role: str) -> tuple[str, Ref]:
    match channel:
        case Channel.TASK:
            return namespace.agent_subject(org, role, "tasks"), Ref(tasks_stream(org.stream_prefix, role))
        case Channel.INBOX:
            stream = namespace.stream_name(org, StreamKind.INBOXES)
            return namespace.agent_subject(org, role, "inbox"), Ref(stream)
        case Channel.BROADCAST:
            stream = namespace.stream_name(org, StreamKind.BROADCASTS)
            return namespace.org_subject(org, "broadcasts"), Ref(stream)


def queue(org: Org, channel: Channel, role: str) -> Ref | None:
    """The consumer whose waiting messages the limit is about; broadcasts have none."""
    if channel is Channel.BROADCAST:
        return None
    kind = ConsumerKind.WORKER if channel is Channel.TASK else ConsumerKind.INBOX_READER
    (found,) = (each for each in org.roles if each.name == role)
    return Ref(_place(org, channel, role)[1].stream, namespace.consumer_name(kind, found))


def admits(stream: Resource) -> bool:
    """Whether the server itself refuses what is too much: a workqueue that takes so many unfinished tasks and no more."""
    config = stream.config
    return (
        config.get("retention") == "workqueue"
        and config.get("discard") == "new"
        and config.get("max_msgs", -1) > 0
    )


def refuse_over_limit(role: str, reader: Resource, more: int, limit: int) -> None:
    """Returns if at most `limit` messages wait after `more` of them were stored. Raises SendRefused if not."""
    waiting = reader.counts.num_pending if isinstance(reader.counts, ConsumerCounts) else 0
    if waiting + more > limit:
        raise SendRefused(
            Problem(
                "over-limit",
                f"{waiting:,} waiting for {role} ({reader.ref}), and {more:,} more would be above {limit:,}",
                None,
                "wait until some are done, raise alerts.lag, or send all the same with --allow over-limit",
            )
        )


def _misplaced(channel: Channel, role: str, message: Message) -> Problem | None:
    if channel is Channel.TASK and (assigned := message.data["assigned_to"]) != role:
        return Problem("other-role", f"this task is assigned to {assigned}, not to {role}", message.mark)
    if channel is Channel.INBOX and message.kind in ELSEWHERE:
        said = f"a {message.kind.words} does not belong in an inbox"
        return Problem("not-for-inbox", said, message.mark, ELSEWHERE[message.kind])
    return None


def _id(message: Message, subject: str) -> str:
    """A task's own id; else a digest of what is said to whom, so that the same message sent twice is one."""
    if message.kind is MessageKind.TASK:
        task: str = message.data["task_id"]
        return task if _plain(task) else _digest(task.encode())
    return _digest(subject.encode() + b"\n" + _text(message))


def _plain(text: str) -> bool:
    return bool(_PLAIN_ID.fullmatch(text)) and not text.startswith(_DIGEST)


def _digest(content: bytes) -> str:
    return _DIGEST + hashlib.sha256(content).hexdigest()


def _text(message: Message) -> bytes:
    """As compact JSON, members in the order of the file."""
    return json.dumps(message.data, ensure_ascii=False, separators=(",", ":")).encode()
