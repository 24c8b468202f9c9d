"""Wait until a cluster has carried out what it has only accepted: replicas made or given up, a leader elected."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

from cyborg_infra.live import timing
from cyborg_infra.live.api.errors import ApiError, Retry
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import Unanswered
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource, origin_of

NS_PER_SECOND = 1e9


async def wait_until_replicated(
    server: JetStream,
    resource: Resource,
    on_wait: Callable[[str], None] = lambda _: None,
    *,
    born: bool = False,
    max_wait: float | None = None,
) -> None:
    """Wait until the resource has a leader and all its replicas, each current or on a server that is down; `on_wait` hears the progress.

    On a single server, at once. Of what was just `born` a majority is enough: a server may be down, and nobody
    knows yet. Of all others the first look is not trusted: the leader may not have heard of the change. Raises
    ServerFault with what was accepted and what is not so if nothing has moved for `max_wait` seconds, or for
    timing.HOPELESS_TIMEOUT_SECONDS where no living server can move it.
    """
    if (
        left := await _wait_for_progress(
            server,
            resource,
            on_wait,
            born=born,
            max_wait=timing.REPLICATION_STALL_SECONDS if max_wait is None else max_wait,
        )
    ) is not None:
        raise _stalled_error(resource, left)


async def wait_until_idle(
    server: JetStream, resource: Resource, on_wait: Callable[[str], None] = lambda _: None
) -> None:
    """Wait until an earlier change of the resource has ended or makes no progress: what comes next may be its cure."""
    await _wait_for_progress(
        server, resource, on_wait, born=False, max_wait=timing.EARLIER_CHANGE_TIMEOUT_SECONDS
    )


async def _wait_for_progress(
    server: JetStream, resource: Resource, on_wait: Callable[[str], None], *, born: bool, max_wait: float
) -> Mapping[str, Any] | None:
    """Return None once the resource is at rest, or INFO's `cluster` if it does not get there."""
    wanted, clock = resource.get("num_replicas"), asyncio.get_running_loop().time
    seen: Mapping[str, Any] = {}
    furthest, rested, last_text, since, unnoticed = (
        _Progress(),
        born,
        "",
        clock(),
        clock() + timing.WAIT_NOTICE_AFTER_SECONDS,
    )
    while True:
        now = await _cluster_info(server, resource.ref, seen)
        done = _has_quorum if born else is_replicated
        rests = now is None or (now is not seen and done(now, wanted))
        if now is None or (rests and rested):
            return None
        if furthest.has_advanced(now):
            since = clock()
        elif clock() >= since + (
            min(max_wait, timing.HOPELESS_TIMEOUT_SECONDS) if _is_hopeless(now, wanted) else max_wait
        ):
            return now
        if clock() > unnoticed and last_text != (last_text := _progress_text(now, wanted)):
            on_wait(f"waiting for {resource.ref}: {last_text}")
        seen, rested = now, rests
        await asyncio.sleep(timing.REPLICATION_POLL_SECONDS)


async def _cluster_info(server: JetStream, ref: Ref, seen: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return INFO's `cluster` as it is now; `seen` itself while nobody answers for the resource; None on a single server.

    That names its leader as well (2.10.26 to 2.15.1), but no cluster, and before 2.14 accepts more copies than one by
    an update: there is nothing to wait for.
    """
    try:
        found = await server.cluster_info(ref, timeout=timing.REPLICATION_ANSWER_SECONDS)
    except (Unanswered, ApiError) as fault:
        if isinstance(fault, ApiError) and fault.retry is Retry.NEVER:
            raise  # it is gone
        return seen
    return found if found and (server.is_clustered or found.get("name")) else None


def is_replicated(members: Mapping[str, Any], wanted: int) -> bool:
    """Return whether INFO's `cluster` says that nothing is left to do; `wanted` copies, 0 for any number."""
    others = members.get("replicas") or ()
    return (
        bool(members.get("leader"))
        and "desired" not in members  # 2.15: where it is going
        and (not wanted or len(others) == wanted - 1)
        and all(other.get("current") or other.get("offline") for other in others)
    )


def _has_quorum(members: Mapping[str, Any], wanted: int) -> bool:
    others = members.get("replicas") or ()
    current = 1 + sum(bool(other.get("current")) for other in others)
    return bool(members.get("leader")) and len(others) + 1 >= wanted and 2 * current > wanted


class _Progress:
    """The furthest that a change has got. Under traffic a copy falls behind and catches up at every look: that is none."""

    def __init__(self) -> None:
        self._shape: object = None
        self._current = -1
        self._lags: dict[str, int] = {}

    def has_advanced(self, members: Mapping[str, Any]) -> bool:
        """Return whether it has got further than ever, seen now. How long ago a copy was heard of does not count."""
        others = members.get("replicas") or ()
        shape = members.get("leader"), sorted(other["name"] for other in others)
        current = sum(bool(other.get("current")) for other in others)
        nearer = [
            other["name"]
            for other in others
            if other.get("lag", 0) < self._lags.get(other["name"], math.inf) and not _is_silent(other)
        ]
        further = shape != self._shape or current > self._current or bool(nearer)
        self._shape, self._current = shape, max(current, self._current)
        self._lags |= {other["name"]: other.get("lag", 0) for other in others if other["name"] in nearer}
        return further


def _is_silent(member: Mapping[str, Any]) -> bool:
    """Return whether the leader has not heard of it for a while, or never: `active` is how long ago that was, 0 for never."""
    heard: int = member.get("active", 0)
    return heard >= timing.PEER_SILENT_AFTER_SECONDS * NS_PER_SECOND or not (heard or member.get("current"))


def _missing_peers(members: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the copies that are not current."""
    return [other for other in members.get("replicas") or () if not other.get("current")]


def _is_hopeless(members: Mapping[str, Any], wanted: int) -> bool:
    """Return whether nothing that is up can bring the change further: what is not current is silent, or nobody has it."""
    missing = _missing_peers(members)
    short = wanted and len(members.get("replicas") or ()) + 1 < wanted
    if not members.get("leader"):
        return False
    silent = any(_is_silent(other) for other in members.get("replicas") or ())
    return (bool(missing) or bool(short) or silent) and all(_is_silent(other) for other in missing)


def _progress_text(members: Mapping[str, Any], wanted: int) -> str:
    """Return how far it is, for people."""
    others = members.get("replicas") or ()
    if not members.get("leader"):
        return "no leader"
    if wanted and len(others) >= wanted:
        return f"{len(others) + 1} copies where {wanted} are wanted"
    current = 1 + sum(bool(other.get("current")) for other in others)
    return f"{current} of {wanted or len(others) + 1} copies current"


def _stalled_error(resource: Resource, members: Mapping[str, Any]) -> ServerFault:
    """Return what was accepted, what is not so, and what it waits for. The next plan shows no difference: it compares settings."""
    wanted = resource.get("num_replicas")
    silent = [other for other in members.get("replicas") or () if _is_silent(other)]
    names = " and ".join(str(other["name"]) for other in silent)
    status = ((members.get("desired") or {}).get("status") or {}).get("description", "")
    said = [
        f"the server has accepted the change, and it is not carried out: {_progress_text(members, wanted)}",
        *([f"nothing was heard of {names}"] if names else []),
        *([f"the server is {status}"] if status else []),
    ]
    way = (
        "it goes on when that server is back; if it is gone for good, remove it with `nats server cluster peer-remove`"
        if names
        else f"look at what its servers say: `nats stream info {resource.ref.stream}`"
    )
    return ServerFault(Problem("not-settled", f"{resource.ref}: {'; '.join(said)}", origin_of(resource), way))
