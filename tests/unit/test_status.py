"""What a state and an alarm are, on readings made by hand; the servers' side of it is in live/test_status.py."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from command import assert_fits
from conftest import Golden
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from cyborg_infra.core.expand import expand
from cyborg_infra.core.status import status
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.dead_letter import Message
from cyborg_infra.model.fields import Version
from cyborg_infra.model.org import Org, Role
from cyborg_infra.model.problems import ManifestInvalid, Problem
from cyborg_infra.model.state import Activity, ConsumerCounts, Facts, Ref, Resource, State, StreamCounts
from cyborg_infra.model.status import Answer, Observed, QueueState, Status, Stored
from cyborg_infra.render import data, prometheus
from cyborg_infra.render import status as text

Counts = dict[Ref, ConsumerCounts | StreamCounts]

CASES = Path(__file__).parents[1] / "cases/status"
MANIFEST = "org: acme\nroles: [cto, cso, ceo]\n"
NOW, RECENTLY, LONG_AGO = "2026-01-02T00:00:00Z", "2026-01-01T23:59:00Z", "2026-01-01T00:00:00Z"
WORKER, INBOX = Ref("AGENT_CTO_TASKS", "cto-worker"), Ref("AGENT_INBOXES", "cto-inbox-reader")
TASKS, BROADCASTS = Ref("AGENT_CTO_TASKS"), Ref("ORG_BROADCASTS")

CASES = Path(__file__).parents[1] / "cases/status"
MANIFEST = "org: acme\nroles: [cto, cso, ceo]\n"
NOW, RECENTLY, LONG_AGO = "2026-01-02T00:00:00Z", "2026-01-01T23:59:00Z", "2026-01-01T00:00:00Z"
WORKER, INBOX = Ref("AGENT_CTO_TASKS", "cto-worker"), Ref("AGENT_INBOXES", "cto-inbox-reader")
TASKS, BROADCASTS = Ref("AGENT_CTO_TASKS"), Ref("ORG_BROADCASTS")
ADVISED = Message(
    "acme.org.deadletter.ORG_BROADCASTS.cto-broadcast-reader",
    1,
    RECENTLY,
    json.dumps(
        {
            "type": "io.nats.jetstream.advisory.v1.max_deliver",
            "stream": "ORG_BROADCASTS",
            "consumer": "cto-broadcast-reader",
            "stream_seq": 2,
            "deliveries": 3,
        }
    ).encode(),
)

CASES = Path(__file__).parents[1] / "cases/status"
MANIFEST = "org: acme\nroles: [cto, cso, ceo]\n"
NOW, RECENTLY, LONG_AGO = "2026-01-02T00:00:00Z", "2026-01-01T23:59:00Z", "2026-01-01T00:00:00Z"
WORKER, INBOX = Ref("AGENT_CTO_TASKS", "cto-worker"), Ref("AGENT_INBOXES", "cto-inbox-reader")
TASKS, BROADCASTS = Ref("AGENT_CTO_TASKS"), Ref("ORG_BROADCASTS")


def seen(
    manifest: str = MANIFEST,
    counts: Counts | None = None,
    activity: Mapping[Ref, Activity] | None = None,
    **others: Any,
) -> tuple[Org, Status]:
    """The organisation as applied, with these counts, and its status."""
    org = loads(manifest)
    desired = expand(org)
    live = State(
        {
            ref: Resource(
                ref,
                found.config,
                counts=(counts or {}).get(ref) or (ConsumerCounts() if ref.consumer else StreamCounts()),
                created=LONG_AGO,
                activity=(activity or {}).get(ref, Activity(NOW)),
            )
            for ref, found in desired.resources.items()
        },
        Facts(Version(2, 15, 1), 5, url="nats://localhost:4222"),
    )
    gone = others.pop("gone", ())
    live = State({ref: found for ref, found in live.resources.items() if ref not in gone}, live.facts)
    return org, status(org, desired, Observed(live, now=NOW, **others), org.alerts)


def queue(counts: ConsumerCounts, activity: Activity, **others: Any) -> tuple[QueueState, list[str]]:
    """The state of the cto's task queue, and the codes of all alarms."""
    _, found = seen(counts={WORKER: counts}, activity={WORKER: activity}, **others)
    return found.roles[0].queues[0].state, [alarm.code.value for alarm in found.alarms]


