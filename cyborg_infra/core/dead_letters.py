"""What an entry of DEAD_LETTERS says, and what is published when it is kept or replayed. Reads and writes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cyborg_infra.core.namespace import names, org_subject, shared_names, stream_name
from cyborg_infra.model import dead_letter as headers
from cyborg_infra.model.dead_letter import DeadLetter, DeathType, Headers, Held, Message, Original
from cyborg_infra.model.fields import MESSAGE_ID
from cyborg_infra.model.namespace import tasks_stream
from cyborg_infra.model.org import Org, StreamKind
from cyborg_infra.model.plan import HazardName
from cyborg_infra.model.problems import Problem, ServerFault, UsageInvalid
from cyborg_infra.model.subjects import is_name, is_pattern

PERHAPS = HazardName.REPEATS_WORK.value
"""The code of the refusal to replay what may have been replayed; the word that `--allow` takes."""

SERVERS_OWN = "nats-"
"""Begins headers that speak to the server: of an expectation, a time to live, a schedule. None is meant twice."""


def read(entry: Message, org: Org) -> DeadLetter:
    """What one message of DEAD_LETTERS says; of a pointer it is not known yet whether the original is there."""
    if entry.subject == org_subject(org, "deadletter"):
        return _whole(entry, org)
    notice = _members(entry.data)
    stream, sequence = _text(notice, "stream"), _count(notice, "stream_seq")
    if not is_name(stream) or not sequence:  # not the server's: whatever it is, it is all there is
        return _whole(entry, org)
    ended = _text(notice, "type").rpartition(".")[2] == "terminated"
    consumer = _text(notice, "consumer")
    return DeadLetter(
        entry.sequence,
        entry.time,
        DeathType.TERMINATED if ended else DeathType.MAX_DELIVER,
        Original.GONE,
        stream,
        sequence,
        consumer,
        _role(org, stream, consumer),
        _count(notice, "deliveries"),
        _text(notice, "reason"),
    )


def _whole(entry: Message, org: Org) -> DeadLetter:
    """A message that is in DEAD_LETTERS itself: kept by us, or handed in by an agent, which may say why in the message."""
    said = {} if entry.header(headers.STREAM) else _members(entry.data)
    stream, consumer = entry.header(headers.STREAM), entry.header(headers.CONSUMER)
    kind = entry.header(headers.TYPE)
    assigned = [role.name for role in org.roles if role.name == said.get("assigned_to")]
    return DeadLetter(
        entry.sequence,
        _time(entry.header(headers.FAILED)) or entry.time,
        DeathType(kind) if kind in [*DeathType] else DeathType.GIVEN_UP,
        Original.KEPT,
        stream,
        _number(entry.header(headers.SEQUENCE)),
        consumer,
        _role(org, stream, consumer) or "".join(assigned),
        _number(entry.header(headers.DELIVERIES)),
        entry.header(headers.REASON) or _text(said, "reason"),
        entry,
        stored_at=entry.header(headers.STORED) or ("" if stream else entry.time),
        replaying=_position(entry.header(headers.REPLAYING)),
    )


def found(letter: DeadLetter, original: Message | None) -> DeadLetter:
    """The pointer with what its stream holds under that number. What came later than the notice is another message."""
    if original is None or datetime.fromisoformat(original.time) > datetime.fromisoformat(letter.time):
        return letter
    return replace(letter, original=Original.STORED, message=original, stored_at=original.time, stored=True)


def told_once(letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """One for each message, by number. A notice may come twice, and a copy stands beside what it is of until that is deleted."""
    copies: dict[_Place, list[DeadLetter]] = {}
    for letter in letters:
        if letter.original is Original.KEPT:
            copies.setdefault(_place(letter), []).append(letter)
    same: dict[object, list[DeadLetter]] = {}
    for letter in letters:
        same.setdefault(_identity(letter, copies.get(_place(letter), ())), []).append(letter)
    return sorted((_one(entries) for entries in same.values()), key=lambda letter: letter.number)


_Place = tuple[str, int, str]


def _place(letter: DeadLetter) -> _Place:
    return letter.stream, letter.sequence, letter.consumer


def _identity(letter: DeadLetter, copies: Sequence[DeadLetter]) -> object:
    """What the entries of one message have in common. A stream that was made anew has other messages under the same numbers."""
    if letter.original is not Original.GONE:
        return _place(letter), letter.stored_at
    notice = datetime.fromisoformat(letter.time)
    later = (copy for copy in copies if copy.message and datetime.fromisoformat(copy.message.time) >= notice)
    return _place(letter), next((copy.stored_at for copy in later), "")


def _one(entries: Sequence[DeadLetter]) -> DeadLetter:
    """The entry that holds the message, for all of them. Beside what it is a copy of it has not been published again yet."""
    held = [each for each in entries if each.original is Original.KEPT] or entries[:1]
    letter = held[-1]
    others = tuple(each.number for each in entries if each is not letter)
    alone = len(held) == 1 and letter.number < min(others, default=letter.number + 1)
    return replace(
        letter,
        stored=any(each.stored for each in entries),
        replaying=letter.replaying if alone else "",
        others=others,
    )


def home(letter: DeadLetter, org: Org) -> str:
    """The stream that has the original now: what was renamed has what it had before, under the same numbers."""
    bare = _bare(letter.stream, org)
    for role in org.roles:
        if bare in [tasks_stream("", name) for name in names(role)]:
            return stream_name(org, StreamKind.TASKS, role)
    shared = f"{org.stream_prefix}{bare}"
    return shared if shared in shared_names(org) else letter.stream


def _bare(stream: str, org: Org) -> str:
    """Its name without the stream_prefix of now, or another one that it had then."""
    if org.stream_prefix and stream.startswith(org.stream_prefix):
        return stream.removeprefix(org.stream_prefix)
    found = re.search("(AGENT|ORG)_.*", stream)
    return found.group() if found else stream


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant: those that fit all of it. `older_than` in nanoseconds; 0 is any age."""

    numbers: tuple[int, ...] | None = None  # None is any
    role: str = ""
    type: DeathType | None = None
    older_than: int = 0


