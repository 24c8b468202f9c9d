"""The two methods to copy a stream, mirror and sources: how a copy is declared, followed and opened.

|                      | MIRROR, since 2.12              | SOURCES, before                                        |
|----------------------|---------------------------------|--------------------------------------------------------|
| keeps                | numbers, gaps, times, ids       | order, ids; a header says where each message came from |
| is complete          | when its last number is         | when the origin has nothing behind its last message    |
| does not come nearer | the end was deleted: mark it    | an id came twice, further apart than is remembered     |
| can wait             | no: what it copies is immutable | yes: with a filter that nothing matches                |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from cyborg_infra.live import timing
from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.fencing import write_end_marker
from cyborg_infra.live.api.idempotent import update_stream
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.messages import decode_message, get_message
from cyborg_infra.model import stream_copies
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import Config
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref, fence_subject
from cyborg_infra.model.resources import COPY_FIELDS, LiveResource, Resource, stream_counts
from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.model.units import age, whole_number
from cyborg_infra.model.valueclass import NamedTuple

SOURCE_HEADER = "Nats-Stream-Source"  # `origin number filter transform`, of the last hop alone (measured 2.10.26, 2.11.11)
MIN_DUPLICATE_WINDOW_NS = 100_000_000  # nanoseconds; the server has no shorter memory of message ids


def is_empty(copy: LiveResource) -> bool:
    """Return whether the stream has never held a message."""
    return not stream_counts(copy).last_seq


def without_copy_fields(config: Config) -> dict[str, Any]:
    """Return the configuration of a copy without what makes it one."""
    return {name: value for name, value in config.items() if name not in COPY_FIELDS}


class CopyMethod(ABC):
    """How streams are copied on one line of servers."""

    name: str
    keeps_numbers: bool  # of messages, by which dead letters know theirs
    can_defer: bool  # whether a copy can exist before it copies

    @property
    def creation_fields(self) -> Sequence[str]:
        """The fields that a new stream must have from its creation on."""
        return stream_copies.CREATION_FIELDS[self.name]

    @abstractmethod
    def source_config(self, origin: Ref, *, deferred: bool = False) -> dict[str, Any]:
        """Return what makes a stream a copy of `origin`; a `deferred` one copies nothing yet."""

    @abstractmethod
    def holds_only_copies(self, origin: LiveResource, copy: LiveResource) -> bool:
        """Return whether the copy holds nothing but copies: it may have begun with the files of an earlier stream, see `live.api.idempotent.create_empty`.

        No if that cannot be told any more: `origin`, as it was before or is now, begins with something else.
        """

    @abstractmethod
    async def origin_sequence(self, server: JetStream, copy: LiveResource) -> int:
        """Return the number that the copy's last message has in the origin; 0 if there is none."""

    @abstractmethod
    async def is_complete(self, server: JetStream, origin: LiveResource, reached: int) -> bool:
        """Return whether the fenced origin has no message behind number `reached`."""

    @abstractmethod
    def unblock_after_seconds(self) -> float:
        """Return the seconds without growth after which `unblock` is of use."""

    @abstractmethod
    async def unblock(self, server: JetStream, origin: LiveResource, copy: LiveResource) -> None:
        """Remove what may hold the copy up."""

    @abstractmethod
    async def map_sequence(self, server: JetStream, copy: Ref, origin: Ref, position: int) -> int:
        """Return the number in `copy` of the first message that had number `position` or a later one in `origin`."""


class _Mirror(CopyMethod):
    name = stream_copies.MIRROR
    keeps_numbers = True
    can_defer = False

    def source_config(self, origin: Ref, *, deferred: bool = False) -> dict[str, Any]:
        if deferred:
            raise ValueError("a mirror cannot wait")
        return {"mirror": {"name": origin.stream}}

    def holds_only_copies(self, origin: LiveResource, copy: LiveResource) -> bool:
        theirs, ours = stream_counts(origin), stream_counts(copy)
        return is_empty(copy) or (ours.first_seq, ours.first_ts) == (theirs.first_seq, theirs.first_ts)

    async def origin_sequence(self, _server: JetStream, copy: LiveResource) -> int:
        return stream_counts(copy).last_seq

    async def is_complete(self, _server: JetStream, origin: LiveResource, reached: int) -> bool:
        """Return whether the mirror is complete. Beyond it is a mirror that was promoted before, on a full disk; a restart has taken that back (2.15.1)."""
        return stream_counts(origin).last_seq <= reached

    def unblock_after_seconds(self) -> float:
        return timing.UNBLOCK_MIRROR_AFTER_SECONDS

    async def unblock(self, server: JetStream, origin: LiveResource, _copy: LiveResource) -> None:
        """Make the mirror learn of a deleted message at the origin's end: it would give its number to another one."""
        if origin.is_fenced:
            await write_end_marker(server, origin.ref)

    async def map_sequence(self, _server: JetStream, _copy: Ref, _origin: Ref, position: int) -> int:
        return position


