"""What tests share: real servers, fresh for each test and killed at its end; the command line; golden texts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import SMALL, Cli, Ended
from hypothesis.configuration import set_hypothesis_home_dir
from raw import Api
from servers import NEWEST, VERSIONS, StartServer, server_binary

from cyborg_infra.cli.app import run
from cyborg_infra.live.embedded import EmbeddedServer

Golden = Callable[[Path, str], None]


def pytest_configure() -> None:
    """Two workers that fill one directory of hypothesis' at once read each other's half-written files."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    set_hypothesis_home_dir(Path(__file__).parents[1] / ".hypothesis" / worker)
    # A shell starts what runs in the background without Ctrl-C, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-cases", action="store_true", help="write the golden texts instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """A function that asserts that a file holds exactly this text, or makes it so under --update-cases."""
    update = request.config.getoption("--update-cases")

    def compare(path: Path, actual: str) -> None:
        if update:
            path.write_text(actual, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == actual

    return compare


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """A function that starts a server; any number of them."""
    started: list[EmbeddedServer] = []

    def start(
        *, config: str = "", jetstream: bool = True, version: str = NEWEST, port: int = 0, name: str = ""
    ) -> EmbeddedServer:
        server = EmbeddedServer(
            tmp_path / f"server{len(started)}",
            port=port,
            name=name,
            config=config,
            jetstream=jetstream,
            binary=server_binary(version),
        )
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def server(start_server: StartServer) -> EmbeddedServer:
    """A fresh, empty server of the newest version, with JetStream; `.url` is where it is."""
    return start_server()


@pytest.fixture(params=VERSIONS)
def any_server(request: pytest.FixtureRequest, start_server: StartServer) -> EmbeddedServer:
    """As `server`, once for every version that the tests run against."""
    return start_server(version=str(request.param))


@pytest.fixture
def api(server: EmbeddedServer) -> Iterator[Api]:
    """An independent client of `server`, which uses nothing of cyborg_infra."""
    with Api(server.url) as connected:
        yield connected


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a small org.yaml in it and nothing else."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "org.yaml").write_text(SMALL, encoding="utf-8")
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command line in this process, in the directory `project`."""

    def call(*arguments: str) -> Ended:
        code = run([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    assert project.is_dir()
    return call


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the NATS contexts and variables of whoever runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("URL", "USER", "PASSWORD", "TOKEN", "CREDS", "NKEY", "JWT", "SEED", "CERT", "KEY", "CA"):
        monkeypatch.delenv(f"NATS_{name}", raising=False)
    for name in ("TIMEOUT", "CONTEXT"):
        monkeypatch.delenv(f"NATS_{name}", raising=False)
