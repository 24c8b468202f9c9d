"""Read the status of an organisation, once or repeatedly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.naming import existing_channels, template_name
from cyborg_infra.core.operate import status as judge
from cyborg_infra.live.api.jetstream import JetStream, connect_account
from cyborg_infra.live.connection.target import Target
from cyborg_infra.live.read.status import read_status
from cyborg_infra.manifest.load import load
from cyborg_infra.manifest.suggest import nearest
from cyborg_infra.model import channels
from cyborg_infra.model.organisation import BROADCAST_ACK, LAG, Alerts, Org
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.status import OrgStatus
from cyborg_infra.operations.event_loop import run_coroutine
from cyborg_infra.operations.expected_server import check_expected_server


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """What a status is of: an organisation with its thresholds, or some of its roles alone."""

    org: Org
    desired: DesiredState
    alerts: Alerts
    roles: tuple[str, ...] | None = None


def load_status_request(
    path: str,
    env: str | None = None,
    *,
    roles: Sequence[str] = (),
    lag: int | None = None,
    broadcast_ack: int | None = None,
) -> StatusRequest:
    """Return the organisation of the manifest; thresholds that are given win over its own.

    Raises ManifestInvalid, or UsageInvalid for a role that it does not have.
    """
    org = load(path, env)
    given = {name: value for name, value in ((LAG, lag), (BROADCAST_ACK, broadcast_ack)) if value is not None}
    return status_request(org, org.alerts._replace(given=given), roles)


def status_request(org: Org, alerts: Alerts, roles: Sequence[str] = ()) -> StatusRequest:
    """Return the organisation of a value. Raises UsageInvalid for a role that it does not have."""
    for role in roles:
        require_role(org, role)
    return StatusRequest(org, expand(org), alerts, tuple(roles) or None)


def require_role(org: Org, name: str) -> None:
    """Raise UsageInvalid, with the nearest name, unless the organisation has this role."""
    names = [role.name for role in org.roles]
    if name not in names:
        now = next((role.name for role in org.roles if role.renamed_from and role.renamed_from == name), None)
        close = nearest(name, names)
        hint = f"roles: {', '.join(names[:12])}"
        group = next((group for group in org.groups if group.name == name), None)
        if group:
            hint = f"it is a group: name one of its roles, {', '.join(group.members[:12])}"
        elif now or close:
            hint = f"it is called {now} now" if now else f"did you mean {close}?"
        raise UsageInvalid(Problem("unknown-role", f"{name!r} is no role of {org.name}", None, hint))


def status(subject: StatusRequest, target: Target) -> OrgStatus:
    """Return how the organisation is doing now. Writes nothing. Raises ServerFault where the account cannot be read."""

    async def read() -> OrgStatus:
        async with connect_account(target) as server:
            return await status_on(server, subject)

    return run_coroutine(read())


def watch(
    subject: StatusRequest, target: Target, interval: float, on_status: Callable[[OrgStatus], None]
) -> NoReturn:
    """Report the status to `on_status` every `interval` seconds, until Ctrl-C. Raises as `status`, when the server goes away too."""

    async def watching() -> NoReturn:
        async with connect_account(target) as server:
            while True:
                on_status(await status_on(server, subject))
                await asyncio.sleep(interval)

    run_coroutine(watching())
    raise AssertionError("unreachable: the loop ends by an exception")


async def status_on(server: JetStream, subject: StatusRequest) -> OrgStatus:
    """Return the status as `status` does, by a connection that is open."""
    org = subject.org
    seen = await read_status(
        server,
        org.name,
        subject.desired,
        broadcasts={
            Ref(template_name(org, channel.stream)): [
                org.subject(channel.subject_of(each)) for each in org.each_of(channel)
            ]
            for channel in existing_channels(org)
            if channel.stream and channel.name in (channels.BROADCASTS, channels.GROUP_BROADCASTS)
        },
        dead_letters=_stream_of(org, channels.DEAD_LETTERS),
    )
    if seen.live.server_info is not None:
        check_expected_server(org, seen.live.server_info)
    return judge.make_status(org, subject.desired, seen, subject.alerts, subject.roles)


def _stream_of(org: Org, name: str) -> Ref | None:
    """Return the one stream of a channel, or None if the organisation does not have it."""
    channel = org.channel(name)
    return Ref(template_name(org, channel.stream)) if channel and channel.stream else None
