"""Who may read: a token for whatever is not open to everybody, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_CHALLENGE = 'Bearer realm="cyborg-infra", Basic realm="cyborg-infra", charset="UTF-8"'


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
            refusal = PlainTextResponse(
                "the token is missing or wrong\n", 401, {"WWW-Authenticate": _CHALLENGE}
            )
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
