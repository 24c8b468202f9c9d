"""The YAML that is written says what it was given, to readers of either kind."""

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
        "k" * 2000,
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(-1e9, 1e9).filter(lambda number: abs(number) > 1e-3)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize("loader", LOADERS)
@given(documents=st.lists(VALUES, min_size=1, max_size=3))
@example(documents=["0\n"])
@example(documents=[{"a": [[{"b": []}, {}], "x"], "c": "line\n\n  more\n", "d": "kept\n\n"}])
@draws(300)
def test_what_is_written_is_read_as_the_same(loader: Any, documents: list[Any]) -> None:
    assert list(yaml.load_all(yaml_text(documents), loader)) == documents


def test_it_is_laid_out_for_people() -> None:
    found = yaml_text(
        [{"a": {"b": "plain", "c": ["x", {"d": 1, "e": True}], "f": "on", "g": [], "h": "x\ny\n"}}]
    )
    assert found == (
        '---\na:\n  b: plain\n  c:\n    - x\n    - d: 1\n      e: true\n  f: "on"\n  g: []\n  h: |\n    x\n    y\n'
    )
