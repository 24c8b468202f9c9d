"""Which change comes before which: what every order must respect, and what no order can."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from cyborg_infra.core.order import ordered
from cyborg_infra.model.plan import Action, Change, FieldChange
from cyborg_infra.model.state import Ref, Resource


def resource(ref: str, *subjects: str, **config: Any) -> Resource:
    stream, _, consumer = ref.partition("/")
    return Resource(Ref(stream, consumer), {"name": ref, "subjects": list(subjects), **config})


def created(ref: str, *subjects: str, **config: Any) -> Change:
    return Change(Action.CREATE, None, resource(ref, *subjects, **config))


def deleted(ref: str, *subjects: str) -> Change:
    return Change(Action.DELETE, resource(ref, *subjects), None)


def moved(ref: str, before: list[str], after: list[str]) -> Change:
    return Change(Action.UPDATE, resource(ref, *before), resource(ref, *after))


def limited(ref: str, before: object, after: object) -> Change:
    fields = (FieldChange("consumer_limits", before, after),)
    return Change(Action.UPDATE, resource(ref), resource(ref), fields)


def names(*changes: Change) -> list[str]:
    """The order, which is the same however the changes came."""
    found = {tuple(str(change.ref) for change in ordered(list(given))[0]) for given in permutations(changes)}
    (only,) = found
    assert all(not ordered(list(given))[1] for given in permutations(changes))
    return list(only)


def test_nothing_needs_no_order() -> None:
    assert ordered([]) == ([], [])


def test_a_stream_comes_before_its_consumers_and_independent_ones_by_name() -> None:
    assert names(created("B/x"), created("B", "b"), created("A/x"), created("A", "a")) == [
        "A",
        "A/x",
        "B",
        "B/x",
    ]


def test_independent_changes_need_nothing() -> None:
    assert [change.needs for change in ordered([created("A", "a"), created("B", "b")])[0]] == [(), ()]


def test_deletions_come_last() -> None:
    assert names(deleted("A", "a"), deleted("A/x"), created("B", "b")) == ["B", "A", "A/x"]


def test_a_subject_leaves_before_it_enters_whatever_the_names() -> None:
    assert names(moved("A", ["a"], ["a", "x"]), moved("B", ["b", "x"], ["b"])) == ["B", "A"]
    assert names(moved("A", ["a", "x"], ["a"]), moved("B", ["b"], ["b", "x"])) == ["A", "B"]


def test_a_pattern_waits_for_every_subject_that_it_covers() -> None:
    sequence = names(created("A", "x.>"), moved("B", ["b", "x.1"], ["b"]), moved("C", ["c", "x.2"], ["c"]))
    assert sequence == ["B", "C", "A"]


def test_a_deletion_that_makes_way_does_not_wait_for_the_end() -> None:
    assert names(deleted("Z", "a"), created("A", "a"), deleted("Y", "y")) == ["Z", "A", "Y"]


def test_a_chain_of_moves_goes_from_its_free_end() -> None:
    sequence = names(
        moved("A", ["1"], ["2"]),
        moved("B", ["2"], ["3"]),
        moved("C", ["3"], ["4"]),
    )
    assert sequence == ["C", "B", "A"]


def test_subjects_in_a_circle_have_no_order_and_the_circle_is_named() -> None:
    changes = [moved("A", ["1"], ["2"]), moved("B", ["2"], ["1"])]
    found, problems = ordered(changes)
    assert found == changes
    assert [problem.code for problem in problems] == ["order"]
    assert "A" in problems[0].message
    assert "B" in problems[0].message


def test_what_is_copied_from_exists_first() -> None:
    assert names(created("A", mirror={"name": "M"}), created("M", "m")) == ["M", "A"]
    assert names(created("A", sources=[{"name": "M"}, {"name": "elsewhere"}]), created("M", "m")) == [
        "M",
        "A",
    ]


def test_limits_come_after_the_consumers_that_they_bind_and_before_those_that_they_free() -> None:
    consumer = Change(Action.UPDATE, resource("A/x"), resource("A/x"))
    assert names(limited("A", None, {"max_ack_pending": 3}), consumer) == ["A/x", "A"]
    assert names(limited("A", {"max_ack_pending": 3}, None), consumer) == ["A", "A/x"]


def test_a_pair_that_is_given_is_kept() -> None:
    """Where an account is full, what makes room goes first."""
    changes = [created("A", "a"), deleted("B", "b")]
    assert [str(change.ref) for change in ordered(changes, [(Ref("A"), Ref("B"))])[0]] == ["B", "A"]
