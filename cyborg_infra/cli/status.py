"""`status`: how the organisation is doing, and what is above a threshold. Writes nothing."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import MANIFEST, Env, Manifest, NoColor, connected, seconds
from cyborg_infra.cli.output import put_json, warn
from cyborg_infra.model.problems import EXIT_DIFFERENCES, Problem, UsageInvalid
from cyborg_infra.model.status import Status
from cyborg_infra.model.units import SECOND
from cyborg_infra.operations import status as operation

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
Check = Annotated[
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
    check: Check = False,
    watch: Watch = False,
    interval: Interval = "2s",
    output: StatusOutput = StatusFormat.TEXT,
    no_color: NoColor = False,
    flags: pipeline.Flags,
) -> None:
    """Show queues, broadcasts and dead letters of the organisation, and what is above a threshold.

    WORKERS are pull requests that wait for a message, AGAIN is what was delivered more than once, ACTIVE the time
    since the last delivery or acknowledgement.
    """
    if watch:
        _refuse_unless_watchable(output, check=check)
    every = seconds("--interval", interval)
    limit = None if broadcast_ack is None else int(seconds("--broadcast-ack", broadcast_ack) * SECOND)
    server = pipeline.resolve(flags, os.environ)
    warn(*server.warnings)
    subject = operation.watched(manifest, env, roles=role or (), lag=lag, broadcast_ack=limit)
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


def _put(found: Status, output: StatusFormat, *, check: bool, no_color: bool) -> None:
    from cyborg_infra.render import console, data, prometheus
    from cyborg_infra.render import status as text

    match output:
        case StatusFormat.JSON:
            put_json(data.status(found))
        case StatusFormat.PROMETHEUS:
            sys.stdout.write(prometheus.status(found))
        case StatusFormat.TEXT:
            page = text.alarms(found) if check else text.status(found)
            console.stdout(no_color=no_color).print(page)


def _watch(subject: operation.Watched, server: pipeline.Target, every: float, *, no_color: bool) -> None:
    """Ends with Ctrl-C, as something that was wanted, or with whatever keeps the status from being read."""
    from contextlib import suppress

    from rich.live import Live

    from cyborg_infra.render import console
    from cyborg_infra.render import status as text

    with (
        suppress(KeyboardInterrupt),
        Live(console=console.screen(no_color=no_color), auto_refresh=False) as screen,
    ):
        operation.watch(subject, server, every, lambda found: screen.update(text.status(found), refresh=True))
