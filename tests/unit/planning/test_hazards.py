"""What a change costs, by the counts of the living resource; the servers' side of it is in support/acceptance_cases.py."""

from __future__ import annotations

from typing import Any

import pytest

from cyborg_infra.core.planning.diff import diff
from cyborg_infra.core.planning.hazards import consumers, streams
from cyborg_infra.core.planning.hazards.consumers import consumer_delete_hazards, is_lower_max_deliver
from cyborg_infra.core.planning.hazards.streams import stream_loss_hazards
from cyborg_infra.model.changes import Adopt, Hazard, Replace, Update
from cyborg_infra.model.metadata_keys import STOPPED_KEY
from cyborg_infra.model.ref import Ref, stop_subject
from cyborg_infra.model.resources import (
    Activity,
    ConsumerCounts,
    DesiredResource,
    DesiredState,
    LiveResource,
    LiveState,
    StreamCounts,
)
from cyborg_infra.model.server_versions import Version
from cyborg_infra.model.subjects import SubjectIndex
from cyborg_infra.model.units import HOUR, MINUTE

NEWEST = Version(2, 15, 1)
HELD = StreamCounts(messages=10, bytes=1000, oldest_age=HOUR, first_seq=1, last_seq=10)


def index(*subjects: str) -> SubjectIndex:
    found = SubjectIndex()
    for subject in subjects:
        found.add(subject, "S")
    return found


def updated(
    before: dict[str, Any], after: dict[str, Any], counts: StreamCounts | ConsumerCounts, *stored: str
) -> list[tuple[str, int, bool]]:
    """Return the hazards of changing one stream, or one consumer by its counts."""
    ref = Ref("S", "c") if isinstance(counts, ConsumerCounts) else Ref("S")
    live, desired = LiveResource(ref, before, counts=counts), DesiredResource(ref, after)
    changes = diff(live, desired, NEWEST)
    if ref.consumer:
        return summary(list(consumers.consumer_update_hazards(live, desired, changes, around(live))))
    return summary(
        list(streams.stream_update_hazards(live, desired, changes, around(live), stored_after=index(*stored)))
    )


def around(live: LiveResource) -> LiveState:
    """Return the consumer with a stream that stores what it may filter for, or the stream alone."""
    stream = LiveResource(Ref("S"), {"subjects": ["a.>", "a"]}, counts=HELD)
    return LiveState({stream.ref: stream, live.ref: live})


def summary(found: list[Hazard]) -> list[tuple[str, int, bool]]:
    assert all(str(hazard.count) in hazard.reason.replace(",", "") or hazard.bytes for hazard in found)
    return [(hazard.name.value, hazard.count, hazard.exact) for hazard in found]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"max_msgs": 4}, [("deletes-messages", 6, True)]),
        ({}, {"max_msgs": 10}, []),
        ({"max_msgs": 4}, {"max_msgs": 7}, [("deletes-messages", 3, True)]),
        ({"max_msgs": 50}, {}, []),
        ({}, {"max_msgs": 4, "discard": "new"}, []),
        ({"max_msgs": 4, "discard": "new"}, {"max_msgs": 4}, [("deletes-messages", 6, True)]),
        ({}, {"max_bytes": 400}, [("deletes-messages", 10, False)]),
        ({}, {"max_bytes": 1000}, []),
        ({}, {"max_age": HOUR - 1}, [("deletes-messages", 10, False)]),
        ({}, {"max_age": HOUR}, []),
        ({}, {"max_age": HOUR - 1, "discard": "new"}, [("deletes-messages", 10, False)]),
        ({}, {"max_msgs_per_subject": 3}, [("deletes-messages", 7, False)]),
        ({}, {"retention": "interest"}, [("deletes-messages", 10, True)]),  # there is no consumer
        ({"retention": "interest"}, {}, []),
        ({}, {"description": "d", "compression": "s2"}, []),
    ],
    ids=str,
)
def test_limits_below_what_a_stream_holds_delete_messages(
    before: dict[str, Any], after: dict[str, Any], expected: list[tuple[str, int, bool]]
) -> None:
    assert expected == updated(before, after, HELD)
    assert updated(before, after, StreamCounts()) == []


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ((), [("stops-capture", 2, True)]),
        (("a.>",), [("stops-capture", 1, True)]),
        (("a.1", "b"), []),
        (("a.*", ">"), []),
    ],
)
def test_subjects_that_no_stream_stores_any_more_are_a_hazard(
    stored: tuple[str, ...], expected: list[tuple[str, int, bool]]
) -> None:
    live = LiveResource(Ref("S"), {"subjects": ["a.1", "b"]}, counts=StreamCounts())
    found = list(stream_loss_hazards(live, [], ["a.1", "b"], stored_after=index(*stored)))
    assert expected == [(hazard.name.value, hazard.count, hazard.exact) for hazard in found]


