"""The picture of an organisation: every role and channel is in it once, and the arrows are what the manifest says."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.naming import list_subjects
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.naming import MAX_PUBLISHERS
from cyborg_infra.model.organisation import Event, Group, Org, Role
from cyborg_infra.render import diagram
from cyborg_infra.render.diagram import Diagram, Edge, EdgeKind, Shape
from tests.support.draws import draws

SMALL = """
org: acme
roles:
  ceo:
  cto: {reports_to: ceo, assigns: [cso]}
  cso: {reports_to: ceo}
events:
  deploy.done: {publishers: [cto], subscribers: [ceo, cso], durable: true}
"""


def drawn(org: Org) -> Diagram:
    return diagram.draw(org)


def test_a_small_organisation_is_drawn_role_by_role() -> None:
    found = drawn(loads(SMALL))
    roles = [node.label for node in found.nodes if node.shape is Shape.ROLE]
    assert roles == [("ceo",), ("cto",), ("cso",)]
    assert [edge for edge in found.edges if edge.line is not EdgeKind.MESSAGES] == [
        Edge("role ceo", "role cto", EdgeKind.CHART),
        Edge("role cto", "role cso", EdgeKind.ASSIGNS),
        Edge("role ceo", "role cso", EdgeKind.CHART),
    ]
    assert {(edge.start, edge.end) for edge in found.edges if "deploy.done" in edge.start + edge.end} == {
        ("role cto", "events deploy.done"),
        ("events deploy.done", "role ceo"),
        ("events deploy.done", "role cso"),
    }
    stored = {node.label[0] for node in found.nodes if node.shape is Shape.STORED}
    assert stored == {"inbox", "broadcasts", "deadletter", "deploy.done"}


def test_without_a_chart_tasks_are_everybodys() -> None:
    found = drawn(loads("org: acme\nroles: [cto, cso]\n"))
    tasks = {edge for edge in found.edges if "agents tasks" in edge[:2]}
    assert tasks == {
        Edge("party every role", "agents tasks", EdgeKind.MESSAGES),
        Edge("agents tasks", "party every role", EdgeKind.MESSAGES),
    }


def test_seventy_roles_fit_on_a_screen() -> None:
    roles = [Role("head"), *(Role(f"lead{n}", reports_to="head") for n in range(4))]
    roles += [Role(f"r{n}", reports_to=f"lead{n % 4}") for n in range(65)]
    found = drawn(Org("acme", tuple(roles)))
    names = [node.label for node in found.nodes if node.shape is Shape.ROLE]
    assert names == [
        ("head",),
        *((f"lead{n}",) for n in range(4)),
        ("r0", "r4", "r8", "and 14 more"),
        *((f"r{n}", f"r{n + 4}", f"r{n + 8}", "and 13 more") for n in (1, 2, 3)),
    ]


@st.composite
def organisations(draw: st.DrawFn) -> Org:
    """Return organisations beyond what is drawn one by one, each role below an earlier one."""
    names = [f"r{number}" for number in range(draw(st.integers(13, 30)))]
    some = st.lists(st.sampled_from(names), max_size=2, unique=True).map(tuple)
    roles = tuple(
        Role(
            name,
            reports_to=names[draw(st.integers(0, min(at - 1, 3)))] if at else "",
            assigns=draw(some) if draw(st.booleans()) else (),
        )
        for at, name in enumerate(names)
    )
    events = tuple(
        Event(f"d.e{number}", draw(some), draw(some)) for number in range(draw(st.integers(0, 15)))
    )
    return Org("acme", roles, events)


@given(organisations())
@draws(50)
def test_roles_that_share_a_node_have_the_same_arrows(org: Org) -> None:
    """What is drawn of many roles is what would be drawn of each, with the roles of a node taken as one."""
    found, alone = drawn(org), _alone(org)
    place = {name: node.key for node in found.nodes if node.shape is Shape.ROLE for name in node.names}
    assert place.keys() == {role.name for role in org.roles}
    chart = {
        Edge(place[edge.start.split()[1]], place[edge.end.split()[1]], edge.line)
        for edge in alone.edges
        if edge.line is not EdgeKind.MESSAGES
    }
    assert {edge for edge in found.edges if edge.line is not EdgeKind.MESSAGES} == chart


def _alone(org: Org) -> Diagram:
    most, diagram.MAX_ALONE = diagram.MAX_ALONE, len(org.roles) + len(org.events) + 10
    try:
        return drawn(org)
    finally:
        diagram.MAX_ALONE = most


NAMES = st.text("ab\"'`#%&;|()[]{}=-<ü", min_size=1, max_size=6)


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
@draws(50)
def test_no_name_is_taken_for_a_word_of_the_language(names: list[str]) -> None:
    found = Diagram("acme", tuple(diagram.Node(name, (name,), Shape.ROLE) for name in names), ())
    lines = diagram.mermaid(found).splitlines()[2:]
    for line, name in zip(lines, names, strict=True):
        inside = re.fullmatch(r'  n\d+\["(.*)"\]', line)
        assert inside
        assert re.sub(r"#(\d+);", lambda found: chr(int(found[1])), inside[1]) == name
        assert not set(inside[1]) & set("\"'`%&|()[]{}=<")


def test_a_channel_of_one_publisher_is_drawn_from_that_one() -> None:
    text = "org: acme\nroles: [ceo, cto]\nchannels: {control: {of: role, durable: true, publishers: [ceo]}}\n"
    drawing = drawn(loads(text))
    (control,) = (node.key for node in drawing.nodes if node.names == ("control",))
    assert {(edge.start, edge.end) for edge in drawing.edges if control in edge[:2]} == {
        ("role ceo", control),
        (control, f"party {diagram.EVERYBODY}"),
    }


def test_a_role_is_never_taken_for_a_party_of_its_name() -> None:
    roles = ("monitoring", "cto", "cto-worker", "dead-letter-alerts")
    found = drawn(loads(f"org: acme\nroles: [{', '.join(roles)}]\n"))
    shapes = [(node.label, node.shape) for node in found.nodes if node.label[0] in roles]
    assert sorted(shapes) == sorted(
        [((role,), Shape.ROLE) for role in roles]
        + [((party,), Shape.PARTY) for party in ("monitoring", "dead-letter-alerts")]
    )
    assert not [edge for edge in found.edges if edge[0].startswith("role ") or edge[1].startswith("role ")]


def test_a_broadcast_for_a_group_goes_to_its_members() -> None:
    text = "org: acme\nroles: [ceo, cto]\ngroups: {team: [cto]}\nchannels: {group_broadcasts: true}\n"
    found = drawn(loads(text))
    ends = {(edge.start, edge.end) for edge in found.edges if "org group_broadcasts.team" in edge[:2]}
    assert ends == {
        ("party every role", "org group_broadcasts.team"),
        ("org group_broadcasts.team", "role cto"),
    }


def test_a_chain_of_thousands_is_drawn_and_shown_within_bounds() -> None:
    """Everybody above gives work to whoever is below: all pairs of them would be millions."""
    size = 3000
    roles = [Role("r0"), *(Role(f"r{n}", reports_to=f"r{n - 1}", assigns=("all",)) for n in range(1, size))]
    org = Org("acme", tuple(roles), groups=(Group("all", ("r1", "r2")),))
    found = drawn(org)
    assert len(found.edges) < 5 * size
    subjects = list_subjects(org, expand(org), MAX_PUBLISHERS)
    tasks = [each for each in subjects if each.channel == "tasks"]
    assert max(len(each.publishers) for each in tasks) == MAX_PUBLISHERS
    last = tasks[-1]
    assert (last.publishers[0], len(last.publishers) + last.more_publishers) == (f"r{size - 2}", size - 1)
