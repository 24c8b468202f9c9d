"""What other tools' files say is read as a server would have it; what is in them and was not taken is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.manifest.load import load
from cyborg_infra.manifest.other_tools.readers import READERS
from cyborg_infra.model.problems import UsageInvalid
from cyborg_infra.model.ref import Ref
from tests.support.cli import Cli

CASES = Path(__file__).parents[2] / "cases" / "import"
NACK = """\
apiVersion: jetstream.nats.io/v1beta2
kind: Stream
metadata: {name: tasks}
spec: {name: AGENT_CTO_TASKS, subjects: [acme.agents.cto.tasks], maxAge: 72h, preventDelete: true, surprise: 1}
---
apiVersion: jetstream.nats.io/v1beta2
kind: Consumer
metadata: {name: worker}
spec: {streamName: AGENT_CTO_TASKS, durableName: cto-worker, deliverPolicy: byStartTime, optStartTime: 2026-01-31T00:00:00Z}
---
apiVersion: jetstream.nats.io/v1beta2
kind: KeyValue
metadata: {name: drafts}
spec: {bucket: acme-drafts, history: 3, ttl: 1h, compression: true}
---
apiVersion: v1
kind: List
items: [{apiVersion: v1, kind: Secret, metadata: {name: creds}}]
"""


def test_a_state_that_the_real_provider_wrote_is_the_organisation_that_it_made() -> None:
    """Recorded: `export terraform` applied by Terraform with the provider, on an empty server."""
    wanted = expand(load(str(CASES / "org.yaml")))
    found = READERS["terraform-state"]([str(CASES / "terraform.tfstate")])
    assert found.notes == []
    assert {str(ref): each.normalised() for ref, each in found.live.resources.items()} == {
        str(ref): each.normalised() for ref, each in wanted.resources.items()
    }


def test_nack_s_own_defaults_hold_where_an_object_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "nack.yaml"
    file.write_text(NACK, encoding="utf-8")
    found = READERS["nack"]([str(file)])
    stream = found.live.resources[Ref("AGENT_CTO_TASKS")]
    assert (stream.get("storage"), stream.get("max_age")) == ("memory", 72 * 3600 * 10**9)
    worker = found.live.resources[Ref("AGENT_CTO_TASKS", "cto-worker")]
    assert (worker.get("ack_policy"), worker.get("ack_wait")) == ("none", 1)
    assert worker.get("opt_start_time") == "2026-01-31T00:00:00Z"
    bucket = found.live.resources[Ref("KV_acme-drafts")]
    assert (bucket.get("max_msgs_per_subject"), bucket.get("compression"), bucket.get("discard")) == (
        3,
        "s2",
        "new",
    )
    assert found.notes == [
        "AGENT_CTO_TASKS: surprise is not read",
        "AGENT_CTO_TASKS/cto-worker: without an ackWait NACK makes one nanosecond of it",
        "Secret creds is no stream, consumer or bucket, and is not read",
    ]


def test_what_nats_prints_of_a_stream_and_a_consumer_is_read_as_well(tmp_path: Path) -> None:
    stream = {"config": {"name": "AGENT_CTO_TASKS", "subjects": ["acme.agents.cto.tasks"]}, "state": {}}
    consumer = {
        "stream_name": "AGENT_CTO_TASKS",
        "config": {
            "durable_name": "cto-worker",
            "ack_policy": "explicit",
            "pause_until": "0001-01-01T00:00:00Z",  # no time, as Go says it
        },
    }
    (tmp_path / "a.json").write_text(json.dumps(stream))
    (tmp_path / "b.json").write_text(json.dumps(consumer))
    (tmp_path / "c.json").write_text("{}")
    found = READERS["nats"]([str(tmp_path)])
    assert list(map(str, found.live.resources)) == ["AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"]
    assert [note.rpartition("/")[2] for note in found.notes] == [
        "c.json is no configuration of a stream or consumer, and is not read"
    ]


STREAM = {"apiVersion": "jetstream.nats.io/v1beta2", "kind": "Stream", "metadata": {"name": "s"}}
STATE = {"version": 4, "resources": [{"type": "jetstream_stream", "name": "s", "instances": [{}]}]}


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("nack", "a: [1"),
        ("nack", STREAM | {"spec": {}}),
        ("nack", STREAM | {"spec": []}),
        ("nack", STREAM | {"spec": {"name": "A", "maxAge": 5}}),
        ("nack", STREAM | {"spec": {"name": "A", "maxAge": "soon"}}),
        ("nack", STREAM | {"spec": {"name": "A", "subjects": "a"}}),
        ("nack", STREAM | {"spec": {"name": "A", "mirror": 1}}),
        ("terraform-state", "{"),
        ("terraform-state", []),
        ("terraform-state", {"version": 3}),
        ("terraform-state", STATE),
        ("terraform-state", {**STATE, "resources": [5]}),
        ("terraform-state", {"version": 4, "resources": {"a": 1}}),
        ("nats", {"x": 1}),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error_with_its_name(
    tmp_path: Path, source: str, content: Any
) -> None:
    file = tmp_path / "file"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageInvalid) as raised:
        READERS[source]([str(file)])
    (problem,) = raised.value.problems
    assert (problem.where and problem.where.file) == str(file)


def test_files_are_imported_from_the_command_line(cli: Cli, project: Path) -> None:
    (project / "nack.yaml").write_text(NACK, encoding="utf-8")
    ended = cli("import", "--from", "nack", "nack.yaml", "--org", "acme", "--out", "imported.yaml")
    assert ended.code == 0
    assert "Note: AGENT_CTO_TASKS: surprise is not read" in ended.err
    assert "storage: memory" in (project / "imported.yaml").read_text(encoding="utf-8")
    assert cli("validate", "imported.yaml").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nack.yaml", f"--from {' or '.join(READERS)}"),
        ("--from nack", "needs the files to read"),
        ("--from pulumi x", f"there are {', '.join(READERS)}"),
        ("--from nack nowhere.yaml", "nowhere.yaml:1:1: the file cannot be read"),
        ("--from nats org.yaml", "it is no folder"),
    ],
)
def test_wrong_usage_is_told(cli: Cli, arguments: str, said: str) -> None:
    ended = cli("import", *arguments.split(), "--org", "acme")
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
