"""The metrics of a status and of the monitor, one table each; and a status in Prometheus' text exposition format, for a textfile collector.

Ages in seconds; what is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cyborg_infra.model.changes import Action
from cyborg_infra.model.monitor import Attempts, Observation
from cyborg_infra.model.resources import Unfinished
from cyborg_infra.model.status import (
    ALARMS,
    MONITOR_ALARMS,
    STATES,
    Alarm,
    BroadcastReceipt,
    Condition,
    OrgStatus,
)
from cyborg_infra.model.units import SECOND

Samples = Iterator[tuple[Mapping[str, str], float | None]]
"""The labels of each sample, besides that of the organisation, and its value."""

PREFIX = "cyborg_infra_"
"""What the name of every metric begins with."""


Metric = tuple[str, Samples]
"""What it means, and its samples; a counter if its name ends with `_total`, else a gauge."""


def status(status: OrgStatus) -> str:
    """Return all metrics, each with its HELP and TYPE; every sample has the label org."""
    rows: list[str] = []
    for name, (meaning, samples) in status_metrics(status).items():
        rows += [f"# HELP {PREFIX}{name} {meaning}", f"# TYPE {PREFIX}{name} gauge"]
        for labels, value in samples:
            if value is not None:
                rows.append(f"{PREFIX}{name}{{{_labels({'org': status.org, **labels})}}} {value!r}")
    return "\n".join(rows) + "\n"


def observation_metrics(observation: Observation, now: float) -> dict[str, Metric]:
    """Return the metrics of the monitor, and those of its status as long as it has one; `now` in unix seconds."""
    drift = observation.drift
    of_monitor: dict[str, Metric] = {
        "up": (
            "1 if the newest reading of the account succeeded; 0 before the first one, and if it failed.",
            iter([({}, int(observation.status is not None))]),
        ),
        "reading_age_seconds": (
            "Time since the last reading that succeeded.",
            iter([({}, None if observation.read_at is None else max(0.0, now - observation.read_at))]),
        ),
        "reading_duration_seconds": (
            "How long the last reading that succeeded took.",
            iter([({}, observation.read_seconds)]),
        ),
        "readings_total": (
            "Readings of the account since the monitor began, by result.",
            _attempts(observation.readings),
        ),
        "plans_total": ("Plans since the monitor began, by result.", _attempts(observation.plans)),
        "plan_age_seconds": (
            "Time since the plan that drift and pending changes are of.",
            iter([({}, max(0.0, now - drift.checked_at) if drift else None)]),
        ),
        "drift_changes": (
            "Changes that it takes to undo what somebody has changed on the server, by action.",
            _by_action(drift.drifted if drift else {}),
        ),
        "pending_changes": (
            "Changes that the manifest wants and nobody has applied, by action.",
            _by_action(drift.pending if drift else {}),
        ),
        "plan_orphans": (
            "Streams and consumers that the organisation owns and its manifest no longer has.",
            iter([({}, drift.orphans if drift else None)]),
        ),
        "plan_hazards": (
            "What the changes of the plan may cost, counted by hazard and change.",
            iter([({}, drift.hazards if drift else None)]),
        ),
        "last_applied_timestamp_seconds": (
            "When the organisation was last applied, by the server's clock.",
            iter([({}, drift.applied_at if drift else None)]),
        ),
        "notifications_total": (
            "Tries to deliver a message since the monitor began, by receiver and result; one that failed is tried again.",
            _deliveries(observation),
        ),
        "notifications_waiting": (
            "Messages that wait for a receiver.",
            (({"receiver": each.name}, each.waiting) for each in observation.receivers),
        ),
    }
    of_status = status_metrics(observation.status) if observation.status else {}
    alarms = _alarms(observation.alarms, (*ALARMS, *MONITOR_ALARMS), observation.told)
    return of_monitor | of_status | {"alarms": (f"{_ALARMS_MEAN} {_meanings(MONITOR_ALARMS)}", alarms)}


def _deliveries(seen: Observation) -> Samples:
    for each in seen.receivers:
        yield {"receiver": each.name, "result": "done"}, each.delivered
        yield {"receiver": each.name, "result": "failed"}, each.failed


def _attempts(attempts: Attempts) -> Samples:
    return iter([({"result": "done"}, attempts.done), ({"result": "failed"}, attempts.failed)])


def _by_action(counts: Mapping[Action, int]) -> Samples:
    return (({"action": action.value}, number) for action, number in counts.items())


def _alarms(
    alarms: Iterable[Alarm], codes: Iterable[Condition], known_codes: frozenset[Condition] | None = None
) -> Samples:
    """Yield the number of alarms for each code; None if nobody can know it."""
    found = list(alarms)
    for code in codes:
        known = known_codes is None or code in known_codes
        yield {"code": code.value}, sum(alarm.code is code for alarm in found) if known else None


def status_metrics(status: OrgStatus) -> dict[str, Metric]:
    """Return the metrics of a status by their names, which have no prefix here."""
    return {
        "queue_waiting": ("Messages stored and not delivered yet.", _queues(status, "waiting")),
        "queue_lag_threshold": (
            "More than so many waiting are an alarm (alerts.lag for this queue).",
            _queues(status, "lag_threshold"),
        ),
        "queue_in_flight": ("Messages delivered and not acknowledged.", _queues(status, "in_flight")),
        "queue_expired": (
            "Messages in flight for longer than ack_wait while nobody pulls.",
            _queues(status, "expired"),
        ),
        "queue_redelivered": (
            "Messages in flight that were delivered before.",
            _queues(status, "redelivered"),
        ),
        "queue_workers": ("Pull requests that wait for a message.", _queues(status, "workers")),
        "queue_paused": ("1 while the consumer is paused.", _queues(status, "paused")),
        "queue_oldest_waiting_seconds": (
            "Age of the oldest message that waits.",
            _queues(status, "oldest_waiting", SECOND),
        ),
        "queue_last_activity_seconds": (
            "Time since the last delivery, progress or acknowledgement.",
            _queues(status, "last_activity", SECOND),
        ),
        "queue_state": (f"1 for the state that the queue is in. {_meanings(STATES)}", _states(status)),
        "broadcasts_unacknowledged": (
            "Broadcasts among the newest that a role has not acknowledged in time.",
            _unacknowledged(status),
        ),
        "dead_letters": ("Messages in the dead letter stream.", iter([({}, status.dead_letters.count)])),
        "dead_letter_newest_seconds": (
            "Age of the newest dead letter.",
            iter([({}, _seconds(status.dead_letters.newest_age))]),
        ),
        "stream_messages": ("Messages in the stream.", _streams(status, "messages")),
        "stream_bytes": ("Bytes in the stream.", _streams(status, "bytes")),
        "stream_given_up": (
            "Messages of a workqueue that used up their deliveries and keep their place.",
            _streams(status, "given_up"),
        ),
        "stream_leader": ("0 while the stream has no leader.", _streams(status, "leader")),
        "stream_replicas": ("Copies of the stream that there shall be.", _streams(status, "replicas")),
        "stream_replicas_behind": (
            "Copies of the stream that are offline or not current.",
            _streams(status, "replicas_behind"),
        ),
        "server_copies_behind": (
            "Streams and consumers of which this server's copy is offline or not current.",
            (({"server": server}, len(refs)) for server, refs in status.behind.items()),
        ),
        "stream_fill_ratio": (
            "Share of the nearest limit that is used.",
            (
                ({"stream": str(stream.ref), "limit": stream.fill.limit}, stream.fill.share)
                for stream in status.streams
                if stream.fill
            ),
        ),
        "stream_unread_ratio": (
            "The same for what a consumer has still to read: at 1 it is deleted unread.",
            (
                ({"stream": str(stream.ref), "consumer": stream.unread.reader}, stream.unread.share)
                for stream in status.streams
                if stream.unread
            ),
        ),
        "unfinished": (
            "Streams and consumers that a change under way, or an interrupted one, has left so far.",
            (
                ({"what": what.value}, sum(found is what for found in status.unfinished.values()))
                for what in Unfinished
            ),
        ),
        "alarms": (_ALARMS_MEAN, _alarms(status.alarms, ALARMS)),
    }


def _meanings(conditions: Iterable[Condition]) -> str:
    return " ".join(f"{each}: {each.means}" for each in conditions)


_ALARMS_MEAN = f"How many alarms there are, by code. {_meanings(ALARMS)}"


def _queues(status: OrgStatus, field: str, unit: int = 1) -> Samples:
    for role in status.roles:
        for queue in role.queues:
            value = getattr(queue, field)
            labels = {"role": role.name, "queue": queue.channel}
            yield labels, None if value is None else value / unit if unit > 1 else int(value)


def _states(status: OrgStatus) -> Samples:
    for role in status.roles:
        for queue in role.queues:
            for state in STATES:
                labels = {"role": role.name, "queue": queue.channel, "state": state.value}
                yield labels, int(queue.state is state)


def _unacknowledged(status: OrgStatus) -> Samples:
    for role in status.roles:
        late = [found for found in status.broadcasts if role.name in found.late(status.alerts)]
        yield (
            {"role": role.name},
            sum(
                found.answers[role.name] in (BroadcastReceipt.OPEN, BroadcastReceipt.GIVEN_UP)
                for found in late
            ),
        )


def _streams(status: OrgStatus, field: str) -> Samples:
    for stream in status.streams:
        value = getattr(stream, field)
        yield {"stream": str(stream.ref)}, None if value is None else int(value)


def _seconds(age: int | None) -> float | None:
    return None if age is None else age / SECOND


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
