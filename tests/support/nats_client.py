"""A NATS client of the tests' own: a socket and the text protocol, so that no test trusts the code it tests."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import re
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit


class Message(NamedTuple):
    """One message as it arrived; `headers` is the raw block, first line included."""

    subject: str
    reply: str
    headers: str
    data: bytes
    # By time.monotonic(); of one connection in the order in which the server has sent them.
    arrived: float = 0.0

    @property
    def json(self) -> Any:
        """The payload as JSON."""
        return json.loads(self.data)


class Subscription:
    """Collects what arrives on a subject, in order."""

    def __init__(self, api: Api, subject: str) -> None:
        self._api = api
        self.subject = subject
        self._arrived: queue.SimpleQueue[Message | None] = queue.SimpleQueue()  # None: there is no connection

    def _take(self, message: Message | None) -> None:
        self._arrived.put(message)

    def next(self, timeout: float = 60) -> Message:
        """Return the next message.

        Raises queue.Empty if none comes within `timeout` seconds, ConnectionError if none will ever.
        """
        message = self._arrived.get(timeout=timeout)
        if message is None:
            self._take(None)
            raise ConnectionError("the server closed the connection")
        return message

    def all(self) -> list[Message]:
        """Return everything that the server had sent us by now, taken out."""
        self._api.flush()
        return [self.next() for _ in range(self._arrived.qsize())]


class Api:
    """A connection; `request("$JS.API.STREAM.INFO.X")` gives the reply's JSON as a dict."""

    def __init__(self, url: str, **options: Any) -> None:
        """`options` go into CONNECT as they are (`user`, `pass`, `auth_token`); so do those of the URL."""
        address = urlsplit(url)
        if address.username:
            options = {"user": unquote(address.username), "pass": unquote(address.password or "")} | options
        self._socket = socket.create_connection((address.hostname, address.port or 4222), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a second write waits 40 ms
        self._lines = self._socket.makefile("rb")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.errors: list[str] = []
        self._ids = itertools.count(1)
        self._subscriptions: dict[str, Subscription] = {}
        self._pongs: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._inbox = f"_INBOX.tests.{id(self)}"
        try:
            self._greet(options)
        except BaseException:  # killed in the middle of it: nobody else has the socket to close
            self.close()
            raise

    def _greet(self, options: dict[str, Any]) -> None:
        self.info: dict[str, Any] = json.loads(self._lines.readline().removeprefix(b"INFO "))
        settings = {"verbose": False, "headers": True, "no_responders": True, "protocol": 1, "name": "tests"}
        self.send(f"CONNECT {json.dumps(settings | options)}\r\n".encode())
        self._socket.settimeout(None)
        self._reader.start()
        self.flush()
        self._answers = self.subscribe(f"{self._inbox}.*")

    def request(self, subject: str, value: object = None, timeout: float = 10) -> dict[str, Any]:
        """Return the reply's JSON to `value` as JSON (nothing for None). Raises as `ask`."""
        answer: dict[str, Any] = self.ask(
            subject, b"" if value is None else json.dumps(value).encode(), timeout
        ).json
        return answer

    def ask(
        self, subject: str, data: bytes = b"", timeout: float = 10, headers: dict[str, str] | None = None
    ) -> Message:
        """Return the reply itself.

        Raises queue.Empty without one, RuntimeError where nobody listens, ConnectionError where the server is gone.
        """
        reply = f"{self._inbox}.{next(self._ids)}"
        self.publish(subject, data, reply=reply, headers=headers)
        while True:
            message = self._answers.next(timeout)
            if message.subject == reply:
                if message.headers.startswith("NATS/1.0 503"):
                    raise RuntimeError(f"no responders on {subject}")
                return message

    def answers(self, subject: str) -> bool:
        """Return whether the API does, within a second and without an error; a request before it is reached is lost."""
        with contextlib.suppress(queue.Empty, RuntimeError):
            return "error" not in self.request(subject, timeout=1)
        return False

    def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Sent, not acknowledged."""
        block = b""
        if headers:
            lines = "".join(f"{key}: {text}\r\n" for key, text in headers.items())
            block = f"NATS/1.0\r\n{lines}\r\n".encode()
        sizes = f"{len(block)} {len(block) + len(data)}" if block else f"{len(data)}"
        verb = "HPUB" if block else "PUB"
        line = " ".join(part for part in (verb, subject, reply, sizes) if part)
        self.send(f"{line}\r\n".encode() + block + data + b"\r\n")

    def subscribe(self, subject: str) -> Subscription:
        """Return in force when this returns: nothing published afterwards is missed."""
        sid = str(next(self._ids))
        self._subscriptions[sid] = Subscription(self, subject)
        self.send(f"SUB {subject} {sid}\r\n".encode())
        self.flush()
        return self._subscriptions[sid]

    def flush(self, timeout: float = 60) -> None:
        """Flush in both directions: the server has seen all that we sent, and we all that it sent before. Raises queue.Empty if not."""
        self.send(b"PING\r\n")
        if not self._pongs.get(timeout=timeout):
            self._pongs.put(False)
            raise ConnectionError(f"the server closed the connection: {self.errors}")

    def close(self) -> None:
        """Closed; the reader has ended."""
        with contextlib.suppress(OSError):  # the server may be gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reader.is_alive():
            self._reader.join()
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Bytes of the protocol as they are."""
        self._socket.sendall(data)

    def _read(self) -> None:
        try:
            while line := self._lines.readline().decode().strip():
                self._handle(line)
        except OSError:
            pass  # closed under us
        self._pongs.put(False)
        for subscription in list(self._subscriptions.values()):
            subscription._take(None)  # noqa: SLF001 - the other half of this class

    def _handle(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        if verb == "PING":
            self.send(b"PONG\r\n")
        elif verb == "PONG":
            self._pongs.put(True)
        elif verb == "-ERR":
            self.errors.append(rest)
        elif verb in ("MSG", "HMSG"):
            self._deliver(verb, re.split(r"\s+", rest))

    def _deliver(self, verb: str, words: list[str]) -> None:
        total = int(words[-1])
        head = int(words[-2]) if verb == "HMSG" else 0
        subject, sid, *reply = words[: -2 if verb == "HMSG" else -1]
        body = self._lines.read(total + 2)[:-2]
        reply_to, headers, data = reply[0] if reply else "", body[:head].decode(), body[head:]
        message = Message(subject, reply_to, headers, data, time.monotonic())
        self._subscriptions[sid]._take(message)  # noqa: SLF001 - the other half of this class


def is_haunted(answer: Mapping[str, Any]) -> bool:
    """Return whether a new stream holds what was deleted under its name.

    A delete moves the files away and removes them behind its answer. One that finds those of the last delete there
    still leaves its own where they are, says OK, and the next stream of that name takes them up (2.10.26, 2.15.1).
    """
    expected = max(answer.get("config", {}).get("first_seq", 0), 1) - 1
    return bool(answer.get("state", {}).get("last_seq", expected) != expected)
