"""Completion in real shells, as `--install-completion` leaves it, and the schema as editors find it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyborg_infra.model.project import PROJECT
from cyborg_infra.operations import manifest
from tests.judges import registry
from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT
from tests.support.cli import Terminal

# What each offers for a word that has not begun. Bash completes for a terminal only: its function is called as it would be.
# zsh has no such function: it is asked on a terminal, below.
ASKED = {
    "bash": """
        source "$HOME/.bashrc"
        COMP_WORDS=({words} ''); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        $(complete -p cyborg-infra | sed 's/.*-F \\([^ ]*\\).*/\\1/') cyborg-infra
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "fish": "complete --do-complete '{words} '",
}


OFFERED = pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("cyborg-infra", "validate"),
        ("cyborg-infra plan --env", "production"),
        ("cyborg-infra schema", "saved-plan"),
    ],
)


@OFFERED
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_commands_and_values(tmp_path: Path, shell: str, words: str, wanted: str) -> None:
    environment = installed(shell, tmp_path)
    ended = subprocess.run(
        [shell, "-c", ASKED[shell].format(words=words)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert wanted in ended.stdout, ended.stdout + ended.stderr


@OFFERED
def test_zsh_completes_at_the_first_tab(tmp_path: Path, words: str, wanted: str) -> None:
    """In a new shell, on a terminal. A function that is loaded at the first Tab has to be called then as well."""
    environment = installed("zsh", tmp_path) | {"PS1": "ready> "}
    terminal = Terminal("-i", cwd=tmp_path, env=environment, command=("zsh",))
    try:
        terminal.until("ready> ")
        terminal.type(f"{words} \t")
        terminal.until(wanted)
    finally:
        terminal.process.kill()
        terminal.ended()


def installed(shell: str, home: Path) -> dict[str, str]:
    """Return the environment of a user for whom `--install-completion` was run in this shell; with a manifest."""
    registry.install(registry.named(shell))
    (home / "org.yaml").write_text(
        "org: acme\nroles: [cto]\nenvironments: {production: {}}\n", encoding="utf-8"
    )
    program = Path(sys.executable).parent / "cyborg-infra"
    environment = {
        "HOME": str(home),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "SHELL": shell,
        "TERM": "xterm",
    }
    ended = subprocess.run(
        [program, "--install-completion", shell],
        cwd=home,
        env=environment | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return environment


def test_the_schema_is_at_its_url_in_the_package_and_in_the_catalogue(
    judge: RunJudge, tmp_path: Path
) -> None:
    """The entry is what SchemaStore takes; editors find the schema by the manifest's name."""
    entry = json.loads((ROOT / ".github" / "schemastore.json").read_text(encoding="utf-8"))
    assert set(entry) == {"name", "description", "fileMatch", "url"}
    path = entry["url"].removeprefix(f"{PROJECT.replace('github.com', 'raw.githubusercontent.com')}/main/")
    schema = ROOT / path
    assert json.loads(schema.read_text(encoding="utf-8")) == json.loads(manifest.schema_text("org"))
    printed = tmp_path / "org.schema.json"
    printed.write_text(manifest.schema_text("org"), encoding="utf-8")
    ended = judge("check-jsonschema", "--schemafile", printed, ROOT / "org.yaml")
    assert ended.returncode == 0, ended.stdout
    ended = judge("check-jsonschema", "--check-metaschema", printed)
    assert ended.returncode == 0, ended.stdout
