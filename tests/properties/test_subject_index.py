"""The laws of subjects: what covers, what overlaps, and an index that finds the same as comparing every pair."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.model.subjects import SubjectIndex, covers, intersection, is_pattern, overlap
from tests.support.draws import draws

# Few tokens and short subjects, so that patterns meet often.
TOKENS = ("a", "b")
literals = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4).map(".".join)
patterns = st.builds(
    lambda tokens, end: ".".join([*tokens, *end]),
    st.lists(st.sampled_from((*TOKENS, "*")), min_size=0, max_size=4),
    st.sampled_from(((), (">",))),
).filter(bool)
EVERY_SUBJECT = [
    ".".join(tokens) for length in range(1, 6) for tokens in itertools.product("abz", repeat=length)
]
"""`z` is in no pattern, and stands for every other token; five tokens are more than any pattern has before `>`."""


@draws()
@given(patterns)
def test_what_is_built_here_is_a_pattern(pattern: str) -> None:
    assert is_pattern(pattern)


@draws()
@given(patterns, patterns)
def test_overlap_and_covers_are_what_the_matching_subjects_say(one: str, other: str) -> None:
    left = {subject for subject in EVERY_SUBJECT if matches(one, subject)}
    right = {subject for subject in EVERY_SUBJECT if matches(other, subject)}
    assert overlap(one, other) == bool(left & right)
    both = intersection(one, other)
    assert {subject for subject in EVERY_SUBJECT if both and matches(both, subject)} == left & right
    assert covers(one, other) == (right <= left)


@draws()
@given(patterns, patterns, patterns)
def test_the_laws_hold_among_three_patterns(one: str, two: str, three: str) -> None:
    assert covers(one, one)
    assert covers(">", one)
    assert overlap(one, two) == overlap(two, one)
    assert not covers(one, two) or overlap(one, two)
    assert not (covers(one, two) and covers(two, three)) or covers(one, three)
    assert not (covers(one, two) and overlap(two, three)) or overlap(one, three)


@draws()
@given(patterns, literals)
def test_with_a_literal_subject_covers_overlaps_and_matches_are_one(pattern: str, subject: str) -> None:
    assert covers(pattern, subject) == overlap(pattern, subject) == matches(pattern, subject)


@draws()
@given(st.lists(patterns, max_size=30), patterns)
def test_the_index_finds_what_comparing_every_pair_finds(held: list[str], wanted: str) -> None:
    index = SubjectIndex((pattern, str(number)) for number, pattern in enumerate(held))
    expected = [(pattern, str(number)) for number, pattern in enumerate(held) if overlap(pattern, wanted)]
    assert sorted(index.overlapping(wanted)) == sorted(expected)
    assert index.covers(wanted) == any(covers(pattern, wanted) for pattern in held)


def matches(pattern: str, subject: str) -> bool:
    """NATS's rule in its simplest form: token by token, `*` is one token, `>` is one or more."""
    first, _, rest = pattern.partition(".")
    token, _, others = subject.partition(".")
    if first == ">":
        return True
    if first not in ("*", token):
        return False
    return matches(rest, others) if rest and others else not rest and not others
