"""What a runner of GitHub Actions does with the steps of a workflow, as far as ours need it; a step that it does not know fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cyborg_infra.model.project import PROJECT
from tests.judges.registry import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
Contexts = dict[str, Any]
"""`github`, `inputs`, `secrets`, `steps`: what expressions look into."""


class GitHub:
    """A repository at GitHub: what people see of it in a file, its artifacts beside it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.file = directory / "github.json"
        nothing: dict[str, Any] = {"comments": [], "issues": [], "requests": [], "runs": [], "labels": {}}
        self.file.write_text(json.dumps(nothing), encoding="utf-8")

    @property
    def seen(self) -> dict[str, Any]:
        """What people see."""
        found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return found

    def label(self, pull_request: int, *names: str) -> None:
        """Label a pull request."""
        self._write(self.seen | {"labels": {str(pull_request): names}})

    def ran(self, workflow: str, commit: str, code: int) -> None:
        """Keep how a run of a workflow ended."""
        run = {"workflow": workflow, "headSha": commit, "conclusion": "failure" if code else "success"}
        self._write(self.seen | {"runs": [*self.seen["runs"], run | {"databaseId": self.next_run}]})

    @property
    def next_run(self) -> int:
        """The id of a run that has not ended."""
        return 1 + len(self.seen["runs"])

    def keep(self, name: str, path: Path) -> None:
        """Keep a file as an artifact of the run."""
        artifact = self.file.parent / "artifacts" / str(self.next_run) / name
        artifact.mkdir(parents=True)
        shutil.copy(path, artifact)

    def _write(self, seen: dict[str, Any]) -> None:
        self.file.write_text(json.dumps(seen), encoding="utf-8")


