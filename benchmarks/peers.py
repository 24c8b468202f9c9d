"""The peers beside the same commands of ours: creating everything, and looking whether it is as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.commands import APPLY, NO_CHANGE, applied, peaks, times
from benchmarks.figures import Figure, values_of
from benchmarks.measure import Run, by_turns
from benchmarks.nodes import Workplace
from benchmarks.organisation import Organisation
from benchmarks.tools import Peer

PART = "peers"


def rivalling(
    place: Workplace, roles: int, repeats: int, peer: Peer, figures: Sequence[Figure]
) -> Iterator[Figure]:
    """Yield a peer that creates, beside `apply` by turns, and that then looks whether all is in order, beside `plan`.

    Beyond the peer's largest size in proportion to the number of streams and consumers, which is said.
    """
    organisation = Organisation(place.home, roles)
    plans = values_of(figures, NO_CHANGE, "plan", roles)
    if roles > peer.largest:
        scale = organisation.size / Organisation(place.home, peer.largest).size
        for verb, what, ours in (
            ("create", "apply", values_of(figures, APPLY, "apply", roles)),
            ("check", "plan", plans),
        ):
            values = values_of(figures, PART, f"{peer.name}: {verb}", peer.largest)
            scaled = tuple(value * scale for value in values)
            note = (
                f"in proportion, from {peer.largest:,} roles" if values else f"nor at {peer.largest:,} roles"
            )
            yield Figure(PART, f"{peer.name}: {verb}", roles, "s", scaled, what, ours, note=note)
        return
    checks: list[Run] = []

    def created() -> Run:
        with place.server() as server:
            taken = peer.create(organisation, server.url)
            checks.append(peer.check(organisation, server.url))
            return taken

    taken = by_turns(repeats, {peer.name: created, "apply": partial(applied, place, organisation)})
    theirs, applies = taken[peer.name], taken["apply"]
    yield Figure(PART, f"{peer.name}: create", roles, "s", times(theirs), "apply", times(applies))
    yield Figure(PART, f"{peer.name}: check", roles, "s", times(checks), "plan", plans)
    yield Figure(
        PART, f"{peer.name}: peak memory of a process", roles, "MB", peaks(theirs), "apply", peaks(applies)
    )
