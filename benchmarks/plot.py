"""How the times grow with the roles, as an SVG: both axes are logarithmic, so that a straight line is a power of N."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from benchmarks.figures import Figure

SERIES = (("apply from nothing", "apply"), ("no change", "plan"))
"""Part and name of what is drawn, each with what it stands beside, and the peers."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 820, 420, 60, 320, 20, 40
_COLOURS = ("#0b5fa5", "#7fb2dd", "#b3541e", "#e0a77f", "#3d7a3d", "#7a3d78", "#808000", "#555555")

_Points = dict[int, float]


def plot(figures: Sequence[Figure]) -> str:
    """Return the picture; empty axes where nothing was measured at two sizes."""
    lines = {name: points for name, points in _lines(figures).items() if len(points) > 1}
    sizes = sorted({roles for points in lines.values() for roles in points}) or [1, 10]
    values = [value for points in lines.values() for value in points.values()] or [0.1, 1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def x(roles: float) -> float:
        share = math.log(roles / sizes[0]) / math.log(sizes[-1] / sizes[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = (math.log10(value) - low) / max(high - low, 1)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for power in range(low, high + 1):
        parts.append(_grid(_LEFT, y(10**power), _WIDTH - _RIGHT, y(10**power)))
        parts.append(_text(_LEFT - 6, y(10**power) + 4, f"{10**power:g} s", "end"))
    for roles in sizes:
        parts.append(_grid(x(roles), _TOP, x(roles), _HEIGHT - _BOTTOM))
        parts.append(_text(x(roles), _HEIGHT - _BOTTOM + 18, f"{roles:,}", "middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "roles", "middle"))
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x(roles):.1f},{y(value):.1f}" for roles, value in sorted(points.items()))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(roles):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>'
            for roles, value in points.items()
        ]
        below = _TOP + 14 + 20 * number
        parts.append(_text(_WIDTH - _RIGHT + 34, below, name, "start"))
        parts.append(
            f'<rect x="{_WIDTH - _RIGHT + 16}" y="{below - 9}" width="12" height="9" fill="{colour}"/>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _lines(figures: Iterable[Figure]) -> dict[str, _Points]:
    lines: dict[str, _Points] = {}
    for figure in figures:
        if figure.median is None:
            continue
        if (figure.part, figure.what) in SERIES:
            lines.setdefault(f"{figure.what}, {figure.part}", {})[figure.roles] = figure.median
            if figure.ratio:
                lines.setdefault(figure.beside, {})[figure.roles] = figure.median / figure.ratio
        elif figure.part == "peers":
            lines.setdefault(figure.what, {})[figure.roles] = figure.median
    return lines


def _grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
