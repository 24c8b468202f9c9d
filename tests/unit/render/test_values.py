"""Wire values in words, and the two consoles."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from cyborg_infra.model.fields import Kind
from cyborg_infra.model.units import HOUR, MINUTE
from cyborg_infra.render.terminal import console
from cyborg_infra.render.terminal.layout import Page, line
from cyborg_infra.render.values import both, escape_control, few, human

BOLD = Page((line(("x", "bold red")),))


@pytest.mark.parametrize(
    ("kind", "name", "value", "expected"),
    [
        ("stream", "max_age", 72 * HOUR, "72h (259200000000000)"),
        ("stream", "max_age", 0, "forever (0)"),
        ("stream", "max_age", None, "forever (0)"),
        ("stream", "max_bytes", 104857600, "100 MiB (104857600)"),
        ("stream", "max_bytes", -1, "unlimited (-1)"),
        ("stream", "max_msgs", 10000, "10000"),
        ("stream", "max_consumers", -1, "server default (-1)"),
        ("stream", "allow_direct", True, "true"),
        ("stream", "storage", "file", "file"),
        ("stream", "description", "a b", '"a b"'),
        ("stream", "mirror", None, "none"),
        ("stream", "subjects", ["a", "b"], "[a, b]"),
        (
            "stream",
            "consumer_limits",
            {"max_ack_pending": 5, "inactive_threshold": MINUTE},
            "{inactive_threshold: 1m (60000000000), max_ack_pending: 5}",
        ),
        ("stream", "sources", [{"name": "A"}], '[{name: "A"}]'),
        ("stream", "metadata.team", "a", '"a"'),
        ("stream", "metadata.team", None, "none"),
        ("consumer", "max_bytes", 0, "unlimited (0)"),
        ("consumer", "num_replicas", 0, "as its stream (0)"),
        ("consumer", "backoff", [MINUTE], "[1m (60000000000)]"),
        ("consumer", "filter_subject", "", "none"),
    ],
)
def test_a_value_in_words_and_raw(kind: str, name: str, value: Any, expected: str) -> None:
    assert expected == both(Kind(kind), name, value)


def test_a_table_has_the_words_alone() -> None:
    assert human(Kind.STREAM, "max_age", 72 * HOUR) == "72h"


@pytest.mark.parametrize("text", ["plain", "Zürich", "日本", "a" * 300])
def test_what_can_be_printed_stays(text: str) -> None:
    assert text == escape_control(text)


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\x9b", "\r", "\u202e", "\u2028", "\ud800", "\x7f"])
def test_what_could_control_a_terminal_is_written_out(text: str) -> None:
    assert escape_control(text).isprintable()
    assert escape_control(text).encode()
    assert escape_control(text) == escape_control(escape_control(text))


def test_few_say_how_many_more() -> None:
    assert few(["a", "b"]) == ["a", "b"]
    assert few([str(number) for number in range(15)]) == ["0", "1", "2", "(and 12 more)"]


class _Terminal:
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing to do."""


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    """Standard output becomes a terminal that knows colours; in the test itself, since pytest resets it after fixtures."""
    stream = _Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def test_a_terminal_has_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    console.stdout().print(BOLD)
    assert "\x1b[" in terminal.text


def test_no_color_means_no_sequence_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    console.stdout(no_color=True).print(BOLD)
    monkeypatch.setenv("NO_COLOR", "1")
    console.stdout().print(BOLD)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    console.stdout().print(BOLD)
    assert terminal.text == "x\nx\nx\n"


def test_what_is_no_terminal_gets_whole_lines_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * 100
    console.stdout().print(Page((line((long, "red")),)))
    console.stderr().print(Page((line(":smile: [bold]12[/bold]"),)))
    captured = capsys.readouterr()
    assert captured.out == f"{long}\n"
    assert captured.err == ":smile: [bold]12[/bold]\n"
