"""The lease of an organisation: one writer at a time, kept in a key-value bucket, which expires by itself and stops its holder in time.

The server has no compare-and-set for configurations, so the holder itself has to know when to stop: it writes only
for FRESH of a lifetime after the server has said that the lease is its own, by a clock that no standstill stops; then
it asks again, before the write. Whoever takes a lease away waits for longer than that before anybody else gets it.
What is left is one request: see docs/decisions/0031.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from getpass import getuser
from os import getpid, getuid

from cyborg_infra.live import timing
from cyborg_infra.live.api.errors import WRONG_LAST_SEQUENCE, ApiError, NoLeader, NotReached
from cyborg_infra.live.api.idempotent import write_once
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import Unanswered
from cyborg_infra.live.records.bucket import (
    decode_json,
    ensure_bucket,
    is_deletion,
    key_subject,
    latest_message,
)
from cyborg_infra.model.buckets import LEASE_BUCKET, bucket_stream, bucket_subject
from cyborg_infra.model.json_shapes import object_of, printable
from cyborg_infra.model.problems import CyborgError, Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource
from cyborg_infra.model.stored_messages import StoredMessage
from cyborg_infra.model.subjects import covers
from cyborg_infra.model.units import SECOND, age
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import PROGRAM, Command, Option, worded

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_STREAM = bucket_stream(LEASE_BUCKET)
_MIN_MAX_BYTES = 1024  # bytes that a lease needs at most
_NO_LEASE = "somebody whose record is no lease"
_FREED = "Cyborg-Infra-Freed"
"""On the message that deletes a lease: its holder has stored it itself."""

_HOLDER = object_of({"holder": printable, "since": printable, "until": printable})


class LeaseHeld(CyborgError):
    """Somebody else is applying to this organisation."""


class LeaseLost(CyborgError):
    """The lease was ours, and is not any more: nothing was written since."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, since when and until when unless renewed; times are RFC 3339 in UTC, by the holder's clock."""

    holder: str
    since: str
    until: str


@contextlib.asynccontextmanager
async def lease(server: JetStream, org: str, *, wait: float | None) -> AsyncIterator[JetStream]:
    """Hold the organisation's lease inside the block, renewed while it lasts, and free after it.

    What comes is the server as the holder may write to it: each write raises LeaseLost, and is not sent, once the lease
    is not ours any more. `wait` in seconds; None takes no lease. Raises LeaseHeld if another holder keeps it for longer
    than `wait`.
    """
    if wait is None:
        yield server
        return
    await _bucket(server)
    try:
        taken = await _acquire(server, org, wait)
    except ApiError as error:
        raise _unusable(error.problems[0].message) from None
    mine = _HeldLease(server, org, taken)
    if server.is_remote:
        await _refuse_unless_there(server, org, mine.sequence)
    ended = asyncio.Event()
    renewals = asyncio.create_task(mine.renewed_until(ended))
    try:
        yield server.with_write_check(mine.confirm)
    finally:
        ended.set()  # not cancelled: a renewal under way must end, or its message would stay
        await renewals
        with contextlib.suppress(CyborgError):  # it expires by itself
            await _release(server, org, mine.sequence)


def clock_seconds() -> float:
    """Return seconds of a clock that goes on while this process is stopped, and while the machine is suspended, where there is one."""
    if sys.platform == "win32":
        return time.monotonic()
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Record(NamedTuple):
    """What is stored for an organisation, and since when by the server's clock.

    `deleted`: it says that there is no lease; `freed`: because its holder needs it no more.
    """

    sequence: int
    stored: str
    holder: Holder
    deleted: bool
    freed: bool


class _AcquiredLease(NamedTuple):
    """A lease as it was taken: by whom, since when, when that was asked for, and the number of its message."""

    name: str
    since: datetime
    asked: float
    sequence: int


async def _acquire(server: JetStream, org: str, wait: float) -> _AcquiredLease:
    name, since = _own_name(), datetime.now(UTC)
    deadline = clock_seconds() + wait
    while True:
        asked = clock_seconds()
        sequence = await _put(server, org, _holder(name, since), expected=0, doing="taking the lease")
        if sequence is None and (left := await _read_abandoned(server, org)) is not None:
            record, seconds = left
            asked, mine = clock_seconds(), _holder(name, since)
            sequence = await _put(server, org, mine, expected=record.sequence, doing="taking the lease")
            if sequence is not None:
                await asyncio.sleep(seconds)
        if sequence is not None:
            return _AcquiredLease(name, since, asked, sequence)
        if clock_seconds() >= deadline:
            raise _lease_held_error(org, await read_holder(server, org))
        await asyncio.sleep(timing.LEASE_POLL_SECONDS)


