"""Completion in real shells, as `--install-completion` leaves it, and the schema as editors find it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyborg_infra.operations import manifest
from cyborg_infra.render.findings import PROJECT
from tests.judges import registry
from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT

# What each offers for a word that has not begun. Bash completes for a terminal only: its function is called as it would be.
ASKED = {
    "bash": """
        source "$HOME/.bashrc"
        COMP_WORDS=({words} ''); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        $(complete -p cyborg-infra | sed 's/.*-F \\([^ ]*\\).*/\\1/') cyborg-infra
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "fish": "complete --do-complete '{words} '",
}


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("cyborg-infra", "validate"),
        ("cyborg-infra plan --env", "production"),
        ("cyborg-infra schema", "saved-plan"),
    ],
)
def test_a_shell_completes_commands_and_values(tmp_path: Path, shell: str, words: str, wanted: str) -> None:
    registry.install(registry.named(shell))
    (tmp_path / "org.yaml").write_text(
        "org: acme\nroles: [cto]\nenvironments: {production: {}}\n", encoding="utf-8"
    )
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SHELL": shell,
        "TERM": "xterm",
    }
    installed = subprocess.run(
        [Path(sys.executable).parent / "cyborg-infra", "--install-completion", shell],
        cwd=tmp_path,
        env=environment | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    asked = ASKED[shell].format(words=words, wanted=wanted)
    ended = subprocess.run(
        [shell, "-c", asked],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert wanted in ended.stdout, ended.stdout + ended.stderr


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
