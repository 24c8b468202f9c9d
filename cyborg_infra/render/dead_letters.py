"""Dead letters to lines for people and to JSON. Reads nothing, decides nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cyborg_infra.model.dead_letter import DeadLetter, Handled, Handling, Message, Original
from cyborg_infra.render.data import SCHEMA_VERSION, dead_letter, told
from cyborg_infra.render.layout import Block, Page, Table, line
from cyborg_infra.render.values import plural

_DONE = {Handling.REPLAY: "replayed", Handling.KEEP: "kept", Handling.DROP: "dropped"}


def listed(letters: Sequence[DeadLetter]) -> Page:
    """A table, by number; what it takes to act on one below."""
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
            f"{letter.type}: {letter.reason}" if letter.reason else letter.type.value,
        )
        for letter in letters
    )
    head = ("N", "WHEN (UTC)", "ROLE", "CONSUMER", "TRIES", "MESSAGE", "WHY")
    return Page((Table(head, rows, indent=2), line(), line(f"{plural(len(letters), 'dead letter')}.")))


def shown(letter: DeadLetter) -> Page:
    """All there is to know of one: how it failed, where it is, its headers and its content."""
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
    if letter.message is not None:
        blocks += _content(letter.message)
    return Page(tuple(blocks))


def outcome(handling: Handling, handled: Handled) -> Page:
    """How one ended, in one line."""
    number = f"dead letter {handled.letter.number}"
    if handled.problem:
        return Page((line(f"{number}: ", ("failed", "bold red"), f": {handled.problem}"),))
    place = f" as {handled.place}" if handled.place else ""
    return Page((line(f"{number}: {_DONE[handling]}{place}"),))


def summary(handling: Handling, results: Sequence[Handled]) -> Page:
    """How many were done, and how many were not."""
    failed = sum(result.problem is not None for result in results)
    told = f"{plural(len(results) - failed, 'dead letter')} {_DONE[handling]}"
    style = "bold red" if failed else "bold green"
    return Page((line((f"{told}, {failed} failed." if failed else f"{told}.", style)),))


def data(letters: Sequence[DeadLetter]) -> dict[str, Any]:
    """Every dead letter (dead-letters.schema.json); a payload as text where it is UTF-8, else in base64."""
    return {"schema_version": SCHEMA_VERSION, "dead_letters": [_letter(letter) for letter in letters]}


def results(handling: Handling, handled: Sequence[Handled]) -> dict[str, Any]:
    """What became of each (dead-letters-handled.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "action": handling.value,
        "complete": all(each.problem is None for each in handled),
        "results": [
            {
                "number": each.letter.number,
                "place": each.place or None,
                "problem": told(each.problem),
            }
            for each in handled
        ],
    }


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return dead_letter(letter) | {
        "deliveries": letter.deliveries or None,
        "original": letter.original.value,
        "replaying": letter.replaying or None,
        "message": _message(letter.message) if letter.message else None,
    }


def _message(message: Message) -> dict[str, Any]:
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


def _content(message: Message) -> list[Block]:
    blocks: list[Block] = [line(), line((message.subject, "bold"), f", stored {_moment(message.time)} UTC")]
    blocks += [line(f"{name}: {value}", indent=2) for name, value in message.headers]
    blocks += [line(), *(line(text, indent=2) for text in _pretty(message.data).splitlines())]
    return blocks


def _pretty(payload: bytes) -> str:
    """JSON indented; other text as it is; anything else as a size."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return f"({len(payload):,} bytes that are no text)"
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False).encode().decode()
    except (ValueError, RecursionError):  # no JSON, or nothing that can be printed
        return text


def _whereabouts(letter: DeadLetter) -> str:
    match letter.original:
        case Original.STORED:
            return f"{letter.stream}/{letter.sequence}"
        case Original.KEPT:
            return "perhaps replayed" if letter.replaying else "kept here"
    return f"gone from {letter.stream}"


def _moment(time: str) -> str:
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
