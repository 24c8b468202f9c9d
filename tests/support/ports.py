"""Ports of the tests' own servers. Each worker has some of its own: nobody takes one that is known before its server starts, or while it is down."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator

_FIRST, _END = 10_000, 32_768  # Linux hands out those from 32,768 on, others from 49,152
_WORKERS = 16
_SHARE = (_END - _FIRST) // _WORKERS


def _of_this_worker() -> Iterator[int]:
    """Yield each of its ports, again and again; two runs on one machine begin at different ones."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    begin = random.SystemRandom().randrange(_SHARE)
    for number in itertools.count(begin):
        yield _FIRST + worker * _SHARE + number % _SHARE


_ports = _of_this_worker()


def free_port() -> int:
    """Return a port on which nobody listens."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is always a next one")
