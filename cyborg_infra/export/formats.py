"""The table of formats: what `export` can write."""

from __future__ import annotations

from collections.abc import Mapping

from cyborg_infra.export import (
    alerts,
    asyncapi,
    backstage,
    dashboard,
    keda,
    nack,
    nats,
    python,
    terraform,
    typescript,
)
from cyborg_infra.export.exported import Format

FORMATS: Mapping[str, Format] = {
    "nats": Format(
        "files for `nats stream add` and `nats consumer add`, a script that uses them, a context for each role",
        nats.write,
        nats.SETTINGS,
        configures=True,
    ),
    "terraform": Format(
        "resources of the JetStream provider of Terraform and OpenTofu, and what imports the living ones",
        terraform.write,
        terraform.SETTINGS,
        configures=True,
    ),
    "nack": Format(
        "objects of NACK, the JetStream controller of Kubernetes",
        nack.write,
        nack.SETTINGS,
        configures=True,
    ),
    "python": Format("a Python module of names and types, for agents", python.write),
    "typescript": Format("a TypeScript module of names and types, for agents", typescript.write),
    "asyncapi": Format(
        "an AsyncAPI 3 document: channels, messages, and what each role sends and receives",
        asyncapi.write,
        asyncapi.SETTINGS,
        configures=True,
    ),
    "alerts": Format(
        "alert rules of Prometheus, from `alerts:`", alerts.write, alerts.SETTINGS, configures=True
    ),
    "dashboard": Format("a dashboard of Grafana", dashboard.write, dashboard.SETTINGS),
    "keda": Format(
        "objects of KEDA that scale the agents of each role with `scaling`",
        keda.write,
        keda.SETTINGS,
        configures=True,
    ),
    "backstage": Format(
        "a Backstage catalogue: a system, a component for each role, the AsyncAPI document as an API",
        backstage.write,
        backstage.SETTINGS,
        configures=True,
    ),
}
"""By the word that names it on the command line."""
