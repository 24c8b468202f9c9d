"""What KEDA scales the agents of a role by."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.write import write_manifest
from tests.support.exports import exported

MANIFEST = """
org: acme
roles:
  cto: {scaling: {min: 0, max: 3}}
  data-eng: {scaling: {max: 9}, worker: {ack_wait: 2h}}
  ceo: {}
"""


def objects(**settings: str) -> dict[str, Any]:
    found = yaml.safe_load_all(exported("keda", MANIFEST, **settings).files["keda.yaml"])
    return {each["metadata"]["name"]: each for each in found}


def test_a_role_with_scaling_is_scaled_by_its_own_consumer() -> None:
    made = objects(monitoring="nats:8222", account="ACME")
    assert made.keys() == {"acme-cto", "acme-data-eng"}
    spec = made["acme-cto"]["spec"]
    assert (spec["scaleTargetRef"], spec["minReplicaCount"], spec["maxReplicaCount"]) == (
        {"name": "cto"},
        0,
        3,
    )
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "nats-jetstream"
    assert trigger["metadata"] == {
        "natsServerMonitoringEndpoint": "nats:8222",
        "account": "ACME",
        "stream": "AGENT_CTO_TASKS",
        "consumer": "cto-worker",
        "lagThreshold": "1",
        "activationLagThreshold": "0",
        "useHttps": "false",
    }


def test_no_agent_is_scaled_away_before_its_task_would_come_again() -> None:
    spec = objects()["acme-cto"]["spec"]
    assert spec["cooldownPeriod"] == 1800
    settled = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert settled == {"stabilizationWindowSeconds": 1800}
    assert objects()["acme-data-eng"]["spec"]["cooldownPeriod"] == 7200


@pytest.mark.parametrize("queues", ["tasks,inbox", " tasks, inbox "])
def test_other_queues_count_where_they_are_named(queues: str) -> None:
    made = objects(queues=queues)["acme-cto"]["spec"]
    assert [each["metadata"]["consumer"] for each in made["triggers"]] == ["cto-worker", "cto-inbox-reader"]
    assert made["cooldownPeriod"] == 1800


def test_a_job_is_never_scaled_down_and_has_the_time_of_a_task() -> None:
    made = objects(kind="ScaledJob", image="acme/agent:1")["acme-data-eng"]
    assert made["kind"] == "ScaledJob"
    pod = made["spec"]["jobTargetRef"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 7200
    assert pod["containers"][0]["image"] == "acme/agent:1"
    assert "cooldownPeriod" not in made["spec"]


def test_what_would_not_work_is_told() -> None:
    assert [gap.split(":")[0] for gap in exported("keda", MANIFEST).gaps] == ["data-eng", "data-eng"]
    made = exported("keda", "org: acme\nroles: [cto]\n")
    assert made.gaps == ["no role has `scaling`: give one that KEDA is to start `scaling: {min: 0, max: 3}`"]
    assert [
        gap for gap in exported("keda", MANIFEST, kind="ScaledJob").gaps if gap.endswith("needs an image")
    ]


def test_scaling_is_written_back_to_a_manifest() -> None:
    org = loads(MANIFEST)
    assert [role.scaling for role in loads(write_manifest(org, "head")).roles] == [
        role.scaling for role in org.roles
    ]


def test_two_roles_that_kubernetes_would_call_the_same_have_names_of_their_own() -> None:
    text = exported(
        "keda", "org: acme\nroles: {ärger: {scaling: {max: 1}}, örger: {scaling: {max: 1}}}\n"
    ).files
    found = list(yaml.safe_load_all(text["keda.yaml"]))
    assert [each["metadata"]["name"] for each in found] == ["acme-rger", "acme-rger-2"]
