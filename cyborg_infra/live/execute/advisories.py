"""Dead-letter notices that come while DEAD_LETTERS itself is moved: the server sends each once, and nobody stores it then.

A subject belongs to one stream at a time, so between one that stops taking it in and another that begins there are
milliseconds without any. We listen meanwhile, and publish again what no stream has. See decision 37.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Self

from cyborg_infra.live.api import messages
from cyborg_infra.live.api.copying import SOURCE_HEADER
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.model.fields import MESSAGE_ID
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.ref import Ref, fence_subject
from cyborg_infra.model.resources import LiveResource
from cyborg_infra.model.stored_messages import Headers, StoredMessage
from cyborg_infra.model.subjects import covers
from cyborg_infra.model.units import whole_number
from cyborg_infra.model.valueclass import NamedTuple

EVERY = "$JS.EVENT.ADVISORY.CONSUMER.*.*.*"
REMEMBERED = 10_000  # the newest, as many as DEAD_LETTERS holds by default


class _Notice(NamedTuple):
    subject: str
    payload: bytes


class Notices:
    """What came while we listened, and is stored by nobody for certain."""

    def __init__(self, server: JetStream, tell: Callable[[str], None]) -> None:
        self._server, self._tell = server, tell
        self._heard = deque[_Notice](maxlen=REMEMBERED)
        self._connection = server.current_connection

    def hear(self, subject: str, _reply: str, payload: bytes, _headers: bytes) -> None:
        """Remember what arrived."""
        self._heard.append(_Notice(subject, payload))

    async def store(self, places: Iterable[Ref]) -> None:
        """Store what was heard in whichever of `places` takes it now; say so of what cannot be stored."""
        if self._server.current_connection is not self._connection:
            self._connection = self._server.current_connection
            self._tell(
                "notices of messages that failed for good may be lost: the connection was, and nobody listened"
            )
        if not self._heard:
            return
        heard = tuple(self._heard)
        try:
            await _store(self._server, places, heard)
        except ServerFault as fault:
            self._tell(
                f"notices of messages that failed for good meanwhile are lost: {fault.problems[0].message}"
            )


@contextlib.asynccontextmanager
async def listening(
    server: JetStream, places: Collection[Ref], tell: Callable[[str], None]
) -> AsyncIterator[Notices]:
    """Listen during the block, and store at its end what came in whichever of `places` takes it then. Raises ConnectionLost."""
    notices = Notices(server, tell)
    end = await server.subscribe(EVERY, notices.hear)
    try:
        yield notices
    finally:
        await end()
        await notices.store(places)


async def store_rest(
    server: JetStream, origin: Ref, copy: LiveResource, first: int, *, keeps_numbers: bool
) -> None:
    """Store in the copy, which takes messages in, what its origin has from number `first` on and the copy has not.

    The origin takes nothing in any more. Interrupted, the same call again goes on. Raises as `publish_to` does.
    """
    numbers, _ = await messages.list_sequences(server, origin.stream, after=first - 1)
    if not numbers:
        return
    since, _ = await messages.list_sequences(server, copy.ref.stream, after=first - 1 if keeps_numbers else 0)
    held = await messages.read_messages(server, [(copy.ref.stream, number) for number in since])
    known = Counter(
        _Entry.of(each, copy)
        for each in held
        if each and (keeps_numbers or _number_in_origin(each, origin, first) >= first)
    )
    for each in await messages.read_messages(server, [(origin.stream, number) for number in numbers]):
        if each is None or each.subject == fence_subject(origin):
            continue
        entry = _Entry.of(each, copy)
        if known[entry]:
            known[entry] -= 1
            continue
        doing = f"carrying over what {origin} took in last"
        await server.publish_to(entry.subject, entry.data, entry.headers, doing=doing, stream=copy.ref.stream)


def _number_in_origin(entry: StoredMessage, origin: Ref, own: int) -> int:
    """Return the number that the message of a copy by sources has in the origin; `own` if it came to the copy itself."""
    source, number, *_ = (*entry.header(SOURCE_HEADER).split(), "", "")
    copied = whole_number(number) if source == origin.stream else None
    return own if copied is None else copied


class _Entry(NamedTuple):
    """A message as it was published; a notice goes by the server's name for it, however it came here."""

    subject: str
    data: bytes
    headers: Headers

    @classmethod
    def of(cls, stored: StoredMessage, stream: LiveResource) -> Self:
        """Return the notice as the server published it, from a message of a stream like this, which may store it under another subject."""
        source, consumer = _text(stored.data, "stream"), _text(stored.data, "consumer")
        is_notice = bool(source and consumer)
        if not is_notice or any(covers(wide, stored.subject) for wide in stream.get("subjects")):
            kept = [(name, value) for name, value in stored.headers if _is_own(name)]
            return cls(stored.subject, stored.data, tuple(kept))
        kind = "MSG_TERMINATED" if _text(stored.data, "type").endswith("terminated") else "MAX_DELIVERIES"
        identity = _identity(stored.data)
        return cls(
            EVERY.replace("*.*.*", f"{kind}.{source}.{consumer}"),
            stored.data,
            ((MESSAGE_ID, identity),) if identity else (),
        )


def _is_own(header: str) -> bool:
    """Return whether a header is the publisher's: not one that speaks to the server, except the message id."""
    return header == MESSAGE_ID or not header.lower().startswith("nats-")


async def _store(server: JetStream, places: Iterable[Ref], heard: Iterable[_Notice]) -> None:
    """Store what was heard in the stream that takes it in; a notice that is there already is not published again."""
    for place in places:
        live = await server.info(place)
        subjects = live.get("subjects") if live else ()
        mine = {
            identity: notice
            for notice in heard
            if (identity := _identity(notice.payload))
            and any(covers(subject, notice.subject) for subject in subjects)
        }
        if not mine:
            continue
        numbers, _ = await messages.list_sequences(server, place.stream)
        for entry in await messages.read_messages(server, [(place.stream, number) for number in numbers]):
            mine.pop(_identity(entry.data) if entry else "", None)
        for identity, notice in mine.items():
            await server.publish_to(
                notice.subject,
                notice.payload,
                ((MESSAGE_ID, identity),),
                doing="storing a dead-letter notice",
                stream=place.stream,
            )


def _identity(payload: bytes) -> str:
    """Return what the server calls a notice; empty if it is none."""
    return _text(payload, "id")


def _text(payload: bytes, name: str) -> str:
    """Return a member of a notice; empty if it is none."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return ""
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""
