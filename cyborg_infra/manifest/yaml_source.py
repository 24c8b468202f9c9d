"""Parse YAML into plain data with the place of every value.

Reads the parser's events in one pass, so that nesting, aliases and duplicate keys are checked before
anything is built. Scalars follow YAML 1.2; what YAML 1.1 reads differently is refused, never guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cyborg_infra.manifest.input import read_input
from cyborg_infra.model.organisation import ManifestPath
from cyborg_infra.model.problems import ManifestInvalid, Problem, SourcePosition
from cyborg_infra.model.wording import Command, worded

_MAX_DEPTH = 32  # the deepest place in a manifest is 9 deep
MAX_VALUES = 300_000  # with all that aliases stand for; 10,000 roles with twenty settings each are 210,000

_SMALLEST = "the smallest manifest has two keys, org and roles"

_PRINTABLE = r"\t\n\r\x20-\x7e"
_BEYOND_ASCII = r"\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff"
_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]"

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_TRUTH, _NUMBER = "true or false", "a whole decimal number"
# What YAML 1.1 and 1.2 read differently, or what no field takes: what it is, and what to write instead.
_SURPRISING_WORDS = {
    **dict.fromkeys(
        ("yes", "no", "on", "off", "y", "n"),
        ("true or false to some YAML readers and text to others", _TRUTH),
    ),
    **dict.fromkeys(("<<", "="), ("a special key to some YAML readers", "another one")),
}
_SURPRISING_NUMBERS = (
    (r"[-+]?0[0-9_]+|0o[0-7]+", "octal to some YAML readers and decimal to others", _NUMBER),
    (r"[-+]?0x[0-9a-fA-F_]+|[-+]?0b[01_]+", "a number in another base to some YAML readers", _NUMBER),
    (r"[-+]?[1-9][0-9]*(?:_[0-9_]*)", "a number to some YAML readers and text to others", _NUMBER),
    (r"[-+]?[1-9][0-9]*(?::[0-5]?[0-9])+", "a number of base 60 to some YAML readers", _NUMBER),
    (r"[-+]?[0-9]{20,}", "too large a number", "a smaller one"),
    (r"(?i:[-+]?(?:\.inf|\.nan))", "no finite number", _NUMBER),
    (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?",
        "a fraction, which no field takes",
        _NUMBER,
    ),
)
_SURPRISING_NUMBER = "|".join(f"({pattern})" for pattern, *_ in _SURPRISING_NUMBERS)
_IN_NUMBERS = frozenset("0123456789abcdefABCDEFxoinIN.:_+-")
"""What those are made of: a duration such as 45m is not."""
_BEGIN_NUMBERS = frozenset("0123456789.+-")
_LONGEST_WORD = max(map(len, (*_CONSTANTS, *_SURPRISING_WORDS)))


class Source:
    """A manifest's data, the place of every path in it, and what was wrong with it.

    A scalar's place is its own; a mapping's or list's is that of the key which introduces it. `keys` holds
    the keys' own places.
    """

    def __init__(self, file: str, begin: SourcePosition | None = None) -> None:
        self.file = file
        self.data: dict[str, Any] = {}
        self.marks: dict[ManifestPath, SourcePosition] = {(): begin} if begin else {}
        self.keys: dict[ManifestPath, SourcePosition] = {}
        self.problems: list[Problem] = []

    def mark(self, path: ManifestPath) -> SourcePosition:
        """Return the place of `path`, or of the nearest thing around it."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path) or SourcePosition(self.file, 1, 1)

    def key(self, path: ManifestPath) -> SourcePosition:
        """Return the place of the key that `path` ends in, or of the nearest thing around it."""
        return self.keys.get(path) or self.mark(path)


def read(path: str | os.PathLike[str]) -> Source:
    """Return the source in the file at `path`.

    Raises:
        ManifestInvalid: there is no readable file, it is larger than files.MAX_BYTES, not UTF-8, or no YAML mapping.
    """
    text = read_input(path, "manifest", ManifestInvalid, hint=worded("`{}` writes one", Command("init")))
    return parse_yaml(text, os.fsdecode(path))


