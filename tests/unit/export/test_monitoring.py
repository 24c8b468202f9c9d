"""Alert rules and the dashboard: thresholds are the manifest's, and every metric is one that somebody emits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cyborg_infra.export.alerts import EXPORTER, OURS, SURVEYOR
from cyborg_infra.model.monitor import Observation
from cyborg_infra.model.organisation import Alerts
from cyborg_infra.model.status import ALARMS, MONITOR_ALARMS, DeadLetterSummary, OrgStatus
from cyborg_infra.render import prometheus
from tests.support.exports import exported

MANIFEST = """
org: acme
roles: {cto: {alerts: {inbox: {lag: 50}}}, backend: {tasks: {admission: {max_pending: 9}}, worker: {ack_wait: 20m}}}
alerts: {lag: 7, dead_letters: {count: 3, within: 1h}}
key_value: {drafts: {max_bytes: 1MB}}
"""
EMITTED = json.loads((Path(__file__).parents[2] / "cases/exporters.json").read_bytes())
"""What prometheus-nats-exporter 0.20.1 (with -jsz=all) and nats-surveyor 0.9.9 (with --jsz all) said of a cluster of 2.15.1."""


METRIC = re.compile(r"\b((?:cyborg_infra|jetstream|nats|node)_\w+)\{")
SELECTOR = re.compile(r"max by \((?P<by>[^)]+)\) \((?P<name>\w+)\{(?P<inside>[^}]*)\}")


def rules(**settings: str) -> list[dict[str, Any]]:
    found = yaml.safe_load(exported("alerts", MANIFEST, **settings).files["alerts.yaml"])
    ((group,),) = [(found.get("spec") or found)["groups"]]
    return list(group["rules"])


def metrics(expression: str) -> set[str]:
    return {*METRIC.findall(expression)}


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        ({"metrics": EXPORTER}, "jetstream"),
        ({"metrics": EXPORTER, "prefix": "nats"}, "nats"),
        ({"metrics": SURVEYOR}, "nats"),
    ],
)
def test_rules_for_exporters_ask_what_they_emit_with_the_manifest_s_thresholds(
    settings: dict[str, str], prefix: str
) -> None:
    found = rules(**settings)
    selectors = [asked for rule in found for asked in SELECTOR.findall(rule["expr"])]
    assert len(selectors) == sum(len(METRIC.findall(rule["expr"])) for rule in found)
    for by, name, inside in selectors:
        emitted = EMITTED[settings["metrics"]][name.split("_")[1]]
        assert name.removeprefix(f"{prefix}_").split("_", 1)[1] in emitted["metrics"]
        assert {*re.findall(r"(\w+)=", inside), *by.split(", ")} <= {*emitted["labels"]}
    lag = {rule["labels"]["threshold"]: rule["expr"] for rule in found if rule["alert"] == "CyborgInfraLag"}
    assert lag.keys() == {"7", "9", "50"}  # full by declaration is no lag
    assert "backend-worker" in lag["9"]
    assert "cto-inbox-reader" in lag["50"]
    waits = {rule["for"]: rule["expr"] for rule in found if rule["alert"] == "CyborgInfraNoWorker"}
    assert "backend-worker" in waits["1200s"]
    (letters,) = [rule["expr"] for rule in found if rule["alert"] == "CyborgInfraDeadLetters"]
    assert letters.endswith(" offset 3600s) >= 3")
    (limit,) = [rule for rule in found if rule["alert"] == "CyborgInfraNearLimit"]
    assert limit["expr"].endswith(f" >= {int(1024 * 1024 * 0.9)}")
    assert "KV_drafts" in limit["expr"]
    label = "stream" if settings["metrics"] == SURVEYOR else "stream_name"
    assert all(f"{label}=~" in rule["expr"] for rule in found)


def test_our_own_rules_are_one_for_each_alarm_and_what_exporters_cannot_tell_is_a_gap() -> None:
    found = rules()
    codes = {code for rule in found for code in re.findall(r'code="([^"]+)"', rule["expr"])}
    assert codes == {alarm.value for alarm in (*ALARMS, *MONITOR_ALARMS)}
    assert exported("alerts", MANIFEST).gaps == ()
    made = exported("alerts", MANIFEST, metrics=SURVEYOR)
    told = {rule["alert"].removeprefix("CyborgInfra") for rule in rules(metrics=SURVEYOR)}
    gaps = {word for gap in made.gaps for word in gap.partition(":")[0].split(", ")}
    for alarm in (*ALARMS, *MONITOR_ALARMS):
        assert ("".join(alarm.value.title().split("-")) in told) != (alarm.value in gaps), alarm
    assert all(f"# - {gap}\n" in made.files["alerts.yaml"] for gap in made.gaps)
    assert {rule["labels"]["severity"] for rule in found} == {"critical", "warning"}
    assert all("how-to/watch-it.md" in rule["annotations"]["runbook_url"] for rule in found)


def test_no_two_rules_are_the_same_alert() -> None:
    for source in (OURS, EXPORTER, SURVEYOR):
        told = [(rule["alert"], str(rule["labels"])) for rule in rules(metrics=source)]
        assert len(told) == len(set(told))


def test_the_operator_s_object_has_the_same_rules() -> None:
    text = exported("alerts", MANIFEST, kind="PrometheusRule").files["alerts.yaml"]
    made = yaml.safe_load(text)
    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rules(kind="PrometheusRule") == rules()


def test_a_dashboard_asks_for_an_organisation_of_any_name() -> None:
    """PromQL knows no halves of a surrogate pair."""
    (text,) = exported("dashboard", 'org: "o😀"\nroles: [cto]\n').files.values()
    expressions = [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    assert all('org="o😀"' in each for each in expressions)


def test_dashboard_and_rules_ask_for_metrics_that_the_monitor_has() -> None:
    empty = OrgStatus("acme", None, None, "", Alerts(), (), (), DeadLetterSummary(None), (), {}, {}, ())
    ours = {
        f"{prometheus.PREFIX}{name}"
        for name in prometheus.observation_metrics(Observation("acme", None, empty), 0.0)
    }
    board = json.loads(exported("dashboard", MANIFEST).files["dashboard.json"])
    asked = {
        name for panel in board["panels"] for target in panel["targets"] for name in metrics(target["expr"])
    }
    asked |= {name for rule in rules() for name in metrics(rule["expr"])} - {"node_textfile_mtime_seconds"}
    assert asked <= ours
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {"${datasource}"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
