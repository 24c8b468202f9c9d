"""One writer at a time: a lease in the account, in a key-value bucket, that expires by itself.

Advisory, as every lock here must be: the server has no compare-and-set for configurations. So each write still
reads first and compares with the plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from getpass import getuser
from os import getpid
from typing import Any

from cyborg_infra.live.faults import NO_SUITABLE_PEERS, STREAM_NOT_FOUND, ApiError, Unanswered
from cyborg_infra.live.jetstream import NO_MESSAGE, JetStream
from cyborg_infra.live.write import write
from cyborg_infra.model.buckets import LEASES, bucket_stream, bucket_subject
from cyborg_infra.model.problems import CyborgError, Problem
from cyborg_infra.model.state import Ref
from cyborg_infra.model.units import SECOND

LIFETIME = 60  # seconds; an abandoned lease is free after that
REPLICAS = 3  # where a cluster has as many servers
RENEWALS = 3  # in a lifetime
POLL = 0.5  # seconds between two tries while waiting

_WRONG_LAST_SEQUENCE = (10071, 10164)
_STREAM = bucket_stream(LEASES)


class LeaseHeld(CyborgError):
    """Somebody else is applying to this organisation."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, since when and until when unless renewed; times are RFC 3339 in UTC, by the holder's clock."""

    holder: str
    since: str
    until: str


@contextlib.asynccontextmanager
async def lease(
    server: JetStream, org: str, *, wait: float | None, lost: asyncio.Event
) -> AsyncIterator[None]:
    """The organisation's lease is ours inside the block, renewed while it lasts, and free after it.

    `wait` in seconds; None takes no lease. `lost` is set if a renewal fails: then nothing more may be started. Raises LeaseHeld if
    another holder keeps it for longer than `wait`.
    """
    if wait is None:
        yield
        return
    await _bucket(server)
    mine, since = f"{getuser()}@{socket.gethostname()} (process {getpid()})", datetime.now(UTC)
    deadline = asyncio.get_running_loop().time() + wait
    while (sequence := await _put(server, org, _holder(mine, since), expected=0)) is None:
        if asyncio.get_running_loop().time() >= deadline:
            raise _held(org, await holder(server, org))
        await asyncio.sleep(POLL)
    ended = asyncio.Event()
    renewal = asyncio.create_task(_renew(server, org, (mine, since), sequence, ended, lost))
    try:
        yield
    finally:
        ended.set()  # not cancelled: a renewal under way must end, or its message would stay
        with contextlib.suppress(CyborgError):  # it expires by itself
            await _free(server, org, await renewal)


async def holder(server: JetStream, org: str) -> Holder | None:
    """Who holds the organisation's lease, or None."""
    found = await _last(server, org)
    return found[1] if found else None


async def unlock(server: JetStream, org: str) -> Holder | None:
    """The lease is free; returns who held it, or None if nobody did."""
    found = await _last(server, org)
    if found is None:
        return None
    await _free(server, org, found[0])
    return found[1]


async def _bucket(server: JetStream) -> None:
    """The bucket exists. Its max_age is what makes a lease expire, on every server version alike."""
    config = {
        "name": _STREAM,
        "subjects": [bucket_subject(LEASES)],
        "max_msgs_per_subject": 1,
        "max_age": LIFETIME * SECOND,
        "max_bytes": 1024 * 1024,
        "duplicate_window": LIFETIME * SECOND,
        "discard": "new",
        "storage": "file",
        "num_replicas": REPLICAS if server.clustered else 1,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }
    try:
        try:
            await _create(server, config)
        except ApiError as error:
            if error.err_code != NO_SUITABLE_PEERS:
                raise
            await _create(server, config | {"num_replicas": 1})  # a cluster of two, or too many are down
    except ApiError as error:
        raise LeaseHeld(Problem("lease", str(error), None, "--no-lock applies without a lease")) from None


async def _create(server: JetStream, config: Mapping[str, Any]) -> None:
    async def exists() -> bool:  # scaled or changed by hand, it serves
        return await server.info(Ref(_STREAM)) is not None

    await write(server, f"STREAM.CREATE.{_STREAM}", config, doing="preparing the lease", holds=exists)


async def _renew(
    server: JetStream,
    org: str,
    mine: tuple[str, datetime],
    sequence: int,
    ended: asyncio.Event,
    lost: asyncio.Event,
) -> int:
    """Renews until `ended`, and returns the last sequence number that was ours; sets `lost` if it cannot."""
    while not lost.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIFETIME / RENEWALS):
                await ended.wait()
                break
        renewed = None
        with contextlib.suppress(CyborgError, TimeoutError):
            async with asyncio.timeout(LIFETIME / 2):  # after that it may have expired
                renewed = await _put(server, org, _holder(*mine), expected=sequence)
        if renewed is None:
            lost.set()
        else:
            sequence = renewed
    return sequence


async def _put(server: JetStream, org: str, value: Holder, *, expected: int) -> int | None:
    """The new sequence number, or None if the last one on the subject is not `expected` (0: there is none)."""
    unsure = False

    async def attempt() -> int | None:
        nonlocal unsure
        try:
            answer = await server.publish(
                _subject(org),
                asdict(value),
                {"Nats-Expected-Last-Subject-Sequence": str(expected)},
                doing="taking the lease",
            )
        except Unanswered:
            unsure = True
            raise
        except ApiError as error:
            if error.err_code not in _WRONG_LAST_SEQUENCE:
                raise
            found = await _last(server, org) if unsure else None
            return found[0] if found and found[1] == value else None
        sequence: int = answer["seq"]
        return sequence

    return await server.patiently(attempt)


async def _last(server: JetStream, org: str) -> tuple[int, Holder] | None:
    import base64

    try:
        answer = await server.insist(
            f"STREAM.MSG.GET.{_STREAM}", {"last_by_subj": _subject(org)}, doing="reading the lease"
        )
    except ApiError as error:
        if error.err_code in (NO_MESSAGE, STREAM_NOT_FOUND):
            return None
        raise
    value: dict[str, Any] = json.loads(base64.b64decode(answer["message"]["data"]))
    return answer["message"]["seq"], Holder(value["holder"], value["since"], value["until"])


async def _free(server: JetStream, org: str, sequence: int) -> None:
    """The message with this number holds nobody off any more."""

    async def freed() -> bool:  # or expired
        found = await _last(server, org)
        return found is None or found[0] != sequence

    verb, body = f"STREAM.MSG.DELETE.{_STREAM}", {"seq": sequence, "no_erase": True}
    await write(server, verb, body, doing="freeing the lease", holds=freed)


def _holder(name: str, since: datetime) -> Holder:
    until = datetime.now(UTC) + timedelta(seconds=LIFETIME)
    return Holder(name, since.isoformat(timespec="seconds"), until.isoformat(timespec="seconds"))


def _held(org: str, found: Holder | None) -> LeaseHeld:
    who = (
        f"{found.holder} since {found.since}, until {found.until} unless renewed"
        if found
        else "somebody else"
    )
    return LeaseHeld(
        Problem(
            "lease",
            f"organisation {org} is being applied to by {who}",
            None,
            "wait with --lock-timeout 5m, or free an abandoned lease with `cyborg-infra unlock`",
        )
    )


def _subject(org: str) -> str:
    return f"$KV.{LEASES}.{org}"
