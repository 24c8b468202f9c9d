"""A message that failed for good, as DEAD_LETTERS tells of it and as its own stream still has it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cyborg_infra.model.fields import Config
from cyborg_infra.model.problems import Problem

STREAM = "Cyborg-Infra-Stream"
SEQUENCE = "Cyborg-Infra-Sequence"
SUBJECT = "Cyborg-Infra-Subject"
CONSUMER = "Cyborg-Infra-Consumer"
DELIVERIES = "Cyborg-Infra-Deliveries"
TYPE = "Cyborg-Infra-Type"
REASON = "Cyborg-Infra-Reason"
STORED = "Cyborg-Infra-Stored"
FAILED = "Cyborg-Infra-Failed"
"""The headers of a message that is kept in DEAD_LETTERS: where it was, how it failed, when it was stored and when it failed."""

REPLAYING = "Cyborg-Infra-Replaying"
"""The header of a kept message that is about to be published again: `STREAM/481`, the last message there before."""

REPLAYS = "Cyborg-Infra-Replays"
"""The header of a message that is published again: the stream and sequence number of the first one."""

Headers = tuple[tuple[str, str], ...]
"""Names and values in their order; a name may come more than once."""


class DeathType(StrEnum):
    """How a message failed for good; the word that `--type` takes."""

    MAX_DELIVER = "max_deliver"  # handed out as often as max_deliver allows, and never acknowledged
    TERMINATED = "terminated"  # an agent told the server to stop handing it out
    GIVEN_UP = "given_up"  # an agent published the whole message to the dead letters itself


class Original(StrEnum):
    """Where the message itself is."""

    STORED = "stored"  # in its stream, where the pointer says
    KEPT = "kept"  # in DEAD_LETTERS, whole
    GONE = "gone"  # its stream has dropped it: only the pointer is left


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message. `time` is RFC 3339 as the server writes it."""

    subject: str
    sequence: int
    time: str
    data: bytes = b""
    headers: Headers = ()

    def header(self, name: str) -> str:
        """The first value of a header, empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that failed, by an entry of DEAD_LETTERS; `number` is its sequence number there, and what the commands take.

    `stream` and `sequence` are where the message was; empty and 0 where an agent handed it in. `message` is the
    message itself, unless it is gone. `stored_at` is when its stream took it, empty where nothing tells.
    """

    number: int
    time: str
    type: DeathType
    original: Original
    stream: str = ""
    sequence: int = 0
    consumer: str = ""
    role: str = ""
    deliveries: int = 0
    reason: str = ""
    message: Message | None = None
    stored_at: str = ""
    stored: bool = False  # its stream has it, perhaps beside a copy here
    replaying: str = ""  # `STREAM/481`: it may have been published again, behind this message
    others: tuple[int, ...] = ()  # further entries of the same message


@dataclass(frozen=True, slots=True)
class Held:
    """What DEAD_LETTERS holds: in all, on the subject of copies, and the number of its first entry."""

    config: Config
    messages: int
    bytes: int
    first: int
    copies: int


class Handling(StrEnum):
    """What can be done with a dead letter."""

    REPLAY = "replay"
    KEEP = "keep"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Handled:
    """One dead letter and what became of it. `place` is where the message is now, empty where it is nowhere.

    `gone`: it is a problem because nobody answers any more.
    """

    letter: DeadLetter
    place: str = ""
    problem: Problem | None = None
    gone: bool = False
