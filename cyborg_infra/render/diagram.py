"""Draw an organisation: its chart, its channels and events, and who talks to whom; as Mermaid or as DOT.

Up to MAX_ALONE roles each has a node of its own. Beyond that, roles of which everything drawn is the same share one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from cyborg_infra.model.naming import Subject
from cyborg_infra.model.organisation import Org, Role

MAX_ALONE = 12
"""So many roles are drawn one by one."""

_MAX_NAMED = 3
"""So many of the roles or events that share a node are named in it."""


class Shape(StrEnum):
    """What a node stands for."""

    ROLE = "role"
    PARTY = "party"  # somebody who is no role, or all of them
    STORED = "stored"  # a channel or event that a stream keeps
    EPHEMERAL = "ephemeral"


class EdgeKind(StrEnum):
    """What an arrow stands for."""

    CHART = "chart"  # from a role to those that report to it
    ASSIGNS = "assigns"
    MESSAGES = "messages"


class Node(NamedTuple):
    """A box of the diagram; `key` is unique among all."""

    key: str
    names: tuple[str, ...]  # of all that share it
    shape: Shape

    @property
    def label(self) -> tuple[str, ...]:
        """The lines in it."""
        if len(self.names) <= _MAX_NAMED + 1:
            return self.names
        return (*self.names[:_MAX_NAMED], f"and {len(self.names) - _MAX_NAMED} more")


class Edge(NamedTuple):
    """An arrow between the nodes of two keys."""

    start: str
    end: str
    line: EdgeKind


class Diagram(NamedTuple):
    """What is drawn, in the order of the manifest."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


EVERYBODY = "every role"


def draw(org: Org, subjects: Sequence[Subject]) -> Diagram:
    """Return the diagram of an organisation and its subjects."""
    ways = list(_ways(org, subjects))
    place = _places(org, ways)
    nodes = dict[str, Node]()
    edges = dict[Edge, None]()
    members: dict[str, list[str]] = {}
    for role in org.roles:
        members.setdefault(place[role.name], []).append(role.name)
    for key, names in members.items():
        nodes[key] = Node(key, tuple(names), Shape.ROLE)
    for role in org.roles:
        here = place[role.name]
        if role.reports_to in place:
            edges[Edge(place[role.reports_to], here, EdgeKind.CHART)] = None
        for other in org.members(role.assigns):
            edges[Edge(here, place[other], EdgeKind.ASSIGNS)] = None
    for way in _alike(ways):
        nodes[way.key] = Node(way.key, way.names, Shape.STORED if way.stored else Shape.EPHEMERAL)
        for parties, into in ((way.publishers, True), (way.readers, False)):
            for party in parties:
                key = place.get(party, f"party {party}")
                nodes.setdefault(key, Node(key, (party,), Shape.PARTY))
                ends = (key, way.key) if into else (way.key, key)
                edges[Edge(*ends, EdgeKind.MESSAGES)] = None
    return Diagram(f"Organisation {org.name}", tuple(nodes.values()), tuple(edges))


class _Way(NamedTuple):
    """A channel or an event: who publishes and who reads it, in words or roles."""

    key: str
    names: tuple[str, ...]
    stored: bool
    publishers: tuple[str, ...]
    readers: tuple[str, ...]


def _ways(org: Org, subjects: Sequence[Subject]) -> Iterator[_Way]:
    """Yield each channel once, whatever number of roles has it, and each event."""
    roles = {role.name for role in org.roles}
    channels: dict[tuple[str, str], list[Subject]] = {}
    for subject in subjects:
        channels.setdefault((subject.layer, subject.channel), []).append(subject)
    for (layer, channel), rows in channels.items():
        publishers, readers = (_common(rows, part, roles) for part in ("publishers", "readers"))
        if publishers is not None:  # else it is what the chart says
            yield _Way(f"{layer} {channel}", (channel,), rows[0].durable, publishers, readers or (EVERYBODY,))


def _common(rows: Sequence[Subject], part: str, roles: Collection[str]) -> tuple[str, ...] | None:
    """Return who publishes or reads on all of these subjects, each role's own counting as every role; None if they differ."""
    found = {tuple(_party(row, name, roles) for name in getattr(row, part)) for row in rows}
    named: set[tuple[str, ...]] = {
        getattr(row, part) for row in rows
    }  # the same ones everywhere, on their own as well
    return next((alike.pop() for alike in (found, named) if len(alike) == 1), None)


def _party(row: Subject, name: str, roles: Collection[str]) -> str:
    consumer = row.role is not None and name not in roles and name.startswith(f"{row.role}-")
    return EVERYBODY if consumer or name in (row.role, "any role") else name


