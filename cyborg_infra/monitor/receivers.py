"""Receivers of notifications, by Apprise: what is told to one URL. The URL is mostly a secret: it is nowhere printed or logged.

Apprise blocks, has no bound on all of a delivery, and writes URLs into its log. So each delivery has a thread of its own, which is left
alone when its time is over, and the loggers of Apprise and of what it sends with are silent.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import apprise
import requests
from apprise.common import NotifyType, OverflowMode

from cyborg_infra.model.notifications import Message, NotificationKind
from cyborg_infra.model.problems import Problem, UsageInvalid

CONNECT_SECONDS, READ_SECONDS = 5.0, 20.0
"""How long a receiver may take to be there, and to answer; a URL may say another `cto` and `rto`."""
DELIVERY_SECONDS = 60.0
"""How long one delivery may take in all."""
MAX_HANGING = 3
"""So many deliveries that were given up may still be under way; no further one is begun."""
ID_HEADER = "Idempotency-Key"
"""By which a webhook knows a message that it gets twice. The body's last line says the same."""

_TYPES = {
    NotificationKind.FAILURE: NotifyType.FAILURE,
    NotificationKind.WARNING: NotifyType.WARNING,
    NotificationKind.SUCCESS: NotifyType.SUCCESS,
}
_STATUS = re.compile(r"\berror=(\d{3})\b")


MAX_ANSWER_BYTES = 1024 * 1024
"""So much of an answer is read. Without a bound one that does not end took three gigabytes in a minute."""


class NotTaken(Exception):
    """A receiver did not take a message; the text says why, without its URL."""


class Receiver:
    """One of those who are told."""

    def __init__(self, name: str, url: str, seconds: float = DELIVERY_SECONDS) -> None:
        """Read the URL; a delivery may take so many seconds. Raises UsageInvalid, which names the receiver and never its URL, for one that Apprise does not know."""
        _silence()
        self.name = name
        self._url = url
        self._seconds = seconds
        self._hanging: set[threading.Thread] = set()
        with warnings.catch_warnings():  # of what Apprise imports for the first of all URLs
            warnings.simplefilter("ignore")
            known = self._service() is not None
        if not known:
            hint = "see Apprise's documentation for how the URL of each service is written"
            raise UsageInvalid(
                Problem(
                    "bad-receiver", f"the URL of the receiver {name} is none that Apprise knows", None, hint
                )
            )

    def __repr__(self) -> str:
        return f"Receiver({self.name!r})"

    async def deliver(self, message: Message) -> None:
        """Deliver the message, and return once the receiver has taken it. Raises NotTaken; it may have been delivered nevertheless."""
        self._hanging = {thread for thread in self._hanging if thread.is_alive()}
        if len(self._hanging) >= MAX_HANGING:
            raise NotTaken("earlier deliveries to it still hang")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str | None] = loop.create_future()

        def end(reason: str | None) -> None:
            if not ended.done():
                ended.set_result(reason)

        def work() -> None:
            reason = self._send(message)
            try:
                loop.call_soon_threadsafe(end, reason)
            except RuntimeError:
                return  # nobody waits any more

        thread = threading.Thread(target=work, name=f"notify-{self.name}", daemon=True)
        self._hanging.add(thread)
        thread.start()
        try:
            async with asyncio.timeout(self._seconds):
                reason = await ended
        except TimeoutError:
            raise NotTaken(f"no answer within {self._seconds:g}s") from None
        if reason is not None:
            raise NotTaken(reason)

    def _send(self, message: Message) -> str | None:
        """Send the message; return why it was not taken, or None. An exception may have the URL in its text: only its kind is told."""
        try:
            service = self._service()
            if service is None:
                return "its URL is none that Apprise knows"
            if isinstance(headers := getattr(service, "headers", None), dict):
                headers[ID_HEADER] = message.id
            with _Listener() as said:
                taken = service.notify(
                    body=message.body, title=message.title, notify_type=_TYPES[message.kind]
                )
        except Exception as error:  # noqa: BLE001 - a service of a hundred may raise anything
            return f"Apprise failed ({type(error).__name__})"
        return None if taken else said.reason

    def _service(self) -> apprise.NotifyBase | None:
        """Return what sends to the URL, made anew for each message: one that is left alone in its thread is nobody else's."""
        try:
            parts = apprise.plugins.url_to_dict(self._url, secure_logging=True)  # type: ignore[no-untyped-call]
            service = apprise.Apprise.instantiate(dict(parts)) if parts else None
        except Exception:  # noqa: BLE001 - as above
            return None
        if service is None:
            return None
        if not parts.get("cto"):
            service.socket_connect_timeout = CONNECT_SECONDS
        if not parts.get("rto"):
            service.socket_read_timeout = READ_SECONDS
        if not parts.get("overflow"):
            service.overflow_mode = OverflowMode.SPLIT
        if parts.get("redirect") is None:
            # A POST that is sent elsewhere becomes a GET without the message, and whatever answers that has taken nothing.
            service.redirects = False
        return service


class _BoundedAdapter(requests.adapters.HTTPAdapter):
    """Lets no more of an answer be read than anybody needs: Apprise looks at its beginning at most, and has requests read all of it."""

    def send(self, *args: Any, **options: Any) -> requests.Response:
        """Send a request. Raises as `HTTPAdapter.send`."""
        response = super().send(*args, **options)
        response.raw.stream = partial(_beginning, response, response.raw.stream)
        return response


def _beginning(
    response: requests.Response, stream: Callable[..., Iterator[bytes]], *args: Any, **options: Any
) -> Iterator[bytes]:
    left = MAX_ANSWER_BYTES
    for part in stream(*args, **options):
        yield part
        left -= len(part)
        if left <= 0:
            response.raw.close()
            return


requests.sessions.HTTPAdapter = _BoundedAdapter  # type: ignore[attr-defined]
"""By which the sessions send that Apprise makes, as a plain function, for each message."""


class _Listener(logging.Handler):
    """Hears what Apprise logs of one delivery, and keeps nothing of it but the number of an HTTP status."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reason = "it refused the message, or could not be reached"
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Look for the status."""
        if record.thread == self._thread and (found := _STATUS.search(record.getMessage())):
            self.reason = f"it answered {found[1]}"

    def __enter__(self) -> Self:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)


def _silence() -> None:
    """Let nothing be printed of what these log: URLs, and tokens in them."""
    for name in ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
