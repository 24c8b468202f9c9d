"""The objects of NACK, the JetStream controller of Kubernetes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from cyborg_infra.export.exported import Export
from tests.support.exports import exported

MANIFEST = """
org: acme
roles:
  cto:
    tasks: {no_ack: true, num_replicas: 3, discard: new, discard_new_per_subject: true, max_msgs_per_subject: 2, sources: [{name: X,
      opt_start_seq: 3, external: {api: $JS.hub.API, deliver: d}, subject_transforms: [{src: a.*, dest: "b.{{wildcard(1)}}"}]}]}
    worker: {backoff: [1m, 5m], max_deliver: 3, deliver_policy: by_start_sequence, opt_start_seq: 7, description: "on"}
  ärger: {}
  örger: {}
key_value: {drafts: {history: 3, ttl: 1h}}
"""


def objects(made: Export) -> dict[tuple[str, str], Any]:
    found = list(yaml.safe_load_all(made.files["nack.yaml"]))
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def test_every_field_is_written_as_nack_s_defaults_are_others() -> None:
    spec = objects(exported("nack", MANIFEST))["Stream", "agent-cto-tasks"]["spec"]
    assert spec["noAck"] is spec["discardPerSubject"] is spec["preventDelete"] is True
    assert (spec["name"], spec["storage"], spec["replicas"]) == ("AGENT_CTO_TASKS", "file", 3)
    assert (spec["maxAge"], spec["duplicateWindow"], spec["maxMsgsPerSubject"]) == ("72h", "2m", 2)
    assert spec["metadata"]["cyborg-infra.org"] == "acme"
    assert spec["sources"] == [
        {
            "name": "X",
            "optStartSeq": 3,
            "externalApiPrefix": "$JS.hub.API",
            "externalDeliverPrefix": "d",
            "subjectTransforms": [{"source": "a.*", "dest": "b.{{wildcard(1)}}"}],
        }
    ]
    worker = objects(exported("nack", MANIFEST))["Consumer", "agent-cto-tasks-cto-worker"]["spec"]
    assert (worker["streamName"], worker["durableName"]) == ("AGENT_CTO_TASKS", "cto-worker")
    assert (worker["ackPolicy"], worker["ackWait"], worker["backoff"]) == ("explicit", "1m", ["1m", "5m"])
    assert (worker["deliverPolicy"], worker["optStartSeq"]) == ("byStartSequence", 7)
    assert worker["description"] == "on"


def test_what_nack_takes_out_of_an_object_is_not_written() -> None:
    """NACK 0.23.0 writes its objects anew, as Go does with omitempty: what has no default in the CRD is gone if it is empty."""
    for buckets in ("Stream", "KeyValue"):
        for (kind, _), each in objects(exported("nack", MANIFEST, buckets=buckets)).items():
            found = [name for name, value in each["spec"].items() if value in ("", [], {})]
            if kind != "Stream":
                found += [name for name, value in each["spec"].items() if value == 0 and value is not False]
            assert found == [], each
    consumer = objects(exported("nack", MANIFEST))["Consumer", "agent-cto-tasks-cto-worker"]["spec"]
    assert consumer["headersOnly"] is consumer["flowControl"] is False  # which have one


def test_every_object_has_a_name_that_kubernetes_takes_and_each_its_own() -> None:
    made = exported("nack", MANIFEST)
    names = [name for _, name in objects(made)]
    assert len(names) == len(set(names)) == made.files["nack.yaml"].count("\nkind: ")
    assert [name for name in names if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)] == []


def test_a_bucket_is_a_stream_with_its_labels_or_a_key_value_and_what_that_lacks_is_told() -> None:
    stream = objects(exported("nack", MANIFEST))["Stream", "kv-drafts"]["spec"]
    assert stream["metadata"]["cyborg-infra.kind"] == "key_value"
    made = exported("nack", MANIFEST, buckets="KeyValue", namespace="agents", account="acme", servers="a,b")
    bucket = objects(made)["KeyValue", "kv-drafts"]
    assert bucket["metadata"]["namespace"] == "agents"
    said = {"bucket": "drafts", "history": 3, "ttl": "1h", "account": "acme", "servers": ["a", "b"]}
    assert bucket["spec"] | said == bucket["spec"]
    assert [gap for gap in made.gaps if "has no labels" in gap]


@pytest.mark.parametrize(
    ("roles", "said"),
    [(500, None), (1000, "kubectl apply --server-side"), (2000, "give each division a manifest")],
)
def test_an_object_that_kubernetes_would_not_hold_is_told(roles: int, said: str | None) -> None:
    """DEAD_LETTERS names every stream. Of 2,000 roles NACK 0.23.0 said: metadata.annotations: Too long."""
    made = exported("nack", f"org: acme\nroles: [{', '.join(f'role-{n}' for n in range(roles))}]\n")
    found = [gap for gap in made.gaps if gap.startswith("DEAD_LETTERS: ")]
    assert (not found) if said is None else (len(found) == 1 and said in found[0])


def test_what_nack_cannot_say_is_told() -> None:
    made = exported(
        "nack",
        "org: acme\nroles: {cto: {tasks: {republish: {src: '>', dest: copy.>, headers_only: true}},"
        " worker: {max_ack_pending: -1}}}\n",
    )
    assert [gap.split(";")[0] for gap in made.gaps] == [
        "AGENT_CTO_TASKS: republish.headers_only",
        "AGENT_CTO_TASKS/cto-worker: max_ack_pending without a limit",
    ]
    assert all(f"# - {gap}\n" in made.files["nack.yaml"] for gap in made.gaps)
