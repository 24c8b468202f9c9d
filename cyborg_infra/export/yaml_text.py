"""YAML that every reader takes for the same: whatever another one could take for a number or a truth has quotes.

It is the same to the byte wherever it is written, as `export --check` compares bytes. PyYAML writes with its C library
in another style than without, and without takes ten times as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
_SIMPLE_KEY_CHARACTERS = 120
"""Characters that a key may have on one line with its value; every reader takes so many."""

_SPECIAL = re.compile(r'["\\]|[^ -~]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LATIN, _BMP = 0xFF, 0xFFFF


def yaml_text(documents: Iterable[Any]) -> str:
    """Return the documents, each behind its `---`: values as JSON has them, mappings in the order that they have."""
    return "".join(f"---\n{_lines(each, '').removeprefix(chr(10))}" for each in documents)


def _lines(value: Any, indent: str) -> str:
    """Return what stands behind a key or a dash: a scalar on its line, or the lines below it."""
    match value:
        case Mapping() if value:
            return "\n" + "".join(_members(value, indent))
        case list() | tuple() if value:
            return "\n" + "".join(_items(value, indent))
        case str() if _is_block(value):
            inner = "".join(f"{indent or '  '}{line}\n" if line else "\n" for line in value.splitlines())
            return f" |\n{inner}"
    return f" {_scalar(value)}\n"


def _members(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, member in value.items():
        written = _text(key)
        inner = _lines(member, f"{indent}  ")
        if len(written) <= _SIMPLE_KEY_CHARACTERS:
            yield f"{indent}{written}:{inner}"
        else:
            yield f"{indent}? {written}\n{indent}:{inner}"


def _items(value: Sequence[Any], indent: str) -> Iterator[str]:
    for item in value:
        inner = _lines(item, f"{indent}  ")
        nested = inner.startswith("\n")
        yield f"{indent}- {inner.lstrip()}" if nested else f"{indent}-{inner}"


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
    return "[]" if isinstance(value, list | tuple) else "{}"


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return f'"{_SPECIAL.sub(_escaped, value)}"'


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    number = ord(char)
    return (
        f"\\x{number:02x}"
        if number <= _LATIN
        else f"\\u{number:04x}"
        if number <= _BMP
        else f"\\U{number:08x}"
    )


def _is_block(value: str) -> bool:
    """Return whether it is lines that are good to read as they are."""
    return (
        value.endswith("\n")
        and not value.endswith("\n\n")
        and not value.startswith((" ", "\n"))
        and all(line.isprintable() for line in value.split("\n"))
    )
