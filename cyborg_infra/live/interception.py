"""Stand between `live` and the server: see a request before it is sent, change it, lose its reply, or answer it yourself.

For tests of faults, and for whoever wants to know what is asked. An interceptor is called instead of sending, with the
request and with what sends it. It holds in the whole process for the block of `through`; of several the one that came
last is asked first.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.valueclass import NamedTuple

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class ApiRequest(NamedTuple):
    """One request to JetStream's API, `STREAM.INFO.X`, and its body."""

    verb: str
    body: Mapping[str, Any] | None = None


class WireRequest(NamedTuple):
    """One request as it is sent: its subject, its payload, and the seconds that its reply may take."""

    subject: str
    payload: bytes
    timeout: float


class Interception(Generic[Request, Reply]):
    """The place of interceptors on one kind of request."""

    def __init__(self) -> None:
        self._interceptors: list[
            Callable[[Request, Callable[[Request], Coroutine[Any, Any, Reply]]], Coroutine[Any, Any, Reply]]
        ] = []

    def send(
        self, request: Request, send: Callable[[Request], Coroutine[Any, Any, Reply]]
    ) -> Coroutine[Any, Any, Reply]:
        """Send the request by way of the interceptors; return what they return, and raise what they raise."""
        for interceptor in self._interceptors:
            send = _around(interceptor, send)
        return send(request)

    @contextmanager
    def through(
        self,
        interceptor: Callable[
            [Request, Callable[[Request], Coroutine[Any, Any, Reply]]], Coroutine[Any, Any, Reply]
        ],
    ) -> Iterator[None]:
        """Have the interceptor called for every request in the block."""
        self._interceptors.append(interceptor)
        try:
            yield
        finally:
            self._interceptors.remove(interceptor)


def _around(
    interceptor: Callable[
        [Request, Callable[[Request], Coroutine[Any, Any, Reply]]], Coroutine[Any, Any, Reply]
    ],
    send: Callable[[Request], Coroutine[Any, Any, Reply]],
) -> Callable[[Request], Coroutine[Any, Any, Reply]]:
    async def asked(request: Request) -> Reply:
        return await interceptor(request, send)

    return asked


API_REQUESTS: Interception[ApiRequest, dict[str, Any]] = Interception()
"""Requests to JetStream's API and their answers; an answer that is an error is raised. A pull has none."""

JOINT_REQUESTS: Interception[Sequence[ApiRequest], list[dict[str, Any] | ServerFault]] = Interception()
"""Requests to JetStream's API that are sent in one write: nothing of ours comes between them."""

WIRE_REQUESTS: Interception[WireRequest, bytes] = Interception()
"""Every request that waits for a reply, also what is published."""
