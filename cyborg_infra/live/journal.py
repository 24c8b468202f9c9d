"""How far the replace of a stream has come, and what its journal in the account remembers. Moves nothing; see `move`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum, auto
from typing import Self

from cyborg_infra.live.follow import is_parked, stream_counts
from cyborg_infra.model.fields import Config
from cyborg_infra.model.state import BECOMES, JOURNAL, KIND, OWNER, TEMPORARY, Resource

INGEST = (
    "subjects",
    "subject_transform",
    "republish",
    "no_ack",
    "max_msg_size",
    "allow_atomic",
    "allow_batched",
    "allow_rollup_hdrs",
)
"""What says how a stream takes messages in. A mirror has none of it."""


class Stage(Enum):
    """How far a move has come; the table in this module's docstring."""

    WHOLE = auto()
    COPYING = auto()
    PARKED = auto()
    COPIED = auto()
    GONE = auto()
    RETURNING = auto()
    RETURNED = auto()


def stage(stream: Resource | None, copy: Resource | None) -> Stage:
    """How far the move of `stream` by way of `copy` has come."""
    if copy is None or not has_begun(copy):
        return Stage.WHOLE
    if "mirror" in copy.config:
        return Stage.PARKED if stream is None or is_parked(stream) else Stage.COPYING
    if stream is None:
        return Stage.GONE
    if "mirror" in stream.config:
        return Stage.RETURNING
    return Stage.COPIED if is_parked(stream) else Stage.RETURNED


def runs_ahead(stream: Resource | None, copy: Resource | None) -> bool:
    """Whether the mirror has more than its parked origin. Promoted on a full disk, it took messages in until a restart (2.15.1)."""
    if stream is None or copy is None or ("mirror" in stream.config) == ("mirror" in copy.config):
        return False
    mirror, origin = (copy, stream) if "mirror" in copy.config else (stream, copy)
    return is_parked(origin) and stream_counts(mirror).last_seq > stream_counts(origin).last_seq


@dataclass(frozen=True, slots=True)
class Journal:
    """What the living streams no longer say: how S took messages in and kept them, and where its consumers stood."""

    ingest: Config
    retention: str
    positions: Mapping[str, int] | None = None  # consumer -> next sequence number to deliver, once they wait
    labels: Mapping[str, str] = field(
        default_factory=dict
    )  # of a stream that is renamed: the metadata it had

    @classmethod
    def started(cls, stream: Resource, labels: Mapping[str, str] | None = None) -> Self:
        """Of a stream that is still as it was."""
        ingest = {name: stream.config[name] for name in INGEST if name in stream.config}
        return cls(ingest, stream.config["retention"], labels=labels or {})

    @classmethod
    def of(cls, copy: Resource) -> Self:
        """As it is in the metadata of T."""
        return cls(**json.loads(copy.metadata[JOURNAL]))

    def metadata(self, desired: Resource) -> dict[str, str]:
        """The metadata of T that holds it."""
        return {
            OWNER: desired.owner or "",
            KIND: TEMPORARY,
            BECOMES: desired.ref.stream,
            JOURNAL: json.dumps(asdict(self)),
        }


def has_begun(copy: Resource | None) -> bool:
    """Whether a move by way of this stream is under way."""
    return copy is not None and JOURNAL in copy.metadata
