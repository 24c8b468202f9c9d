"""Check a plan against the account's limits of streams, consumers and bytes, and order changes that need room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product

from cyborg_infra.core.desired.expand import CONSUMER_CAP, CONSUMER_CAP_LEVEL
from cyborg_infra.core.desired.settings import where_set
from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.fields import Config, Kind
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.plan import Reservation
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, LiveState, Resource, StreamCounts, origin_of
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.units import format_size


def check_resource_limits(
    desired: DesiredResource, server_info: ServerInfo, org: Org | None
) -> Iterator[Problem]:
    """Yield a problem for each setting of the stream or consumer that is larger than the account allows (10122, 10026, 10121)."""
    limits = server_info.limits
    if desired.ref.kind is Kind.STREAM:
        if 0 < limits.max_consumers < desired.get("max_consumers"):
            yield Problem(
                "limit-consumers",
                f"{desired.ref}: max_consumers is {desired.get('max_consumers'):,}, and the account allows {limits.max_consumers:,}",
                where_set(desired, org, "max_consumers"),
                "lower max_consumers, or raise the account's limit",
            )
        most = limits.max_memory_stream if desired.get("storage") == "memory" else limits.max_file_stream
        if 0 < most < desired.get("max_bytes"):
            yield Problem(
                "limit-max-bytes",
                f"{desired.ref}: max_bytes is {format_size(desired.get('max_bytes'))}, and the account allows {format_size(most)} for one stream",
                where_set(desired, org, "max_bytes"),
                "lower max_bytes, or raise the account's limit",
            )
    elif (
        0 < limits.max_ack_pending < desired.get("max_ack_pending")
        and "max_ack_pending" not in desired.left_open
    ):
        yield Problem(
            "limit-ack-pending",
            f"{desired.ref}: max_ack_pending is {desired.get('max_ack_pending'):,}, and the account allows {limits.max_ack_pending:,}",
            where_set(desired, org, "max_ack_pending"),
            "set a lower max_ack_pending, or raise the account's limit",
        )


def check_account_limits(
    changes: Sequence[Change], live: LiveState, server_info: ServerInfo
) -> Iterator[Problem]:
    """Yield what the account would refuse: streams (10027), consumers per stream (10026), storage (10047, 10028), max_bytes (10113)."""
    limits, of_streams = server_info.limits, _of_streams(changes)
    streams = limits.streams + _count(of_streams, Action.CREATE) - _count(of_streams, Action.DELETE)
    if 0 < limits.max_streams < streams:
        yield Problem(
            "limit-streams",
            f"{streams} streams are needed, and the account may have {limits.max_streams} (it has {limits.streams})",
            None,
            "raise the account's limit or remove streams",
        )
    for stream, number, most in _full_streams(changes, live, server_info):
        readers = (change for change in changes if change.ref.consumer and change.ref.stream == stream)
        total = number - _count(readers, Action.DELETE)
        if total > most:
            yield Problem(
                "limit-consumers",
                f"{stream} needs {total:,} consumers, and may have {most:,}",
                None,
                "raise max_consumers or the account's limit, or remove consumers",
            )
    yield from _check_storage(of_streams, server_info)
    if limits.max_bytes_required:
        for change in of_streams:
            if change.after and change.after.get("max_bytes") <= 0:
                yield Problem(
                    "limit-max-bytes", f"{change.ref}: the account requires a max_bytes", change.after.origin
                )


def _check_storage(of_streams: Sequence[Change], server_info: ServerInfo) -> Iterator[Problem]:
    """Yield what the account's storage has no room for (10047, 10028)."""
    for storage, most, reserved in _storage_limits(server_info):
        if most < 0:  # as much as there is
            continue
        needed = reserved + sum(_growth_bytes(change, storage) for change in of_streams)
        wanted = needed + _minimum_bytes(of_streams, storage)
        if most == 0 < wanted:
            yield Problem(
                "limit-storage",
                f"the account may have no {storage} storage at all",
                None,
                f"set storage to {'memory' if storage == 'file' else 'file'}, or raise the account's limit",
            )
        elif most > 0 and max(most, reserved) < wanted:
            yield Problem(
                "limit-storage",
                f"{format_size(needed)} of {storage} storage are needed (sum of max_bytes and replicas; more for streams without max_bytes), and the account may have {format_size(most)}",
                None,
                "lower max_bytes, or raise the account's limit",
            )


