"""What a change costs, by the counts of the living resource; the servers' side of it is in live/acceptance.py."""

from __future__ import annotations

from typing import Any

import pytest

from cyborg_infra.core import consumer_hazards, hazards
from cyborg_infra.core.consumer_hazards import fewer, of_delete
from cyborg_infra.core.diff import diff
from cyborg_infra.core.hazards import of_stream_loss
from cyborg_infra.model.fields import Version
from cyborg_infra.model.plan import Hazard
from cyborg_infra.model.state import (
    STOPPED,
    ConsumerCounts,
    Ref,
    Resource,
    State,
    StreamCounts,
    unused_subject,
)
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
    """The hazards of changing one stream, or one consumer by its counts."""
    ref = Ref("S", "c") if isinstance(counts, ConsumerCounts) else Ref("S")
    live, desired = Resource(ref, before, counts=counts), Resource(ref, after)
    changes = diff(live, desired, NEWEST)
    if ref.consumer:
        return summary(list(consumer_hazards.of_update(live, desired, changes, around(live))))
    return summary(list(hazards.of_update(live, desired, changes, around(live), stored_after=index(*stored))))


def around(live: Resource) -> State:
    """The consumer with a stream that stores what it may filter for, or the stream alone."""
    stream = Resource(Ref("S"), {"subjects": ["a.>", "a"]}, counts=HELD)
    return State({stream.ref: stream, live.ref: live})


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
def test_what_no_stream_stores_any_more_is_told(
    stored: tuple[str, ...], expected: list[tuple[str, int, bool]]
) -> None:
    live = Resource(Ref("S"), {"subjects": ["a.1", "b"]}, counts=StreamCounts())
    found = list(of_stream_loss(live, [], stored_after=index(*stored)))
    assert expected == [(hazard.name.value, hazard.count, hazard.exact) for hazard in found]


def test_a_lost_stream_takes_messages_and_strangers_with_it() -> None:
    live = Resource(Ref("S"), {"subjects": ["a"]}, counts=HELD)
    stranger = Resource(Ref("S", "audit"), {}, counts=ConsumerCounts())
    found = [
        (hazard.name.value, hazard.count)
        for hazard in of_stream_loss(live, [stranger], stored_after=index("a"))
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
    busy = Resource(Ref("S", "c"), {}, counts=ConsumerCounts(num_pending=4, num_ack_pending=2))
    assert [hazard.count for hazard in of_delete(busy, around(busy))] == [6]
    idle = Resource(Ref("S", "c"), {}, counts=ConsumerCounts())
    assert list(of_delete(idle, around(idle))) == []


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [(3, 5, True), (5, 3, False), (3, 3, False), (3, -1, True), (-1, 3, False), (-1, -1, False)],
)
def test_for_ever_is_more_than_any_number(new: int, old: int, expected: bool) -> None:  # noqa: FBT001
    assert fewer(new, old) is expected


@pytest.mark.parametrize(
    ("noted", "expected"),
    [("3+", [("repeats-work", 7, False)]), ("3", []), ("10+", []), ("12+", []), ("", []), ("?", [])],
)
def test_what_a_stopped_consumer_has_handed_out_beyond_its_note_is_counted(
    noted: str, expected: list[tuple[str, int, bool]]
) -> None:
    """Before 2.11; the tool that stopped it died before it could note more."""
    ref = Ref("S", "c")
    stopped = {"filter_subject": unused_subject(ref), "metadata": {STOPPED: noted}}
    live = Resource(ref, stopped, counts=ConsumerCounts(delivered_stream_seq=10))
    desired = Resource(ref, {"filter_subject": "a"})
    found = consumer_hazards.of_replace(live, desired, around(live), Version(2, 10, 26))
    assert summary(list(found)) == expected
