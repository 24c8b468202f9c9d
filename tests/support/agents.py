"""What agents do on plain NATS: publish, fetch, give back, give up."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable

from tests.support.nats_client import Api, Message

SECOND = 1_000_000_000  # in the server's nanoseconds
TASK = {
    "task_id": "t-1",
    "type": "feature_implementation",
    "title": "Add passkeys to the login",
    "description": "Users can register a passkey and log in with it.",
    "assigned_by": "cso",
    "assigned_to": "cto",
    "priority": "high",
    "lifecycle": {"status": "assigned", "assigned_at": "2026-01-31T00:00:00Z"},
}
"""A whole task of an organisation with these roles."""
_fetches = itertools.count(1)


def publish(api: Api, subject: str, data: bytes = b"") -> int:
    """Return the sequence number under which a stream has stored the message."""
    sequence: int = api.ask(subject, data).json["seq"]
    return sequence


def fetch(api: Api, ref: str, *, expires: float = 60) -> Message:
    """Return the next message of `STREAM/consumer`; fails if there is none within `expires` seconds."""
    message = _pull(api, ref, expires)
    assert not message.headers.startswith("NATS/1.0 408"), f"{ref}: nothing within {expires:g}s"
    return message


def nothing_comes(api: Api, ref: str, *, within: float = 0.1) -> bool:
    """Return whether a pull of `within` seconds ends without a message. The server looks at what has expired meanwhile."""
    return _pull(api, ref, within).headers.startswith("NATS/1.0 408")


def nack(api: Api, ref: str, times: int) -> None:
    """The consumer's next message, fetched and refused so that it comes again; the server has heard it."""
    for _ in range(times):
        api.ask(fetch(api, ref).reply, b"-NAK")


def term(api: Api, ref: str, reason: str = "") -> None:
    """The consumer's next message, fetched and terminated; the server has heard it."""
    api.ask(fetch(api, ref).reply, f"+TERM {reason}".strip().encode())


def until(holds: Callable[[], object], seconds: float = 120) -> None:
    """Return once it holds; fails if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"still not so after {seconds:g}s"
        time.sleep(0.01)


def _pull(api: Api, ref: str, expires: float) -> Message:
    inbox = api.subscribe(f"_INBOX.fetch.{next(_fetches)}")  # a delivered message keeps its own subject
    body = {"batch": 1, "expires": int(expires * SECOND)}
    api.publish(
        f"$JS.API.CONSUMER.MSG.NEXT.{ref.replace('/', '.')}", json.dumps(body).encode(), reply=inbox.subject
    )
    return inbox.next(timeout=expires + 60)  # a busy server says late that nothing came
