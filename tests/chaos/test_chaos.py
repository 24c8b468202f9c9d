"""Chaos in short; at length it is `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.manifests import SURE, Place, changed, first, schedule, step
from tests.chaos.rounds import Chaos, place_of
from tests.support.servers import NEWEST, OLDEST


@pytest.mark.parametrize(
    ("place", "seed"),
    [(Place(NEWEST, mortal=True), 140), (Place(OLDEST, mortal=False), 138)],
    ids=["newest", "oldest"],
)
def test_nothing_is_lost_or_repeated_while_things_break(tmp_path: Path, place: Place, seed: int) -> None:
    """Every acknowledged publish is accounted for, and the last manifest holds; new seeds: `make chaos`."""
    report = Chaos(seed, tmp_path, place).follow(schedule(seed, place))
    assert report.kept, f"{report}\n{report.failures}"
    assert report.published > 0
    assert report.brought == SURE.keys() - ({"stream replaced"} if place.version == OLDEST else set())


def test_a_seed_makes_the_same_choices_again() -> None:
    def choices(seed: int) -> list[object]:
        place = place_of(seed)
        steps = [*(step(seed, number, place) for number in range(50)), *schedule(seed, place)]
        return [
            (found.deed, found.fault, found.moment, changed(first(), place, found.chance)) for found in steps
        ]

    assert choices(3) == choices(3)
    assert choices(3) != choices(8)


def test_no_server_is_killed_in_a_cluster_that_forgets_streams_by_it() -> None:
    mortal = {
        found: place_of(1, found, cluster=True).mortal for found in (OLDEST, "2.11.11", "2.12.8", NEWEST)
    }
    assert mortal == {OLDEST: True, "2.11.11": False, "2.12.8": True, NEWEST: True}
    assert place_of(1, "2.11.11").mortal


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_has_each_kind_of_change_and_each_fault(seed: int) -> None:
    place = place_of(seed)
    steps = schedule(seed, place)
    assert len({found.brings for found in steps}) == len(steps) >= len(SURE) - 1
    assert {found.fault for found in steps} >= set(place.faults)
