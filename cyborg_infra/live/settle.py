"""Wait until a cluster has done what it only accepted: copies made or given up, a leader elected. Changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from cyborg_infra.live.faults import ApiError, Retry, Unanswered
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.state import Ref, Resource

POLL = 0.1  # seconds between two looks
UNNOTICED = 2.0  # seconds after which somebody wonders what is going on
ANSWER = 2.0  # seconds to wait for one; while a stream changes hands nobody answers
PATIENCE = (
    120.0  # seconds without any progress, however long the whole takes: a large stream copies for hours
)


async def settled(
    server: JetStream,
    resource: Resource,
    waits: Callable[[str], None] = lambda _: None,
    *,
    born: bool = False,
    patience: float = PATIENCE,
) -> None:
    """The resource has a leader and as many copies as it wants, each current or on a server that is down; `waits` hears how it goes.

    On a single server, at once. Of what was just `born` a majority is enough: a server may be down, and nobody
    knows yet. Of all others the first look is not trusted: the leader may not have heard of the change. Raises ServerFault if nothing has moved for
    `patience` seconds; the servers go on by themselves then.
    """
    wanted, clock = resource.config.get("num_replicas", 0), asyncio.get_running_loop().time
    seen: Mapping[str, Any] = {}
    rested, told, unnoticed, deadline = born, "", clock() + UNNOTICED, clock() + patience
    while True:
        now = await _members(server, resource.ref, seen)
        done = _has_quorum if born else at_rest
        rests = now is None or (now is not seen and done(now, wanted))
        if now is None or (rests and rested):
            return
        if _progress(now) != _progress(seen):
            deadline = clock() + patience
        elif clock() >= deadline:
            raise _stuck(resource, now, wanted, patience)
        if clock() > unnoticed and told != (told := _standing(now, wanted)):
            waits(f"waiting for {resource.ref}: {told}")
        seen, rested = now, rests
        await asyncio.sleep(POLL)


async def _members(server: JetStream, ref: Ref, seen: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """INFO's `cluster` as it is now; `seen` itself while nobody answers for the resource."""
    try:
        return await server.members(ref, timeout=ANSWER)
    except (Unanswered, ApiError) as fault:
        if isinstance(fault, ApiError) and fault.retry is Retry.NONE:
            raise  # it is gone
        return seen


def at_rest(members: Mapping[str, Any], wanted: int) -> bool:
    """Whether INFO's `cluster` says that nothing is left to do; `wanted` copies, 0 for any number."""
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


def _progress(members: Mapping[str, Any]) -> object:
    """What changes as long as something happens; how long ago a copy was heard of does not count."""
    others = members.get("replicas") or ()
    return members.get("leader"), [
        (other["name"], other.get("current"), other.get("lag", 0)) for other in others
    ]


def _standing(members: Mapping[str, Any], wanted: int) -> str:
    """How far it is, for people."""
    others = members.get("replicas") or ()
    if not members.get("leader"):
        return "no leader"
    if wanted and len(others) >= wanted:
        return f"{len(others) + 1} copies where {wanted} are wanted"
    current = 1 + sum(bool(other.get("current")) for other in others)
    return f"{current} of {wanted or len(others) + 1} copies current"


def _stuck(resource: Resource, members: Mapping[str, Any], wanted: int, patience: float) -> ServerFault:
    return ServerFault(
        Problem(
            "not-settled",
            f"{resource.ref}: {_standing(members, wanted)}, and no progress for {patience:g}s",
            resource.origin,
            "the change is accepted and goes on by itself: see that all servers of the cluster are up",
        )
    )
