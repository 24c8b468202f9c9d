"""The documents say what is so: their shell blocks run, their manifests load, their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cyborg_infra.operations import manifest
from tests.support.cli import Cli
from tests.support.ports import free_port
from tests.support.transcript import BLOCK, matches, run, steps

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
WITH_SHELL = [path for path in DOCUMENTS if steps(path.read_text(encoding="utf-8"))]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def name(path: Any) -> str:
    return path.relative_to(ROOT).as_posix() if isinstance(path, Path) else ""


@pytest.mark.parametrize("path", WITH_SHELL, ids=name)
def test_every_shell_block_does_what_the_document_shows(path: Path, tmp_path: Path) -> None:
    found = steps(path.read_text(encoding="utf-8"))
    for step, printed in zip(found, run(found, tmp_path, free_port()), strict=True):
        if step.shown is not None:
            assert matches(step.shown, printed), f"{step.commands}\nprinted:\n{printed}\nnot:\n{step.shown}"
        assert "Traceback" not in printed, printed


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_link_into_the_project_leads_somewhere(path: Path) -> None:
    links = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_it_is_installed_from_where_it_is(path: Path) -> None:
    """No registry has it yet."""
    installs = re.findall(r"(?:pip|pipx|uv tool) install .*", path.read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    of_us = [line for line in installs if "cyborg-infra" in line]
    assert [line for line in of_us if f"git+{project['urls']['Repository']}" not in line] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_manifest_in_a_document_is_valid(path: Path, cli: Cli, project: Path) -> None:
    for language, text in BLOCK.findall(path.read_text(encoding="utf-8")):
        if language == "yaml" and "roles" in (yaml.safe_load(text) or {}):
            (project / "org.yaml").write_text(text, encoding="utf-8")
            ended = cli("validate")
            assert ended.code == 0, f"{text}\n{ended.err}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_a_picture_in_a_document_is_of_the_manifest_above_it(path: Path, cli: Cli, project: Path) -> None:
    above = None
    for language, text in BLOCK.findall(path.read_text(encoding="utf-8")):
        written = [text] if language == "yaml" else re.findall(r"<<'END'\n(.*?)\nEND\n", text, re.DOTALL)
        above = next((each for each in reversed(written) if "roles:" in each), above)
        if language == "mermaid" and "\n  %% Organisation " in text:
            assert above, path
            (project / "org.yaml").write_text(above, encoding="utf-8")
            assert cli("show", "--format", "mermaid").out == text


def test_the_smallest_manifest_comes_to_what_the_worked_example_comes_to(project: Path) -> None:
    """The README's table is about both."""
    (smallest,) = [
        text
        for language, text in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
        if language == "yaml" and "roles" in text
    ]
    (project / "org.yaml").write_text(smallest, encoding="utf-8")
    _, _, small = manifest.show("org.yaml")
    _, _, worked = manifest.show(str(ROOT / "org.yaml"))
    assert small.resources.keys() == worked.resources.keys()
    assert [
        ref for ref, found in small.resources.items() if found.digest() != worked.resources[ref].digest()
    ] == []


def test_the_demo_goes_as_told() -> None:
    ended = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "All went as told." in ended.stdout