def _places(org: Org, ways: Iterable[_Way]) -> Mapping[str, str]:
    """Return the key of each role's node."""
    if len(org.roles) <= MAX_ALONE:
        return {role.name: f"role {role.name}" for role in org.roles}
    heads = {role.reports_to for role in org.roles}
    named: dict[str, list[tuple[str, bool]]] = {}
    for way in ways:
        for publishes, parties in ((True, way.publishers), (False, way.readers)):
            for party in parties:
                named.setdefault(party, []).append((way.key, publishes))
    assigned: dict[str, list[str]] = {}
    for role in org.roles:
        for other in org.members(role.assigns):
            assigned.setdefault(other, []).append(role.name)

    def alike(role: Role) -> object:
        if role.name in heads:
            return role.name
        return (
            role.reports_to,
            org.members(role.assigns),
            tuple(assigned.get(role.name, ())),
            tuple(named.get(role.name, ())),
        )

    first: dict[object, str] = {}
    return {role.name: first.setdefault(alike(role), f"role {role.name}") for role in org.roles}


def _alike(ways: Sequence[_Way]) -> Iterator[_Way]:
    """Yield the ways; where there are many, those between the same parties as one."""
    if len(ways) <= MAX_ALONE:
        yield from ways
        return
    found: dict[object, list[_Way]] = {}
    for way in ways:
        found.setdefault((way.stored, way.publishers, way.readers), []).append(way)
    for same in found.values():
        yield same[0]._replace(names=tuple(name for way in same for name in way.names))


def mermaid(diagram: Diagram) -> str:
    """Return a Mermaid flowchart, as pull requests draw it."""
    ids = {node.key: f"n{number}" for number, node in enumerate(diagram.nodes)}
    lines = [
        "flowchart TD",
        f"  %% {_plain(diagram.title)}: --> gives tasks to, -.-> assigns to besides, ==> messages",
    ]
    for node in diagram.nodes:
        begin, end = _MERMAID_SHAPES[node.shape]
        lines.append(f'  {ids[node.key]}{begin}"{"<br/>".join(map(_entities, node.label))}"{end}')
    lines += [f"  {ids[edge.start]} {_MERMAID_LINES[edge.line]} {ids[edge.end]}" for edge in diagram.edges]
    return "\n".join(lines) + "\n"


def dot(diagram: Diagram) -> str:
    """Return a directed graph in Graphviz' language."""
    ids = {node.key: f"n{number}" for number, node in enumerate(diagram.nodes)}
    lines = [f"digraph {_quoted(diagram.title)} {{", "  rankdir=TB;"]
    for node in diagram.nodes:
        label = "\n".join(node.label)
        lines.append(f"  {ids[node.key]} [label={_quoted(label)}, {_DOT_SHAPES[node.shape]}];")
    for edge in diagram.edges:
        style = _DOT_LINES[edge.line]
        lines.append(f"  {ids[edge.start]} -> {ids[edge.end]}{f' [{style}]' if style else ''};")
    return "\n".join([*lines, "}"]) + "\n"


DIALECTS: Mapping[str, Callable[[Diagram], str]] = {"mermaid": mermaid, "dot": dot}

_MERMAID_SHAPES: Mapping[Shape, tuple[str, str]] = {
    Shape.ROLE: ("[", "]"),
    Shape.PARTY: ("([", "])"),
    Shape.STORED: ("[(", ")]"),
    Shape.EPHEMERAL: (">", "]"),
}
_MERMAID_LINES: Mapping[EdgeKind, str] = {
    EdgeKind.CHART: "-->",
    EdgeKind.ASSIGNS: "-.->|assigns|",
    EdgeKind.MESSAGES: "==>",
}
_DOT_SHAPES: Mapping[Shape, str] = {
    Shape.ROLE: "shape=box",
    Shape.PARTY: "shape=box, style=rounded",
    Shape.STORED: "shape=cylinder",
    Shape.EPHEMERAL: "shape=ellipse, style=dashed",
}
_DOT_LINES: Mapping[EdgeKind, str] = {
    EdgeKind.CHART: "",
    EdgeKind.ASSIGNS: 'style=dashed, label="assigns"',
    EdgeKind.MESSAGES: "color=gray40, penwidth=2",
}
_ENTITY = re.compile(r"[^\w .,-]")


def _entities(text: str) -> str:
    """Return text that Mermaid takes for nothing but text."""
    return _ENTITY.sub(lambda found: f"#{ord(found[0])};", text)


def _plain(text: str) -> str:
    return _ENTITY.sub("", text)


def _quoted(text: str) -> str:
    """Return a string of DOT, in which only the quote and the backslash have a meaning."""
    return json.dumps(text, ensure_ascii=False)
