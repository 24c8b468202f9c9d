"""A message of the organisation: which type it is, what it says, where it was written. Checks nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cyborg_infra.model.problems import Mark


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
class Message:
    """One checked message: it is what its schema and the rules say."""

    kind: MessageKind
    data: Mapping[str, Any]
    mark: Mark
