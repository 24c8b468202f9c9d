"""The same plan as text, Markdown and JSON, beside goldens that are reviewed as a diff (`--update-cases`)."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from cyborg_infra.manifest.saved_plan import load_changes
from cyborg_infra.model.changes import (
    Blocked,
    Cause,
    Change,
    Create,
    Delete,
    FieldChange,
    Hazard,
    HazardName,
    Replace,
    Update,
)
from cyborg_infra.model.metadata_keys import ROLE_KEY
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.problems import ManifestInvalid, Problem, SourcePosition
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.units import HOUR
from cyborg_infra.render import json_format, markdown
from cyborg_infra.render.terminal import plan as text
from cyborg_infra.render.terminal import problems
from cyborg_infra.render.terminal.console import Plain
from cyborg_infra.render.terminal.layout import Page
from tests.support.live_resources import as_live
from tests.support.plan_examples import (
    CASES,
    FACTS,
    PLANS,
    Golden,
    create,
    one_of_each_per_role,
    stream,
    tasks,
)

SCHEMAS = Path(__file__).parents[3] / "schemas"
LONG = 65_000  # characters


def printed(page: Page, *, width: int = 80, terminal: bool = True, colour: bool = False) -> str:
    """Return what a console of this kind gets."""
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
    golden(CASES / f"{name}.md", markdown.plan(PLANS[name], LONG))


@pytest.mark.parametrize("name", PLANS)
def test_json_fits_its_schema(golden: Golden, name: str) -> None:
    value = json_format.plan(PLANS[name])
    validate("plan", value)
    golden(CASES / f"{name}.json", json.dumps(value, indent=2) + "\n")


@pytest.mark.parametrize("name", PLANS)
def test_saved_plan_fits_its_schema_and_holds_the_plan(name: str) -> None:
    value = json_format.saved(PLANS[name])
    validate("saved-plan", value)
    assert value["plan"] == json_format.plan(PLANS[name])
    assert next(iter(value)) == "type"  # a saved plan is told from a manifest by its first member


@pytest.mark.parametrize("name", PLANS)
def test_a_saved_plan_can_be_shown_as_it_was(tmp_path: Path, name: str) -> None:
    value = json_format.saved(replace(PLANS[name], desired=DesiredState()))
    (tmp_path / "it.plan").write_text(json.dumps(value))
    assert json_format.plan(load_changes(tmp_path / "it.plan")) == value["plan"]


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
    change = Update(
        as_live(tasks("cto")), tasks("cto"), (FieldChange("subjects", subjects, ["genbrain.new"]),)
    )
    shown = printed(text.plan(Plan("genbrain", (change,))))
    assert all(f"- {subject}\n" in shown for subject in subjects)


def test_a_saved_plan_names_the_command_that_applies_exactly_it() -> None:
    shown = printed(text.plan(PLANS["drift"], text.Shown(saved_to="my plan.json")), width=200)
    assert "Saved the plan to: my plan.json" in shown
    assert (
        "    cyborg-infra apply 'my plan.json' --allow deletes-messages --allow repeats-work "
        "--allow stops-capture\n"
    ) in shown
    assert "You didn't use" not in shown


def test_destroy_names_its_own_command() -> None:
    shown = printed(text.plan(PLANS["drift"], text.Shown("destroy", manifest="my org.yaml")), width=200)
    assert "    cyborg-infra destroy 'my org.yaml' --allow deletes-messages" in shown
    assert "apply" not in shown


@pytest.mark.parametrize("command", ["apply", "destroy"])
def test_what_is_allowed_already_is_not_asked_for_again(command: str) -> None:
    every = [name.value for name in HazardName]
    shown = printed(text.plan(PLANS["drift"], text.Shown(command, allowed=every)), width=200)
    assert "Each has to be allowed" not in shown
    assert "--allow" not in shown
    assert shown.endswith(
        "Every hazard of this plan is allowed: deletes-messages, repeats-work, stops-capture.\n"
    )


def test_what_nobody_has_to_name_is_not_in_the_command_to_type() -> None:
    shown = printed(text.plan(PLANS["drift"], text.Shown("destroy", implied=["stops-capture"])), width=200)
    assert "    cyborg-infra destroy --allow deletes-messages --allow repeats-work\n" in shown


def test_a_replaced_stream_that_nobody_owned_is_said_to_be_adopted() -> None:
    storage = FieldChange("storage", "memory", "file", "cannot be changed on a living stream")
    change = Replace(as_live(tasks("cto", owner="", storage="memory")), tasks("cto"), (storage,))
    shown = printed(text.plan(replace(PLANS["replace"], changes=(change,))))
    assert "# AGENT_CTO_TASKS must be replaced (adopted: nobody's so far)" in shown


def test_what_has_a_heading_stands_apart_from_what_is_before_it() -> None:
    lost = [Create(tasks(role), cause=Cause.DRIFT) for role in ("cso", "cto")]
    shown = printed(text.drift(replace(PLANS["replace"], changes=tuple(lost))))
    assert "\n\n  # AGENT_CTO_TASKS will be created (drift: missing on the server)\n" in shown


def test_only_plan_advises_to_save_it() -> None:
    assert "You didn't use the --out option" in printed(text.plan(PLANS["first"]))
    for command in ("apply", "destroy"):
        assert "--out" not in printed(text.plan(PLANS["first"], text.Shown(command)))


def test_a_plan_for_some_roles_does_not_speak_for_the_others() -> None:
    plan = Plan("genbrain", targets=("cto", "ceo"))
    assert "What belongs to roles cto, ceo matches the manifest" in printed(text.plan(plan), width=200)
    assert "infrastructure" not in printed(text.plan(plan))


def test_drift_in_markdown_is_headed_by_its_verdict_and_proposes_no_apply() -> None:
    shown = markdown.drift(PLANS["drift"], LONG)
    assert shown.startswith("### Drift: 3 resources changed on the server since the last apply.")
    assert "Plan:" not in shown
    assert "--allow" not in shown
    assert markdown.drift(PLANS["empty"], LONG).startswith("### No drift. The server is as it was applied.")


def test_an_error_in_markdown_stays_text() -> None:
    error = ManifestInvalid(Problem("schema", HOSTILE, SourcePosition("org.yaml", 12, 5), "write 72h"))
    shown = markdown.problems(error)
    assert shown.startswith("### Error\n\n- **Error**: `org.yaml:12:5`: ")
    assert "<img" not in shown
    assert shown.endswith("(write 72h)\n")


def test_a_replacement_counts_as_one_to_add_and_one_to_destroy() -> None:
    assert "Plan: 2 to add, 0 to change, 4 to destroy." in printed(text.plan(PLANS["replace"]))


HOSTILE = "evil\x1b[31m\x9b\r\n\u202e[bold]x[/bold] | `a` <img src=x> @team **b**"


@pytest.fixture
def hostile() -> Plan:
    """Return a plan in which everything that a stranger can name tries to get out."""
    problem = Problem("code", HOSTILE, SourcePosition("a\x1b.yaml", 1, 1), HOSTILE)
    differs = Update(
        as_live(stream("A", description=HOSTILE)),
        stream("A"),
        (
            FieldChange("description", HOSTILE, ""),
            FieldChange("subjects", [HOSTILE], []),
            FieldChange("placement", None, {"cluster": HOSTILE, "tags": [HOSTILE]}),
            FieldChange(f"metadata.{HOSTILE}", HOSTILE, None),
        ),
        reason=HOSTILE,
    )
    change = Blocked(differs, (problem,), hazards=(Hazard(HazardName.STOPS_CAPTURE, HOSTILE),))
    created = create(stream(HOSTILE, description=HOSTILE, metadata={HOSTILE: HOSTILE}))
    return Plan(
        "x", (change, created), (as_live(stream(HOSTILE)),), (problem,), (HOSTILE,), server_info=FACTS
    )


def test_no_text_can_control_the_terminal(hostile: Plan) -> None:
    for terminal in (True, False):
        shown = printed(text.plan(hostile, text.Shown(saved_to=HOSTILE)), terminal=terminal)
        assert all(char.isprintable() or char == "\n" for char in shown)
    assert "[bold]x[/bold]" in shown
    assert r"evil\x1b[31m\x9b\r\n\u202e" in shown


def test_no_text_can_become_markdown(hostile: Plan) -> None:
    shown = markdown.plan(hostile, LONG)
    assert "<img" not in shown
    assert "@team" not in shown.replace("`@team", "")
    assert "**b**" not in shown
    for row in shown.splitlines():
        if row.startswith("| "):
            assert row.count("|") in (4, 5)


def test_an_outcome_is_one_line() -> None:
    change = PLANS["drift"].changes[0]
    failed = Outcome(change, ResultStatus.FAILED, Problem("server", "insufficient storage (10047)"))
    assert (
        printed(text.outcome(Outcome(change, ResultStatus.SUCCEEDED)))
        == "~ stream AGENT_CTO_TASKS: updated\n"
    )
    assert printed(text.outcome(failed)) == "~ stream AGENT_CTO_TASKS: failed: insufficient storage (10047)\n"


def test_an_apply_ends_in_terraforms_words() -> None:
    outcomes = [Outcome(change, ResultStatus.SUCCEEDED) for change in PLANS["replace"].changes]
    assert printed(text.applied(outcomes)) == "Apply complete! Resources: 2 added, 0 changed, 4 destroyed.\n"


def test_a_destroy_ends_in_terraforms_words() -> None:
    first, *rest = [Delete(as_live(each.after)) for each in PLANS["first"].changes if each.after]
    done = [Outcome(change, ResultStatus.SUCCEEDED) for change in (first, *rest)]
    ended = printed(text.applied(done, "destroy"))
    assert ended == f"Destroy complete! Resources: {len(done)} destroyed.\n"
    left = [
        Outcome(first, ResultStatus.SUCCEEDED),
        *(Outcome(change, ResultStatus.NOT_REACHED) for change in rest),
    ]
    told = printed(text.applied(left, "destroy")).splitlines()
    assert told[0] == "Destroy incomplete. Resources: 1 destroyed."
    assert told[-1] == "What was done stays done. Run destroy again to go on from there."


def test_an_incomplete_apply_tells_every_failure_and_everything_not_reached(
    golden: Golden,
) -> None:
    done, failed, *waiting = PLANS["drift"].changes
    problem = Problem("server", "insufficient storage (10047)", None, "raise the account's max_storage")
    outcomes = [
        Outcome(done, ResultStatus.SUCCEEDED),
        Outcome(failed, ResultStatus.FAILED, problem),
        *(Outcome(change, ResultStatus.NOT_REACHED) for change in waiting),
    ]
    golden(CASES / "incomplete-apply.txt", printed(text.applied(outcomes)))
    value = json_format.applied(PLANS["drift"], outcomes)
    validate("apply", value)
    assert not value["complete"]


def test_problems_are_told_one_by_one_with_place_and_hint() -> None:
    error = ManifestInvalid(
        Problem("schema", "max_age: '72' has no unit", SourcePosition("org.yaml", 12, 5), "write 72h"),
        Problem("rule", "two roles meet in AGENT_A_TASKS"),
    )
    assert printed(problems.problems(error)) == (
        "Error: org.yaml:12:5: max_age: '72' has no unit\n"
        "       write 72h\n"
        "Error: two roles meet in AGENT_A_TASKS\n"
    )
    validate("problems", json_format.problems(error))


def large() -> Plan:
    """Many new streams, and last of all a change in place and one that costs something."""
    new = [Create(tasks(f"role{number:03}")) for number in range(300)]
    hazard = Hazard(HazardName.DELETES_MESSAGES, "7 messages older than 1h", 7)
    field = FieldChange("max_age", 2 * HOUR, HOUR)
    costly = Update(as_live(tasks("zoe")), tasks("zoe"), (field,), hazards=(hazard,))
    plain = Update(as_live(tasks("zed")), tasks("zed"), (field,))
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
    gone = [Delete(as_live(tasks(f"r{n:03}")), hazards=(hazard,)) for n in range(150)]
    shown = printed(text.plan(Plan("genbrain", tuple(gone))))
    assert "  - 50 streams will be destroyed; deletes-messages: 350 in all\n" in shown


def test_a_pipe_and_json_get_every_change() -> None:
    piped = printed(text.plan(large()), terminal=False)
    assert all(f"stream AGENT_ROLE{number:03}_TASKS" in piped for number in range(300))
    assert "more" not in piped
    assert len(json_format.plan(large())["changes"]) == 302


def test_a_terminal_is_not_told_of_thousands_that_were_not_reached() -> None:
    outcomes = [Outcome(change, ResultStatus.NOT_REACHED) for change in large().changes]
    assert "  and 202 more\n" in printed(text.applied(outcomes))
    assert "more" not in printed(text.applied(outcomes), terminal=False)


@pytest.mark.parametrize("most", [2_000, 3_000, 10_000, 65_000])
@pytest.mark.parametrize("roles", [1, 20, 300, 3_000])
def test_markdown_fits_a_comment_and_counts_what_does_not(roles: int, most: int) -> None:
    shown = markdown.plan(one_of_each_per_role(roles), most)
    assert len(shown) <= most
    assert f"Plan: {roles} to add, {roles} to change, {roles} to destroy." in shown
    assert "--allow deletes-messages --allow resets-progress" in shown
    assert shown.count("<details>") == shown.count("</details>")
    for name, each in (("deletes-messages", 7), ("resets-progress", 3)):
        listed = shown.count(f"- **{name}**: ")
        counted = re.search(rf"{name}: ([\d,]+) hazards? \(([\d,]+) in all\)", shown)
        more, amount = (int(part.replace(",", "")) for part in counted.groups()) if counted else (0, 0)
        assert (listed + more, amount) == (roles, more * each)


def test_in_markdown_what_goes_comes_before_what_changes_and_that_before_what_is_new() -> None:
    shown = markdown.plan(one_of_each_per_role(20), LONG)
    places = [
        shown.index(text)
        for text in (
            "AGENT_ROLE00000OLD_TASKS` will be",
            "AGENT_ROLE00000_TASKS` will be",
            "to create</summary>",
        )
    ]
    assert places == sorted(places)
    assert "no room" not in shown


def of_roles(*roles: str, **more: Any) -> list[Change]:
    """Return the stream of each role is new."""
    return [create(tasks(role, metadata={ROLE_KEY: role}, **more)) for role in roles]


def test_a_terminal_is_told_once_what_is_alike_but_for_the_role() -> None:
    created = of_roles("ceo", "cto", "data-eng")
    assert created[2].after
    created[2] = create(replace(created[2].after, ref=Ref("AGENT_DATA_ENG_TASKS")))
    other = of_roles("cso", max_age=HOUR)
    shown = printed(text.plan(Plan("genbrain", (*created, *other))), width=200)
    assert "and 2 more like it: AGENT_CTO_TASKS, AGENT_DATA_ENG_TASKS\n" in shown
    assert shown.count("subjects: ") == 2
    assert "+ stream AGENT_CSO_TASKS" in shown
    piped = printed(text.plan(Plan("genbrain", tuple(created))), terminal=False)
    assert piped.count("subjects: ") == 3
    assert "like it" not in piped


def test_two_that_are_alike_and_whatever_costs_something_are_told_one_by_one() -> None:
    assert "like it" not in printed(text.plan(Plan("genbrain", tuple(of_roles("ceo", "cto")))))
    lost = Hazard(HazardName.DELETES_MESSAGES, "7 messages", 7)
    gone = [
        Delete(as_live(tasks(role, metadata={ROLE_KEY: role})), hazards=(lost,))
        for role in ("ceo", "cto", "cso", "dev")
    ]
    shown = printed(text.plan(Plan("genbrain", tuple(gone))))
    assert "like it" not in shown
    assert shown.count("deletes-messages: 7 messages") == 4