IDLE, WORKING, BEHIND, STUCK, ABSENT = (
    *(QueueState.IDLE, QueueState.WORKING, QueueState.BEHIND),
    *(QueueState.STUCK, QueueState.ABSENT),
)
OLD = {"oldest": {WORKER: Stored(1, LONG_AGO)}}
NEW = {"oldest": {WORKER: Stored(1, RECENTLY)}}


@pytest.mark.parametrize(
    ("counts", "activity", "others", "state", "alarms"),
    [
        ({}, {}, {}, IDLE, []),
        ({"num_waiting": 3}, {}, {}, IDLE, []),
        ({"num_ack_pending": 1}, {"delivered_at": RECENTLY}, {}, WORKING, []),
        ({"num_pending": 5, "num_waiting": 1}, {}, NEW, WORKING, []),
        ({"num_pending": 6, "num_waiting": 1}, {}, NEW, BEHIND, ["lag"]),
        ({"num_pending": 6, "num_ack_pending": 1}, {"delivered_at": RECENTLY}, NEW, BEHIND, ["lag"]),
        ({"num_pending": 1}, {}, NEW, ABSENT, []),
        ({"num_pending": 1}, {}, OLD, ABSENT, ["absent"]),
        ({"num_pending": 6}, {"delivered_at": RECENTLY}, NEW, ABSENT, ["lag"]),
        ({"num_pending": 1}, {"bound": True, "delivered_at": RECENTLY}, OLD, WORKING, []),
        ({"num_ack_pending": 1}, {"delivered_at": LONG_AGO}, {}, STUCK, ["expired"]),
        ({"num_ack_pending": 1}, {}, {}, WORKING, []),
        ({"num_ack_pending": 1, "num_waiting": 1}, {"delivered_at": LONG_AGO}, {}, WORKING, []),
        ({"num_pending": 1, "num_waiting": 1}, {"delivered_at": LONG_AGO}, OLD, STUCK, ["stuck"]),
        ({"num_pending": 1, "num_waiting": 1}, {}, OLD, STUCK, ["stuck"]),
        ({"num_pending": 1, "num_waiting": 1}, {"acked_at": RECENTLY}, OLD, WORKING, []),
        ({"num_pending": 1, "num_waiting": 1}, {}, {}, WORKING, []),
        ({}, {"paused": True}, {}, IDLE, ["paused"]),
        ({"num_pending": 1, "num_waiting": 1}, {"paused": True}, NEW, STUCK, ["paused"]),
    ],
)
def test_the_state_of_a_queue(
    counts: dict[str, Any],
    activity: dict[str, Any],
    others: dict[str, Any],
    state: QueueState,
    alarms: Sequence[str],
) -> None:
    """After a restart the server knows no times: what has none is not taken for expired."""
    found = queue(ConsumerCounts(**counts), Activity(NOW, **activity), **others)
    assert found == (state, list(alarms))


def test_an_inbox_is_not_absent_while_the_role_works_on_a_task() -> None:
    waiting = ConsumerCounts(num_pending=1)
    working = Activity(NOW, delivered_at=RECENTLY)
    _, busy = seen(
        counts={INBOX: waiting, WORKER: ConsumerCounts(num_ack_pending=1)}, activity={WORKER: working}
    )
    _, alone = seen(counts={INBOX: waiting})
    assert [found.roles[0].queues[1].state for found in (busy, alone)] == [WORKING, ABSENT]
    assert [found.roles[0].state for found in (busy, alone)] == [WORKING, ABSENT]


def test_backoff_counts_as_ack_wait_by_its_longest_step() -> None:
    manifest = MANIFEST + "consumers: {worker: {backoff: [1s, 48h], max_deliver: 3}}\n"
    counts: Counts = {WORKER: ConsumerCounts(num_ack_pending=1)}
    _, found = seen(manifest, counts, {WORKER: Activity(NOW, delivered_at=LONG_AGO)})
    assert found.alarms == ()