def test_deleting_a_stream_counts_its_messages_and_foreign_consumers() -> None:
    live = LiveResource(Ref("S"), {"subjects": ["a"]}, counts=HELD)
    stranger = LiveResource(Ref("S", "audit"), {}, counts=ConsumerCounts())
    found = [
        (hazard.name.value, hazard.count)
        for hazard in stream_loss_hazards(live, [stranger], ["a"], stored_after=index("a"))
    ]
    assert found == [("deletes-messages", 10), ("resets-progress", 1)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"ack_wait": HOUR}, {"ack_wait": MINUTE}, [("repeats-work", 2, False)]),  # one was redelivered
        ({"ack_wait": MINUTE}, {"ack_wait": HOUR}, []),
        ({"ack_wait": HOUR}, {"ack_wait": MINUTE, "backoff": [MINUTE, HOUR]}, [("repeats-work", 2, False)]),
        ({"max_deliver": 5}, {"max_deliver": 3}, [("resets-progress", 1, False)]),
        ({}, {"max_deliver": 3}, [("resets-progress", 1, False)]),
        ({"max_deliver": 3}, {}, []),
        ({"max_ack_pending": 9}, {"max_ack_pending": 1}, []),
        ({"filter_subject": "a.>"}, {"filter_subject": "a.1"}, [("resets-progress", 4, False)]),
        ({"filter_subject": "a.1"}, {"filter_subject": "a.>"}, [("resets-progress", 7, False)]),
        ({"filter_subject": "a"}, {"filter_subjects": ["a"]}, []),
    ],
    ids=str,
)
def test_a_changed_consumer_costs_what_is_under_way(
    before: dict[str, Any], after: dict[str, Any], expected: list[tuple[str, int, bool]]
) -> None:
    busy = ConsumerCounts(num_pending=4, num_ack_pending=2, num_redelivered=1, delivered_stream_seq=7)
    assert expected == updated(before, after, busy)
    assert updated(before, after, ConsumerCounts()) == []


def test_a_deleted_consumer_leaves_what_waits_for_it() -> None:
    busy = LiveResource(Ref("S", "c"), {}, counts=ConsumerCounts(num_pending=4, num_ack_pending=2))
    assert [hazard.count for hazard in consumer_delete_hazards(busy, around(busy))] == [6]
    idle = LiveResource(Ref("S", "c"), {}, counts=ConsumerCounts())
    assert list(consumer_delete_hazards(idle, around(idle))) == []


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [(3, 5, True), (5, 3, False), (3, 3, False), (3, -1, True), (-1, 3, False), (-1, -1, False)],
)
def test_for_ever_is_more_than_any_number(new: int, old: int, expected: bool) -> None:  # noqa: FBT001
    assert is_lower_max_deliver(new, old) is expected


@pytest.mark.parametrize(
    ("noted", "told_by", "expected"),
    [
        ("3+", "A", 7),  # as it was noted before there was a floor in it
        ("3", "A", 0),
        ("10+", "A", 0),
        ("12+", "A", 2),
        ("", "A", 0),
        ("?", "A", 0),
        ("3+ 2 A", "A", 7),
        ("3 2 A", "A", 0),
        ("10 4 A", "A", 0),  # it has run ever since: all is finished
        ("10 4 A", "B", 6),  # started again: what it was handed out since its floor may be open nowhere
        ("10 4 A", "", 6),  # that is not known
        ("10 4", "", 6),
        ("12+ 4 A", "B", 10),  # and as many more as it may have had open at once: all that is stored
    ],
)
def test_what_a_stopped_consumer_may_hand_out_again_is_counted(
    noted: str, told_by: str, expected: int
) -> None:
    """Before 2.11: what it handed out beyond its note, when the tool died that stopped it; and what its server may have forgotten."""
    ref = Ref("S", "c")
    stopped = {"filter_subject": stop_subject(ref), "metadata": {STOPPED_KEY: noted}}
    counts = ConsumerCounts(delivered_stream_seq=10, ack_floor_stream_seq=10)
    live = LiveResource(ref, stopped, counts=counts, activity=Activity(incarnation=told_by))
    desired = DesiredResource(ref, {"filter_subject": "a", "max_ack_pending": 20})
    found = consumers.consumer_replace_hazards(live, desired, around(live), Version(2, 10, 26))
    assert summary(list(found)) == ([("repeats-work", expected, False)] if expected else [])


REDUNDANCY = {
    # copies of stream and consumer before, and after, and what each of them loses; 0 is the stream's own
    "fewer": ((3, 0), (1, 0), (2, None)),
    "to two": ((3, 0), (2, 0), (1, None)),
    "more": ((1, 0), (3, 0), (None, None)),
    "the same": ((3, 0), (3, 0), (None, None)),
    "of the consumer alone": ((3, 0), (3, 1), (None, 2)),
    "of a consumer that had its own": ((3, 3), (3, 1), (None, 2)),
    "of both, each its own": ((3, 3), (1, 1), (2, 2)),
    "a consumer follows its stream from now on": ((3, 1), (3, 0), (None, None)),
    "a consumer followed its stream, which has fewer": ((3, 0), (1, 1), (2, 2)),
}


@pytest.mark.parametrize("kind", [Update, Adopt, Replace])
@pytest.mark.parametrize(("had", "has", "lost"), REDUNDANCY.values(), ids=REDUNDANCY.keys())
def test_fewer_replicas_are_a_hazard_whichever_way_they_come_about(
    had: tuple[int, int],
    has: tuple[int, int],
    lost: tuple[int | None, int | None],
    kind: type[Update | Adopt | Replace],
) -> None:
    refs = Ref("S"), Ref("S", "c")
    configs = [
        {ref: {"num_replicas": copies} for ref, copies in zip(refs, counts, strict=True)}
        for counts in (had, has)
    ]
    live = LiveState({ref: LiveResource(ref, config) for ref, config in configs[0].items()})
    desired = DesiredState({ref: DesiredResource(ref, config) for ref, config in configs[1].items()})
    for ref, count in zip(refs, lost, strict=True):
        change = kind(live.resources[ref], desired.resources[ref])
        found = list(streams.redundancy_hazards(change, live, desired))
        assert [(each.name, each.count) for each in found] == ([("loses-redundancy", count)] if count else [])
