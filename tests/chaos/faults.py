"""What breaks in chaos: servers that are killed, and the faults of one apply at one of its writes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import NoReply
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import Action
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.plan import Plan
from tests.chaos.manifests import STANDSTILL, Place, Step
from tests.support.cluster import running_cluster
from tests.support.nats_client import Api
from tests.support.ports import free_port
from tests.support.scenario import Request
from tests.support.servers import server_binary

DOWN = 1.5  # seconds that a server of a cluster stays away
WRITES = {  # about how many requests that may change something a change takes
    (Action.REPLACE, Kind.STREAM): 16,
    (Action.REPLACE, Kind.CONSUMER): 6,
}


class Killed(Exception):
    """The tool died here."""


class Servers:
    """One server, or three of a cluster; started when this is entered, and killed when it is left."""

    def __init__(self, place: Place, home: Path) -> None:
        self._place, self._home = place, home
        self._all: Sequence[EmbeddedServer] = ()
        self._returns: threading.Thread | None = None
        self._left = contextlib.ExitStack()
        self.crashes: list[float] = []
        self.emptied: list[tuple[float, str]] = []  # when, and a stream of which a consumer's state was lost

    def __enter__(self) -> Self:
        if self._place.replicas > 1:
            self._all = self._left.enter_context(running_cluster(self._home, self._place.version))
        else:
            binary = server_binary(self._place.version)
            server = EmbeddedServer(self._home / "server", port=free_port(), binary=binary)
            self._left.callback(server.kill)
            self._all = [server.start()]
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._left.close()

    @property
    def urls(self) -> str:
        """Of all, with commas."""
        return ",".join(server.url for server in self._all)

    def crash(self, victim: float) -> None:
        """One is gone as by a power cut. A single one is back; one of a cluster comes back a little later."""
        self.heal()
        server = self._all[int(victim * len(self._all))]
        self.crashes.append(time.monotonic())
        server.kill()
        if len(self._all) == 1:
            self.emptied += [(self.crashes[-1], stream) for stream in _without_state(self._home)]
            server.start()
        else:
            self._returns = threading.Timer(DOWN, server.start)
            self._returns.start()

    def heal(self) -> None:
        """All are up, and every copy of every stream is current, or a minute has passed."""
        if self._returns is None:
            return
        self._returns.join()
        self._returns = None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self._is_whole():
            time.sleep(0.2)

    def _is_whole(self) -> bool:
        with contextlib.suppress(Exception), Api(self._all[0].url) as api:
            listed = api.request("$JS.API.STREAM.LIST", timeout=5)
            return not listed.get("missing") and all(
                row["cluster"].get("leader")
                and all(other["current"] for other in row["cluster"].get("replicas") or ())
                for row in listed["streams"]
            )
        return False


def _without_state(store: Path) -> list[str]:
    """Return streams with a consumer whose file is empty: 2.10 writes it in place, and was killed meanwhile (2.11 renames it).

    Such a consumer begins anew, whoever made it and however long ago: 1 of some 65 kills.
    """
    return [path.parents[2].name for path in store.rglob("obs/*/o.dat") if not path.stat().st_size]


def moment(step: Step, plan: Plan) -> int:
    """At which of the writes of an apply the step's fault happens."""
    writes = sum(WRITES.get((change.action, change.ref.kind), 1) for change in plan.changes)
    return 1 + int(step.moment * writes)


@contextlib.contextmanager
def broken(step: Step, at: int, crash: Callable[[], None], standstill: float = 0.0) -> Iterator[list[str]]:
    """At the `at`-th request that may write, the step's fault happens; the list is no longer empty then."""
    real, happened, count = JetStream.request, list[str](), 0

    async def call(self: JetStream, verb: str, *given: Any, **named: Any) -> dict[str, Any]:
        nonlocal count
        count += Request(verb, None).writes
        if count != at or happened or not Request(verb, None).writes:
            return await real(self, verb, *given, **named)
        happened.append(verb)
        match step.fault:
            case "server killed":
                await asyncio.to_thread(crash)
            case "connection cut":
                await self._connection.close()
            case "tool killed":
                if step.executed:
                    await real(self, verb, *given, **named)
                raise Killed(verb)
            case "reply lost":
                await real(self, verb, *given, **named)
                raise NoReply(verb, 0)
            case _ if step.fault == STANDSTILL:
                time.sleep(standstill)  # noqa: ASYNC251 - all of the tool does, its renewals included
        return await real(self, verb, *given, **named)

    if step.fault != "none":
        JetStream.request = call  # type: ignore[method-assign]
    try:
        yield happened
    finally:
        JetStream.request = real  # type: ignore[method-assign]


@contextlib.contextmanager
def skewed(seconds: float) -> Iterator[None]:
    """Return the clock of the tool, and of nobody else, is so many seconds ahead."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=seconds)

    ours = [
        module
        for name, module in sys.modules.items()
        if name.startswith("cyborg_infra.") and getattr(module, "datetime", None) is datetime
    ]
    for module in ours:
        module.datetime = Skewed  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in ours:
            module.datetime = datetime  # type: ignore[attr-defined]
