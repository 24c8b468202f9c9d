"""What the tests with judges share: a judge is run by its name, and is installed the first time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pytest

from tests.judges import registry

NOTHING = MappingProxyType[str, str]({})


PROGRAMS_VARIABLE = "BENCH_PROVIDER_DIR"
"""Names a directory with programs that no registry of packages has; their own projects publish them."""


def built(name: str) -> Path:
    """Return a program from that directory or from PATH; where it is in neither, the test is skipped, and says so."""
    path = os.pathsep.join(filter(None, (os.environ.get(PROGRAMS_VARIABLE), os.environ.get("PATH"))))
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not on PATH nor in {PROGRAMS_VARIABLE}, and no registry has it")
    return Path(found)


class RunJudge(Protocol):
    """Runs a judge and returns how it ended; `text` is what it can read on standard input."""

    def __call__(
        self,
        name: str,
        *arguments: str | Path,
        cwd: Path = registry.ROOT,
        environment: Mapping[str, str] = NOTHING,
        text: str = "",
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def judge() -> RunJudge:
    """Return a function that runs a judge, with standard output and standard error in one text."""

    def run(
        name: str,
        *arguments: str | Path,
        cwd: Path = registry.ROOT,
        environment: Mapping[str, str] = NOTHING,
        text: str = "",
    ) -> subprocess.CompletedProcess[str]:
        programs = registry.install(registry.named(name))
        return _run(
            programs / name, *arguments, cwd=cwd, programs=programs, environment=environment, text=text
        )

    return run


@pytest.fixture(scope="session")
def node() -> RunJudge:
    """Return a function that runs a script of `programs/` with node, where it can import the libraries from npm."""

    def run(
        name: str,
        *arguments: str | Path,
        cwd: Path = registry.ROOT,
        environment: Mapping[str, str] = NOTHING,
        text: str = "",
    ) -> subprocess.CompletedProcess[str]:
        programs = registry.install(registry.of(registry.Ecosystem.NPM)[0])
        script = programs.parents[1] / name  # node looks for modules from where a script is
        shutil.copy(registry.PROGRAMS / name, script)
        return _run(
            Path("node"), script, *arguments, cwd=cwd, programs=programs, environment=environment, text=text
        )

    return run


def _run(
    program: Path,
    *arguments: str | Path,
    cwd: Path,
    programs: Path,
    environment: Mapping[str, str],
    text: str,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"} | dict(environment),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
