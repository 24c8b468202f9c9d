"""Alert rules for Prometheus, from `alerts:` of the manifest, on the metrics of whoever is asked.

`status` judges by itself and has one metric with all alarms. The exporters of NATS have numbers alone: rules compare them with the
thresholds, and what cannot be told from them is a gap. The names are those that prometheus-nats-exporter and nats-surveyor emit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.export.exported import Export, ExportInput, Setting, head, kubernetes_name, promql_string
from cyborg_infra.export.yaml_text import yaml_text
from cyborg_infra.model.channels import ConsumerKind, StreamKind, queues
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import LAG, LETTERS, LETTERS_WITHIN
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.status import ALARMS, CRITICAL, MONITOR_ALARMS, NEAR_LIMIT_SHARE, Condition
from cyborg_infra.model.units import SECOND
from cyborg_infra.model.valueclass import NamedTuple

OURS, EXPORTER, SURVEYOR = "cyborg-infra", "nats-exporter", "surveyor"
SETTINGS: Mapping[str, Setting] = {
    "metrics": Setting(OURS, "whose metrics the rules are for", (OURS, EXPORTER, SURVEYOR)),
    "prefix": Setting(
        "jetstream", "what prometheus-nats-exporter's metrics begin with: nats in the Helm chart"
    ),
    "kind": Setting(
        "rules", "a file of rules, or the object of the Prometheus operator", ("rules", "PrometheusRule")
    ),
    "docs": Setting("https://github.com/genbrain/cyborg-infra/blob/main/docs", "where the runbooks are"),
}

FILE = "alerts.yaml"
RUNBOOK = "how-to/watch-it.md#from-cron"

_SETTLED = "1m"
"""How long it has to last: a look in the middle of a change is no alarm."""
_STALE_SECONDS = 600


class Rule(NamedTuple):
    """One alert: the condition that it tells, what holds then, how long it has to hold, and what is said."""

    condition: str
    expr: str
    lasting: str
    summary: str
    threshold: str = ""  # what tells it from another of the same condition


def write(given: ExportInput) -> Export:
    """Return one file of rules."""
    gaps: Sequence[str] = ()
    if given.settings["metrics"] == OURS:
        rules = list(_own_rules(given.org.name))
    else:
        rules, gaps = list(_exporter_rules(given)), _BEYOND_EXPORTERS
    group = {"name": f"cyborg-infra {given.org.name}", "rules": [_rule(given, rule) for rule in rules]}
    document: dict[str, Any] = {"groups": [group]}
    if given.settings["kind"] == "PrometheusRule":
        document = {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": kubernetes_name(f"cyborg-infra-{given.org.name}")},
            "spec": document,
        }
    return Export({FILE: head(given, gaps) + yaml_text([document]).removeprefix("---\n")}, gaps)


def _rule(given: ExportInput, rule: Rule) -> dict[str, Any]:
    critical = rule.condition in {condition.value for condition in CRITICAL}
    return {
        "alert": "CyborgInfra" + "".join(word.title() for word in rule.condition.split("-")),
        "expr": rule.expr,
        "for": rule.lasting,
        "labels": {
            "severity": "critical" if critical else "warning",
            "org": given.org.name,
            **({"threshold": rule.threshold} if rule.threshold else {}),
        },
        "annotations": {
            "summary": f"{given.org.name}: {rule.summary}",
            "runbook_url": f"{given.settings['docs'].rstrip('/')}/{RUNBOOK}",
        },
    }


def _own_rules(org: str) -> Iterator[Rule]:
    """Yield a rule for each alarm of `status` and of the monitor, and one that fires when neither writes metrics any more.

    They are the same for a textfile and for a monitor: what only the other one has never fires.
    """
    for alarm in (*ALARMS, *MONITOR_ALARMS):
        matchers = f"org={promql_string(org)},code={promql_string(alarm.value)}"
        yield Rule(
            alarm.value, f"cyborg_infra_alarms{{{matchers}}} > 0", _SETTLED, alarm.means.replace("`", "")
        )
    file = promql_string(f"(.*/)?{_escaped(org)}[.]prom")
    yield Rule(
        "status-stale",
        f"time() - node_textfile_mtime_seconds{{file=~{file}}} > {_STALE_SECONDS}",
        _SETTLED,
        "the status has not been written for ten minutes; the server may be out of reach.",
    )
    yield Rule(
        "status-missing",
        f"absent(cyborg_infra_alarms{{org={promql_string(org)}}})",
        f"{_STALE_SECONDS}s",
        "there is no status of it: neither a file nor a monitor that answers.",
    )
    yield Rule(
        "monitor-stale",
        f"cyborg_infra_reading_age_seconds{{org={promql_string(org)}}} > {_STALE_SECONDS}",
        _SETTLED,
        "the monitor answers, and has not read the account for ten minutes.",
    )


_BEYOND_EXPORTERS = (
    "no-leader: who leads a stream is a label of theirs, and no number",
    "expired, stuck: the exporters do not tell when a consumer was last busy with work that says that it goes on",
    "broadcast-ack: they have no ages of messages",
    "dead-letters of one role, and of whom a dead letter is: they count all of the stream",
    "given-up, unmatched-subject, unfinished, paused, ahead, replicas: they do not tell",
    "unreadable, drift, notification: only a monitor knows the manifest, and whom it tells",
    "near-limit of streams that delete the oldest: whether somebody has still to read it is not told",
)


class _Metrics(NamedTuple):
    """How an exporter calls what rules ask.

    Each replica may have told it, and the leader changes: so the greatest is taken, whichever server said it. What no more
    than a leader knows, such as who pulls, is 0 of the others.
    """

    prefix: str
    stream: str  # the label with the stream's name

    def consumer(self, metric: str, streams: Iterable[str], consumers: Iterable[str]) -> str:
        named = f"{self.stream}=~{_any_of(streams)},consumer_name=~{_any_of(consumers)}"
        return f"max by (account, {self.stream}, consumer_name) ({self.prefix}_consumer_{metric}{{{named}}})"

    def of_stream(self, metric: str, streams: Iterable[str], behind: str = "") -> str:
        named = f"{self.prefix}_stream_{metric}{{{self.stream}=~{_any_of(streams)}}}"
        return f"max by (account, {self.stream}) ({named}{behind})"


def _exporter_rules(given: ExportInput) -> Iterator[Rule]:
    surveyor = given.settings["metrics"] == SURVEYOR
    metrics = _Metrics("nats", "stream") if surveyor else _Metrics(given.settings["prefix"], "stream_name")
    consumers = given.state.consumers()
    yield _missing(metrics, consumers)
    kinds = queues(given.org.channels)
    of_queue = [
        (consumer, (consumer.role, kinds[kind]))
        for consumer in consumers
        if consumer.role and (kind := ConsumerKind(consumer.metadata.get(KIND_KEY, ""))) in kinds
    ]
    by_threshold = _grouped((given.alerts.of(LAG, *queue), consumer) for consumer, queue in of_queue)
    for threshold, group in by_threshold:
        expr = f"{metrics.consumer('num_pending', *_names(group))} > {threshold}"
        yield Rule(
            Condition.LAG.value,
            expr,
            _SETTLED,
            f"more than {threshold} messages wait in {{{{ $labels.consumer_name }}}}.",
            str(threshold),
        )
    by_wait = _grouped((consumer.get("ack_wait") // SECOND, consumer) for consumer, _ in of_queue)
    for seconds, group in by_wait:
        waits, works, pulls = (
            metrics.consumer(name, *_names(group))
            for name in ("num_pending", "num_ack_pending", "num_waiting")
        )
        yield Rule(
            Condition.NO_WORKER.value,
            f"{waits} > 0 and {works} == 0 and {pulls} == 0",
            f"{max(seconds, 1)}s",
            "messages wait for {{ $labels.consumer_name }}, and nobody pulls.",
            f"{seconds}s",
        )
    yield from _dead_letters(given, metrics)
    yield from _near_limits(given, metrics)


def _missing(metrics: _Metrics, consumers: Sequence[Resource]) -> Rule:
    """Return one rule for all: how many of the manifest's consumers there are."""
    every = metrics.consumer("num_pending", *_names(consumers))
    return Rule(
        Condition.MISSING.value,
        f"(count({every}) or vector(0)) < {len(consumers)}",
        "5m",
        f"of its {len(consumers)} consumers some are not there, or are not watched.",
    )


