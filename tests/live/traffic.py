"""Agents that never stop: one publishes with message ids and insists, one works; and the books of both."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from raw import Api, Message

BATCH = 20
PULL = json.dumps({"batch": BATCH, "expires": 300_000_000}).encode()  # nanoseconds
ANSWER = 1.0  # seconds to wait for an acknowledgement before asking again
GONE = (OSError, ConnectionError, queue.Empty, ValueError)  # the server was killed


class Agent:
    """A thread with a connection of its own, made anew when the server has been away."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(*GONE), Api(self._url) as api:
                self.act(api)
            self._stop.wait(0.02)

    def act(self, api: Api) -> None:
        raise NotImplementedError


class Publisher(Agent):
    """Publishes 1, 2, 3, ..., each with its own id, again and again until it is acknowledged."""

    def __init__(self, url: str, subject: str) -> None:
        super().__init__(url)
        self._subject = subject
        self._next = 1
        self.acknowledged: dict[str, int] = {}

    def act(self, api: Api) -> None:
        answers = api.subscribe(f"_INBOX.publisher.{id(self)}")
        while not self._stop.is_set():
            name = f"live-{self._next}"
            api.publish(self._subject, name.encode(), reply=answers.subject, headers={"Nats-Msg-Id": name})
            answer = answers.next(ANSWER)
            if "NATS/1.0 503" in answer.headers or "error" in answer.json:  # with "seq": 0 beside it
                time.sleep(0.001)
                continue
            self.acknowledged[name] = answer.json["seq"]
            self._next += 1
            time.sleep(0.001)


class Worker(Agent):
    """Pulls from `STREAM/consumer`, works on what comes, and makes sure that the server knows."""

    def __init__(self, url: str, ref: str) -> None:
        super().__init__(url)
        self._verb = f"$JS.API.CONSUMER.MSG.NEXT.{ref.replace('/', '.')}"
        self.worked: Counter[str] = Counter()

    def act(self, api: Api) -> None:
        inbox, done = (api.subscribe(f"_INBOX.{what}.{id(self)}") for what in ("worker", "worked"))
        while not self._stop.is_set():
            api.publish(self._verb, PULL, reply=inbox.subject)
            taken = 0
            while taken < BATCH and not _is_status(message := inbox.next(ANSWER)):
                self.worked[message.data.decode()] += 1
                api.publish(message.reply, b"+ACK", reply=done.subject)
                taken += 1
            for _ in range(taken):
                done.next(ANSWER)
            if not taken:
                time.sleep(0.005)  # nothing there, or no consumer at the moment


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
