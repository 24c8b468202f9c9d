"""Parse JSON text into a Source for each message in it, with the place of every value.

A text is one JSON value, over as many lines as it likes, or several: then each begins with a brace at the start of a
line. What is wrong with one of them hides nothing of the others.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterator

from cyborg_infra.manifest.yaml_source import Source
from cyborg_infra.model.organisation import ManifestPath
from cyborg_infra.model.problems import Problem, SourcePosition
from cyborg_infra.model.valueclass import NamedTuple

MAX_DEPTH = 64  # a task of messages.md is 4 deep; its context may hold anything
MAX_DIGITS = 400  # of a whole number: more are no finite number to any reader

_BLANK = " \t\r\n"
_BEGINNING = re.compile(r"^\{", re.MULTILINE)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_EXTRA = "Extra data"  # as the json module calls it
_CONSTANTS = ("true", "false", "null")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def parse_json_messages(text: str, file: str) -> Iterator[Source]:
    """Yield a source for each message of `text`, in order; nothing for a text without any.

    A source with problems is not to be used: its text is no JSON, or JSON that two readers would read differently.
    """
    places = _Places(text, file)
    for begin, end in _chunks(text):
        yield from _parsed(places, begin, end)


def _chunks(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each message begins, and where the next one does."""
    first = len(text) - len(text.lstrip(_BLANK))
    if first == len(text):
        return
    begins = [first, *(match.start() for match in _BEGINNING.finditer(text, first + 1))]
    if len(begins) > 1 and _is_one(text):
        begins = [first]
    yield from zip(begins, [*begins[1:], len(text)], strict=True)


def _is_one(text: str) -> bool:
    """Return whether the whole text is one JSON value, though some of its lines begin with a brace."""
    try:
        _DECODER.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(places: _Places, begin: int, end: int) -> Iterator[Source]:
    """Yield the message in this part of the text, and a second source for what stands after it, if anything does."""
    source = Source(places.file, places.mark(begin))
    chunk = places.text[begin:end].rstrip(_BLANK)
    try:
        data, length = _DECODER.raw_decode(chunk)
    except json.JSONDecodeError as error:
        source.problems.append(_syntax(error.msg, places.mark(begin + error.pos)))
    except RecursionError:
        source.problems.append(_too_deep(places.mark(begin)))
    else:
        _walk(places, begin, begin + length, source)
        if isinstance(data, dict):
            source.data = data
        elif not source.problems:
            message = f"a message is a JSON object, not {_FOUND[type(data)]}"
            source.problems.append(
                Problem("message-no-object", message, places.mark(begin), "write one object a line")
            )
        rest = chunk[length:].lstrip(_BLANK)
        if rest:
            yield source
            where = places.mark(begin + len(chunk) - len(rest))
            source = Source(places.file, where)
            source.problems.append(_syntax(_EXTRA, where))
    yield source


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


_DECODER = json.JSONDecoder(parse_int=_whole)
_FOUND = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    type(None): "null",
}


def _syntax(message: str, where: SourcePosition) -> Problem:
    said = message[0].lower() + message[1:].removesuffix(" at").removesuffix(" starting")
    hint = "write one object a line, or one in all" if message == _EXTRA else None
    return Problem("json-syntax", f"this is no valid JSON: {said}", where, hint)


def _too_deep(where: SourcePosition) -> Problem:
    return Problem("message-too-deep", f"more than {MAX_DEPTH} levels of nesting", where)


class _Places:
    """The line and column of every position in a text."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def mark(self, position: int) -> SourcePosition:
        line = bisect_right(self.lines, position)
        return SourcePosition(self.file, line, position - self.lines[line - 1] + 1)


class _Open(NamedTuple):
    """An object or list that the walk is inside of."""

    path: ManifestPath
    is_object: bool


def _walk(places: _Places, begin: int, end: int, source: Source) -> None:
    """Record in the source the place of every key and value of the valid JSON between `begin` and `end`.

    It has a problem for everything that JSON's grammar allows, and readers disagree about.
    """
    inside: list[_Open] = []
    path: ManifestPath = ()
    at_key = False
    for token in _TOKEN.finditer(places.text, begin, end):
        word, where = token[0], places.mark(token.start())
        if word in ("}", "]"):
            path = inside.pop().path
        elif word == ",":
            at_key = inside[-1].is_object
            path = inside[-1].path if at_key else (*path[:-1], _next(path))
        elif word == ":":
            at_key = False
        elif at_key:
            path = _key(source, inside[-1].path, word, where)
        else:
            source.marks.setdefault(path, where)
            if word in ("{", "["):
                inside.append(_Open(path, at_key := word == "{"))
                path = path if at_key else (*path, 0)
                if len(inside) > MAX_DEPTH:
                    source.problems.append(_too_deep(where))
                    return
            else:
                source.problems += _complaints(word, where)


def _next(path: ManifestPath) -> int:
    last = path[-1]
    return last + 1 if isinstance(last, int) else 0


def _key(source: Source, around: ManifestPath, word: str, where: SourcePosition) -> ManifestPath:
    """Return the path of the member whose key is `word`."""
    name = json.loads(word)
    path = (*around, name)
    if path in source.keys:
        message = f"{name} is already given in line {source.keys[path].line}"
        source.problems.append(Problem("duplicate-key", message, where, "keep one of them"))
    source.keys[path] = where
    source.problems += _complaints(word, where)
    return path


def _complaints(word: str, where: SourcePosition) -> Iterator[Problem]:
    """Yield what is wrong with a scalar that the grammar allows."""
    if word[0] == '"':
        half = _SURROGATE.search(json.loads(word)) if "\\u" in word or not word.isascii() else None
        if half:
            message = f"\\u{ord(half[0]):04x} is half of a character"
            yield Problem("message-not-utf8", message, where, "write the character itself")
    elif word not in _CONSTANTS and not math.isfinite(float(word)):
        shown = word if len(word) <= len("-Infinity") else f"{word[:6]}…"
        yield Problem("number-not-finite", f"{shown} is no finite number", where, "JSON has none for it")