def test_a_stream_without_a_leader_is_an_alarm_and_its_queue_is_stuck() -> None:
    problem = Problem("missing", "listing the streams: AGENT_CTO_TASKS could not be read")
    _, found = seen(unread={TASKS: problem}, gone=(TASKS, WORKER))
    assert [alarm.code for alarm in found.alarms] == ["no-leader"]
    assert found.roles[0].state is STUCK
    assert [stream.leader for stream in found.streams if stream.ref == TASKS] == [False]
    assert_fits("status", data.status(found))


def test_what_is_not_there_is_one_alarm() -> None:
    _, found = seen(gone=(TASKS, WORKER))
    assert [str(alarm) for alarm in found.alarms] == [
        "missing: not on the server: AGENT_CTO_TASKS, AGENT_CTO_TASKS/cto-worker; see cyborg-infra plan"
    ]
    assert found.roles[0].state is ABSENT


# Limits


@pytest.mark.parametrize(
    ("fields", "held", "waiting", "first", "alarms"),
    [
        ("max_msgs: 10", 10, 8, 3, 0),
        ("max_msgs: 10", 9, 9, 1, 1),
        ("max_msgs: 100", 100, 1, 100, 0),
        ("max_msgs: 100", 100, 1, 5, 1),  # the rest is read; this one is next to go
        ("max_bytes: 1KB", 10, 1, 10, 0),
        ("max_bytes: 1KB", 10, 9, 1, 1),
        ("max_age: 25h", 1, 1, 1, 1),
        ("max_age: 72h", 1, 1, 1, 0),
        ("max_msgs_per_subject: 10", 10, 9, 2, 1),
        ("max_msgs: 10, discard: new", 8, 0, 9, 0),
        ("max_msgs: 10, discard: new", 9, 0, 10, 1),
        ("max_msgs: 10", 10, 0, 11, 0),
    ],
)
def test_a_limit_is_near_when_something_unread_is_about_to_go_or_to_be_refused(
    fields: str, held: int, waiting: int, first: int, alarms: int
) -> None:
    manifest = f"{MANIFEST}streams: {{tasks: {{{fields}}}}}\nalerts: {{lag: 100}}\n"
    stored = StreamCounts(messages=held, bytes=held * 100, first_seq=1, last_seq=held)
    counts: Counts = {TASKS: stored, WORKER: ConsumerCounts(num_pending=waiting, num_waiting=1)}
    oldest = {"oldest": {WORKER: Stored(first, LONG_AGO)}} if waiting else {}
    _, found = seen(manifest, counts, {WORKER: Activity(NOW, delivered_at=RECENTLY)}, **oldest)
    assert [alarm.code for alarm in found.alarms] == ["near-limit"] * alarms


def test_what_a_workqueue_gave_up_is_an_alarm() -> None:
    manifest = MANIFEST + "streams: {tasks: {retention: workqueue, discard: new, max_msgs: 5}}\n"
    _, found = seen(manifest, {TASKS: StreamCounts(messages=2, last_seq=2)}, given_up={TASKS: 2})
    assert [alarm.code for alarm in found.alarms] == ["given-up"]
    assert "2 of at most 5" in found.alarms[0].message


# Broadcasts


def answers(counts: ConsumerCounts, *seqs: int, at: str = LONG_AGO, **others: Any) -> list[Answer]:
    _, found = seen(
        counts={Ref("ORG_BROADCASTS", "cto-broadcast-reader"): counts},
        broadcasts=tuple(Stored(seq, at) for seq in seqs),
        **others,
    )
    return [each.answers["cto"] for each in reversed(found.broadcasts)]


DONE, OPEN, GIVEN_UP, UNKNOWN = Answer.ACKNOWLEDGED, Answer.OPEN, Answer.GIVEN_UP, Answer.UNKNOWN


