"""The journal of a stream's migration, in the temporary stream's metadata, from which any run resumes; see `live.execute.migrate`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Self

import orjson

from cyborg_infra.live.api.copying import COPY_METHODS, MIRROR, CopyMethod
from cyborg_infra.model.consumer_position import ConsumerPositions, Position
from cyborg_infra.model.fields import Config
from cyborg_infra.model.json_shapes import Mismatch, count, flag, list_of, map_of, object_of, one_of, string
from cyborg_infra.model.metadata_keys import BECOMES_KEY, JOURNAL_KEY, KIND_KEY, OWNER_KEY, RESOURCE_KEY
from cyborg_infra.model.packed_text import pack, unpack
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import TEMPORARY_PREFIX, Ref
from cyborg_infra.model.resources import LiveResource, Resource

INGEST_FIELDS = (
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


LIMIT_FIELDS = ("max_msgs", "max_bytes")
"""What lets a message take the place of the oldest one."""

LIFTED_FIELDS = (*LIMIT_FIELDS, "consumer_limits")
"""What a stream has not while it is fenced or copied."""


_CONFIGURATION = object_of({})
_JOURNAL = object_of(
    {"ingest": _CONFIGURATION, "retention": string},
    {
        **dict.fromkeys(("positions", "floors"), map_of(count)),
        "consumers": map_of(_CONFIGURATION),
        **dict.fromkeys(("labels", "paused"), map_of(string)),
        "route": one_of(COPY_METHODS),
        "limits": _CONFIGURATION,
        "still": flag,
        "unfinished": map_of(list_of(count)),
        "handed_over": count,
    },
)
"""What `Journal.metadata` writes."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of a migration: how the source S took messages in and kept them, and where its consumers stood."""

    ingest: Config
    retention: str
    positions: Mapping[str, int] | None = None  # consumer -> next sequence number to deliver, once they wait
    # Those that are stopped: see live.execute.migrate.consumers.
    consumers: Mapping[str, Config] = field(default_factory=dict)
    # Of a stream that is renamed: the metadata it had.
    labels: Mapping[str, str] = field(default_factory=dict)
    route: str = MIRROR.name
    limits: Config = field(default_factory=dict)  # which it has not while it is fenced or copied
    floors: Mapping[str, int] = field(default_factory=dict)  # where they stood at least when the copy began
    still: bool = False  # whether nobody has worked since `positions` were noted
    # Consumer -> earlier numbers that are being worked on.
    unfinished: Mapping[str, Sequence[int]] = field(default_factory=dict)
    paused: Mapping[str, str] = field(default_factory=dict)  # until when somebody has paused a consumer
    # The first number of its origin that a copy may lack which was opened with the fence.
    handed_over: int = 0

    @classmethod
    def create(
        cls, stream: LiveResource, method: CopyMethod, labels: Mapping[str, str] | None = None
    ) -> Self:
        """Return the journal of a stream that is still as it was."""
        ingest, limits = (stream.config_part(names) for names in (INGEST_FIELDS, LIFTED_FIELDS))
        return cls(ingest, stream.get("retention"), labels=labels or {}, route=method.name, limits=limits)

    @property
    def publish_config(self) -> Config:
        """The settings that a fenced stream gets back when it takes messages in again."""
        return {**self.ingest, **self.limits}

    @property
    def copy_method(self) -> CopyMethod:
        """How this migration copies. One that another version of the server began goes on as it began."""
        return COPY_METHODS[self.route]

    @property
    def deletes_on_ack(self) -> bool:
        """Whether S forgets what is acknowledged."""
        return self.retention != "limits"

    @property
    def consumer_positions(self) -> ConsumerPositions:
        """Where the consumers stood, at least."""
        open_behind = self.unfinished
        positions = {
            name: Position(following, tuple(open_behind.get(name, ())))
            for name, following in (self.positions or self.floors).items()
        }
        return ConsumerPositions(positions, self.consumers, self.paused)

    def with_positions(self, consumer_positions: ConsumerPositions) -> Self:
        """Return the journal with these positions. None goes back; consumers that are gone keep theirs."""
        known = self.positions or {}
        further = {
            name: max(known.get(name, 0), position.next)
            for name, position in consumer_positions.positions.items()
        }
        gone = {
            name: numbers
            for name, numbers in self.unfinished.items()
            if name not in consumer_positions.positions
        }
        found = {
            name: list(position.unfinished)
            for name, position in consumer_positions.positions.items()
            if position.unfinished
        }
        return replace(
            self,
            positions={**known, **further} or None,
            consumers={
                **consumer_positions.configs,
                **self.consumers,
            },  # as they were before they were slowed down
            unfinished={**gone, **found},
            paused={**consumer_positions.paused_until, **self.paused},
        )

    def capped_at(self, last: int) -> Self:
        """Return the journal for a copy that holds nothing behind this sequence, because its origin has died: there everybody waits for what comes."""
        positions = {
            name: min(position.next, last + 1) for name, position in self.consumer_positions.positions.items()
        }
        unfinished = {
            name: [number for number in numbers if number <= last]
            for name, numbers in self.unfinished.items()
        }
        return replace(self, positions=positions, unfinished=unfinished)

    @classmethod
    def from_stream(cls, copy: LiveResource) -> Self:
        """Return the journal in the metadata of T. Raises ServerFault for one that nobody can go on from: labels can be edited."""
        try:
            noted = orjson.loads(unpack(copy.metadata[JOURNAL_KEY]))
        except ValueError:
            noted = None
        misfit = _JOURNAL(noted)
        if misfit is None and (strange := noted.keys() - {each.name for each in fields(cls)}):
            misfit = Mismatch(f"{min(strange)[:64]!r}", "nothing more")
        if misfit is not None:
            raise ServerFault(
                Problem(
                    "bad-journal",
                    f"{copy.ref}: its label {JOURNAL_KEY} cannot be read: {misfit}",
                    None,
                    "a replace that was interrupted is noted there: go on with the version of cyborg-infra that began it",
                )
            )
        return cls(**noted)

    def metadata(self, desired: Resource, via: Ref) -> dict[str, str]:
        """Return the metadata of T, which is `via`, that holds it."""
        return {
            OWNER_KEY: desired.owner or "",
            KIND_KEY: TEMPORARY_PREFIX,
            RESOURCE_KEY: str(via),
            BECOMES_KEY: desired.ref.stream,
            JOURNAL_KEY: pack(json.dumps(asdict(self))),
        }


def has_begun(copy: LiveResource | None) -> bool:
    """Return whether a migration by way of this stream is under way."""
    return copy is not None and JOURNAL_KEY in copy.metadata
