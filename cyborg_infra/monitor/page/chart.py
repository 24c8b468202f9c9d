"""Draw the chart of an organisation as a tree that goes down line by line: it fits a phone, whatever the number of roles.

Up to MAX_DRAWN roles are drawn all; of more, those that matter most, the heads, and how many others are between or below them.
Lengths are in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice

from cyborg_infra.model.organisation import Org, Role

MAX_DRAWN = 40
"""So many roles are drawn."""

_MAX_RAILS = 6
_MAX_NAME = 24
_LINE, _INDENT, _MARGIN = 32, 48, 14
_CHARACTER, _NAME_AT, _RAIL = 7.8, 16, 14
_COUNT = 7.5


@dataclass(frozen=True, slots=True)
class ChartNode:
    """A role: where it stands, and what is said of it. `others` are roles below it, or beside it at the top, that are not drawn."""

    name: str
    x: int
    y: int
    below: int = 0

    @property
    def label(self) -> str:
        """The name, as much of it as there is room for."""
        return self.name if len(self.name) <= _MAX_NAME else f"{self.name[: _MAX_NAME - 1]}…"

    @property
    def more(self) -> str:
        """How many below it are not drawn."""
        return f"+ {self.below:,} below" if self.below else ""

    @property
    def end(self) -> int:
        """Where its text ends."""
        characters = len(self.label) + (len(self.more) + 2 if self.more else 0)
        return self.x + _NAME_AT + int(characters * _CHARACTER)


@dataclass(frozen=True, slots=True)
class ChartArrow:
    """An arrow to a role; the number of tasks that wait for it stands at `x`, `y` with so wide a ground."""

    to: str
    path: str
    waiting: str = ""
    x: float = 0
    y: float = 0
    width: float = 0
    between: int = 0  # roles on the way that are not drawn


@dataclass(frozen=True, slots=True)
class Chart:
    """The drawing: by whom each role is given tasks."""

    width: int
    height: int
    nodes: tuple[ChartNode, ...]
    reports: tuple[ChartArrow, ...]
    assigns: tuple[ChartArrow, ...]
    hidden: int  # roles that are not drawn
    unseen_assigns: int  # roles that assign to others, of which nothing is drawn


def draw_chart(org: Org, order: Sequence[str], waiting: Mapping[str, int]) -> Chart:
    """Return the chart. `order` has the roles that matter most first, of whom no more than MAX_DRAWN are drawn; `waiting` what waits for each."""
    above = _drawn_above(org, _drawn(org, order))
    children: dict[str, list[str]] = {}
    below: dict[str, int] = {}
    for role in org.roles:
        nearest, _, is_drawn = above[role.name]
        if is_drawn:
            children.setdefault(nearest, []).append(role.name)
        else:
            below[nearest] = below.get(nearest, 0) + 1
    arrows: list[ChartArrow] = []
    places: dict[str, ChartNode] = {}
    todo = [(name, 0) for name in reversed(children.get("", ()))]
    while todo:
        name, depth = todo.pop()
        y = _MARGIN + len(places) * _LINE
        places[name] = node = ChartNode(name, _MARGIN + depth * _INDENT, y, below.get(name, 0))
        giver, between, _ = above[name]
        if giver:
            arrows.append(_elbow(places[giver], node, waiting.get(name, 0), between))
        todo += [(child, depth + 1) for child in reversed(children.get(name, ()))]
    rails, unseen = _rails(org, places, {arrow.to for arrow in arrows}, waiting)
    width = max((node.end for node in places.values()), default=0) + (len(rails) + 1) * _RAIL + _MARGIN
    return Chart(
        width,
        max(len(places), 1) * _LINE,
        tuple(places.values()),
        tuple(arrows),
        tuple(arrow for rail in rails for arrow in rail),
        len(org.roles) - len(places),
        unseen,
    )


def _drawn(org: Org, order: Sequence[str]) -> set[str]:
    if len(org.roles) <= MAX_DRAWN:
        return {role.name for role in org.roles}
    heads = [role.name for role in org.roles if not role.reports_to and org.has_chart]
    found = dict.fromkeys(islice(heads, MAX_DRAWN // 4))
    for name in order:
        if len(found) >= MAX_DRAWN:
            break
        found.setdefault(name)
    for name in list(found):  # those above them, as far as there is room
        role = org.role(name)
        while role and role.reports_to and len(found) < MAX_DRAWN + MAX_DRAWN // 2:
            found.setdefault(role.reports_to)
            role = org.role(role.reports_to)
    return set(found)


def _drawn_above(org: Org, drawn: AbstractSet[str]) -> Mapping[str, tuple[str, int, bool]]:
    """Return of each role the nearest one above it that is drawn (empty if none is), how many are between, and whether it is drawn itself."""
    found: dict[str, tuple[str, int, bool]] = {}
    for role in org.roles:
        way: list[Role] = []
        each: Role | None = role
        while each and each.name not in found:
            way.append(each)
            each = org.role(each.reports_to)
        for each in reversed(way):
            nearest, between, is_drawn = found.get(each.reports_to, ("", -1, False))
            here = (each.reports_to, 0) if is_drawn else (nearest, between + 1)
            found[each.name] = (*here, each.name in drawn)
    return found


def _elbow(above: ChartNode, node: ChartNode, waiting: int, between: int) -> ChartArrow:
    start, end = above.y + 9, node.x - 11
    path = f"M{above.x} {start}V{node.y - 8}Q{above.x} {node.y} {above.x + 8} {node.y}H{end}"
    return _counted(
        ChartArrow(node.name, path, between=between), waiting, (above.x + 8 + end - 6) / 2, node.y
    )


def _counted(arrow: ChartArrow, waiting: int, x: float, y: int) -> ChartArrow:
    if not waiting:
        return arrow
    text = f"{waiting:,}" if waiting < 1000 else f"{waiting // 1000}k"  # noqa: PLR2004 - a thousand
    width = len(text) * _COUNT + 9
    return ChartArrow(arrow.to, arrow.path, text, x, y, width, arrow.between)


def _rails(
    org: Org, places: Mapping[str, ChartNode], led: set[str], waiting: Mapping[str, int]
) -> tuple[list[list[ChartArrow]], int]:
    """Return the arrows of `assigns`, those of one role along one rail at the right; and how many roles' are not drawn."""
    right = max((node.end for node in places.values()), default=0)
    rails: list[list[ChartArrow]] = []
    unseen = 0
    for role in org.roles:
        if not role.assigns:
            continue
        to = [] if role.name not in places or len(rails) == _MAX_RAILS else org.members(role.assigns)
        if seen := [name for name in to if name in places and name != role.name]:
            rails.append(list(_rail(places, role.name, seen, right + (len(rails) + 1) * _RAIL, led, waiting)))
        unseen += not seen
    return rails, unseen


def _rail(
    places: Mapping[str, ChartNode],
    giver: str,
    takers: Sequence[str],
    x: int,
    led: set[str],
    waiting: Mapping[str, int],
) -> Iterator[ChartArrow]:
    start = places[giver]
    for name in takers:
        end = places[name]
        turn = 6 if end.y > start.y else -6
        # A little apart, so that what comes and what goes do not meet at one point.
        path = (
            f"M{start.end + 4} {start.y + 4}H{x - 6}Q{x} {start.y + 4} {x} {start.y + 4 + turn}"
            f"V{end.y - 4 - turn}Q{x} {end.y - 4} {x - 6} {end.y - 4}H{end.end + 10}"
        )
        arrow = ChartArrow(name, path)
        yield arrow if name in led else _counted(arrow, waiting.get(name, 0), x - 14, end.y - 4)
