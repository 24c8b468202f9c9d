"""Draw an organisation: its chart, its channels and events, and who talks to whom; as Mermaid or as DOT.

Up to MAX_ALONE roles each has a node of its own. Beyond that, roles of which everything drawn is the same share one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from cyborg_infra.model.channels import Channel, Party, Scope
from cyborg_infra.model.organisation import Org, Role
from cyborg_infra.model.valueclass import NamedTuple

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
MONITORING = "monitoring"


def draw(org: Org) -> Diagram:
    """Return the diagram of an organisation."""
    ways = list(_ways(org))
    place = _places(org, ways)
    nodes = dict[str, Node]()
    edges = dict[Edge, None]()
    members: dict[str, list[str]] = {}
    for role in org.roles:
        members.setdefault(place[_role_key(role.name)], []).append(role.name)
    for key, names in members.items():
        nodes[key] = Node(key, tuple(names), Shape.ROLE)
    targets: dict[str, list[str]] = {}
    for role in org.roles:
        here = place[_role_key(role.name)]
        if above := place.get(_role_key(role.reports_to)):
            edges[Edge(above, here, EdgeKind.CHART)] = None
        for name in role.assigns:
            if name not in targets:
                targets[name] = [*dict.fromkeys(place[_role_key(each)] for each in org.members([name]))]
            edges.update((Edge(here, target, EdgeKind.ASSIGNS), None) for target in targets[name])
    for way in _alike(ways):
        nodes[way.key] = Node(way.key, way.names, Shape.STORED if way.stored else Shape.EPHEMERAL)
        for parties, into in ((way.publishers, True), (way.readers, False)):
            for party in parties:
                key = place.get(party, party)
                nodes.setdefault(key, Node(key, (party.removeprefix(_PARTY),), Shape.PARTY))
                ends = (key, way.key) if into else (way.key, key)
                edges[Edge(*ends, EdgeKind.MESSAGES)] = None
    return Diagram(f"Organisation {org.name}", tuple(nodes.values()), tuple(edges))


class _Way(NamedTuple):
    """A channel or an event, and the keys of who publishes and who reads it."""

    key: str
    names: tuple[str, ...]
    stored: bool
    publishers: tuple[str, ...]
    readers: tuple[str, ...]


_PARTY = "party "


def _role_key(name: str) -> str:
    """Return the key of a role, which no party has, whatever the role is called."""
    return f"role {name}"


def _ways(org: Org) -> Iterator[_Way]:
    """Yield a way for each channel that the chart does not show, for each event, and for each group."""
    for scope in (Scope.ROLE, Scope.EVENT, Scope.ORG, Scope.GROUP):
        for channel in org.channels:
            if channel.scope is not scope or (Party.CHART in channel.publishers and org.has_chart):
                continue  # of the other scopes, or what the chart says
            if scope is Scope.EVENT:
                yield from _events(org)
            elif scope is Scope.GROUP:
                for group in org.groups:
                    yield _way(org, channel, f".{group.name}", group.members)
            else:
                yield _way(org, channel)


def _events(org: Org) -> Iterator[_Way]:
    for event in org.events:
        ends = (tuple(map(_role_key, org.members(names))) for names in (event.publishers, event.subscribers))
        yield _Way(f"events {event.name}", (event.name,), event.durable, *ends)


def _way(org: Org, channel: Channel, of: str = "", members: Sequence[str] = ()) -> _Way:
    """Return the channel as a way of messages; `members` are those of its group, if it has one."""
    layer = "agents" if channel.scope is Scope.ROLE else "org"
    return _Way(
        f"{layer} {channel.name}{of}",
        (f"{channel.label or channel.name}{of}",),
        channel.stream is not None,
        *(
            tuple(key for party in parties for key in _parties(org, channel, party, members))
            for parties in (channel.publishers, channel.readers)
        ),
    )


def _parties(org: Org, channel: Channel, party: Party | str, members: Sequence[str]) -> Iterator[str]:
    """Yield the keys of who publishes or reads; each role's own counts as every role."""
    match party:
        case Party.SELF if channel.scope is Scope.GROUP:
            yield from map(_role_key, members)
        case Party.SELF | Party.ANYONE | Party.CHART:
            yield f"{_PARTY}{EVERYBODY}"
        case Party.SERVER:
            yield f"{_PARTY}the server"
        case Party.OPERATOR:
            yield _PARTY + (channel.reader.name if channel.reader and channel.stream else MONITORING)
        case _:
            yield from map(_role_key, org.members([party]))


def _places(org: Org, ways: Iterable[_Way]) -> Mapping[str, str]:
    """Return the key of the node that each role is in, by the key of the role."""
    if len(org.roles) <= MAX_ALONE:
        return {key: key for key in (_role_key(role.name) for role in org.roles)}
    heads = {role.reports_to for role in org.roles}
    named: dict[str, list[tuple[str, bool]]] = {}
    for way in ways:
        for publishes, parties in ((True, way.publishers), (False, way.readers)):
            for party in parties:
                named.setdefault(party, []).append((way.key, publishes))
    givers = _givers(org)

    def alike(role: Role) -> object:
        if role.name in heads:
            return role.name
        return (
            role.reports_to,
            role.assigns,
            tuple(givers.get(role.name, ())),
            tuple(named.get(_role_key(role.name), ())),
        )

    first: dict[object, str] = {}
    return {key: first.setdefault(alike(role), key) for role in org.roles for key in [_role_key(role.name)]}


def _givers(org: Org) -> Mapping[str, Sequence[str]]:
    """Return role -> the roles that assign to it by name, and the groups by which others do."""
    found: dict[str, list[str]] = {}
    for role in org.roles:
        for name in role.assigns:
            found.setdefault(name, []).append(role.name)
    groups = [group for group in org.groups if found.pop(group.name, None)]
    for group in groups:
        for member in group.members:
            found.setdefault(member, []).append(f"group {group.name}")
    return found


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
