"""A way to a server on which what it answers is changed, left out, sent twice or cut off; or to none at all.

Robustness is all that it is for: what it says proves nothing about JetStream. Real answers come from a real server
behind it; without one it says its INFO, answers pings, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

Info = Callable[[bytes], bytes]
"""What stands behind the word INFO, as the server says it -> as the client hears it."""


class Said(NamedTuple):
    """What the client hears instead of one answer: payloads, so many seconds later; and then perhaps nothing more."""

    payloads: Sequence[bytes]
    delay: float = 0.0
    closed: bool = False


Lie = Callable[[str, bytes], Said]
"""The subject of a request, and its answer -> what the client hears."""


def truly(_subject: str, answer: bytes) -> Said:
    """Return as it is."""
    return Said([answer])


class Liar:
    """Listens on loopback as long as the block lasts. `lie` and `info` may be set anew for each case."""

    def __init__(self, port: int | None) -> None:
        self.lie: Lie = truly
        self.info: Info = lambda info: info
        self.heard = 0  # requests so far
        self._upstream = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**26))
        self.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = _Way(self, reader, writer)
        # Cancelled at the end: asyncio would complain that it was.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError):
            if self._upstream is None:
                await way.alone()
            else:
                await way.between(*await asyncio.open_connection("127.0.0.1", self._upstream, limit=2**26))
        writer.close()


class _Way:
    """One connection of a client."""

    def __init__(self, liar: Liar, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.liar = liar
        self.reader, self.writer = reader, writer
        self.asked: dict[str, str] = {}  # inbox -> subject of the request

    async def alone(self) -> None:
        self.writer.write(b"INFO " + self.liar.info(b"{}") + b"\r\n")
        while line := await self.reader.readline():
            if line.startswith(b"PING"):
                self.writer.write(b"PONG\r\n")
            elif line.split(b" ")[0] in (b"PUB", b"HPUB"):
                await self.reader.readexactly(int(line.split()[-1]) + 2)
            await self.writer.drain()

    async def between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ways = [asyncio.ensure_future(self._ask(writer)), asyncio.ensure_future(self._answer(reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()

    async def _ask(self, server: asyncio.StreamWriter) -> None:
        while line := await self.reader.readline():
            words = line.decode().split()
            body = b""
            if words and words[0] in ("PUB", "HPUB"):
                body = await self.reader.readexactly(int(words[-1]) + 2)
                if len(words) > (3 if words[0] == "PUB" else 4):
                    self.asked[words[2]] = words[1]
                    self.liar.heard += 1
            server.write(line + body)
            await server.drain()

    async def _answer(self, server: asyncio.StreamReader) -> None:
        while line := await server.readline():
            words = line.decode().split()
            if words[0] == "INFO":
                self.writer.write(b"INFO " + self.liar.info(line[5:].strip()) + b"\r\n")
            elif words[0] not in ("MSG", "HMSG"):
                self.writer.write(line)
            else:
                body = await server.readexactly(int(words[-1]) + 2)
                if words[0] == "HMSG" or words[1] not in self.asked:
                    self.writer.write(line + body)
                elif await self._changed(words, body[:-2]):
                    return
            await self.writer.drain()

    async def _changed(self, words: list[str], answer: bytes) -> bool:
        """Return the client has heard what it shall; whether it shall hear nothing more."""
        said = self.liar.lie(self.asked[words[1]], answer)

        def say() -> None:
            for payload in said.payloads:
                head = f"MSG {words[1]} {words[2]} {len(payload)}\r\n".encode()
                self.writer.write(head + payload + b"\r\n")

        if said.delay:
            asyncio.get_running_loop().call_later(said.delay, say)
        else:
            say()
        return said.closed
