"""What the library hands out says in a few lines what a program's log needs; also inside a list, which prints `repr`."""

from __future__ import annotations

import pytest

import cyborg_infra
from cyborg_infra.model.changes import Create
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.problems import Problem
from tests.support.plan_examples import PLANS, drift, tasks


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_printed_in_a_line_for_each_change_what_costs_something_first(name: str) -> None:
    plan = PLANS[name]
    first, *lines = str(plan).split("\n")
    assert first == plan.summary
    assert repr(plan) == f"<{plan.summary}>"
    told = [line for line in lines if any(str(change.ref) in line for change in plan.changes)]
    costly = [change for change in plan.changes if change.hazards or change.problems]
    assert len(told) >= min(len(plan.changes), 30)
    assert all(any(str(change) in line for line in lines) for change in costly)
    assert all(any(str(hazard) in line for line in lines) for hazard in plan.hazards)
    assert max(map(len, repr(plan.changes).split(", <")), default=0) < 1_000


def test_a_plan_says_which_fields_change_and_what_that_costs() -> None:
    assert str(drift()).split("\n")[:3] == [
        "Plan: 1 to add, 4 to change, 0 to destroy.",
        "  update AGENT_CTO_TASKS (max_bytes, max_age): deletes-messages: up to 1,204 messages (3.1 MiB) older than 24h, up to 12 of them unfinished",
        "  update AGENT_CTO_TASKS/cto-worker (ack_wait): repeats-work: 3 messages being worked on are delivered again",
    ]


def test_thousands_of_changes_are_a_page() -> None:
    plan = Plan("acme", tuple(Create(tasks(f"r{number}")) for number in range(2_000)))
    first, *lines, last = str(plan).split("\n")
    assert (first, len(lines), last) == (
        "Plan: 2000 to add, 0 to change, 0 to destroy.",
        30,
        "  and 1,970 more",
    )


def test_an_outcome_is_printed_with_its_problem() -> None:
    change = Create(tasks("cto"))
    failed = Outcome(change, ResultStatus.FAILED, Problem("x", "no room", None, "make some"))
    assert str(Outcome(change, ResultStatus.SUCCEEDED)) == "done: create AGENT_CTO_TASKS"
    assert repr([failed]) == "[<failed: create AGENT_CTO_TASKS: no room (make some)>]"


def test_a_manifest_is_printed_by_its_roles() -> None:
    org = cyborg_infra.loads("org: acme\nroles: [ceo, cto]\nenvironments: {live: {}}\n", "live")
    assert (str(org), repr(org)) == (
        "organisation acme (live): ceo, cto",
        "<organisation acme (live): ceo, cto>",
    )