async def _read_abandoned(server: JetStream, org: str) -> tuple[_Record, float] | None:
    """Return a record that holds nobody off any more, and how many seconds whoever had the lease may still write.

    It was deleted as keys are; or it is older than a lease gets, in a bucket that keeps values for longer.
    """
    record, bucket = await _read_record(server, org), await server.info(Ref(_STREAM))
    if record is None or bucket is None:
        return None
    old = (age(record.stored, bucket.activity.read_at) or 0) / SECOND
    if record.deleted:
        return record, 0.0 if record.freed else max(
            0.0, timing.LEASE_VACANCY_SHARE * timing.LEASE_LIFETIME_SECONDS - old
        )
    return (record, 0.0) if old > timing.LEASE_LIFETIME_SECONDS else None


class _HeldLease:
    """A lease that is ours, until the server says that it is not."""

    def __init__(self, server: JetStream, org: str, taken: _AcquiredLease) -> None:
        self.sequence = taken.sequence
        self._server, self._org, self._taken = server, org, taken
        self._known = taken.asked  # when the server was asked that has said so: it was ours then, at least
        self._lost: LeaseLost | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._undecided: list[Holder] = []  # asked for since, without an answer

    async def confirm(self) -> None:
        """Confirm that the lease is ours at this moment, and for as long as a write may take. Raises LeaseLost, or why that is not known."""
        while (
            self._lost is not None
            or clock_seconds() >= self._known + timing.LEASE_FRESH_SHARE * timing.LEASE_LIFETIME_SECONDS
        ):
            await self._renew()

    async def renewed_until(self, ended: asyncio.Event) -> None:
        """Renew the lease until `ended` is set, or until it is lost. A renewal that fails is left to `confirm`, which finds out when it matters."""
        while self._lost is None and not ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timing.LEASE_LIFETIME_SECONDS / timing.LEASE_MAX_RENEWALS):
                    await ended.wait()
                    return
            with contextlib.suppress(CyborgError):
                await self._renew()

    async def _renew(self) -> None:
        """Renew the lease; everybody who asks meanwhile shares the one request and its result."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._ask())
        await asyncio.shield(self._renewal)

    async def _ask(self) -> None:
        if self._lost is not None:
            raise self._lost
        asked, value = clock_seconds(), _holder(self._taken.name, self._taken.since)
        doing = "renewing the lease"
        earlier = tuple(self._undecided)
        self._undecided.append(value)
        sequence = await _put(
            self._server, self._org, value, expected=self.sequence, doing=doing, undecided=earlier
        )
        if sequence is None:
            self._lost = LeaseLost(await self._loss_reason())
            raise self._lost
        self._undecided.clear()
        self.sequence, self._known = sequence, asked

    async def _loss_reason(self) -> Problem:
        found = None
        with contextlib.suppress(CyborgError):
            found = await read_holder(self._server, self._org)
        whose = f"it is with {found.holder} since {found.since}" if found else "it was freed or ran out"
        return Problem(
            "lease-lost",
            f"the lease of organisation {self._org} is no longer ours: {whose}; nothing was written since",
            None,
            "plan again: somebody else may have applied meanwhile",
        )


async def read_holder(server: JetStream, org: str) -> Holder | None:
    """Return who holds the organisation's lease, or None."""
    found = await _read_record(server, org)
    return found.holder if found and not found.deleted else None


async def unlock(
    server: JetStream, org: str, on_wait: Callable[[float], None] = lambda _: None
) -> Holder | None:
    """Free the lease; once this returns, whoever held it writes nothing any more. Returns who that was, or None if nobody did.

    It is ours until its holder has had to ask for it, if that still runs; `on_wait` hears how many seconds that takes.
    """
    while (found := await _read_record(server, org)) is not None and not found.deleted:
        mine = _holder(f"`{PROGRAM} unlock` of {_own_name()}", datetime.now(UTC))
        taken = await _put(server, org, mine, expected=found.sequence, doing="taking the lease away")
        if taken is not None:
            on_wait(timing.LEASE_VACANCY_SHARE * timing.LEASE_LIFETIME_SECONDS)
            await asyncio.sleep(timing.LEASE_VACANCY_SHARE * timing.LEASE_LIFETIME_SECONDS)
            await _release(server, org, taken)
            return found.holder
    return None


async def _bucket(server: JetStream) -> None:
    """Create the bucket of leases if it is missing. Its max_age makes a lease expire, on every server version alike."""
    lifetime = timing.LEASE_LIFETIME_SECONDS * SECOND
    settings = {"max_age": lifetime, "duplicate_window": lifetime, "max_bytes": 1024 * 1024}
    try:
        found = await ensure_bucket(server, LEASE_BUCKET, settings, "preparing the lease")
    except ApiError as error:
        raise LeaseHeld(
            Problem("lease", str(error), None, worded("{} applies without a lease", Option("no_lock")))
        ) from None
    if found is not None and (unfit := list(_unfit(found))):
        raise _unusable(f"somebody else has made it, and no lease holds with its {', '.join(unfit)}")


