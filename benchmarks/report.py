"""The results as JSON, as a Markdown table and as a plot. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.plot import plot

_VERDICTS = {None: "**not judged**", True: "met", False: "**falls short**"}
_LARGE = 100


def write(
    home: Path, name: str, machine: Mapping[str, str], absent: Sequence[str], figures: Sequence[Figure]
) -> str:
    """Return the files `name`.json, .md and .svg in `home`; returns the Markdown."""
    home.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine,
        "absent": absent,
        "figures": [
            asdict(figure) | {"median": figure.median, "ratio": figure.ratio, "met": figure.met}
            for figure in figures
        ],
    }
    (home / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (home / f"{name}.svg").write_text(plot(figures), encoding="utf-8")
    text = _markdown(name, machine, absent, figures)
    (home / f"{name}.md").write_text(text, encoding="utf-8")
    return text


def _markdown(name: str, machine: Mapping[str, str], absent: Sequence[str], figures: Sequence[Figure]) -> str:
    verdicts = [figure.met for figure in figures if figure.target is not None]
    holes = sum(not figure.values for figure in figures)
    lines = [
        "# Benchmark",
        "",
        f"Of {len(verdicts)} targets {verdicts.count(True)} are met, {verdicts.count(False)} fall short and {verdicts.count(None)} could not be judged; {holes} parts or figures could not be measured.",
        "Medians, with the least and the most of the repeats. On another machine only the ratios mean anything.",
        "",
        *(f"- {key}: {value}" for key, value in machine.items()),
        *(f"- not measured, because absent: {what}" for what in absent),
        "",
        f"![how the times grow]({name}.svg)",
    ]
    for part in dict.fromkeys(figure.part for figure in figures):
        own = [figure for figure in figures if figure.part == part]
        lines += [
            "",
            f"## {part}",
            "",
            *(_compared(own) if any(figure.beside for figure in own) else _grown(own)),
        ]
    return "\n".join(lines) + "\n"


def _compared(figures: Sequence[Figure]) -> list[str]:
    """Return a row for each figure, with what it stands beside."""
    head = [
        "| | roles | median | range | repeats | beside | | ratio | target | |",
        "|---|--:|--:|--:|--:|---|--:|--:|--:|---|",
    ]
    return head + [_row(figure) for figure in figures]


def _grown(figures: Sequence[Figure]) -> list[str]:
    """Return a column for each number of roles, with medians; below it why something is missing."""
    sizes = sorted({figure.roles for figure in figures})
    repeats = {size: max(len(figure.values) for figure in figures if figure.roles == size) for size in sizes}
    cells = {(figure.what, figure.roles): figure for figure in figures}
    lines = [
        f"| | {' | '.join(f'{size:,} roles' for size in sizes)} |",
        f"|---|{'--:|' * len(sizes)}",
        f"| repeats | {' | '.join(str(repeats[size]) for size in sizes)} |",
    ]
    for what in dict.fromkeys(figure.what for figure in figures if figure.values):
        row = [cells.get((what, size)) for size in sizes]
        lines.append(f"| {what} | {' | '.join(_cell(figure) for figure in row)} |")
    holes = [figure for figure in figures if not figure.values]
    return lines + [f"\n{figure.roles:,} roles, {figure.what}: {figure.note}" for figure in holes]


def _cell(figure: Figure | None) -> str:
    return _quantity(figure.median, figure.unit) if figure is not None and figure.median is not None else ""


def _row(figure: Figure) -> str:
    if figure.median is None:
        return f"| {figure.what} | {figure.roles:,} | not measured: {figure.note} | | | | | | | {_verdict(figure)} |"
    beside = Figure("", "", 0, figure.unit, figure.beside_values).median
    cells = [
        figure.what + (f" ({figure.note})" if figure.note else ""),
        f"{figure.roles:,}",
        _quantity(figure.median, figure.unit),
        _range(figure.values),
        str(len(figure.values)),
        figure.beside,
        _quantity(beside, figure.unit) if beside is not None else "",
        f"{figure.ratio:.2f}" if figure.ratio is not None else "",
        _target(figure),
        _verdict(figure),
    ]
    return f"| {' | '.join(cells)} |"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{figure.target:.2f}" if figure.beside else _quantity(figure.target, figure.unit)


def _verdict(figure: Figure) -> str:
    return "" if figure.target is None else _VERDICTS[figure.met]


def _range(values: Iterable[float]) -> str:
    least, most = min(values), max(values)
    return "" if least == most else f"{_number(least)}-{_number(most)}"


def _quantity(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}".strip()


def _number(value: float) -> str:
    """Three digits that mean something."""
    if value == 0:
        return "0"
    return f"{value:.3g}" if abs(value) < _LARGE else f"{value:,.0f}"
