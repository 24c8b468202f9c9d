"""Chaos: a living organisation is changed at random while agents work and things break; nothing may be lost.

A publisher with message ids and a worker for each role run all the time. Random manifests are applied; the tool
dies at random steps, the server is killed and comes back, connections are cut. In the end every acknowledged
publish has been worked on exactly once. Run at length: `make chaos`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.errors import Error as NatsError
from servers import NEWEST, server_binary

from cyborg_infra import pipeline
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.plan import Done, HazardName
from cyborg_infra.model.problems import CyborgError

ORG = "chaos"
ROLES = ("ceo", "cto", "dev")
SYNC = (
    2.5  # seconds; what was acknowledged so shortly before a server is killed may not have reached its disk
)
DRAIN = 2.0  # seconds; shorter than ack_wait, so that some replaces give up and are tried again
ACKS = 6  # times that an agent tells the server that it is done


class Killed(Exception):
    """The tool died here."""


@dataclass
class Traffic:
    """Publishers and workers of an organisation, in a thread of their own, until `stop`."""

    url: str
    published: set[str] = field(default_factory=set)
    worked: Counter[str] = field(default_factory=Counter)
    finished: dict[str, float] = field(default_factory=dict)
    crashes: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._draining = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def start(self) -> None:
        """Everybody is at work."""
        self._thread.start()

    def drain(self) -> None:
        """Nothing more is published; the workers go on."""
        self._draining.set()

    def stop(self) -> None:
        """Everybody has gone home."""
        self._stop.set()
        self._thread.join()

    async def _main(self) -> None:
        connection = await nats.connect(
            self.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=_ignore
        )
        await asyncio.gather(
            *(self._publish(connection, role) for role in ROLES),
            *(self._work(connection, role) for role in ROLES),
        )
        await connection.close()

    async def _publish(self, connection: Any, role: str) -> None:
        for number in range(1_000_000):
            if self._draining.is_set():
                return
            key = f"{role}-{number}"
            while not self._stop.is_set():
                with contextlib.suppress(NatsError, asyncio.TimeoutError, ValueError, KeyError):
                    answer = await connection.request(
                        f"{ORG}.agents.{role}.tasks", key.encode(), timeout=0.5, headers={"Nats-Msg-Id": key}
                    )
                    assert json.loads(answer.data)["seq"]
                    self.published.add(key)
                    break
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.01)

    async def _work(self, connection: Any, role: str) -> None:
        pull = f"$JS.API.CONSUMER.MSG.NEXT.AGENT_{role.upper()}_TASKS.{role}-worker"
        inbox = (
            connection.new_inbox()
        )  # a delivered message keeps its own subject: a request would not see it
        subscription = await connection.subscribe(inbox)
        while not self._stop.is_set():
            try:
                await connection.publish(pull, b'{"batch":1,"expires":200000000}', reply=inbox)
                message = await subscription.next_msg(timeout=0.4)
                if not message.reply:
                    continue
                key = message.data.decode()
                await asyncio.sleep(0.005)  # an agent thinks
                self.worked[key] += 1
                for _ in range(ACKS):  # the answer to an acknowledgement that a crash swallowed never comes
                    with contextlib.suppress(NatsError, asyncio.TimeoutError):
                        await connection.request(message.reply, b"+ACK", timeout=0.5)
                        break
                self.finished.setdefault(key, time.monotonic())
            except (TimeoutError, NatsError):
                await asyncio.sleep(0.02)

    def repeated(self) -> list[str]:
        """What was worked on more than once, except for what a killed server cannot have known any more."""
        return [key for key, times in self.worked.items() if times > 1 and not self._crashed(key)]

    def _crashed(self, key: str) -> bool:
        return any(
            crash - SYNC < self.finished.get(key, crash) < crash + SYNC + ACKS for crash in self.crashes
        )


async def _ignore(_error: Exception) -> None:
    """The point of the exercise."""


@dataclass
class Report:
    """What happened."""

    seed: int
    applied: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    published: int = 0
    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    announced: int = 0  # the most that plans said would be repeated; 0 where a consumer can be paused
    unsettled: int = 0

    @property
    def kept(self) -> bool:
        """Whether nothing was lost, nothing came again that no plan had announced, and the last manifest holds."""
        return not self.lost and len(self.repeated) <= self.announced and not self.unsettled

    def __str__(self) -> str:
        changes = ", ".join(f"{count} {name}" for name, count in sorted(self.changes.items()))
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        return (
            f"seed {self.seed}: {self.applied} applies ({changes or 'no change'}), faults survived: {faults or 'none'};"
            f" published {self.published}, lost {len(self.lost)},"
            f" repeated {len(self.repeated)} (announced: at most {self.announced})"
        )


def manifest(chance: random.Random) -> str:
    """A random wish for the same organisation: changes in place, and consumers that have to be replaced."""
    worker = {
        "ack_wait": chance.choice(["3s", "4s", "5s"]),
        "max_ack_pending": chance.choice([5, 20, 100]),
        "max_waiting": chance.choice([64, 128, 512]),
        "replay_policy": "instant",
        "max_deliver": chance.choice([50, 100]),
        "description": chance.choice(["", "works", "thinks"]),
    }
    tasks = {
        "max_age": chance.choice(["1h", "24h", "72h"]),
        "max_msgs": chance.choice([-1, 1_000_000]),
        "compression": chance.choice(["none", "s2"]),
        "allow_direct": chance.choice([True, False]),
        "duplicate_window": chance.choice(["2m", "5m"]),
    }
    durable = chance.choice([True, False])
    return json.dumps(
        {
            "org": ORG,
            "roles": list(ROLES),
            "streams": {"tasks": tasks},
            "consumers": {"worker": worker},
            "events": {
                "deploy.complete": {"publishers": ["dev"], "subscribers": ["cto"], "durable": durable}
            },
        }
    )


class Chaos:
    """One organisation on one server, and what is done to both."""

    def __init__(self, seed: int, directory: Path, version: str = NEWEST) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - not for secrets
        self.report = Report(seed)
        self.directory = directory
        self.server = EmbeddedServer(directory / "server", binary=server_binary(version)).start()
        self.traffic = Traffic(self.server.url)
        self.target = pipeline.resolve(
            pipeline.Flags(server=self.server.url, no_context=True, timeout="2s"), {}
        )

    def run(self, seconds: float) -> Report:
        """The report, after so many seconds of change and a last apply without a fault."""
        self._apply(manifest(self.chance))
        self.traffic.start()
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self._disturbed(manifest(self.chance))
            last = manifest(self.chance)
            self.traffic.drain()
            self._settle()
            self._apply(last)
            self.report.unsettled = len(pipeline.plan(self._wish(last), self.target).changes)
        finally:
            self.traffic.stop()
        return self._reported()

    def stop(self) -> None:
        """Nothing runs any more."""
        self.server.kill()

    def _wish(self, text: str) -> pipeline.Wish:
        path = self.directory / "org.yaml"
        path.write_text(text, encoding="utf-8")
        return pipeline.wish(str(path), prune=True)

    def _apply(self, text: str) -> None:
        """One apply. It may cost an event that nobody publishes, and repeat what it announces; messages never."""
        wish = self._wish(text)
        plan = pipeline.plan(wish, self.target)
        self.report.applied += 1
        allowed = (HazardName.STOPS_CAPTURE, HazardName.MASS_CHANGE, HazardName.REPEATS_WORK)
        self.report.announced += sum(
            hazard.count for hazard in plan.hazards if hazard.name is HazardName.REPEATS_WORK
        )
        outcomes = pipeline.apply(plan, wish, self.target, allow=allowed, drain=DRAIN)
        self.report.changes.update(
            str(outcome.change.action) for outcome in outcomes if outcome.done is Done.DONE
        )

    def _disturbed(self, text: str) -> None:
        """One apply into which something breaks."""
        fault = self.chance.choice(["none", "tool killed", "server killed", "connection cut", "reply lost"])
        step = self.chance.randint(1, 12)
        with _broken(fault, step, self) as happened, contextlib.suppress(Killed, CyborgError):
            self._apply(text)
        if happened:
            self.report.faults[fault] += 1

    def crash(self) -> None:
        """The server is gone as by a power cut, and back."""
        self.traffic.crashes.append(time.monotonic())
        self.server.kill()
        self.server.start()

    def _settle(self) -> None:
        """The workers have done all there is, or a minute has passed."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(self.traffic.finished) < len(self.traffic.published):
            time.sleep(0.1)

    def _reported(self) -> Report:
        report, traffic = self.report, self.traffic
        report.published = len(traffic.published)
        report.repeated = traffic.repeated()
        unfinished = sorted(traffic.published - traffic.finished.keys())
        report.lost = unfinished
        return report