@pytest.mark.parametrize(
    ("delivered", "floor", "pending", "redelivered", "expected"),
    [
        (0, 0, 0, 0, [OPEN, OPEN, OPEN]),
        (2, 2, 0, 0, [DONE, DONE, OPEN]),
        (3, 1, 2, 0, [DONE, OPEN, OPEN]),
        (3, 1, 1, 0, [DONE, UNKNOWN, UNKNOWN]),
        (3, 0, 0, 0, [DONE, DONE, DONE]),  # 2.11 to 2.15 leave the floor behind what was given up
        (3, 0, 3, 2, [OPEN, OPEN, OPEN]),
    ],
)
def test_what_an_ack_floor_tells(
    delivered: int, floor: int, pending: int, redelivered: int, expected: list[Answer]
) -> None:
    counts = ConsumerCounts(
        num_ack_pending=pending,
        num_redelivered=redelivered,
        delivered_stream_seq=delivered,
        ack_floor_stream_seq=floor,
    )
    assert answers(counts, 1, 2, 3) == expected


def test_what_was_given_up_is_not_acknowledged_and_what_nobody_knows_is_not_known() -> None:
    """A redelivery count that stays is of a message given up; whether of this one, its dead letter tells."""
    counts = ConsumerCounts(num_redelivered=1, delivered_stream_seq=3, ack_floor_stream_seq=3)
    assert answers(counts, 1, 2, letters=(ADVISED,)) == [DONE, GIVEN_UP]
    assert answers(counts, 1, 3, letters=(ADVISED,), letters_since=RECENTLY) == [UNKNOWN, UNKNOWN]
    assert answers(counts, 1, 3, at=NOW, letters=(ADVISED,), letters_since=RECENTLY) == [DONE, DONE]


def test_a_broadcast_is_late_for_the_roles_that_have_not_acknowledged_it_in_time() -> None:
    everyone: Counts = {
        Ref("ORG_BROADCASTS", f"{role}-broadcast-reader"): ConsumerCounts(
            delivered_stream_seq=seq, ack_floor_stream_seq=seq
        )
        for role, seq in (("cto", 2), ("cso", 1), ("ceo", 0))
    }
    _, found = seen(counts=everyone, broadcasts=(Stored(1, LONG_AGO), Stored(2, NOW)))
    assert [str(alarm) for alarm in found.alarms] == [
        "broadcast-ack: broadcast 1, 1d old, is not acknowledged by ceo"
    ]


def test_some_of_several_broadcasts_are_late_though_nobody_knows_which() -> None:
    counts = ConsumerCounts(num_ack_pending=1, delivered_stream_seq=2)
    reader = Ref("ORG_BROADCASTS", "cto-broadcast-reader")
    done = ConsumerCounts(delivered_stream_seq=2, ack_floor_stream_seq=2)
    others: Counts = {Ref("ORG_BROADCASTS", f"{role}-broadcast-reader"): done for role in ("cso", "ceo")}
    for second, expected in ((LONG_AGO, 1), (NOW, 0)):
        _, found = seen(
            counts={reader: counts, **others}, broadcasts=(Stored(1, LONG_AGO), Stored(2, second))
        )
        assert len(found.alarms) == expected


def test_a_broadcast_before_a_reader_that_starts_with_new_ones_is_not_for_it() -> None:
    manifest = MANIFEST + "consumers: {broadcast_reader: {deliver_policy: new}}\n"
    _, found = seen(manifest, broadcasts=(Stored(1, "2025-12-31T00:00:00Z"),))
    assert [dict(each.answers) for each in found.broadcasts] == [{}]


# Formats


def busy() -> Status:
    """A little of everything."""
    counts: Counts = {
        WORKER: ConsumerCounts(num_pending=1200, num_ack_pending=5, num_redelivered=1),
        Ref("AGENT_CSO_TASKS", "cso-worker"): ConsumerCounts(num_ack_pending=1),
        Ref("AGENT_INBOXES", "ceo-inbox-reader"): ConsumerCounts(num_pending=2),
        Ref("DEAD_LETTERS"): StreamCounts(messages=3, last_seq=3, last_ts=RECENTLY),
        Ref("ORG_BROADCASTS", "cso-broadcast-reader"): ConsumerCounts(delivered_stream_seq=2, ack_floor_stream_seq=2),
        Ref("ORG_BROADCASTS", "ceo-broadcast-reader"): ConsumerCounts(delivered_stream_seq=2, num_ack_pending=1),
    }  # fmt: skip
    activity = {
        WORKER: Activity(NOW, delivered_at=LONG_AGO, acked_at=LONG_AGO),
        Ref("AGENT_CSO_TASKS", "cso-worker"): Activity(NOW, delivered_at=RECENTLY),
    }
    _, found = seen(
        counts=counts,
        activity=activity,
        oldest={WORKER: Stored(1, LONG_AGO)},
        broadcasts=(Stored(1, LONG_AGO), Stored(2, RECENTLY)),
        letters=(ADVISED,),
        notes=("a note",),
    )
    return found


