"""A dashboard for Grafana: queues, in flight, oldest waiting, dead letters, alarms; from the metrics of `status` and of the monitor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.export.exported import Export, ExportInput, Setting, kubernetes_name, promql_string
from cyborg_infra.model.valueclass import NamedTuple

SETTINGS: Mapping[str, Setting] = {
    "refresh": Setting("1m", "how often Grafana reads again"),
}

FILE = "dashboard.json"
_DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 12, 8
_COLUMNS = 24


class Panel(NamedTuple):
    """A panel: its title, its kind, each metric with the legend of its lines, and their unit."""

    title: str
    kind: str
    metrics: Mapping[str, str]
    unit: str = "short"


_QUEUE = "{{role}} {{queue}}"
PANELS: Sequence[Panel] = (
    Panel("Alarms", "stat", {"cyborg_infra_alarms": "{{code}}"}),
    Panel("Dead letters", "timeseries", {"cyborg_infra_dead_letters": "dead letters"}),
    Panel(
        "Changed on the server, and changes that nobody has applied",
        "timeseries",
        {
            "cyborg_infra_drift_changes": "{{action}}: changed on the server",
            "cyborg_infra_pending_changes": "{{action}}: not applied",
        },
    ),
    Panel("Age of the newest reading", "timeseries", {"cyborg_infra_reading_age_seconds": "reading"}, "s"),
    Panel(
        "Waiting, and what is too much",
        "timeseries",
        {"cyborg_infra_queue_waiting": _QUEUE, "cyborg_infra_queue_lag_threshold": f"{_QUEUE} threshold"},
    ),
    Panel("In flight", "timeseries", {"cyborg_infra_queue_in_flight": _QUEUE}),
    Panel("Oldest waiting", "timeseries", {"cyborg_infra_queue_oldest_waiting_seconds": _QUEUE}, "s"),
    Panel("Last activity", "timeseries", {"cyborg_infra_queue_last_activity_seconds": _QUEUE}, "s"),
    Panel("Workers that wait", "timeseries", {"cyborg_infra_queue_workers": _QUEUE}),
    Panel("Delivered again", "timeseries", {"cyborg_infra_queue_redelivered": _QUEUE}),
    Panel(
        "Fill of the nearest limit",
        "timeseries",
        {"cyborg_infra_stream_fill_ratio": "{{stream}} {{limit}}"},
        "percentunit",
    ),
    Panel(
        "Broadcasts not acknowledged", "timeseries", {"cyborg_infra_broadcasts_unacknowledged": "{{role}}"}
    ),
)
"""What is shown, from left to right and from top to bottom."""


def write(given: ExportInput) -> Export:
    """Return the dashboard. Its description says whose it is: JSON has no comments."""
    document = {
        "title": f"Organisation {given.org.name}",
        "uid": kubernetes_name(f"cyborg-infra-{given.org.name}")[:40],
        "description": given.headline,
        "tags": ["cyborg-infra", "nats"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": given.settings["refresh"],
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": list(_variables(given.org.name))},
        "panels": [_panel(number, panel, given.org.name) for number, panel in enumerate(PANELS)],
    }
    return Export({FILE: json.dumps(document, indent=2, ensure_ascii=False) + "\n"})


def _variables(org: str) -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    yield {
        "name": "role",
        "label": "Role",
        "type": "query",
        "datasource": _DATA_SOURCE,
        "query": f"label_values(cyborg_infra_queue_waiting{{org={promql_string(org)}}}, role)",
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "refresh": 2,
    }


def _panel(number: int, panel: Panel, org: str) -> dict[str, Any]:
    row, column = divmod(number * _WIDTH, _COLUMNS)
    return {
        "id": number + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": _DATA_SOURCE,
        "gridPos": {"x": column, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _DATA_SOURCE,
                "expr": _expression(metric, legend, org),
                "legendFormat": legend,
            }
            for place, (metric, legend) in enumerate(panel.metrics.items())
        ],
    }


def _expression(metric: str, legend: str, org: str) -> str:
    roles = ',role=~"$role"' if "{{role}}" in legend else ""
    return f"{metric}{{org={promql_string(org)}{roles}}}"
