"""What is shipped works where there is no checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.cli import SMALL, CommandResult

ROOT = Path(__file__).parents[2]
DEVELOPMENT = (".venv", ".servers", ".git", "dist", "__pycache__")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the wheel and the sdist; the wheel is built from the sdist, as `make build` does it."""
    dist = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with nothing but the installed wheel."""
    target = tmp_path_factory.mktemp("installed")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, "--target", target, built[0]], check=True)
    return target


def run(installed: Path, directory: Path, *arguments: str) -> CommandResult:
    """Return the installed package, with its dependencies but without the checkout: -S leaves out the editable install."""
    path = os.pathsep.join([str(installed), sysconfig.get_paths()["purelib"]])
    ended = subprocess.run(
        [sys.executable, "-S", "-m", "cyborg_infra", *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return CommandResult(ended.returncode, ended.stdout, ended.stderr)


def test_the_installed_package_validates_a_manifest(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "org.yaml").write_text(SMALL, encoding="utf-8")
    valid = run(installed, tmp_path, "validate")
    assert (valid.code, valid.out) == (
        0,
        "org.yaml is valid: organisation acme, 2 roles, 5 streams and 7 consumers.\n",
    )
    (tmp_path / "org.yaml").write_text("org: acme\nrolls: [cto]\n", encoding="utf-8")
    assert run(installed, tmp_path, "validate").code == 1


def test_the_installed_package_checks_a_message(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "query.json").write_text(
        '{"type": "query", "question": "Is staging healthy?"}', encoding="utf-8"
    )
    checked = run(installed, tmp_path, "message", "check", "query.json")
    assert checked == CommandResult(0, "1 message is valid: 1 query.\n", "")


def test_it_is_the_installed_package_that_was_tested(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "--version") == CommandResult(0, "cyborg-infra 0.1.0\n", "")
    shown = subprocess.run(
        [sys.executable, "-S", "-c", "import cyborg_infra; print(cyborg_infra.__file__)"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith(str(installed))


def test_the_wheel_has_the_schemas_and_nothing_of_development(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
    for schema in (ROOT / "schemas").rglob("*.json"):
        assert f"cyborg_infra/schemas/{schema.relative_to(ROOT / 'schemas').as_posix()}" in names
    assert {entry.split("/")[0] for entry in names} == {"cyborg_infra", "cyborg_infra-0.1.0.dist-info"}


def test_the_description_leads_to_the_repository_from_wherever_it_is_read(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        description = wheel.read("cyborg_infra-0.1.0.dist-info/METADATA").decode("utf-8").split("\n\n", 1)[1]
    links = re.findall(r"\]\(([^)]+)\)", description)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"{project['urls']['Repository']}/blob/main/docs/tutorial.md" in links
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_sdist_can_be_tested_and_holds_nothing_of_the_machine(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        names = [entry.partition("/")[2] for entry in sdist.getnames()]
    for expected in (
        *("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "org.yaml"),
        *(
            "cyborg_infra/operations/provision.py",
            "schemas/org.schema.json",
            "tests/conftest.py",
            "docs/tutorial.md",
        ),
        *("examples/demo.py", "benchmarks/floor.py", "LICENSE", "SECURITY.md", "requirements-dev.lock"),
    ):
        assert expected in names
    assert [entry for entry in names if set(entry.split("/")) & set(DEVELOPMENT)] == []
