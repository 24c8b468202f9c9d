"""What Kubernetes is given it takes. What its Jobs do is in test_container.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.judges.conftest import RunJudge
from tests.judges.kubernetes import CHART, KUSTOMIZE, OPTIONS, container, documents, helm_template


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "org.yaml"
    file.write_text("org: acme\nroles: [cto]\nenvironments: {production: {}}\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("argo_cd", ["false", "true"])
def test_the_chart_is_what_kubernetes_takes(
    judge: RunJudge, manifest: Path, tmp_path: Path, argo_cd: str
) -> None:
    options = (*OPTIONS, "--set", f"apply.argoCD={argo_cd}")
    linted = judge("helm", "lint", "--strict", CHART, *options, "--set-file", f"manifest={manifest}")
    assert linted.returncode == 0, linted.stdout
    rendered = helm_template(judge, manifest, *options)
    assert_taken(judge, rendered, tmp_path)
    found = documents(rendered)
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


def assert_taken(judge: RunJudge, text: str, directory: Path) -> None:
    """Fail unless each resource fits the schemas of Kubernetes, the oldest that the chart is for and the newest."""
    file = directory / "rendered.yaml"
    file.write_text(text, encoding="utf-8")
    for options in ((), ("--kubernetes-version", "1.31")):
        ended = judge("kubernetes-validate", "--strict", "--quiet", *options, file)
        assert ended.returncode == 0, ended.stdout + text
