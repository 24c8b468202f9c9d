"""Lines that wrap with their indent on a terminal, and never when piped. Knows no plans; the only user of rich's text.

Every text passes `clean` here, and is never read as markup: nothing that a stranger named can reach the terminal
as a control sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyborg_infra.render.values import clean

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

Span = str | tuple[str, str]
"""Text, or text with a style of rich's (`green`, `bold`)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of spans; where it does not fit it goes on `hang` further to the right."""

    spans: tuple[Span, ...]
    indent: int = 0
    hang: int = 4
    only_on_terminal: bool = False

    def rows(self, console: Console, width: int | None) -> Iterator[Text]:
        """The rows that this line takes in `width` columns, or the one row without a width."""
        text = _text(self.spans)
        if width is None:
            yield _text((" " * self.indent,)) + text
            return
        margin = self.indent
        while True:
            first, *rest = text.wrap(console, max(width - margin, 20), overflow="fold") or [text]
            yield _text((" " * margin,)) + first
            if not rest:
                return
            text = text[len(first) :]
            text = text[len(text.plain) - len(text.plain.lstrip(" ")) :]
            margin = self.indent + self.hang


@dataclass(frozen=True, slots=True)
class Flow:
    """Items one after the other, broken between items and never inside one that fits."""

    items: tuple[str, ...]
    indent: int = 0
    only_on_terminal: bool = False

    def rows(self, console: Console, width: int | None) -> Iterator[Text]:
        """As many items in a row as fit."""
        room = None if width is None else width - self.indent
        for row in _packed(self.items, room):
            yield from Line((row,), self.indent).rows(console, width)


def _packed(items: Sequence[str], room: int | None) -> Iterator[str]:
    row = ""
    for item in items:
        longer = f"{row}, {item}" if row else item
        if row and room is not None and len(longer) >= room:
            yield f"{row},"
            row = item
        else:
            row = longer
    if row:
        yield row


@dataclass(frozen=True, slots=True)
class Table:
    """Aligned columns under a head. The last one moves to a line of its own where the terminal is too narrow."""

    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    indent: int = 0
    only_on_terminal: bool = False

    def rows(self, console: Console, width: int | None) -> Iterator[Text]:
        """Head and body; no cell is ever shortened."""
        cells = [self.head, *self.body]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.head))]
        needed = self.indent + sum(widths) + 2 * (len(widths) - 1)
        fits = width is None or needed <= width
        for number, row in enumerate(cells):
            style = "bold" if number == 0 else ""
            shown = row if fits else row[:-1]
            padded = "  ".join(cell.ljust(size) for cell, size in zip(shown, widths, strict=False))
            yield from Line(((padded.rstrip(), style),), self.indent).rows(console, width)
            if not fits and row[-1]:
                yield from Line(((row[-1], style),), self.indent + 4).rows(console, width)


Block = Line | Flow | Table


@dataclass(frozen=True, slots=True)
class Page:
    """What `console.print` takes: lines, flows and tables from top to bottom."""

    blocks: tuple[Block, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        width = None if options.no_wrap else options.max_width
        for block in self.blocks:
            if block.only_on_terminal and not console.is_terminal:
                continue
            for row in block.rows(console, width):
                yield from row.render(console)
                yield Segment.line()


def line(*spans: Span, indent: int = 0, hang: int = 4) -> Line:
    """A line of these spans; without any, an empty one."""
    return Line(spans, indent, hang)


def _text(spans: Sequence[Span]) -> Text:
    from rich.text import Text

    text = Text()
    for span in spans:
        content, style = (span, "") if isinstance(span, str) else span
        text.append(clean(content), style or None)
    return text
