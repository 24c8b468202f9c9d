"""What replaces that were interrupted left on the server, and the changes that go on from there. Decides nothing else."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from cyborg_infra.model.plan import Action, Cause, Change
from cyborg_infra.model.state import BECOMES, PLACEHOLDER, Ref, Resource, State

REASON = "goes on where an interrupted replace stopped"


def carried(left: Sequence[Resource], live: State, desired: State, owner: str) -> dict[Ref, Ref]:
    """Desired resource -> what the owner has kept for it: a consumer's placeholder, or the stream of a move.

    Among what is `left`, or a stream on its way to another name that the manifest has again.
    """
    moving = [stream for stream in live.streams() if BECOMES in stream.metadata and stream.owner == owner]
    return {
        successor: found.ref
        for found in (*left, *moving)
        if (successor := _successor(found)) in desired.resources and successor
    }


def _successor(found: Resource) -> Ref | None:
    """What this is kept for, if it is a consumer's placeholder or the stream that a move goes by way of."""
    stream, consumer = found.ref.stream, found.ref.consumer
    if found.ref.is_placeholder:
        return Ref(stream, consumer.removeprefix(PLACEHOLDER))
    if not consumer and (becomes := found.metadata.get(BECOMES)):
        return Ref(becomes)
    return None


def of_moves(
    changes: Sequence[Change], carried: Mapping[Ref, Ref], live: State, desired: State
) -> list[Change]:
    """Streams on their way and consumers with placeholders: each goes on, with a change of its own if it had none."""
    if not carried:
        return list(changes)
    changed = {change.ref: change for change in changes}
    for ref, wanted in desired.resources.items():
        if ref not in carried and Ref(ref.stream) not in carried:
            continue
        before = live.resources.get(ref)
        known = changed.get(ref, Change(Action.UPDATE, before, wanted, cause=Cause.DRIFT))
        changed[ref] = replace(known, carried=True, via=carried.get(ref), reason=REASON)
    return list(changed.values())


def of_consumers(changes: Sequence[Change], moving: Container[Ref]) -> list[Change]:
    """A consumer that is stopped goes on as a new one, also where it need not be replaced any more.

    The streams that are `moving` put their own consumers back.
    """
    return [
        replace(change, action=Action.REPLACE, reason=REASON)
        if change.action is Action.UPDATE
        and change.before is not None
        and change.before.is_stopped
        and Ref(change.ref.stream) not in moving
        else change
        for change in changes
    ]
