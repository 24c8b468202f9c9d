"""What is exported and applied as the other tool would is what `apply` would have made: the next plan has nothing to do."""

from __future__ import annotations

import json
from pathlib import Path

from cyborg_infra.operations.exports import ExportRequest, export
from tests.support.scenario import Scenario

MANIFEST = """
org: acme
roles: {cto: {tasks: {admission: {max_pending: 5}}}, backend: {worker: {backoff: [1m, 5m], max_deliver: 3}}}
events: {deploy.complete: {durable: true, publishers: [cto], subscribers: [backend, cto]}}
channels: {control: {of: role, durable: true, publishers: [cto]}}
streams: {inboxes: {compression: s2, consumer_limits: {max_ack_pending: 100}, metadata: {team: platform}}}
task_state: true
key_value: {drafts: {history: 3}}
"""


def add(scenario: Scenario, folder: Path) -> None:
    """Do what `nats stream add --config` and `nats consumer add --config` do: send the file."""
    for path in sorted(folder.glob("streams/*.json")):
        scenario.ask(f"STREAM.CREATE.{path.stem}", json.loads(path.read_text(encoding="utf-8")))
    for path in sorted(folder.glob("consumers/*/*.json")):
        body = {"stream_name": path.parent.name, "config": json.loads(path.read_text(encoding="utf-8"))}
        scenario.ask(f"CONSUMER.CREATE.{path.parent.name}.{path.stem}", body)


def test_what_the_nats_cli_is_given_makes_the_organisation(scenario: Scenario, tmp_path: Path) -> None:
    manifest = scenario.directory / "org.yaml"
    request = scenario.request(MANIFEST)
    made = export(ExportRequest("nats", str(manifest)))
    for path, text in made.files.items():
        place = tmp_path / "files" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    add(scenario, tmp_path / "files")
    # A time to live per key is a bucket's wherever the server knows it; what is exported is for the newest.
    known = scenario.ask("INFO")["api"].get("level", 0) > 0
    changed = {str(change.ref) for change in scenario.plan(request).changes}
    assert (made.gaps, changed) == ([], set() if known else {"KV_acme-tasks", "KV_drafts"})
    live = export(ExportRequest("nats", str(manifest), target=scenario.target))
    assert live.files["add.sh"] == made.files["add.sh"]
    scenario.ask("STREAM.DELETE.KV_drafts")
    assert (
        "KV_drafts is not on the server"
        in export(ExportRequest("nats", str(manifest), target=scenario.target)).gaps
    )
