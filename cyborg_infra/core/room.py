"""What an account has room for: streams, consumers, bytes. Knows the account by its limits and what it holds alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product

from cyborg_infra.core.expand import CONSUMER_CAP, CONSUMER_CAP_LEVEL
from cyborg_infra.model.fields import Config, Kind
from cyborg_infra.model.plan import Action, Change
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.state import Facts, Ref, Resource, State
from cyborg_infra.model.units import format_size


def of_account(desired: Resource, facts: Facts) -> Iterator[Problem]:
    """One stream or consumer that is larger than the account allows (10122, 10121)."""
    limits, config = facts.limits, desired.config
    if desired.ref.kind is Kind.STREAM:
        most = limits.max_memory_stream if config["storage"] == "memory" else limits.max_file_stream
        if 0 < most < config["max_bytes"]:
            yield Problem(
                "limit-max-bytes",
                f"{desired.ref}: max_bytes is {format_size(config['max_bytes'])}, and the account allows {format_size(most)} for one stream",
                desired.origin,
                "lower max_bytes, or raise the account's limit",
            )
    elif 0 < limits.max_ack_pending < config["max_ack_pending"]:
        yield Problem(
            "limit-ack-pending",
            f"{desired.ref}: max_ack_pending is {config['max_ack_pending']:,}, and the account allows {limits.max_ack_pending:,}",
            desired.origin,
            "set a lower max_ack_pending, or raise the account's limit",
        )


def of_limits(changes: Sequence[Change], live: State, facts: Facts) -> Iterator[Problem]:
    """What the account would refuse: streams (10027), consumers per stream (10026), storage (10047, 10028), max_bytes (10113)."""
    limits = facts.limits
    streams = limits.streams + _created(changes, Kind.STREAM) - _deleted(changes, Kind.STREAM)
    if 0 < limits.max_streams < streams:
        yield Problem(
            "limit-streams",
            f"{streams} streams are needed, and the account may have {limits.max_streams} (it has {limits.streams})",
            None,
            "raise the account's limit or remove streams",
        )
    for stream, number, most in _full_streams(changes, live, facts):
        total = number - _deleted(changes, Kind.CONSUMER, stream)
        if total > most:
            yield Problem(
                "limit-consumers",
                f"{stream} needs {total:,} consumers, and may have {most:,}",
                None,
                "raise max_consumers or the account's limit, or remove consumers",
            )
    for storage, most, reserved in _storages(facts):
        needed = reserved + sum(_growth(change, storage) for change in changes)
        if most > 0 and max(most, reserved) < needed + _least(changes, storage):
            yield Problem(
                "limit-storage",
                f"{format_size(needed)} of {storage} storage are needed (sum of max_bytes and replicas; more for streams without max_bytes), and the account may have {format_size(most)}",
                None,
                "lower max_bytes, or raise the account's limit",
            )
    if limits.max_bytes_required:
        for change in changes:
            if (
                change.after
                and change.ref.kind is Kind.STREAM
                and change.after.config.get("max_bytes", -1) <= 0
            ):
                yield Problem(
                    "limit-max-bytes", f"{change.ref}: the account requires a max_bytes", change.after.origin
                )


def pairs(changes: Sequence[Change], live: State, facts: Facts) -> Iterator[tuple[Ref, Ref]]:
    """(what takes room, what makes room for it), where the account cannot hold the old and the new at once."""
    limits = facts.limits
    tight = 0 < limits.max_streams < limits.streams + _created(changes, Kind.STREAM) or any(
        0
        < most
        < reserved + sum(max(0, _growth(change, storage)) for change in changes) + _least(changes, storage)
        for storage, most, reserved in _storages(facts)
    )
    if tight:
        streams = [change for change in changes if change.ref.kind is Kind.STREAM]
        makers = [change.ref for change in streams if _only_shrinks(change)]
        takers = [change.ref for change in streams if not _only_shrinks(change)]
        yield from product(takers, makers)
    for stream, _number, _most in _full_streams(changes, live, facts):
        readers = [change for change in changes if change.ref.consumer and change.ref.stream == stream]
        yield from product(
            [change.ref for change in readers if change.action is Action.CREATE],
            [change.ref for change in readers if change.action is Action.DELETE],
        )


def _created(changes: Sequence[Change], kind: Kind) -> int:
    return sum(change.ref.kind is kind and change.action is Action.CREATE for change in changes)


def _deleted(changes: Sequence[Change], kind: Kind, stream: str | None = None) -> int:
    return sum(
        change.ref.kind is kind and change.action is Action.DELETE and stream in (None, change.ref.stream)
        for change in changes
    )


def _full_streams(changes: Sequence[Change], live: State, facts: Facts) -> Iterator[tuple[str, int, int]]:
    """(stream, consumers that it has and gets, most that it may have), where that is too many."""
    by_ref = {change.ref: change for change in changes}
    gets = Counter(
        change.ref.stream for change in changes if change.ref.consumer and change.action is Action.CREATE
    )
    for stream, number in gets.items():
        planned = by_ref.get(Ref(stream))
        holder = (planned and planned.after) or live.resources.get(Ref(stream))
        most = _most_consumers(holder.config if holder else {}, facts)
        total = number + len(live.consumers(stream))
        if 0 < most < total:
            yield stream, total, most


def _most_consumers(stream: Config, facts: Facts) -> int:
    """How many consumers a stream may have; 0 for any number."""
    own: int = stream.get("max_consumers", -1)
    if own <= 0 and facts.level >= CONSUMER_CAP_LEVEL:
        own = CONSUMER_CAP
    return min((most for most in (own, facts.limits.max_consumers) if most > 0), default=0)


def _storages(facts: Facts) -> tuple[tuple[str, int, int], tuple[str, int, int]]:
    limits = facts.limits
    return ("file", limits.max_storage, limits.storage), ("memory", limits.max_memory, limits.memory)


def _growth(change: Change, storage: str) -> int:
    """Bytes that a change reserves in addition; a reservation is max_bytes times replicas."""
    if change.ref.kind is Kind.CONSUMER:
        return 0
    return _reserved(change.after, storage) - _reserved(change.before, storage)


def _least(changes: Sequence[Change], storage: str) -> int:
    """The server creates a stream without max_bytes only where a byte is left."""
    return int(
        any(
            change.after is not None
            and change.ref.kind is Kind.STREAM
            and change.action in (Action.CREATE, Action.REPLACE)
            and change.after.config.get("storage", "file") == storage
            and change.after.config.get("max_bytes", -1) <= 0
            for change in changes
        )
    )


def _only_shrinks(change: Change) -> bool:
    growth = [_growth(change, storage) for storage in ("file", "memory")]
    return change.action is Action.DELETE or (min(growth) < 0 and max(growth) <= 0)


def _reserved(stream: Resource | None, storage: str) -> int:
    if stream is None or stream.config.get("storage", "file") != storage:
        return 0
    size: int = max(stream.config.get("max_bytes", 0), 0) * max(stream.config.get("num_replicas", 1), 1)
    return size