def parse_yaml(text: str, file: str) -> Source:
    """Return the source in `text`; `file` is the name that its marks carry.

    Raises:
        ManifestInvalid: the text is no single YAML mapping, is nested too deeply, or holds too many values.
    """
    unprintable = re.search(f"[^{_PRINTABLE}{'' if text.isascii() else _BEYOND_ASCII}]", text)
    if unprintable:
        start = unprintable.start()
        raise _refusal(
            file,
            "manifest-control-character",
            f"character U+{ord(text[start]):04X} is not allowed in YAML",
            text.count("\n", 0, start) + 1,
            start - text.rfind("\n", 0, start),
        )
    with _syntax_errors(file):
        return _Reader(text, file).document()


def is_plain(text: str) -> bool:
    """Return whether `text` means itself when written into YAML without quotes. Narrow: letters, digits, `_.-` only."""
    return (
        bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", text))
        and text not in _CONSTANTS
        and not _surprise(text)
    )


def _surprise(text: str) -> tuple[str, str] | None:
    """Return what is in doubt about the plain scalar `text`, and what to write instead."""
    if word := _SURPRISING_WORDS.get(text.lower()):
        return word
    is_like_one = text[:1] in _BEGIN_NUMBERS and _IN_NUMBERS.issuperset(text)
    found = re.fullmatch(_SURPRISING_NUMBER, text) if is_like_one else None
    return _SURPRISING_NUMBERS[found.lastindex - 1][1:] if found and found.lastindex else None


def _refusal(
    file: str, code: str, message: str, line: int = 1, column: int = 1, *, hint: str | None = None
) -> ManifestInvalid:
    return ManifestInvalid(Problem(code, message, SourcePosition(file, line, column), hint))


@contextmanager
def _syntax_errors(file: str) -> Iterator[None]:
    """Turn what the YAML parser raises into a ManifestInvalid with its place."""
    import yaml

    try:
        yield
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        words = (getattr(error, "context", None), getattr(error, "problem", None))
        message = ": ".join(word for word in words if word) or str(error)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _refusal(file, "yaml-syntax", f"this is no valid YAML: {message}", line, column) from error


