"""Which strategy replaces a consumer is a table: the newest first that the server can do."""

from __future__ import annotations

from datetime import datetime

import pytest

from cyborg_infra.live.execute.consumer.pause_and_reset import PauseAndReset
from cyborg_infra.live.execute.consumer.pause_and_start import PauseAndStart
from cyborg_infra.live.execute.consumer.pausing import parse_pause
from cyborg_infra.live.execute.consumer.starting import BY_RESET, BY_START_SEQUENCE
from cyborg_infra.live.execute.consumer.stop_by_filter import StopByFilter
from cyborg_infra.live.execute.consumer.strategies import STRATEGIES, strategy_for
from cyborg_infra.live.execute.consumer.strategy import ReplacementStrategy
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.server_versions import OLDEST, Version


@pytest.mark.parametrize(
    ("version", "strategy"),
    [
        ("2.9.25", StopByFilter),
        ("2.10.26", StopByFilter),
        ("2.11.0", PauseAndStart),
        ("2.12.8", PauseAndStart),
        ("2.14.0", PauseAndReset),
        ("2.15.1", PauseAndReset),
    ],
)
def test_the_version_chooses_the_strategy(version: str, strategy: type[ReplacementStrategy]) -> None:
    assert type(strategy_for(Version.parse(version))) is strategy


def test_a_server_that_is_newer_than_all_gets_the_newest() -> None:
    assert strategy_for(Version(9, 0, 0)) is STRATEGIES[max(STRATEGIES)]


def test_the_table_goes_from_the_newest_to_the_oldest() -> None:
    assert list(STRATEGIES) == sorted(STRATEGIES, reverse=True)
    assert min(STRATEGIES) == OLDEST


@pytest.mark.parametrize(
    ("policy", "resettable"),
    [("all", True), ("by_start_time", True), ("new", False), ("last", False), ("last_per_subject", False)],
)
def test_what_cannot_be_reset_starts_by_a_sequence(policy: str, *, resettable: bool) -> None:
    desired = Resource(Ref("S", "c"), {"deliver_policy": policy})
    assert PauseAndReset().start_of(desired) is (BY_RESET if resettable else BY_START_SEQUENCE)
    assert PauseAndStart().start_of(desired) is BY_START_SEQUENCE


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-12:00", "2026-01-01T00:00:00.123456789+02:00"])
def test_a_pause_is_read_whatever_its_offset(text: str) -> None:
    """The server keeps the offset that somebody has written, also where the moment is in no year in UTC."""
    assert parse_pause(text) == datetime.fromisoformat(text)


@pytest.mark.parametrize("text", [None, "", "0001-01-01T00:00:00Z"])
def test_no_moment_is_no_pause(text: str | None) -> None:
    assert parse_pause(text) is None
