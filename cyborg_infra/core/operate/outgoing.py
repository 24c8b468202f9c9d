"""Prepare checked messages for publishing: subject, stream and message id; and enforce the role's limit of pending messages."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from cyborg_infra.core.desired import naming
from cyborg_infra.model import channels
from cyborg_infra.model.channels import Channel, name_for
from cyborg_infra.model.messages import MessageKind, OrgMessage
from cyborg_infra.model.organisation import Org, Role
from cyborg_infra.model.outgoing import Destination, OutgoingMessage
from cyborg_infra.model.problems import MessageInvalid, Problem, SendRefused, UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import ConsumerCounts, LiveResource
from cyborg_infra.model.subjects import SubjectIndex
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Command, Option, worded

OTHER_COMMANDS: Mapping[MessageKind, str] = {
    MessageKind.TASK: worded("send it with {}", Command("send task")),
    MessageKind.BROADCAST: worded("send it with {}", Command("send broadcast")),
    MessageKind.STATUS: "a status goes to the status subject of its role, which no stream keeps",
    MessageKind.QUERY: "a query goes to the requests subject of a role, which no stream keeps",
}
"""What does not belong in an inbox, and where it belongs."""

CHANNELS: Mapping[Destination, str] = {
    Destination.TASK: channels.TASKS,
    Destination.INBOX: channels.INBOX,
    Destination.BROADCAST: channels.BROADCASTS,
    Destination.GROUP_BROADCAST: channels.GROUP_BROADCASTS,
}
"""The channel that a message goes by, which is also the queue of the role; broadcasts are everyone's."""

QUEUES = (Destination.TASK, Destination.INBOX)

# A header cannot hold line ends, and loses spaces at its ends: two ids could become one.
_PLAIN_ID = re.compile(r"[!-~]{1,128}")
_DIGEST = "sha256:"


def prepare_messages(
    org: Org, channel: Destination, role: str, messages: Sequence[OrgMessage]
) -> list[OutgoingMessage]:
    """Return what is published for `messages`; `role` is the group for a group's broadcasts, and empty for broadcasts to all.

    Raises MessageInvalid for a task that is assigned to another role, and for what does not belong in an inbox.
    """
    problems = [problem for message in messages if (problem := _misplaced(channel, role, message))]
    if problems:
        raise MessageInvalid(*problems)
    subject, stream = _destination(org, channel, role)
    return [
        OutgoingMessage(message.kind, _id(message, subject), subject, stream, _compact_json(message))
        for message in messages
    ]


def _destination(org: Org, channel: Destination, role: str) -> tuple[str, Ref]:
    row = _row(org, channel)
    name = naming.template_name(org, row.stream, Role(role)) if row.stream else ""
    if not (subject := row.send_subject_of(role)):
        said = f"the subject of {row.name}, {row.subject}, leaves tokens to whoever publishes"
        raise UsageInvalid(Problem("no-send-to", said, row.mark, f"say them as channels.{row.name}.send_to"))
    return org.subject(subject), Ref(name)


def _row(org: Org, channel: Destination) -> Channel:
    """Return the channel of a destination. Raises UsageInvalid if the organisation does not have it."""
    found = org.channel(CHANNELS[channel])
    if found is None:
        said = f"{org.name} has no {CHANNELS[channel]}"
        hint = "its manifest leaves them out, under channels"
        if channel is Destination.GROUP_BROADCAST:
            hint = f"say {CHANNELS[channel]}: true under channels"
        raise UsageInvalid(Problem("no-channel", said, None, hint))
    return found


def queue_consumer(org: Org, channel: Destination, role: str) -> Ref | None:
    """Return the consumer whose waiting messages the limit is about; broadcasts have none."""
    row = _row(org, channel) if channel in QUEUES else None
    if row is None or row.reader is None:
        return None
    return Ref(_destination(org, channel, role)[1].stream, name_for(row.reader.name, role))


class Queue(NamedTuple):
    """What of a role's may be held to a limit: its tasks or its inbox, and the consumer for which they wait."""

    role: str
    channel: Destination
    reader: Ref


class Queues:
    """The queue behind each subject that can be published to; a former name of a role leads to the same one."""

    def __init__(self, org: Org) -> None:
        self._index = SubjectIndex()
        self._found: dict[str, Queue] = {}
        for channel in QUEUES:
            row = org.channel(CHANNELS[channel])
            if row is None or row.stream is None or row.reader is None:
                continue
            for role in org.roles:
                stream = naming.template_name(org, row.stream, role)
                queue = Queue(role.name, channel, Ref(stream, name_for(row.reader.name, role.name)))
                for name in naming.role_names(role):
                    subject = org.subject(row.subject_of(name))
                    self._index.add(subject, subject)
                    self._found[subject] = queue

    def of(self, subject: str) -> Queue | None:
        """Return the queue that stores what is published there, or None."""
        return (
            next((self._found[known] for _, known in self._index.overlapping(subject)), None)
            if subject
            else None
        )


def refuse_over_limit(role: str, reader: LiveResource, more: int, limit: int) -> None:
    """Raise SendRefused if more than `limit` messages would wait after `more` of them were stored."""
    waiting = reader.counts.num_pending if isinstance(reader.counts, ConsumerCounts) else 0
    if waiting + more > limit:
        raise SendRefused(
            Problem(
                "over-limit",
                f"{waiting:,} waiting for {role} ({reader.ref}), and {more:,} more would be above {limit:,}",
                None,
                worded(
                    "wait until some are done, raise alerts.lag, or send all the same with {}",
                    Option("allow", "over-limit"),
                ),
            )
        )


def _misplaced(channel: Destination, role: str, message: OrgMessage) -> Problem | None:
    if channel is Destination.TASK and (assigned := message.data["assigned_to"]) != role:
        return Problem("other-role", f"this task is assigned to {assigned}, not to {role}", message.mark)
    if channel is Destination.INBOX and message.kind in OTHER_COMMANDS:
        said = f"a {message.kind.words} does not belong in an inbox"
        return Problem("not-for-inbox", said, message.mark, OTHER_COMMANDS[message.kind])
    return None


def _id(message: OrgMessage, subject: str) -> str:
    """Return a task's own id, or else a digest of subject and content, so that the same message sent twice is one."""
    if message.kind is MessageKind.TASK:
        task: str = message.data["task_id"]
        return task if _is_plain_id(task) else _digest(task.encode())
    return _digest(subject.encode() + b"\n" + _compact_json(message))


def _is_plain_id(text: str) -> bool:
    return bool(_PLAIN_ID.fullmatch(text)) and not text.startswith(_DIGEST)


def _digest(content: bytes) -> str:
    return _DIGEST + hashlib.sha256(content).hexdigest()


def _compact_json(message: OrgMessage) -> bytes:
    """Return the message as compact JSON, its members in the order of the file."""
    return json.dumps(message.data, ensure_ascii=False, separators=(",", ":")).encode()
