"""What a state and an alarm are, on readings made by hand; the servers' side of it is in tests/server/read/test_status.py."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.operate.status import make_status
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.dead_letters import CONSUMER_HEADER, SEQUENCE_HEADER, STREAM_HEADER
from cyborg_infra.model.organisation import BROADCAST_ACK, LETTERS, LETTERS_WITHIN, Org, Role
from cyborg_infra.model.organisation import LAG as LAG_THRESHOLD
from cyborg_infra.model.problems import ManifestInvalid, Problem, UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Activity, ConsumerCounts, Copy, LiveResource, LiveState, StreamCounts
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import Version
from cyborg_infra.model.status import (
    STATES,
    BroadcastReceipt,
    Condition,
    MessageTime,
    OrgStatus,
    StatusReadings,
    StoredBroadcast,
)
from cyborg_infra.model.stored_messages import StoredMessage
from cyborg_infra.operations.status import require_role
from cyborg_infra.render import json_format, prometheus
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.terminal import status as text
from tests.conftest import Golden
from tests.support.cli import assert_fits
from tests.support.live_resources import all_as_live, as_live

Counts = dict[Ref, ConsumerCounts | StreamCounts]

CASES = Path(__file__).parents[2] / "cases/status"
MANIFEST = "org: acme\nroles: [cto, cso, ceo]\n"
NOW, RECENTLY, LONG_AGO = "2026-01-02T00:00:00Z", "2026-01-01T23:59:00Z", "2026-01-01T00:00:00Z"
WORKER, INBOX = Ref("AGENT_CTO_TASKS", "cto-worker"), Ref("AGENT_INBOXES", "cto-inbox-reader")
TASKS, BROADCASTS = Ref("AGENT_CTO_TASKS"), Ref("ORG_BROADCASTS")

CASES = Path(__file__).parents[2] / "cases/status"
MANIFEST = "org: acme\nroles: [cto, cso, ceo]\n"
NOW, RECENTLY, LONG_AGO = "2026-01-02T00:00:00Z", "2026-01-01T23:59:00Z", "2026-01-01T00:00:00Z"
WORKER, INBOX = Ref("AGENT_CTO_TASKS", "cto-worker"), Ref("AGENT_INBOXES", "cto-inbox-reader")
TASKS, BROADCASTS = Ref("AGENT_CTO_TASKS"), Ref("ORG_BROADCASTS")
ADVISED = StoredMessage(
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

CASES = Path(__file__).parents[2] / "cases/status"
MANIFEST = "org: acme\nroles: [cto, cso, ceo]\n"
NOW, RECENTLY, LONG_AGO = "2026-01-02T00:00:00Z", "2026-01-01T23:59:00Z", "2026-01-01T00:00:00Z"
WORKER, INBOX = Ref("AGENT_CTO_TASKS", "cto-worker"), Ref("AGENT_INBOXES", "cto-inbox-reader")
TASKS, BROADCASTS = Ref("AGENT_CTO_TASKS"), Ref("ORG_BROADCASTS")


def seen(
    manifest: str = MANIFEST,
    counts: Counts | None = None,
    activity: Mapping[Ref, Activity] | None = None,
    **others: Any,
) -> tuple[Org, OrgStatus]:
    """Return the organisation as applied, with these counts, and its status."""
    org = loads(manifest, env=others.pop("env", None))
    desired = expand(org)
    live = LiveState(
        {
            ref: as_live(
                found,
                counts=(counts or {}).get(ref) or (ConsumerCounts() if ref.consumer else StreamCounts()),
                created=LONG_AGO,
                activity=(activity or {}).get(ref, Activity(NOW)),
            )
            for ref, found in desired.resources.items()
        },
        ServerInfo(Version(2, 15, 1), 5, url="nats://localhost:4222"),
    )
    gone = others.pop("gone", ())
    live = LiveState(
        {ref: found for ref, found in live.resources.items() if ref not in gone}, live.server_info
    )
    return org, make_status(org, desired, StatusReadings(live, now=NOW, **others), org.alerts)


def queue(counts: ConsumerCounts, activity: Activity, **others: Any) -> tuple[Condition, list[str]]:
    """Return the state of the cto's task queue, and the codes of all alarms."""
    _, found = seen(counts={WORKER: counts}, activity={WORKER: activity}, **others)
    return found.roles[0].queues[0].state, [alarm.code.value for alarm in found.alarms]


