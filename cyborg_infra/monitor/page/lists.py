"""Broadcasts, dead letters and streams, a row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cyborg_infra.model.dead_letters import MessageLocation
from cyborg_infra.model.monitor import WatchedLetter
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.status import (
    NEAR_LIMIT_SHARE,
    BroadcastReceipt,
    BroadcastStatus,
    LimitUsage,
    OrgStatus,
    StreamStatus,
)
from cyborg_infra.model.units import age, format_age, format_size
from cyborg_infra.monitor.page.content import BroadcastRow, LetterRow, Piece, Severity, StreamRow, Text
from cyborg_infra.monitor.page.texts import address, age_text, clipped, command_text
from cyborg_infra.render.failures import how_it_failed
from cyborg_infra.render.values import in_short, plural

_NEARING = 0.5
"""A stream is shown from this share of a limit on."""
MAX_STREAMS = 10
_RECEIPTS: Mapping[BroadcastReceipt, str] = {
    BroadcastReceipt.ACKNOWLEDGED: "acknowledged",
    BroadcastReceipt.OPEN: "not acknowledged yet",
    BroadcastReceipt.GIVEN_UP: "given up",
    BroadcastReceipt.UNKNOWN: "not known",
}


def broadcast_rows(status: OrgStatus, role: str) -> Sequence[BroadcastRow]:
    """Return a row for each broadcast, with the answers of all roles or of one."""
    if not role:
        return tuple(_broadcast(each, status) for each in status.broadcasts)
    return tuple(
        replace(_broadcast(replace(each, answers={role: answer}), status), said=_RECEIPTS[answer])
        for each in status.broadcasts
        if (answer := each.answers.get(role))
    )


def _broadcast(found: BroadcastStatus, status: OrgStatus) -> BroadcastRow:
    open_, given_up, unknown, done = (
        found.roles(answer)
        for answer in (
            BroadcastReceipt.OPEN,
            BroadcastReceipt.GIVEN_UP,
            BroadcastReceipt.UNKNOWN,
            BroadcastReceipt.ACKNOWLEDGED,
        )
    )
    is_late = any(found.is_late(each, status.alerts) for each in (*open_, *given_up))
    severity = (
        Severity.WARNING
        if is_late
        else Severity.WORKING
        if open_ or given_up
        else Severity.UNKNOWN
        if unknown
        else Severity.GOOD
    )
    wanting = [
        f"{note} {in_short(roles)}"
        for note, roles in (("not by", open_), ("given up by", given_up), ("not known of", unknown))
        if roles
    ]
    return BroadcastRow(
        f"broadcast-{found.stream}-{found.seq}",
        f"{found.seq:,}{f' to {found.group}' if found.group else ''}",
        severity,
        f"{format_age(found.age)} ago",
        f"acknowledged by {len(done):,} of {len(found.answers):,}{''.join(f'; {each}' for each in wanting)}",
        is_late,
    )


def letter_row(found: WatchedLetter, org: Org, environment: str | None, now: str) -> LetterRow:
    """Return a dead letter, and what handles it."""
    letter = found.letter
    verb, note = _handled(found)
    return LetterRow(
        key=f"letter-{letter.number}",
        number=letter.number,
        role=letter.role,
        address=address(role=letter.role) if org.role(letter.role) else "",
        at=letter.time,
        age=age_text(age(letter.time, now)),
        task_id=clipped(found.task_id),
        title=clipped(found.title),
        why=clipped(how_it_failed(letter) + (f": {letter.reason}" if letter.reason else "")),
        place=f"{letter.stream}/{letter.sequence}" if letter.stream else "",
        command=command_text(f"dlq {verb} {letter.number}", environment),
        note=note,
    )


def _handled(found: WatchedLetter) -> tuple[str, str]:
    """Return the command for it, and why it is not replayed. Nothing is dropped on a guess: only where its message is known to be gone."""
    letter = found.letter
    if letter.original is MessageLocation.UNREAD:
        return "show", "Its message could not be read."
    if letter.original is MessageLocation.GONE:
        return "drop", f"The message is gone: {letter.why_gone}."
    if letter.replaying:
        return "show", "Perhaps it was replayed: look whether the work was done."
    if not found.replays_to:
        return "show", "It does not say where it was published: send it anew."
    return "replay", ""


def letters_note(page_has: int, count: int | None, environment: str | None) -> Text:
    """Return where to find the other dead letters, if these are not all."""
    if count is None or count <= page_has:
        return ()
    return (Piece("The newest ones; all: "), Piece(command_text("dlq list", environment), typed=True))


def stream_rows(status: OrgStatus) -> tuple[Sequence[StreamRow], str]:
    """Return the streams that near a limit, and how many others do."""
    found = sorted(
        (
            (usage, stream)
            for stream in status.streams
            for usage in [_usage(stream)]
            if usage and usage.share >= _NEARING
        ),
        key=lambda pair: -pair[0].share,
    )
    rows = tuple(_stream(stream, usage) for usage, stream in found[:MAX_STREAMS])
    rest = (
        f"{plural(len(found) - MAX_STREAMS, 'more stream')} above half of a limit"
        if found[MAX_STREAMS:]
        else ""
    )
    return rows, rest


def _usage(stream: StreamStatus) -> LimitUsage | None:
    """Return the limit that is nearest: of all that is stored, or of what somebody has still to read."""
    return max(
        (each for each in (stream.fill, stream.unread) if each), key=lambda each: each.share, default=None
    )


def _stream(stream: StreamStatus, usage: LimitUsage) -> StreamRow:
    held = [
        plural(stream.messages, "message") if stream.messages is not None else "",
        format_size(stream.bytes) if stream.bytes is not None else "",
    ]
    unread = f", not read by {usage.reader}" if usage.reader else ""
    return StreamRow(
        str(stream.ref),
        Severity.WARNING if usage.share >= NEAR_LIMIT_SHARE else Severity.WORKING,
        int(usage.share * 100),
        f"{usage.limit}{unread}",
        ", ".join(filter(None, held)),
    )
