"""How an apply goes on: a bar on a terminal, a plain line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cyborg_infra.model.plan import Done, Outcome
from cyborg_infra.render import text

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def bar(console: Console, total: int) -> Iterator[Callable[[Outcome], None]]:
    """A function that is told of every outcome. Failures are always printed; the bar is gone afterwards."""
    if not console.is_terminal:
        yield lambda outcome: console.print(text.outcome(outcome))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("Applying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("apply", total=total)

        def tell(outcome: Outcome) -> None:
            if outcome.done is Done.FAILED:
                console.print(text.outcome(outcome))
            shown.advance(task)

        yield tell
