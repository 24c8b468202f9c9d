"""Texts as the page shows them: commands set apart, numbers, ages, addresses of its parts."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

from cyborg_infra.model.units import format_age
from cyborg_infra.model.wording import PROGRAM, Command, Option, Wording
from cyborg_infra.monitor.page.content import Piece, Text
from cyborg_infra.render.command_line import spoken

_UNKNOWN = "?"
_MAX_TEXT = 300


def pieces(text: str, environment: str | None = None) -> Text:
    """Return a text with the commands that it names as they are typed, set apart; in this environment of the manifest."""
    found: list[Piece] = []
    for part in text.parts if isinstance(text, Wording) else (text,):
        if isinstance(part, str):
            found.append(Piece(part))
        elif isinstance(part, Option) and len(found) > 1 and found[-1] == Piece(" ") and found[-2].typed:
            found[-2:] = [Piece(f"{found[-2].text} {spoken(Wording(part))}", typed=True)]
        else:
            found.append(Piece(spoken(Wording(part)), typed=True))
    return tuple(in_environment(piece, environment) for piece in found if piece.text)


def in_environment(piece: Piece, environment: str | None) -> Piece:
    """Return a command with the environment that is watched; any other text as it is."""
    if environment is None or not piece.typed or not piece.text.startswith(f"{PROGRAM} "):
        return piece
    return Piece(f"{piece.text} {spoken(Wording(Option('env', environment)))}", typed=True)


def command_text(words: str, environment: str | None) -> str:
    """Return what is typed, in the environment that is watched."""
    return pieces(Wording(Command(words)), environment)[0].text


def address(**query: str) -> str:
    """Return the address of a part of the page."""
    return f"?{urlencode(query)}"


def count_text(number: int | None) -> str:
    """Return a number as it is shown, or that it is not known."""
    return _UNKNOWN if number is None else f"{number:,}"


def age_text(nanoseconds: int | None) -> str:
    """Return an age as it is shown; empty where there is none."""
    return "" if nanoseconds is None else format_age(nanoseconds)


def time_text(seconds: float | None) -> str:
    """Return a unix time as RFC 3339 in UTC; empty where there is none."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clipped(text: str) -> str:
    """Return a text, or its beginning where it is too long."""
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
