"""The books of chaos: every acknowledged publish is worked, dead-lettered or pending; else it is lost. And the report."""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.chaos.manifests import ORG, PREFIX, Wish, stream_of
from tests.support.nats_client import Api
from tests.support.traffic import (
    AT_LENGTH,
    CRASH,
    DONE,
    GIVEN_UP,
    LATER,
    NOT_NOW,
    Delivery,
    Publisher,
    Worker,
)

PACE = 0.008  # seconds between two publishes of one role
DEAD_LETTERS = "DEAD_LETTERS"
SYNC = 0.5  # seconds; what a killed server was told so shortly before may not be on its disk (0.1 seen, 2.10.26 to 2.15.1)
ELECTION = 10.0  # seconds that a stream whose leader was killed may take nothing in; a single server has none
LATE = 0.5  # seconds that something from a killed server may still take to arrive


def _tasks(role: str) -> str:
    return f"{ORG}.agents.{role}.tasks"


def answer(name: str, attempt: int) -> bytes:
    """Return how a worker ends a message: some it gives up, some it cannot do, however often it tries, some only at first."""
    number = int(name.rpartition("-")[2])
    if number % 97 == 20:
        return GIVEN_UP
    if number % 211 == 30:
        return NOT_NOW
    if attempt > 1:
        return DONE
    return next((ending for (every, rest), ending in AT_FIRST.items() if number % every == rest), DONE)


AT_FIRST = {(53, 7): NOT_NOW, (59, 8): LATER, (61, 9): AT_LENGTH, (401, 11): CRASH}


class Desk:
    """A role at work: its publisher, and whoever works there, one after the other, under all the names that it has had."""

    def __init__(self, url: str, request: Wish, role: str) -> None:
        self.role, self._url = role, url
        self.streams = [stream_of(request, role)]
        self.publisher = Publisher(url, _tasks(role), role, PACE)
        self._workers: list[Worker] = []
        self._attempts: Counter[str] = Counter()
        self._present: dict[str, Worker] = {}

    def __enter__(self) -> Self:
        self.publisher.__enter__()
        self.hire(self.streams[0], self.role)
        return self

    def __exit__(self, *_: object) -> None:
        self.publisher.stop()
        self.dismiss()

    def hire(self, stream: str, role: str) -> None:
        """Somebody works at the worker of this name, whether or not it is there by now."""
        if (ref := f"{stream}/{role}-worker") in self._present:
            return
        if stream not in self.streams:
            self.streams.append(stream)
        patient = bool(len(self._workers) % 2)
        self._present[ref] = worker = Worker(self._url, ref, self._answer, patient=patient)
        self._workers.append(worker)
        worker.__enter__()

    def _answer(self, name: str) -> bytes:
        self._attempts[name] += 1
        return answer(name, self._attempts[name])

    def dismiss(self, but: str = "") -> None:
        """Everybody goes home, `but` who works for this stream."""
        for ref in [ref for ref in self._present if ref.partition("/")[0] != but]:
            self._present.pop(ref).stop()

    def moved(self, request: Wish, role: str) -> None:
        """The role is called so now; who publishes still uses the name that it knows."""
        self.role = role
        self.hire(stream_of(request, role), role)
        self.dismiss(but=stream_of(request, role))

    def tell(self) -> None:
        """Who publishes uses the role's present name from now on."""
        self.publisher.subject = _tasks(self.role)

    @property
    def acknowledged(self) -> dict[str, int]:
        """Everything that is stored, with its sequence number."""
        return dict(self.publisher.acknowledged)

    def worked(self) -> set[str]:
        """Return what was worked on, once or more often."""
        return {name for worker in self._workers for name in list(worker.worked)}

    def deliveries(self) -> dict[str, list[Delivery]]:
        """Return every time that something was worked on, in order."""
        found: dict[str, list[Delivery]] = {}
        for worker in self._workers:
            for name, times in list(worker.deliveries.items()):
                found.setdefault(name, []).extend(times)
        for times in found.values():
            times.sort(key=lambda delivery: delivery.received)
        return found

    def places(self, name: str) -> set[tuple[str, int]]:
        """Return the streams and numbers under which a message has been: before 2.12 a stream that is replaced numbers anew."""
        published = {(stream, self.publisher.acknowledged[name]) for stream in self.streams}
        return published.union(*(worker.places.get(name, ()) for worker in self._workers))

    def given_up(self) -> dict[str, float]:
        """Return what a worker refused to do, and when last."""
        return {name: when for worker in self._workers for name, when in list(worker.given_up.items())}


