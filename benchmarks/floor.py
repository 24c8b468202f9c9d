"""The floor: the same requests, made beforehand, over a plain socket, with nothing done about the replies.

A program of its own that needs nothing but Python, so that neither what it imports nor what it holds in memory
disturbs anybody: `python floor.py create|read URL SHOWN`, with the output of `show --format json`. Prints the seconds
from the connection to the last reply. What takes longer than this is ours; the rest is the server's.
"""

from __future__ import annotations

import gc
import json
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

CREATES_IN_FLIGHT = 32
REPLICATED_CREATES_IN_FLIGHT = 8  # more only makes a cluster slower
READS_IN_FLIGHT = 128
PATIENCE = 600.0  # seconds for a reply; one server loses none, but may need minutes for one large stream
REPLICATED_PATIENCE = 15.0  # a cluster that elects loses requests: after this silence they are sent again
TRIES = 20
PAGE = 256  # what a listing has at most

_CHUNK = 1 << 18

_Message = tuple[int, bytes]
"""The number at the end of its subject, 0 for none, and its body without headers."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and those that may be sent once it is answered."""

    subject: str
    body: bytes = b""
    then: tuple[Request, ...] = ()


class Wire:
    """A connection that knows just enough of the protocol to have requests answered."""

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        """Connected when this returns; `patience` is in seconds, for one reply."""
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname or "", address.port or 0), patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._arrived = bytearray()
        self._inbox = b"answer-" + secrets.token_hex(8).encode()
        options = b'{"verbose":false,"headers":true,"no_responders":true,"protocol":1}'
        self._socket.sendall(b"CONNECT " + options + b"\r\nSUB %s.* 1\r\n" % self._inbox)
        self._line()

    def ask(self, subject: str, body: bytes = b"") -> bytes:
        """Return the reply to one request. Raises TimeoutError if there is none."""
        self._socket.sendall(self._publication(subject, body, 0))
        return self._message()[1]

    def hear(self, subject: str) -> None:
        """From now on, what is published on the subject arrives here as well."""
        self._socket.sendall(f"SUB {subject} 2\r\nPING\r\n".encode())
        while self._line() != b"PONG":
            pass

    def tell(self, subject: str, body: bytes, listener: Wire) -> bytes:
        """Return what the listener hears of one message."""
        self._socket.sendall(self._publication(subject, body, 0))
        return listener._message()[1]

    def exchange(self, requests: Iterable[Request], window: int) -> int:
        """Return how many requests were answered: all. At most `window` of them are unanswered at any time.

        Raises RuntimeError for a reply that is an error.
        """
        ready = deque(requests)
        unanswered: dict[int, Request] = {}
        sent = silences = 0
        while ready or unanswered:
            out = bytearray()
            while ready and len(unanswered) < window:
                unanswered[sent] = ready.popleft()
                out += self._publication(unanswered[sent].subject, unanswered[sent].body, sent)
                sent += 1
            self._socket.sendall(out)
            try:
                arrived: _Message | None = self._message()
            except TimeoutError:
                if (silences := silences + 1) == TRIES:
                    raise
                again = (
                    self._publication(each.subject, each.body, index) for index, each in unanswered.items()
                )
                self._socket.sendall(b"".join(again))
                continue
            while arrived is not None:
                number, reply = arrived
                _refuse_error(reply)
                if answered := unanswered.pop(number, None):
                    ready.extend(answered.then)
                arrived = self._next()
        return sent

    def _publication(self, subject: str, body: bytes, number: int) -> bytes:
        return b"PUB %s %s.%d %d\r\n%s\r\n" % (subject.encode(), self._inbox, number, len(body), body)

    def _message(self) -> _Message:
        """Return the next message, awaited."""
        while (message := self._next()) is None:
            self._receive()
        return message

    def _next(self) -> _Message | None:
        """Return the next message, if all of it is here."""
        while (end := self._arrived.find(b"\r\n")) >= 0:
            words = bytes(self._arrived[:end]).split()
            start = end + 2
            match words[0]:
                case b"MSG" | b"HMSG":
                    head, size = int(words[-2]) if words[0] == b"HMSG" else 0, int(words[-1])
                    if len(self._arrived) < start + size + 2:
                        return None
                    headers, body = (
                        self._arrived[start : start + head],
                        self._arrived[start + head : start + size],
                    )
                    del self._arrived[: start + size + 2]
                    if headers.startswith(b"NATS/1.0 503"):
                        raise RuntimeError("nobody answers")
                    number = words[1].rpartition(b".")[2]
                    return int(number) if number.isdigit() else 0, bytes(body)
                case b"PING":
                    self._socket.sendall(b"PONG\r\n")
                case b"-ERR":
                    raise RuntimeError(b" ".join(words).decode())
            del self._arrived[:start]
        return None

    def _line(self) -> bytes:
        while (end := self._arrived.find(b"\r\n")) < 0:
            self._receive()
        line = bytes(self._arrived[:end])
        del self._arrived[: end + 2]
        return line

    def _receive(self) -> None:
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        self._arrived += chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def creates(shown: Mapping[str, Any]) -> list[Request]:
    """Return what makes every stream and, once it is there, its consumers: what the product itself sends."""
    readers: dict[str, list[Request]] = {}
    for row in shown["consumers"]:
        stream, name = row["stream"], row["consumer"]
        body = {"stream_name": stream, "config": row["config"], "action": "create"}
        readers.setdefault(stream, []).append(
            Request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", _json(body))
        )
    return [
        Request(f"$JS.API.STREAM.CREATE.{name}", _json(row["config"]), tuple(readers.get(name, ())))
        for row in shown["streams"]
        for name in [row["stream"]]
    ]


def reads(shown: Mapping[str, Any]) -> list[Request]:
    """Return what reads them all, without being told how many pages there are: the least that a plan has to know."""
    counts = dict.fromkeys((row["stream"] for row in shown["streams"]), 0)
    for row in shown["consumers"]:
        counts[row["stream"]] += 1
    pages = [("$JS.API.STREAM.LIST", len(counts))]
    pages += [(f"$JS.API.CONSUMER.LIST.{stream}", count) for stream, count in counts.items() if count]
    return [
        Request(subject, _json({"offset": offset}))
        for subject, count in pages
        for offset in range(0, count, PAGE)
    ]


def main(arguments: Sequence[str]) -> None:
    """One floor, measured."""
    verb, url, shown = arguments
    content = json.loads(Path(shown).read_bytes())
    replicated = any(row["config"]["num_replicas"] > 1 for row in content["streams"])
    if verb == "read":
        requests, window = reads(content), READS_IN_FLIGHT
    else:
        requests, window = creates(content), REPLICATED_CREATES_IN_FLIGHT if replicated else CREATES_IN_FLIGHT
    del content
    gc.disable()
    start = time.perf_counter()
    with Wire(url, REPLICATED_PATIENCE if replicated else PATIENCE) as wire:
        try:
            wire.exchange(requests, window)
        except (OSError, RuntimeError) as error:
            sys.exit(f"{verb}: {error or type(error).__name__}")
    sys.stdout.write(f"{time.perf_counter() - start}\n")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _refuse_error(reply: bytes) -> None:
    if b'"error":{' in reply:
        raise RuntimeError(reply.decode())


if __name__ == "__main__":
    main(sys.argv[1:])
