"""A rehearsal: a stream and its consumers, tried under a temporary name before they are made."""

from __future__ import annotations

from cyborg_infra.model.resources import DesiredResource, Resource
from cyborg_infra.model.valueclass import NamedTuple


class Part(NamedTuple):
    """One stream or consumer as it is tried, and the one that it stands for.

    `before`: what is made first and then updated, as what lives will be. `shape`: what all that it stands for have in
    common. One that `is_background` stays as it is, and is there for the consumers that are tried on it.
    """

    candidate: Resource
    desired: DesiredResource
    shape: bytes
    before: Resource | None = None
    is_background: bool = False


class Rehearsal(NamedTuple):
    """A stream, and the consumers that are tried on it.

    `is_required`: something is taken away for it, so that nothing is done without. `takes_room`: there is room for it
    if there is for what the plan makes; `reserves` says how many bytes that is, where this one reserves all of it.
    """

    stream: Part
    consumers: tuple[Part, ...] = ()
    is_required: bool = True
    takes_room: bool = False
    reserves: int = 0
