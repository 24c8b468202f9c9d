"""Who may read: a token for whatever is not open to everybody, compared in constant time; without one, this machine by its own names."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cyborg_infra.model.wording import Option, worded
from cyborg_infra.render.command_line import spoken

_CHALLENGES = ('Basic realm="cyborg-infra", charset="UTF-8"', 'Bearer realm="cyborg-infra"')
"""A header each: Chromium knows one in a header, and would not ask for the password."""


class TokenRequired:
    """Lets through what is `open`, and requests with the token: as a bearer, or as the password that a browser asks for."""

    def __init__(self, app: ASGIApp, token: str, open_paths: Collection[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 to whoever has not said the token."""
        if (
            scope["type"] == "http"
            and scope["path"] not in self._open
            and not self._is_said(Headers(scope=scope))
        ):
            refusal = PlainTextResponse("the token is missing or wrong\n", 401)
            for challenge in _CHALLENGES:
                refusal.headers.append("WWW-Authenticate", challenge)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_said(self, headers: Headers) -> bool:
        scheme, _, said = headers.get("authorization", "").partition(" ")
        match scheme.lower():
            case "bearer":
                given = said.strip().encode()
            case "basic":
                given = _password(said)
            case _:
                return False
        return hmac.compare_digest(given, self._token)


def _password(said: str) -> bytes:
    try:
        return base64.b64decode(said.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


class OnlyThisMachine:
    """Lets through what is asked of this machine by a name of its own.

    Without this, a page of somebody else reads what is served here by way of a browser on this machine: its own name may
    come to mean 127.0.0.1 once it is loaded, and then the browser takes both for one site (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421 to whoever meant another machine."""
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""
        if host and not is_loopback(_name(host)):
            await PlainTextResponse(_OTHER_NAME, 421)(scope, receive, send)
            return
        await self._app(scope, receive, send)


_OTHER_NAME = spoken(
    worded(
        "this is served to this machine alone, by a name of its own; another name takes {} or {}\n",
        Option("token_file"),
        Option("anonymous"),
    )
)


def _name(host: str) -> str:
    """Return the name in a Host header, without its port; empty for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Return whether a name or address means this machine, and is reached from it alone."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
