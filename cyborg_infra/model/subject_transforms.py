"""Validate subject transforms by the server's grammar of `src` and `dest`, per version; and map subjects by them.

Read in the source of 2.10 to 2.15 and measured with drawn ones (tests/predictions/test_predictions.py).
"""

from __future__ import annotations

import re

from cyborg_infra.model.server_versions import Capability, Version
from cyborg_infra.model.subjects import intersection

BEHAVIOUR_CHANGES = (
    Capability.NARROW_TRANSFORM_NUMBERS.since,
    Capability.SHORT_PARTITION.since,
    Capability.LIST_LEFT_AND_RIGHT.since,
)
"""Where the grammar changes."""

_BLANK = r"[\t\n\f\r ]"
_NUMBER = r"[+-]?[0-9]+"
_ARGUMENTS = r",[\t\n\f\r ]*"
_INT32, _INT64 = 2**31, 2**63
_FIRST_LETTERS = {
    "wildcard": "[wW]ildcard",
    "partition": "[pP]artition",
    "splitfromleft": "[sS]plit[fF]rom[lL]eft",
    "splitfromright": "[sS]plit[fF]rom[rR]ight",
    "slicefromleft": "[sS]lice[fF]rom[lL]eft",
    "slicefromright": "[sS]lice[fF]rom[rR]ight",
    "right": "[rR]ight",
    "left": "[lL]eft",
    "split": "[sS]plit",
    "random": "[rR]andom",
}
_FUNCTIONS = {name: rf"(?a)\{{\{{\s*{spelt}\s*\((.*)\)\s*\}}\}}" for name, spelt in _FIRST_LETTERS.items()}
_UNLISTED = ("left", "right")
_ONE_TOKEN = ("partition", "random", "left", "right")
"""The functions that make one token; those that split or slice make one or more."""


def fault(src: str, dest: str, version: Version, *, listed: bool = True) -> str | None:
    """Return what a server of this version has against a transform, in words, or None.

    An empty `src` is `>`, an empty `dest` none at all. `listed` where the server holds the functions to a list as well,
    and takes no white space.
    """
    if not dest:
        return None
    source, target = (src or ">").split("."), dest.split(".")
    if not _is_subject(source):
        return f"{src!r} is no subject"
    if not _is_subject(target):
        return f"{dest!r} is no subject"
    if "*" in target:
        return "dest has a *, where {{wildcard(1)}} stands for what the first * of src is"
    if (source[-1] == ">") != (target[-1] == ">"):
        return "only one of src and dest ends with >"
    found = (_fault_of_token(token, source, version, listed=listed) for token in target)
    return next(filter(None, found), None)


def image(src: str, dest: str, subject: str) -> str | None:
    """Return a pattern that covers what the transform makes of all that match `subject`; None if it takes none of them.

    It covers no more than that where `dest` has no function but wildcard, and each but once. What no server takes
    makes nothing.
    """
    source = (src or ">").split(".")
    met = intersection(src or ">", subject)
    if met is None or fault(src, dest, Capability.LIST_LEFT_AND_RIGHT.since, listed=False):
        return None
    found = met.split(".")
    stands = [token for token, wide in zip(found, source, strict=False) if wide == "*"]
    made: list[str] = []
    for token in dest.split("."):
        name, positions = _parsed(token, Capability.LIST_LEFT_AND_RIGHT.since)
        if token == ">":
            made += found[len(source) - 1 :]
        elif name in _ONE_TOKEN:
            made.append("*")
        elif name not in (None, "wildcard"):
            return ".".join([*made, ">"])  # so many tokens as what it splits has parts
        else:
            made.append(stands[positions[0] - 1] if positions else token)
    return ".".join(made)


def _is_subject(tokens: list[str]) -> bool:
    return "" not in tokens and ">" not in tokens[:-1]


def _fault_of_token(token: str, source: list[str], version: Version, *, listed: bool) -> str | None:
    wildcards = source.count("*")
    name, positions = _parsed(token, version)
    if name is None and listed and re.search(_BLANK, token):
        return f"{token!r} has white space"
    if positions is None:
        return f"{token} is no function of the server, or has wrong arguments"
    if name in _UNLISTED and listed and version < Capability.LIST_LEFT_AND_RIGHT.since:
        return f"{token} is no function of a stream's transform"
    if name is None:
        return None
    free = name in ("random", "partition") and version >= Capability.SHORT_PARTITION.since
    if wildcards == 0 and not free and (version < Capability.SHORT_PARTITION.since or source[-1] != ">"):
        return f"{token} stands for a * of src, which has none"
    if wildcards == 0 and source[-1] != ">":
        return None  # what positions it names is not looked at
    if any(position > wildcards for position in positions):
        return f"{token} stands for a * that src does not have"
    return None


def _parsed(token: str, version: Version) -> tuple[str | None, list[int] | None]:
    """Return (function, the positions of src that it reads): no function for plain text, no positions if it cannot be read."""
    if token.startswith("$") and len(token) > 1:
        position = _number(token[1:], _INT64, blanks="")
        return (None, []) if position is None else ("wildcard", [position])
    if not (len(token) > 4 and token.startswith("{{") and token.endswith("}}")):  # noqa: PLR2004 - with one letter between
        return None, []
    for name, pattern in _FUNCTIONS.items():
        if (match := re.search(pattern, token)) and (
            name != "random" or version >= Capability.SHORT_PARTITION.since
        ):
            return name, _positions(name, re.split(_ARGUMENTS, match[1]), version)
    return "unknown", None


def _positions(name: str, arguments: list[str], version: Version) -> list[int] | None:
    numbers = [_number(argument, _INT64) for argument in arguments]
    first = numbers[0]
    match name, len(arguments):
        case "wildcard", 1:
            return None if first is None else [first]
        case "random", 1:
            return None if first is None or first >= _INT32 else []
        case "partition", count if count > 1 or version >= Capability.SHORT_PARTITION.since:
            if first is None or (first >= _INT32 and version >= Capability.SHORT_PARTITION.since):
                return None
            return None if None in numbers else [number for number in numbers[1:] if number is not None]
        case "split", 2:
            return None if first is None or " " in arguments[1] else [first]
        case (("wildcard" | "random" | "partition" | "split"), _):
            return None
        case _, 2:
            second = _number(
                arguments[1], _INT64 if version < Capability.NARROW_TRANSFORM_NUMBERS.since else _INT32
            )
            return None if first is None or second is None else [first]
    return None


def _number(text: str, bound: int, blanks: str = " ") -> int | None:
    """Return a number as the server reads it, below `bound` and at least minus it; None if it is none."""
    text = text.strip(blanks) if blanks else text
    if not re.fullmatch(_NUMBER, text):
        return None
    number = int(text)
    return number if -bound <= number < bound else None
