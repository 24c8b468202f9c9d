"""A way to a server whose answers to writes come too late, all of them: the server has done it, and we are not told."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from cyborg_infra.live.connection.errors import NoReply
from cyborg_infra.live.interception import WireRequest
from tests.support.faults import Faults, SendWire

WRITES = (
    r"\$JS\.API\.(STREAM\.(CREATE|UPDATE|DELETE|PURGE|MSG\.DELETE)|CONSUMER\.(CREATE|DELETE|PAUSE|RESET))\."
)
MESSAGES = ("PUB", "HPUB", "MSG", "HMSG")
LATE = 60.0  # seconds that a write waits for an answer; when the server has given it there is no use in waiting longer
POLL = 0.002  # seconds


class DelayedReplies:
    """A proxy on loopback. It lets through what a client asks and what it is told, but no answer to a write.

    `unheard` has those writes, as subject and body.
    """

    def __init__(self, port: int, faults: Faults) -> None:
        self.unheard: list[tuple[str, bytes]] = []
        self._inboxes: dict[str, tuple[str, bytes]] = {}
        self._given = Counter[tuple[str, bytes]]()  # answers to each write, which nobody has heard
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        faults.waits(RETRY_INTERVAL_SECONDS=0.0)
        faults.intercept_wire(self._impatient)

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
        """Return whether the server shall hear what the client says: all of it."""
        if words[0] in ("PUB", "HPUB") and re.match(WRITES, words[1]):
            self._inboxes[words[2]] = words[1], body.removesuffix(b"\r\n")
            self.unheard.append((words[1].removeprefix("$JS.API."), body))
        return True

    def _answered(self, words: list[str], _body: bytes) -> bool:
        """Return whether the client shall hear what the server says."""
        unheard = self._inboxes.get(words[1]) if words[0] in ("MSG", "HMSG") else None
        if unheard:
            self._given[unheard] += 1
        return unheard is None

    async def _impatient(self, request: WireRequest, send: SendWire) -> bytes:
        """Return the reply; a write's time is over once the server has answered it: reads, and a busy machine, have all theirs."""
        if not re.match(WRITES, request.subject):
            return await send(request)
        write = request.subject, request.payload
        before = self._given[write]
        asking = asyncio.create_task(send(request._replace(timeout=LATE)))
        while not asking.done():
            if self._given[write] > before:
                asking.cancel()
                raise NoReply(request.subject, request.timeout)
            await asyncio.sleep(POLL)
        return await asking


def _pump(origin: socket.socket, target: socket.socket, passes: Callable[[list[str], bytes], bool]) -> None:
    with suppress(OSError, ValueError), origin.makefile("rb") as lines:
        while line := lines.readline():
            words = line.decode().split()
            body = lines.read(int(words[-1]) + 2) if words[0].upper() in MESSAGES else b""
            if passes(words, body):
                target.sendall(line + body)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
