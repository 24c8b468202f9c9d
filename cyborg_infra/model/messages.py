"""A message of the organisation: its type, its content, and where it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cyborg_infra.model.organisation import ManifestPath
from cyborg_infra.model.problems import SourcePosition


class MessageKind(StrEnum):
    """The types of messages; each has its schema in `schemas/messages/`."""

    TASK = "task"
    STATUS = "status"
    ALERT = "alert"
    BROADCAST = "broadcast"
    EVENT = "event"
    QUERY = "query"
    REPLY = "reply"
    DEAD_LETTER = "dead-letter"

    @property
    def words(self) -> str:
        """The type in a sentence."""
        return self.value.replace("-", " ")


@dataclass(frozen=True, slots=True)
class OrgMessage:
    """One checked message: it is what its schema and the rules say."""

    kind: MessageKind
    data: Mapping[str, Any]
    mark: SourcePosition
    places: Mapping[ManifestPath, SourcePosition] = field(default_factory=dict)  # of ASSIGNMENT

    def place(self, path: ManifestPath) -> SourcePosition:
        """Return where a member of the message stands, or the message itself if that is not known."""
        return self.places.get(path, self.mark)


FOLLOW_UP: ManifestPath = ("on_complete", "publish_to")
ASSIGNMENT: tuple[ManifestPath, ...] = (("assigned_by",), ("assigned_to",), FOLLOW_UP)
"""The members of a task that say who gives it to whom, and who gets what follows."""
