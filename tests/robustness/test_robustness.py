"""Whatever a server answers, a command ends with one of its exit codes and a reason; the seeds are in robustness/commands.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.robustness.commands import (
    READS,
    WRITES,
    Case,
    Place,
    impatient,
    info_lies,
    nothing_left_behind,
    tried,
)
from tests.robustness.false_server import Liar
from tests.support.faults import Faults

CASES = 12  # of each command that reads
WRITE_CASES = 3


@pytest.fixture
def place(server: EmbeddedServer, project: Path, faults: Faults) -> Iterator[Place]:
    impatient(faults)
    with Liar(server.port) as liar:
        found = Place(server, liar, project)
        yield found
        found.close()


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_a_command_that_reads_ends_whatever_it_is_answered(words: tuple[str, ...], place: Place) -> None:
    with nothing_left_behind() as left:
        for seed in range(CASES):
            assert tried(place, Case(words, seed)) == []
    assert left == []


@pytest.mark.parametrize("words", WRITES, ids=lambda words: " ".join(words[:3]))
def test_a_command_that_writes_ends_whatever_it_is_answered(words: tuple[str, ...], place: Place) -> None:
    with nothing_left_behind() as left:
        for seed in range(WRITE_CASES):
            assert tried(place, Case(words, seed)) == []
            place.lived_in()
    assert left == []


def test_what_is_no_server_is_refused_in_one_line(place: Place) -> None:
    with nothing_left_behind() as left:
        for seed in range(30):
            assert info_lies(place, seed) == []
    assert left == []
