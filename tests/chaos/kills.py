"""Kill the monitor again and again while it tells of dead letters, and count what was lost and what was told twice.

A webhook fails, answers late and hangs at random. `python -m tests.chaos.kills --kills 200 --seed 1`. Whatever happens, no dead letter
may be lost, and what a receiver is told twice must have the id by which it knows that.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.agents import until
from tests.support.monitor import RunningMonitor
from tests.support.nats_client import Api
from tests.support.ports import free_port
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST, server_binary
from tests.support.webhook import HANG, Behaviour, Webhook, webhook

MANIFEST = """
org: acme
roles: [cto, cso]
consumers: {dead_letter_alerts: {ack_wait: 2s}}
"""
ALERTS = "DEAD_LETTERS/dead-letter-alerts"
READ_SECONDS = 1.0  # after which a receiver that has not answered has failed
TASK = re.compile(r"\bletter-\d+\b")


class Count(NamedTuple):
    """What became of the dead letters of one run."""

    published: int
    lost: int
    told_twice: int  # in two messages that were accepted
    unknown_twice: int  # of these, those whose messages have not the same id
    kills: int
    kills_under_way: int  # while a message was at the webhook
    accepted: int

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.kills_under_way} of them while a message was under way: {self.published} dead letters, "
            f"{self.lost} lost, {self.told_twice} told twice, {self.unknown_twice} of these with another id"
        )


def run(url: str, directory: Path, *, kills: int, seed: int, state: bool = True) -> Count:
    """Run it against a server that is empty."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    (directory / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    with Scenario(url, directory) as scenario, webhook() as hook:
        scenario.converge(MANIFEST)
        hook.behaves = lambda: _behaviour(chance)
        words = ["--server", url, "--notify", f"hook={hook.url}?rto={READ_SECONDS}&cto={READ_SECONDS}"]
        words += ["--state", str(directory / "told.db")] if state else []
        published, under_way = 0, 0
        for _ in range(kills):
            running = RunningMonitor(*words, cwd=directory)
            for _ in range(chance.randrange(4)):
                published += 1
                _fail(scenario.api, published)
            time.sleep(chance.uniform(0, 2.5))
            under_way += hook.open > 0
            running.kill()
        hook.behaves = lambda: (0, 200)
        running = RunningMonitor(*words, cwd=directory)
        with running:
            until(lambda: _is_done(scenario, published), 600)
    return _counted(hook, published, kills, under_way)


def _behaviour(chance: random.Random) -> Behaviour:
    """Return what becomes of one request: taken at once, refused, taken and answered late or too late, or never answered."""
    drawn = chance.random()
    if drawn < 0.45:
        return 0, 200
    if drawn < 0.6:
        return 0, 503
    if drawn < 0.85:
        return chance.uniform(0.1, READ_SECONDS * 0.8), 200
    return (READ_SECONDS * 1.5, 200) if drawn < 0.95 else HANG


def _fail(api: Api, number: int) -> None:
    letter = {
        "task_id": f"letter-{number}",
        "title": f"Task {number}",
        "assigned_to": "cto",
        "reason": "it cannot be done",
    }
    assert "seq" in api.ask("acme.org.deadletter", json.dumps(letter).encode()).json


def _is_done(scenario: Scenario, published: int) -> bool:
    found = scenario.info(ALERTS)
    return bool(found["ack_floor"]["stream_seq"] == published and not found["num_ack_pending"])


def _counted(hook: Webhook, published: int, kills: int, under_way: int) -> Count:
    ids: dict[str, list[str]] = {f"letter-{number}": [] for number in range(1, published + 1)}
    for taken in hook.taken:
        for letter in set(TASK.findall(taken.body)):
            ids[letter].append(taken.id)
    counts = Counter(len(found) for found in ids.values())
    return Count(
        published,
        counts[0],
        sum(number for times, number in counts.items() if times > 1),
        sum(len(set(found)) > 1 for found in ids.values()),
        kills,
        under_way,
        len(hook.taken),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the count of one run; exit 1 if a dead letter was lost, or told twice with another id."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", default=NEWEST, help="of nats-server")
    parser.add_argument("--no-state", action="store_true", help="without --state: nothing is remembered")
    said = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        server = EmbeddedServer(directory / "server", port=free_port(), binary=server_binary(said.version))
        server.start(timeout=60)
        try:
            count = run(server.url, directory, kills=said.kills, seed=said.seed, state=not said.no_state)
        finally:
            server.kill()
    print(count)  # noqa: T201 - the program's output
    if count.lost or (count.unknown_twice and not said.no_state):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
