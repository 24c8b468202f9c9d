"""What was measured, beside what it is held against and what it should be. Knows not how it was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

Measurement = tuple[str, str, float]
"""What, in which unit, how much."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured several times, at one size of the organisation.

    `target` is the most that may be: of the ratio to `beside`, or of the figure itself where there is nothing beside.
    Without values it is a hole: it could not be measured, and `note` says why. It is told, not judged.
    """

    part: str
    what: str
    roles: int
    unit: str
    values: tuple[float, ...] = ()
    beside: str = ""
    beside_values: tuple[float, ...] = ()
    target: float | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """Of the values; None for a hole."""
        return statistics.median(self.values) if self.values else None

    @property
    def ratio(self) -> float | None:
        """How many times what is beside it; None where one of the two is missing."""
        if self.median is None or not self.beside_values:
            return None
        return self.median / statistics.median(self.beside_values)

    @property
    def met(self) -> bool | None:
        """Whether it is what it should be; None without a target, or where it cannot be judged."""
        judged = self.ratio if self.beside else self.median
        return None if self.target is None or judged is None else judged <= self.target


def values_of(figures: Iterable[Figure], part: str, what: str, roles: int) -> tuple[float, ...]:
    """Return what was measured of this; nothing if it was not."""
    return next(
        (each.values for each in figures if (each.part, each.what, each.roles) == (part, what, roles)), ()
    )


def gathered(part: str, roles: int, rounds: Iterable[Iterable[Measurement]]) -> Iterator[Figure]:
    """Yield a figure for each thing that was measured in one round or more; also if a later round fails, which raises then."""
    values: dict[tuple[str, str], list[float]] = {}
    failure = None
    try:
        for each in rounds:
            for what, unit, value in each:
                values.setdefault((what, unit), []).append(value)
    except Exception as error:  # noqa: BLE001 - raised below
        failure = error
    for (what, unit), measured in values.items():
        yield Figure(part, what, roles, unit, tuple(measured))
    if failure is not None:
        raise failure


def total(*parts: Sequence[float]) -> tuple[float, ...]:
    """Return the sums, repeat by repeat."""
    return tuple(map(sum, zip(*parts, strict=True)))
