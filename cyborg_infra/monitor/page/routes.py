"""Serve the page: each part of it rendered once for an observation, whoever asks, and events that tell of the next one."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cyborg_infra.model.monitor import Observation
from cyborg_infra.model.status import STATES
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.monitor.feed import Feed
from cyborg_infra.monitor.page.content import View
from cyborg_infra.monitor.page.render import FILES, render_page
from cyborg_infra.monitor.page.values import page_values

MAX_LISTENERS = 200
"""So many browsers hear of the next observation; who comes after that tries again later."""

KEEPALIVE_SECONDS = 15.0
"""After so long without an event something is sent: a proxy, or a network, forgets a connection on which nothing comes."""

_KEPT = 64
"""So many parts of the page are kept for others who ask for the same."""

_EVENTS = "text/event-stream"
_FILES_KEPT_SECONDS = 365 * 24 * 3600

_HEADERS = {
    # Scripts, styles and pictures are files of ours; nothing within the page is one, and nothing else is loaded or sent.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class _Body(NamedTuple):
    plain: bytes
    compressed: bytes


def page_routes(feed: Feed) -> list[Route]:
    """Return what the page is made of. Everything is read only."""
    pages = _Pages(feed)
    return [
        Route("/", pages.page),
        Route("/events", pages.events),
        *(
            Route(f"/{file.address}", _file(file.content, file.media_type), methods=["GET"])
            for file in FILES.values()
        ),
    ]


def _file(content: bytes, media_type: str) -> Response:
    """Return a file, which has another address when it changes."""
    return Response(
        content,
        media_type=media_type,
        headers=_HEADERS | {"Cache-Control": f"public, max-age={_FILES_KEPT_SECONDS}, immutable"},
    )


class _Pages:
    """What is served of the newest observation."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._seen: Observation | None = None
        self._reading = 0
        self._rendered: dict[View, _Body] = {}
        self._listeners = 0

    def _look(self) -> int:
        """Return the number of what is known now. An observation that says the same as the one before has its number."""
        observation = self._feed.observation
        if observation is not self._seen:
            if observation != self._seen:
                self._reading += 1
                self._rendered.clear()
            self._seen = observation
        return self._reading

    async def page(self, request: Request) -> Response:
        """Answer with the page, or with a part of it; 404 for a role that is not there."""
        view = self._selected(request)
        if isinstance(view, str):
            return PlainTextResponse(f"{view}\n", 404, _HEADERS)
        body = self._body(view)
        packs = "gzip" in request.headers.get("accept-encoding", "")
        return Response(
            body.compressed if packs else body.plain,
            media_type="text/html",
            headers=_HEADERS
            | {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
            | ({"Content-Encoding": "gzip"} if packs else {}),
        )

    def _selected(self, request: Request) -> View | str:
        """Return what is asked for, or why there is no such thing."""
        query = request.query_params
        role, state, part = query.get("role", ""), query.get("state", ""), query.get("part", "1")
        if role:
            return View(role) if self._is_known(role) else "there is no such role"
        if not state:
            return View()
        if state not in list(STATES):
            return "there is no such state"
        if not (part.isascii() and part.isdecimal() and 0 < int(part) <= len(self._feed.org.roles)):
            return "there is no such part"
        return View(state=next(each for each in STATES if each == state), part=int(part))

    def _is_known(self, role: str) -> bool:
        """Return whether the manifest has this role, or a status: the operator reads queues, and is no role."""
        status = self._feed.observation.status
        return bool(self._feed.org.role(role) or (status and any(each.name == role for each in status.roles)))

    def _body(self, view: View) -> _Body:
        reading = self._look()
        if view not in self._rendered:
            values = page_values(self._feed.observation, self._feed.org, view)
            text = render_page(values, reading, self._feed.interval).encode()
            if len(self._rendered) >= _KEPT:
                self._rendered.pop(next(iter(self._rendered)))
            self._rendered[view] = _Body(text, gzip.compress(text, 6))
        return self._rendered[view]

    async def events(self, request: Request) -> Response:
        """Answer with an event for each observation from now on, for as long as the browser listens."""
        if request.method == "HEAD":
            return Response(media_type=_EVENTS, headers=_HEADERS)
        if self._listeners >= MAX_LISTENERS:
            return PlainTextResponse("too many listen\n", 503, _HEADERS | {"Retry-After": "30"})
        return StreamingResponse(
            self._events(),
            media_type=_EVENTS,
            headers=_HEADERS | {"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _events(self) -> AsyncIterator[str]:
        """Yield the events of one browser. One that is slow misses what was in between, and holds nobody up."""
        self._listeners += 1
        changes = self._feed.changes()
        following = asyncio.ensure_future(anext(changes))
        try:
            yield "retry: 3000\n\n"
            while True:
                if not (await asyncio.wait({following}, timeout=KEEPALIVE_SECONDS))[0]:
                    yield ": still here\n\n"
                elif following.exception():  # nobody observes any more
                    return
                else:
                    following = asyncio.ensure_future(anext(changes))
                    told = json.dumps({"reading": self._look(), "now": time.time()})
                    yield f"event: reading\ndata: {told}\n\n"
        finally:
            self._listeners -= 1
            following.cancel()
