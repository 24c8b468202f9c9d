"""Subjects: what one is, what covers what, and what meets, by the server's rules."""

from __future__ import annotations

import pytest

from cyborg_infra.model.subjects import MAX_NAME, covers, is_name, is_pattern, is_token, overlap


@pytest.mark.parametrize("text", ["cto", "data-eng", "data_eng", "Ωmega", "a$b", "7"])
def test_a_token_is_one_plain_word(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize(
    "text", ["", "a.b", "a b", "*", ">", "a*", "a>", "$JS", "a\t", "a\n", "\x00", "a\x7f", "a\u2003b"]
)
def test_no_token_has_dots_spaces_wildcards_or_a_leading_dollar(text: str) -> None:
    assert not is_token(text)


@pytest.mark.parametrize("text", ["AGENT_CTO_TASKS", "cto-worker", "a" * MAX_NAME, "$x"])
def test_a_name_is_what_the_server_takes(text: str) -> None:
    assert is_name(text)


@pytest.mark.parametrize(
    "text", ["", "a/b", "a\\b", "a.b", "a b", "*", ">", "a\n", "a" * (MAX_NAME + 1), "ä" * 128]
)
def test_a_name_fits_into_a_directory_and_255_bytes(text: str) -> None:
    assert not is_name(text)


@pytest.mark.parametrize("text", ["a", "a.b", "*", ">", "a.*.c", "a.>", "n.*x", "a.b>", "$JS.API.>"])
def test_a_pattern_may_have_wildcards_as_whole_tokens(text: str) -> None:
    assert is_pattern(text)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a b", "a.>.b", ">.a", "a\n", "a.\tb"])
def test_a_pattern_has_no_empty_token_and_no_inner_tail(text: str) -> None:
    assert not is_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        ("a.b", "a.b"),
        ("a.*", "a.b"),
        ("a.*", "a.*"),
        ("a.>", "a.b"),
        ("a.>", "a.b.c"),
        ("a.>", "a.*.>"),
        ("a.>", "a.>"),
        (">", "a"),
        (">", ">"),
        ("*.b", "*.b"),
        ("n.*x", "n.*x"),
    ],
)
def test_covers_what_it_contains(pattern: str, subject: str) -> None:
    assert covers(pattern, subject)


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        ("a.b", "a.c"),
        ("a.b", "a.*"),
        ("a.*", "a.>"),
        ("a.*", "a"),
        ("a.*", "a.b.c"),
        ("a.>", "a"),
        ("a.b", "a.b.c"),
        ("a.b.c", "a.b"),
        ("*", ">"),
        ("n.*x", "n.yx"),
    ],
)
def test_does_not_cover_what_reaches_beyond(pattern: str, subject: str) -> None:
    assert not covers(pattern, subject)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "a"),
        ("a.*", "a.b"),
        ("a.*", "*.b"),
        ("a.>", "*.b.c"),
        (">", "a.b"),
        ("a.*.c", "a.b.>"),
        ("*.*", "a.>"),
    ],
)
def test_overlap_is_a_subject_in_common_both_ways(one: str, other: str) -> None:
    assert overlap(one, other)
    assert overlap(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "b"), ("a.*", "a"), ("a.>", "a"), ("a.*", "a.b.c"), ("a.b.>", "a.b"), ("*.a", "*.b")],
)
def test_no_overlap_without_a_subject_in_common(one: str, other: str) -> None:
    assert not overlap(one, other)
    assert not overlap(other, one)
