"""What Kubernetes is given it takes, and what the container is told to run does what it should."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cyborg_infra.live.embedded import EmbeddedServer
from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT
from tests.support.cli import run_process

CHART = ROOT / "deploy" / "helm" / "cyborg-infra"
KUSTOMIZE = ROOT / "deploy" / "kustomize"
OPTIONS = (
    "--set",
    "image.tag=0.1.0",
    "--set",
    "environment=production",
    "--set",
    "apply.allow={mass-change}",
)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "org.yaml"
    file.write_text("org: acme\nroles: [cto]\nenvironments: {production: {}}\n", encoding="utf-8")
    return file


def documents(text: str) -> dict[str, dict[str, Any]]:
    """Return the resources by kind."""
    return {found["kind"]: found for found in yaml.safe_load_all(text) if found}


def container(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the one container of a Job or CronJob."""
    spec = resource["spec"].get("jobTemplate", resource)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    (found,) = spec["containers"]
    assert found["securityContext"]["readOnlyRootFilesystem"]
    return dict(found)


@pytest.mark.parametrize("argo_cd", ["false", "true"])
def test_the_chart_is_what_kubernetes_takes(
    judge: RunJudge, manifest: Path, tmp_path: Path, argo_cd: str
) -> None:
    options = (*OPTIONS, "--set", f"apply.argoCD={argo_cd}", "--set-file", f"manifest={manifest}")
    linted = judge("helm", "lint", "--strict", CHART, *options)
    assert linted.returncode == 0, linted.stdout
    rendered = judge("helm", "template", "acme", CHART, "--kube-version", "1.31.0", *options)
    assert_taken(judge, rendered.stdout, tmp_path)
    found = documents(rendered.stdout)
    assert found["ConfigMap"]["data"]["org.yaml"] == manifest.read_text(encoding="utf-8")
    assert container(found["Job"])["args"][-2:] == ["--allow", "mass-change"]


def test_without_a_manifest_or_a_version_the_chart_says_what_is_missing(judge: RunJudge) -> None:
    ended = judge("helm", "template", "acme", CHART, "--kube-version", "1.31.0", "--set", "image.tag=1")
    assert "manifest: --set-file manifest=org.yaml" in ended.stdout
    ended = judge("helm", "template", "acme", CHART, "--kube-version", "1.31.0", "--set", "manifest=x")
    assert "image.tag: the version of cyborg-infra to run" in ended.stdout


def test_kustomize_makes_what_kubernetes_takes(judge: RunJudge, tmp_path: Path) -> None:
    built = judge("kustomize", "build", KUSTOMIZE / "example")
    assert_taken(judge, built.stdout, tmp_path)
    found = documents(built.stdout)
    assert found["Job"]["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "Sync"
    assert container(found["CronJob"])["image"] == "ghcr.io/genbrain/cyborg-infra:0.1.0"


@pytest.mark.server
def test_the_containers_do_what_they_are_there_for(
    judge: RunJudge, server: EmbeddedServer, manifest: Path
) -> None:
    """The arguments of both, of the chart and of Kustomize, given to the command line."""
    rendered = judge(
        *("helm", "template", "acme", CHART, "--kube-version", "1.31.0", *OPTIONS),
        *("--set-file", f"manifest={manifest}"),
    )
    built = judge("kustomize", "build", KUSTOMIZE / "example")
    for found in (documents(rendered.stdout), documents(built.stdout)):
        for kind in ("Job", "CronJob"):
            arguments = [
                str(manifest) if each == "/etc/cyborg-infra/org.yaml" else each
                for each in container(found[kind])["args"]
            ]
            environment = {"NATS_URL": server.url, "CYBORG_INFRA_ENV": "production"}
            ended = run_process(*arguments, cwd=manifest.parent, env=environment)
            assert ended.code == 0, ended.err


def assert_taken(judge: RunJudge, text: str, directory: Path) -> None:
    """Fail unless each resource fits the schemas of Kubernetes, the oldest that the chart is for and the newest."""
    file = directory / "rendered.yaml"
    file.write_text(text, encoding="utf-8")
    for options in ((), ("--kubernetes-version", "1.31")):
        ended = judge("kubernetes-validate", "--strict", "--quiet", *options, file)
        assert ended.returncode == 0, ended.stdout + text


def test_the_steps_of_the_dockerfile_lead_to_a_command_and_nothing_else(tmp_path: Path) -> None:
    """Replayed below a directory of their own. A read-only root it has in the cluster: nothing is compiled at run time."""
    ignored = [
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[0] == "!"
    ]
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(sys.executable)
    directory, environment, settings = tmp_path, dict(os.environ), {}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    for instruction, rest in steps((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        inside = re.sub(r"(?<![\w.])/(?=opt/|src\b)", f"{tmp_path}/", rest)
        match instruction:
            case "WORKDIR" if rest == "/src":
                directory = Path(inside)
                directory.mkdir()
            case "COPY" if not rest.startswith("--from"):
                *sources, target = inside.split()
                for source in sources:
                    assert source.rstrip("/") in ignored
                    copy(ROOT / source, directory / target)
            case "RUN":
                subprocess.run(["bash", "-ec", inside], cwd=directory, env=environment, check=True)  # noqa: S607
            case _:
                settings[instruction] = rest
    assert settings["USER"] == "65532:65532"
    program = tmp_path / "opt" / "cyborg-infra" / "bin" / shlex.split(settings["ENTRYPOINT"].strip("[]"))[0]
    (tmp_path / "org.yaml").write_text("org: acme\nroles: [cto]\n", encoding="utf-8")
    ended = subprocess.run([program, "validate"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not (program.parent / "pip").exists()


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """Return the instructions with what follows each."""
    lines = [line for line in dockerfile.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def copy(source: Path, target: Path) -> None:
    """Copy as COPY does: a directory's content, or a file into a directory."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
