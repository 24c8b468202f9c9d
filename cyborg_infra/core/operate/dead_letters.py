"""Decode the entries of DEAD_LETTERS, and build the messages that archive or replay one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cyborg_infra.core.desired.naming import channel_subject, role_names, template_name
from cyborg_infra.model import channels
from cyborg_infra.model import dead_letters as headers
from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.channels import ROLE, UPPER_ROLE, Channel, Scope, StreamKind, name_for, own_channel
from cyborg_infra.model.dead_letters import DeadLetter, DeathType, MessageLocation
from cyborg_infra.model.fields import MESSAGE_ID
from cyborg_infra.model.metadata_keys import KIND_KEY, RENAMED_FROM_KEY
from cyborg_infra.model.naming import handed_in_subject
from cyborg_infra.model.organisation import Org, Role
from cyborg_infra.model.problems import Problem, ServerFault, UsageInvalid
from cyborg_infra.model.resources import DesiredResource, DesiredState, LiveResource
from cyborg_infra.model.status import Condition
from cyborg_infra.model.stored_messages import Headers, StoredMessage, StreamUsage
from cyborg_infra.model.subjects import covers, is_name, is_pattern
from cyborg_infra.model.units import MAX_INT64, whole_number
from cyborg_infra.model.wording import Command, Option, worded

HANDLED_CODE = "handled-meanwhile"
MAYBE_REPLAYED_CODE = HazardName.REPEATS_WORK.value
"""The code of the refusal to replay what may have been replayed; the word that `--allow` takes."""
UNMATCHED_SUBJECT_CODE = Condition.UNMATCHED_SUBJECT.value
"""The code of the refusal to replay what no consumer would be handed; the word that `--allow` takes."""

SERVER_HEADER_PREFIX = "nats-"
"""Begins headers that speak to the server: of an expectation, a time to live, a schedule. None is meant twice."""


def org_of_dead_letters(owner: str, desired: DesiredState) -> Org:
    """Return the organisation as far as its dead letters need it: a saved plan has its names and roles as well."""
    streams, readers = _by_kind(desired.streams()), _by_kind(desired.consumers())
    letters = next(iter(streams.get(StreamKind.DEAD_LETTERS, ())), None)
    prefix = _stream_prefix(streams, letters)
    root, below = _dead_letter_subject(owner, letters)
    found = (_inferred_channel(kind, alike, readers, prefix) for kind, alike in streams.items())
    return Org(
        owner,
        tuple(_inferred_roles(desired)),
        stream_prefix=prefix,
        subject_prefix=root,
        channels=tuple(
            channel._replace(subject=below) if channel.name == channels.DEAD_LETTERS else channel
            for channel in found
            if channel is not None
        ),
    )


_ByKind = Mapping[str, Sequence[DesiredResource]]
"""Streams or consumers by their kind, without buckets."""


def _by_kind(resources: Sequence[DesiredResource]) -> _ByKind:
    found: dict[str, list[DesiredResource]] = {}
    for resource in resources:
        if (kind := resource.metadata[KIND_KEY]) != StreamKind.KEY_VALUE:
            found.setdefault(kind, []).append(resource)
    return found


def _stream_prefix(streams: _ByKind, letters: DesiredResource | None) -> str:
    """Return what stands before the usual name of DEAD_LETTERS, if it stands before the name of every stream."""
    usual = _BUILT_IN_STREAMS[channels.DEAD_LETTERS]
    prefix = letters.ref.stream.removesuffix(usual) if letters and letters.ref.stream.endswith(usual) else ""
    of_all = all(found.ref.stream.startswith(prefix) for alike in streams.values() for found in alike)
    return prefix if of_all else ""


def _inferred_channel(
    kind: str, alike: Sequence[DesiredResource], readers: _ByKind, prefix: str
) -> Channel | None:
    """Return the channel of these streams, with the templates of their names and their consumers'; None if it has no readers."""
    known = {row.stream.kind: row for row in channels.KNOWN if row.stream}
    row = known.get(StreamKind(kind)) or own_channel(kind, Scope.ROLE, durable=True)
    if row.stream is None or row.reader is None:
        return None
    row = row._replace(stream=row.stream._replace(name=_inferred_template(alike).removeprefix(prefix)))
    if row.reader is not None and row.reader.kind in readers:
        row = row._replace(reader=row.reader._replace(name=_inferred_template(readers[row.reader.kind])))
    return row


