"""Lines that wrap with their indent on a terminal, and never when piped. Knows no plans.

Every text passes `clean` here and is never read as markup, so that nothing a stranger named reaches the terminal as
a control sequence.
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
    """One line of spans; where it does not fit it goes on `hang` columns further to the right."""

    spans: tuple[Span, ...] = ()
    indent: int = 0
    hang: int = 4

    def rows(self, console: Console, width: int | None) -> Iterator[Text]:
        """The rows that this line takes in `width` columns; one row without a width."""
        text = _text(self.spans)
        if width is None:
            yield _indented(text, self.indent)
            return
        margin = min(self.indent, width // 2)
        while True:
            row = next(iter(text.wrap(console, width - margin, overflow="fold")), text)
            left = _without_leading_spaces(text[len(row) :])
            row.rstrip()
            yield _indented(row, margin)
            if not left.plain:
                return
            text = left
            margin = min(self.indent + self.hang, width // 2)


@dataclass(frozen=True, slots=True)
class Flow:
    """Items one after the other, broken between items, never inside one that fits. `broken` ends an unfinished row."""

    items: tuple[str, ...]
    indent: int = 0
    hang: int = 0
    glue: str = ", "
    broken: str = ","

    def rows(self, console: Console, width: int | None) -> Iterator[Text]:
        """As many items in a row as fit."""
        indent = self.indent
        row = ""
        for item in self.items:
            longer = f"{row}{self.glue}{item}" if row else item
            if row and width is not None and indent + len(longer) + len(self.broken) > width:
                yield from Line((row + self.broken,), indent).rows(console, width)
                indent = self.indent + self.hang
                row = item
            else:
                row = longer
        if row:
            yield from Line((row,), indent).rows(console, width)


@dataclass(frozen=True, slots=True)
class Table:
    """Aligned columns. No cell is ever shortened: where the terminal is too narrow, the last column moves below.

    A space in the head breaks it over two rows. A body row of a single cell is the heading of those below it.
    """

    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    indent: int = 0

    def rows(self, console: Console, width: int | None) -> Iterator[Text]:
        """Head and body."""
        from rich.cells import cell_len

        heads = self._heads()
        full = [*heads, *(row for row in self.body if len(row) > 1)]
        sizes = [max(cell_len(clean(row[column])) for row in full) for column in range(len(self.head))]
        fits = width is None or self.indent + sum(sizes) + 2 * (len(sizes) - 1) <= width
        for number, row in enumerate([*heads, *self.body]):
            style = "bold" if number < len(heads) or len(row) == 1 else ""
            beside = row if fits or len(row) == 1 else row[:-1]
            padded = (
                cell + " " * (size - cell_len(cell))
                for cell, size in zip(map(clean, beside), sizes, strict=False)
            )
            outdent = 2 if len(row) == 1 else 0
            yield from Line((("  ".join(padded).rstrip(), style),), self.indent - outdent).rows(
                console, width
            )
            if len(beside) < len(row) and row[-1]:
                yield from Line(((row[-1], style),), self.indent + 4, hang=2).rows(console, width)

    def _heads(self) -> list[tuple[str, ...]]:
        """The head in as many rows as its tallest cell needs, the words at the bottom."""
        words = [cell.split(" ") for cell in self.head]
        height = max(len(each) for each in words)
        return [tuple(([""] * (height - len(each)) + each)[row] for each in words) for row in range(height)]


@dataclass(frozen=True, slots=True)
class OnTerminal:
    """A block that only a person at a terminal is told."""

    block: Line

    def rows(self, console: Console, width: int | None) -> Iterator[Text]:
        """The block's rows on a terminal, nothing elsewhere."""
        if console.is_terminal:
            yield from self.block.rows(console, width)


Block = Line | Flow | Table | OnTerminal


@dataclass(frozen=True, slots=True)
class Page:
    """What `console.print` takes: blocks from top to bottom."""

    blocks: tuple[Block, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        width = None if options.no_wrap else options.max_width
        for block in self.blocks:
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


def _indented(text: Text, margin: int) -> Text:
    return _text((" " * margin,)) + text if margin and text.plain else text


def _without_leading_spaces(text: Text) -> Text:
    return text[len(text.plain) - len(text.plain.lstrip(" ")) :] if text.plain.strip(" ") else text[:0]
