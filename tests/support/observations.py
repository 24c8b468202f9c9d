"""What a monitor may know, without a server: the organisation of org.yaml in trouble, and large ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cyborg_infra.manifest.load import load, loads
from cyborg_infra.model.changes import Action
from cyborg_infra.model.dead_letters import DeadLetter, DeathType, MessageLocation
from cyborg_infra.model.monitor import DriftReading, Observation, WatchedLetter
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import Version
from cyborg_infra.model.status import (
    STATES,
    Alarm,
    BroadcastReceipt,
    BroadcastStatus,
    Condition,
    DeadLetterSummary,
    LimitUsage,
    OrgStatus,
    QueueStatus,
    RoleStatus,
    StreamStatus,
)
from cyborg_infra.model.units import DAY, HOUR, MINUTE, SECOND
from cyborg_infra.model.wording import Command, Option, worded

ORG = load(str(Path(__file__).parents[2] / "org.yaml"))
READ_AT = 1767582727.0
NOW = "2026-01-05T03:12:07Z"
"""The same moment by the server's clock."""

MARKUP = '<img src=x onerror="alert(1)">{{7*7}}{% if %} \'&amp; \u202egpj\x07'
"""A text that would be something else than text where nothing is escaped."""


def role_status(name: str, **queues: QueueStatus) -> RoleStatus:
    """Return a role with the worst of the states of its queues."""
    return RoleStatus(
        name, min((queue.state for queue in queues.values()), key=STATES.index), tuple(queues.values())
    )


def queue(
    role: str,
    channel: str,
    state: Condition = Condition.IDLE,
    waiting: int = 0,
    in_flight: int = 0,
    *,
    workers: int = 1,
    expired: int = 0,
    again: int = 0,
    oldest: int | None = None,
    active: int | None = None,
) -> QueueStatus:
    """Return a queue of a role; ages in nanoseconds."""
    ref = (
        Ref(f"AGENT_{role.upper().replace('-', '_')}_TASKS", f"{role}-worker")
        if channel == "tasks"
        else Ref("AGENT_INBOXES", f"{role}-inbox-reader")
    )
    return QueueStatus(
        channel, ref, state, waiting, in_flight, expired, again, workers, oldest, active, lag_threshold=5
    )


def letter(number: int, role: str, **others: object) -> DeadLetter:
    """Return a dead letter of a role's tasks."""
    found = DeadLetter(
        number,
        number,
        f"2026-01-05T02:{number:02}:11.123456789Z",
        DeathType.MAX_DELIVER,
        MessageLocation.STORED,
        f"AGENT_{role.upper()}_TASKS",
        480 + number,
        f"{role}-worker",
        role,
        3,
    )
    return replace(found, **others)  # type: ignore[arg-type]


def _broadcast(seq: int, age: int, *wanting: str, group: str = "") -> BroadcastStatus:
    answers = {
        role.name: BroadcastReceipt.OPEN if role.name in wanting else BroadcastReceipt.ACKNOWLEDGED
        for role in ORG.roles
    }
    return BroadcastStatus(seq, age, answers, Ref("ORG_BROADCASTS"), group)


