"""Chaos in short; at length it is `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Chaos, place_of
from chaos_manifests import Place, changed, first, step
from servers import NEWEST, OLDEST

EVERY_KIND = {"created", "updated", "consumer replaced", "stream replaced", "stream renamed", "deleted"}


@pytest.mark.parametrize(
    ("place", "seed", "kinds"),
    [
        (Place(NEWEST, mortal=True), 140, EVERY_KIND),
        (Place(OLDEST, mortal=False), 138, EVERY_KIND - {"stream replaced"}),
    ],
    ids=["newest", "oldest"],
)
def test_nothing_is_lost_or_repeated_while_things_break(
    tmp_path: Path, place: Place, seed: int, kinds: set[str]
) -> None:
    """Every acknowledged publish is accounted for, and the last manifest holds; new seeds: `make chaos`."""
    report = Chaos(seed, tmp_path, place).run(seconds=60, steps=14)
    assert report.kept, f"{report}\n{report.failures}"
    assert report.published > 0
    assert report.changes.keys() >= kinds


def test_a_seed_makes_the_same_choices_again() -> None:
    def choices(seed: int) -> list[object]:
        place = place_of(seed)
        steps = [step(seed, number, place) for number in range(50)]
        return [
            (found.deed, found.fault, found.moment, changed(first(), place, found.chance)) for found in steps
        ]

    assert choices(3) == choices(3)
    assert choices(3) != choices(8)