IDLE, WORKING, LAG, STUCK = Condition.IDLE, Condition.WORKING, Condition.LAG, Condition.STUCK
NO_WORKER, EXPIRED, PAUSED = Condition.NO_WORKER, Condition.EXPIRED, Condition.PAUSED


def broadcast(seq: int, at: str) -> StoredBroadcast:
    """Return one to all roles."""
    return StoredBroadcast(seq, at, Ref("ORG_BROADCASTS"), "acme.org.broadcasts")


OLD = {"oldest": {WORKER: MessageTime(1, LONG_AGO)}}
NEW = {"oldest": {WORKER: MessageTime(1, RECENTLY)}}


@pytest.mark.parametrize(
    ("counts", "activity", "others", "state", "alarms"),
    [
        ({}, {}, {}, IDLE, []),
        ({"num_waiting": 3}, {}, {}, IDLE, []),
        ({"num_ack_pending": 1}, {"delivered_at": RECENTLY}, {}, WORKING, []),
        ({"num_pending": 5, "num_waiting": 1}, {}, NEW, WORKING, []),
        ({"num_pending": 6, "num_waiting": 1}, {}, NEW, LAG, ["lag"]),
        ({"num_pending": 6, "num_ack_pending": 1}, {"delivered_at": RECENTLY}, NEW, LAG, ["lag"]),
        ({"num_pending": 1}, {}, NEW, NO_WORKER, []),
        ({"num_pending": 1}, {}, OLD, NO_WORKER, ["no-worker"]),
        ({"num_pending": 6}, {"delivered_at": RECENTLY}, NEW, NO_WORKER, ["lag"]),
        ({"num_pending": 1}, {"bound": True, "delivered_at": RECENTLY}, OLD, WORKING, []),
        ({"num_ack_pending": 1}, {"delivered_at": LONG_AGO}, {}, EXPIRED, ["expired"]),
        ({"num_ack_pending": 1}, {}, {}, WORKING, []),
        ({"num_ack_pending": 1, "num_waiting": 1}, {"delivered_at": LONG_AGO}, {}, WORKING, []),
        ({"num_pending": 1, "num_waiting": 1}, {"delivered_at": LONG_AGO}, OLD, STUCK, ["stuck"]),
        ({"num_pending": 1, "num_waiting": 1}, {}, OLD, STUCK, ["stuck"]),
        ({"num_pending": 1, "num_waiting": 1}, {"acked_at": RECENTLY}, OLD, WORKING, []),
        ({"num_pending": 1, "num_waiting": 1}, {}, {}, WORKING, []),
        ({}, {"paused": True}, {}, PAUSED, ["paused"]),
        ({"num_pending": 1, "num_waiting": 1}, {"paused": True}, NEW, PAUSED, ["paused"]),
    ],
)
def test_the_state_of_a_queue(
    counts: dict[str, Any],
    activity: dict[str, Any],
    others: dict[str, Any],
    state: Condition,
    alarms: Sequence[str],
) -> None:
    """After a restart the server knows no times: what has none is not taken for expired."""
    found = queue(ConsumerCounts(**counts), Activity(NOW, **activity), **others)
    assert found == (state, list(alarms))


def test_a_state_is_an_alarm_or_none_yet_and_an_alarm_of_a_queue_is_its_state() -> None:
    """One word has one meaning: over all that a queue can be. More than one may hold; the state is the worst."""
    cases = product(
        (0, 1, 9), (0, 2), (0, 1), (None, RECENTLY, LONG_AGO), (RECENTLY, LONG_AGO), (False, True)
    )
    for pending, in_flight, workers, delivered, stored, paused in cases:
        state, alarms = queue(
            ConsumerCounts(num_pending=pending, num_ack_pending=in_flight, num_waiting=workers),
            Activity(NOW, delivered_at=delivered or "", paused=paused),
            oldest={WORKER: MessageTime(1, stored)},
        )
        assert state in alarms or state in {WORKING, IDLE, NO_WORKER}
        assert {*alarms} <= {*STATES[STATES.index(state) :]}


