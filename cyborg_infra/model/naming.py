"""One subject of an organisation: what it is for, who may use it, what carries it."""

from __future__ import annotations

from typing import NamedTuple

INBOX_ROOT = "_INBOX"
"""What every inbox is below: nobody may hear all of it, and who answers may publish to any."""

ANSWERS = f"{INBOX_ROOT}.>"
"""Where whoever is asked publishes."""


class Subject(NamedTuple):
    """A row of the namespace. `stream` is what stores a durable subject; an ephemeral one has none."""

    subject: str
    layer: str  # "agents", "events" or "org"
    role: str | None  # whose subject it is, in the layer of the agents
    channel: str  # "tasks", "inbox", "status", "requests"; the event; "broadcasts", "deadletter"
    durable: bool
    stream: str | None
    publishers: tuple[str, ...]
    readers: tuple[str, ...]
    meaning: str
    more_publishers: int = 0  # so many others, the next ones above, where only some were asked for


MAX_PUBLISHERS = 100
"""So many of those who publish to one subject are shown: in a deep chart everybody above does."""


def inbox_prefix(stream_prefix: str, name: str) -> str:
    """Return what the replies to an identity come under: on `_INBOX.>` everybody would hear everybody's.

    Two organisations in one account have a stream_prefix, and so inboxes of their own.
    """
    return f"{INBOX_ROOT}.{stream_prefix}{name}"
