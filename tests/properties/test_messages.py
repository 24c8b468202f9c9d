"""Whatever the text: messages, or problems with their places. And the life of a task is exactly the table."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from cyborg_infra.manifest.messages import check_messages, schema_of
from cyborg_infra.manifest.schema import read_schema
from cyborg_infra.model.messages import MessageKind, OrgMessage
from cyborg_infra.model.problems import MessageInvalid, Problem
from cyborg_infra.model.task_lifecycle import INITIAL_STATUS, STATUS_CHANGES, TaskStatus, next_statuses
from tests.support.draws import draws

EXAMPLES = {kind: read_schema(schema_of(kind))["examples"][0] for kind in MessageKind}
KEYS = sorted({key for example in EXAMPLES.values() for key in example} | {"reason", "x"})
TEXT = "\n".join(json.dumps(example) for example in EXAMPLES.values())
KINDS = st.sampled_from([None, *MessageKind])

PIECES = [
    *("{", "}", "[", "]", ":", ",", '"', "\\", "\n", "\r\n", " ", "\t", "{}", "[]", "\n{", "\n}"),
    *("NaN", "-Infinity", "1e999", "-", "0", "01", "1.5", "true", "null", "nul", '"a"', '"a":', '"\\ud800"'),
    *(
        "\x00",
        "\ufeff",
        "\x85",
        "\u2028",
        "\ud800",
        "é",
        "😀",
        "//",
        "'",
        "\\u",
        '"status": "ok"',
        '"status":',
    ),
]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES | st.sampled_from(["accepted", "query", "security_alert", "2026-03-02T09:00:00Z"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)


def holds(text: str, kind: MessageKind | None = None) -> None:
    """The law: messages, or at least one problem, each at a place of the text."""
    lines = text.split("\n")
    for problem in problems_of(text, kind):
        assert problem.message
        assert problem.where
        assert 1 <= problem.where.line <= len(lines)
        assert 1 <= problem.where.column <= len(lines[problem.where.line - 1]) + 1


def problems_of(text: str, kind: MessageKind | None = None) -> tuple[Problem, ...]:
    """Return what the text is refused for; nothing if it is messages that can be written again as they are."""
    try:
        found = check_messages(text, "it", kind)
    except MessageInvalid as invalid:
        return invalid.problems or (Problem("none", ""),)
    assert found
    assert all(isinstance(message, OrgMessage) for message in found)
    written = "\n".join(json.dumps(message.data, ensure_ascii=False, allow_nan=False) for message in found)
    assert [each.data for each in check_messages(written, "it", kind)] == [each.data for each in found]
    written.encode()
    return ()


@draws(300)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), KINDS)
def test_any_pieces_of_json(text: str, kind: MessageKind | None) -> None:
    holds(text, kind)


@draws(200)
@given(st.text(), KINDS)
def test_any_text(text: str, kind: MessageKind | None) -> None:
    holds(text, kind)


@draws(200)
@given(st.lists(VALUES, max_size=3), st.sampled_from([None, 2]), KINDS)
def test_any_json(values: list[Any], indent: int | None, kind: MessageKind | None) -> None:
    holds("\n".join(json.dumps(value, indent=indent) for value in values), kind)


@draws(300)
@given(st.integers(0, len(TEXT)), st.integers(0, 40), st.sampled_from(PIECES) | st.text(max_size=5))
def test_valid_messages_with_one_cut_mended_by_anything(at: int, length: int, piece: str) -> None:
    holds(TEXT[:at] + piece + TEXT[at + length :])


@draws(300)
@given(st.sampled_from(MessageKind), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), KINDS)
def test_a_valid_message_with_any_value_anywhere(
    told: MessageKind, changes: dict[str, Any], kind: MessageKind | None
) -> None:
    holds(json.dumps(EXAMPLES[told] | changes), kind)


# The life of a task


def statuses(walk: list[TaskStatus]) -> str:
    """Return the messages of a task that goes this way: the task itself, and a status for each step."""
    steps = itertools.pairwise(walk)
    told = [EXAMPLES[MessageKind.STATUS] | {"previous_status": a, "status": b} for a, b in steps]
    return "\n".join(json.dumps(message) for message in (EXAMPLES[MessageKind.TASK], *told))


@st.composite
def walks(draw: st.DrawFn) -> list[TaskStatus]:
    """Return a way through the table, from the first status on."""
    walk = [INITIAL_STATUS]
    for _ in range(draw(st.integers(0, 12))):
        if not (after := next_statuses(walk[-1])):
            break
        walk.append(draw(st.sampled_from(after)))
    return walk


@draws()
@given(walks())
def test_every_walk_through_the_table_is_accepted(walk: list[TaskStatus]) -> None:
    assert len(check_messages(statuses(walk), "it")) == len(walk)


@draws()
@given(walks(), st.sampled_from(TaskStatus))
def test_every_other_step_is_refused_in_its_line_with_what_is_allowed(
    walk: list[TaskStatus], status: TaskStatus
) -> None:
    allowed = next_statuses(walk[-1])
    assume(status not in allowed)
    (problem,) = problems_of(statuses([*walk, status]))
    assert problem.code == "status-step"
    assert problem.where
    assert problem.where.line == len(walk) + 1
    assert all(each in (problem.hint or "") for each in allowed)


@draws()
@given(walks(), st.sampled_from(STATUS_CHANGES))
def test_a_step_that_begins_elsewhere_is_refused(
    walk: list[TaskStatus], step: tuple[TaskStatus, TaskStatus, str]
) -> None:
    before, after, _ = step
    assume(before is not walk[-1])
    jump = json.dumps(EXAMPLES[MessageKind.STATUS] | {"previous_status": before, "status": after})
    (problem,) = problems_of(f"{statuses(walk)}\n{jump}")
    assert (problem.code, problem.where and problem.where.line) == ("status-gap", len(walk) + 1)


def test_every_status_is_reached_and_none_is_a_dead_end_but_the_three() -> None:
    reached = {INITIAL_STATUS} | {step.after for step in STATUS_CHANGES}
    assert reached == set(TaskStatus)
    assert {status for status in TaskStatus if not next_statuses(status)} == {
        "completed",
        "rejected",
        "failed",
    }