def test_every_word_has_one_sentence() -> None:
    assert all(each.means.endswith(".") and (each.is_state or each.alarm) for each in Condition)
    assert len({each.means for each in Condition}) == len(Condition)
    assert [each for each in Condition if bool(each.remedy) != bool(each.alarm)] == []


def test_counted_redeliveries_are_in_flight_and_were_delivered_before() -> None:
    """The server's own number never forgets what was given up (2.10 to 2.15)."""
    given_up = (letter(1), letter(2), letter(2))
    for redelivered, in_flight, letters, again in (
        (2, 0, (), 0),
        (2, 5, (), 2),
        (2, 5, given_up, 0),
        (3, 5, given_up, 1),
        (1, 5, given_up, 0),
    ):
        _, found = seen(
            counts={WORKER: ConsumerCounts(num_redelivered=redelivered, num_ack_pending=in_flight)},
            letters=letters,
        )
        assert found.roles[0].queues[0].redelivered == again


def test_an_inbox_wants_no_worker_while_the_role_works_on_a_task() -> None:
    waiting = ConsumerCounts(num_pending=1)
    working = Activity(NOW, delivered_at=RECENTLY)
    _, busy = seen(
        counts={INBOX: waiting, WORKER: ConsumerCounts(num_ack_pending=1)}, activity={WORKER: working}
    )
    _, alone = seen(counts={INBOX: waiting})
    assert [found.roles[0].queues[1].state for found in (busy, alone)] == [WORKING, NO_WORKER]
    assert [found.roles[0].state for found in (busy, alone)] == [WORKING, NO_WORKER]


def test_backoff_counts_as_ack_wait_by_its_longest_step() -> None:
    manifest = MANIFEST + "consumers: {worker: {backoff: [1s, 48h], max_deliver: 3}}\n"
    counts: Counts = {WORKER: ConsumerCounts(num_ack_pending=1)}
    _, found = seen(manifest, counts, {WORKER: Activity(NOW, delivered_at=LONG_AGO)})
    assert found.alarms == ()


def test_a_stream_without_a_leader_is_an_alarm_and_so_is_its_queue() -> None:
    problem = Problem("missing", "listing the streams: AGENT_CTO_TASKS could not be read")
    _, found = seen(unread={TASKS: problem}, gone=(TASKS, WORKER))
    assert [alarm.code for alarm in found.alarms] == ["no-leader"]
    assert found.roles[0].state is Condition.NO_LEADER
    assert [stream.leader for stream in found.streams if stream.ref == TASKS] == [False]
    assert_fits("status", json_format.status(found))


def test_what_is_not_there_is_one_alarm() -> None:
    _, found = seen(gone=(TASKS, WORKER))
    assert [spoken(str(alarm)) for alarm in found.alarms] == [
        "missing: not on the server: AGENT_CTO_TASKS, AGENT_CTO_TASKS/cto-worker; see cyborg-infra plan"
    ]
    assert found.roles[0].state is Condition.MISSING


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
    oldest = {"oldest": {WORKER: MessageTime(first, LONG_AGO)}} if waiting else {}
    _, found = seen(manifest, counts, {WORKER: Activity(NOW, delivered_at=RECENTLY)}, **oldest)
    assert [alarm.code for alarm in found.alarms] == ["near-limit"] * alarms


def test_what_a_workqueue_gave_up_is_an_alarm() -> None:
    manifest = MANIFEST + "streams: {tasks: {retention: workqueue, discard: new, max_msgs: 5}}\n"
    _, found = seen(manifest, {TASKS: StreamCounts(messages=2, last_seq=2)}, given_up={TASKS: 2})
    assert [alarm.code for alarm in found.alarms] == ["given-up"]
    assert "2 of at most 5" in found.alarms[0].message


# Broadcasts


def answers(counts: ConsumerCounts, *seqs: int, at: str = LONG_AGO, **others: Any) -> list[BroadcastReceipt]:
    _, found = seen(
        counts={Ref("ORG_BROADCASTS", "cto-broadcast-reader"): counts},
        broadcasts=tuple(broadcast(seq, at) for seq in seqs),
        **others,
    )
    return [each.answers["cto"] for each in reversed(found.broadcasts)]