class _Reader:
    """Builds a Source from the events of one YAML document."""

    def __init__(self, text: str, file: str) -> None:
        import yaml

        # Looked up for every value: the shortest way to them counts.
        self.alias_event, self.scalar_event = yaml.AliasEvent, yaml.ScalarEvent
        self.sequence_event, self.stream_end = yaml.SequenceStartEvent, yaml.StreamEndEvent
        self.begin, self.end = yaml.CollectionStartEvent, yaml.CollectionEndEvent
        self.loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self.next = self.loader.get_event
        self.source = Source(file)
        self.anchors: dict[str, tuple[Any, ManifestPath]] = {}
        self.values = 0

    def document(self) -> Source:
        """Return the one document of the text, which must be a mapping."""
        try:
            self.next()  # the stream begins
            if isinstance(self.next(), self.stream_end):
                raise _refusal(self.source.file, "manifest-empty", "the manifest is empty", hint=_SMALLEST)
            first = self.next()
            self.source.marks[()] = self.place(first)
            data = self.value(first, ())
            self.next()  # the document ends
            after = self.next()
            if not isinstance(after, self.stream_end):
                raise self.refusal(after, "yaml-several-documents", "a second YAML document begins here")
        finally:
            self.loader.dispose()
        if data is None:
            raise self.refusal(first, "manifest-empty", "the manifest is empty", _SMALLEST)
        if not isinstance(data, dict):
            raise self.refusal(first, "manifest-no-mapping", "the manifest is no mapping", _SMALLEST)
        self.source.data = data
        return self.source

    def value(self, event: Any, path: ManifestPath) -> Any:
        """Return the value that begins with `event`; its mark, unless a key has set it, is the event's place."""
        self.count(event, path)
        if isinstance(event, self.alias_event):
            return self.alias(event, path)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.complain(event, "yaml-tag", f"the tag {tag} is not supported", "write the value plainly")
        if isinstance(event, self.scalar_event):
            self.source.marks[path] = self.place(event)
            found: Any = self.scalar(event)
        else:
            self.source.marks.setdefault(path, self.place(event))
            is_list = isinstance(event, self.sequence_event)
            found = self.sequence(path) if is_list else self.mapping(path)
        if event.anchor:
            self.anchors[event.anchor] = (found, path)
        return found

    def scalar(self, event: Any) -> str | int | bool | None:
        """Return what a scalar means; text where that is in doubt, with a complaint."""
        text: str = event.value
        if not text.isprintable() and re.search(_CONTROL, text):
            self.complain(
                event, "manifest-control-character", f"{text!r} holds a control character", "remove it"
            )
        if event.style:
            return text
        if len(text) > _LONGEST_WORD and text[0].isalpha():
            return text  # most values
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        surprise = _surprise(text)
        if surprise:
            what, instead = surprise
            hint = f'write {instead}, or "{text}" if text is meant'
            self.complain(event, "yaml-ambiguous", f"{text} is {what}", hint)
        return text

    def sequence(self, path: ManifestPath) -> list[Any]:
        """Return the items up to the end of the sequence."""
        items: list[Any] = []
        while not isinstance(event := self.next(), self.end):
            items.append(self.value(event, (*path, len(items))))
        return items

    def mapping(self, path: ManifestPath) -> dict[str, Any]:
        """Return the entries up to the end of the mapping. Of two equal keys the first counts."""
        entries: dict[str, Any] = {}
        while not isinstance(event := self.next(), self.end):
            key = self.key(event)
            here = (*path, key)
            if key in entries:
                self.complain(
                    event,
                    "duplicate-key",
                    f"{key} is already given in line {self.source.keys[here].line}",
                    "keep one of them",
                )
                self.skip()
                continue
            self.source.keys[here] = self.source.marks[here] = self.place(event)
            entries[key] = self.value(self.next(), here)
        return entries

    def key(self, event: Any) -> str:
        """Return a mapping's key: text, whatever stood there."""
        if not isinstance(event, self.scalar_event):
            raise self.refusal(event, "key-no-text", "a key must be text")
        if event.tag is None and not event.style and event.value == "<<":
            self.complain(
                event,
                "yaml-merge-key",
                "merge keys (<<) are not supported",
                "set shared values under defaults, streams or consumers",
            )
            return "<<"
        found = self.scalar(event)
        if not isinstance(found, str):
            word = event.value or "null"
            self.complain(event, "key-no-text", f"the key {word} is no text", f'write "{word}"')
        return str(event.value)

    def alias(self, event: Any, path: ManifestPath) -> Any:
        """Return a copy of what the alias stands for; what is inside keeps the places where it is written."""
        if event.anchor not in self.anchors:
            raise self.refusal(
                event, "yaml-alias", f"*{event.anchor} stands for nothing that is complete here"
            )
        value, origin = self.anchors[event.anchor]
        self.source.marks.setdefault(path, self.place(event))
        return self.copy(event, value, origin, path)

    def copy(self, alias: Any, value: Any, origin: ManifestPath, path: ManifestPath) -> Any:
        """Return `value`, which stands at `origin`, copied to `path`, as far as the limits allow."""
        self.count(alias, path)
        self.source.marks.setdefault(path, self.source.marks[origin])
        if origin in self.source.keys:
            self.source.keys.setdefault(path, self.source.keys[origin])
        if isinstance(value, dict):
            return {key: self.copy(alias, item, (*origin, key), (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.copy(alias, item, (*origin, n), (*path, n)) for n, item in enumerate(value)]
        return value

    def count(self, event: Any, path: ManifestPath) -> None:
        """Note one more value at `path`; an alias bomb ends here, and so does a depth that Python could not bear."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.refusal(
                event,
                "manifest-too-many-values",
                f"more than {MAX_VALUES} values, with what aliases stand for",
            )
        if len(path) > _MAX_DEPTH:
            raise self.refusal(event, "manifest-too-deep", f"more than {_MAX_DEPTH} levels of nesting")

    def skip(self) -> None:
        """Pass over one whole value."""
        depth = 0
        while True:
            event = self.next()
            depth += isinstance(event, self.begin)
            depth -= isinstance(event, self.end)
            if not depth:
                return

    def place(self, event: Any) -> SourcePosition:
        return SourcePosition(self.source.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def complain(self, event: Any, code: str, message: str, hint: str) -> None:
        self.source.problems.append(Problem(code, message, self.place(event), hint))

    def refusal(self, event: Any, code: str, message: str, hint: str | None = None) -> ManifestInvalid:
        return ManifestInvalid(*self.source.problems, Problem(code, message, self.place(event), hint))
