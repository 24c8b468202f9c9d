"""The rules of the house hold: who imports whom, what is generated, what is tracked."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "cyborg_infra").rglob("*.py"))
MODULES = [
    *PACKAGE,
    *(
        path
        for part in ("tests", "docs", "examples", "benchmarks")
        for path in sorted((ROOT / part).rglob("*.py"))
    ),
]
SCHEMAS = sorted((ROOT / "schemas").rglob("*.json"))
LONGEST = 400
# What only a machine or a private registry would put into a file; a part of each is left out here, for this file's sake.
TRACES = re.compile(
    r"/(?:home|root|Users|work|private)/\w|/tmp/\w|\bpypi\.\w+\.(?!org\b)\w+|index-url", re.IGNORECASE
)


def name(path: object) -> str:
    return path.relative_to(ROOT).as_posix() if isinstance(path, Path) else ""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_import_contract_holds() -> None:
    ended = run(
        "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"
    )
    assert ended.returncode == 0, ended.stdout
    assert " 0 broken" in ended.stdout


def test_what_is_generated_is_up_to_date() -> None:
    ended = run("docs/generate.py", "--check")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":")) or len(docstring.splitlines()) > 1


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_no_module_is_longer_than_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_every_schema_is_valid_and_describes_itself(path: Path) -> None:
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    assert {"$id", "title", "description"} <= schema.keys()


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_every_schema_is_used(path: Path) -> None:
    """By the manifest room, or by a test that holds an output against it."""
    word = path.name.removesuffix(".schema.json")
    sources = "".join(module.read_text(encoding="utf-8") for module in MODULES if module != Path(__file__))
    assert path.name in sources or f'assert_fits("{word}"' in sources or f'"{word}"' in sources


def test_nothing_tracked_tells_of_a_machine() -> None:
    """No absolute path of a developer, no registry but the public one."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    if tracked.returncode != 0:
        pytest.fail("this test needs the git checkout")
    found = []
    for entry in filter(None, tracked.stdout.split("\0")):
        path = ROOT / entry
        if path.is_file() and path != Path(__file__):
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{entry}: {match[0]}" for match in TRACES.finditer(text)]
    assert found == []


def test_every_command_is_in_the_readme() -> None:
    from cyborg_infra.cli.app import COMMANDS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [word for word in COMMANDS if f"`{word}`" not in readme] == []


def test_make_alone_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert [
        target for target in phony.split() if not re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
    ] == []