DONE, OPEN, GIVEN_UP, UNKNOWN = (
    BroadcastReceipt.ACKNOWLEDGED,
    BroadcastReceipt.OPEN,
    BroadcastReceipt.GIVEN_UP,
    BroadcastReceipt.UNKNOWN,
)


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
    delivered: int, floor: int, pending: int, redelivered: int, expected: list[BroadcastReceipt]
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
    half_a_second_later = RECENTLY.replace("Z", ".5Z")
    assert answers(counts, 1, 3, at=half_a_second_later, letters=(ADVISED,), letters_since=RECENTLY) == [
        DONE,
        DONE,
    ]


def test_a_broadcast_is_late_for_the_roles_that_have_not_acknowledged_it_in_time() -> None:
    everyone: Counts = {
        Ref("ORG_BROADCASTS", f"{role}-broadcast-reader"): ConsumerCounts(
            delivered_stream_seq=seq, ack_floor_stream_seq=seq
        )
        for role, seq in (("cto", 2), ("cso", 1), ("ceo", 0))
    }
    _, found = seen(counts=everyone, broadcasts=(broadcast(1, LONG_AGO), broadcast(2, NOW)))
    assert [spoken(str(alarm)) for alarm in found.alarms] == [
        "broadcast-ack: broadcast 1, 1d old, is not acknowledged by ceo"
    ]


def test_some_of_several_broadcasts_are_late_though_nobody_knows_which() -> None:
    counts = ConsumerCounts(num_ack_pending=1, delivered_stream_seq=2)
    reader = Ref("ORG_BROADCASTS", "cto-broadcast-reader")
    done = ConsumerCounts(delivered_stream_seq=2, ack_floor_stream_seq=2)
    others: Counts = {Ref("ORG_BROADCASTS", f"{role}-broadcast-reader"): done for role in ("cso", "ceo")}
    for second, expected in ((LONG_AGO, 1), (NOW, 0)):
        _, found = seen(
            counts={reader: counts, **others}, broadcasts=(broadcast(1, LONG_AGO), broadcast(2, second))
        )
        assert len(found.alarms) == expected


def test_a_broadcast_before_a_reader_that_starts_with_new_ones_is_not_for_it() -> None:
    manifest = MANIFEST + "consumers: {broadcast_reader: {deliver_policy: new}}\n"
    _, found = seen(manifest, broadcasts=(broadcast(1, "2025-12-31T00:00:00Z"),))
    assert [dict(each.answers) for each in found.broadcasts] == [{}]


# Formats


def busy() -> OrgStatus:
    """Return a little of everything."""
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
        oldest={WORKER: MessageTime(1, LONG_AGO)},
        broadcasts=(broadcast(1, LONG_AGO), broadcast(2, RECENTLY)),
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
    assert_fits("status", json_format.status(busy()))


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
    assert loads(manifest).alerts.of(LAG_THRESHOLD) == 7
    counts: Counts = {WORKER: ConsumerCounts(num_pending=7, num_waiting=1)}
    _, found = seen(manifest, counts)
    assert found.alarms == ()


LAYERED = """org: acme
roles:
  cto: {alerts: {lag: 20, broadcast_ack: 1h, dead_letters: {count: 3}}}
  cso: {alerts: {inbox: {lag: 40}}}
  ceo:
alerts: {lag: 7, inbox: {lag: 50}, dead_letters: {within: 2h}}
environments:
  big: {alerts: {tasks: {lag: 100}}, roles: {ceo: {alerts: {lag: 30}}}}
"""