def _dead_letters(given: ExportInput, metrics: _Metrics) -> Iterator[Rule]:
    letters = [
        stream.ref.name
        for stream in given.state.streams()
        if stream.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS
    ]
    count, within = given.alerts.of(LETTERS), given.alerts.of(LETTERS_WITHIN) // SECOND
    if not letters or not count:
        return
    now = metrics.of_stream("total_messages", letters)
    if within:
        last = metrics.of_stream("last_seq", letters)
        now = f"{last} - {metrics.of_stream('last_seq', letters, f' offset {within}s')}"
    yield Rule(Condition.DEAD_LETTERS.value, f"{now} >= {count}", "0s", "there are dead letters.")


def _near_limits(given: ExportInput, metrics: _Metrics) -> Iterator[Rule]:
    """Yield rules for streams that refuse what is too much; not for tasks that are full by declaration."""
    full = {role for role, _ in given.alerts.admitted}
    streams = [
        stream
        for stream in given.state.streams()
        if stream.get("discard") == "new"
        and not (stream.role in full and stream.metadata.get(KIND_KEY) == StreamKind.TASKS)
    ]
    for field, metric in (("max_bytes", "total_bytes"), ("max_msgs", "total_messages")):
        for limit, group in _grouped(
            (stream.get(field), stream) for stream in streams if stream.get(field) > 0
        ):
            used = metrics.of_stream(metric, sorted({stream.ref.stream for stream in group}))
            yield Rule(
                Condition.NEAR_LIMIT.value,
                f"{used} >= {int(limit * NEAR_LIMIT_SHARE)}",
                _SETTLED,
                f"{{{{ $labels.{metrics.stream} }}}} is nearly at its {field}, and then refuses what is published.",
                f"{field} {limit}",
            )


def _grouped(rows: Iterable[tuple[int, Resource]]) -> Sequence[tuple[int, list[Resource]]]:
    """Return (number, the resources with it), sorted by number."""
    found: dict[int, list[Resource]] = {}
    for number, resource in rows:
        found.setdefault(number, []).append(resource)
    return sorted(found.items())


def _names(consumers: Iterable[Resource]) -> tuple[list[str], list[str]]:
    refs = [consumer.ref for consumer in consumers]
    return sorted({ref.stream for ref in refs}), sorted({ref.consumer for ref in refs})


def _any_of(names: Iterable[str]) -> str:
    return promql_string("|".join(map(_escaped, names)))


def _escaped(name: str) -> str:
    """Return the name as a regular expression that matches it alone. Special characters stand in brackets, which need no backslash."""
    return re.sub(
        r"[.+*?()|{}\[\]^$\\]", lambda found: "\\\\" if found[0] == "\\" else f"[{found[0]}]", name
    ).replace("[^]", "\\^")
