"""What one server and a cluster of three carry: memory, creating, reading, restarting, and what a message then costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.figures import Figure, Measurement, gathered
from benchmarks.latency import latencies
from benchmarks.measure import say
from benchmarks.nodes import SIZE, Workplace, resident, restarted
from benchmarks.organisation import Organisation
from cyborg_infra.live.embedded import EmbeddedServer


def on_one_server(place: Workplace, roles: int, repeats: int) -> Iterator[Figure]:
    """Yield an organisation of so many roles on a server of its own, each time a new one."""
    organisation = Organisation(place.home, roles)

    def one() -> Iterator[Measurement]:
        with place.server() as server:
            yield from _grown([server], organisation)

    yield from gathered("one server", roles, (one() for _ in range(repeats)))


def on_a_cluster(place: Workplace, roles: int, repeats: int) -> Iterator[Figure]:
    """Yield the same with a copy of everything on each of three servers on this machine, which share its cores."""
    organisation = Organisation(place.home, roles, replicas=SIZE)

    def one() -> Iterator[Measurement]:
        with place.cluster() as servers:
            yield from _grown(servers, organisation)

    yield from gathered("a cluster of three", roles, (one() for _ in range(repeats)))


def _grown(servers: Sequence[EmbeddedServer], organisation: Organisation) -> Iterator[Measurement]:
    url = servers[0].url
    yield "memory of a server: empty", "MB", resident(servers) / 1e6
    say("  create and read")
    yield "bare create", "s", organisation.floor("create", url).seconds
    yield "memory of a server", "MB", resident(servers) / 1e6
    yield "bare read", "s", organisation.floor("read", url).seconds
    say("  messages")
    for what, (median, slowest) in latencies(url, organisation.roles).items():
        yield f"{what}: median", "ms", median
        yield f"{what}: p99", "ms", slowest
    say("  kill and start")
    yield "restart", "s", restarted(servers)
    yield "memory of a server: restarted", "MB", resident(servers) / 1e6
