"""What Kubernetes is given it takes. What the container of its Jobs does is in test_container.py."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.judges.conftest import RunJudge
from tests.judges.kubernetes import CHART, KUSTOMIZE, OPTIONS, container, documents, helm_template
from tests.support.agents import until
from tests.support.monitor import RunningMonitor


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


@pytest.mark.server
def test_the_monitor_answers_its_probes_and_takes_the_token(
    judge: RunJudge, server: EmbeddedServer, manifest: Path
) -> None:
    """Of the chart and of Kustomize: its arguments and paths, as a process on a port that is free here."""
    built = judge("kustomize", "build", KUSTOMIZE / "example").stdout
    for found in (documents(helm_template(judge, manifest, *OPTIONS)), documents(built)):
        monitor, (door,) = container(found["Deployment"]), found["Service"]["spec"]["ports"]
        (port,) = monitor["ports"]
        assert door["targetPort"] == port["name"] == "http"
        arguments = [
            each.replace("/etc/cyborg-infra/org.yaml", str(manifest))
            .replace("/var/lib/cyborg-infra", str(manifest.parent))
            .replace(f"0.0.0.0:{port['containerPort']}", "0.0.0.0:0")
            for each in monitor["args"]
        ]
        environment = {
            "NATS_URL": server.url,
            "CYBORG_INFRA_ENV": "production",
            "CYBORG_INFRA_MONITOR_TOKEN": "token",
        }
        with RunningMonitor(*arguments[1:], cwd=manifest.parent, env=environment) as running:
            for probe in ("livenessProbe", "readinessProbe"):
                path = monitor[probe]["httpGet"]["path"]
                until(partial(answers, running, path))
            assert running.get("/metrics").code == 401
            assert running.get("/metrics", {"Authorization": "Bearer token"}).code == 200


def answers(running: RunningMonitor, path: str) -> bool:
    return running.get(path).code == 200


def assert_taken(judge: RunJudge, text: str, directory: Path) -> None:
    """Fail unless each resource fits the schemas of Kubernetes, the oldest that the chart is for and the newest."""
    file = directory / "rendered.yaml"
    file.write_text(text, encoding="utf-8")
    for options in ((), ("--kubernetes-version", "1.31")):
        ended = judge("kubernetes-validate", "--strict", "--quiet", *options, file)
        assert ended.returncode == 0, ended.stdout + text
