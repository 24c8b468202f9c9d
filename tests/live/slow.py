"""A way to a server whose answers to writes come too late, all of them: the server has done it, and we are not told."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import pytest

from cyborg_infra.live import again
from cyborg_infra.live.link import Link

WRITES = (
    r"\$JS\.API\.(STREAM\.(CREATE|UPDATE|DELETE|PURGE|MSG\.DELETE)|CONSUMER\.(CREATE|DELETE|PAUSE|RESET))\."
)
MESSAGES = ("PUB", "HPUB", "MSG", "HMSG")
LATE = 0.2  # seconds that a write waits for its answer; reads wait as long as ever, so that a busy machine fails none


class SlowWay:
    """A proxy on loopback. It lets through what a client asks and what it is told, but no answer to a write.

    `unheard` has those writes, as subject and body.
    """

    def __init__(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unheard: list[tuple[str, bytes]] = []
        self._inboxes: set[str] = set()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        _impatient(monkeypatch)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._port))
                for origin, target, passes in (
                    (client, server, self._asked),
                    (server, client, self._answered),
                ):
                    threading.Thread(target=_pump, args=(origin, target, passes), daemon=True).start()

    def _asked(self, words: list[str], body: bytes) -> bool:
        """Whether the server shall hear what the client says: all of it."""
        if words[0] in ("PUB", "HPUB") and re.match(WRITES, words[1]):
            self._inboxes.add(words[2])
            self.unheard.append((words[1].removeprefix("$JS.API."), body))
        return True

    def _answered(self, words: list[str], _body: bytes) -> bool:
        """Whether the client shall hear what the server says."""
        return words[0] not in ("MSG", "HMSG") or words[1] not in self._inboxes


def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Link.request

    async def request(link: Link, subject: str, *arguments: Any, **more: Any) -> bytes:
        if re.match(WRITES, subject):
            more["timeout"] = LATE
        return await original(link, subject, *arguments, **more)

    monkeypatch.setattr(Link, "request", request)
    monkeypatch.setattr(again, "PAUSE", 0.0)


def _pump(origin: socket.socket, target: socket.socket, passes: Callable[[list[str], bytes], bool]) -> None:
    with suppress(OSError, ValueError), origin.makefile("rb") as lines:
        while line := lines.readline():
            words = line.decode().split()
            body = lines.read(int(words[-1]) + 2) if words[0].upper() in MESSAGES else b""
            if passes(words, body):
                target.sendall(line + body)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