def test_the_status_in_80_columns(golden: Golden) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=80, color_system=None, force_terminal=True, highlight=False)
    console.print(text.status(busy()))
    golden(CASES / "busy.txt", shown.getvalue())
    assert max(map(len, shown.getvalue().splitlines())) <= 80


def test_many_idle_roles_are_one_line() -> None:
    _, found = seen("org: acme\nroles: [" + ", ".join(f"role{number}" for number in range(1000)) + "]\n")
    shown = io.StringIO()
    Console(file=shown, width=80).print(text.status(found))
    assert "1,000 roles idle" in shown.getvalue()
    assert len(shown.getvalue().splitlines()) < 10


def test_json_is_as_its_schema_says() -> None:
    assert_fits("status", data.status(busy()))


def test_prometheus_can_read_every_line_whatever_the_names_are() -> None:
    found = busy()
    strange = 'quo"te\\back\nline'
    role = dataclasses.replace(found.roles[0], name=strange)
    exposed = prometheus.status(dataclasses.replace(found, roles=(role, *found.roles[1:])))
    families = {family.name: family for family in text_string_to_metric_families(exposed)}
    assert all(
        family.type == "gauge" and family.documentation and name.startswith("cyborg_infra_")
        for name, family in families.items()
    )
    waiting = {
        (sample.labels["role"], sample.labels["queue"]): sample.value
        for sample in families["cyborg_infra_queue_waiting"].samples
    }
    assert waiting[strange, "tasks"] == 1200
    assert {sample.labels["org"] for family in families.values() for sample in family.samples} == {"acme"}
    states = [
        sample.labels["state"]
        for sample in families["cyborg_infra_queue_state"].samples
        if sample.labels["role"] == "cso" and sample.labels["queue"] == "tasks" and sample.value
    ]
    assert states == ["working"]
    alarms = {sample.labels["code"]: sample.value for sample in families["cyborg_infra_alarms"].samples}
    assert alarms == {code: float(sum(alarm.code == code for alarm in found.alarms)) for code in alarms}
    assert families["cyborg_infra_queue_oldest_waiting_seconds"].samples[0].value == 86400


def test_thresholds_are_the_manifest_s_and_an_environment_may_have_others() -> None:
    manifest = MANIFEST + "alerts: {lag: 7}\nenvironments: {big: {alerts: {broadcast_ack: 1h}}}\n"
    assert loads(manifest).alerts.lag == 7
    counts: Counts = {WORKER: ConsumerCounts(num_pending=7, num_waiting=1)}
    _, found = seen(manifest, counts)
    assert found.alarms == ()


def test_a_threshold_that_is_none_has_its_place() -> None:
    for value in ("{lag: -1}", "{lag: many}", "{broadcast_ack: soon}", "{broadcast_ack: 400y}"):
        with pytest.raises(ManifestInvalid) as refused:
            loads(MANIFEST + f"alerts: {value}\n")
        assert [problem.where.line for problem in refused.value.problems if problem.where] == [3]


def test_only_the_roles_that_are_asked_for_and_what_all_share() -> None:
    org = dataclasses.replace(loads(MANIFEST), roles=(Role("cto"), Role("cso")))
    found = status(org, expand(org), Observed(State(), now=NOW), org.alerts, ("cso",))
    assert [role.name for role in found.roles] == ["cso"]
    assert {str(stream.ref) for stream in found.streams} == {
        "AGENT_CSO_TASKS", "AGENT_INBOXES", "ORG_BROADCASTS", "DEAD_LETTERS",
    }  # fmt: skip
