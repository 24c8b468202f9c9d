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

from raw import Api, Message, Subscription

BATCH = 20
PULL = json.dumps({"batch": BATCH, "expires": 300_000_000}).encode()  # nanoseconds
ANSWER = 1.0  # seconds to wait for an acknowledgement before asking again
TRIES = 3  # times that a worker tells the server about a message
GONE = (OSError, ConnectionError, queue.Empty, ValueError)  # the server was killed
DONE, GIVEN_UP, NOT_NOW = b"+ACK", b"+TERM", b"-NAK"


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
        self.subject, self._name, self._pause = subject, name, pause
        self._next = 1
        self.acknowledged: dict[str, int] = {}

    def act(self, api: Api) -> None:
        inbox = _inbox()
        answers = api.subscribe(f"{inbox}.*")
        for attempt in itertools.count():
            if self._stop.is_set():
                return
            name, reply = f"{self._name}-{self._next}", f"{inbox}.{attempt}"
            api.publish(self.subject, name.encode(), reply=reply, headers={"Nats-Msg-Id": name})
            answer = answers.next(ANSWER)
            if "NATS/1.0 503" not in answer.headers and "error" not in answer.json:  # with "seq": 0 beside it
                if answer.json["seq"]:  # 0: a cluster of 2.10 knows the id of a message that it never stored
                    self.acknowledged[name] = answer.json["seq"]
                self._next += 1
            time.sleep(self._pause)


@dataclass
class Delivery:
    """When a worker got a message, and when the server had heard that it is done, or the worker gave up telling it."""

    received: float
    confirmed: float = float("inf")
    heard: bool = False  # the server has said so


class Worker(Agent):
    """Pulls from `STREAM/consumer`, works on what comes, and makes sure that the server knows.

    `answers` says how a message ends: only what is DONE has been worked on.
    """

    def __init__(self, url: str, ref: str, answers: Callable[[str], bytes] = lambda _: DONE) -> None:
        super().__init__(url)
        self._verb = f"$JS.API.CONSUMER.MSG.NEXT.{ref.replace('/', '.')}"
        self._answers = answers
        self._owed: dict[int, tuple[str, bytes, Delivery]] = {}
        self._numbers = itertools.count()
        self.worked: Counter[str] = Counter()
        self.given_up: dict[str, float] = {}  # when last
        self.places: dict[str, set[tuple[str, int]]] = {}  # of what it gave up: under which numbers it came
        self.deliveries: dict[str, list[Delivery]] = {}

    def act(self, api: Api) -> None:
        inbox, heard = api.subscribe(_inbox()), api.subscribe(f"{_inbox()}.*")
        for _ in range(TRIES):
            with suppress(queue.Empty):
                for number in self._owed:
                    self._tell(api, number, heard)
                self._hear(heard)
        for _, _, delivery in self._owed.values():  # the consumer it came from may be gone
            delivery.confirmed = time.monotonic()
        self._owed.clear()
        while not self._stop.is_set():
            api.publish(self._verb, PULL, reply=inbox.subject)
            taken = self._work(api, inbox, heard)
            self._hear(heard)
            if not taken:
                time.sleep(0.005)  # nothing there, or no consumer at the moment

    def _work(self, api: Api, inbox: Subscription, heard: Subscription) -> int:
        """How many messages came before the pull ended; each is worked on and answered."""
        for taken in range(BATCH):
            message = inbox.next(ANSWER)
            if _is_status(message):
                return taken
            name, delivery = message.data.decode(), Delivery(time.monotonic())
            answer = self._answers(name)
            if answer == DONE:
                self.deliveries.setdefault(name, []).append(delivery)
                self.worked[name] += 1
            else:
                self.given_up[name] = delivery.received
                tokens = message.reply.split(".")  # $JS.ACK.stream.consumer.deliveries.sequence. ...
                self.places.setdefault(name, set()).add((tokens[2], int(tokens[5])))
            number = next(self._numbers)
            self._owed[number] = (message.reply, answer, delivery)
            self._tell(api, number, heard)
        return BATCH

    def _tell(self, api: Api, number: int, heard: Subscription) -> None:
        subject, answer, _ = self._owed[number]
        api.publish(subject, answer, reply=heard.subject.replace("*", str(number)))

    def _hear(self, heard: Subscription) -> None:
        """The server has heard of everything. Raises queue.Empty if it does not say so."""
        while self._owed:
            message = heard.next(ANSWER)
            number = int(message.subject.rpartition(".")[2])
            if number in self._owed and not _is_status(message):  # a status: nobody listens at the moment
                delivery = self._owed.pop(number)[2]
                delivery.confirmed, delivery.heard = time.monotonic(), True


def _inbox() -> str:
    return f"_INBOX.{uuid4().hex}"


def _is_status(message: Message) -> bool:
    return message.headers.startswith(("NATS/1.0 4", "NATS/1.0 5"))


def eventually(holds: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether it holds, within `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
