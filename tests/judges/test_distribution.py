"""What is uploaded to a registry is what registries and installers expect, and what every installer installs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT


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


@pytest.fixture(scope="module")
def sources(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what can be installed: the wheel, the sdist, and a clone of the repository by its URL."""
    clone = tmp_path_factory.mktemp("clone")
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True, capture_output=True)  # noqa: S607
    return {"wheel": str(built[0]), "sdist": str(built[1]), "repository": f"git+file://{clone}"}


@pytest.mark.parametrize("source", ["wheel", "sdist", "repository"])
def test_it_is_installed_where_nothing_was(
    judge: RunJudge, sources: dict[str, str], tmp_path: Path, source: str
) -> None:
    """With its dependencies, its schemas and the server."""
    ended = judge("uv", "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    assert ended.returncode == 0, ended.stdout
    python = tmp_path / "venv" / "bin" / "python"
    ended = judge(
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        f"cyborg-infra[server] @ {as_url(sources[source])}",
    )
    assert ended.returncode == 0, ended.stdout
    programs = python.parent
    assert (
        cyborg_infra(programs / "cyborg-infra", tmp_path)
        == "org.yaml is valid: organisation acme, 1 role, 4 streams and 4 consumers.\n"
    )
    assert (programs / "nats-server").exists()


def test_pipx_and_uv_tool_install_a_command(judge: RunJudge, sources: dict[str, str], tmp_path: Path) -> None:
    homes = {
        "PIPX_HOME": tmp_path / "pipx",
        "PIPX_BIN_DIR": tmp_path / "pipx-bin",
        "UV_TOOL_DIR": tmp_path / "uv",
    }
    homes |= {"UV_TOOL_BIN_DIR": tmp_path / "uv-bin"}
    environment = {name: str(path) for name, path in homes.items()}
    for command in (
        ("pipx", "install", "--quiet", sources["wheel"]),
        ("uv", "tool", "install", "--quiet", "--python", sys.executable, sources["repository"]),
    ):
        ended = judge(*command, environment=environment)
        assert ended.returncode == 0, ended.stdout
    for programs in ("pipx-bin", "uv-bin"):
        assert "is valid" in cyborg_infra(tmp_path / programs / "cyborg-infra", tmp_path)
    ran = judge(
        "uv", "tool", "run", "--quiet", "--python", sys.executable, "--from", ".", "cyborg-infra", "--version"
    )
    assert (ran.returncode, ran.stdout.split()[0]) == (0, "cyborg-infra"), ran.stdout


def test_an_installation_has_a_bill_of_materials(judge: RunJudge, tmp_path: Path) -> None:
    bill = tmp_path / "sbom.json"
    ended = judge("cyclonedx-py", "environment", "--output-reproducible", "--output-file", bill, sys.prefix)
    assert ended.returncode == 0, ended.stdout
    assert "nats-py" in {part["name"] for part in json.loads(bill.read_text(encoding="utf-8"))["components"]}


def as_url(source: str) -> str:
    """Return the source as a requirement names it."""
    return source if source.startswith("git+") else f"file://{source}"


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
