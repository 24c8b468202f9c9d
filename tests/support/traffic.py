"""Agents that never stop: one publishes with message ids and insists, one works; and the books of both."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from tests.support.nats_client import Api, Message, Subscription

BATCH = 20
PULL = json.dumps({"batch": BATCH, "expires": 300_000_000}).encode()  # nanoseconds
LONG_PULL = json.dumps({"batch": BATCH, "expires": 5_000_000_000, "idle_heartbeat": 500_000_000}).encode()
ANSWER = 1.0  # seconds to wait for an acknowledgement, or a heartbeat, before asking again
LENGTH = 1.2  # seconds that something takes that is worked on at length
TRIES = 3  # times that something is asked or told again of which nothing is heard
GONE = (OSError, ConnectionError, queue.Empty, ValueError)  # the server was killed
DONE, GIVEN_UP, NOT_NOW = b"+ACK", b"+TERM", b"-NAK"
LATER = b'-NAK {"delay": 400000000}'
AT_LENGTH = b"+WPI"  # it is worked on for LENGTH, which the server is told meanwhile, and done then
CRASH = b""  # the agent dies with the message in hand, and comes back


class Agent:
    """A thread with a connection of its own, made anew when the server has been away, to any of its `url`s."""

    def __init__(self, url: str) -> None:
        self._urls = itertools.cycle(url.split(","))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """It has gone home; what it was handed last may be unfinished."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(*GONE), Api(next(self._urls)) as api:
                self.act(api)
            self._stop.wait(0.02)

    def act(self, api: Api) -> None:
        raise NotImplementedError


class Publisher(Agent):
    """Publishes `name`-1, -2, -3, ..., each with its own id, again and again until it is acknowledged."""

    def __init__(self, url: str, subject: str, name: str = "live", pause: float = 0.001) -> None:
        super().__init__(url)
        self.subject, self._name, self.pause = subject, name, pause
        self._next = 1
        self.acknowledged: dict[str, int] = {}
        self.refused = 0  # attempts; publishers are, for milliseconds, while a stream is replaced

    def act(self, api: Api) -> None:
        inbox, silences = _inbox(), 0
        answers = api.subscribe(f"{inbox}.*")
        for attempt in itertools.count():
            if self._stop.is_set():
                return
            name, reply = f"{self._name}-{self._next}", f"{inbox}.{attempt}"
            api.publish(self.subject, name.encode(), reply=reply, headers={"Nats-Msg-Id": name})
            try:
                while (answer := answers.next(ANSWER)).subject != reply:
                    pass  # of an earlier attempt
            except queue.Empty:
                silences += 1
                if silences > TRIES:
                    raise
                continue
            silences = 0
            if "NATS/1.0 503" not in answer.headers and "error" not in answer.json:  # with "seq": 0 beside it
                if answer.json["seq"]:  # 0: a cluster of 2.10 knows the id of a message that it never stored
                    self.acknowledged[name] = answer.json["seq"]
                self._next += 1
            else:
                self.refused += 1
            time.sleep(self.pause)


@dataclass
class Delivery:
    """When a message reached a worker, and when the server's word that it is done did, or the worker gave up telling it."""

    received: float
    confirmed: float = float("inf")
    heard: bool = False  # the server has said so


class Crashed(OSError):
    """The agent is gone, and with it whatever it was working on."""


@dataclass
class _Task:
    """A message that is worked on at length."""

    message: Message
    delivery: Delivery
    due: float
    said: float  # when the server was told last that it is worked on