@pytest.mark.parametrize(
    ("env", "name", "role", "queue", "threshold"),
    [
        (None, LAG_THRESHOLD, "", "", 7),
        (None, LAG_THRESHOLD, "ceo", "tasks", 7),
        (None, LAG_THRESHOLD, "ceo", "inbox", 50),
        (
            None,
            LAG_THRESHOLD,
            "cto",
            "inbox",
            20,
        ),  # what is said of a role wins over what is said of all inboxes
        (None, LAG_THRESHOLD, "cso", "inbox", 40),
        (None, LAG_THRESHOLD, "cso", "tasks", 7),
        ("big", LAG_THRESHOLD, "cto", "tasks", 100),  # an environment is laid over everything else
        ("big", LAG_THRESHOLD, "ceo", "inbox", 30),
        ("big", LAG_THRESHOLD, "cto", "inbox", 20),
        (None, BROADCAST_ACK, "cto", "", 3600 * 10**9),
        (None, BROADCAST_ACK, "cso", "", 300 * 10**9),
        (None, LETTERS, "cto", "", 3),
        (None, LETTERS_WITHIN, "cto", "", 7200 * 10**9),
        (None, LETTERS, "cso", "", 1),
    ],
)
def test_a_threshold_is_that_of_the_narrowest_place_in_the_last_layer_that_says_it(
    env: str | None, name: str, role: str, queue: str, threshold: int
) -> None:
    assert loads(LAYERED, env=env).alerts.of(name, role, queue) == threshold


def test_each_role_and_queue_is_held_to_its_own_thresholds() -> None:
    counts: Counts = {ref: ConsumerCounts(num_pending=21, num_waiting=1) for ref in (WORKER, INBOX)}
    manifest = MANIFEST.replace("cto,", "{name: cto, alerts: {lag: 20, inbox: {lag: 21}}},")
    _, found = seen(manifest, counts, oldest={ref: MessageTime(1, RECENTLY) for ref in counts})
    assert [spoken(str(alarm)) for alarm in found.alarms] == ["lag: cto: tasks: 21 waiting, more than 20"]
    assert [(queue.lag_threshold, queue.state) for queue in found.roles[0].queues] == [
        (20, LAG),
        (21, WORKING),
    ]
    everyone = {
        Ref("ORG_BROADCASTS", f"{role}-broadcast-reader"): ConsumerCounts() for role in ("cto", "cso", "ceo")
    }
    manifest = MANIFEST.replace("cso,", "{name: cso, alerts: {broadcast_ack: 2d, dead_letters: {count: 2}}},")
    _, found = seen(
        manifest, {**everyone}, broadcasts=(broadcast(1, LONG_AGO),), letters=(letter(1, "cso"), letter(1))
    )
    assert [spoken(str(alarm)) for alarm in found.alarms] == [
        "broadcast-ack: broadcast 1, 1d old, is not acknowledged by cto, ceo",
        CTO.format(1, ""),
    ]


@pytest.mark.parametrize(
    ("held", "fields", "alarms"),
    [
        (20, "admission: {max_pending: 20}", []),
        (20, "admission: {max_pending: 20}, max_bytes: 2KB", ["near-limit"]),  # that is no admission
        (20, "retention: workqueue, max_msgs: 20, discard: new", []),
        (20, "max_msgs: 20, discard: new", ["lag", "near-limit"]),
    ],
)
def test_a_role_with_as_much_as_it_is_admitted_is_no_alarm(held: int, fields: str, alarms: list[str]) -> None:
    manifest = f"{MANIFEST}streams: {{tasks: {{{fields}}}}}\n"
    counts: Counts = {
        TASKS: StreamCounts(messages=held, bytes=held * 100, last_seq=held),
        WORKER: ConsumerCounts(num_pending=held - 1, num_ack_pending=1),
    }
    _, found = seen(
        manifest,
        counts,
        {WORKER: Activity(NOW, delivered_at=RECENTLY)},
        oldest={WORKER: MessageTime(2, RECENTLY)},
    )
    assert [alarm.code for alarm in found.alarms] == alarms


def test_a_threshold_that_is_none_has_its_place() -> None:
    for value in ("{lag: -1}", "{lag: many}", "{broadcast_ack: soon}", "{broadcast_ack: 400y}"):
        with pytest.raises(ManifestInvalid) as refused:
            loads(MANIFEST + f"alerts: {value}\n")
        assert [problem.where.line for problem in refused.value.problems if problem.where] == [3]


