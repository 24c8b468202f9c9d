"""How long a message takes while all this exists: what agents feel of the size of their organisation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.floor import Wire
from benchmarks.organisation import NAME, role

MESSAGES = 1000
_BODY = b"x" * 256


def latencies(url: str, roles: int, messages: int = MESSAGES) -> dict[str, tuple[float, float]]:
    """Median and 99th percentile in milliseconds, one message after the other, each to the next of the roles.

    Stored ones until the stream has acknowledged them; a request, which no stream stores, until it arrives at an
    agent. Nobody pulls: it is the storing that is measured, and what signals the readers.
    """
    step = max(1, roles // 100)  # a hundred roles by turns

    def subject(number: int, channel: str) -> str:
        return f"{NAME}.agents.{role(number * step % roles)}.{channel}"

    with Wire(url) as wire, Wire(url) as agent:
        agent.hear(f"{NAME}.agents.*.requests")

        def stored(to: str) -> None:
            if b'"seq"' not in (reply := wire.ask(to, _BODY)):
                raise RuntimeError(reply.decode())

        sends: dict[str, Callable[[int], object]] = {
            "to a task subject": lambda number: stored(subject(number, "tasks")),
            "to an inbox": lambda number: stored(subject(number, "inbox")),
            "to the broadcasts": lambda _: stored(f"{NAME}.org.broadcasts"),
            "a request, core NATS": lambda number: wire.tell(subject(number, "requests"), _BODY, agent),
        }
        return {what: _measured(send, messages) for what, send in sends.items()}


def _measured(send: Callable[[int], object], messages: int) -> tuple[float, float]:
    taken = []
    for number in range(messages):
        start = time.perf_counter()
        send(number)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[-1]
