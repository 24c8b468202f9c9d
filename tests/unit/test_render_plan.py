"""The same plan as text, Markdown and JSON, beside goldens that are reviewed as a diff (`--update-cases`)."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from render_plans import CASES, FACTS, PLANS, Golden, create, stream, tasks
from rich.console import Console

from cyborg_infra.model.plan import Action, Change, Done, FieldChange, Hazard, HazardName, Outcome, Plan
from cyborg_infra.model.problems import ManifestInvalid, Mark, Problem
from cyborg_infra.model.units import HOUR
from cyborg_infra.render import data, findings, markdown, text
from cyborg_infra.render.console import Plain
from cyborg_infra.render.layout import Page

SCHEMAS = Path(__file__).parents[2] / "schemas"


def printed(page: Page, *, width: int = 80, terminal: bool = True, colour: bool = False) -> str:
    """What a console of this kind gets."""
    file = io.StringIO()
    console: Console | Plain = Plain(file)
    if terminal:
        console = Console(
            file=file,
            width=width,
            force_terminal=True,
            color_system="standard" if colour else None,
            highlight=False,
        )
    console.print(page)
    return file.getvalue()


def validate(name: str, value: dict[str, Any]) -> None:
    """The value survives JSON and fits its schema."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert value == json.loads(json.dumps(value))
    Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize("name", PLANS)
def test_text_at_80_columns(golden: Golden, name: str) -> None:
    golden(CASES / f"{name}.txt", printed(text.plan(PLANS[name])))


@pytest.mark.parametrize("name", PLANS)
def test_markdown(golden: Golden, name: str) -> None:
    golden(CASES / f"{name}.md", markdown.plan(PLANS[name]))


@pytest.mark.parametrize("name", PLANS)
def test_json_fits_its_schema(golden: Golden, name: str) -> None:
    value = data.plan(PLANS[name])
    validate("plan", value)
    golden(CASES / f"{name}.json", json.dumps(value, indent=2) + "\n")


@pytest.mark.parametrize("name", PLANS)
def test_saved_plan_fits_its_schema_and_holds_the_plan(name: str) -> None:
    value = data.saved(PLANS[name])
    validate("saved-plan", value)
    assert value["plan"] == data.plan(PLANS[name])
    assert next(iter(value)) == "type"  # a saved plan is told from a manifest by its first member


@pytest.mark.parametrize("name", PLANS)
def test_no_line_is_wider_than_the_terminal_and_none_ends_in_a_space(name: str) -> None:
    for width in (40, 60, 80, 120):
        for row in printed(text.plan(PLANS[name]), width=width).splitlines():
            assert len(row) <= width
            assert row == row.rstrip()


@pytest.mark.parametrize("name", PLANS)
def test_a_pipe_never_breaks_a_line(name: str) -> None:
    wide, piped = printed(text.plan(PLANS[name]), width=1000), printed(text.plan(PLANS[name]), terminal=False)
    assert piped == wide.split("\nNote: You didn't use")[0]


@pytest.mark.parametrize("name", PLANS)
def test_colour_adds_nothing_but_colour(name: str) -> None:
    coloured = printed(text.plan(PLANS[name]), colour=True)
    assert "\x1b[" in coloured
    assert printed(text.plan(PLANS[name])) == re.sub(r"\x1b\[[0-9;]*m", "", coloured)


def test_every_value_is_in_the_human_and_the_raw_form() -> None:
    shown = printed(text.plan(PLANS["drift"]))
    assert "~ max_bytes: 100 MiB (104857600) -> 200 MiB (209715200)" in shown
    assert "~ max_msgs:      unlimited (-1) -> 500" in shown


def test_marks_are_not_shown_as_labels() -> None:
    for name, plan in PLANS.items():
        assert "cyborg-infra.applied" not in printed(text.plan(plan)), name


def test_a_subject_that_is_lost_is_never_summed_up() -> None:
    subjects = [f"genbrain.lost.{number}" for number in range(20)]
    change = Change(
        Action.UPDATE, tasks("cto"), tasks("cto"), (FieldChange("subjects", subjects, ["genbrain.new"]),)
    )
    shown = printed(text.plan(Plan("genbrain", (change,))))
    assert all(f"- {subject}\n" in shown for subject in subjects)


def test_a_saved_plan_names_the_command_that_applies_exactly_it() -> None:
    shown = printed(text.plan(PLANS["drift"], saved_to="my plan.json"), width=200)
    assert "Saved the plan to: my plan.json" in shown
    assert (
        "    cyborg-infra apply 'my plan.json' --allow deletes-messages --allow repeats-work "
        "--allow stops-capture\n"
    ) in shown
    assert "You didn't use" not in shown


def test_a_replacement_counts_as_one_to_add_and_one_to_destroy() -> None:
    assert "Plan: 2 to add, 0 to change, 4 to destroy." in printed(text.plan(PLANS["replace"]))


HOSTILE = "evil\x1b[31m\x9b\r\n\u202e[bold]x[/bold] | `a` <img src=x> @team **b**"


