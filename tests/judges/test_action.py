"""The steps of `action.yml`, run one after the other as a runner does, with a real server and a `gh` that records."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import HazardName
from cyborg_infra.render import markdown
from tests.judges.registry import ROOT
from tests.judges.runner import ACTION, GitHub, Runner
from tests.support.cli import SMALL, run_process
from tests.support.nats_client import Api
from tests.support.plan_examples import one_of_each_per_role

PULL_REQUEST = {"github": {"event_name": "pull_request", "event": {"pull_request": {"number": 7}}}}


class Action(Runner):
    """A runner that has a manifest, and the action installed."""

    def run(self, **inputs: str) -> dict[str, str]:
        """Run the action, and return its outputs."""
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        code, outputs = self.action(given, PULL_REQUEST)
        assert str(code) == outputs["exit-code"], self.log
        return outputs


@pytest.fixture
def runner(tmp_path: Path) -> Action:
    found = Action(tmp_path / "runner", GitHub(tmp_path / "github"), environment={"PYTHONPATH": str(ROOT)})
    python = found.temporary / "cyborg-infra" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    (found.workspace / "org.yaml").write_text(SMALL, encoding="utf-8")
    return found


@pytest.mark.server
def test_a_plan_is_one_comment_that_is_kept_up_to_date(runner: Action, server: EmbeddedServer) -> None:
    first = runner.run(command="plan", server=server.url)
    assert first == {"exit-code": "0", "added": "12", "changed": "0", "destroyed": "0", "hazards": ""}
    assert run_process("apply", "--yes", "--server", server.url, cwd=runner.workspace).code == 0
    manifest = runner.workspace / "org.yaml"
    manifest.write_text(f"{SMALL}streams: {{tasks: {{max_msgs: 500}}}}\n", encoding="utf-8")
    runner.run(command="plan", server=server.url, plan_file="reviewed.plan")
    (comment,) = runner.github.seen["comments"]
    assert comment["body"].startswith(
        "<!-- cyborg-infra plan org.yaml -->\n### Plan: 0 to add, 2 to change, 0 to destroy.\n"
    )
    posted = [request for request in runner.github.seen["requests"] if request[0] != "GET"]
    assert [method for method, _ in posted] == ["POST", "PATCH"]
    # What was reviewed is what is applied.
    saved = run_process("apply", "reviewed.plan", "--yes", "--server", server.url, cwd=runner.workspace)
    assert saved.code == 0, saved.err
    manifest.write_text("org: acme\nrolls: []\n", encoding="utf-8")
    assert runner.run(command="plan", server=server.url)["exit-code"] == "1"
    (comment,) = runner.github.seen["comments"]
    assert "### Error" in comment["body"]


def test_drift_is_one_issue_that_is_closed_when_it_is_gone(
    runner: Action, server: EmbeddedServer, api: Api
) -> None:
    assert run_process("apply", "--yes", "--server", server.url, cwd=runner.workspace).code == 0
    assert runner.run(command="drift", server=server.url)["exit-code"] == "0"
    assert runner.github.seen["issues"] == []
    config = api.request("$JS.API.STREAM.INFO.AGENT_CTO_TASKS")["config"]
    api.request("$JS.API.STREAM.UPDATE.AGENT_CTO_TASKS", config | {"max_msgs": 9})
    outputs = runner.run(command="drift", server=server.url)
    assert (outputs["exit-code"], outputs["changed"]) == ("2", "1")
    runner.run(command="drift", server=server.url)
    (issue,) = runner.github.seen["issues"]
    assert (issue["title"], issue["state"], issue["labels"]) == ("Drift: org.yaml", "open", ["drift"])
    assert "max_msgs" in issue["body"]
    # A server that nobody reaches says nothing of drift.
    assert runner.run(command="drift", server="nats://127.0.0.1:1")["exit-code"] == "1"
    assert runner.github.seen["issues"] == [issue]
    api.request("$JS.API.STREAM.UPDATE.AGENT_CTO_TASKS", config)
    assert runner.run(command="drift", server=server.url)["exit-code"] == "0"
    (closed,) = runner.github.seen["issues"]
    assert (closed["number"], closed["state"]) == (issue["number"], "closed")


def test_validate_annotates_and_a_seed_is_nowhere(runner: Action) -> None:
    (runner.workspace / "org.yaml").write_text("org: acme\nrolls: [cto]\n", encoding="utf-8")
    assert runner.run(command="validate", credentials="a secret")["exit-code"] == "1"
    assert not [
        path
        for path in runner.workspace.rglob("*")
        if path.is_file() and "a secret" in path.read_text("utf-8")
    ]


def test_ten_thousand_roles_fit_a_comment_that_names_every_hazard(runner: Action, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    report.write_text(markdown.plan(one_of_each_per_role(10_000), 65_000), encoding="utf-8")
    (comment_step,) = [step for step in ACTION["runs"]["steps"] if step.get("name") == "Comment"]
    given = {"command": "plan", "comment": "true"}
    code = runner.steps(
        [comment_step],
        PULL_REQUEST | {"inputs": given, "steps": {"run": {"outputs": {"report": report}}}},
        {},
    )
    assert code == 0, runner.log
    (comment,) = runner.github.seen["comments"]
    assert len(comment["body"]) <= 65_536
    for hazard in (HazardName.DELETES_MESSAGES, HazardName.RESETS_PROGRESS):
        assert f"--allow {hazard.value}" in comment["body"]
        assert re.search(rf"{hazard.value}: [\d,]+ hazards", comment["body"])