def test_only_the_roles_that_are_asked_for_and_what_all_share() -> None:
    org = dataclasses.replace(loads(MANIFEST), roles=(Role("cto"), Role("cso")))
    found = make_status(org, expand(org), StatusReadings(LiveState(), now=NOW), org.alerts, ("cso",))
    assert [role.name for role in found.roles] == ["cso"]
    assert {str(stream.ref) for stream in found.streams} == {
        "AGENT_CSO_TASKS", "AGENT_INBOXES", "ORG_BROADCASTS", "DEAD_LETTERS",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("applying", "who"),
    [
        ("me@here since noon", "is under way, by me@here since noon"),
        ("", "was interrupted; cyborg-infra apply goes on"),
        (None, "is under way, or was interrupted; then cyborg-infra apply goes on"),
    ],
)
def test_a_change_that_is_not_finished_is_one_alarm_with_all_that_it_has_left(
    applying: str | None, who: str
) -> None:
    org = loads(MANIFEST)
    desired = expand(org)
    parked = {"subjects": ["_parked.AGENT_CTO_TASKS"]}
    position = Ref("AGENT_CTO_TASKS", "cyborg-infra-placeholder-cto-worker")
    owned = {"metadata": {"cyborg-infra.org": "acme"}}
    changed = {
        TASKS: LiveResource(TASKS, {**desired.resources[TASKS].config, **parked}, counts=StreamCounts()),
        position: LiveResource(position, owned, counts=ConsumerCounts()),
        Ref("cyborg-infra-temporary-X"): LiveResource(
            Ref("cyborg-infra-temporary-X"),
            {"metadata": {"cyborg-infra.org": "another", "cyborg-infra.becomes": "X"}},
            counts=StreamCounts(),
        ),
    }
    live = LiveState({**all_as_live(desired), **changed}, ServerInfo(Version(2, 15, 1), 5))
    found = make_status(org, desired, StatusReadings(live, now=NOW, applying=applying), org.alerts)
    assert [spoken(str(alarm)) for alarm in found.alarms] == [
        f"unfinished: a change {who}. Parked, publishers are refused: AGENT_CTO_TASKS; Keeping a position: {position}"
    ]
    assert_fits("status", json_format.status(found))
    samples = {
        (family.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(prometheus.status(found))
        for sample in family.samples
    }
    assert samples["cyborg_infra_unfinished", ("acme", "parked")] == 1
    assert samples["cyborg_infra_unfinished", ("acme", "moving")] == 0
    assert samples["cyborg_infra_alarms", ("acme", "unfinished")] == 1


def test_what_a_killed_verify_has_left_is_a_note() -> None:
    org = loads(MANIFEST)
    desired = expand(org)
    copies = {
        Ref(f"VERIFY_{token}_X"): LiveResource(
            Ref(f"VERIFY_{token}_X"),
            {"metadata": {"cyborg-infra.org": f"acme-verify-{token}"}},
            counts=StreamCounts(),
            created=created,
        )
        for token, created in (("0a0a0a", LONG_AGO), ("0b0b0b", RECENTLY))
    }
    live = LiveState({**all_as_live(desired), **copies}, ServerInfo(Version(2, 15, 1), 5))
    (note,) = make_status(org, desired, StatusReadings(live, now=NOW), org.alerts).notes
    assert note.startswith("a verify that was killed has left acme-verify-0a0a0a; ")


def letter(number: int, role: str = "cto", at: str = RECENTLY, *, kept: bool = False) -> StoredMessage:
    """Return a notice of a task of this role, or what `dlq keep` has made of it."""
    stream, consumer = f"AGENT_{role.upper()}_TASKS", f"{role}-worker"
    if kept:
        headers = ((STREAM_HEADER, stream), (SEQUENCE_HEADER, str(number)), (CONSUMER_HEADER, consumer))
        return StoredMessage("acme.org.deadletter", number, at, b"{}", headers)
    notice = {"type": "max_deliver", "stream": stream, "consumer": consumer, "stream_seq": number}
    subject = f"acme.org.deadletter.{stream}.{consumer}"
    return StoredMessage(subject, number, at, json.dumps({**notice, "timestamp": at}).encode())


def alarmed(
    manifest: str, *letters: StoredMessage, since: str = "", unread: Mapping[str, int] = MappingProxyType({})
) -> list[str]:
    _, found = seen(MANIFEST + manifest, letters=letters, letters_since=since, letters_unread=unread)
    return [spoken(str(alarm)) for alarm in found.alarms]


CTO = "dead-letters: cto: {} dead letter{}, the newest 1m old; see cyborg-infra dlq list --role cto"


def test_a_dead_letter_that_nobody_has_handled_is_an_alarm_of_its_role() -> None:
    assert alarmed("", letter(1)) == [CTO.format(1, "")]
    assert alarmed("", letter(1, kept=True)) == [CTO.format(1, "")]  # cron keeps, and so does an apply
    assert alarmed("", letter(3), letter(2, "cso"), letter(1)) == [
        CTO.format(2, "s").replace("cto", "cso").replace("2 dead letters", "1 dead letter"),
        CTO.format(2, "s"),
    ]
    assert alarmed("", letter(2), letter(2), letter(1), since=LONG_AGO) == [CTO.format(2, "s or more")]
    given_up = StoredMessage("acme.org.deadletter", 1, RECENTLY, b'{"reason": "no"}')
    assert alarmed("", given_up) == [
        "dead-letters: no role: 1 dead letter, the newest 1m old; see cyborg-infra dlq list"
    ]


def test_how_many_dead_letters_are_too_many_and_since_when_the_manifest_says() -> None:
    two = "alerts: {dead_letters: {count: 2}}\n"
    assert alarmed(two, letter(1)) == []
    assert alarmed(two, letter(2), letter(1)) == [CTO.format(2, "s")]
    hour = "alerts: {dead_letters: {within: 1h}}\n"
    assert alarmed(hour, letter(1, at=LONG_AGO)) == []
    assert alarmed(hour, letter(2), letter(1, at=LONG_AGO)) == [CTO.format(1, "")]
    others = {letter(2).subject: 1, "acme.org.deadletter": 9}
    assert alarmed(two, letter(2), since=LONG_AGO, unread=others) == [CTO.format(2, "s or more")]
    assert alarmed(hour, letter(2), since=LONG_AGO, unread=others) == [CTO.format(1, " or more")]
    assert alarmed("alerts: {dead_letters: {count: 0}}\n", letter(1)) == []
    overlaid = loads(
        MANIFEST + "alerts: {dead_letters: {count: 2}}\nenvironments: {big: {alerts: {lag: 9}}}\n", env="big"
    )
    assert (overlaid.alerts.of(LAG_THRESHOLD), overlaid.alerts.of(LETTERS)) == (9, 2)
    for value in ("{count: -1}", "{count: 51}", "{within: soon}", "3"):
        with pytest.raises(ManifestInvalid) as refused:
            loads(MANIFEST + f"alerts: {{dead_letters: {value}}}\n")
        assert [problem.where.line for problem in refused.value.problems if problem.where] == [3]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("backend", "it is called core now"),
        ("croe", "did you mean core?"),
        ("cores", "it is a group: name one of its roles, core, cto"),
        ("x", "roles: core, cto"),
        ("", "roles: core, cto"),
    ],
)
def test_a_role_that_is_not_there_is_told_with_the_one_that_is(name: str, hint: str) -> None:
    org = loads("org: acme\nroles: {core: {renamed_from: backend}, cto: }\ngroups: {cores: [core, cto]}\n")
    require_role(org, "core")
    with pytest.raises(UsageInvalid) as refused:
        require_role(org, name)
    assert refused.value.problems[0].hint == hint


