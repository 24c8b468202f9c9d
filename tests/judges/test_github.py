"""What GitHub, GitLab and pre-commit read is what they take, and shows what it should."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.judges import registry
from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT
from tests.judges.runner import git, publish
from tests.support.cli import run_process

WORKFLOWS = [
    *sorted((ROOT / ".github" / "workflows").glob("*.yml")),
    *sorted((ROOT / "examples" / "github").glob("*.yml")),
]
SARIF = "@microsoft/sarif-multitool-linux"


def test_every_workflow_fits_the_schema(judge: RunJudge) -> None:
    ended = judge("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    assert ended.returncode == 0, ended.stdout


def test_actionlint_has_nothing_to_say(judge: RunJudge) -> None:
    ended = judge("actionlint", "-no-color", *WORKFLOWS)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_the_action_fits_the_schema(judge: RunJudge) -> None:
    ended = judge("check-jsonschema", "--builtin-schema", "vendor.github-actions", ROOT / "action.yml")
    assert ended.returncode == 0, ended.stdout


def test_the_component_is_a_pipeline_for_gitlab(judge: RunJudge, tmp_path: Path) -> None:
    """What is below its inputs, with their defaults put in."""
    _, pipeline = (ROOT / "templates" / "cyborg-infra.yml").read_text(encoding="utf-8").split("\n---\n")
    file = tmp_path / ".gitlab-ci.yml"
    file.write_text(re.sub(r"\$\[\[ inputs\.([\w-]+) \]\]", r"\1", pipeline), encoding="utf-8")
    ended = judge(
        *("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"), file
    )
    assert ended.returncode == 0, ended.stdout


def test_the_hook_runs_where_it_is_installed_by_pre_commit(judge: RunJudge, tmp_path: Path) -> None:
    """With the configuration of the how-to, as it stands there."""
    ended = judge("pre-commit", "validate-manifest", ROOT / ".pre-commit-hooks.yaml")
    assert ended.returncode == 0, ended.stdout
    environment = publish(tmp_path) | {"PRE_COMMIT_HOME": str(tmp_path / "cache")}
    repository = tmp_path / "repository"
    repository.mkdir()
    git("init", "--quiet", cwd=repository)
    how_to = (ROOT / "docs" / "how-to" / "drift-in-ci.md").read_text(encoding="utf-8")
    (configuration,) = re.findall(r"```yaml\n(repos:\n.*?)```", how_to, re.DOTALL)
    (repository / ".pre-commit-config.yaml").write_text(configuration, encoding="utf-8")

    def commit(text: str) -> subprocess.CompletedProcess[str]:
        (repository / "org.yaml").write_text(text, encoding="utf-8")
        git("add", "--all", cwd=repository)
        return judge("pre-commit", "run", cwd=repository, environment=environment)

    good = commit("org: acme\nroles: [cto]\n")
    assert good.returncode == 0, good.stdout
    bad = commit("org: acme\nrolls: [cto]\n")
    assert bad.returncode == 1
    assert "org.yaml:2:1: rolls is no key of the manifest" in bad.stdout


@pytest.mark.parametrize("text", ["org: acme\nrolls: [cto]\n", "org: acme\nroles: [cto, ceo]\n"])
def test_sarif_is_what_its_own_tool_takes(tmp_path: Path, text: str) -> None:
    (tmp_path / "org.yaml").write_text(text, encoding="utf-8")
    log = tmp_path / "problems.sarif"
    log.write_text(run_process("validate", "--format", "sarif", cwd=tmp_path).out, encoding="utf-8")
    tool = registry.install(registry.named(SARIF)).parent / SARIF / "Sarif.Multitool"
    tool.chmod(0o755)  # its package leaves that to a script, and we run none
    ended = subprocess.run(
        [tool, "validate", log, "--rule-kind", "Sarif;Ghas", "--level", "Error;Warning"],
        env=os.environ | {"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
