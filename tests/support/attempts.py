"""What the connection tests share: one attempt that has to work, one that has to fail in a single line."""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import Any

import pytest

from cyborg_infra.live.connection.reconnecting import ReconnectingConnection, open_connection
from cyborg_infra.live.connection.target import Target
from cyborg_infra.model.problems import EXIT_ERROR, ConnectFailed, ServerFault
from cyborg_infra.render.command_line import spoken


def account_info(target: Target) -> dict[str, Any]:
    """Return what `$JS.API.INFO` answers over a fresh connection."""

    async def ask() -> dict[str, Any]:
        async with open_connection(target) as connection:
            answer: dict[str, Any] = json.loads(await connection.request("$JS.API.INFO"))
            return answer

    return asyncio.run(ask())


def refusal(target: Target) -> str:
    """Return the one line that a hopeless connection attempt fails with."""
    with pytest.raises(ConnectFailed) as caught:
        account_info(target)
    (problem,) = caught.value.problems
    assert "\n" not in str(problem)
    assert caught.value.exit_code == EXIT_ERROR
    return spoken(str(problem))


def fault(target: Target, subject: str, payload: bytes = b"", *, within: float | None = None) -> ServerFault:
    """Return what a request over a good connection fails with, which may take so many seconds; the target's, unless given."""

    async def ask() -> None:
        async with open_connection(target) as connection:
            await connection.request(subject, payload, timeout=within)

    with pytest.raises(ServerFault) as caught:
        asyncio.run(ask())
    (problem,) = caught.value.problems
    assert "\n" not in str(problem)
    return caught.value


async def both(connection: ReconnectingConnection, *subjects: str) -> list[bytes | BaseException]:
    """Return the outcomes of requests that are under way at the same time."""
    return await asyncio.gather(
        *(connection.request(subject) for subject in subjects), return_exceptions=True
    )


def shown(error: BaseException) -> str:
    """Return everything that any part of Python would print of an error, causes included."""
    chain, cause = [error], error
    while cause := cause.__cause__ or cause.__context__:  # type: ignore[assignment]  # ends with None
        chain.append(cause)
    texts = [text for link in chain for text in (str(link), repr(link), *traceback.format_exception(link))]
    return "\n".join(texts)