@dataclass
class Runner:
    """A machine for one repository. What a step has installed on it stays: it is not installed a second time."""

    directory: Path
    github: GitHub
    repository: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    paths: list[str] = field(default_factory=list[str])
    log: str = ""

    def __post_init__(self) -> None:
        """Make the directories, with `gh`, which is on every runner."""
        self.temporary.mkdir(parents=True)
        self.workspace.mkdir()
        self.programs.mkdir()
        gh = self.programs / "gh"
        fake = Path(__file__).with_name("fake_gh.py")
        gh.write_text(f'#!/bin/sh\nexec {sys.executable} {fake} "$@"\n', encoding="utf-8")
        gh.chmod(0o755)

    @property
    def temporary(self) -> Path:
        """What `RUNNER_TEMP` names."""
        return self.directory / "temporary"

    @property
    def workspace(self) -> Path:
        """Where a repository is checked out, and where steps run."""
        return self.directory / "workspace"

    @property
    def programs(self) -> Path:
        """What is on every runner, and what pipx adds."""
        return self.directory / "bin"

    def workflow(self, name: str, event: Contexts) -> int:
        """Run the job of a workflow of the commit that the event is about. Return 0, or the exit code of what failed."""
        assert self.repository
        commit = event["sha"]
        text = git("show", f"{commit}:.github/workflows/{name}", cwd=self.repository)
        workflow = yaml.safe_load(text)
        self._say(f"\n## {name}")
        self.paths = []
        (job,) = workflow["jobs"].values()
        contexts = {"github": {"token": "a-token", **event}, "secrets": event["secrets"], "steps": {}}
        if "if" in job and not evaluate(job["if"], contexts):
            self._say("skipped")
            return 0
        environment = filled(job.get("env", {}), contexts)
        code = self.steps(job["steps"], contexts, environment)
        head = event["event"].get("pull_request", {}).get("head", {}).get("sha", commit)
        self.github.ran(name, head, code)
        return code

    def action(self, inputs: Mapping[str, str], contexts: Contexts) -> tuple[int, dict[str, str]]:
        """Run the steps of `action.yml`; return how that ended, with its outputs."""
        given = {name: filled(each.get("default", ""), contexts) for name, each in ACTION["inputs"].items()}
        assert set(inputs) <= set(given)
        inside = contexts | {"inputs": given | dict(inputs), "steps": {}}
        code = self.steps(ACTION["runs"]["steps"], inside, {})
        return code, {name: filled(each["value"], inside) for name, each in ACTION["outputs"].items()}

    def steps(
        self, steps: Sequence[dict[str, Any]], contexts: Contexts, environment: Mapping[str, str]
    ) -> int:
        """Run steps until one fails; return 0, or its exit code. Their outputs go into the contexts."""
        for step in steps:
            if "if" in step and not evaluate(step["if"], contexts):
                continue
            outputs: Mapping[str, str] = {}
            if "uses" in step:
                code, outputs = self._uses(step["uses"], filled(step.get("with", {}), contexts), contexts)
            else:
                given = {**environment, **filled(step.get("env", {}), contexts)}
                code, outputs = self._run(filled(step["run"], contexts), given)
            contexts["steps"][step.get("id", "")] = {"outputs": outputs}
            if code:
                return code
        return 0

    def _uses(self, action: str, inputs: Mapping[str, str], contexts: Contexts) -> tuple[int, dict[str, str]]:
        name, _, _ = action.partition("@")
        self._say(f"uses {action}")
        match name:
            case "actions/checkout":
                assert self.repository
                shutil.rmtree(self.workspace)
                git("clone", "--quiet", str(self.repository), str(self.workspace), cwd=self.directory)
                git("checkout", "--quiet", inputs.get("ref") or contexts["github"]["sha"], cwd=self.workspace)
                return 0, {}
            case "actions/setup-python":
                return 0, {"python-path": sys.executable}
            case "actions/upload-artifact":
                self.github.keep(inputs["name"], self.workspace / inputs["path"])
                return 0, {}
            case "genbrain/cyborg-infra":
                return self.action(inputs, contexts)
            case _:
                raise AssertionError(f"no runner here knows {action}")

    def _run(self, script: str, given: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        there = {"pipx install": self.programs / "cyborg-infra", "-m venv": self.temporary / "cyborg-infra"}
        if any(words in script and path.exists() for words, path in there.items()):
            return 0, {}
        written = {name: self.temporary / name for name in ("GITHUB_OUTPUT", "GITHUB_PATH")}
        for file in written.values():
            file.write_text("", encoding="utf-8")
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],  # noqa: S607 - the one that a runner finds
            cwd=self.workspace,
            env=of_the_machine()
            | {
                "PATH": os.pathsep.join([*self.paths, str(self.programs), os.environ["PATH"]]),
                "HOME": str(self.directory),
                "PIPX_HOME": str(self.directory / "pipx"),
                "PIPX_BIN_DIR": str(self.programs),
                "RUNNER_TEMP": str(self.temporary),
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_STEP_SUMMARY": str(self.directory / "summary.md"),
                "GITHUB_REPOSITORY": "acme/org",
                "FAKE_GH": str(self.github.file),
            }
            | {name: str(path) for name, path in written.items()}
            | {**self.environment, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self._say("".join(f"    {line}\n" for line in [*script.splitlines(), *ended.stdout.splitlines()]))
        if ended.returncode:
            self._say(f"    exit code {ended.returncode}")
        self.paths[:0] = written["GITHUB_PATH"].read_text("utf-8").split()
        lines = [line.partition("=") for line in written["GITHUB_OUTPUT"].read_text("utf-8").splitlines()]
        return ended.returncode, {name: value for name, _, value in lines}

    def _say(self, text: str) -> None:
        self.log += f"{text.rstrip()}\n"


def publish(directory: Path) -> dict[str, str]:
    """Return the environment in which git finds the last commit of this checkout where the project is published, as main."""
    clone = directory / "published"
    git("clone", "--quiet", str(ROOT), str(clone), cwd=directory)
    git("checkout", "--quiet", "-B", "main", cwd=clone)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{clone}.insteadOf",
        "GIT_CONFIG_VALUE_0": PROJECT,
    }


def of_the_machine() -> dict[str, str]:
    """Return what of our environment is the machine's: how it reaches registries, and nothing that commands of ours read."""
    ours = ("NATS_", "CYBORG_INFRA_", "GITHUB_", "PYTHON", "XDG_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def filled(value: Any, contexts: Contexts) -> Any:
    """Return a text, or a mapping of texts, with its expressions filled in."""
    if isinstance(value, dict):
        return {name: filled(each, contexts) for name, each in value.items()}
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: as_text(evaluate(found[1], contexts)), str(value))


def evaluate(expression: str, contexts: Contexts) -> Any:
    """Return the value of an expression: `a && b`, `a == 'b'`, `startsWith(a, 'b')`, a literal, or a path into the contexts."""
    if " && " in expression:
        return all(evaluate(each, contexts) for each in expression.split(" && "))
    if " == " in expression:
        left, right = (evaluate(each, contexts) for each in expression.split(" == "))
        return left == right
    if call := re.fullmatch(r"startsWith\((.*), (.*)\)", expression):
        text, beginning = (str(evaluate(each, contexts)) for each in call.groups())
        return text.startswith(beginning)
    if literal := re.fullmatch("'(.*)'", expression):
        return literal[1]
    value: Any = contexts
    for name in expression.split("."):
        value = (value or {}).get(name)
    return value


def as_text(value: Any) -> str:
    """Return a value as it stands in a text."""
    return "" if value is None else str(value)


def git(*arguments: str, cwd: Path) -> str:
    """Run git, and return what it says."""
    ended = subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True)  # noqa: S607
    return ended.stdout.strip()
