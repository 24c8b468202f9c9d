"""What the tests of the chart, of Kustomize and of the image share: how they are rendered, and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT

CHART = ROOT / "deploy" / "helm" / "cyborg-infra"
KUSTOMIZE = ROOT / "deploy" / "kustomize"
OPTIONS = (
    "--set",
    "image.tag=0.1.0",
    "--set",
    "environment=production",
    "--set",
    "apply.allow={mass-change}",
    "--set",
    "monitor.enabled=true",
    "--set",
    "monitor.variables=variables",
)


def helm_template(judge: RunJudge, manifest: Path, *options: str) -> str:
    """Return the chart rendered with this manifest."""
    release = ("helm", "template", "acme", CHART, "--kube-version", "1.31.0")
    return judge(*release, *options, "--set-file", f"manifest={manifest}").stdout


def documents(text: str) -> dict[str, dict[str, Any]]:
    """Return the resources by kind."""
    return {found["kind"]: found for found in yaml.safe_load_all(text) if found}


def container(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the one container of a Job, a CronJob or a Deployment."""
    spec = resource["spec"].get("jobTemplate", resource)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    (found,) = spec["containers"]
    assert found["securityContext"]["readOnlyRootFilesystem"]
    return dict(found)