def _unfit(bucket: LiveResource) -> Iterator[str]:
    """Yield the settings with which the bucket would lose leases, or refuse them."""
    if 0 < bucket.get("max_age") < timing.LEASE_LIFETIME_SECONDS * SECOND:
        yield "max_age"
    if 0 < bucket.get("max_msg_size") < _MIN_MAX_BYTES:
        yield "max_msg_size"
    if bucket.get("retention") != "limits":
        yield "retention"
    if bucket.get("discard") != "new" and max(bucket.get("max_msgs"), bucket.get("max_bytes")) > 0:
        yield "discard"
    if not any(covers(wide, bucket_subject(LEASE_BUCKET)) for wide in bucket.get("subjects")):
        yield "subjects"
    yield from (name for name in ("no_ack", "sealed", "mirror", "subject_transform") if bucket.get(name))


def _unusable(reason: str) -> LeaseHeld:
    return LeaseHeld(
        Problem(
            "lease",
            f"the bucket {LEASE_BUCKET} of the account cannot be used for the lease: {reason}",
            None,
            worded(
                "while nobody applies, delete it with `nats stream rm {}`: the next apply makes it anew; "
                "{} applies without a lease",
                _STREAM,
                Option("no_lock"),
            ),
        )
    )


async def _put(
    server: JetStream,
    org: str,
    value: Holder,
    *,
    expected: int,
    doing: str,
    undecided: Collection[Holder] = (),
) -> int | None:
    """Return the new sequence number, or None if the last one on the subject is not `expected` (0: there is none).

    `undecided` are values of ours that nobody has answered: one of them may be stored by now, and is as good. Or it is
    under way still: without a quorum, who leads the bucket refuses what comes after it (err_code 10164, measured 2.15.1).
    Raises NoLeader then.
    """
    sent = list(undecided)

    async def attempt() -> int | None:
        try:
            answer = await server.publish(
                _subject(org),
                asdict(value),
                {_EXPECTED: str(expected)},
                doing=doing,
            )
        except Unanswered:
            sent.append(value)
            raise
        except ApiError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
            if not sent:
                return None
            found = await _read_record(server, org)
            if (found.sequence if found else 0) == expected:
                raise NoLeader(doing) from None
            return found.sequence if found and found.holder in sent else None
        sequence: int = answer["seq"]
        return sequence

    return await server.retry(attempt)


async def _read_record(server: JetStream, org: str) -> _Record | None:
    """Return the latest record of the organisation, whatever somebody has stored as one."""
    found = await latest_message(server, LEASE_BUCKET, org, "reading the lease")
    if found is None:
        return None
    return _Record(
        found.sequence, found.time, _holder_in(found), is_deletion(found), bool(found.header(_FREED))
    )


def _holder_in(record: StoredMessage) -> Holder:
    value = decode_json(record)
    if _HOLDER(value) is not None:
        return Holder(_NO_LEASE, record.time, "")
    return Holder(value["holder"], value["since"], value["until"])


async def _refuse_unless_there(server: JetStream, org: str, sequence: int) -> None:
    """Raise NotReached if what was stored is not in the bucket that we read: this account has one of its own, which took it."""
    found = await _read_record(server, org)
    if found is None or found.sequence != sequence:
        raise NotReached(_subject(org), server.api_prefix)


async def _release(server: JetStream, org: str, sequence: int) -> None:
    """Release the lease: delete the message with this number and what was there before it.

    Where somebody else has made the bucket it may keep what was before, or let nothing be deleted (`deny_delete`, as
    clients make them): then a marker says that there is no lease.
    """
    doing = "freeing the lease"

    async def freed() -> bool:  # or expired
        found = await _read_record(server, org)
        return found is None or found.sequence != sequence

    verb, body = f"STREAM.MSG.DELETE.{_STREAM}", {"seq": sequence, "no_erase": True}
    with contextlib.suppress(ApiError):
        await write_once(server, verb, body, doing=doing, holds=freed)
    found = await _read_record(server, org)
    if found is not None and not found.deleted and found.sequence <= sequence:
        headers = {"KV-Operation": "DEL", _FREED: "1", _EXPECTED: str(found.sequence)}
        await server.publish(_subject(org), None, headers, doing=doing)


def _own_name() -> str:
    try:
        user = getuser()
    except (KeyError, OSError):  # the user of a container has a number alone; KeyError until Python 3.12
        user = str(getuid())
    return f"{user}@{socket.gethostname()} (process {getpid()})"


def _holder(name: str, since: datetime) -> Holder:
    until = datetime.now(UTC) + timedelta(seconds=timing.LEASE_LIFETIME_SECONDS)
    return Holder(name, since.isoformat(timespec="seconds"), until.isoformat(timespec="seconds"))


def _lease_held_error(org: str, found: Holder | None) -> LeaseHeld:
    who = f"{found.holder} since {found.since}" if found else "somebody else"
    if found and found.until:
        who = f"{who}, until {found.until} unless renewed"
    return LeaseHeld(
        Problem(
            "lease",
            f"organisation {org} is being applied to by {who}",
            None,
            worded(
                "wait with {}, or free an abandoned lease with `{}`",
                Option("lock_timeout", "5m"),
                Command("unlock"),
            ),
        )
    )


def _subject(org: str) -> str:
    return key_subject(LEASE_BUCKET, org)