class Letters:
    """The dead letters, read as they come: which messages of which streams."""

    def __init__(self, connect: Callable[[], Api]) -> None:
        self._connect = connect
        self._next = dict.fromkeys((DEAD_LETTERS, f"{PREFIX}{DEAD_LETTERS}"), 1)
        self.found: Counter[tuple[str, int]] = Counter()

    def read(self) -> None:
        """All that have come by now are `found`."""
        with self._connect() as api:
            for name, first in self._next.items():
                state = api.request(f"$JS.API.STREAM.INFO.{name}").get("state", {})
                for sequence in range(first, state.get("last_seq", 0) + 1):
                    self._take(api.request(f"$JS.API.STREAM.MSG.GET.{name}", {"seq": sequence}))
                    self._next[name] = sequence + 1

    def _take(self, answer: dict[str, Any]) -> None:
        if "message" not in answer:
            return
        if copied := _copied(base64.b64decode(answer["message"].get("hdrs", "")).decode()):
            self.found[copied] += 1
            return
        notice = json.loads(base64.b64decode(answer["message"]["data"]))
        self.found[notice["stream"], notice["stream_seq"]] += 1

    def of(self, desk: Desk) -> set[str]:
        """Return those of its messages that are dead letters."""
        return {name for name in desk.acknowledged if any(self.found[place] for place in desk.places(name))}


def _copied(headers: str) -> tuple[str, int] | None:
    """Return where the message was that a change has kept in DEAD_LETTERS; None for a notice."""
    said = dict(line.split(": ", 1) for line in headers.splitlines() if ": " in line)
    if "Cyborg-Infra-Stream" not in said:
        return None
    return said["Cyborg-Infra-Stream"], int(said["Cyborg-Infra-Sequence"])


def unaccounted(desk: Desk, letters: Letters) -> set[str]:
    """Return what is stored, and neither worked on nor a dead letter."""
    return desk.acknowledged.keys() - desk.worked() - letters.of(desk)


def stands_still(connect: Callable[[], Api], desk: Desk) -> bool:
    """Return whether a change was left in the middle, so that nobody is handed what is stored for the role: it waits for the next apply."""
    with connect() as api:
        return any(
            str(row["config"].get("filter_subject")).startswith("_parked.")
            for stream in desk.streams
            for row in api.request(f"$JS.API.CONSUMER.LIST.{stream}").get("consumers") or ()
        )


