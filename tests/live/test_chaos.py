"""Chaos in short; at length it is `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Chaos
from servers import NEWEST, OLDEST


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_nothing_is_lost_or_repeated_while_things_break(tmp_path: Path, version: str) -> None:
    """Every acknowledged publish is worked on exactly once, and the last manifest holds; new seeds: `make chaos`."""
    chaos = Chaos(7, tmp_path, version)
    try:
        report = chaos.run(seconds=6)
    finally:
        chaos.stop()
    assert report.kept, (
        f"{report}; lost {report.lost[:5]}, repeated {report.repeated[:5]}, unsettled {report.unsettled}"
    )
    assert report.published > 0
