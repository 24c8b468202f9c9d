"""How an apply goes on: a bar on a terminal, a plain line for each change and each wait elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cyborg_infra.model.plan import Outcome, ResultStatus
from cyborg_infra.render.terminal import plan as text
from cyborg_infra.render.terminal.console import Plain

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def bar(
    console: Console | Plain, total: int
) -> Iterator[tuple[Callable[[Outcome], None], Callable[[str], None]]]:
    """Yield two functions, to call with every outcome and with every text on what is waited for. The bar is gone afterwards; failures stay."""
    if isinstance(console, Plain):

        def say(outcome: Outcome) -> None:
            if outcome.status is not ResultStatus.NOT_REACHED:  # those are listed at the end
                console.print(text.outcome(outcome))

        yield say, lambda sentence: console.print(text.wait(sentence))
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Changes per second, over the last half minute."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (
        TextColumn("Applying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("left"),
        TextColumn("{task.fields[waits]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("apply", total=total, waits="")

        def tell(outcome: Outcome) -> None:
            if outcome.status is ResultStatus.FAILED:
                console.print(text.outcome(outcome))
            shown.update(task, advance=1, waits="")

        yield tell, lambda sentence: shown.update(task, waits=sentence, refresh=True)