def _inferred_roles(desired: DesiredState) -> Iterator[Role]:
    former: dict[str, str] = {}
    for found in desired.resources.values():
        if found.role is not None:
            former[found.role] = found.metadata.get(RENAMED_FROM_KEY, "") or former.get(found.role, "")
    for name, renamed_from in former.items():
        yield Role(name, renamed_from=renamed_from)


def _inferred_template(alike: Sequence[DesiredResource]) -> str:
    """Return the template that makes the names of all these resources from their roles; the first name if there is none."""
    role, name = alike[0].role, alike[0].ref.name
    for text, placeholder in ((role, ROLE), (name_for(UPPER_ROLE, role or ""), UPPER_ROLE)) if role else ():
        for begin in (found.start() for found in re.finditer(re.escape(text or ""), name)):
            made = f"{name[:begin]}{placeholder}{name[begin + len(text or '') :]}"
            if all(name_for(made, each.role or "") == each.ref.name for each in alike):
                return made
    return name


def _dead_letter_subject(owner: str, letters: DesiredResource | None) -> tuple[str, str]:
    """Return the subject on which agents publish what they give up, as the prefix of all subjects and the rest."""
    usual = channels.DEAD_LETTERS_BELOW
    whole = handed_in_subject(owner, letters)
    if whole == usual:
        return "", usual
    return (whole.removesuffix(f".{usual}"), usual) if whole.endswith(f".{usual}") else ("", whole)


def decode_entry(entry: StoredMessage, org: Org) -> DeadLetter:
    """Return the dead letter that an entry of DEAD_LETTERS is about. Of a notice it is not known yet whether the message is still there."""
    if entry.subject == channel_subject(org, channels.DEAD_LETTERS):
        return _decode_whole(entry, org)
    notice = _members(entry.data)
    stream, consumer = _text(notice, "stream"), _text(notice, "consumer")
    sequence = _count(notice, "stream_seq")
    if not (is_name(stream) and is_name(consumer) and sequence):  # not the server's: it is all there is
        return _decode_whole(entry, org)
    ended = _text(notice, "type").rpartition(".")[2] == "terminated"
    return DeadLetter(
        entry.sequence,
        entry.sequence,
        _earlier(_valid_time(_text(notice, "timestamp")), entry.time),
        DeathType.TERMINATED if ended else DeathType.MAX_DELIVER,
        MessageLocation.GONE,
        stream,
        sequence,
        consumer,
        _role_of_names(org, stream, consumer),
        _count(notice, "deliveries"),
        _text(notice, "reason"),
    )


def _decode_whole(entry: StoredMessage, org: Org) -> DeadLetter:
    """Return the dead letter of an entry that holds the message itself: archived, or handed in by an agent.

    An agent may say whose it is and why in the message. Without that its role is the one of the subject that it names.
    """
    said = {} if entry.header(headers.STREAM_HEADER) else _members(entry.data)
    stream, consumer = entry.header(headers.STREAM_HEADER), entry.header(headers.CONSUMER_HEADER)
    kind = entry.header(headers.TYPE_HEADER)
    assigned = _text(said, "assigned_to")
    role = _role_of_names(org, stream, consumer)
    if not role and not stream:
        role = assigned if org.role(assigned) else _role_of_subject(org, entry.header(headers.SUBJECT_HEADER))
    return DeadLetter(
        _number(entry.header(headers.NUMBER)) or entry.sequence,
        entry.sequence,
        _valid_time(entry.header(headers.FAILED_HEADER)) or entry.time,
        DeathType(kind) if kind in [*DeathType] else DeathType.GIVEN_UP,
        MessageLocation.KEPT,
        stream,
        _number(entry.header(headers.SEQUENCE_HEADER)),
        consumer,
        role,
        _number(entry.header(headers.DELIVERIES_HEADER)),
        entry.header(headers.REASON_HEADER) or _text(said, "reason"),
        entry,
        stored_at=entry.header(headers.STORED_HEADER) or ("" if stream else entry.time),
        replaying=_valid_place(entry.header(headers.REPLAYING_HEADER)),
    )


