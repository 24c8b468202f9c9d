"""Clusters of real servers on loopback, alone or joined by gateways, for what a single server cannot show."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.problems import CyborgError
from tests.support.nats_client import Api
from tests.support.ports import free_port
from tests.support.servers import NEWEST, server_binary

NAME = "tests"
SIZE = 3
# The one user, of the system account; everybody else is in the global account, as without users.
_SYSTEM = "system"
_POLL = 0.02  # seconds
_PATIENCE = 120  # seconds; an election takes one or two, and more where the machine is busy
_TRIES = 3

Clusters = Mapping[str, Sequence[EmbeddedServer]]
"""The servers of each cluster by its name."""


@contextlib.contextmanager
def running_cluster(home: Path, version: str = NEWEST) -> Iterator[list[EmbeddedServer]]:
    """Return the servers n0, n1, n2, each tagged with its own name; a leader is elected and all three take part."""
    with running_clusters(home, {NAME: [f"n{index}" for index in range(SIZE)]}, version) as clusters:
        yield list(clusters[NAME])


@contextlib.contextmanager
def running_clusters(
    home: Path,
    names: Mapping[str, Sequence[str]],
    version: str = NEWEST,
    config: str = "",
    own: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Clusters]:
    """Return the servers of these names, each tagged with its own; all of one JetStream, also where a cluster is of one server.

    `config` goes to every server, and what `own` has for its name to one.
    """
    clusters = _joined(
        home, names, version, {name: config + own.get(name, "") for name in chain(*names.values())}
    )
    try:
        yield clusters
    finally:
        _kill(clusters)


def _kill(clusters: Clusters) -> None:
    for servers in clusters.values():
        for server in servers:
            server.kill()


def _joined(
    home: Path, names: Mapping[str, Sequence[str]], version: str, configs: Mapping[str, str]
) -> Clusters:
    """Return the servers, once they have found one another; on other ports where somebody took one of theirs first."""
    for number in range(_TRIES):
        clusters = _made(home / f"cluster{number}", names, version, configs)
        try:
            for servers in clusters.values():
                for server in servers:
                    server.start(timeout=60)
            _await_members(clusters)
        except BaseException as error:
            _kill(clusters)
            if not isinstance(error, TimeoutError | CyborgError):
                raise
        else:
            return clusters
    raise TimeoutError(f"no clusters {names} after {_TRIES} tries")


def peer_removed(servers: Sequence[EmbeddedServer], name: str) -> None:
    """The cluster does without this server, which is down: as `nats server cluster peer-remove` does."""
    with Api(servers[0].url.replace("//", f"//{_SYSTEM}:{_SYSTEM}@")) as api:
        answer = api.request("$JS.API.SERVER.REMOVE", {"peer": name}, timeout=10)
    assert answer.get("success"), answer


def meta_leader(servers: Sequence[EmbeddedServer]) -> str:
    """Return the name of the server that leads the whole cluster, by what the first of `servers` says; empty while none does."""
    with Api(servers[0].url.replace("//", f"//{_SYSTEM}:{_SYSTEM}@")) as api:
        told = api.request("$SYS.REQ.SERVER.PING.JSZ", {})
    return str(told["data"]["meta_cluster"].get("leader", ""))


def lead_by_another(servers: Sequence[EmbeddedServer], name: str) -> None:
    """Return once another server than this one leads the whole cluster: without that one it answers as if nothing were."""
    deadline = time.monotonic() + _PATIENCE
    with Api(servers[0].url.replace("//", f"//{_SYSTEM}:{_SYSTEM}@")) as api:
        while (leader := meta_leader(servers)) in ("", name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{leader or 'no server'} leads after {_PATIENCE} seconds")
            if leader:
                with contextlib.suppress(queue.Empty):
                    api.request("$JS.API.META.LEADER.STEPDOWN")
            time.sleep(_POLL)


def _made(
    home: Path, names: Mapping[str, Sequence[str]], version: str, configs: Mapping[str, str]
) -> Clusters:
    """Return the servers, not started."""
    routes, gateways = ({name: f"127.0.0.1:{free_port()}" for name in configs} for _ in range(2))
    remotes = ", ".join(
        f'{{name: {cluster}, url: "nats://{gateways[members[0]]}"}}' for cluster, members in names.items()
    )

    def server(cluster: str, name: str) -> EmbeddedServer:
        peers = ", ".join(f'"nats://{routes[peer]}"' for peer in names[cluster])
        lines = [
            f'server_tags: ["{name}"]',
            f'cluster {{ name: {cluster}, listen: "{routes[name]}", routes: [{peers}] }}',
            f"accounts {{ $SYS {{ users: [{{user: {_SYSTEM}, password: {_SYSTEM}}}] }} }}",
            'system_account: "$SYS"',  # leaf nodes and gateways together want it said
            configs[name],
        ]
        if len(names) > 1:
            lines.append(f'gateway {{ name: {cluster}, listen: "{gateways[name]}", gateways: [{remotes}] }}')
        text = "\n".join(lines) + "\n"
        binary = server_binary(version)
        return EmbeddedServer(home / name, port=free_port(), name=name, config=text, binary=binary)

    return {cluster: [server(cluster, name) for name in members] for cluster, members in names.items()}


def _await_members(clusters: Clusters) -> None:
    """Return when a stream with a copy on every server of each cluster can be made: there is a leader, and it knows them all."""
    deadline = time.monotonic() + _PATIENCE
    for cluster, servers in clusters.items():
        probe = {"name": "PROBE", "subjects": ["probe"], "num_replicas": len(servers)}
        with Api(servers[0].url) as api:
            while not _probed(api, probe | {"placement": {"cluster": cluster}}):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no cluster {cluster} after {_PATIENCE} seconds")
                time.sleep(_POLL)


def _probed(api: Api, probe: Mapping[str, object]) -> bool:
    with contextlib.suppress(queue.Empty, RuntimeError):  # no leader yet, or JetStream is not up
        if "error" not in api.request("$JS.API.STREAM.CREATE.PROBE", probe, timeout=1):
            api.request("$JS.API.STREAM.DELETE.PROBE")
            return True
    return False
