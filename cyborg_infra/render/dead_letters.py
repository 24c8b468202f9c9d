"""Dead letters as lines for people and as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cyborg_infra.model.dead_letters import (
    DeadLetter,
    DeadLetterAction,
    DeadLetterResult,
    MessageLocation,
    task_named_in,
)
from cyborg_infra.model.stored_messages import StoredMessage
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.json_format import SCHEMA_VERSION, dead_letter, problem_row
from cyborg_infra.render.terminal.layout import Block, Page, Table, line
from cyborg_infra.render.values import plural

_DONE = {DeadLetterAction.REPLAY: "replayed", DeadLetterAction.KEEP: "kept", DeadLetterAction.DROP: "dropped"}


def listed(letters: Sequence[DeadLetter]) -> Page:
    """Return a table of dead letters by number, and below it the commands that act on them."""
    if not letters:
        return Page((line(("No dead letters.", "bold green")),))
    rows = tuple(
        (
            str(letter.number),
            _moment(letter.time),
            letter.role or "-",
            letter.consumer or "-",
            str(letter.deliveries or "-"),
            _whereabouts(letter),
            _why(letter),
        )
        for letter in letters
    )
    head = ("N", "WHEN (UTC)", "ROLE", "CONSUMER", "TRIES", "MESSAGE", "WHY")
    return Page((Table(head, rows, indent=2), line(), line(f"{plural(len(letters), 'dead letter')}.")))


def shown(letter: DeadLetter) -> Page:
    """Return the page on one dead letter: how it failed, where it is, its headers and its content."""
    facts = {
        "when": f"{_moment(letter.time)} UTC",
        "role": letter.role,
        "consumer": f"{letter.stream}/{letter.consumer}" if letter.consumer else "",
        "deliveries": str(letter.deliveries or ""),
        "why": letter.type.value,
        "reason": letter.reason,
        "message": _whereabouts(letter),
    }
    size = max(len(name) for name in facts)
    blocks: list[Block] = [line((f"Dead letter {letter.number}", "bold"))]
    blocks += [
        line(f"{name.ljust(size)}  {value}", indent=2, hang=size + 2)
        for name, value in facts.items()
        if value
    ]
    if letter.original is MessageLocation.GONE:
        blocks.append(line(f"{'gone'.ljust(size)}  {letter.why_gone}", indent=2, hang=size + 2))
    if letter.message is not None:
        blocks += _content(letter.message)
    return Page(tuple(blocks))


def outcome(handling: DeadLetterAction, handled: DeadLetterResult, *, dry_run: bool = False) -> Page:
    """Return in one line how the handling of a dead letter ended, or would end."""
    number = f"dead letter {handled.letter.number}"
    if handled.problem:
        return Page((line(f"{number}: ", ("failed", "bold red"), f": {spoken(str(handled.problem))}"),))
    place = f" {'into' if dry_run else 'as'} {handled.stored_at}" if handled.stored_at else ""
    return Page((line(f"{number}: {_done(handling, dry_run=dry_run)}{place}"),))


def _done(handling: DeadLetterAction, *, dry_run: bool) -> str:
    return f"would be {_DONE[handling]}" if dry_run else _DONE[handling]


def summary(
    handling: DeadLetterAction, results: Sequence[DeadLetterResult], *, dry_run: bool = False
) -> Page:
    """Return how many dead letters were handled, and how many were not."""
    failed = sum(result.problem is not None for result in results)
    lost = [result.letter for result in results if result.lost]
    handled_text = (
        f"{plural(len(results) - len(lost) - failed, 'dead letter')} {_done(handling, dry_run=dry_run)}"
    )
    style = "bold red" if failed else "bold green"
    blocks = [line((f"{handled_text}, {failed} failed." if failed else f"{handled_text}.", style))]
    for why in dict.fromkeys(letter.why_gone for letter in lost):
        numbers = [str(letter.number) for letter in lost if letter.why_gone == why]
        blocks.append(line(f"No message is left of {', '.join(numbers)}: {why}."))
    return Page(tuple(blocks))


def data(letters: Sequence[DeadLetter]) -> dict[str, Any]:
    """Return every dead letter (dead-letters.schema.json); a payload as text where it is UTF-8, else in base64."""
    return {"schema_version": SCHEMA_VERSION, "dead_letters": [_letter(letter) for letter in letters]}


def results(
    handling: DeadLetterAction, handled: Sequence[DeadLetterResult], *, dry_run: bool = False
) -> dict[str, Any]:
    """Return what became of each dead letter (dead-letters-handled.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "action": handling.value,
        "dry_run": dry_run,
        "complete": all(each.problem is None for each in handled),
        "results": [
            {
                "number": each.letter.number,
                "place": each.stored_at or None,
                "problem": problem_row(each.problem),
            }
            for each in handled
            if not each.lost
        ],
        "lost": [
            {"number": each.letter.number, "why": each.letter.why_gone} for each in handled if each.lost
        ],
    }


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return dead_letter(letter) | {
        "deliveries": letter.deliveries or None,
        "original": letter.original.value,
        "replaying": letter.replaying or None,
        "task_id": task_named_in(letter)[0] or None,
        "title": task_named_in(letter)[1] or None,
        "message": _message(letter.message) if letter.message else None,
    }


def _message(message: StoredMessage) -> dict[str, Any]:
    try:
        content: dict[str, Any] = {"data": message.data.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        content = {"data": base64.b64encode(message.data).decode(), "encoding": "base64"}
    return {
        "subject": message.subject,
        "time": message.time,
        "headers": [{"name": name, "value": value} for name, value in message.headers],
        **content,
    }


def _content(message: StoredMessage) -> list[Block]:
    blocks: list[Block] = [line(), line((message.subject, "bold"), f", stored {_moment(message.time)} UTC")]
    blocks += [line(f"{name}: {value}", indent=2) for name, value in message.headers]
    blocks += [line(), *(line(text, indent=2) for text in _pretty(message.data).splitlines())]
    return blocks


def _pretty(payload: bytes) -> str:
    """Return JSON indented, other text as it is, anything else as a size."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return f"({len(payload):,} bytes that are no text)"
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False).encode().decode()
    except (ValueError, RecursionError):  # no JSON, or nothing that can be printed
        return text


def _why(letter: DeadLetter) -> str:
    """Return how the message failed, the reason that was given, and its task."""
    why = f"{letter.type}: {letter.reason}" if letter.reason else letter.type.value
    task_id, title = task_named_in(letter)
    return f"{why}; task {': '.join(filter(None, (task_id, title)))}" if task_id or title else why


def _whereabouts(letter: DeadLetter) -> str:
    match letter.original:
        case MessageLocation.STORED:
            return f"{letter.stream}/{letter.sequence}"
        case MessageLocation.KEPT:
            return "perhaps replayed" if letter.replaying else "kept here"
        case MessageLocation.UNREAD:
            return f"{letter.stream}/{letter.sequence}, not read"
    return f"gone from {letter.stream}"


def _moment(time: str) -> str:
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
