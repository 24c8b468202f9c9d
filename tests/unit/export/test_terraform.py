"""The resources of Terraform's JetStream provider."""

from __future__ import annotations

import re

from tests.support.exports import exported

MANIFEST = """
org: acme
roles:
  cto:
    tasks: {no_ack: true, num_replicas: 3, description: 'a "quoted" ${name}', placement: {cluster: eu, tags: [ssd]}}
    worker: {backoff: [1m, 5m], max_deliver: 3, deliver_policy: by_start_sequence, opt_start_seq: 7, sample_freq: "50%"}
  ärger: {}
  örger: {}
task_state: true
"""


def resource(text: str, kind: str, name: str) -> str:
    begin = text.index(f'resource "{kind}" "{name}" {{')
    return re.sub(" +", " ", text[begin : text.index("\n}\n", begin)])


def test_a_stream_is_said_in_the_provider_s_words_and_units() -> None:
    text = exported("terraform", MANIFEST).files["jetstream.tf"]
    stream = resource(text, "jetstream_stream", "AGENT_CTO_TASKS")
    for line in (
        "ack = false",
        "replicas = 3",
        "max_age = 259200",
        "duplicate_window = 120",
        'description = "a \\"quoted\\" $${name}"',
        'placement_cluster = "eu"',
        'placement_tags = ["ssd"]',
        'subjects = ["acme.agents.cto.tasks"]',
        '"cyborg-infra.org" = "acme"',
        "prevent_destroy = true",
    ):
        assert f" {line}\n" in stream, line
    assert "num_replicas" not in stream
    letters = resource(text, "jetstream_stream", "DEAD_LETTERS")
    assert ' subject_transform {\n source = "$JS.EVENT.ADVISORY.CONSUMER.*.*.*"\n' in letters
    assert resource(text, "jetstream_stream", "KV_acme-tasks")


def test_a_consumer_is_said_in_the_provider_s_words_and_units() -> None:
    text = exported("terraform", MANIFEST).files["jetstream.tf"]
    worker = resource(text, "jetstream_consumer", "AGENT_CTO_TASKS_cto-worker")
    for line in (
        "stream_id = jetstream_stream.AGENT_CTO_TASKS.id",
        "stream_sequence = 7",
        "ack_wait = 60",
        "backoff = [60, 300]",
        "max_delivery = 3",
        "sample_freq = 50",
    ):
        assert f" {line}\n" in worker, line
    assert not re.search("deliver_policy|opt_start", worker)


def test_everything_is_imported_by_the_provider_s_ids_unless_it_is_to_be_made() -> None:
    text = exported("terraform", MANIFEST).files["jetstream.tf"]
    assert text.count("resource ") == text.count("import {")
    assert 'id = "JETSTREAM_STREAM_AGENT_CTO_TASKS_CONSUMER_cto-worker"' in text
    made = exported("terraform", MANIFEST, **{"import": "no"}, server="nats://127.0.0.1:4222").files
    assert "import {" not in made["jetstream.tf"]
    assert 'provider "jetstream" {\n  servers = "nats://127.0.0.1:4222"\n}' in made["jetstream.tf"]


def test_every_resource_has_a_name_of_its_own() -> None:
    text = exported("terraform", MANIFEST).files["jetstream.tf"]
    names = re.findall(r'^resource "(\w+)" "([A-Za-z_][\w-]*)"', text, re.MULTILINE)
    assert len(names) == len(set(names)) == text.count("resource ")


def test_what_the_provider_cannot_say_is_told() -> None:
    made = exported(
        "terraform",
        "org: acme\nroles: {cto: {tasks: {sealed: true, max_age: 0}, worker: {ack_wait: 1500ms}}, cso: "
        "{tasks: {placement: {tags: [ssd]}}}}\n",
    )
    assert [gap.split(": ")[0] for gap in made.gaps] == [
        "AGENT_CSO_TASKS",
        "AGENT_CTO_TASKS",
        "AGENT_CTO_TASKS/cto-worker",
    ]
    text = made.files["jetstream.tf"]
    assert all(f"# - {gap}\n" in text for gap in made.gaps)
    assert " ack_wait = 2\n" in resource(text, "jetstream_consumer", "AGENT_CTO_TASKS_cto-worker")