@contextlib.contextmanager
def _broken(fault: str, step: int, chaos: Chaos) -> Iterator[list[str]]:
    """At the `step`-th request that may write, `fault` happens; the list is no longer empty then."""
    real, happened, count = JetStream.call, list[str](), 0

    async def call(self: JetStream, verb: str, body: Any = None, *, doing: str) -> dict[str, Any]:
        nonlocal count
        if any(part in verb for part in ("INFO", "LIST")) or fault == "none":
            return await real(self, verb, body, doing=doing)
        count += 1
        if count != step:
            return await real(self, verb, body, doing=doing)
        happened.append(verb)
        match fault:
            case "server killed":
                await asyncio.to_thread(chaos.crash)
            case "connection cut":
                await self._connection.close()
            case "tool killed":
                if chaos.chance.random() < 0.5:
                    await real(self, verb, body, doing=doing)
                raise Killed(verb)
            case "reply lost":
                await real(self, verb, body, doing=doing)
        return await real(self, verb, body, doing=doing)

    JetStream.call = call  # type: ignore[assignment, method-assign]
    try:
        yield happened
    finally:
        JetStream.call = real  # type: ignore[method-assign]


def main() -> None:
    """Runs until the time is over; exits 1 at the first loss or repetition."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--round", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--version", default=NEWEST)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    end = time.monotonic() + given.seconds
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as directory:
            chaos = Chaos(seed, Path(directory), given.version)
            try:
                report = chaos.run(min(given.round, given.seconds))
            finally:
                chaos.stop()
        sys.stdout.write(f"{report}\n")
        sys.stdout.flush()
        if not report.kept:
            sys.exit(f"lost {report.lost[:5]} repeated {report.repeated[:5]} unsettled {report.unsettled}")
        seed += 1


if __name__ == "__main__":
    main()
