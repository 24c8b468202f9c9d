"""The table of a migration is total: every stage has a row, is reached, and has a way forward, and back or a reason."""

from __future__ import annotations

import itertools

import pytest

from cyborg_infra.live.execute.migrate.stages import MigrationStage, StreamPair
from cyborg_infra.live.execute.migrate.transitions import TRANSITIONS, ConsumersAt, MigratedStream
from cyborg_infra.model.fields import Config
from cyborg_infra.model.metadata_keys import JOURNAL_KEY
from cyborg_infra.model.ref import Ref, fence_subject, temporary_stream
from cyborg_infra.model.resources import LiveResource

BEGINNINGS = (MigrationStage.NOT_STARTED, MigrationStage.NOT_ADOPTED)
S, OLD = Ref("S"), Ref("OLD")


def observations() -> list[StreamPair]:
    """Return every combination of what tells a stage."""
    kinds: tuple[Config, ...] = ({}, {"mirror": {"name": "x"}}, {"subjects": [fence_subject(S)]})
    streams: list[LiveResource | None] = [None, *(LiveResource(S, fields) for fields in kinds)]
    temporaries: list[LiveResource | None] = [None]
    for ref, metadata, kind in itertools.product(
        (temporary_stream(S), OLD), ({}, {JOURNAL_KEY: "{}"}), ("", "mirror", "fenced")
    ):
        subjects = [fence_subject(ref)] if kind == "fenced" else ["a"]
        copy = {"mirror": {"name": "S"}} if kind == "mirror" else {}
        temporaries.append(LiveResource(ref, {"metadata": metadata, "subjects": subjects, **copy}))
    return [StreamPair(stream, temporary) for stream in streams for temporary in temporaries]


def test_every_stage_has_a_row_and_no_row_is_of_no_stage() -> None:
    assert set(TRANSITIONS) == set(MigrationStage)


def test_every_stage_is_told_by_some_state_of_the_two_streams_and_every_state_tells_one() -> None:
    assert {seen.stage for seen in observations()} == set(MigrationStage)


def test_every_stage_is_reached_from_a_beginning() -> None:
    reached, left = set[MigrationStage](), list(BEGINNINGS)
    while left:
        stage = left.pop()
        if stage not in reached:
            reached.add(stage)
            row = TRANSITIONS[stage]
            left += [found for found in (*row.leads_to, row.without_stream) if found is not None]
    assert reached == set(MigrationStage)


@pytest.mark.parametrize("stage", MigrationStage)
def test_the_first_way_from_every_stage_comes_to_the_end(stage: MigrationStage) -> None:
    passed, following = set[MigrationStage](), stage
    while (after := TRANSITIONS[following].leads_to[0]) is not None:
        assert following not in passed
        passed.add(following)
        following = after


@pytest.mark.parametrize("stage", MigrationStage)
def test_a_stage_goes_back_only_while_its_source_has_everything(stage: MigrationStage) -> None:
    """And one that does not says why. What nobody takes in, publishers know; what is served is held nowhere."""
    row = TRANSITIONS[stage]
    is_rename = stage.name.startswith(("RENAME", "NOT_ADOPTED"))
    if isinstance(row.undo, str):
        assert row.undo
        assert row.unneeded is None
    else:
        assert row.messages_in is (MigratedStream.TEMPORARY if is_rename else MigratedStream.STREAM)
    assert row.publishes_to in (None, row.messages_in)
    if row.consumers is ConsumersAt.SERVED:
        assert row.publishes_to is row.messages_in