def reserved(changes: Sequence[Change], server_info: ServerInfo) -> Iterator[Reservation]:
    """Yield how much storage the plan reserves in addition. What shrinks or goes is not subtracted: it may give its room back only afterwards."""
    for storage, most, taken in _storage_limits(server_info):
        size = sum(
            max(0, _growth_bytes(change, storage))
            for change in _of_streams(changes)
            if change.action is not Action.IMPOSSIBLE
        )
        if size:
            yield Reservation(storage, size, taken, most)


def has_room_for(changes: Sequence[Change], server_info: ServerInfo, streams: int, size: int) -> bool:
    """Return whether the account has room for this many streams beside all that is planned, one of them with a max_bytes of `size`.

    In a cluster it may have three copies.
    """
    limits, copies, of_streams = server_info.limits, 3 if server_info.cluster else 1, _of_streams(changes)
    if 0 < limits.max_streams < limits.streams + _count(of_streams, Action.CREATE) + streams:
        return False
    if 0 < limits.max_file_stream < size:
        return False
    needed = (
        limits.storage
        + sum(_growth_bytes(change, "file") for change in of_streams)
        + size * copies
        + (not size)
    )
    return limits.max_storage <= 0 or needed <= limits.max_storage


def limit_dependencies(
    changes: Sequence[Change], live: LiveState, server_info: ServerInfo
) -> Iterator[tuple[Ref, Ref]]:
    """Yield pairs (grower, shrinker) where the account's limits cannot hold both at once: the shrinker goes first."""
    limits, streams = server_info.limits, _of_streams(changes)
    tight = 0 < limits.max_streams < limits.streams + _count(streams, Action.CREATE) or any(
        0
        < most
        < reserved
        + sum(max(0, _growth_bytes(change, storage)) for change in streams)
        + _minimum_bytes(streams, storage)
        for storage, most, reserved in _storage_limits(server_info)
    )
    if tight:
        makers = [change.ref for change in streams if _only_shrinks(change)]
        takers = [change.ref for change in streams if not _only_shrinks(change)]
        yield from product(takers, makers)
    yield from _created_after_moves(streams, server_info)
    for stream, replaced in _streams_with_placeholders(changes, live):
        if 0 < max_consumers(stream.config, server_info) < _consumer_count(stream.ref, live) + len(replaced):
            yield from pairwise(reversed(replaced))  # one placeholder at a time
    for name, _number, _most in _full_streams(changes, live, server_info):
        readers = [change for change in changes if change.ref.consumer and change.ref.stream == name]
        yield from product(
            [change.ref for change in readers if change.action is Action.CREATE],
            [change.ref for change in readers if change.action is Action.DELETE],
        )


def one_move_at_a_time(changes: Sequence[Change], server_info: ServerInfo) -> list[Change]:
    """Return the changes, in which a stream that is moved waits for the one moved before it, where not all have room at once.

    While it is moved a stream is there twice, and so is what it holds. Along the order that they are in, so that no circle can come of it.
    """
    limits, of_streams = server_info.limits, _of_streams(changes)
    moved = [change for change in of_streams if _is_moved(change)]
    if not moved:
        return list(changes)
    streams = limits.streams + _count(of_streams, Action.CREATE) + len(moved)
    size = sum(
        2 * change.before.counts.bytes
        for change in moved
        if change.before and isinstance(change.before.counts, StreamCounts)
    )
    grown = sum(max(0, _growth_bytes(change, "file")) for change in of_streams)
    fits = not 0 < limits.max_streams < streams and not 0 < limits.max_storage < limits.storage + grown + size
    if fits and not limits.max_bytes_required:
        return list(changes)
    earlier = {after.ref: before.ref for before, after in pairwise(moved)}
    return [
        replace(change, depends_on=tuple(sorted({*change.depends_on, earlier[change.ref]})))
        if change.ref in earlier
        else change
        for change in changes
    ]


def _is_moved(change: Change) -> bool:
    return change.action is Action.REPLACE and change.preserves_messages


def _created_after_moves(streams: Sequence[Change], server_info: ServerInfo) -> Iterator[tuple[Ref, Ref]]:
    """Yield pairs (new stream, moved one) where the new ones would take the place that a moved stream needs for a moment."""
    limits = server_info.limits
    moved = [change.ref for change in streams if _is_moved(change)]
    if moved and 0 < limits.max_streams < limits.streams + _count(streams, Action.CREATE) + 1:
        created = [change.ref for change in streams if change.action is Action.CREATE]
        yield from product(created, moved)