def test_copies_that_are_not_current_are_one_alarm_for_each_server() -> None:
    gone = Copy("n2", silent=42 * 10**9)
    _, found = seen(behind={TASKS: (gone,), WORKER: (gone, Copy("n1", offline=True)), INBOX: (Copy(""),)})
    assert [spoken(str(alarm)) for alarm in found.alarms] == [
        "replicas: no server has all copies of 1 consumer: AGENT_INBOXES/cto-inbox-reader",
        "replicas: server n1 is offline: its copies of 1 consumer: AGENT_CTO_TASKS/cto-worker",
        (
            "replicas: server n2 is behind, and has not been heard of for 42s: "
            "its copies of 1 stream and of 1 consumer: AGENT_CTO_TASKS"
        ),
    ]
    assert [stream.replicas_behind for stream in found.streams if stream.ref == TASKS] == [1]
    assert_fits("status", json_format.status(found))


@pytest.mark.parametrize(
    ("copy", "electing", "says"),
    [
        (Copy("n2", offline=True), False, "its copies of 1 stream: "),
        (Copy("n2", silent=13 * 10**9), False, "its copies of 1 stream: "),
        (Copy("n2", silent=11 * 10**9), False, "its copies of at least 1 stream: "),
        (Copy("n2", silent=4 * 10**6), False, "its copies of 1 stream: "),  # it is there, and catches up
        (Copy("n2", silent=4 * 10**9), False, "its copies of at least 1 stream: "),  # who led before calls others current
        (Copy("n2"), False, "its copies of at least 1 stream: "),  # a new leader has not heard of it
        (Copy("n2", offline=True), True, "its copies of at least 1 stream: "),
    ],
)  # fmt: skip
def test_as_long_as_leaders_do_not_agree_a_number_of_copies_is_a_least(
    copy: Copy, *, electing: bool, says: str
) -> None:
    unread = {INBOX: Problem("missing", f"{INBOX} could not be read: nobody holds it")} if electing else {}
    _, found = seen(behind={TASKS: (copy,)}, unread=unread, gone=tuple(unread))
    (alarm,) = [alarm for alarm in found.alarms if alarm.code == "replicas"]
    assert says in alarm.message


