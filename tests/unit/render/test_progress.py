"""How an apply goes on: outcomes and waits, on a terminal and elsewhere."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from cyborg_infra.model.changes import Update
from cyborg_infra.model.plan import Outcome, ResultStatus
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, LiveResource
from cyborg_infra.render.terminal import progress
from cyborg_infra.render.terminal.console import Plain

WAITS = "waiting for S: 1 of 3 copies current"


def shown(*, terminal: bool) -> str:
    """Return what is written of one wait and the outcome after it."""
    written = StringIO()
    console: Console | Plain = Plain(written)
    if terminal:
        console = Console(file=written, force_terminal=True, width=120, _environ={})
    with progress.bar(console, 2) as (tell, waits):
        waits(WAITS)
        tell(
            Outcome(Update(LiveResource(Ref("S"), {}), DesiredResource(Ref("S"), {})), ResultStatus.SUCCEEDED)
        )
    return written.getvalue()


def test_elsewhere_a_wait_is_a_line_before_the_outcome() -> None:
    assert shown(terminal=False).splitlines() == [f"  {WAITS}", "~ stream S: updated"]


def test_on_a_terminal_a_wait_stands_beside_the_bar_until_the_outcome() -> None:
    assert WAITS in shown(terminal=True)
    assert not shown(terminal=True).rstrip().endswith(WAITS)
