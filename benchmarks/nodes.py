"""The servers that are measured: one, or a cluster of three, with stores in memory where there is room.

They end by SIGKILL: in order, a server takes 8 ms for each stream and consumer. On a disk no store is deleted before
the end of the run: for minutes after a large one is, creating is several times slower.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.floor import Wire
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.problems import CyborgError

SIZE = 3  # servers of a cluster
START = 600.0  # seconds; one with a hundred thousand streams and consumers reads them all first
_ELECTION = 60.0
_TRIES = 3
_TRY, _POLL = 1.0, 0.02
_ROOM = 4 << 30  # bytes; a store of 10,000 roles is half as large
_MEMORY = Path("/dev/shm")  # noqa: S108 - only ours in it is a directory that nobody else can guess

# Each stream reserves its max_bytes. Nothing is stored here: a reservation may be larger than any disk.
_LIMITS = "jetstream: { max_file_store: 1PB }\n"


class Workplace:
    """A directory for one run, gone after it, and the servers in it."""

    def __init__(self, home: Path, *, in_memory: bool) -> None:
        self.home = home
        self.in_memory = in_memory
        self._stores = 0
        self._servers: list[EmbeddedServer] = []

    @contextlib.contextmanager
    def server(self, config: str = "") -> Iterator[EmbeddedServer]:
        """Return a new one, running; `config` is more for its configuration file."""
        with self._running([_LIMITS + config]) as (server,):
            yield server

    @contextlib.contextmanager
    def cluster(self) -> Iterator[Sequence[EmbeddedServer]]:
        """Three new ones that know each other and have elected a leader."""
        with contextlib.ExitStack() as stack:
            yield self._joined(stack)

    def _joined(self, stack: contextlib.ExitStack) -> Sequence[EmbeddedServer]:
        """Return the three, as long as the stack is; on other ports where somebody took one of theirs first."""
        for _ in range(_TRIES):
            with contextlib.ExitStack() as attempt, contextlib.suppress(TimeoutError, CyborgError):
                servers = attempt.enter_context(self._running(_clustered(_free_ports())))
                _await_leader(servers)
                stack.push(attempt.pop_all())
                return servers
        raise TimeoutError(f"no cluster of {SIZE} servers after {_TRIES} tries")

    def stop(self) -> None:
        """No server is running any more."""
        while self._servers:
            self._servers.pop().kill()

    @contextlib.contextmanager
    def _running(self, configs: Sequence[str]) -> Iterator[list[EmbeddedServer]]:
        self._stores += 1
        store = self.home / f"store{self._stores}"
        servers = [
            EmbeddedServer(store / f"n{index}", name=f"n{index}", config=config)
            for index, config in enumerate(configs)
        ]
        self._servers += servers
        try:
            for server in servers:
                server.start(START)
            yield servers
        finally:
            self.stop()
            if self.in_memory:
                shutil.rmtree(store, ignore_errors=True)


@contextlib.contextmanager
def workplace() -> Iterator[Workplace]:
    """Return the directory of this run. As many files may be open as the system lets us: a server has one for each stream."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_MEMORY if in_memory else None) as home:
        place = Workplace(Path(home), in_memory=in_memory)
        try:
            yield place
        finally:
            place.stop()  # also what an interrupt has left suspended


def restarted(servers: Sequence[EmbeddedServer]) -> float:
    """Return all killed and started again: the seconds from the start until their JetStream answers."""
    for server in servers:
        server.kill()
    start = time.perf_counter()
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(lambda server: server.start(START), servers))
    _insist(servers[0], "$JS.API.STREAM.NAMES", START)
    return time.perf_counter() - start


def resident(servers: Sequence[EmbeddedServer]) -> int:
    """Return the memory that the largest of them occupies now, in bytes."""
    return max(_status(server.pid, "VmRSS") for server in servers)


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise LookupError(field)


def _clustered(ports: Sequence[int]) -> list[str]:
    """Return the configuration of each server of a cluster whose routes have these ports."""
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    return [
        _LIMITS + f'cluster {{ name: bench, listen: "127.0.0.1:{port}", routes: [{routes}] }}\n'
        for port in ports
    ]


def _free_ports() -> list[int]:
    """Ports that were free a moment ago; routes have to be known before the servers start."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(SIZE)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def _await_leader(servers: Sequence[EmbeddedServer]) -> None:
    """Return when a stream with a copy on every server can be made."""
    probe = {"name": "PROBE", "subjects": ["probe"], "num_replicas": len(servers)}
    _insist(servers[0], "$JS.API.STREAM.CREATE.PROBE", _ELECTION, json.dumps(probe).encode())
    with Wire(servers[0].url, _ELECTION) as wire:
        wire.ask("$JS.API.STREAM.DELETE.PROBE")


def _insist(server: EmbeddedServer, subject: str, seconds: float, body: bytes = b"") -> None:
    """Asked again until there is an answer without an error. Raises TimeoutError if there is none in so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError, RuntimeError), Wire(server.url, _TRY) as wire:
            if b'"error":{' not in wire.ask(subject, body):
                return
        time.sleep(_POLL)
    raise TimeoutError(f"no answer from {subject} within {seconds:.0f} seconds")
