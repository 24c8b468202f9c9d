"""Subjects and patterns: which are valid, whether one covers or overlaps another."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Measured on 2.10 to 2.15: tokens split by '.', none of these in a token; '*' and '>' are wildcards only alone.
_FORBIDDEN_IN_PATTERN = re.compile(r"[\s\x00-\x1f\x7f]")
_FORBIDDEN_IN_TOKEN = re.compile(r"[\s.*>\x00-\x1f\x7f]")
# Names of streams and consumers additionally become directories (10127, 10128).
_FORBIDDEN_IN_NAME = re.compile(r"[\s.*>/\\\x00-\x1f\x7f]")
MAX_NAME = 255


def is_token(text: str) -> bool:
    """Return whether `text` is one literal subject token that an organisation may use: no wildcard, white space or `$`."""
    return bool(text) and not text.startswith("$") and not _FORBIDDEN_IN_TOKEN.search(text)


def is_name(text: str) -> bool:
    """Return whether the server takes `text` as the name of a stream or a consumer (10102, 10127, 10128)."""
    return 0 < len(text.encode()) <= MAX_NAME and not _FORBIDDEN_IN_NAME.search(text)


def is_pattern(text: str) -> bool:
    """Return whether `text` is a subject, with or without wildcards: no empty token, `>` only as the last one."""
    tokens = text.split(".")
    if "" in tokens or ">" in tokens[:-1]:
        return False
    plain = text.isascii() and text.isprintable() and " " not in text
    return plain or not _FORBIDDEN_IN_PATTERN.search(text)


def covers(pattern: str, subject: str) -> bool:
    """Return whether every subject that matches `subject` matches `pattern` as well."""
    if not subject.startswith(pattern.partition("*")[0].rstrip(">")):
        return False  # most of many patterns: they begin otherwise, before any wildcard
    wide, narrow = pattern.split("."), subject.split(".")
    for position, token in enumerate(wide):
        if token == ">":
            return len(narrow) > position
        if position >= len(narrow) or narrow[position] == ">":
            return False
        if token not in ("*", narrow[position]):
            return False
    return len(wide) == len(narrow)


def overlap(one: str, other: str) -> bool:
    """Return whether some subject matches both patterns: the server's rule for 10065."""
    if one[:1] != other[:1] and one[:1] not in "*>" and other[:1] not in "*>":
        return False  # `$JS...` and an organisation's own: no need to split them
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)


def intersection(one: str, other: str) -> str | None:
    """Return the pattern of all subjects that match both, or None if none does."""
    left, right = one.split("."), other.split(".")
    met: list[str] = []
    for at, (a, b) in enumerate(zip(left, right, strict=False)):
        if ">" in (a, b):
            return ".".join([*met, *(right if a == ">" else left)[at:]])
        if a != b and "*" not in (a, b):
            return None
        met.append(b if a == "*" else a)
    return ".".join(met) if len(left) == len(right) else None


class SubjectIndex:
    """Patterns with a value each, found by overlap without comparing every pair."""

    def __init__(self, patterns: Iterable[tuple[str, str]] = ()) -> None:
        self._root = _Node()
        for pattern, value in patterns:
            self.add(pattern, value)

    def __bool__(self) -> bool:
        return bool(self._root.children)

    def add(self, pattern: str, value: str) -> None:
        """Hold `value` under `pattern` from now on."""
        node = self._root
        for token in pattern.split("."):
            child = node.children.get(token)
            if child is None:
                child = node.children[token] = _Node()
            node = child
        node.found.append((pattern, value))

    def overlapping(self, pattern: str) -> list[tuple[str, str]]:
        """Return every (pattern, value) that has a subject in common with `pattern`."""
        found: list[tuple[str, str]] = []
        nodes = [self._root]
        for token in pattern.split("."):
            if token == ">":
                return found + [
                    hit for node in nodes for child in node.children.values() for hit in child.everything()
                ]
            below: list[_Node] = []
            for node in nodes:
                if rest := node.children.get(">"):
                    found += rest.found
                below += node.matched_by(token)
            if not below:
                return found
            nodes = below
        return found + [hit for node in nodes for hit in node.found]

    def covers(self, subject: str) -> bool:
        """Return whether one of the patterns covers `subject` alone."""
        nodes = [self._root]
        for token in subject.split("."):
            if any(">" in node.children for node in nodes):
                return True
            names = ("*",) if token == "*" else (token, "*")
            nodes = [
                node.children[name]
                for node in nodes
                for name in names
                if token != ">" and name in node.children
            ]
        return any(node.found for node in nodes)


class _Node:
    """One token of the patterns in a SubjectIndex."""

    __slots__ = ("children", "found")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.found: list[tuple[str, str]] = []

    def matched_by(self, token: str) -> list[_Node]:
        """Return what comes below for `token`, apart from what takes all the rest."""
        children = self.children
        if token == "*":
            return [child for name, child in children.items() if name != ">"]
        return [child for child in (children.get(token), children.get("*")) if child]

    def everything(self) -> list[tuple[str, str]]:
        """Return whatever is held here and below."""
        found, stack = [], [self]
        while stack:
            node = stack.pop()
            found += node.found
            stack += node.children.values()
        return found
