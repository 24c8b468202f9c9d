"""Whatever the text: an organisation, or problems with their places. Never another exception."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cyborg_infra.manifest import schema
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.template import template_manifest
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import ManifestInvalid, Problem
from tests.support.draws import draws

FULL = (Path(__file__).parents[1] / "cases/manifest/full.yaml").read_text(encoding="utf-8")
DATA = json.loads(json.dumps(yaml.load(FULL, Loader=yaml.BaseLoader)))  # noqa: S506 - BaseLoader builds text only

PIECES = [
    *(
        "org: a\n",
        "roles:",
        " [cto]",
        "\n",
        "  ",
        "- ",
        ": ",
        ":",
        ", ",
        "[",
        "]",
        "{",
        "}",
        "? ",
        "| \n",
        ">-\n",
    ),
    *(
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        "!!python/name:os.system ",
        "<<: ",
        "=",
        "#",
        "'",
        '"',
        "\\",
        "\t",
        "---\n",
    ),
    *(
        "...\n",
        "%YAML 1.1\n",
        "%TAG ! tag:x\n",
        "~",
        "on",
        "0o17",
        "1:30",
        ".nan",
        "2026-01-31",
        "-1",
        "cto:\n",
    ),
    *(
        "streams:\n",
        "tasks",
        "max_age",
        "72h",
        "\x00",
        "\ufeff",
        "\x85",
        "\u2028",
        "\ud800",
        "é",
        "😀",
        '"\\ud800"',
    ),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield every path in plain data, the root included."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(item, (*path, key))


def placed(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """Return a copy of plain data with `new` at `path`."""
    if not path:
        return new
    first, *rest = path
    copy = value.copy()
    copy[first] = placed(value[first], tuple(rest), new)
    return copy


PATHS = sorted(paths(DATA), key=repr)
KEYS = sorted({str(step) for path in PATHS for step in path})


def problems_of(text: str, env: str | None) -> tuple[Problem, ...]:
    """Return what loading refuses the text for; nothing if it is an organisation."""
    try:
        assert isinstance(loads(text, env=env), Org)
    except ManifestInvalid as invalid:
        return invalid.problems or (Problem("none", ""),)
    return ()


def holds(text: str, env: str | None = None) -> None:
    """The law: an Org, or at least one problem, each in a line of the text; and no problem that only jsonschema sees."""
    with patch.object(schema, "accepts", lambda *_: False):
        thorough = problems_of(text, env)
    assert problems_of(text, env) == thorough
    lines = len(text.splitlines()) + 1  # like YAML, splitlines knows more line breaks than \n
    for problem in thorough:
        assert problem.message
        assert problem.where
        assert 1 <= problem.where.line <= lines
        assert problem.where.column >= 1


@draws(300)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
@example("a: &a [*a]")
@example("? ")
@example("\ufeff")
def test_any_pieces_of_yaml(text: str) -> None:
    holds(text)


@draws(100)
@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_any_pieces_of_yaml_without_the_c_library(text: str) -> None:
    with patch.object(yaml, "CSafeLoader", yaml.SafeLoader):
        holds(text)


@draws(200)
@given(st.text())
def test_any_text(text: str) -> None:
    holds(text)


@draws(300)
@given(
    st.integers(0, len(FULL)),
    st.integers(0, 40),
    st.sampled_from(PIECES) | st.text(max_size=5),
    st.sampled_from([None, "staging", "nowhere"]),
)
def test_a_valid_manifest_with_one_cut_mended_by_anything(
    at: int, length: int, piece: str, env: str | None
) -> None:
    holds(FULL[:at] + piece + FULL[at + length :], env)


@draws(300)
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=3))
def test_a_valid_manifest_with_any_value_anywhere(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    data = DATA
    for path, value in changes:
        if path in set(paths(data)):
            data = placed(data, path, value)
    holds(json.dumps(data, ensure_ascii=False))


@draws(200)
@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=5))
def test_a_valid_manifest_with_known_keys_where_they_do_not_belong(
    path: tuple[str | int, ...], value: dict[str, Any]
) -> None:
    holds(json.dumps(placed(DATA, path, value), ensure_ascii=False))


@draws(200)
@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=4))
@example("genbrain", ["on", "null", "1e3", "0", "ceo"])
def test_a_starter_holds_the_names_it_was_given_or_they_are_refused(name: str, roles: list[str]) -> None:
    try:
        org = loads(template_manifest(name, roles))
    except ManifestInvalid:
        return
    assert (org.name, [role.name for role in org.roles]) == (name, roles)
