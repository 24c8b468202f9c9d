"""Laws of sizes and durations over all values; named apart from tests/unit/model/test_units.py, which holds the examples."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.manifest.schema import read_schema
from cyborg_infra.model.units import MAX_INT64, format_duration, format_size, parse_duration, parse_size
from tests.support.draws import draws

DEFINITIONS = read_schema("org.schema.json")["$defs"]
NEARLY = st.text(alphabet="0123456789.-+_ nusmhdDwWMyYkKMGTPiIbBe\nµ٣", max_size=8)


@draws()
@given(st.integers(0, MAX_INT64))
def test_a_duration_survives_being_written_and_read(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@draws()
@given(st.integers(-1, MAX_INT64))
def test_digits_are_bytes(size: int) -> None:
    assert parse_size(str(size)) == size


@draws()
@given(st.integers(0, 2**20), st.sampled_from("KMGT"), st.sampled_from(["", "B", "iB"]), st.booleans())
def test_every_spelling_of_a_suffix_is_the_same_size(count: int, unit: str, tail: str, lower: bool) -> None:  # noqa: FBT001
    text = f"{count}{unit}{tail}"
    assert parse_size(text.lower() if lower else text) == count * 1024 ** ("KMGT".index(unit) + 1)


@draws()
@given(st.integers(0, 1023), st.integers(0, 4))
def test_a_whole_size_is_read_back_from_what_people_see(count: int, exponent: int) -> None:
    size = count * 1024**exponent
    assert parse_size(format_size(size).replace(" ", "")) == size


def outcome(parse: Callable[[str], int], text: str) -> int | str:
    """Return the value, or the words of the refusal."""
    try:
        return parse(text)
    except ValueError as error:
        return str(error)


@draws(500)
@given(NEARLY | st.text(max_size=8))
def test_any_text_is_a_duration_of_64_bits_or_refused_by_name(text: str) -> None:
    found = outcome(parse_duration, text)
    assert repr(text) in found if isinstance(found, str) else 0 <= found <= MAX_INT64


@draws(500)
@given(NEARLY | st.text(max_size=8))
def test_any_text_is_a_size_of_64_bits_or_refused_by_name(text: str) -> None:
    found = outcome(parse_size, text)
    assert repr(text) in found if isinstance(found, str) else -1 <= found <= MAX_INT64


@draws(1000)
@given(NEARLY, st.sampled_from([("size", parse_size), ("duration", parse_duration)]))
def test_an_editor_accepts_what_the_loader_accepts(text: str, unit: tuple[str, Callable[[str], int]]) -> None:
    """Only arithmetic is beyond the schema's patterns."""
    name, parse = unit
    found = outcome(parse, text)
    pattern = DEFINITIONS[name]["pattern"].replace("$", r"\Z")  # what $ is in ECMAScript
    too_much = isinstance(found, str) and re.search("no whole number of|than the server can hold", found)
    assert bool(re.search(pattern, text)) == (isinstance(found, int) or bool(too_much))
