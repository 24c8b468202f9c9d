"""How far the replace of a stream has come, and what its journal in the account remembers. Moves nothing; see `move`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, auto
from typing import Self

from cyborg_infra.live.routes import MIRROR, ROUTES, Route, is_copy, stream_counts
from cyborg_infra.live.standing import Standing
from cyborg_infra.model.fields import Config
from cyborg_infra.model.state import BECOMES, JOURNAL, KIND, OWNER, TEMPORARY, Resource

INGEST = (
    "subjects",
    "subject_transform",
    "republish",
    "no_ack",
    "discard",
    "max_msg_size",
    "allow_atomic",
    "allow_batched",
    "allow_rollup_hdrs",
    "duplicate_window",
)
"""What says how a stream takes messages in. A copy has its own, or none."""


LIMITS = ("max_msgs", "max_bytes")
"""What lets a message take the place of the oldest one."""


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
    if is_copy(copy):
        return Stage.PARKED if stream is None or stream.is_parked else Stage.COPYING
    if stream is None:
        return Stage.GONE
    if is_copy(stream):
        return Stage.RETURNING
    return Stage.COPIED if stream.is_parked else Stage.RETURNED


def runs_ahead(stream: Resource | None, copy: Resource | None) -> bool:
    """Whether the mirror has more than its parked origin. Promoted on a full disk, it took messages in until a restart (2.15.1)."""
    if stream is None or copy is None or ("mirror" in stream.config) == ("mirror" in copy.config):
        return False
    mirror, origin = (copy, stream) if "mirror" in copy.config else (stream, copy)
    return origin.is_parked and stream_counts(mirror).last_seq > stream_counts(origin).last_seq


@dataclass(frozen=True, slots=True)
class Journal:
    """What the living streams no longer say: how S took messages in and kept them, and where its consumers stood."""

    ingest: Config
    retention: str
    positions: Mapping[str, int] | None = None  # consumer -> next sequence number to deliver, once they wait
    consumers: Mapping[str, Config] = field(default_factory=dict)  # those that are stopped: see live.standing
    labels: Mapping[str, str] = field(
        default_factory=dict
    )  # of a stream that is renamed: the metadata it had
    route: str = MIRROR.name
    limits: Config = field(default_factory=dict)  # which it has not while it is parked

    @classmethod
    def started(cls, stream: Resource, route: Route, labels: Mapping[str, str] | None = None) -> Self:
        """Of a stream that is still as it was."""
        ingest, limits = (
            {name: stream.config[name] for name in names if name in stream.config}
            for names in (INGEST, LIMITS)
        )
        return cls(ingest, stream.config["retention"], labels=labels or {}, route=route.name, limits=limits)

    @property
    def open(self) -> Config:
        """What a parked stream gets back that takes messages in again."""
        return {**self.ingest, **self.limits}

    @property
    def by(self) -> Route:
        """How this move copies. One that another version of the server began goes on as it began."""
        return ROUTES[self.route]

    @property
    def consumed(self) -> bool:
        """Whether S forgets what is acknowledged."""
        return self.retention != "limits"

    @property
    def standing(self) -> Standing:
        """Where the consumers stood."""
        return Standing(self.positions or {}, self.consumers)

    def noting(self, standing: Standing) -> Self:
        """With where the consumers stand now. None goes back; those that are gone stand where they were noted."""
        known = self.positions or {}
        further = {name: max(known.get(name, 0), position) for name, position in standing.positions.items()}
        return replace(
            self, positions={**known, **further}, consumers={**self.consumers, **standing.consumers}
        )

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