@dataclass
class Report:
    """What happened."""

    title: str
    election: float = 0  # seconds after a crash in which DEAD_LETTERS may keep no notice; in a cluster
    deaf: list[tuple[float, float]] = field(default_factory=list)  # when it got another name, or a role went
    applied: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    brought: set[str] = field(default_factory=set)  # kinds of change that a step was to bring, and has
    faults: Counter[str] = field(default_factory=Counter)
    refused: int = 0  # for what may be lost
    later: Counter[str] = field(default_factory=Counter)  # why something was left for the next apply
    crashes: list[float] = field(default_factory=list)
    emptied: list[tuple[float, str]] = field(default_factory=list)  # see chaos_faults.Servers
    # Stream -> the most that plans said would come again.
    announced: Counter[str] = field(default_factory=Counter)
    published: int = 0
    worked: int = 0
    dead: int = 0
    pending: int = 0
    waiting: int = 0  # for the next apply, as their consumer stands still
    forgotten: int = 0  # repeated, because a killed server no longer knew
    unnoticed: int = 0  # given up, and no server was there to keep the notice
    lost: list[str] = field(default_factory=list)
    repeated: dict[str, list[str]] = field(default_factory=dict)
    faulty: list[str] = field(default_factory=list)  # whatever else must not be
    log: list[tuple[float, str]] = field(default_factory=list)  # what happened when

    @property
    def kept(self) -> bool:
        """Whether nothing was lost, nothing came again that no plan had announced, and the last manifest holds."""
        return not self.lost and not self.faulty and not self._unannounced

    @property
    def _unannounced(self) -> list[str]:
        return [
            f"{stream}: {len(names)} repeated, {self.announced[stream]} announced: {names[:5]}"
            for stream, names in self.repeated.items()
            if len(names) > self.announced[stream]
        ]

    @property
    def failures(self) -> str:
        """What was not kept, for people."""
        lost = [f"lost: {len(self.lost)}: {self.lost[:10]}"] if self.lost else []
        return "; ".join([*lost, *self._unannounced, *self.faulty])

    @property
    def story(self) -> str:
        """What happened, in order."""
        return "\n".join(f"{when:.3f} {what}" for when, what in sorted(self.log))

    def __str__(self) -> str:
        repeated = sum(map(len, self.repeated.values()))
        lines = [
            f"{self.title}: {self.applied} applies, {self.refused} refused; changes applied: {_listed(self.changes)}",
            f"faults survived: {_listed(self.faults)}; left for the next apply: {_listed(self.later)}",
            f"published {self.published}: worked {self.worked}, dead-lettered {self.dead}, pending {self.pending},"
            f" lost {len(self.lost)}, repeated {repeated} (announced: {self.announced.total()})"
            + (f"; {self.forgotten} again that a killed server had forgotten" if self.forgotten else "")
            + (f"; {self.waiting} wait for the next apply" if self.waiting else "")
            + (f"; {self.unnoticed} given up while no server kept the notice" if self.unnoticed else ""),
        ]
        return "\n  ".join(lines)

    def audit(
        self, desks: Iterable[Desk], letters: Letters, pending: set[str], standing: Collection[str]
    ) -> None:
        """The books are closed. `pending` is what nobody had worked on when the workers went home; some have since.

        `standing` are roles of whom nobody is served, since the last manifest does not hold: what is missing there is not lost.
        """
        for desk in desks:
            home, *later = desk.streams  # a role has one book, whatever it was called
            self.announced[home] += sum(self.announced.pop(stream, 0) for stream in later)
            worked, dead, missing = desk.worked(), letters.of(desk), unaccounted(desk, letters)
            stored = desk.acknowledged.keys()
            silent = {name for name in missing if self._is_unnoticed(desk.given_up().get(name))}
            self.published += len(stored)
            self.pending += len(pending & stored & worked)
            self.worked += len((stored & worked) - pending)
            self.dead += len((stored & dead) - worked)
            self.unnoticed += len(silent)
            if desk.role in standing:
                self.waiting += len(missing - silent)
            else:
                self.lost += sorted(missing - silent)
            given_up = desk.given_up()
            self.log += [
                (given_up[name], f"{name} given up, without a notice")
                for name in missing & given_up.keys() - silent
            ]
            for name, times in desk.deliveries().items():
                for before, after in itertools.pairwise(times):
                    self._again(desk, name, before, after)

    def _again(self, desk: Desk, name: str, before: Delivery, after: Delivery) -> None:
        """It was worked on again, after `before`: a server that is killed at the wrong moment cannot know better."""
        forgets = any(
            before.received <= crash + LATE and before.confirmed >= crash - SYNC for crash in self.crashes
        )
        if forgets or any(
            stream in desk.streams and before.received <= crash <= after.received
            for crash, stream in self.emptied
        ):
            self.forgotten += 1
            return
        self.repeated.setdefault(desk.streams[0], []).append(name)
        self.log.append(
            (after.received, f"{name} again; was known to be worked on at {before.confirmed:.3f}")
        )

    def _is_unnoticed(self, when: float | None) -> bool:
        """Return whether its dead letter may have gone with a server: the notice is sent once, and stored by another stream.

        Seen without any tool on 2.12.8: killed within 4 ms of the last -NAK, 1 of 40 messages is neither handed
        out again nor told of. And a plan that gives DEAD_LETTERS another name, or removes a role, says that some are not
        kept meanwhile.
        """
        return when is not None and any(
            start - LATE <= when <= end + LATE
            for start, end in (*((crash, crash + self.election) for crash in self.crashes), *self.deaf)
        )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def connected(urls: str) -> Callable[[], Api]:
    """Return a function that connects to the first of the servers that is up. It raises OSError if none is."""

    def connect() -> Api:
        for url in urls.split(","):
            try:
                return Api(url)
            except OSError:
                continue
        raise ConnectionError(f"no server of {urls} is up")

    return connect
