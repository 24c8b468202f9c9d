"""Workflows are what GitHub takes: its schema, and what is said of expressions, permissions and shell."""

from __future__ import annotations

from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_every_workflow_fits_the_schema(judge: RunJudge) -> None:
    ended = judge("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    assert ended.returncode == 0, ended.stdout


def test_actionlint_has_nothing_to_say(judge: RunJudge) -> None:
    ended = judge("actionlint", "-no-color", *WORKFLOWS)
    assert (ended.returncode, ended.stdout) == (0, "")
