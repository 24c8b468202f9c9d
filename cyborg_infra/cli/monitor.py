"""`monitor`: watch an organisation for as long as it runs, and show it: metrics, health, and a page. Writes nothing."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.options import MANIFEST, Env, Manifest, seconds
from cyborg_infra.files import Unreadable, read_text
from cyborg_infra.model.notification_settings import ReceiverSource
from cyborg_infra.model.problems import EXIT_ERROR, CyborgError, Problem, UsageInvalid
from cyborg_infra.model.project import pip_install
from cyborg_infra.operations import targets

EXAMPLES = "Example: cyborg-infra monitor org.yaml --listen 127.0.0.1:9464"

SHORTEST_INTERVAL = 1.0
"""Seconds between two readings: a server has other things to do."""

_OBJECTS_UNTIL_CYCLES = 100_000
"""So many more objects than were dropped until cycles among them are looked for."""

TOKEN_VARIABLE = "CYBORG_INFRA_MONITOR_TOKEN"

Interval = Annotated[
    str, typer.Option("--interval", help="How often it reads the account.", metavar="DURATION")
]
DriftInterval = Annotated[
    str,
    typer.Option(
        "--drift-interval",
        help="How often it plans, to see whether somebody changed the server.",
        metavar="DURATION",
    ),
]
Listen = Annotated[
    str,
    typer.Option(
        "--listen", help="Where it serves /metrics, /healthz, /readyz and the page.", metavar="HOST:PORT"
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert", help="Certificate chain that it serves with, PEM.", metavar="FILE", show_default=False
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", help="Key of the certificate, PEM.", metavar="FILE", show_default=False),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help=f"File with the token that readers have to send, as a bearer or as a password [{TOKEN_VARIABLE} is the token itself].",
        metavar="FILE",
        show_default=False,
    ),
]
Anonymous = Annotated[
    bool, typer.Option("--anonymous", help="Let everybody read who can reach the address, without a token.")
]
Notify = Annotated[
    list[str] | None,
    typer.Option(
        "--notify",
        help="Who is told of alarms and dead letters, in the place of the manifest's receivers: an Apprise URL, or env:VARIABLE or file:FILE that has it; NAME= before it names it. May be repeated.",
        metavar="[NAME=]URL",
        show_default=False,
    ),
]
TryReceivers = Annotated[
    bool,
    typer.Option(
        "--try-receivers",
        help="Send each receiver one message, say who has taken it, and end; exit 1 if somebody has not.",
    ),
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        help="File in which it remembers what was told, so that a restart tells nothing twice [memory].",
        metavar="FILE",
        show_default=False,
    ),
]


@connected
def command(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    interval: Interval = "15s",
    drift_interval: DriftInterval = "5m",
    listen: Listen = "127.0.0.1:9464",
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    token_file: TokenFile = None,
    anonymous: Anonymous = False,
    notify: Notify = None,
    state: State = None,
    try_receivers: TryReceivers = False,
    flags: targets.Flags,
) -> None:
    """Watch an organisation, and serve what is seen.

    Metrics, alarms and drift, until Ctrl-C; and tell people. Needs cyborg-infra[monitor]. Writes nothing to the server, but that a dead letter was told. A server that is down, or an account that cannot be read, is an alarm and no end.
    """
    import gc

    from cyborg_infra.operations import status

    try:
        from cyborg_infra.operations import monitor as operation
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None

    every = _at_least("--interval", interval)
    drift_every = _at_least("--drift-interval", drift_interval)
    host, port = _address(listen)
    if bool(tls_cert) != bool(tls_key):
        raise UsageInvalid(Problem("usage", "--tls-cert and --tls-key go together"))
    http = operation.HttpSettings(host, port, tls_cert, tls_key, _token(token_file), anonymous)
    server = target_of(flags)
    subject = status.load_status_request(manifest, env)
    settings = subject.org.notifications
    sources = _receivers(notify) if notify else settings.receivers
    notifications = operation.NotificationRequest(
        settings, operation.load_receivers(sources, os.environ), str(state or ""), manifest
    )
    if try_receivers:
        _report_receivers(operation.try_receivers(notifications, subject.org))
        return
    request = operation.MonitorRequest(
        subject, interval=every, drift_interval=drift_every, http=http, notifications=notifications
    )
    # See __main__: this runs for days. Looked for as often as Python does of itself, cycles take a third of a reading of
    # 10,000 roles (3.2 s, 2.1 without; measured): a reading makes a million objects, and drops them by itself.
    gc.freeze()  # the manifest stays
    gc.set_threshold(_OBJECTS_UNTIL_CYCLES)
    gc.enable()
    operation.run(request, server, lambda url: _say(f"Watching {request.subject.org.name}: {url}\n"))
    _say("Stopped.\n")


def _not_installed(error: ModuleNotFoundError) -> CyborgError:
    """Return what to say where the extra is not installed. Raises the error itself where something of ours is missing."""
    if (error.name or "").startswith("cyborg_infra"):
        raise error
    return CyborgError(
        Problem(
            "not-installed",
            f"the monitor needs {error.name}, which is not installed",
            None,
            pip_install("monitor"),
        )
    )


_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"


def _say(line: str) -> None:
    """Print it. Where that cannot be, because the disk of its log is full, it is watched all the same."""
    with contextlib.suppress(OSError):
        sys.stderr.write(line)
        sys.stderr.flush()


def _receivers(given: list[str]) -> list[ReceiverSource]:
    """Return the receivers that are given by hand, which are never quoted: there may be a secret in them."""
    found = []
    for number, text in enumerate(given, 1):
        named = re.fullmatch(rf"(?:({_NAME})=)?(env:|file:(?!//))?(.+)", text, re.DOTALL)
        if named is None:
            raise UsageInvalid(Problem("usage", "--notify: an empty receiver"))
        name, where, place = named.groups()
        match where:
            case "env:":
                found.append(ReceiverSource(name or _known_as(place, number), env=place))
            case "file:":
                found.append(ReceiverSource(name or _known_as(place, number), file=place))
            case _:
                found.append(ReceiverSource(name or _known_as("", number), url=place))
    return found


def _known_as(place: str, number: int) -> str:
    """Return what a receiver is called that was given no name: as the variable or the file that has its URL."""
    name = "" if "://" in place else Path(place).name
    return name if re.fullmatch(_NAME, name) else f"notify-{number}"


def _report_receivers(reasons: Mapping[str, str]) -> None:
    """Say who has taken a message. Raises UsageInvalid if there is nobody, and exits 1 if somebody has not."""
    if not reasons:
        hint = "name receivers in the manifest, under alerts: notify, or by --notify"
        raise UsageInvalid(Problem("no-receiver", "there are no receivers", None, hint))
    for name, reason in reasons.items():
        sys.stdout.write(f"{name}: {f'not delivered: {reason}' if reason else 'delivered'}\n")
    if any(reasons.values()):
        raise typer.Exit(EXIT_ERROR)


def _at_least(option: str, text: str) -> float:
    if (found := seconds(option, text)) < SHORTEST_INTERVAL:
        raise UsageInvalid(Problem("usage", f"{option}: at least {SHORTEST_INTERVAL:g}s"))
    return found


def _address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[::1]:PORT` or `:PORT`. Raises UsageInvalid."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the highest port
        raise UsageInvalid(
            Problem(
                "usage", f"--listen: {text!r} is no address", None, "write HOST:PORT, such as 127.0.0.1:9464"
            )
        )
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - what was asked for


def _token(file: Path | None) -> str:
    """Return the token, or nothing. Raises UsageInvalid for a file that cannot be read, or has none in it."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        found = read_text(file).strip()
    except Unreadable as error:
        raise UsageInvalid(Problem("usage", f"--token-file: {file}: {error}")) from None
    if not found:
        raise UsageInvalid(Problem("usage", f"--token-file: {file} has no token in it"))
    return found
