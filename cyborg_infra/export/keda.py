"""For KEDA (2.21): a ScaledObject or a ScaledJob for each role with `scaling`, by what waits for it and what is in flight.

The lag that KEDA reads is `num_pending` and `num_ack_pending` together, so that work in flight keeps its agent. Nothing is scaled
down before the time has passed in which a task that nobody reports on would come again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cyborg_infra.export.exported import Export, ExportInput, Setting, distinct_names, head, kubernetes_name
from cyborg_infra.export.yaml_text import yaml_text
from cyborg_infra.model.channels import TASKS, ConsumerKind, queues
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import Role, Scaling
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.units import SECOND

OBJECT, JOB = "ScaledObject", "ScaledJob"
SETTINGS: Mapping[str, Setting] = {
    "kind": Setting(OBJECT, "scale a Deployment, or start a Job for each message", (OBJECT, JOB)),
    "monitoring": Setting("nats.default.svc:8222", "the monitoring port of the servers, without a scheme"),
    "https": Setting("false", "whether that port has TLS", ("true", "false")),
    "account": Setting("$G", "name of the account with the streams, or its public key in operator mode"),
    "queues": Setting(TASKS, "which queues of a role count, with commas"),
    "namespace": Setting("", "namespace of the objects; else that of whoever applies them"),
    "target": Setting("{role}", "name of the Deployment of a role"),
    "image": Setting("", "image of the agents, for a ScaledJob"),
}

FILE = "keda.yaml"
_API = "keda.sh/v1alpha1"
_POLLING_SECONDS = 30
_LEAST_COOLDOWN_SECONDS = 300
_MOST_STABILISATION_SECONDS = 3600
"""More than that Kubernetes does not take."""


def write(given: ExportInput) -> Export:
    """Return one file with an object for each role that says how many of it may run."""
    names = distinct_names(given.org.roles, lambda role: kubernetes_name(f"{given.org.name}-{role.name}"))
    gaps: list[str] = []
    objects = []
    for role in given.org.roles:
        if role.scaling is None:
            continue
        consumers = list(_consumers(given, role))
        if not consumers:
            gaps.append(f"{role.name}: it has none of the queues {given.settings['queues']}")
            continue
        gaps += _gaps(given, role, role.scaling, consumers)
        objects.append(_object(given, role, names[role], consumers, role.scaling))
    if not objects:
        gaps.append("no role has `scaling`: give one that KEDA is to start `scaling: {min: 0, max: 3}`")
    return Export({FILE: head(given, gaps) + yaml_text(objects)}, gaps)


def _consumers(given: ExportInput, role: Role) -> Iterator[Resource]:
    """Yield the consumers of the queues that count, in the order of their streams."""
    kinds = queues(given.org.channels)
    wanted = [name.strip() for name in given.settings["queues"].split(",")]
    for consumer in given.state.consumers():
        kind = ConsumerKind(consumer.metadata.get(KIND_KEY, ""))
        if consumer.role == role.name and kinds.get(kind) in wanted:
            yield consumer


def _gaps(given: ExportInput, role: Role, scaling: Scaling, consumers: list[Resource]) -> Iterator[str]:
    most = [consumer.get("max_ack_pending") for consumer in consumers]
    if min(most) > 0 and sum(most) < scaling.max:
        yield f"{role.name}: {scaling.max} agents at most, and its consumers hand out {sum(most)} messages at once"
    if given.settings["kind"] == JOB and not given.settings["image"]:
        yield f"{role.name}: a ScaledJob needs an image"
    longest = _longest_wait(consumers)
    if given.settings["kind"] == OBJECT and longest > _MOST_STABILISATION_SECONDS and scaling.max > 1:
        yield (
            f"{role.name}: ack_wait is {longest}s, and Kubernetes waits for an hour at most before it ends one of several"
            " pods: a ScaledJob is never scaled down"
        )


def _longest_wait(consumers: list[Resource]) -> int:
    """Return the longest ack_wait of the consumers, in seconds, rounded up."""
    return max(-(-consumer.get("ack_wait") // SECOND) for consumer in consumers)


def _object(
    given: ExportInput, role: Role, name: str, consumers: list[Resource], scaling: Scaling
) -> dict[str, Any]:
    settings, wait = given.settings, _longest_wait(consumers)
    said = {"name": name} | ({"namespace": settings["namespace"]} if settings["namespace"] else {})
    counts: dict[str, Any] = {"minReplicaCount": scaling.min, "maxReplicaCount": scaling.max}
    triggers = [_trigger(settings, consumer) for consumer in consumers]
    polled = {"pollingInterval": _POLLING_SECONDS}
    if settings["kind"] == JOB:
        spec = {"jobTargetRef": _job(given, role, wait)} | polled | counts | {"triggers": triggers}
    else:
        settled = min(wait, _MOST_STABILISATION_SECONDS)
        behavior = {"scaleDown": {"stabilizationWindowSeconds": settled}}
        spec = {
            "scaleTargetRef": {"name": settings["target"].replace("{role}", role.name)},
            **polled,
            "cooldownPeriod": max(_LEAST_COOLDOWN_SECONDS, wait),
            **counts,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": triggers,
        }
    return {"apiVersion": _API, "kind": settings["kind"], "metadata": said, "spec": spec}


def _job(given: ExportInput, role: Role, wait: int) -> dict[str, Any]:
    """Return the Job that works on one message and then ends. A Job that is ended gets the time of one task first."""
    container = {
        "name": "agent",
        "image": given.settings["image"] or "image",
        "env": [{"name": "ROLE", "value": role.name}],
    }
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": wait, "containers": [container]}
    return {"backoffLimit": 0, "template": {"spec": pod}}


def _trigger(settings: Mapping[str, str], consumer: Resource) -> dict[str, Any]:
    return {
        "type": "nats-jetstream",
        "metadata": {
            "natsServerMonitoringEndpoint": settings["monitoring"],
            "account": settings["account"],
            "stream": consumer.ref.stream,
            "consumer": consumer.ref.name,
            "lagThreshold": "1",  # an agent for each message, up to the most
            "activationLagThreshold": "0",
            "useHttps": settings["https"],
        },
    }
