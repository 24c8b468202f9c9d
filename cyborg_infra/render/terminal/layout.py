"""Lines that wrap with their indent on a terminal, and never when piped; rich is needed for the terminal alone.

Every text passes `escape_control` here and is never read as markup, so that nothing a stranger named reaches the terminal as
a control sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.render.values import escape_control

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

Span = str | tuple[str, str]
"""Text, or text with a style of rich's (`green`, `bold`)."""


class Line(NamedTuple):
    """One line of spans; where it does not fit it goes on `hang` columns further to the right."""

    spans: tuple[Span, ...] = ()
    indent: int = 0
    hang: int = 4

    def lines(self, _width: int | None) -> Iterator[Line]:
        """Return the line itself."""
        yield self

    def plain(self) -> str:
        """Return the line in one piece, without its styles."""
        text = "".join(escape_control(span if isinstance(span, str) else span[0]) for span in self.spans)
        return " " * self.indent + text if text else ""

    def rows(self, console: Console, width: int) -> Iterator[Text]:
        """Yield the rows that this line takes in `width` columns."""
        text = _text(self.spans)
        margin = min(self.indent, max(width - 20, 0))
        while True:
            row = next(iter(text.wrap(console, width - margin, overflow="fold")), text)
            left = _without_leading_spaces(text[len(row) :])
            row.rstrip()
            yield _indented(row, margin)
            if not left.plain:
                return
            text = left
            margin = min(self.indent + self.hang, max(width - 20, 0))


class Flow(NamedTuple):
    """Items one after the other, broken between items, never inside one that fits. `broken` ends an unfinished row."""

    items: tuple[str, ...]
    indent: int = 0
    hang: int = 0
    glue: str = ", "
    broken: str = ","

    def lines(self, width: int | None) -> Iterator[Line]:
        """Yield as many items in a line as fit; all of them without a width."""
        indent = self.indent
        row = ""
        for item in self.items:
            longer = f"{row}{self.glue}{item}" if row else item
            if row and width is not None and indent + len(longer) + len(self.broken) > width:
                yield Line((row + self.broken,), indent)
                indent = self.indent + self.hang
                row = item
            else:
                row = longer
        if row:
            yield Line((row,), indent)


class Table(NamedTuple):
    """Aligned columns under a head. No cell is ever shortened.

    Where the terminal is too narrow, the last column wraps in its place; where not even its words fit there, it
    moves below, and the head breaks at its line feeds. A body row of a single cell is a heading, two columns out.
    """

    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    indent: int = 0

    def lines(self, width: int | None) -> Iterator[Line]:
        """Return head and body."""
        flat = [tuple(cell.replace("\n", "") for cell in self.head)]
        start = self.indent + sum(size + 2 for size in _sizes([*flat, *self.body])[:-1])
        longest = max(
            (cell_width(word) for row in self.body if row[1:] for word in row[-1].split()), default=0
        )
        below = width is not None and start + longest > width
        heads = _broken(self.head) if below and width is not None and start > width else flat
        sizes = _sizes([*heads, *self.body])
        for row in heads:
            yield self._row(row, sizes, "bold", below=below)
        for row in self.body:
            if len(row) == 1:
                yield Line(((row[0], "bold"),), self.indent - 2)
                continue
            yield self._row(row, sizes, "", below=below)
            if below:
                label = f"{self.head[-1].lower()}: "
                yield Line((label, row[-1]), self.indent + 4, hang=2)

    def _row(self, row: tuple[str, ...], sizes: Sequence[int], style: str, *, below: bool) -> Line:
        beside = [escape_control(cell) for cell in (row[:-1] if below else row)]
        padded = [cell + " " * (size - cell_width(cell)) for cell, size in zip(beside, sizes, strict=False)]
        hang = 4 if below else sum(size + 2 for size in sizes[:-1])
        return Line((("  ".join(padded).rstrip(), style),), self.indent, hang)


def _sizes(rows: Sequence[tuple[str, ...]]) -> list[int]:
    """Return how wide each column has to be; headings do not count."""
    full = [row for row in rows if len(row) > 1]
    return [max(cell_width(escape_control(cell)) for cell in column) for column in zip(*full, strict=True)]


def _broken(head: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the head as rows, one for each line of its tallest cell; the cells' last lines are level."""
    cells = [cell.split("\n") for cell in head]
    height = max(len(lines) for lines in cells)
    return list(zip(*([""] * (height - len(lines)) + lines for lines in cells), strict=True))


def cell_width(text: str) -> int:
    """Return how many columns a terminal gives to `text`."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


class Either(NamedTuple):
    """What a person at a terminal is told, and what a pipe or a file gets; made when it is known which it is."""

    on_terminal: Callable[[], Iterable[Block]]
    elsewhere: Callable[[], Iterable[Block]] = tuple

    def lines(self, width: int | None) -> Iterator[Line]:
        """Yield the lines of one of the two: without a width there is no terminal."""
        for block in self.elsewhere() if width is None else self.on_terminal():
            yield from block.lines(width)


Block = Line | Flow | Table | Either


class Page(NamedTuple):
    """What `console.print` takes: blocks from top to bottom."""

    blocks: tuple[Block, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for block in self.blocks:
            for each in block.lines(options.max_width):
                for row in each.rows(console, options.max_width):
                    yield from row.render(console)
                    yield Segment.line()

    def plain(self) -> Iterator[str]:
        """Yield the lines as they are where there is no terminal: whole, and without styles."""
        for block in self.blocks:
            for each in block.lines(None):
                yield each.plain()


def line(*spans: Span, indent: int = 0, hang: int = 4) -> Line:
    """Return a line of these spans; without any, an empty one."""
    return Line(spans, indent, hang)


def _text(spans: Sequence[Span]) -> Text:
    from rich.text import Text

    text = Text()
    for span in spans:
        content, style = (span, "") if isinstance(span, str) else span
        text.append(escape_control(content), style or None)
    return text


def _indented(text: Text, margin: int) -> Text:
    return _text((" " * margin,)) + text if margin and text.plain else text


def _without_leading_spaces(text: Text) -> Text:
    return text[len(text.plain) - len(text.plain.lstrip(" ")) :] if text.plain.strip(" ") else text[:0]
