"""What a misspelt name may mean, found without comparing every word with every name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import pytest

from cyborg_infra.manifest import suggest
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.suggest import NameIndex
from cyborg_infra.model.problems import ManifestInvalid

ROLES = [f"role-{number:04}" for number in range(9_999)]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """With how many names words were compared."""
    found: list[int] = []
    real = difflib.get_close_matches

    def counted(word: str, names: Sequence[str], *arguments: Any, **more: Any) -> list[str]:
        found.append(len(names))
        return real(word, names, *arguments, **more)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    return found


def _refused(text: str) -> ManifestInvalid:
    with pytest.raises(ManifestInvalid) as caught:
        loads(text)
    return caught.value


def test_thousands_of_misspelt_names_are_compared_with_few(compared: list[int]) -> None:
    """9,999 roles and 5,000 subscribers that are none took 100 s."""
    subscribers = ", ".join(f"rool-{number:04}" for number in range(5_000))
    text = f"org: a\nroles: [{', '.join(ROLES)}]\nevents: {{x.y: {{publishers: [role-0000], subscribers: [{subscribers}]}}}}\n"
    error = _refused(text)
    assert len(error.problems) == 5_000
    assert sum(compared) <= suggest.MAX_COMPARISONS
    assert error.problems[-1].hint == "did you mean role-4999?"


def test_thousands_of_misspelt_keys_are_compared_with_few(compared: list[int]) -> None:
    error = _refused(
        "org: a\nroles: {" + ", ".join(f"{role}: {{tasks: {{maxage: 1h}}}}" for role in ROLES[:2000]) + "}\n"
    )
    assert len(error.problems) == 2_000
    assert sum(compared) <= suggest.MAX_COMPARISONS
    assert {problem.hint for problem in error.problems} == {"did you mean max_age?"}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("backend", "backend"),
        ("backnd", "backend"),
        ("backkend", "backend"),
        ("bakcend", "backend"),
        ("backenf", "backend"),
        ("front", "frontend"),
        ("moon", None),
        ("", None),
        ("x" * 10_000, None),
    ],
)
def test_a_name_with_one_wrong_character_is_found_without_comparing(
    word: str, meant: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggest, "MAX_COMPARISONS", 0)
    assert NameIndex(["cto", "backend", "frontend"]).nearest(word) == meant
