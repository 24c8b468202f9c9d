"""The HTTP server of the monitor: where it listens, which paths there are, and who may read them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from cyborg_infra.files import Unreadable, require_readable
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Option, worded
from cyborg_infra.monitor.access import OnlyThisMachine, TokenRequired, is_loopback
from cyborg_infra.monitor.exposition import exposition
from cyborg_infra.monitor.feed import Feed
from cyborg_infra.monitor.page.routes import page_routes

OPEN_PATHS = ("/healthz", "/readyz")
"""What probes ask, who have no token; nothing is told there but yes or no."""

MAX_CONNECTIONS = 500
"""So many clients may be connected, or half of the descriptors that a process may have. Who comes after that is hung up on: descriptors are left for the server and for telling people."""
ASK_SECONDS = 10.0
"""So long a client may be connected without having asked for anything, and so long he may take for the handshake of TLS."""

_PAUSE_SECONDS = 0.2
_GRACE_SECONDS = 2.0  # for answers that are under way when the monitor ends
_SHUTDOWN_SECONDS = 20  # for /metrics of 10,000 roles, which is written in a thread that cannot be stopped


class HttpSettings(NamedTuple):
    """Where to listen, and who may read."""

    host: str = "127.0.0.1"
    port: int = 9464
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token: str = ""
    anonymous: bool = False  # no token, though others than this machine can reach it


def app(feed: Feed, settings: HttpSettings) -> Starlette:
    """Return the application that serves the metrics, the health and the page of this feed."""

    def metrics(request: Request) -> Response:
        body, content_type = exposition(feed.observation, request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    def readyz(_: Request) -> Response:
        problem = "" if feed.observation.status else "the newest reading of the account did not succeed\n"
        return PlainTextResponse(problem or "ok\n", 503 if problem else 200)

    routes = [
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        *page_routes(feed),
    ]
    return Starlette(routes=routes, middleware=_guards(settings))


def _guards(settings: HttpSettings) -> list[Middleware]:
    if settings.token:
        return [Middleware(TokenRequired, token=settings.token, open_paths=OPEN_PATHS)]
    return [] if settings.anonymous else [Middleware(OnlyThisMachine)]


async def serve(feed: Feed, settings: HttpSettings, on_listening: Callable[[str], None]) -> None:
    """Serve until cancelled; `on_listening` hears the URL. Raises UsageInvalid for an address or a certificate that cannot be used.

    In a thread with an event loop of its own: to judge a reading of a large organisation takes seconds, in which probes
    and pages are answered all the same.
    """
    refuse_unless_guarded(settings)
    server = _Server(_config(feed, settings))
    with _listening_socket(settings) as listening:
        on_listening(_url(settings, listening))
        serving = asyncio.create_task(asyncio.to_thread(server.run, [listening]))
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            await serving


def _config(feed: Feed, settings: HttpSettings) -> uvicorn.Config:
    config = uvicorn.Config(
        app(feed, settings),
        http=_Connection,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    try:
        for file in filter(None, (settings.tls_cert, settings.tls_key)):
            require_readable(file, pipe=False)  # OpenSSL would wait for a writer, whatever signal comes
        config.load()
    except (OSError, ssl.SSLError, Unreadable) as error:
        reason = str(error) if isinstance(error, Unreadable) else _reason(error)
        raise UsageInvalid(
            Problem("bad-certificate", f"the certificate and its key cannot be used: {reason}")
        ) from None
    return config


class _Connection(H11Protocol):
    """One client, who may not stay for nothing: before the token is asked for, anybody can connect.

    Uvicorn waits for one that has not asked yet for ever.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait_for_request()

    def on_response_complete(self) -> None:
        """Wait for another request, which may be there already."""
        super().on_response_complete()
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Hang up after a moment: a page listens for as long as it can, and is no task to be cancelled with a traceback."""
        super().shutdown()
        self.loop.call_later(_GRACE_SECONDS, self.transport.abort)

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(ASK_SECONDS, self._hang_up_unless_answering)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _hang_up_unless_answering(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


class _Door:
    """Lets clients in, one by one, and counts each from then on.

    A server of asyncio's lets in all who wait, says with a traceback for each that there are no descriptors left, and counts
    nobody in the handshake of TLS.
    """

    def __init__(self, listening: socket.socket, server: _Server) -> None:
        self._listening = listening
        self._server = server
        self._greeting: set[asyncio.Task[None]] = set()
        self._most = min(MAX_CONNECTIONS, getrlimit(RLIMIT_NOFILE)[0] // 2)
        listening.setblocking(False)
        self._letting_in = asyncio.create_task(self._let_in())

    async def _let_in(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._listening)
            except OSError:  # who came has gone, or there are no descriptors left
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if len(self._greeting) + len(self._server.server_state.connections) >= self._most:
                client.close()
                continue
            greeting = asyncio.create_task(self._greet(client))
            self._greeting.add(greeting)
            greeting.add_done_callback(self._greeting.discard)

    async def _greet(self, client: socket.socket) -> None:
        """Hand the client over to Uvicorn, after his handshake of TLS."""
        config = self._server.config
        protocol = partial(_Connection, config=config, server_state=self._server.server_state, app_state={})
        limit = {"ssl_handshake_timeout": ASK_SECONDS, "ssl_shutdown_timeout": ASK_SECONDS}
        with contextlib.suppress(OSError):  # it is his own affair
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, client, ssl=config.ssl, **(limit if config.ssl else {})
            )

    def close(self) -> None:
        """Let nobody in any more."""
        for task in (self._letting_in, *self._greeting):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until no handshake is under way any more."""
        await asyncio.gather(self._letting_in, *self._greeting, return_exceptions=True)


class _Server(uvicorn.Server):
    """Uvicorn, which leaves signals to whoever runs the process, and has a door of its own."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on these sockets."""
        self.servers = [_Door(each, self) for each in sockets or ()]  # type: ignore[misc]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def refuse_unless_guarded(settings: HttpSettings) -> None:
    """Raise UsageInvalid if another machine can reach the address and there is no token."""
    if settings.token or settings.anonymous or is_loopback(settings.host):
        return
    raise UsageInvalid(
        Problem(
            "no-token",
            f"others than this machine can reach {settings.host}, and there is no token",
            None,
            worded("give one by {}, or let everybody read by {}", Option("token_file"), Option("anonymous")),
        )
    )


def _listening_socket(settings: HttpSettings) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UsageInvalid(
            Problem(
                "cannot-listen",
                f"cannot listen on {settings.host}, port {settings.port}: {_reason(error)}",
                hint=worded("name another address or port with {}", Option("listen")),
            )
        ) from None


def _url(settings: HttpSettings, listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"{'https' if settings.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "it is no certificate"
    if isinstance(error, socket.gaierror):  # whose numbers are of their own
        return error.strerror or "there is no such name"
    return os.strerror(error.errno) if error.errno else str(error)
