"""`status`: how the organisation is doing, and what is above a threshold. Writes nothing."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cyborg_infra.cli import complete
from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.options import MANIFEST, Env, Manifest, NoColor, seconds
from cyborg_infra.cli.output import put_json
from cyborg_infra.model.problems import EXIT_DIFFERENCES, Problem, UsageInvalid
from cyborg_infra.model.status import OrgStatus
from cyborg_infra.model.units import SECOND
from cyborg_infra.operations import targets

if TYPE_CHECKING:
    from cyborg_infra.operations import status as operation

SHORTEST = 0.1
"""Seconds between two looks of --watch: a server has other things to do."""

EXAMPLES = "Example: cyborg-infra status --check --lag 20"


class StatusFormat(StrEnum):
    """How a status is printed; prometheus is for a textfile collector."""

    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"


Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        help="Only this role, and what all share; may be repeated.",
        metavar="ROLE",
        show_default=False,
        autocompletion=complete.roles,
    ),
]
Lag = Annotated[
    int | None,
    typer.Option(
        "--lag",
        help="Most messages that may wait in a queue of a role [the manifest's alerts].",
        metavar="NUMBER",
        min=0,
        show_default=False,
    ),
]
BroadcastAck = Annotated[
    str | None,
    typer.Option(
        "--broadcast-ack",
        help="How long the roles have for a broadcast [the manifest's alerts].",
        metavar="DURATION",
        show_default=False,
    ),
]
CheckAlarms = Annotated[
    bool, typer.Option("--check", help="Print only what is above a threshold, and exit 2 if anything is.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Go on showing it on this terminal, until Ctrl-C.")]
Interval = Annotated[str, typer.Option("--interval", help="How often --watch looks.", metavar="DURATION")]
StatusOutput = Annotated[
    StatusFormat, typer.Option("--format", help="How to print it; prometheus is for a textfile collector.")
]


@connected
def command(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    role: Roles = None,
    lag: Lag = None,
    broadcast_ack: BroadcastAck = None,
    check: CheckAlarms = False,
    watch: Watch = False,
    interval: Interval = "2s",
    output: StatusOutput = StatusFormat.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Show queues, broadcasts, dead letters and alarms.

    WORKERS are pull requests that wait for a message, AGAIN is what is in flight and was delivered before, ACTIVE the
    time since the last delivery or acknowledgement.
    """
    from cyborg_infra.operations import status as operation

    if watch:
        _refuse_unless_watchable(output, check=check)
    if (every := seconds("--interval", interval)) < SHORTEST:
        raise UsageInvalid(Problem("usage", f"--interval: at least {SHORTEST:g}s"))
    limit = None if broadcast_ack is None else int(seconds("--broadcast-ack", broadcast_ack) * SECOND)
    server = target_of(flags)
    subject = operation.load_status_request(manifest, env, roles=role or (), lag=lag, broadcast_ack=limit)
    if watch:
        _watch(subject, server, every, no_color=no_color)
        return
    found = operation.status(subject, server)
    _put(found, output, check=check, no_color=no_color)
    if check and found.alarms:
        raise typer.Exit(EXIT_DIFFERENCES)


def _refuse_unless_watchable(output: StatusFormat, *, check: bool) -> None:
    if check or output is not StatusFormat.TEXT:
        raise UsageInvalid(Problem("usage", "--watch goes neither with --check nor with --format"))
    if not sys.stdout.isatty():
        hint = "leave out --watch, or use watch(1) or cron with --check"
        raise UsageInvalid(Problem("no-terminal", "--watch needs a terminal to show it on", None, hint))


def _put(status: OrgStatus, output: StatusFormat, *, check: bool, no_color: bool) -> None:
    from cyborg_infra.render import json_format, prometheus
    from cyborg_infra.render.terminal import console
    from cyborg_infra.render.terminal import status as text

    match output:
        case StatusFormat.JSON:
            put_json(json_format.status(status))
        case StatusFormat.PROMETHEUS:
            sys.stdout.write(prometheus.status(status))
        case StatusFormat.TEXT:
            page = text.alarms(status) if check else text.status(status)
            console.stdout(no_color=no_color).print(page)


def _watch(subject: operation.StatusRequest, server: targets.Target, every: float, *, no_color: bool) -> None:
    """Show the status until Ctrl-C. Raises whatever keeps the status from being read."""
    import gc
    from contextlib import suppress

    from rich.live import Live

    from cyborg_infra.operations import status as operation
    from cyborg_infra.render.terminal import console
    from cyborg_infra.render.terminal import status as text

    gc.enable()  # see __main__: this may run for days
    with (
        suppress(KeyboardInterrupt),
        Live(console=console.screen(no_color=no_color), auto_refresh=False) as screen,
    ):
        operation.watch(subject, server, every, lambda found: screen.update(text.status(found), refresh=True))
