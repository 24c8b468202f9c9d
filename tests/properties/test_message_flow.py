"""Where messages go is what walking single messages says, for all subjects at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.core.desired.message_flow import republish_cycles, stored_subjects
from cyborg_infra.model.subjects import covers
from tests.support.draws import draws
from tests.support.flows import MANY, SUBJECTS, drawn, state, walked

seeds = st.integers(0, 2**32)


@given(seeds)
@draws(300)
def test_a_circle_is_told_where_a_message_comes_back_without_end_and_nowhere_else(seed: int) -> None:
    streams = drawn(seed)
    endless = [subject for subject in SUBJECTS if walked(streams, subject).total() >= MANY]
    assert bool(republish_cycles(state(streams))) == bool(endless), (streams, endless)


@given(seeds)
@draws()
def test_what_comes_into_a_stream_is_stored_under_a_subject_that_was_told(seed: int) -> None:
    streams = drawn(seed)
    found = state(streams)
    told = {stream.ref.stream: stored_subjects(stream, found) for stream in found.streams()}
    for subject in SUBJECTS:
        for name, form in walked(streams, subject):
            assert any(covers(wide, form) for wide in told[name]), (streams, name, form)
