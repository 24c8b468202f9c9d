"""No seed of an nkey comes out: not of the files that `auth` works with, and not one that is given where none belongs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from cyborg_infra.cli import auth
from cyborg_infra.cli.app import names
from cyborg_infra.model.key_pairs import KeyKind
from cyborg_infra.operations.key_files import credentials, new_key
from tests.support.cli import SMALL, Cli

SECRETS = {".nk", ".creds", ".old"}
SEEDS = {kind: new_key(kind).seed for kind in KeyKind}
LENGTH = 58
CREDS = credentials("token", SEEDS[KeyKind.USER])
VARIABLES = ("URL", "CONTEXT", "CREDS", "NKEY", "CERT", "KEY", "CA", "TIMEOUT")
TRUST = ("--claims", "trust/account.jwt", "--claims", "trust/agents.jwt")
PUSH = (*TRUST, "--operator-key", "trust/operator.nk", "--yes")
AGENTS = ("--agents-account", "trust/agents.jwt")
PLACE = ("--account", "trust/account.jwt", *AGENTS)
LINES = {
    "operator": (("--dir", "trust"), ("--dir", "trust")),
    "show": ((), ("--identity", "cto"), ("--format", "json"), ("--format", "markdown"), ("--identity", "x")),
    "explain": (("cto", "publish", "a"), ("cto", "pull", "x")),
    "keys": (("--dir", "nkeys"), ("--dir", "nkeys"), ("--dir", "org.yaml")),
    "config": (("--keys", "nkeys", "--out", "a.conf"), ("--keys", "none", "--out", "b.conf")),
    "creds": (
        PLACE,
        (*PLACE, "--format", "json"),
        ("--account", "trust/account.nk", *AGENTS),
        ("--account", "x", *AGENTS),
    ),
    "plan": (
        TRUST,
        (*TRUST, "--format", "json"),
        (*TRUST, "--out", "it.plan"),
        ("--claims", "trust/account.nk"),
    ),
    "apply": (
        (*TRUST, "--operator-key", "trust/account.nk", "--yes"),
        (*TRUST, "--operator-key", "trust/system.creds", "--yes"),
        (*TRUST, "--yes"),
        PUSH,
        ("it.plan", *PUSH),
    ),
    "drift": (TRUST, (*TRUST, "--format", "json"), (*TRUST, "--server", "nats://127.0.0.1:1")),
    "rotate": (("cto", *PLACE), ("cto", *PLACE), ("x", *PLACE)),
    "revoke": (("cto", *PUSH), ("cto", *PUSH, "--format", "json"), ("x", *PUSH)),
}
"""Each command of `auth` as it works and as it does not, one after the other in one directory."""


def is_told(text: str, seeds: set[str]) -> bool:
    """Return whether enough of a seed is in a text, in whatever letters, to be worth something."""
    return any(seed[:20].lower() in text.lower() for seed in seeds)


@pytest.mark.parametrize("damaged", ["", "cto.signing.nk", "cto.creds", "cto.nk"])
def test_no_command_of_auth_tells_a_seed_whether_it_succeeds_or_fails(
    cli: Cli, project: Path, damaged: str
) -> None:
    """Damaged: a file that is found to be so by every command that comes to it."""
    assert LINES.keys() == auth.COMMANDS.keys()
    said, codes, seeds = "", set[int](), set[str]()
    for name, lines in LINES.items():
        for line in lines:
            ended = cli("auth", name, *line)
            codes.add(ended.code)
            said += ended.out + ended.err
        for path in (each for each in project.rglob("*") if each.suffix in SECRETS):
            text = path.read_text(encoding="utf-8")
            seeds |= {word for word in text.split() if word.startswith("S") and len(word) == LENGTH}
            if damaged and path.name == damaged:
                path.write_text(text.replace("A", "B", 1).replace("E", "F"), encoding="utf-8")
    assert len(seeds) >= 15, "of four accounts, an operator, and identities in both ways"
    assert codes >= {0, 1}
    written = "".join(
        path.read_text(encoding="utf-8")
        for path in project.rglob("*")
        if path.is_file() and path.suffix not in SECRETS
    )
    assert not is_told(said + written, seeds)
    assert "Traceback" not in said


def test_a_seed_where_none_belongs_is_refused_before_anything_happens(cli: Cli, project: Path) -> None:
    there = sorted(project.rglob("*"))
    seed = SEEDS[KeyKind.OPERATOR]
    for name in names():
        for words in (
            (seed,),
            ("--keys", seed),
            (f"--out={seed}",),
            ("--creds", CREDS),
            ("--format", "json", seed),
        ):
            ended = cli(*name.split(), *words)
            assert (ended.code, "a seed itself, where none belongs" in ended.err) == (1, True), (
                name,
                ended.err,
            )
            assert not is_told(ended.out + ended.err, {*SEEDS.values()})
    assert sorted(project.rglob("*")) == there


@pytest.mark.parametrize(
    "variable",
    [*(f"NATS_{name}" for name in VARIABLES), "CYBORG_INFRA_ACCOUNT", "CYBORG_INFRA_AGENTS_ACCOUNT"],
)
@pytest.mark.parametrize("value", [SEEDS[KeyKind.USER], CREDS], ids=["seed", "creds"])
def test_a_variable_that_holds_a_seed_is_told_without_it(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    (project / "org.yaml").write_text(SMALL, encoding="utf-8")
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv(variable, value)
    for words in ("plan", "plan --format json", "auth creds", "auth plan"):
        ended = cli(*words.split())
        assert ended.code == 1
        assert not is_told(ended.out + ended.err, {*SEEDS.values()})
        assert "Traceback" not in ended.err


def test_a_bug_of_ours_keeps_its_traceback_and_tells_no_seed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that breaks with a seed in its hands, in the place of one that does not."""
    seed = SEEDS[KeyKind.ACCOUNT]

    def command() -> None:
        raise RuntimeError(f"cannot use {seed}")

    broken = ModuleType("broken")
    broken.command, broken.EXAMPLES = command, ""  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cyborg_infra.cli.schema", broken)
    ended = cli("schema")
    assert (ended.code, "Traceback" in ended.err, "cannot use (a seed)" in ended.err) == (1, True, True)
    assert not is_told(ended.out + ended.err, {seed})
