"""The YAML that is written says what it was given, to readers of either kind, and is the same with and without PyYAML's C library."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cyborg_infra.export.yaml_text import yaml_text
from tests.support.draws import draws

LOADERS = [yaml.SafeLoader, yaml.CSafeLoader]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "on",
        "No",
        "~",
        "1e3",
        "0o7",
        "2026-01-01",
        "12:30",
        ".5",
        "a: b",
        "#",
        "- a",
        "null",
        "a\nb\n",
        " a\n",
        "\n",
    ]
)
KEYS = st.text("abcxyz$./-_ é:#", min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
DOCUMENTS = st.lists(st.dictionaries(KEYS, VALUES, max_size=3), min_size=1, max_size=3)


@pytest.mark.parametrize("loader", LOADERS)
@given(documents=DOCUMENTS)
@example(documents=[{"a": [[{"b": []}, {}], "x"], "c": "line\n\n  more\n", "d": "kept\n\n"}])
@draws(300)
def test_what_is_written_is_read_as_the_same(loader: Any, documents: list[Any]) -> None:
    assert list(yaml.load_all(yaml_text(documents), loader)) == documents


@given(documents=DOCUMENTS)
@draws(300)
def test_it_is_the_same_without_the_c_library(documents: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        written = yaml_text(documents)
        patched.delattr(yaml, "CSafeDumper")
        assert yaml_text(documents) == written


def test_it_is_laid_out_for_people() -> None:
    found = yaml_text(
        [{"a": {"b": "plain", "c": ["x", {"d": 1, "e": True}], "f": "on", "g": [], "h": "x\ny\n"}}]
    )
    assert found == (
        '---\na:\n  b: plain\n  c:\n  - x\n  - d: 1\n    e: true\n  f: "on"\n  g: []\n  h: |\n    x\n    y\n'
    )
