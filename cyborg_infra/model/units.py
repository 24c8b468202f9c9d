"""Sizes and durations, in and out, by the `nats` CLI's rules. Refuses the garbage that the CLI lets through.

Sizes are bytes, 1024-based whatever the suffix says (`100MB` = `100MiB` = 104857600). Durations are
nanoseconds: Go's units plus `d` (24h), `w` (7d), `M` (30d) and `y` (365d). Fractions are exact, or refused.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

MAX_INT64 = 2**63 - 1
_DIGITS = 20  # of the largest number of 64 bits

NANOSECOND = 1
MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_DURATION_UNITS = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
    "d": DAY,
    "D": DAY,
    "w": 7 * DAY,
    "W": 7 * DAY,
    "M": 30 * DAY,
    "y": 365 * DAY,
    "Y": 365 * DAY,
}
_FRACTION_DIGITS = 20
_WHOLE: int = 10**_FRACTION_DIGITS
_DURATION_PART = r"([0-9]{1,20})(?:\.([0-9]{1,20}))?(ns|us|ms|[smhdDwWMyY])"
_FORMAT_UNITS = (
    ("h", HOUR),
    ("m", MINUTE),
    ("s", SECOND),
    ("ms", MILLISECOND),
    ("us", MICROSECOND),
    ("ns", 1),
)

_SIZE = r"(?i)([0-9]{1,20})(?:(B)|([KMGT])(?:I?B)?)?"
_SIZE_EXPONENT = {"K": 1, "M": 2, "G": 3, "T": 4}
_SIZE_NAMES = ("B", "KiB", "MiB", "GiB", "TiB")


def whole_number(text: str) -> int | None:
    """Return the number that decimal digits say, or None for other text, or for more than 64 bits hold."""
    found = int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None
    return found if found is not None and found < 2**64 else None


@lru_cache(maxsize=256)  # most roles of an organisation say the same few
def parse_duration(text: str) -> int:
    """Return nanoseconds in `text`, such as `72h`, `1d12h` or `1.5s`; `0` needs no unit.

    Raises:
        ValueError: no duration, one without a unit or below zero, a fraction of a nanosecond, or more than 64 bits hold.
    """
    if text == "0":
        return 0
    parts = list(re.finditer(_DURATION_PART, text))
    if not parts or "".join(part[0] for part in parts) != text:
        if text.startswith("-"):
            raise ValueError(
                f"{text!r} is no duration, which cannot be negative; write 0 for none or no limit"
            )
        if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text):
            raise ValueError(f"{text!r} has no unit; write for example {text}s, {text}m or {text}h")
        raise ValueError(
            f"{text!r} is no duration; write a number with ns, us, ms, s, m, h, d, w, M or y, such as 72h or 2m30s"
        )
    total, rest = divmod(
        sum(
            int(whole + fraction.ljust(_FRACTION_DIGITS, "0")) * _DURATION_UNITS[unit]
            for whole, fraction, unit in (part.groups("") for part in parts)
        ),
        _WHOLE,
    )
    if rest:
        raise ValueError(f"{text!r} is no whole number of nanoseconds")
    if total > MAX_INT64:
        raise ValueError(f"{text!r} is longer than the server can hold (about 292 years)")
    return total


def format_duration(nanoseconds: int) -> str:
    """Return the shortest exact form in hours and below; `parse_duration` reads it back: 259200000000000 -> `72h`."""
    if nanoseconds < 0:
        return f"-{format_duration(-nanoseconds)}"
    parts = []
    for unit, length in _FORMAT_UNITS:
        count, nanoseconds = divmod(nanoseconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def age(at: str, now: str) -> int | None:
    """Return nanoseconds from `at` to `now`, both RFC 3339, to the microsecond and never below zero; None if one is empty."""
    if not (at and now):
        return None
    passed = datetime.fromisoformat(now) - datetime.fromisoformat(at)
    return max(0, passed // timedelta(microseconds=1)) * MICROSECOND


def format_age(nanoseconds: int) -> str:
    """Return an age for people, to its two largest units: `45s`, `3m20s`, `2d4h`; below a second `0s`."""
    left = nanoseconds // SECOND * SECOND
    parts: list[str] = []
    for unit, length in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)):
        count, left = divmod(left, length)
        if parts and not count:
            break
        if count:
            parts.append(f"{count}{unit}")
        if len(parts) == 2:  # noqa: PLR2004 - the two largest
            break
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Return bytes in `text`, such as `100MB` or `104857600`; `-1` means unlimited.

    Raises:
        ValueError: no size, a fraction, or more than 64 bits hold.
    """
    if text == "-1":
        return -1
    match = re.fullmatch(_SIZE, text)
    if not match:
        raise ValueError(
            f"{text!r} is no size; write a whole number with B, KB, MB, GB or TB (1024-based), such as 100MB, or -1 for unlimited"
        )
    size: int = int(match[1]) * 1024 ** _SIZE_EXPONENT.get((match[3] or "").upper(), 0)
    if size > MAX_INT64:
        raise ValueError(f"{text!r} is more than the server can hold (8 EiB)")
    return size


def format_size(size: int) -> str:
    """Return `size` bytes for people: `100 MiB`, or rounded to a tenth (`3.1 MiB`) where it is not exact."""
    if size < 0:
        return "unlimited"
    exponent = 0
    while exponent < len(_SIZE_NAMES) - 1 and size >= 1024 ** (exponent + 1):
        exponent += 1
    whole, rest = divmod(size, 1024**exponent)
    return (
        f"{whole} {_SIZE_NAMES[exponent]}"
        if not rest
        else f"{size / 1024**exponent:.1f} {_SIZE_NAMES[exponent]}"
    )
