"""Which change comes before which: what every order must respect, and what no order can."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from cyborg_infra.core.planning.ordering import order_changes
from cyborg_infra.model.changes import Change, Create, Delete, FieldChange, Update
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource
from cyborg_infra.model.server_versions import Version
from tests.support.live_resources import as_live


def resource(ref: str, *subjects: str, **config: Any) -> DesiredResource:
    stream, _, consumer = ref.partition("/")
    return DesiredResource(Ref(stream, consumer), {"name": ref, "subjects": list(subjects), **config})


def created(ref: str, *subjects: str, **config: Any) -> Change:
    return Create(resource(ref, *subjects, **config))


def deleted(ref: str, *subjects: str) -> Change:
    return Delete(as_live(resource(ref, *subjects)))


def moved(ref: str, before: list[str], after: list[str]) -> Change:
    return Update(as_live(resource(ref, *before)), resource(ref, *after))


def limited(ref: str, before: object, after: object) -> Change:
    fields = (FieldChange("consumer_limits", before, after),)
    return Update(as_live(resource(ref)), resource(ref, consumer_limits=after or {}), fields)


def names(*changes: Change) -> list[str]:
    """Return the order, which is the same however the changes came."""
    found = {
        tuple(str(change.ref) for change in order_changes(list(given))[0]) for given in permutations(changes)
    }
    (only,) = found
    assert all(not order_changes(list(given))[1] for given in permutations(changes))
    return list(only)


def test_nothing_needs_no_order() -> None:
    assert order_changes([]) == ([], [])


def test_a_stream_comes_before_its_consumers_and_independent_ones_by_name() -> None:
    assert names(created("B/x"), created("B", "b"), created("A/x"), created("A", "a")) == [
        "A",
        "A/x",
        "B",
        "B/x",
    ]


def test_independent_changes_need_nothing() -> None:
    assert [change.depends_on for change in order_changes([created("A", "a"), created("B", "b")])[0]] == [
        (),
        (),
    ]


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


def test_streams_that_copy_from_one_another_begin_with_any_of_them() -> None:
    """By filters, so that nothing goes round: whatever is no circle keeps its order."""
    circle = [created(one, sources=[{"name": other}]) for one, other in ("AB", "BC", "CA", "DE")]
    changes = [*circle, created("E", "e")]
    found = names(*changes)
    assert sorted(found) == ["A", "B", "C", "D", "E"]
    assert found.index("E") < found.index("D")


def test_a_source_that_gives_a_subject_to_its_own_origin_goes_first() -> None:
    """It copies from the stream that waits for its subject: the origin can wait, the subject cannot."""
    copying = resource("B", "b", sources=[{"name": "A"}])
    giver = Update(as_live(resource("B", "b", "x")), copying)
    assert names(moved("A", ["a"], ["a", "x"]), giver) == ["B", "A"]


def test_subjects_in_a_circle_have_no_order_and_the_circle_is_named() -> None:
    changes = [moved("A", ["1"], ["2"]), moved("B", ["2"], ["1"])]
    found, problems = order_changes(changes)
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


def test_limits_come_after_the_consumers_that_exceed_them_and_before_all_others() -> None:
    wide, narrow = resource("A/x", max_ack_pending=5), resource("A/x", max_ack_pending=3)
    tighter, wider = (
        limited("A", None, {"max_ack_pending": 3}),
        limited("A", {"max_ack_pending": 3}, {"max_ack_pending": 5}),
    )
    assert names(tighter, Update(as_live(wide), narrow)) == ["A/x", "A"]
    assert names(wider, Update(as_live(narrow), wide)) == ["A", "A/x"]
    assert names(limited("A", {"max_ack_pending": 3}, None), Update(as_live(narrow), wide)) == [
        "A",
        "A/x",
    ]
    assert names(tighter, created("A/x", max_ack_pending=3)) == ["A", "A/x"]


def test_a_limit_that_is_absent_counts_where_the_server_says_so() -> None:
    """Before 2.14.3 it is 0: who has less than that makes room first."""
    changes = [
        limited("A", None, {"max_ack_pending": 3}),
        Update(as_live(resource("A/x", inactive_threshold=9)), resource("A/x")),
    ]
    assert [str(change.ref) for change in order_changes(changes)[0]] == ["A", "A/x"]
    assert [str(change.ref) for change in order_changes(changes, version=Version(2, 14, 2))[0]] == [
        "A/x",
        "A",
    ]


def test_a_pair_that_is_given_is_kept() -> None:
    """Where an account is full, what makes room goes first."""
    changes = [created("A", "a"), deleted("B", "b")]
    assert [str(change.ref) for change in order_changes(changes, [(Ref("A"), Ref("B"))])[0]] == ["B", "A"]