@pytest.fixture
def hostile() -> Plan:
    """A plan in which everything that a stranger can name tries to get out."""
    problem = Problem("code", HOSTILE, Mark("a\x1b.yaml", 1, 1), HOSTILE)
    change = Change(
        Action.IMPOSSIBLE,
        stream("A", description=HOSTILE),
        stream("A"),
        (
            FieldChange("description", HOSTILE, ""),
            FieldChange("subjects", [HOSTILE], []),
            FieldChange("placement", None, {"cluster": HOSTILE, "tags": [HOSTILE]}),
            FieldChange(f"metadata.{HOSTILE}", HOSTILE, None),
        ),
        (Hazard(HazardName.STOPS_CAPTURE, HOSTILE),),
        problems=(problem,),
        reason=HOSTILE,
    )
    created = create(stream(HOSTILE, description=HOSTILE, metadata={HOSTILE: HOSTILE}))
    return Plan("x", (change, created), (stream(HOSTILE),), (problem,), (HOSTILE,), facts=FACTS)


def test_no_text_can_control_the_terminal(hostile: Plan) -> None:
    for terminal in (True, False):
        shown = printed(text.plan(hostile, saved_to=HOSTILE), terminal=terminal)
        assert all(char.isprintable() or char == "\n" for char in shown)
    assert "[bold]x[/bold]" in shown
    assert r"evil\x1b[31m\x9b\r\n\u202e" in shown


def test_no_text_can_become_markdown(hostile: Plan) -> None:
    shown = markdown.plan(hostile)
    assert "<img" not in shown
    assert "@team" not in shown.replace("`@team", "")
    assert "**b**" not in shown
    for row in shown.splitlines():
        if row.startswith("| "):
            assert row.count("|") in (4, 5)


def test_an_outcome_is_one_line() -> None:
    change = PLANS["drift"].changes[0]
    failed = Outcome(change, Done.FAILED, Problem("server", "insufficient storage (10047)"))
    assert printed(text.outcome(Outcome(change, Done.DONE))) == "~ stream AGENT_CTO_TASKS: updated\n"
    assert printed(text.outcome(failed)) == "~ stream AGENT_CTO_TASKS: failed: insufficient storage (10047)\n"


def test_an_apply_ends_in_terraforms_words() -> None:
    outcomes = [Outcome(change, Done.DONE) for change in PLANS["replace"].changes]
    assert printed(text.applied(outcomes)) == "Apply complete! Resources: 2 added, 0 changed, 4 destroyed.\n"


def test_an_incomplete_apply_tells_every_failure_and_everything_not_reached(
    golden: Golden,
) -> None:
    done, failed, *waiting = PLANS["drift"].changes
    problem = Problem("server", "insufficient storage (10047)", None, "raise the account's max_storage")
    outcomes = [
        Outcome(done, Done.DONE),
        Outcome(failed, Done.FAILED, problem),
        *(Outcome(change, Done.NOT_REACHED) for change in waiting),
    ]
    golden(CASES / "incomplete-apply.txt", printed(text.applied(outcomes)))
    value = data.applied(PLANS["drift"], outcomes)
    validate("apply", value)
    assert not value["complete"]


def test_problems_are_told_one_by_one_with_place_and_hint() -> None:
    error = ManifestInvalid(
        Problem("schema", "max_age: '72' has no unit", Mark("org.yaml", 12, 5), "write 72h"),
        Problem("rule", "two roles meet in AGENT_A_TASKS"),
    )
    assert printed(findings.problems(error)) == (
        "Error: org.yaml:12:5: max_age: '72' has no unit\n"
        "       write 72h\n"
        "Error: two roles meet in AGENT_A_TASKS\n"
    )
    validate("problems", data.problems(error))


def large() -> Plan:
    """Many new streams, and last of all a change in place and one that costs something."""
    new = [Change(Action.CREATE, None, tasks(f"role{number:03}")) for number in range(300)]
    hazard = Hazard(HazardName.DELETES_MESSAGES, "7 messages older than 1h", 7)
    field = FieldChange("max_age", 2 * HOUR, HOUR)
    costly = Change(Action.UPDATE, tasks("zoe"), tasks("zoe"), (field,), (hazard,))
    plain = Change(Action.UPDATE, tasks("zed"), tasks("zed"), (field,))
    return Plan("genbrain", (*new, plain, costly))


def test_a_terminal_gets_as_many_changes_as_a_person_reads_and_first_what_costs_something() -> None:
    shown = printed(text.plan(large()))
    assert shown.count(" stream AGENT_") == 100
    assert "deletes-messages: 7 messages older than 1h" in shown
    assert "~ stream AGENT_ZED_TASKS" in shown
    assert "And 202 more:\n  + 202 streams will be created\n" in shown
    assert "Plan: 300 to add, 2 to change, 0 to destroy." in shown


def test_what_is_not_shown_one_by_one_tells_what_it_costs_in_all() -> None:
    hazard = Hazard(HazardName.DELETES_MESSAGES, "7 messages", 7)
    gone = [Change(Action.DELETE, tasks(f"r{n:03}"), None, hazards=(hazard,)) for n in range(150)]
    shown = printed(text.plan(Plan("genbrain", tuple(gone))))
    assert "  - 50 streams will be destroyed; deletes-messages: 350 in all\n" in shown


def test_a_pipe_and_json_get_every_change() -> None:
    piped = printed(text.plan(large()), terminal=False)
    assert all(f"stream AGENT_ROLE{number:03}_TASKS" in piped for number in range(300))
    assert "more" not in piped
    assert len(data.plan(large())["changes"]) == 302


def test_a_terminal_is_not_told_of_thousands_that_were_not_reached() -> None:
    outcomes = [Outcome(change, Done.NOT_REACHED) for change in large().changes]
    assert "  and 202 more\n" in printed(text.applied(outcomes))
    assert "more" not in printed(text.applied(outcomes), terminal=False)