class Worker(Agent):
    """Pulls from `STREAM/consumer`, works on what comes, and makes sure that the server knows.

    `answers` says how a message ends: only what is DONE, at once or AT_LENGTH, has been worked on. A `patient` worker
    leaves its pulls with the server for seconds, and hears heartbeats meanwhile.
    """

    def __init__(
        self, url: str, ref: str, answers: Callable[[str], bytes] = lambda _: DONE, *, patient: bool = False
    ) -> None:
        super().__init__(url)
        self._verb = f"$JS.API.CONSUMER.MSG.NEXT.{ref.replace('/', '.')}"
        self._answers, self._patient = answers, patient
        self._owed: dict[int, tuple[str, bytes, Delivery]] = {}
        self._at_length: list[_Task] = []
        self._numbers = itertools.count()
        self.worked: Counter[str] = Counter()
        self.given_up: dict[str, float] = {}  # when last
        self.places: dict[str, set[tuple[str, int]]] = {}  # of what it gave up: under which numbers it came
        self.deliveries: dict[str, list[Delivery]] = {}

    def act(self, api: Api) -> None:
        inbox, heard, silences = api.subscribe(_inbox()), api.subscribe(f"{_inbox()}.*"), 0
        self._tell_all(api, heard)
        while not self._stop.is_set():
            api.publish(self._verb, LONG_PULL if self._patient else PULL, reply=inbox.subject)
            taken = 0
            try:
                taken = self._work(api, inbox, heard)
                silences = 0
            except queue.Empty:
                silences += 1  # what was asked for before may still come, by this connection alone
                if silences > TRIES:
                    raise
            self._hear(api, heard)
            if not taken:
                time.sleep(0.005)  # nothing there, or no consumer at the moment

    def _work(self, api: Api, inbox: Subscription, heard: Subscription) -> int:
        """Return how many messages came before the pull ended; each is worked on and answered."""
        for taken in range(BATCH):
            message = self._next(api, inbox, heard)
            if _is_status(message):
                return taken
            name, delivery = message.data.decode(), Delivery(message.arrived)
            answer = self._answers(name)
            if answer == CRASH:
                self._at_length.clear()
                raise Crashed(name)
            if answer == AT_LENGTH:
                now = time.monotonic()
                self._at_length.append(_Task(message, delivery, now + LENGTH, now))
                continue
            if answer == DONE:
                self._done(name, delivery)
            else:
                self.given_up[name] = delivery.received
                tokens = message.reply.split(".")  # $JS.ACK.stream.consumer.deliveries.sequence. ...
                self.places.setdefault(name, set()).add((tokens[2], int(tokens[5])))
            self._answer(api, message, answer, delivery, heard)
        return BATCH

    def _next(self, api: Api, inbox: Subscription, heard: Subscription) -> Message:
        """Return what comes next, with what is worked on at length going on meanwhile. Raises queue.Empty where nothing comes."""
        deadline = time.monotonic() + ANSWER
        while True:
            self._go_on(api, heard)
            with suppress(queue.Empty):
                message = inbox.next(0.1)
                if not message.headers.startswith("NATS/1.0 100"):
                    return message
                deadline = time.monotonic() + ANSWER
            if time.monotonic() > deadline or (self._patient and self._stop.is_set()):
                raise queue.Empty

    def _go_on(self, api: Api, heard: Subscription) -> None:
        now = time.monotonic()
        for task in [task for task in self._at_length if now >= task.due]:
            self._at_length.remove(task)
            self._done(task.message.data.decode(), task.delivery)
            self._answer(api, task.message, DONE, task.delivery, heard)
        for task in self._at_length:
            if now >= task.said + LENGTH / 3:
                task.said = now
                api.publish(task.message.reply, AT_LENGTH)

    def _done(self, name: str, delivery: Delivery) -> None:
        self.deliveries.setdefault(name, []).append(delivery)
        self.worked[name] += 1

    def _answer(
        self, api: Api, message: Message, answer: bytes, delivery: Delivery, heard: Subscription
    ) -> None:
        number = next(self._numbers)
        self._owed[number] = (message.reply, answer, delivery)
        self._tell(api, number, heard)

    def _tell(self, api: Api, number: int, heard: Subscription) -> None:
        subject, answer, _ = self._owed[number]
        api.publish(subject, answer, reply=heard.subject.replace("*", str(number)))

    def _tell_all(self, api: Api, heard: Subscription) -> None:
        for number in self._owed:
            self._tell(api, number, heard)

    def _hear(self, api: Api, heard: Subscription) -> None:
        """The server has heard of everything; or it does not say so, as often as it is told, as where the consumer is gone."""
        for _ in range(TRIES):
            with suppress(queue.Empty):
                self._confirm(heard)
                return
            self._tell_all(api, heard)
        with suppress(queue.Empty):
            self._confirm(heard)
        for _, _, delivery in self._owed.values():
            delivery.confirmed = time.monotonic()
        self._owed.clear()

    def _confirm(self, heard: Subscription) -> None:
        """The server has heard of everything. Raises queue.Empty if it does not say so."""
        while self._owed:
            message = heard.next(ANSWER)
            number = int(message.subject.rpartition(".")[2])
            if number in self._owed and not _is_status(message):  # a status: nobody listens at the moment
                delivery = self._owed.pop(number)[2]
                delivery.confirmed, delivery.heard = message.arrived, True


def _inbox() -> str:
    return f"_INBOX.{uuid4().hex}"


def _is_status(message: Message) -> bool:
    return message.headers.startswith(("NATS/1.0 4", "NATS/1.0 5"))


def eventually(holds: Callable[[], bool], seconds: float = 120) -> bool:
    """Return whether it holds, within `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