class _Sources(CopyMethod):
    name = stream_copies.SOURCES
    keeps_numbers = False
    can_defer = True

    def source_config(self, origin: Ref, *, deferred: bool = False) -> dict[str, Any]:
        nothing = {"filter_subject": fence_subject(origin)} if deferred else {}
        return {"sources": [{"name": origin.stream, **nothing}]}

    def holds_only_copies(self, _origin: LiveResource, copy: LiveResource) -> bool:
        """Return whether the copy holds only copies: what it has copied is as old as the copying."""
        return not age(stream_counts(copy).first_ts, copy.created)

    async def origin_sequence(self, server: JetStream, copy: LiveResource) -> int:
        counts = stream_counts(copy)
        for number in range(counts.last_seq, max(1, counts.first_seq) - 1, -1):
            found = await _get_message(server, copy.ref, {"seq": number})
            if found and found.source_seq:  # a time to live may have taken the last; others were not copied
                return found.source_seq
        return 0

    async def is_complete(self, server: JetStream, origin: LiveResource, reached: int) -> bool:
        return await _first_message_from(server, origin.ref, reached + 1) is None

    def unblock_after_seconds(self) -> float:
        return timing.UNBLOCK_SOURCES_AFTER_SECONDS

    async def unblock(self, server: JetStream, _origin: LiveResource, copy: LiveResource) -> None:
        """Shorten the copy's duplicate window: it refuses an id that it remembers, and asks for it again and again (measured 2.10.26, 2.11.11).

        An id that the origin has twice came again after the origin had forgotten it; so must the copy.
        """
        config = {**copy.config, "duplicate_window": MIN_DUPLICATE_WINDOW_NS}
        await update_stream(server, Resource(copy.ref, config), f"copying into {copy.ref}")

    async def map_sequence(self, server: JetStream, copy: Ref, origin: Ref, position: int) -> int:
        counts = stream_counts(require_stream(await server.info(copy)))
        low, high = max(1, counts.first_seq), counts.last_seq + 1
        while low < high:
            middle = (low + high) // 2
            found = await _first_message_from(server, copy, middle)
            if found and found.source == origin.stream and found.source_seq < position:
                low = found.seq + 1
            else:
                high = middle
        return low


MIRROR: CopyMethod = _Mirror()
SOURCES: CopyMethod = _Sources()
COPY_METHODS: Mapping[str, CopyMethod] = {method.name: method for method in (MIRROR, SOURCES)}


def copy_method_for(version: Version) -> CopyMethod:
    """Return the copy method for servers of this version: mirrors where they can be promoted, else sources."""
    return MIRROR if version >= Capability.PROMOTE_MIRROR.since else SOURCES


def is_deferred(copy: LiveResource) -> bool:
    """Return whether the copy was created to copy nothing yet."""
    return any(source.get("filter_subject") for source in copy.get("sources"))


def require_stream(stream: LiveResource | None) -> LiveResource:
    """Return a stream that has to be there. Raises ServerFault if it is gone."""
    if stream is None:
        raise ServerFault(Problem("gone", "the stream was deleted while it was replaced", None, "plan again"))
    return stream


class _CopiedMessage(NamedTuple):
    seq: int
    source: str  # the stream that it was copied from, or empty
    source_seq: int


async def _first_message_from(server: JetStream, stream: Ref, seq: int) -> _CopiedMessage | None:
    """Return the first message with this number or a later one."""
    return await _get_message(server, stream, {"seq": seq, "next_by_subj": ">"})


async def _get_message(server: JetStream, stream: Ref, which: Mapping[str, Any]) -> _CopiedMessage | None:
    try:
        found = decode_message(
            await get_message(server, stream.stream, which, doing=f"reading a message of {stream}")
        )
    except ApiError as error:
        if error.err_code != ErrorCode.JSNoMessageFoundErr:
            raise
        return None
    words = (found.header(SOURCE_HEADER) or "").split()
    number = whole_number(words[1]) if len(words) > 1 else None
    if number is None:  # there is none, or somebody else has written it
        return _CopiedMessage(found.sequence, "", 0)
    return _CopiedMessage(found.sequence, words[0], number)