def check_placeholders(
    changes: Sequence[Change], live: LiveState, server_info: ServerInfo
) -> Iterator[Problem]:
    """Yield consumers whose position nothing could keep while they are replaced: their stream may have no further one (10026)."""
    for stream, replaced in _streams_with_placeholders(changes, live):
        most = max_consumers(stream.config, server_info)
        if 0 < most <= _consumer_count(stream.ref, live):
            yield Problem(
                "no-room-to-replace",
                f"{replaced[0]} is replaced, and for a moment {stream.ref} needs one consumer more than the {most:,} that it may have",
                origin_of(stream),
                "raise max_consumers or the account's limit in an apply before, or remove a consumer",
            )


def _streams_with_placeholders(
    changes: Sequence[Change], live: LiveState
) -> Iterator[tuple[Resource, Sequence[Ref]]]:
    """Yield each stream that stays, as it is when its consumers are replaced, with those that need a placeholder meanwhile.

    A workqueue is a position by itself.
    """
    streams = {change.current_ref: change for change in _of_streams(changes)}
    found: dict[Ref, list[Ref]] = {}
    for change in changes:
        if change.ref.consumer and change.action is Action.REPLACE and change.before is not None:
            found.setdefault(Ref(change.current_ref.stream), []).append(change.ref)
    for ref, replaced in found.items():
        planned, lives = streams.get(ref), live.resources.get(ref)
        if lives is None or (planned is not None and planned.action is Action.REPLACE):
            continue
        stream = (planned and planned.after) or lives
        if stream.get("retention") != "workqueue":
            yield stream, replaced


def _consumer_count(stream: Ref, live: LiveState) -> int:
    return sum(not found.ref.is_placeholder for found in live.consumers(stream.stream))


def _of_streams(changes: Iterable[Change]) -> list[Change]:
    return [change for change in changes if not change.ref.consumer]


def _count(changes: Iterable[Change], action: Action) -> int:
    return sum(change.action is action for change in changes)


def _full_streams(
    changes: Sequence[Change], live: LiveState, server_info: ServerInfo
) -> Iterator[tuple[str, int, int]]:
    """Yield (stream, consumers that it has and gets, most that it may have), where that is too many."""
    streams = {change.ref.stream: change for change in _of_streams(changes)}
    gets = Counter(
        change.ref.stream for change in changes if change.ref.consumer and change.action is Action.CREATE
    )
    for stream, number in gets.items():
        planned = streams.get(stream)
        holder = (planned and planned.after) or live.resources.get(Ref(stream))
        most = max_consumers(holder.config if holder else {}, server_info)
        total = number + len(live.consumers(stream))
        if 0 < most < total:
            yield stream, total, most


def max_consumers(stream: Config, server_info: ServerInfo) -> int:
    """Return how many consumers a stream may have; 0 for any number."""
    own: int = stream.get("max_consumers", -1)
    if own <= 0 and server_info.level >= CONSUMER_CAP_LEVEL:
        own = CONSUMER_CAP
    return min((most for most in (own, server_info.limits.max_consumers) if most > 0), default=0)


def _storage_limits(server_info: ServerInfo) -> tuple[tuple[str, int, int], tuple[str, int, int]]:
    limits = server_info.limits
    return ("file", limits.max_storage, limits.storage), ("memory", limits.max_memory, limits.memory)


def _growth_bytes(change: Change, storage: str) -> int:
    """Return the bytes that a change of a stream reserves in addition: max_bytes times replicas."""
    return _reserved_bytes(change.after, storage) - _reserved_bytes(change.before, storage)


def _minimum_bytes(streams: Sequence[Change], storage: str) -> int:
    """Return 1 if a stream without max_bytes is created, else 0: the server creates such a stream only if at least a byte is left."""
    return int(
        any(
            change.after is not None
            and change.action in (Action.CREATE, Action.REPLACE)
            and change.after.get("storage") == storage
            and change.after.get("max_bytes") <= 0
            for change in streams
        )
    )


def _only_shrinks(change: Change) -> bool:
    growth = [_growth_bytes(change, storage) for storage in ("file", "memory")]
    return change.action is Action.DELETE or (min(growth) < 0 and max(growth) <= 0)


def _reserved_bytes(stream: Resource | None, storage: str) -> int:
    if stream is None or stream.get("storage") != storage:
        return 0
    size: int = max(stream.get("max_bytes"), 0) * max(stream.get("num_replicas"), 1)
    return size
