"""The jobs of the component for GitLab, run as its runner does, with a real server and a GitLab that keeps notes and issues."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import pytest
import yaml

from cyborg_infra.live.embedded import EmbeddedServer
from tests.judges.registry import ROOT
from tests.judges.runner import of_the_machine
from tests.support.cli import SMALL, run_process
from tests.support.nats_client import Api

# What GitLab takes for an issue (app/validators/json_schemas/codeclimate.json), and the severities of its documentation.
CODE_QUALITY = {
    "type": "object",
    "required": ["description", "check_name", "fingerprint", "severity", "location"],
    "properties": {
        **{key: {"type": "string"} for key in ("description", "check_name", "fingerprint")},
        "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
        "location": {
            "type": "object",
            "required": ["path", "lines"],
            "properties": {
                "path": {"type": "string"},
                "lines": {
                    "type": "object",
                    "required": ["begin"],
                    "properties": {"begin": {"type": "integer"}},
                },
            },
        },
    },
}
TOKEN_VARIABLE, TOKEN = "CYBORG_INFRA_GITLAB_TOKEN", "a-token"


class GitLab(ThreadingHTTPServer):
    """One project: its merge request's notes, and its issues."""

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), Answers)
        self.notes: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, asked: dict[str, str], fields: dict[str, Any]) -> Any:
        """Return what GitLab would, and change the project as it would."""
        match method, path.removeprefix("/api/v4/projects/1/").split("/"):
            case "GET", ["merge_requests", "7", "notes"]:
                return self.notes
            case "POST", ["merge_requests", "7", "notes"]:
                self.notes.append({"id": 100 + len(self.notes), **fields})
                return self.notes[-1]
            case "PUT", ["merge_requests", "7", "notes", number]:
                (note,) = [each for each in self.notes if each["id"] == int(number)]
                note.update(fields)
                return note
            case "GET", ["issues"]:
                return [each for each in self.issues if each["state"] == asked["state"]]
            case "POST", ["issues"]:
                self.issues.append({"iid": 1 + len(self.issues), "state": "opened", **fields})
                return self.issues[-1]
            case "POST", ["issues", _, "notes"]:
                return fields
            case "PUT", ["issues", number]:
                issue = self.issues[int(number) - 1]
                issue.update({"state": "closed"} if fields.get("state_event") == "close" else fields)
                return issue
        raise AssertionError(f"{method} {path}")


class Answers(BaseHTTPRequestHandler):
    """Answers requests that have the token."""

    server: GitLab

    def do_GET(self) -> None:
        """Answer one."""
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        allowed = self.headers["PRIVATE-TOKEN"] == TOKEN
        answer = allowed and self.server.answer(
            self.command, url.path, asked, json.loads(body) if body else {}
        )
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps(answer if allowed else {"message": "401 Unauthorized"}).encode())

    do_POST = do_PUT = do_GET  # noqa: N815 - the names of http.server

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with GitLab() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Project:
    """A project whose pipeline includes the component. What its image and pip bring is there: this checkout's."""

    def __init__(self, directory: Path, gitlab: GitLab, server: EmbeddedServer) -> None:
        """Make it."""
        specification, jobs = (ROOT / "templates" / "cyborg-infra.yml").read_text("utf-8").split("\n---\n")
        inputs = yaml.safe_load(specification)["spec"]["inputs"]
        self.jobs = filled(yaml.safe_load(jobs), {name: each["default"] for name, each in inputs.items()})
        self.directory = directory
        programs = directory / "image"
        programs.mkdir()
        clone = f'for last; do :; done\nln -sfn {ROOT} "$last"\n'  # as this checkout is
        for name, script in (("apt-get", ""), ("pip", ""), ("git", clone)):
            (programs / name).write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
            (programs / name).chmod(0o755)
        self.environment = of_the_machine() | {
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "NATS_URL": server.url,
            "CI_API_V4_URL": f"http://127.0.0.1:{gitlab.server_port}/api/v4",
            "CI_PROJECT_ID": "1",
            "CI_MERGE_REQUEST_IID": "7",
            TOKEN_VARIABLE: TOKEN,
        }

    def run(self, name: str, **variables: str) -> int:
        """Run a job, and return its exit code."""
        job = self.jobs[f"cyborg-infra {name}"]
        base = self.jobs[job["extends"]]
        lines = [*base["before_script"], *job["script"]]
        given = base["variables"] | job.get("variables", {}) | variables
        ended = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", "\n".join(lines)],  # noqa: S607
            cwd=self.directory,
            env=self.environment | given,
            capture_output=True,
            text=True,
            check=False,
        )
        self.said = ended.stdout + ended.stderr
        return ended.returncode


def filled(value: Any, inputs: dict[str, str]) -> Any:
    """Return a part of a pipeline with the inputs filled in, as GitLab does: after it was read."""
    if isinstance(value, dict):
        return {name: filled(each, inputs) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, inputs) for each in value]
    if isinstance(value, str):
        return re.sub(r"\$\[\[ inputs\.([\w-]+) \]\]", lambda found: inputs[found[1]], value)
    return value


@pytest.mark.server
def test_a_plan_is_one_note_and_drift_is_one_issue(
    gitlab: GitLab, server: EmbeddedServer, api: Api, tmp_path: Path
) -> None:
    project = Project(tmp_path, gitlab, server)
    (tmp_path / "org.yaml").write_text("org: acme\nrolls: [cto]\n", encoding="utf-8")
    assert project.run("validate") == 1, project.said
    for each in json.loads((tmp_path / "code-quality.json").read_text(encoding="utf-8")):
        jsonschema.validate(each, CODE_QUALITY)
    (tmp_path / "org.yaml").write_text(SMALL, encoding="utf-8")
    assert project.run("validate") == 0, project.said
    assert project.run("plan") == 0, project.said
    assert run_process("apply", "reviewed.plan", "--yes", "--server", server.url, cwd=tmp_path).code == 0
    assert project.run("plan") == 0, project.said
    (note,) = gitlab.notes
    assert note["body"].startswith("<!-- cyborg-infra plan org.yaml -->\n### No changes.")
    assert project.run("drift") == 0, project.said
    assert gitlab.issues == []
    config = api.request("$JS.API.STREAM.INFO.AGENT_CTO_TASKS")["config"]
    api.request("$JS.API.STREAM.UPDATE.AGENT_CTO_TASKS", config | {"max_msgs": 9})
    for _ in range(2):
        assert project.run("drift") == 2, project.said
    (issue,) = gitlab.issues
    assert (issue["title"], issue["labels"], issue["state"]) == ("Drift: org.yaml", "drift", "opened")
    assert "max_msgs" in issue["description"]
    # A server that nobody reaches says nothing of drift; a token that is none says so.
    assert project.run("drift", NATS_URL="nats://127.0.0.1:1") == 1
    assert gitlab.issues == [issue]
    assert project.run("drift", **{TOKEN_VARIABLE: "wrong"}) == 1
    assert "GitLab refused GET issues?state=opened&labels=drift" in project.said
    assert "wrong" not in project.said
    assert project.run("drift", **{TOKEN_VARIABLE: ""}) == 2
    api.request("$JS.API.STREAM.UPDATE.AGENT_CTO_TASKS", config)
    assert project.run("drift") == 0, project.said
    assert [each["state"] for each in gitlab.issues] == ["closed"]