def test_what_has_no_leader_for_the_same_reason_is_one_alarm() -> None:
    why = {TASKS: "an election", WORKER: "an election", INBOX: "its only copy is on n2, which is down"}
    unread = {ref: Problem("missing", f"{ref} could not be read: {reason}") for ref, reason in why.items()}
    _, found = seen(unread=unread, gone=tuple(unread))
    assert [str(alarm) for alarm in found.alarms] == [
        f"no-leader: {TASKS}, {WORKER}: an election",
        f"no-leader: {INBOX}: its only copy is on n2, which is down",
    ]


@pytest.mark.parametrize(
    ("more", "alarms"),
    [
        ("alerts: {lag: 3}\n", []),  # of all queues: a role that is full as declared is none of these
        ("environments: {big: {alerts: {lag: 3}}}\n", []),
        ("alerts: {tasks: {lag: 3}}\n", ["lag"]),
        ("alerts: {lag: 3}\nenvironments: {big: {roles: {cto: {alerts: {lag: 18}}}}}\n", ["lag"]),
        ("environments: {big: {roles: {cto: {alerts: {tasks: {lag: 19}}}}}}\n", []),
    ],
)
def test_a_lag_for_all_is_not_below_what_a_role_is_admitted(more: str, alarms: list[str]) -> None:
    full = StreamCounts(messages=20, bytes=2000, last_seq=20)
    waiting = ConsumerCounts(num_pending=19, num_ack_pending=1)
    manifest = f"{MANIFEST}streams: {{tasks: {{admission: {{max_pending: 20}}}}}}\n{more}"
    _, found = seen(
        manifest + ("" if "environments" in more else "environments: {big: {}}\n"),
        {TASKS: full, WORKER: waiting},
        {WORKER: Activity(NOW, delivered_at=RECENTLY)},
        oldest={WORKER: MessageTime(2, RECENTLY)},
        env="big",
    )
    assert [alarm.code for alarm in found.alarms] == alarms


def test_a_consumer_ahead_of_its_stream_is_an_alarm_whatever_it_reads() -> None:
    reader = Ref("DEAD_LETTERS", "dead-letter-alerts")
    counts: Counts = {ref: ConsumerCounts(delivered_stream_seq=13) for ref in (WORKER, reader)}
    _, found = seen(counts=counts, ahead={WORKER: 5, reader: 0})
    assert [alarm.code for alarm in found.alarms] == ["ahead", "ahead"]
    assert found.roles[0].queues[0].state is Condition.AHEAD
    assert "it has got to 13, and its stream, which has lost messages, ends at 5" in found.alarms[0].message
