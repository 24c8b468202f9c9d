"""The journal of a replace is a label on a stream, which anybody can edit."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from cyborg_infra.live.records.journal import Journal
from cyborg_infra.model.consumer_position import ConsumerPositions, Position, fits_journal
from cyborg_infra.model.metadata_keys import JOURNAL_KEY
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import ConsumerCounts, LiveResource, Resource
from cyborg_infra.model.server_versions import Version

WHOLE = Journal(
    {"subjects": ["a"]},
    "limits",
    {"w": 5},
    {"w": {"ack_wait": 1}},
    {"team": "x"},
    limits={"max_msgs": 5},
    floors={"w": 3},
    still=True,
    unfinished={"w": [3, 4]},
    paused={"w": "2200-01-01T00:00:00Z"},
)


def _copy(label: str) -> LiveResource:
    return LiveResource(Ref("cyborg-infra-temporary-S"), {"metadata": {JOURNAL_KEY: label}})


@pytest.mark.parametrize("journal", [WHOLE, Journal({}, "workqueue")])
def test_a_journal_is_read_as_it_was_written(journal: Journal) -> None:
    assert Journal.from_stream(_copy(json.dumps(asdict(journal)))) == journal


@pytest.mark.parametrize(
    "change",
    [
        {"ingest": 5},
        {"retention": None},
        {"positions": {"w": "5"}},
        {"positions": {"w": -1}},
        {"route": "pigeon"},
        {"unfinished": {"w": 3}},
        {"newer": 1},
    ],
)
def test_another_one_is_refused_in_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(
        ServerFault, match=r"^cyborg-infra-temporary-S: its label cyborg-infra.journal cannot be read: "
    ):
        Journal.from_stream(_copy(json.dumps(asdict(WHOLE) | change)))


@pytest.mark.parametrize("label", ["", "hello", "[]", "5", "[" * 5000])
def test_what_is_no_journal_is_refused_in_one_line(label: str) -> None:
    with pytest.raises(ServerFault, match="cannot be read"):
        Journal.from_stream(_copy(label))


@pytest.mark.parametrize(("consumers", "working"), [(1, 6900), (20, 300), (200, 25), (1000, 0)])
def test_what_fits_the_journal_of_a_move_fits_the_metadata_of_a_stream(consumers: int, working: int) -> None:
    """With the longest numbers, and 24 KiB for what the journal says of the stream itself."""
    version = Version(2, 15, 1)
    counts = ConsumerCounts(num_ack_pending=working)
    found = [
        LiveResource(Ref("S", f"{number:04}-broadcast-reader"), {}, counts=counts)
        for number in range(consumers)
    ]
    assert fits_journal(found, version)
    assert not fits_journal(
        [*found, LiveResource(Ref("S", "x"), {}, counts=ConsumerCounts(num_ack_pending=7000))], version
    )
    last = 10**10
    noted = {each.ref.consumer: Position(last, tuple(range(last - working, last))) for each in found}
    journal = Journal({"subjects": ["x" * 24_000]}, "limits").with_positions(ConsumerPositions(noted))
    journal = replace(journal, floors=dict.fromkeys(noted, last))
    written = journal.metadata(Resource(Ref("S"), {}), Ref("T"))
    assert sum(len(name) + len(text) for name, text in written.items()) <= 128 * 1024
