"""Golden texts: what is expected stands in a file, and only `--update-cases` changes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Golden = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-cases", action="store_true", help="write the golden texts instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """A function that asserts that a file holds exactly this text, or makes it so under --update-cases."""
    # Without this directory among the arguments, pytest may read the options before it reads this file.
    update = request.config.getoption("--update-cases", default=False)

    def compare(path: Path, actual: str) -> None:
        if update:
            path.write_text(actual, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == actual

    return compare