def selected(letters: Sequence[DeadLetter], wanted: Selection, now: datetime) -> list[DeadLetter]:
    """Those that are meant, in order. Raises UsageInvalid for a number that is not there."""
    every = {number for letter in letters for number in (letter.number, *letter.others)}
    if missing := set(wanted.numbers or ()) - every:
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
        if (wanted.numbers is None or {letter.number, *letter.others} & set(wanted.numbers))
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


def copy(letter: DeadLetter, subject: str, replaying: str = "") -> Publication:
    """The whole message for DEAD_LETTERS: its own headers, and where and how it failed. Raises ServerFault if it is gone.

    `replaying` notes that it is about to be published again, and behind which message.
    """
    message = _message(letter)
    told = (
        (headers.STREAM, letter.stream),
        (headers.SEQUENCE, str(letter.sequence or "")),
        (headers.SUBJECT, _subject(letter, message)),
        (headers.CONSUMER, letter.consumer),
        (headers.DELIVERIES, str(letter.deliveries or "")),
        (headers.TYPE, letter.type.value),
        (headers.REASON, _visible(letter.reason)),
        (headers.STORED, letter.stored_at),
        (headers.FAILED, letter.time),
        (headers.REPLAYING, replaying),
        # One entry is copied so but once; two who do it at the same time make one copy.
        (MESSAGE_ID, f"{'replaying' if replaying else 'kept'}-{letter.number}"),
    )
    return Publication(
        subject, message.data, (*_own(message), *((name, value) for name, value in told if value))
    )


def is_copy(letter: DeadLetter, replaying: str = "") -> bool:
    """Whether the entry is already what `copy` would make of it."""
    entry = letter.message if letter.original is Original.KEPT else None
    return entry is not None and entry.header(headers.REPLAYING) == replaying


def is_worth_keeping(letter: DeadLetter) -> bool:
    """Whether there is something to keep, or something left to do by a run that died while it kept it."""
    return letter.original is Original.STORED or (letter.original is Original.KEPT and bool(letter.others))


