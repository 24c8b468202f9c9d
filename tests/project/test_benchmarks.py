"""What the benchmark holds the product against is the same work."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.floor import Wire, creates, reads
from benchmarks.plot import plot
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.operations import manifest
from cyborg_infra.render import json_format
from tests.support.cli import SMALL, SMALL_COUNT
from tests.support.scenario import Scenario


def test_the_floor_makes_and_reads_what_apply_would_make(server: EmbeddedServer, tmp_path: Path) -> None:
    path = tmp_path / "org.yaml"
    path.write_text(SMALL, encoding="utf-8")
    shown = json_format.show(*manifest.show(str(path)))
    with Wire(server.url) as wire:
        assert wire.exchange(creates(shown), 3) == SMALL_COUNT
        assert wire.exchange(reads(shown), 3) == 1 + len(shown["streams"])
    with Scenario(server.url, tmp_path) as scene:
        assert not scene.plan(scene.request(SMALL))


def test_a_hole_is_neither_judged_nor_drawn() -> None:
    hole = Figure("no change", "plan", 7, "s", target=1.5, note="no server")
    slow = Figure("no change", "plan", 100, "s", (2.0, 4.0, 3.0), "floor", (1.0, 2.0), 1.5)
    assert [(each.median, each.ratio, each.met) for each in (hole, slow)] == [
        (None, None, None),
        (3.0, 2.0, False),
    ]
    assert "polyline" not in plot([hole, slow])
    assert "polyline" in plot([slow, Figure("no change", "plan", 1000, "s", (5.0,))])
