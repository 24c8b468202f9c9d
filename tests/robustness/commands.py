"""Commands on a server that answers anything to anything; `python -m tests.robustness --seed N --seconds S` tries them at length.

Whatever it answers: a command ends, within a bound, with a documented exit code, and says in lines for people why it
could not go on. A traceback, a task that nobody awaits or a code that a terminal obeys is a fault of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from cyborg_infra.cli.app import run_command_line
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import HazardName
from tests.robustness.false_replies import Lies, info_of
from tests.robustness.false_server import Liar, truly
from tests.support.agents import TASK, nack, publish, term, until
from tests.support.cli import CommandResult
from tests.support.faults import Faults
from tests.support.scenario import Scenario

LONGEST = 60  # seconds of one command; each answer is waited for for a fifth of one
CLUSTERED = 0.15  # of the cases are of a server that says that it is one of a cluster
MOST_SAID = 1024 * 1024  # characters

MANIFEST = """
org: acme
roles: [cto, cso]
events: {ci.result: {publishers: [cto], subscribers: [cso], durable: true}}
streams: {broadcasts: {retention: interest}}
"""
NAMED = "naming: {stream_prefix: NEWCO}\n"
OTHER = """
org: acme
roles: [cto, {name: qa, renamed_from: cso}]
events: {ci.result: {publishers: [cto], subscribers: [qa], durable: true}}
consumers: {worker: {max_waiting: 64}, inbox_reader: {ack_wait: 1m}}
streams: {tasks: {storage: memory, max_msgs: 3}, inboxes: {retention: workqueue}}
"""
ALLOWED = tuple(word for name in HazardName for word in ("--allow", name.value))

READS = (
    ("plan",),
    ("plan", "--format", "json"),
    ("plan", "other.yaml", "--prune"),
    ("drift",),
    ("status",),
    ("status", "--check", "--format", "json"),
    ("dlq", "list"),
    ("dlq", "list", "--format", "json"),
    ("dlq", "show", "1"),
    ("import", "--org", "acme"),
    ("send", "task", "cto", "-f", "task.json", "--dry-run"),
    ("verify", "--clean"),
)
WRITES = (
    ("apply", "--yes", "new.yaml"),
    ("apply", "--yes", "other.yaml", *ALLOWED),
    ("apply", "--yes", "other.yaml", "--prune", "--format", "json", *ALLOWED),
    ("destroy", "--confirm", "acme", *ALLOWED),
    ("dlq", "replay", "--all", "--yes"),
    ("dlq", "keep"),
    ("dlq", "drop", "--all", "--yes"),
    ("send", "task", "cto", "-f", "task.json"),
    ("unlock", "--yes"),
)
VERIFY = (("verify", "--check", "task-reaches-worker-once"), ("verify",))


KINDS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "read": READS,
    "write": WRITES,
    "info": (),
    "verify": VERIFY,
}


class Case(NamedTuple):
    """One command, and the seed of all that it is answered."""

    words: tuple[str, ...]
    seed: int


class Place:
    """A server with an organisation that has lived a little, and the way to it on which answers are changed."""

    def __init__(self, server: EmbeddedServer, liar: Liar, directory: Path) -> None:
        self.server, self.liar, self.directory = server, liar, directory
        self._scene = Scenario(server.url, directory)
        for name, text in (("other.yaml", OTHER), ("new.yaml", MANIFEST.replace("acme", "newco") + NAMED)):
            (directory / name).write_text(text, encoding="utf-8")
        (directory / "task.json").write_text(json.dumps(TASK), encoding="utf-8")
        self.lived_in()

    def close(self) -> None:
        self._scene.close()

    def lived_in(self) -> None:
        """As it was at first: tasks that wait, dead letters, something changed by hand, something of a stranger."""
        api = self._scene.api
        self._scene.clear()
        self._scene.converge(MANIFEST)
        for number in range(3):
            publish(api, "acme.agents.cto.tasks", f'{{"task_id": "t{number}"}}'.encode())
            publish(api, "acme.org.broadcasts", b"{}")
        nack(api, "AGENT_CTO_TASKS/cto-worker", times=3)
        term(api, "AGENT_CTO_TASKS/cto-worker")
        stranger = {"name": "STRANGER", "subjects": ["stranger.>"], "metadata": {"cyborg-infra.org": "acme"}}
        self._scene.ask("STREAM.CREATE.STRANGER", stranger)
        config = self._scene.config("ORG_BROADCASTS") | {"max_age": 3_600_000_000_000}
        self._scene.ask("STREAM.UPDATE.ORG_BROADCASTS", config)
        until(lambda: self._scene.info("DEAD_LETTERS")["state"]["messages"] >= 1)

    def run(self, *words: str, server: str = "") -> CommandResult:
        """Return the command in this process, to its end."""
        out, err = io.StringIO(), io.StringIO()
        more = ("--server", server or self.liar.url, "--no-context", "--timeout", "200ms")
        own = ("--drain-timeout", "200ms") if words[0] == "apply" else ()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _bounded(words):
            code = run_command_line([*words, *more, *own])
        return CommandResult(code, out.getvalue(), err.getvalue())


def faults(words: Sequence[str], ended: CommandResult) -> list[str]:
    """Return what no answer of a server may lead to."""
    said = ended.out + ended.err
    found = [
        f"it says {word!r}"
        for word in ("Traceback", "bug in cyborg-infra", "Task exception", "never retrieved")
        if word in said
    ]
    if ended.code not in (0, 1, 2, 3):
        found.append(f"exit code {ended.code}")
    if ended.code == 2 and words[0] not in ("drift", "status"):
        found.append("exit code 2 of what looks for no differences")
    if ended.code == 0 and "Error: " in ended.err:
        found.append("an error, and exit code 0")
    if ended.code in (1, 3) and "Error: " not in ended.err and not ended.out:
        found.append(f"exit code {ended.code}, and no reason")
    odd = sorted({char for char in said if not char.isprintable() and char != "\n"})
    if odd:
        found.append(f"it shows {odd!r}")
    if len(said) > MOST_SAID:
        found.append(f"it says {len(said):,} characters")
    if "json" in words and ended.out:
        try:
            json.loads(ended.out)
        except ValueError:
            found.append("what it prints is no JSON")
    return found


@contextlib.contextmanager
def _bounded(words: Sequence[str]) -> Iterator[None]:
    """Raise AssertionError in the middle of what takes too long."""

    def late(*_: object) -> None:
        raise AssertionError(f"{words} has not ended after {LONGEST}s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[list[str]]:
    """Return what asyncio says of tasks that nobody awaited; filled when the block ends, at the latest."""
    said: list[str] = []

    class Noted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    noted = Noted()
    logging.getLogger("asyncio").addHandler(noted)
    try:
        yield said
        gc.collect()
    finally:
        logging.getLogger("asyncio").removeHandler(noted)


def impatient(faults: Faults) -> None:
    """What waits for a cluster, a copy or a message waits as long as it is of use here."""
    faults.waits(
        ELECTION_TIMEOUT_SECONDS=0.3,
        RESOURCE_ELECTION_SECONDS=0.3,
        RETRY_INTERVAL_SECONDS=0.02,
        CLUSTER_TIMEOUT_SECONDS=0.2,
        COPY_STALL_TIMEOUT_SECONDS=0.5,
        STEPDOWN_AFTER_SECONDS=0.1,
        REPLICATION_ANSWER_SECONDS=0.2,
        LEASE_VACANCY_SHARE=0.001,
        LEASE_POLL_SECONDS=0.02,
        CHECK_WAIT_SECONDS=0.3,
        AGENT_GRACE_SECONDS=0.2,
    )


def tried(place: Place, case: Case) -> list[str]:
    """Return what went wrong in one case, and how it came to it; empty if nothing did."""
    place.liar.lie = lies = Lies(f"{case.words}{case.seed}")
    clustered = lies.draw.random() < CLUSTERED

    def info(true: bytes) -> bytes:
        if lies.draw.random() < 0.02:
            return info_of(lies.draw)
        return json.dumps(json.loads(true) | {"cluster": "c"}).encode() if clustered else true

    place.liar.info = info
    try:
        ended = place.run(*case.words)
    except AssertionError as late:
        return [str(late), *lies.told[-20:]]
    finally:
        place.liar.lie, place.liar.info = truly, lambda info: info
    found = faults(case.words, ended)
    return (
        [
            f"{' '.join(case.words)} --seed {case.seed}",
            *found,
            ended.err[-3000:],
            ended.out[-300:],
            *lies.told[-20:],
        ]
        if found
        else []
    )


def info_lies(place: Place, seed: int) -> list[str]:
    """Return as `tried`, of what a server says of itself, and then answers nothing that can be asked."""
    draw = Random(f"info {seed}")  # noqa: S311 - to be drawn again
    line = info_of(draw)
    with Liar(None) as liar:
        liar.info = lambda _: line
        words = draw.choice(READS)
        ended = place.run(*words, server=liar.url)
    found = faults(words, ended)
    if ended.code != 1:
        found.append(f"exit code {ended.code} without a server")
    return [f"{' '.join(words)} --seed {seed}", *found, ended.err[-2000:], repr(line[:500])] if found else []


def at_length(place: Place, seed: int, seconds: float, tell: Callable[[str], None]) -> int:
    """Return how many cases went well until the first that did not, or the time is over."""
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        draw = Random(f"{seed} {number}")  # noqa: S311 - to be drawn again
        kind = draw.choices(tuple(KINDS), (12, 8, 3, 1))[0]
        with nothing_left_behind() as left:
            if kind == "info":
                wrong = info_lies(place, seed * 1_000_000 + number)
            else:
                wrong = tried(place, Case(draw.choice(KINDS[kind]), seed * 1_000_000 + number))
        if wrong or left:
            tell("\n".join([*wrong, *left]))
            return number
        if kind in ("write", "verify"):
            place.lived_in()
        number += 1
    tell(f"{number} cases, none of them faulty")
    return number


def main() -> int:
    """Exit code 1 for a case that went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "big"))
    parser.add_argument("--seconds", type=float, default=300)
    wanted = parser.parse_args()
    said: list[str] = []
    sys.stdout.write(f"seed {wanted.seed}\n")
    with (
        tempfile.TemporaryDirectory() as home,
        pytest.MonkeyPatch.context() as monkeypatch,
        Faults.opened() as faults,
        EmbeddedServer(Path(home) / "server") as server,
        Liar(server.port) as liar,
    ):
        directory = Path(home) / "project"
        directory.mkdir()
        monkeypatch.chdir(directory)
        impatient(faults)
        place = Place(server, liar, directory)
        at_length(place, wanted.seed, wanted.seconds, said.append)
        place.close()
    sys.stdout.write("\n".join(said) + "\n")
    return int("none of them faulty" not in said[-1])