def with_original(
    letter: DeadLetter, original: StoredMessage | None, stream: str, copy: DeadLetter | None
) -> DeadLetter:
    """Return the notice's dead letter with the message that `stream` has under its number, unless that is another message.

    It is if it came later than the notice; and if it is not the one that `copy` is of, where the message was copied: another
    stream may have its stream's name by now.
    """
    if original is None or datetime.fromisoformat(original.time) > datetime.fromisoformat(letter.time):
        return letter
    if copy is not None and copy.stored_at not in ("", original.time):
        return letter
    return replace(
        letter,
        original=MessageLocation.STORED,
        message=original,
        stored_at=original.time,
        stored=True,
        current_stream=stream,
    )


def without_original(letter: DeadLetter) -> DeadLetter:
    """Return the dead letter as it is known where the messages of streams may not be read."""
    return letter if is_whole(letter) else replace(letter, original=MessageLocation.UNREAD)


def is_made_after(stream: LiveResource, letter: DeadLetter) -> bool:
    """Return whether the stream was made after the notice: replaced since, or another one that has got the name."""
    return datetime.fromisoformat(stream.created) > datetime.fromisoformat(letter.time)


def is_whole(letter: DeadLetter) -> bool:
    """Return whether DEAD_LETTERS has the message itself: kept there, or handed in by an agent."""
    return letter.original is MessageLocation.KEPT


