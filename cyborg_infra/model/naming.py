"""One subject of an organisation: what it is for, who may use it, what carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyborg_infra.model.channels import DEAD_LETTERS_BELOW
from cyborg_infra.model.valueclass import NamedTuple

if TYPE_CHECKING:
    from cyborg_infra.model.resources import Resource

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


def handed_in_subject(owner: str, letters: Resource | None) -> str:
    """Return where agents publish what they give up: what the stream of the dead letters stores besides the server's notices.

    Without such a stream, what it is where nobody says anything else.
    """
    stored = letters.get("subjects") if letters else ()
    own = (each for each in stored if not each.startswith("$") and not {"*", ">"} & {*each.split(".")})
    return next(own, f"{owner}.{DEAD_LETTERS_BELOW}")
