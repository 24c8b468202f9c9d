"""The chart: who may give tasks to whom, asked one by one and for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.core.desired.chart import Assigners, may_assign, superiors
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.rules import check_manifest
from cyborg_infra.manifest.write import write_manifest
from cyborg_infra.model.organisation import Group, Org, Role
from cyborg_infra.model.problems import ManifestInvalid
from tests.support.draws import draws

SEVEN = """
org: gen
roles:
  ceo:
  cto: {reports_to: ceo, assigns: [cso, press]}
  cso: {reports_to: ceo}
  backend: {reports_to: cto}
  frontend: {reports_to: cto, assigns: [backend]}
  board: {reports_to: false}
groups:
  press: [board, cso]
"""
NAMES = tuple("abcdefgh")


def test_a_chart_and_groups_are_written_as_they_were_read() -> None:
    org = loads(SEVEN + "key_value:\n  drafts: {readers: [press], writers: [cto, cso]}\n")
    again = loads(write_manifest(org, "Again."))

    def told(one: Org) -> object:
        return [[each._replace(mark=None) for each in part] for part in (one.roles, one.groups, one.buckets)]

    assert told(again) == told(org)


def test_tasks_go_down_the_chart_and_where_they_are_assigned() -> None:
    org = loads(SEVEN)
    given_to = {
        giver.name: [taker.name for taker in org.roles if may_assign(org, giver.name, taker.name)]
        for giver in org.roles
    }
    assert given_to == {
        "ceo": ["cto", "cso", "backend", "frontend"],
        "cto": ["cso", "backend", "frontend", "board"],
        "cso": [],
        "backend": [],
        "frontend": ["backend"],
        "board": [],
    }


def test_without_a_chart_everybody_gives_tasks_to_everybody() -> None:
    org = loads("org: gen\nroles: [cto, cso]\n")
    assert not org.has_chart
    assert all(may_assign(org, one.name, other.name) for one in org.roles for other in org.roles)


def test_a_second_head_says_so_wherever_there_is_a_chart() -> None:
    """Without that two roles would get tasks from nobody, and no one had decided it."""
    with pytest.raises(ManifestInvalid) as refused:
        loads("org: gen\nroles:\n  board: {reports_to: false}\n  cto:\n  cso:\n")
    assert [(each.code, each.where and each.where.line) for each in refused.value.problems] == [
        ("second-head", 5)
    ]


def test_a_former_name_is_told_with_the_one_that_the_role_has_now() -> None:
    with pytest.raises(ManifestInvalid) as refused:
        loads(
            "org: gen\nroles:\n  ceo: {assigns: [cto]}\n  core: {reports_to: ceo, renamed_from: cto}\n  qa: {reports_to: cto}\n"
            "groups: {all: [cto]}\nevents: {a.b: {subscribers: [cto]}}\nenvironments: {prod: {roles: {cto: {tasks: {max_age: 1h}}}}}\n"
        )
    assert {each.hint for each in refused.value.problems} == {"did you mean core?"}
    assert len(refused.value.problems) == 5


def test_who_assigns_has_a_chart_in_which_the_others_stand_as_well() -> None:
    """Else it would look as if nobody else gave tasks, and everybody could."""
    with pytest.raises(ManifestInvalid) as caught:
        loads("org: gen\nroles: {cto: {assigns: [cso]}, cso: , ops: }\n")
    assert [problem.code for problem in caught.value.problems] == ["second-head", "second-head"]


@st.composite
def organisations(draw: st.DrawFn) -> Org:
    """Return roles that report to any others, in circles or to themselves as well."""
    names = NAMES[: draw(st.integers(2, len(NAMES)))]
    someone = st.sampled_from(names)
    groups = (Group("g", tuple(draw(st.lists(someone, min_size=1, unique=True)))),)
    roles = tuple(
        Role(
            name,
            reports_to=draw(st.one_of(st.just(""), someone)),
            is_head=draw(st.booleans()),
            assigns=tuple(draw(st.lists(st.one_of(someone, st.just("g")), max_size=3, unique=True))),
        )
        for name in names
    )
    return Org("gen", roles, groups=groups)


@given(organisations())
@draws(50)
def test_a_chart_with_a_circle_is_refused_and_each_other_one_agrees_with_itself(org: Org) -> None:
    codes = {problem.code for problem in check_manifest([org])}
    above = {role.name: role.reports_to for role in org.roles}
    in_circle = {name for name in above if _comes_back(name, above)}
    assert bool(in_circle) == ("chart-circle" in codes)
    if in_circle:
        return
    assigners = Assigners(org)
    for role in org.roles:
        assert role.name not in superiors(org, role)
        if org.has_chart:
            allowed = {other.name for other in org.roles if may_assign(org, other.name, role.name)}
            assert set(assigners.of(role)) == allowed


def _comes_back(name: str, above: dict[str, str]) -> bool:
    """Return whether the way up from a role leads back to it."""
    here = above[name]
    for _ in above:
        if here == name:
            return True
        here = above.get(here, "")
    return False
