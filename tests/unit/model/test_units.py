"""Sizes and durations follow the `nats` CLI's rules, and its garbage is refused."""

from __future__ import annotations

import pytest

from cyborg_infra.model.units import (
    DAY,
    HOUR,
    MAX_INT64,
    MICROSECOND,
    MILLISECOND,
    MINUTE,
    SECOND,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("0s", 0),
        ("1ns", 1),
        ("10us", 10 * MICROSECOND),
        ("250ms", 250 * MILLISECOND),
        ("8.2s", 8_200_000_000),
        ("2m", 2 * MINUTE),
        ("30m", 1_800_000_000_000),
        ("72h", 259_200_000_000_000),
        ("3d", 72 * HOUR),
        ("1D", DAY),
        ("1w", 604_800_000_000_000),
        ("1W", 7 * DAY),
        ("1M", 2_592_000_000_000_000),
        ("1y", 31_536_000_000_000_000),
        ("1Y", 365 * DAY),
        ("1d12h", 36 * HOUR),
        ("2m30s", 150 * SECOND),
        ("1h1h", 2 * HOUR),
        ("0.01d", DAY // 100),
        ("1.1w", 7 * DAY * 11 // 10),
        ("1.000000001s", SECOND + 1),
        ("9223372036854775807ns", MAX_INT64),
    ],
)
def test_a_duration_is_exact(text: str, expected: int) -> None:
    assert expected == parse_duration(text)


@pytest.mark.parametrize("text", ["90", "1.5", "00"])
def test_the_refusal_of_a_bare_number_names_durations_that_work(text: str) -> None:
    with pytest.raises(
        ValueError, match=f"'{text}' has no unit; write for example {text}s, {text}m or {text}h"
    ):
        parse_duration(text)


@pytest.mark.parametrize("text", ["-1", "-2m", "-0"])
def test_a_duration_below_zero_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is no duration, which cannot be negative; write 0"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "h",
        "1H",
        "1S",
        "1mo",
        "1min",
        "1 h",
        " 1h",
        "1h\n",
        "10µs",
        "foo5m",
        "1,5h",
        "P1D",
        "3.",
        ".",
        "1e3s",
        "1_000s",
        "٣h",
        "1.h",
        ".5h",
        "5m foo",
        "9" * 30 + "s",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_a_fraction_of_a_nanosecond_is_refused() -> None:
    with pytest.raises(ValueError, match="no whole number of nanoseconds"):
        parse_duration("0.5ns")


@pytest.mark.parametrize("text", ["999999y", "9223372036854775808ns", "293y"])
def test_what_the_server_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than the server can hold"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "0s"),
        (1, "1ns"),
        (259_200_000_000_000, "72h"),
        (90 * SECOND, "1m30s"),
        (HOUR + SECOND, "1h1s"),
        (-2 * MINUTE, "-2m"),
    ],
)
def test_a_duration_is_written_in_its_shortest_form(nanoseconds: int, expected: str) -> None:
    assert expected == format_duration(nanoseconds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1", -1),
        ("0", 0),
        ("104857600", 104_857_600),
        ("2147483648", 2_147_483_648),
        ("10B", 10),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("100MB", 104_857_600),
        ("100M", 104_857_600),
        ("100m", 104_857_600),
        ("100MiB", 104_857_600),
        ("100mib", 104_857_600),
        ("1GB", 1_073_741_824),
        ("1TB", 1_099_511_627_776),
        ("9223372036854775807", MAX_INT64),
    ],
)
def test_a_size_is_1024_based_whatever_its_suffix(text: str, expected: int) -> None:
    assert expected == parse_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "MB",
        "1.5GB",
        "100 MB",
        " 1MB",
        "1MB\n",
        "1PB",
        "1e6",
        "100_000",
        "-2",
        "-1MB",
        "--1",
        "+5",
        "1BB",
        "1iB",
        "1KBs",
        "0x10",
        "٣MB",
        "9" * 30,
        "unlimited",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["8388608TB", "9223372036854775808"])
def test_a_size_beyond_64_bits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="more than the server can hold"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (-1, "unlimited"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (104_857_600, "100 MiB"),
        (3_250_000, "3.1 MiB"),
        (2**40 * 2000, "2000 TiB"),
        (MAX_INT64, "8388608.0 TiB"),
    ],
)
def test_a_size_is_written_for_people(size: int, expected: str) -> None:
    assert expected == format_size(size)
