"""A secret that is given to the command line comes out nowhere, whether it is right or wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.cli import Cli, Terminal
from tests.support.servers import StartServer

RIGHT = "m4rker-RIGHT-p4ss"
WRONG = "m4rker-WRONG-p4ss"
LOGIN = f"authorization {{ user: tester, password: '{RIGHT}' }}"

Way = Callable[[int, str, Path], tuple[list[str], Mapping[str, str]]]
"""Port, password and directory of contexts to the options and variables that carry the password."""


@pytest.fixture
def locked(start_server: StartServer) -> EmbeddedServer:
    """Return a server that wants a password."""
    return start_server(config=LOGIN)


def by_url(port: int, password: str, _: Path) -> tuple[list[str], Mapping[str, str]]:
    return [], {"NATS_URL": f"nats://tester:{password}@127.0.0.1:{port}"}


def by_option(port: int, password: str, _: Path) -> tuple[list[str], Mapping[str, str]]:
    return ["--server", f"127.0.0.1:{port}", "--user", "tester", "--password", password], {}


def by_variables(port: int, password: str, _: Path) -> tuple[list[str], Mapping[str, str]]:
    return [], {"NATS_URL": f"127.0.0.1:{port}", "NATS_USER": "tester", "NATS_PASSWORD": password}


def by_context(port: int, password: str, config: Path) -> tuple[list[str], Mapping[str, str]]:
    directory = config / "nats" / "context"
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"url": f"nats://127.0.0.1:{port}", "user": "tester", "password": password}
    (directory / "prod.json").write_text(json.dumps(settings), encoding="utf-8")
    return ["--context", "prod"], {}


def by_the_url_of_a_context(port: int, password: str, config: Path) -> tuple[list[str], Mapping[str, str]]:
    directory = config / "nats" / "context"
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"url": f"nats://tester:{password}@127.0.0.1:{port}"}
    (directory / "prod.json").write_text(json.dumps(settings), encoding="utf-8")
    return [], {"NATS_CONTEXT": "prod"}


WAYS = [by_url, by_option, by_variables, by_context, by_the_url_of_a_context]
LINES = ("plan", "plan --format json", "plan --format markdown", "plan --out it.plan", "drift", "apply --yes")


@pytest.mark.parametrize("password", [RIGHT, WRONG], ids=["right", "wrong"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_password_comes_out(
    cli: Cli,
    locked: EmbeddedServer,
    way: Way,
    password: str,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options, variables = way(locked.port, password, tmp_path / "config")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for line in LINES:
        ended = cli(*line.split(), *options)
        differs = line.startswith("drift")  # nothing of the organisation is there
        assert ended.code == ((2 if differs else 0) if password == RIGHT else 1)
        assert "m4rker" not in ended.out + ended.err
    assert [path.name for path in project.iterdir() if "m4rker" in path.read_text(encoding="utf-8")] == []
    shown = Terminal("plan", *options, cwd=project).ended().out
    assert "m4rker" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "nats://tester:m4rker@",
        "http://tester:m4rker@127.0.0.1",
        "nats://tester:m4rker@127.0.0.1:port",
        "nats://m4rker@127.0.0.1:1",
        "nats://tester:m4rker@[::1",
        "nats://ok,nats://tester:m4rker@127.0.0.1:99999",
        "tester:m4rker@127.0.0.1:1",
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_url_that_cannot_be_used_is_quoted_without_its_secret(cli: Cli, url: str, form: str) -> None:
    ended = cli("plan", "--format", form, "--server", url)
    assert ended.code == 1
    assert "m4rker" not in ended.out + ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("option", ["--token", "--seed", "--jwt", "--password"])
def test_a_secret_that_fits_nowhere_is_not_quoted(cli: Cli, locked: EmbeddedServer, option: str) -> None:
    ended = cli("plan", "--server", locked.url, option, "m4rker")
    assert ended.code == 1
    assert "m4rker" not in ended.out + ended.err
