"""How an organisation is doing, once or for as long as somebody looks. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from cyborg_infra.core import status as judge
from cyborg_infra.core.expand import expand
from cyborg_infra.core.namespace import org_subject, stream_name
from cyborg_infra.live.target import Target
from cyborg_infra.manifest.load import load
from cyborg_infra.manifest.schema import nearest
from cyborg_infra.model.org import Alerts, Org, StreamKind
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.state import Ref, State
from cyborg_infra.model.status import Status
from cyborg_infra.operations.place import refuse_unless_expected

if TYPE_CHECKING:  # asyncio and nats cost 100 ms: a wrong command line needs neither
    from cyborg_infra.live.jetstream import JetStream


@dataclass(frozen=True, slots=True)
class Watched:
    """What a status is of: an organisation with its thresholds, or some of its roles alone."""

    org: Org
    desired: State
    roles: tuple[str, ...] | None = None


def watched(
    path: str,
    env: str | None = None,
    *,
    roles: Sequence[str] = (),
    lag: int | None = None,
    broadcast_ack: int | None = None,
) -> Watched:
    """The organisation of the manifest; thresholds that are given win over its own.

    Raises ManifestInvalid, or UsageInvalid for a role that it does not have.
    """
    org = load(path, env)
    for role in roles:
        known_role(org, role)
    own = org.alerts
    alerts = Alerts(
        own.lag if lag is None else lag, own.broadcast_ack if broadcast_ack is None else broadcast_ack
    )
    org = replace(org, alerts=alerts)
    return Watched(org, expand(org), tuple(roles) or None)


def known_role(org: Org, name: str) -> None:
    """Returns if the organisation has this role. Raises UsageInvalid with the nearest name if it has not."""
    names = [role.name for role in org.roles]
    if name not in names:
        close = nearest(name, names)
        hint = f"did you mean {close}?" if close else f"roles: {', '.join(names[:12])}"
        raise UsageInvalid(Problem("unknown-role", f"{name!r} is no role of {org.name}", None, hint))


def status(subject: Watched, target: Target) -> Status:
    """How the organisation is doing now. Writes nothing. Raises ServerFault where the account cannot be read."""
    import asyncio

    from cyborg_infra.live.jetstream import opened

    async def run() -> Status:
        async with opened(target) as server:
            return await _status(server, subject)

    return asyncio.run(run())


def watch(subject: Watched, target: Target, interval: float, tell: Callable[[Status], None]) -> NoReturn:
    """`tell` hears of the status every `interval` seconds, until Ctrl-C. Raises as `status`, when the server goes away too."""
    import asyncio
    import gc

    from cyborg_infra.live.jetstream import opened

    gc.enable()  # see __main__: this may run for days

    async def run() -> NoReturn:
        async with opened(target) as server:
            while True:
                tell(await _status(server, subject))
                await asyncio.sleep(interval)

    asyncio.run(run())
    raise AssertionError("unreachable: the loop ends by an exception")


async def _status(server: JetStream, subject: Watched) -> Status:
    from cyborg_infra.live.observe import observe

    org = subject.org
    seen = await observe(
        server,
        org.name,
        subject.desired,
        broadcasts=Ref(stream_name(org, StreamKind.BROADCASTS)),
        broadcast=org_subject(org, "broadcasts"),
        dead_letters=Ref(stream_name(org, StreamKind.DEAD_LETTERS)),
    )
    if seen.live.facts is not None:
        refuse_unless_expected(org, seen.live.facts)
    return judge.status(org, subject.desired, seen, org.alerts, subject.roles)
