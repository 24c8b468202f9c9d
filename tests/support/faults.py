"""What a test does to the tool from outside: shorter waits, and requests that are changed, lost or answered otherwise.

By `live.timing` and `live.interception`, which are made for that: no test replaces a function of `live` to break a request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

from cyborg_infra.live import timing
from cyborg_infra.live.interception import (
    API_REQUESTS,
    JOINT_REQUESTS,
    WIRE_REQUESTS,
    ApiRequest,
    WireRequest,
)

Send = Callable[[ApiRequest], Coroutine[Any, Any, dict[str, Any]]]
"""Sends a request of the API, and returns the answer."""

SendJoint = Callable[[Sequence[ApiRequest]], Coroutine[Any, Any, list[Any]]]

SendWire = Callable[[WireRequest], Coroutine[Any, Any, bytes]]


class Faults:
    """Holds until the end of the test, or of the block of `context`."""

    def __init__(self, patch: pytest.MonkeyPatch, stack: contextlib.ExitStack) -> None:
        self._patch, self._stack = patch, stack

    @classmethod
    @contextlib.contextmanager
    def opened(cls) -> Iterator[Faults]:
        with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
            yield cls(patch, stack)

    def context(self) -> contextlib.AbstractContextManager[Faults]:
        """Begin a block of its own, whose faults end with it."""
        return Faults.opened()

    def undo(self) -> None:
        """End what was begun until now."""
        self._stack.close()
        self._patch.undo()

    def waits(self, **seconds: object) -> None:
        """Set waits of `live.timing` by their names."""
        for name, value in seconds.items():
            self._patch.setattr(timing, name, value)

    def intercept(
        self, interceptor: Callable[[ApiRequest, Send], Coroutine[Any, Any, dict[str, Any]]]
    ) -> None:
        """Have every request to the API go by way of this."""
        self._stack.enter_context(API_REQUESTS.through(interceptor))

    def intercept_joint(
        self, interceptor: Callable[[Sequence[ApiRequest], SendJoint], Coroutine[Any, Any, list[Any]]]
    ) -> None:
        """Have the requests to the API that are sent in one write go by way of this."""
        self._stack.enter_context(JOINT_REQUESTS.through(interceptor))

    def intercept_wire(
        self, interceptor: Callable[[WireRequest, SendWire], Coroutine[Any, Any, bytes]]
    ) -> None:
        """Have every request go by way of this, publishes too."""
        self._stack.enter_context(WIRE_REQUESTS.through(interceptor))
