"""The steps of `action.yml`, run one after the other as a runner does, with a real server and a `gh` that records."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import HazardName
from cyborg_infra.render import markdown
from tests.judges.registry import ROOT
from tests.support.cli import SMALL, run_process
from tests.support.nats_client import Api
from tests.support.plan_examples import one_of_each_per_role

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


class Runner:
    """A runner's directory: inputs in, outputs and what became of the repository out."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.github = directory / "github.json"
        self.github.write_text(json.dumps({"comments": [], "issues": [], "requests": []}), encoding="utf-8")
        programs = directory / "cyborg-infra" / "bin"
        programs.mkdir(parents=True)
        python = programs / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
        python.chmod(0o755)
        gh = programs / "gh"
        gh.write_text(
            f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_gh.py")} "$@"\n',
            encoding="utf-8",
        )
        gh.chmod(0o755)

    @property
    def repository(self) -> dict[str, Any]:
        """What GitHub has."""
        found: dict[str, Any] = json.loads(self.github.read_text(encoding="utf-8"))
        return found

    def run(self, *, report: Path | None = None, **inputs: str) -> dict[str, str]:
        """Run the steps that `inputs` ask for but for the installation, and return the outputs of the action."""
        given = {name: each.get("default", "") for name, each in ACTION["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        values = {f"inputs.{name}": value for name, value in given.items()}
        values |= {"github.token": "a-token", "github.event.pull_request.number": "7"}
        wanted = {"Run", {"plan": "Comment", "drift": "Issue"}.get(given["command"], "")}
        if report:
            wanted, values["steps.run.outputs.report"] = {"Comment"}, str(report)
        for step in ACTION["runs"]["steps"]:
            if step.get("name") in wanted:
                values |= self._step(step, values)
        return {
            name.rpartition(".")[2]: value for name, value in values.items() if name.startswith("steps.run")
        }

    def _step(self, step: dict[str, Any], values: dict[str, str]) -> dict[str, str]:
        written = self.directory / "output"
        written.write_text("", encoding="utf-8")
        environment = {
            name: re.sub(r"\$\{\{ (\S+) \}\}", lambda found: values.get(found[1], ""), text)
            for name, text in step["env"].items()
        }
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step["run"]],  # noqa: S607 - the one that a runner finds
            cwd=self.directory,
            env={
                "PATH": f"{self.directory}/cyborg-infra/bin:{os.environ['PATH']}",
                "HOME": str(self.directory),
                "RUNNER_TEMP": str(self.directory),
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_OUTPUT": str(written),
                "GITHUB_STEP_SUMMARY": str(self.directory / "summary.md"),
                "GITHUB_REPOSITORY": "acme/org",
                "FAKE_GH": str(self.github),
                "PYTHONPATH": str(ROOT),
            }
            | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        lines = [line.partition("=") for line in written.read_text(encoding="utf-8").splitlines()]
        return {f"steps.{step['id']}.outputs.{name}": value for name, _, value in lines}


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    directory = tmp_path / "runner"
    directory.mkdir()
    (directory / "org.yaml").write_text(SMALL, encoding="utf-8")
    return Runner(directory)


@pytest.mark.server
def test_a_plan_is_one_comment_that_is_kept_up_to_date(runner: Runner, server: EmbeddedServer) -> None:
    first = runner.run(command="plan", server=server.url)
    assert first | {"report": ""} == {
        "exit-code": "0",
        "added": "12",
        "changed": "0",
        "destroyed": "0",
        "hazards": "",
        "report": "",
    }
    assert run_process("apply", "--yes", "--server", server.url, cwd=runner.directory).code == 0
    manifest = runner.directory / "org.yaml"
    manifest.write_text(f"{SMALL}streams: {{tasks: {{max_msgs: 500}}}}\n", encoding="utf-8")
    runner.run(command="plan", server=server.url, plan_file="reviewed.plan")
    (comment,) = runner.repository["comments"]
    assert comment["body"].startswith(
        "<!-- cyborg-infra plan org.yaml -->\n### Plan: 0 to add, 2 to change, 0 to destroy.\n"
    )
    posted = [request for request in runner.repository["requests"] if request[0] != "GET"]
    assert [method for method, _ in posted] == ["POST", "PATCH"]
    # What was reviewed is what is applied.
    saved = run_process("apply", "reviewed.plan", "--yes", "--server", server.url, cwd=runner.directory)
    assert saved.code == 0, saved.err
    manifest.write_text("org: acme\nrolls: []\n", encoding="utf-8")
    assert runner.run(command="plan", server=server.url)["exit-code"] == "1"
    (comment,) = runner.repository["comments"]
    assert "### Error" in comment["body"]


def test_drift_is_one_issue_that_is_closed_when_it_is_gone(
    runner: Runner, server: EmbeddedServer, api: Api
) -> None:
    assert run_process("apply", "--yes", "--server", server.url, cwd=runner.directory).code == 0
    assert runner.run(command="drift", server=server.url)["exit-code"] == "0"
    assert runner.repository["issues"] == []
    config = api.request("$JS.API.STREAM.INFO.AGENT_CTO_TASKS")["config"]
    api.request("$JS.API.STREAM.UPDATE.AGENT_CTO_TASKS", config | {"max_msgs": 9})
    outputs = runner.run(command="drift", server=server.url)
    assert (outputs["exit-code"], outputs["changed"]) == ("2", "1")
    runner.run(command="drift", server=server.url)
    (issue,) = runner.repository["issues"]
    assert (issue["title"], issue["state"], issue["labels"]) == ("Drift: org.yaml", "open", ["drift"])
    assert "max_msgs" in issue["body"]
    # A server that nobody reaches says nothing of drift.
    assert runner.run(command="drift", server="nats://127.0.0.1:1")["exit-code"] == "1"
    assert runner.repository["issues"] == [issue]
    api.request("$JS.API.STREAM.UPDATE.AGENT_CTO_TASKS", config)
    assert runner.run(command="drift", server=server.url)["exit-code"] == "0"
    (closed,) = runner.repository["issues"]
    assert (closed["number"], closed["state"]) == (issue["number"], "closed")


def test_validate_annotates_and_a_seed_is_nowhere(runner: Runner) -> None:
    (runner.directory / "org.yaml").write_text("org: acme\nrolls: [cto]\n", encoding="utf-8")
    assert runner.run(command="validate", credentials="a secret")["exit-code"] == "1"
    assert not [
        path
        for path in runner.directory.rglob("*")
        if path.is_file() and "a secret" in path.read_text("utf-8")
    ]


def test_ten_thousand_roles_fit_a_comment_that_names_every_hazard(runner: Runner, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    report.write_text(markdown.plan(one_of_each_per_role(10_000), 65_000), encoding="utf-8")
    runner.run(command="plan", report=report)
    (comment,) = runner.repository["comments"]
    assert len(comment["body"]) <= 65_536
    for hazard in (HazardName.DELETES_MESSAGES, HazardName.RESETS_PROGRESS):
        assert f"--allow {hazard.value}" in comment["body"]
        assert re.search(rf"{hazard.value}: [\d,]+ hazards", comment["body"])
