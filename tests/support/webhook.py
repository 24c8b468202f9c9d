"""A webhook on this machine that takes notifications as Apprise's json:// sends them, and fails, hangs or answers late as it is told."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

HANG = "hang"
Behaviour = tuple[float, int] | str
"""What becomes of a request: answered after so many seconds with this status, or HANG."""

MAX_HANG_SECONDS = 600.0


class Taken(NamedTuple):
    """A message that was accepted: what it says, and by what it is known when it comes twice."""

    id: str
    title: str
    body: str
    kind: str


class Webhook:
    """`behaves` is asked of each message what becomes of it. What is accepted is in `taken`; `open` are those that are not answered yet.

    It answers with `location` where it sends elsewhere. Whoever asks for a page gets one: that is no message.
    """

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.requests = 0
        self.open = 0
        self.location = ""
        self._lock = threading.Lock()
        self.behaves: Callable[[], Behaviour] = lambda: (0, 200)
        self.released = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.answer(self)

            def do_GET(self) -> None:
                with hook._lock:
                    hook.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    @property
    def url(self) -> str:
        """Where it is, as Apprise takes it."""
        return f"json://127.0.0.1:{self.port}/"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Accept the message, or do not. It is accepted before the answer is sent, as by any receiver."""
        body: dict[str, Any] = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self._lock:
            self.requests += 1
            self.open += 1
            outcome = self.behaves()
        try:
            self._answer(request, body, outcome)
        finally:
            with self._lock:
                self.open -= 1

    def _answer(self, request: BaseHTTPRequestHandler, body: dict[str, Any], outcome: Behaviour) -> None:
        if isinstance(outcome, str):
            request.connection.settimeout(MAX_HANG_SECONDS)
            with contextlib.suppress(OSError):
                request.rfile.read(1)  # until who asked gives up
            return
        late, status = outcome
        if status < 300:
            identity = request.headers["Idempotency-Key"]
            self.taken.append(Taken(identity, body["title"], body["message"], body["type"]))
        if late:
            self.released.wait(late)
        with contextlib.suppress(OSError):  # who asked is dead
            request.send_response(status)
            request.send_header("Content-Length", "0")
            if self.location:
                request.send_header("Location", self.location)
            request.end_headers()

    @property
    def titles(self) -> list[str]:
        """Return the titles of what was accepted."""
        return [each.title for each in self.taken]

    @contextlib.contextmanager
    def running(self) -> Iterator[Webhook]:
        """Yield it while it answers."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@contextlib.contextmanager
def webhook() -> Iterator[Webhook]:
    """Yield a webhook that accepts everything."""
    with Webhook().running() as hook:
        yield hook
