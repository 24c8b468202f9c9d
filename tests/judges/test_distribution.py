"""What is uploaded to a registry is what registries and installers expect."""

from __future__ import annotations

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