def one_per_message(letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Return one dead letter for each message, by number: a notice may come twice, and stands beside an archived copy for a moment."""
    copies = _copies(letters)
    same: dict[object, list[DeadLetter]] = {}
    for letter in letters:
        same.setdefault(_group_key(letter, copies.get(_message_key(letter), ())), []).append(letter)
    return sorted(
        _with_distinct_numbers([_merged(entries) for entries in same.values()]),
        key=lambda letter: (letter.number, letter.entry),
    )


_MessageKey = tuple[str, int, str]


def copies_by_entry(letters: Sequence[DeadLetter]) -> Mapping[int, DeadLetter]:
    """Return entry of a pointer -> the copy of its message, where there is one."""
    copies = _copies(letters)
    found = ((letter, _copy_of(letter, copies.get(_message_key(letter), ()))) for letter in letters)
    return {letter.entry: copy for letter, copy in found if copy and not is_whole(letter)}


def _copies(letters: Sequence[DeadLetter]) -> Mapping[_MessageKey, Sequence[DeadLetter]]:
    found: dict[_MessageKey, list[DeadLetter]] = {}
    for letter in letters:
        if is_whole(letter):
            found.setdefault(_message_key(letter), []).append(letter)
    return found


def _copy_of(letter: DeadLetter, copies: Sequence[DeadLetter]) -> DeadLetter | None:
    """Return the first copy that was made after the notice; an earlier one is of what had its number before."""
    notice = datetime.fromisoformat(letter.time)
    later = (copy for copy in copies if copy.message and datetime.fromisoformat(copy.message.time) >= notice)
    return next(later, None)


def _message_key(letter: DeadLetter) -> _MessageKey:
    return letter.stream, letter.sequence, letter.consumer


def _group_key(letter: DeadLetter, copies: Sequence[DeadLetter]) -> object:
    """Return a key that all entries of one message share. A stream that was made anew has other messages under the same numbers."""
    if letter.original is not MessageLocation.GONE:
        return _content_key(letter)
    copy = _copy_of(letter, copies)
    return _content_key(copy) if copy else (_message_key(letter), "", b"")


def _content_key(letter: DeadLetter) -> tuple[_MessageKey, str, bytes]:
    """Return the key of the message and its content: whoever hands one in may name another's key in its headers."""
    return _message_key(letter), letter.stored_at, letter.message.data if letter.message else b""


def _merged(entries: Sequence[DeadLetter]) -> DeadLetter:
    """Return one dead letter for the entries of one message, from the entry that holds it."""
    held = [each for each in entries if each.original is MessageLocation.KEPT] or entries[:1]
    letter = held[-1]
    others = tuple(each.entry for each in entries if each is not letter)
    alone = len(held) == 1 and letter.entry < min(others, default=letter.entry + 1)
    return replace(
        letter,
        number=min(each.number for each in entries),
        stored=any(each.stored for each in entries),
        current_stream=next((each.current_stream for each in entries if each.stored), ""),
        replaying=letter.replaying if alone else "",
        other_numbers=others,
    )


def _with_distinct_numbers(letters: Sequence[DeadLetter]) -> Iterator[DeadLetter]:
    """Yield each dead letter under a number that no other one has: a DEAD_LETTERS that was moved may have given it to another entry."""
    taken = {entry for letter in letters for entry in (letter.entry, *letter.other_numbers)}
    for letter in letters:
        own = letter.number in (letter.entry, *letter.other_numbers)
        free = own or letter.number not in taken
        taken.add(letter.number)
        yield letter if free else replace(letter, number=letter.entry)


def current_stream(letter: DeadLetter, org: Org) -> str:
    """Return the name that the message's stream has now. A renamed stream has the same messages under the same numbers."""
    bare = _unprefixed(letter.stream, org)
    for channel in org.channels:
        for template in _stream_templates(channel):
            for role in org.roles if UPPER_ROLE in template or ROLE in template else (None,):
                names = role_names(role) if role else [""]
                if channel.stream and bare in [name_for(template, name) for name in names]:
                    return template_name(org, channel.stream, role)
    return letter.stream


def current_subject(subject: str, letter: DeadLetter, org: Org) -> str:
    """Return the subject on which such a message is published now, by the organisation's present prefix and channels.

    Where its channel has another subject by now, that is the one of its role. It stays as it was where its channel, or
    what a wildcard of that stands for, is not known.
    """
    stream, role, tokens = current_stream(letter, org), org.role(letter.role), subject.split(".")
    tails = [".".join(tokens[begin:]) for begin in range(len(tokens))]
    for channel in org.channels:
        if channel.stream is None or (channel.stream.is_for_each_role and role is None):
            continue
        if template_name(org, channel.stream, role) == stream:
            of_role = channel.scope is Scope.ROLE and role is not None
            members = role_names(role) if of_role and role else org.each_of(channel)
            patterns = [channel.subject_of(member) for member in members]
            if of_role:
                patterns.append(channel.subject_of("*"))  # it was another role's, and this one may read it
            kept = [tail for tail in tails if any(covers(each, tail) for each in patterns)]
            mine = channel.scope is Scope.ORG or (of_role and channel.is_mail)
            found = kept[0] if kept else channel.send_subject_of(letter.role) if mine else ""
            return org.subject(found) if found else subject
    return subject


def _stream_templates(channel: Channel) -> Iterator[str]:
    """Yield the templates of the channel's stream names: its own, and the built-in one that it may have had before."""
    if channel.stream:
        yield from dict.fromkeys(
            (channel.stream.name, _BUILT_IN_STREAMS.get(channel.name, channel.stream.name))
        )


_BUILT_IN_STREAMS: Mapping[str, str] = {
    channel.name: channel.stream.name for channel in channels.KNOWN if channel.stream
}


def _unprefixed(stream: str, org: Org) -> str:
    """Return the stream's name without a stream_prefix, the present one or an earlier one."""
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


def select(letters: Sequence[DeadLetter], selection: Selection, now: datetime) -> list[DeadLetter]:
    """Return the selected dead letters, in order. Raises UsageInvalid for a number that is not there."""
    every = {number for letter in letters for number in _numbers_of(letter)}
    if missing := set(selection.numbers or ()) - every:
        raise UsageInvalid(
            *(
                Problem(
                    "no-dead-letter",
                    f"there is no dead letter {number}",
                    None,
                    worded(
                        "it may have been replayed or dropped already; `{}` shows those that are there",
                        Command("dlq list"),
                    ),
                )
                for number in sorted(missing)
            )
        )
    latest = now - timedelta(microseconds=selection.older_than / 1000)
    return [
        letter
        for letter in letters
        if (selection.numbers is None or _numbers_of(letter) & set(selection.numbers))
        and (not selection.role or letter.role == selection.role)
        and (selection.type is None or letter.type == selection.type)
        and (not selection.older_than or datetime.fromisoformat(letter.time) <= latest)
    ]


def handled_problem(letter: DeadLetter) -> Problem:
    """Return the problem that somebody else has replayed, archived or dropped the dead letter since it was read."""
    said = f"somebody else has handled dead letter {letter.number} meanwhile"
    return Problem(HANDLED_CODE, said, None, worded("`{}` shows what there is now", Command("dlq list")))


def _numbers_of(letter: DeadLetter) -> set[int]:
    """Return every number by which this dead letter may be named."""
    return {letter.number, letter.entry, *letter.other_numbers}


@dataclass(frozen=True, slots=True)
class Publication:
    """A message that is to be published."""

    subject: str
    data: bytes
    headers: Headers


def archive_copy(letter: DeadLetter, subject: str, replaying: str = "") -> Publication:
    """Return the copy for DEAD_LETTERS: the message with its headers, and with where and how it failed. Raises ServerFault if it is gone.

    `replaying` notes that it is about to be published again, and behind which message.
    """
    message = _require_message(letter)
    labels = (
        (headers.NUMBER, str(letter.number)),
        (headers.STREAM_HEADER, letter.stream),
        (headers.SEQUENCE_HEADER, str(letter.sequence or "")),
        (headers.SUBJECT_HEADER, _subject(letter, message)),
        (headers.CONSUMER_HEADER, letter.consumer),
        (headers.DELIVERIES_HEADER, str(letter.deliveries or "")),
        (headers.TYPE_HEADER, letter.type.value),
        (headers.REASON_HEADER, _header_value(letter.reason)),
        (headers.STORED_HEADER, letter.stored_at),
        (headers.FAILED_HEADER, letter.time),
        (headers.REPLAYING_HEADER, replaying),
        # One entry is copied but once; two who do it at the same time make one copy, also if one of them replays it. A
        # DEAD_LETTERS that was moved may have given its number to another one.
        (MESSAGE_ID, f"kept-{letter.entry}-{_identity_text(letter)}"),
    )
    return Publication(
        subject, message.data, (*_user_headers(message), *((name, value) for name, value in labels if value))
    )


def is_archive_copy(letter: DeadLetter, replaying: str = "") -> bool:
    """Return whether the dead letter is already archived as `archive_copy` would do it."""
    entry = letter.message if letter.original is MessageLocation.KEPT else None
    return entry is not None and entry.header(headers.REPLAYING_HEADER) == replaying


def is_of_same_message(entry: DeadLetter, letter: DeadLetter) -> bool:
    """Return whether two entries name the same message."""
    return _message_key(entry) == _message_key(letter)


def needs_archiving(letter: DeadLetter) -> bool:
    """Return whether there is a message to archive, or a rest of an archiving run that died."""
    return letter.original is MessageLocation.STORED or (
        letter.original is MessageLocation.KEPT and bool(letter.other_numbers)
    )


def maybe_replayed_problem(letter: DeadLetter, stream: str) -> Problem:
    """Return the problem that an interrupted replay may have published the message, and nothing tells whether it did."""
    last = letter.replaying.rpartition("/")[2]
    said = (
        f"a replay of dead letter {letter.number} was interrupted, and may have published it: "
        f"{stream} no longer has everything that came after {last}"
    )
    hint = worded(
        "`dlq drop` it if it was worked on; else replay it with {}", Option("allow", MAYBE_REPLAYED_CODE)
    )
    return Problem(MAYBE_REPLAYED_CODE, said, None, hint)


def unmatched_problem(letter: DeadLetter, subject: str, stream: str) -> Problem:
    """Return the problem that no consumer reads what a replay would publish."""
    said = f"no consumer of {stream} reads {subject}: nobody would be handed dead letter {letter.number}"
    hint = worded(
        "`dlq drop` it if nobody has to work on it; replay it all the same with {}",
        Option("allow", UNMATCHED_SUBJECT_CODE),
    )
    return Problem(UNMATCHED_SUBJECT_CODE, said, None, hint)


def replay_publication(letter: DeadLetter) -> Publication:
    """Return the message to publish again, with an id of its own: a duplicate_window may still know the old one.

    Raises ServerFault if it is gone, or if nothing tells its subject.
    """
    message = _require_message(letter)
    subject = _subject(letter, message)
    if not subject:
        raise ServerFault(
            Problem(
                "no-subject",
                f"dead letter {letter.number} does not say on which subject it was",
                None,
                worded(
                    "an agent handed it in: `{} {}` prints it for sending it anew",
                    Command("dlq show"),
                    letter.number,
                ),
            )
        )
    where = f"{letter.stream}/{letter.sequence}" if letter.stream else f"dead letter {letter.number}"
    identity = (MESSAGE_ID, replay_id(letter))
    return Publication(
        subject, message.data, (*_user_headers(message), (headers.REPLAYS_HEADER, where), identity)
    )


def is_what_was_sent(sent: Publication, stored: StoredMessage | None) -> bool:
    """Return whether the stored message is the one that was sent, and not another one that somebody published under its id.

    What a replay notes is another number in each of two that run at once, and who keeps it notes nothing. The subject may be one that the stream has made of it.
    """
    return (
        stored is not None
        and stored.data == sent.data
        and _comparable(stored.headers) == _comparable(sent.headers)
    )


def _comparable(found: Headers) -> list[tuple[str, str]]:
    kept = ((name, value.strip()) for name, value in found if name != headers.REPLAYING_HEADER)
    return sorted(each for each in kept if not each[0].lower().startswith(SERVER_HEADER_PREFIX))


def id_taken_problem(letter: DeadLetter, where: str) -> Problem:
    """Return the problem that somebody has published another message under the id of a copy or a replay."""
    return Problem(
        "id-taken",
        f"dead letter {letter.number} stays as it is: {where} is another message, published before under the id that this one would have",
        None,
        "look at who published that; it can be done once the stream's duplicate_window (2m by default) is over",
    )


def subject(letter: DeadLetter) -> str:
    """Return the subject of the message; empty if the message is gone, or if nothing tells its subject."""
    return _subject(letter, letter.message) if letter.message else ""


def replay_id(letter: DeadLetter) -> str:
    """Return the message id of a replay: the same from every entry of the message, and no other message's."""
    return f"replay-{_identity_text(letter)}"


def _identity_text(letter: DeadLetter) -> str:
    return f"{letter.stream}/{letter.sequence}-{letter.consumer}-{letter.stored_at}"


def _subject(letter: DeadLetter, message: StoredMessage) -> str:
    """Return the subject of the message; empty where an agent handed it in without a valid one."""
    subject = (
        message.header(headers.SUBJECT_HEADER) if letter.original is MessageLocation.KEPT else message.subject
    )
    return subject if is_pattern(subject) and not {"*", ">"} & {*subject.split(".")} else ""


ENVELOPE_BYTES = 256
"""Bytes of a stored message beside its payload and its headers, generously: subject, time, numbers, checksum."""


def limit_exceeded_by(letter: DeadLetter, copy: Publication, held: StreamUsage) -> str:
    """Return the limit of DEAD_LETTERS by which this copy would delete another entry; empty if there is room."""
    config = held.config
    if config.get("discard") == "new":
        return ""  # the server refuses
    size = len(copy.data) + sum(len(name) + len(value) + 4 for name, value in copy.headers) + ENVELOPE_BYTES
    own = held.first in (letter.entry, *letter.other_numbers)  # the one that goes is what the copy is of
    would_be = {
        "max_msgs": held.messages + (not own),
        "max_bytes": held.bytes + size,
        "max_msgs_per_subject": held.copies + 1,
    }
    return next((name for name, number in would_be.items() if 0 < config.get(name, -1) < number), "")


_KEEPS = {
    False: worded("`{}` in time keeps such messages", Command("dlq keep")),
    True: "agents that publish such a message whole to <org>.org.deadletter, and acknowledge it, keep it",
}
"""By whether the stream keeps nothing that was terminated."""


def _require_message(letter: DeadLetter) -> StoredMessage:
    if letter.message is None:
        raise ServerFault(
            Problem(
                "original-gone",
                f"the message of dead letter {letter.number}, {letter.stream}/{letter.sequence}, is no longer stored: "
                f"{letter.why_gone}",
                None,
                _KEEPS[letter.deletes_finished],
            )
        )
    return letter.message


def _user_headers(message: StoredMessage) -> Headers:
    """Return the publisher's headers: neither the server's nor ours."""
    ours = ("cyborg-infra-", SERVER_HEADER_PREFIX)
    return tuple((name, value) for name, value in message.headers if not name.lower().startswith(ours))


def _role_of_names(org: Org, stream: str, consumer: str) -> str:
    """Return the role whose stream or consumer has this name; empty for no role's."""
    rows, bare = (*org.channels, *channels.KNOWN), _unprefixed(stream, org)
    readers = {row.reader.name for row in rows if row.reader and not row.is_of_no_role}
    streams = {row.stream.name for row in rows if row.stream and row.stream.is_for_each_role}
    for role in org.roles:
        for name in role_names(role):
            reads = name in consumer and any(name_for(each, name) == consumer for each in readers)
            if reads or any(name_for(each, name) == bare for each in streams):
                return role.name
    return ""


def _role_of_subject(org: Org, subject: str) -> str:
    """Return the present name of the role whose channel has this subject; empty for none, and for text that is no subject."""
    for channel in org.channels:
        if channel.scope is Scope.ROLE and covers(org.subject(channel.subject_of("*")), subject):
            name = subject.split(".")[org.subject(channel.subject).split(".").index(ROLE)]
            return next((role.name for role in org.roles if name in role_names(role)), "")
    return ""


def _members(data: bytes) -> Mapping[str, Any]:
    """Return the members of a JSON object; an empty mapping for anything else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(members: Mapping[str, Any], name: str) -> str:
    """Return a member that is text, without what UTF-8 cannot hold; empty for anything else."""
    found = members.get(name)
    return found.encode("utf-8", "replace").decode() if isinstance(found, str) else ""


def _count(members: Mapping[str, Any], name: str) -> int:
    """Return a member that is a whole number above 0; 0 for anything else."""
    found = members.get(name)
    return found if type(found) is int and 0 < found <= MAX_INT64 else 0


def _valid_time(text: str) -> str:
    """Return the text if it is a time with an offset, else empty: anybody can write headers."""
    try:
        found = datetime.fromisoformat(text)
        found.astimezone(UTC)
    except (ValueError, OverflowError):  # no time, or one that is in no year in UTC
        return ""
    return text if found.tzinfo else ""


def _earlier(one: str, other: str) -> str:
    """Return the earlier of two times, of which `one` may be empty. A copied entry is younger than what it is about."""
    if not one:
        return other
    return min(one, other, key=datetime.fromisoformat)


def _valid_place(text: str) -> str:
    """Return the text if it has the form `STREAM/number`, else empty."""
    stream, _, number = text.rpartition("/")
    return text if stream and whole_number(number) is not None else ""


def _number(text: str) -> int:
    return whole_number(text) or 0


def _header_value(text: str) -> str:
    """Return the text with a space for each character that a header line should not have."""
    return "".join(char if char.isprintable() else " " for char in text)
