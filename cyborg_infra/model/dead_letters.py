"""A message that failed for good, as DEAD_LETTERS tells of it and as its own stream still has it."""

from __future__ import annotations

import json
from enum import StrEnum

from cyborg_infra.model.problems import Problem
from cyborg_infra.model.stored_messages import StoredMessage
from cyborg_infra.model.valueclass import valueclass

NUMBER = "Cyborg-Infra-Number"
STREAM_HEADER = "Cyborg-Infra-Stream"
SEQUENCE_HEADER = "Cyborg-Infra-Sequence"
SUBJECT_HEADER = "Cyborg-Infra-Subject"
CONSUMER_HEADER = "Cyborg-Infra-Consumer"
DELIVERIES_HEADER = "Cyborg-Infra-Deliveries"
TYPE_HEADER = "Cyborg-Infra-Type"
REASON_HEADER = "Cyborg-Infra-Reason"
STORED_HEADER = "Cyborg-Infra-Stored"
FAILED_HEADER = "Cyborg-Infra-Failed"
"""The headers of a message that is kept in DEAD_LETTERS: the dead letter's number, where the message was, how it failed, when
it was stored and when it failed."""

REPLAYING_HEADER = "Cyborg-Infra-Replaying"
"""The header of a kept message that is about to be published again: `STREAM/481`, the last message there before."""

REPLAYS_HEADER = "Cyborg-Infra-Replays"
"""The header of a message that is published again: the stream and sequence number of the first one."""


class DeathType(StrEnum):
    """How a message failed for good; the word that `--type` takes."""

    MAX_DELIVER = "max_deliver"  # handed out as often as max_deliver allows, and never acknowledged
    TERMINATED = "terminated"  # an agent told the server to stop handing it out
    GIVEN_UP = "given_up"  # an agent published the whole message to the dead letters itself


class MessageLocation(StrEnum):
    """Where the message itself is."""

    STORED = "stored"  # in its stream, where the pointer says
    KEPT = "kept"  # in DEAD_LETTERS, whole
    GONE = "gone"  # its stream has dropped it: only the pointer is left
    UNREAD = "unread"  # nobody may look, and so nobody knows


@valueclass(frozen=True, slots=True)
class DeadLetter:
    """A message that failed, by an entry of DEAD_LETTERS.

    `number` is what the commands take: the sequence number of the first entry that told of it, whichever tells of it now.

    `stream` and `sequence` are where the message was; empty and 0 where an agent handed it in. `message` is the
    message itself, unless it is gone. `stored_at` is when its stream took it, empty where nothing tells.
    """

    number: int
    # The sequence number in DEAD_LETTERS of what tells of it, and holds the message if that is kept.
    entry: int
    time: str
    type: DeathType
    original: MessageLocation
    stream: str = ""
    sequence: int = 0
    consumer: str = ""
    role: str = ""
    deliveries: int = 0
    reason: str = ""
    message: StoredMessage | None = None
    stored_at: str = ""
    stored: bool = False  # its stream has it, perhaps beside a copy here
    # The stream that has it: the one that the notice names, or what that is called now.
    current_stream: str = ""
    replaying: str = ""  # `STREAM/481`: it may have been published again, behind this message
    other_numbers: tuple[int, ...] = ()  # further entries of the same message
    # Its stream, a workqueue or one of interest, keeps nothing that was terminated.
    deletes_finished: bool = False

    @property
    def why_gone(self) -> str:
        """What can be said of a message that is gone."""
        if self.type is DeathType.TERMINATED and self.deletes_finished:
            return f"an agent terminated it, and {self.stream} deletes what is terminated"
        return "its stream has dropped it by its limits, or somebody has deleted it"


def task_named_in(letter: DeadLetter) -> tuple[str, str]:
    """Return the task's id and title, as the message itself says them; empty where it says none, or is gone."""
    try:
        content = json.loads(letter.message.data) if letter.message else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return "", ""
    task_id, title = (content.get(name) for name in ("task_id", "title"))
    return task_id if isinstance(task_id, str) else "", title if isinstance(title, str) else ""


class DeadLetterAction(StrEnum):
    """What can be done with a dead letter."""

    REPLAY = "replay"
    KEEP = "keep"
    DROP = "drop"


@valueclass(frozen=True, slots=True)
class DeadLetterResult:
    """One dead letter and what became of it. `stored_at` is where the message is now, empty where it is nowhere.

    `already_gone`: it is a problem because nobody answers any more. `lost`: there was nothing to keep, and that is no problem.
    """

    letter: DeadLetter
    stored_at: str = ""
    problem: Problem | None = None
    already_gone: bool = False
    lost: bool = False
