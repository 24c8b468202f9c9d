"""What an entry of DEAD_LETTERS says, and what is published when it is kept or replayed. Reads and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cyborg_infra.core.namespace import names, org_subject, stream_name
from cyborg_infra.model import dead_letter as headers
from cyborg_infra.model.dead_letter import DeadLetter, DeathType, Headers, Message, Original
from cyborg_infra.model.namespace import tasks_stream
from cyborg_infra.model.org import Org, StreamKind
from cyborg_infra.model.problems import Problem, ServerFault, UsageInvalid

MESSAGE_ID = "Nats-Msg-Id"
SERVERS_OWN = "nats-"
"""Begins headers that speak to the server: of an expectation, a time to live, a schedule. None is meant twice."""


def read(entry: Message, org: Org) -> DeadLetter:
    """What one message of DEAD_LETTERS says; of a pointer it is not known yet whether the original is there."""
    if entry.subject == org_subject(org, "deadletter"):
        return _whole(entry, org)
    try:
        notice = json.loads(entry.data)
        stream, consumer = str(notice["stream"]), str(notice["consumer"])
        sequence, deliveries = int(notice["stream_seq"]), int(notice.get("deliveries", 0))
    except (ValueError, KeyError, TypeError):  # not the server's: whatever it is, it is all there is
        return _whole(entry, org)
    ended = str(notice.get("type", "")).rpartition(".")[2] == "terminated"
    return DeadLetter(
        entry.sequence,
        entry.time,
        DeathType.TERMINATED if ended else DeathType.MAX_DELIVER,
        Original.GONE,
        stream,
        sequence,
        consumer,
        _role(org, stream, consumer),
        deliveries,
        str(notice.get("reason", "")),
    )


def _whole(entry: Message, org: Org) -> DeadLetter:
    """A message that is in DEAD_LETTERS itself: kept by us, or handed in by an agent."""
    stream, consumer = entry.header(headers.STREAM), entry.header(headers.CONSUMER)
    kind = entry.header(headers.TYPE)
    return DeadLetter(
        entry.sequence,
        entry.time,
        DeathType(kind) if kind in [*DeathType] else DeathType.GIVEN_UP,
        Original.KEPT,
        stream,
        _number(entry.header(headers.SEQUENCE)),
        consumer,
        _role(org, stream, consumer),
        _number(entry.header(headers.DELIVERIES)),
        entry.header(headers.REASON),
        entry,
    )


def found(letter: DeadLetter, original: Message | None) -> DeadLetter:
    """The pointer with what its stream holds under that number. What came later than the notice is another message."""
    if original is None or datetime.fromisoformat(original.time) > datetime.fromisoformat(letter.time):
        return letter
    return replace(letter, original=Original.STORED, message=original)


def home(letter: DeadLetter, org: Org) -> str:
    """The stream that has the original now: a renamed role's has what the former one had, under the same numbers."""
    for role in org.roles:
        former = [tasks_stream(org.stream_prefix, name) for name in names(role)]
        if letter.stream in former:
            return stream_name(org, StreamKind.TASKS, role)
    return letter.stream


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant: those that fit all of it. `older_than` in nanoseconds; 0 is any age."""

    numbers: tuple[int, ...] | None = None  # None is any
    role: str = ""
    type: DeathType | None = None
    older_than: int = 0


def selected(letters: Sequence[DeadLetter], wanted: Selection, now: datetime) -> list[DeadLetter]:
    """Those that are meant, in order. Raises UsageInvalid for a number that is not there."""
    if missing := set(wanted.numbers or ()) - {letter.number for letter in letters}:
        raise UsageInvalid(
            *(
                Problem(
                    "no-dead-letter",
                    f"there is no dead letter {number}",
                    None,
                    "it may have been replayed or dropped already; `cyborg-infra dlq list` shows those that are there",
                )
                for number in sorted(missing)
            )
        )
    latest = now - timedelta(microseconds=wanted.older_than / 1000)
    return [
        letter
        for letter in letters
        if (wanted.numbers is None or letter.number in wanted.numbers)
        and (not wanted.role or letter.role == wanted.role)
        and (wanted.type is None or letter.type == wanted.type)
        and (not wanted.older_than or datetime.fromisoformat(letter.time) <= latest)
    ]


@dataclass(frozen=True, slots=True)
class Publication:
    """A message that is to be published."""

    subject: str
    data: bytes
    headers: Headers


def copy(letter: DeadLetter, subject: str) -> Publication:
    """The whole message for DEAD_LETTERS: its own headers, and where and how it failed. Raises ServerFault if it is gone."""
    message = _message(letter)
    told = (
        (headers.STREAM, letter.stream),
        (headers.SEQUENCE, str(letter.sequence)),
        (headers.SUBJECT, message.subject),
        (headers.CONSUMER, letter.consumer),
        (headers.DELIVERIES, str(letter.deliveries)),
        (headers.TYPE, letter.type.value),
        (headers.REASON, _visible(letter.reason)),
    )
    identity = (MESSAGE_ID, f"kept-{letter.stream}-{letter.sequence}-{letter.consumer}")
    return Publication(
        subject, message.data, (*_own(message), *((name, value) for name, value in told if value), identity)
    )


def is_copy(other: DeadLetter, letter: DeadLetter) -> bool:
    """Whether the message of this pointer has been kept already."""
    places = [(each.stream, each.sequence, each.consumer) for each in (other, letter)]
    return other.original is Original.KEPT and bool(other.stream) and places[0] == places[1]


def replay(letter: DeadLetter) -> Publication:
    """The message once more, with an id of its own, so that a duplicate_window that knows the old one takes it.

    Raises ServerFault if it is gone, or if nothing tells its subject.
    """
    message = _message(letter)
    subject = message.header(headers.SUBJECT) if letter.original is Original.KEPT else message.subject
    if not subject:
        raise ServerFault(
            Problem(
                "no-subject",
                f"dead letter {letter.number} does not say on which subject it was",
                None,
                f"an agent handed it in: `cyborg-infra dlq show {letter.number}` prints it for sending it anew",
            )
        )
    where = f"{letter.stream}/{letter.sequence}"
    identity = (MESSAGE_ID, f"replay-{where}-{letter.consumer}")
    return Publication(subject, message.data, (*_own(message), (headers.REPLAYS, where), identity))


def _message(letter: DeadLetter) -> Message:
    if letter.message is None:
        raise ServerFault(
            Problem(
                "original-gone",
                f"the message of dead letter {letter.number}, {letter.stream}/{letter.sequence}, is no longer stored",
                None,
                "its stream has dropped it by its limits; `cyborg-infra dlq keep` in time keeps such messages",
            )
        )
    return letter.message


def _own(message: Message) -> Headers:
    """The message's headers without the server's and ours."""
    ours = ("cyborg-infra-", SERVERS_OWN)
    return tuple((name, value) for name, value in message.headers if not name.lower().startswith(ours))


def _role(org: Org, stream: str, consumer: str) -> str:
    """The role whose consumer it is, by the naming scheme; empty for one that is nobody's."""
    for role in org.roles:
        for name in names(role):
            own = consumer.startswith(f"{name}-") and consumer.removeprefix(f"{name}-") in _CONSUMERS
            if own or stream == tasks_stream(org.stream_prefix, name):
                return role.name
    return ""


_CONSUMERS = ("worker", "inbox-reader", "broadcast-reader", "event-reader")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _visible(text: str) -> str:
    """What a header line can hold."""
    return "".join(char if char.isprintable() else " " for char in text)
