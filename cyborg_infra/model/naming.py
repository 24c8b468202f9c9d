"""One subject of an organisation: what it is for, who may use it, what carries it."""

from __future__ import annotations

from typing import NamedTuple


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


def inbox_prefix(role: str) -> str:
    """Return what the replies to a role come under: on `_INBOX.>` everybody would hear everybody's."""
    return f"_INBOX_{role}"
