"""For Backstage: the organisation as a System, each role as a Component, and its AsyncAPI document as an API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cyborg_infra.export import asyncapi
from cyborg_infra.export.exported import Export, ExportInput, Setting, distinct_names, head
from cyborg_infra.export.yaml_text import yaml_text

SETTINGS: Mapping[str, Setting] = {
    "owner": Setting(
        "", "who owns it, as Backstage calls them, such as group:platform; else the organisation's name"
    ),
    "lifecycle": Setting("production", "its lifecycle"),
    **asyncapi.SETTINGS,
}

FILE = "catalog-info.yaml"
_API = "backstage.io/v1alpha1"
_MOST = 60  # characters of a name, with room for a number behind it


def write(given: ExportInput) -> Export:
    """Return one file with every entity."""
    made = asyncapi.write(given)
    return Export(
        {FILE: head(given, made.gaps) + yaml_text(_entities(given, *made.files.values()))}, made.gaps
    )


def _entities(given: ExportInput, definition: str) -> Iterator[dict[str, Any]]:
    org = given.org
    system, api = _name(org.name), _name(f"{org.name}-messaging")
    names = distinct_names([role.name for role in org.roles], lambda role: _name(f"{org.name}-{role}"))
    shared = {"owner": given.settings["owner"] or system}
    lasting = shared | {"lifecycle": given.settings["lifecycle"], "system": system}
    yield _entity("System", system, org.description or f"The organisation {org.name} of AI agents.", shared)
    yield _entity(
        "API",
        api,
        f"What the roles of {org.name} send one another.",
        {"type": "asyncapi", **lasting, "definition": definition},
    )
    for role in org.roles:
        spec: dict[str, Any] = {"type": "agent", **lasting, "consumesApis": [api], "providesApis": [api]}
        if role.reports_to:
            spec["dependsOn"] = [f"component:{names[role.reports_to]}"]
        yield _entity("Component", names[role.name], role.description or f"The role {role.name}.", spec)


def _entity(kind: str, name: str, description: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "description": description}
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _name(words: str) -> str:
    """Return a name that Backstage takes: letters, digits, and single `-`, `_` and `.` between them."""
    return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")[:_MOST].rstrip("-") or "organisation"