def perhaps_replayed(letter: DeadLetter, stream: str) -> Problem:
    """What to say where nothing tells whether an interrupted replay has published it."""
    last = letter.replaying.rpartition("/")[2]
    said = (
        f"a replay of dead letter {letter.number} was interrupted, and may have published it: "
        f"{stream} no longer has everything that came after {last}"
    )
    hint = "`dlq drop` it if it was worked on; else replay it with --allow repeats-work"
    return Problem(PERHAPS, said, None, hint)


def replay(letter: DeadLetter) -> Publication:
    """The message once more, with an id of its own, so that a duplicate_window that knows the old one takes it.

    Raises ServerFault if it is gone, or if nothing tells its subject.
    """
    message = _message(letter)
    subject = _subject(letter, message)
    if not subject:
        raise ServerFault(
            Problem(
                "no-subject",
                f"dead letter {letter.number} does not say on which subject it was",
                None,
                f"an agent handed it in: `cyborg-infra dlq show {letter.number}` prints it for sending it anew",
            )
        )
    where = f"{letter.stream}/{letter.sequence}" if letter.stream else f"dead letter {letter.number}"
    identity = (MESSAGE_ID, replay_id(letter))
    return Publication(subject, message.data, (*_own(message), (headers.REPLAYS, where), identity))


def replay_id(letter: DeadLetter) -> str:
    """Under which id the message is published again: the same from whichever entry, and no other message's."""
    return f"replay-{letter.stream}/{letter.sequence}-{letter.consumer}-{letter.stored_at}"


def _subject(letter: DeadLetter, message: Message) -> str:
    """Where it was published; empty for a message that an agent handed in without a word on that that makes sense."""
    subject = message.header(headers.SUBJECT) if letter.original is Original.KEPT else message.subject
    return subject if is_pattern(subject) and not {"*", ">"} & {*subject.split(".")} else ""


ENVELOPE = 256
"""Bytes of a stored message beside its payload and its headers, generously: subject, time, numbers, checksum."""


def pushes_out(letter: DeadLetter, copy: Publication, held: Held) -> str:
    """The limit of DEAD_LETTERS by which this copy of a letter would delete another one; empty if there is room."""
    config = held.config
    if config.get("discard") == "new":
        return ""  # the server refuses
    size = len(copy.data) + sum(len(name) + len(value) + 4 for name, value in copy.headers) + ENVELOPE
    own = held.first in (letter.number, *letter.others)  # the one that goes is what the copy is of
    would_be = {
        "max_msgs": held.messages + (not own),
        "max_bytes": held.bytes + size,
        "max_msgs_per_subject": held.copies + 1,
    }
    return next((name for name, number in would_be.items() if 0 < config.get(name, -1) < number), "")


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
            if own or _bare(stream, org) == tasks_stream("", name):
                return role.name
    return ""


_CONSUMERS = ("worker", "inbox-reader", "broadcast-reader", "event-reader")


def _members(data: bytes) -> Mapping[str, Any]:
    """Of a JSON object; none of anything else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(members: Mapping[str, Any], name: str) -> str:
    """A member that is text, as UTF-8 can hold it; empty for anything else."""
    found = members.get(name)
    return found.encode("utf-8", "replace").decode() if isinstance(found, str) else ""


def _count(members: Mapping[str, Any], name: str) -> int:
    """A member that is a number of something; 0 for anything else."""
    found = members.get(name)
    return found if isinstance(found, int) and found > 0 else 0


def _time(text: str) -> str:
    """RFC 3339, or empty: anybody can write headers."""
    try:
        return text if datetime.fromisoformat(text).tzinfo else ""
    except ValueError:
        return ""


def _position(text: str) -> str:
    """`STREAM/number`, or empty."""
    stream, _, number = text.rpartition("/")
    return text if stream and number.isascii() and number.isdigit() else ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _visible(text: str) -> str:
    """What a header line can hold."""
    return "".join(char if char.isprintable() else " " for char in text)
