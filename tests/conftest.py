"""What tests share: real servers, fresh for each test and killed at its end; the command line; golden texts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from cyborg_infra.cli.app import run_command_line
from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.cli import SMALL, Cli, CommandResult
from tests.support.faults import Faults
from tests.support.nats_client import Api
from tests.support.ports import free_port
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST, VERSIONS, StartServer, server_binary

Golden = Callable[[Path, str], None]


LONGEST = (  # they wait for elections more than they compute
    "tests/server/cluster/",
    "tests/server/test_operator_day.py",
    "tests/server/apply/test_stream_backups.py",
)
collect_ignore = ["judges"]  # `make judges` names them
FOLDERS_WITH_SERVERS = ("chaos", "predictions", "robustness", "server")


def pytest_configure() -> None:
    """Two workers that fill one directory of hypothesis' at once read each other's half-written files."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    set_hypothesis_home_dir(Path(__file__).parents[1] / ".hypothesis" / worker)
    # A shell starts what runs in the background without Ctrl-C, nohup without SIGHUP; and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-cases", action="store_true", help="write the golden texts instead of comparing"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a server, by its folder or our fixture; elsewhere a test that starts one by itself is marked there.

    What takes longest comes first, for one worker: else all the others may be done when it begins.
    """
    for item in items:
        here = item.path.relative_to(Path(__file__).parent).parts[0] in FOLDERS_WITH_SERVERS
        if here or (isinstance(item, pytest.Function) and "start_server" in item.fixturenames):
            item.add_marker("server")
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(autouse=True)
def _server_only_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test-fast` leaves out what is marked, and so must know all that starts a server."""

    def unmarked(_: EmbeddedServer) -> NoReturn:
        pytest.fail("a test that starts a server without our fixture has the mark `server`")

    if request.node.get_closest_marker("server") is None:
        monkeypatch.setattr(EmbeddedServer, "start", unmarked)


@pytest.fixture
def faults() -> Iterator[Faults]:
    """Yield what breaks requests and shortens waits until the end of the test."""
    with Faults.opened() as opened:
        yield opened


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Return a function that asserts that a file holds exactly this text, or makes it so under --update-cases."""
    update = request.config.getoption("--update-cases")

    def compare(path: Path, actual: str) -> None:
        if update:
            path.write_text(actual, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == actual

    return compare


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Yield a function that starts a server; any number of them."""
    started: list[EmbeddedServer] = []

    def start(
        *, config: str = "", jetstream: bool = True, version: str = NEWEST, port: int = 0, name: str = ""
    ) -> EmbeddedServer:
        server = EmbeddedServer(
            tmp_path / f"server{len(started)}",
            port=port or free_port(),  # it is the server's own also while that is down
            name=name,
            config=config,
            jetstream=jetstream,
            binary=server_binary(version),
        )
        started.append(server)
        return server.start(timeout=60)

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def server(start_server: StartServer) -> EmbeddedServer:
    """Return a fresh, empty server of the newest version, with JetStream; `.url` is where it is."""
    return start_server()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses `any_server` once for every version, or for those that its mark `servers` names."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "any_server" in metafunc.fixturenames and not any("any_server" in mark.args[0] for mark in marks):
        mark = metafunc.definition.get_closest_marker("servers")
        metafunc.parametrize("any_server", mark.args if mark else VERSIONS, indirect=True)


@pytest.fixture
def any_server(request: pytest.FixtureRequest, start_server: StartServer) -> EmbeddedServer:
    """Return as `server`, once for every version that the tests run against; `@pytest.mark.servers(...)` names others."""
    return start_server(version=str(request.param))


@pytest.fixture
def scenario(any_server: EmbeddedServer, tmp_path: Path) -> Iterator[Scenario]:
    """Yield a scenario on `any_server`. A module whose scenarios begin elsewhere has a fixture of this name of its own."""
    with Scenario(any_server.url, tmp_path) as opened:
        yield opened


@pytest.fixture
def api(server: EmbeddedServer) -> Iterator[Api]:
    """Yield an independent client of `server`, which uses nothing of cyborg_infra."""
    with Api(server.url) as connected:
        yield connected


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with a small org.yaml in it and nothing else."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "org.yaml").write_text(SMALL, encoding="utf-8")
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line in this process, in the directory `project`."""

    def call(*arguments: str) -> CommandResult:
        code = run_command_line([str(argument) for argument in arguments])
        return CommandResult(code, *capsys.readouterr())

    assert project.is_dir()
    return call


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the NATS contexts and variables of whoever runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("URL", "USER", "PASSWORD", "TOKEN", "CREDS", "NKEY", "JWT", "SEED", "CERT", "KEY", "CA"):
        monkeypatch.delenv(f"NATS_{name}", raising=False)
    for name in ("NATS_TIMEOUT", "NATS_CONTEXT", "CYBORG_INFRA_ENV", "CYBORG_INFRA_INBOX_PREFIX"):
        monkeypatch.delenv(name, raising=False)
