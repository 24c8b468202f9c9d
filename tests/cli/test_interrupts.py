"""A signal that comes while a command starts ends it, without a traceback, whatever is being imported."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

STARTS = """
import os, sys
from importlib.abc import MetaPathFinder
class Signal(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Signal())
sys.argv = ["cyborg-infra", "validate", "org.yaml"]
from cyborg_infra.__main__ import main
main()
"""
"""Python's own way to import tells when a module is looked for: the same moment every time."""


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("cyborg_infra.cli.app", signal.SIGINT),
        ("typer", signal.SIGTERM),
        ("yaml", signal.SIGHUP),
        ("jsonschema_rs", signal.SIGINT),
    ],
)
def test_a_signal_while_a_command_starts_ends_it_without_a_word(
    tmp_path: Path, module: str, number: signal.Signals
) -> None:
    (tmp_path / "org.yaml").write_text("org: acme\nroles: [cto]\n", encoding="utf-8")
    program = STARTS.format(module=module, number=int(number))
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-number, "", "")


def test_who_was_started_without_a_signal_is_not_ended_by_it(tmp_path: Path) -> None:
    """As by nohup."""
    (tmp_path / "org.yaml").write_text("org: acme\nroles: [cto]\n", encoding="utf-8")
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    program = ignoring + STARTS.format(module="yaml", number=int(signal.SIGHUP))
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