def in_trouble() -> Observation:
    """Return seven roles at a bad time, with foreign texts that have markup in them."""
    roles = (
        role_status(
            "ceo",
            tasks=queue("ceo", "tasks", active=2 * HOUR),
            inbox=queue("ceo", "inbox", Condition.WORKING, 2, 1, oldest=30 * SECOND, active=20 * SECOND),
        ),
        role_status(
            "cto",
            tasks=queue("cto", "tasks", Condition.WORKING, 2, 3, oldest=75 * SECOND, active=4 * SECOND),
            inbox=queue("cto", "inbox"),
        ),
        role_status("cso", tasks=queue("cso", "tasks", active=500 * SECOND), inbox=queue("cso", "inbox")),
        role_status(
            "marketing",
            tasks=queue("marketing", "tasks", Condition.NO_WORKER, 1, workers=0, oldest=45 * MINUTE),
            inbox=queue("marketing", "inbox"),
        ),
        role_status(
            "backend",
            tasks=queue(
                "backend",
                "tasks",
                Condition.LAG,
                12,
                5,
                workers=0,
                again=2,
                oldest=21 * MINUTE,
                active=2 * SECOND,
            ),
            inbox=queue("backend", "inbox"),
        ),
        role_status(
            "frontend",
            tasks=queue(
                "frontend",
                "tasks",
                Condition.EXPIRED,
                3,
                2,
                workers=0,
                expired=2,
                oldest=83 * MINUTE,
                active=90 * MINUTE,
            ),
            inbox=queue("frontend", "inbox"),
        ),
        role_status(
            "devops",
            tasks=queue("devops", "tasks", Condition.WORKING, 0, 1, active=15 * MINUTE),
            inbox=queue("devops", "inbox"),
        ),
    )
    letters = (
        WatchedLetter(
            letter(52, "backend"), "7f9c2e", "Add passkeys to the login", "genbrain.agents.backend.tasks"
        ),
        WatchedLetter(
            letter(11, "frontend", type=DeathType.TERMINATED, reason=MARKUP), MARKUP, MARKUP, MARKUP
        ),
        WatchedLetter(letter(9, "frontend", type=DeathType.TERMINATED, original=MessageLocation.GONE)),
    )
    alarms = (
        Alarm(Condition.LAG, "backend: tasks: 12 waiting, more than 5", "backend", "tasks"),
        Alarm(
            Condition.EXPIRED,
            "frontend: tasks: 2 in flight for 1h30m, longer than ack_wait, and nobody pulls: no redelivery and no dead letter until somebody does",
            "frontend",
            "tasks",
        ),
        Alarm(
            Condition.NO_WORKER,
            "marketing: tasks: 1 waiting for 45m, and no worker is connected",
            "marketing",
            "tasks",
        ),
        Alarm(
            Condition.BROADCAST_ACK,
            "broadcast 7 to engineering, 50m old, is not acknowledged by marketing",
            about="ORG_BROADCASTS 7",
        ),
        Alarm(
            Condition.DEAD_LETTERS,
            worded(
                "backend: 1 dead letter, the newest 19m old; see {} {}",
                Command("dlq list"),
                Option("role", "backend"),
            ),
            "backend",
        ),
        Alarm(
            Condition.NEAR_LIMIT,
            "AGENT_INBOXES: 93% of max_bytes is used; at 100% new messages are refused",
            about="AGENT_INBOXES",
        ),
    )
    streams = (
        StreamStatus(Ref("AGENT_CTO_TASKS"), 12, 31_000, LimitUsage(0.02, "max_bytes")),
        StreamStatus(Ref("AGENT_INBOXES"), 1204, 480 << 20, LimitUsage(0.93, "max_bytes")),
        StreamStatus(
            Ref("ORG_BROADCASTS"),
            8,
            4096,
            LimitUsage(0.02, "max_age"),
            LimitUsage(0.61, "max_age", "marketing-broadcast-reader"),
        ),
    )
    status = OrgStatus(
        "genbrain",
        "production",
        ServerInfo(version=Version(2, 15, 1), level=2),
        NOW,
        ORG.alerts,
        roles,
        (
            _broadcast(8, 80 * SECOND, "ceo", "marketing"),
            _broadcast(7, 50 * MINUTE, "marketing", group="engineering"),
            _broadcast(6, DAY),
        ),
        DeadLetterSummary(3, letters[0].letter, 19 * MINUTE),
        streams,
        {},
        {},
        alarms,
    )
    drift = DriftReading(
        READ_AT - 130,
        {Action.UPDATE: 1},
        {Action.CREATE: 2},
        has_drift=True,
        applied_at=READ_AT - 3 * 86400,
        applied_by="0.9.0",
        complete=True,
    )
    drifted = Alarm(
        Condition.DRIFT,
        worded("changed on the server since it was applied: 1 to update; see {}", Command("drift")),
    )
    return Observation(
        "genbrain",
        "production",
        status,
        READ_AT,
        0.04,
        drift=drift,
        alarms=(*alarms, drifted),
        dead_letters=letters,
    )


def quiet(observation: Observation) -> Observation:
    """Return the same at a good time: nothing waits, nothing is above a threshold."""
    assert observation.status
    roles = tuple(
        role_status(role.name, **{each.channel: queue(role.name, each.channel) for each in role.queues})
        for role in observation.status.roles
    )
    status = replace(
        observation.status,
        roles=roles,
        broadcasts=observation.status.broadcasts[2:],
        streams=observation.status.streams[:1],
        dead_letters=DeadLetterSummary(0),
        alarms=(),
    )
    return replace(
        observation,
        status=status,
        alarms=(),
        dead_letters=(),
        drift=DriftReading(READ_AT, applied_at=READ_AT),
    )


def of_size(number: int) -> tuple[Org, Observation]:
    """Return an organisation of so many roles, six below each, of whom every seventh has too much to do."""
    lines = [
        f"  role-{each}: {{reports_to: role-{(each - 1) // 6}}}" if each else "  role-0:"
        for each in range(number)
    ]
    org = loads("org: acme\nroles:\n" + "\n".join(lines) + "\n")
    busy = {role.name for role in org.roles[::7]}
    roles = tuple(
        role_status(
            role.name,
            tasks=queue(role.name, "tasks", Condition.LAG, 9, 1)
            if role.name in busy
            else queue(role.name, "tasks"),
            inbox=queue(role.name, "inbox"),
        )
        for role in org.roles
    )
    alarms = tuple(
        Alarm(Condition.LAG, f"{name}: tasks: 9 waiting, more than 5", name, "tasks") for name in sorted(busy)
    )
    broadcast = BroadcastStatus(
        1, DAY, {role.name: BroadcastReceipt.OPEN for role in org.roles}, Ref("ORG_BROADCASTS")
    )
    base = in_trouble()
    assert base.status
    streams = tuple(
        StreamStatus(Ref(f"AGENT_ROLE_{each}_TASKS"), 9, 9000, LimitUsage(0.95, "max_bytes"))
        for each in range(number)
    )
    status = replace(
        base.status, org="acme", roles=roles, broadcasts=(broadcast,) * 10, streams=streams, alarms=alarms
    )
    return org, replace(base, org="acme", status=status, alarms=alarms)
