"""A cluster of three real servers on loopback, for what a single server cannot show."""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from raw import Api
from servers import NEWEST, server_binary

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.problems import CyborgError

NAME = "tests"
SIZE = 3
_SYSTEM = (
    "system"  # the one user, of the system account; everybody else is in the global account, as without users
)
_POLL = 0.02  # seconds
_PATIENCE = 20  # seconds; an election takes one or two
_TRIES = 3


@contextlib.contextmanager
def running_cluster(home: Path, version: str = NEWEST) -> Iterator[list[EmbeddedServer]]:
    """The servers n0, n1, n2, each tagged with its own name; a leader is elected and all three take part."""
    servers = _joined(home, version)
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()


def _joined(home: Path, version: str) -> list[EmbeddedServer]:
    """The servers, once they have found one another; on other ports where somebody took one of theirs first."""
    for number in range(_TRIES):
        ports = _free_ports()
        servers = [_server(home / f"cluster{number}", index, ports, version) for index in range(SIZE)]
        try:
            for server in servers:
                server.start()
            _await_members(servers[0].url)
        except BaseException as error:
            for server in servers:
                server.kill()
            if not isinstance(error, TimeoutError | CyborgError):
                raise
        else:
            return servers
    raise TimeoutError(f"no cluster of {SIZE} servers after {_TRIES} tries")


def meta_leader(servers: Sequence[EmbeddedServer]) -> str:
    """The name of the server that leads the whole cluster, by what the first of `servers` says; empty while none does."""
    with Api(servers[0].url.replace("//", f"//{_SYSTEM}:{_SYSTEM}@")) as api:
        told = api.request("$SYS.REQ.SERVER.PING.JSZ", {})
    return str(told["data"]["meta_cluster"].get("leader", ""))


def _server(home: Path, index: int, ports: list[int], version: str) -> EmbeddedServer:
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    config = f"""
        server_tags: ["n{index}"]
        cluster {{ name: {NAME}, listen: "127.0.0.1:{ports[index]}", routes: [{routes}] }}
        accounts {{ $SYS {{ users: [{{user: {_SYSTEM}, password: {_SYSTEM}}}] }} }}
    """
    return EmbeddedServer(home / f"n{index}", name=f"n{index}", config=config, binary=server_binary(version))


def _free_ports() -> list[int]:
    """Ports that were free a moment ago; routes have to be known before the servers start."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(SIZE)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def _await_members(url: str) -> None:
    """Returns when a stream with a copy on every server can be made: there is a leader, and it knows them all."""
    probe = {"name": "PROBE", "subjects": ["probe"], "num_replicas": SIZE}
    deadline = time.monotonic() + _PATIENCE
    with Api(url) as api:
        while time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty, RuntimeError):  # no leader yet, or JetStream is not up
                if "error" not in api.request("$JS.API.STREAM.CREATE.PROBE", probe, timeout=1):
                    api.request("$JS.API.STREAM.DELETE.PROBE")
                    return
            time.sleep(_POLL)
    raise TimeoutError(f"no cluster of {SIZE} servers after {_PATIENCE} seconds")
