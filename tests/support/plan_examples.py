"""Plans built by hand, one for each thing that a reader may have to be told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyborg_infra.model.changes import (
    Adopt,
    Blocked,
    Cause,
    Change,
    Create,
    Delete,
    FieldChange,
    Hazard,
    HazardName,
    Migrate,
    Replace,
    Update,
)
from cyborg_infra.model.counting import Share
from cyborg_infra.model.metadata_keys import APPLIED_KEY, OWNER_KEY
from cyborg_infra.model.plan import Plan, Reservation
from cyborg_infra.model.problems import Problem, SourcePosition
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import ConsumerCounts, DesiredResource, DesiredState, StreamCounts
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import Version
from cyborg_infra.model.units import HOUR, MINUTE
from tests.support.live_resources import as_live

Golden = Callable[[Path, str], None]
CASES = Path(__file__).parents[1] / "cases" / "plan"

MIB = 1024 * 1024
FACTS = ServerInfo(
    Version(2, 15, 1),
    5,
    server="NB7",
    url="nats://127.0.0.1:4222",
    account="$G",
    source="NATS_URL",
)
ROLES = ("ceo", "cto", "cso", "backend", "frontend", "marketing", "devops")


def stream(name: str, owner: str = "genbrain", **config: Any) -> DesiredResource:
    """Return a stream of the organisation, or nobody's with an empty owner."""
    return _resource(Ref(name), config, owner)


def consumer(ref: str, owner: str = "genbrain", **config: Any) -> DesiredResource:
    """Return a durable pull consumer, `STREAM/name`."""
    name, durable = ref.split("/")
    return _resource(Ref(name, durable), {"ack_policy": "explicit"} | config, owner)


def _resource(ref: Ref, config: dict[str, Any], owner: str) -> DesiredResource:
    marks = {OWNER_KEY: owner, APPLIED_KEY: "0123456789abcdef"} if owner else {}
    return DesiredResource(ref, config | {"metadata": marks | config.get("metadata", {})})


def tasks(role: str, **more: Any) -> DesiredResource:
    """Return the stream of a role's tasks, as the manifest's defaults have it."""
    config: dict[str, Any] = {
        "subjects": [f"genbrain.agents.{role}.tasks"],
        "max_bytes": 100 * MIB,
        "max_age": 72 * HOUR,
        "allow_direct": True,
    }
    return stream(f"AGENT_{role.upper()}_TASKS", **(config | more))


def worker(role: str, **more: Any) -> DesiredResource:
    """Return the consumer of a role's tasks, as the manifest's defaults have it."""
    config: dict[str, Any] = {
        "filter_subject": f"genbrain.agents.{role}.tasks",
        "ack_wait": 30 * MINUTE,
        "max_deliver": 3,
        "max_ack_pending": 5,
    }
    return consumer(f"AGENT_{role.upper()}_TASKS/{role}-worker", **(config | more))


def dead_letters() -> DesiredResource:
    """Return the stream with two subjects for each of the others."""
    advisories = [
        f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.AGENT_{role.upper()}_TASKS.*"
        for role in ROLES
        for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")
    ]
    return stream(
        "DEAD_LETTERS",
        subjects=["genbrain.org.deadletter", *advisories],
        max_msgs=10000,
        allow_direct=True,
        subject_transform={
            "src": "$JS.EVENT.ADVISORY.CONSUMER.*.*.*",
            "dest": "genbrain.org.deadletter.{{wildcard(2)}}.{{wildcard(3)}}",
        },
    )


def create(resource: DesiredResource) -> Change:
    """Return a change that creates this."""
    return Create(resource)


def _plan(*changes: Change, **more: Any) -> Plan:
    return Plan("genbrain", changes, server_info=FACTS, **more)


def first() -> Plan:
    """Return everything is created."""
    resources = [made for role in ROLES for made in (tasks(role), worker(role))]
    letters = dead_letters()
    alerts = consumer("DEAD_LETTERS/dead-letter-alerts", ack_wait=5 * MINUTE)
    events = consumer(
        "ORG_EVENTS/cto-event-reader",
        filter_subjects=["genbrain.events.ci.result", "genbrain.events.deploy.complete"],
        backoff=[30 * MINUTE, HOUR],
        description="What the CTO reads",
        metadata={"team": "platform"},
    )
    created = [*resources, letters, alerts, events]
    desired = DesiredState({each.ref: each for each in created})
    reserves = (Reservation("file", 700 * MIB, taken=50 * MIB, most=10_000 * MIB),)
    return _plan(*map(create, created), desired=desired, reserves=reserves)


def drift() -> Plan:
    """Somebody changed a stream, the manifest changed another, and a third changed on both sides."""
    cto, ceo = as_live(tasks("cto")), as_live(tasks("ceo", metadata={"team": "a", "old": "x"}))
    shrunk = tasks("cto", max_bytes=200 * MIB, max_age=24 * HOUR)
    return _plan(
        Update(
            cto,
            shrunk,
            (
                FieldChange("max_bytes", 100 * MIB, 200 * MIB),
                FieldChange("max_age", 72 * HOUR, 24 * HOUR),
            ),
            hazards=(
                Hazard(
                    HazardName.DELETES_MESSAGES,
                    "1,204 messages (3.1 MiB) older than 24h, up to 12 of them unfinished",
                    1204,
                    3250586,
                    exact=False,
                    unfinished=Share(12, exact=False),
                ),
            ),
            cause=Cause.DRIFT,
        ),
        Update(
            ceo,
            tasks("ceo", metadata={"team": "b"}),
            (
                FieldChange("metadata.old", "x", None),
                FieldChange("metadata.team", "a", "b"),
                FieldChange(f"metadata.{APPLIED_KEY}", "0123456789abcdef", "fedcba9876543210"),
                FieldChange("max_msgs", None, 500),
                FieldChange("description", None, "Tasks of the CEO"),
            ),
            cause=Cause.BOTH,
        ),
        Update(
            as_live(worker("cto")),
            worker("cto", ack_wait=MINUTE),
            (FieldChange("ack_wait", 30 * MINUTE, MINUTE),),
            hazards=(Hazard(HazardName.REPEATS_WORK, "3 messages being worked on are delivered again", 3),),
        ),
        Update(
            as_live(dead_letters()),
            dead_letters(),
            (
                FieldChange(
                    "subjects",
                    ["genbrain.org.deadletter", "genbrain.org.legacy"],
                    dead_letters().config["subjects"],
                ),
            ),
            hazards=(Hazard(HazardName.STOPS_CAPTURE, "genbrain.org.legacy is no longer stored"),),
        ),
        Create(worker("cso"), cause=Cause.DRIFT),
        unchanged_count=29,
    )


def adopt() -> Plan:
    """Return streams that were there before: one alike, one different; and a mark that is out of date."""
    found = as_live(tasks("cso", owner="", max_age=48 * HOUR))
    return _plan(
        Adopt(
            as_live(tasks("ceo", owner="")),
            tasks("ceo"),
            (FieldChange(f"metadata.{OWNER_KEY}", None, "genbrain"),),
        ),
        Adopt(found, tasks("cso"), (FieldChange("max_age", 48 * HOUR, 72 * HOUR),)),
        Update(as_live(worker("cto")), worker("cto")),
    )


def replace() -> Plan:
    """Return a stream that cannot be changed in place, with messages in it, a consumer of it, and deletions."""
    held = StreamCounts(messages=1204, bytes=3250586, first_seq=1, last_seq=1204)
    gone = (
        FieldChange("storage", "file", "memory", "cannot be changed on a living stream"),
        FieldChange("max_consumers", None, 10),
    )
    lost = Hazard(HazardName.DELETES_MESSAGES, "1,204 messages (3.1 MiB)", 1204, 3250586)
    waiting = ConsumerCounts(num_pending=7, num_ack_pending=2)
    return _plan(
        Replace(
            as_live(tasks("cto"), counts=held),
            tasks("cto", storage="memory"),
            gone,
            hazards=(lost,),
            reason="its messages are carried over as far as they fit",
        ),
        Replace(as_live(worker("cto")), worker("cto"), reason="its stream is replaced"),
        Delete(
            as_live(worker("intern"), counts=waiting),
            hazards=(Hazard(HazardName.RESETS_PROGRESS, "7 messages are not read", 7),),
            reason="no longer in the manifest",
            depends_on=(Ref("AGENT_CTO_TASKS"),),
        ),
        Delete(as_live(tasks("intern"), counts=StreamCounts())),
        prune=True,
        targets=("cto", "intern"),
        environment="production",
        waits={Ref("AGENT_CTO_TASKS", "cto-worker"): 3},
    )


def rename() -> Plan:
    """Return a role with another name, whose stream and worker go on, and a stream that cannot take its messages along."""
    held = StreamCounts(messages=12, bytes=4096, first_seq=1, last_seq=12)
    kept, lost = (
        "carries 12 messages over; ingest pauses for milliseconds",
        "cannot carry its messages over: it is sealed",
    )
    return _plan(
        Replace(
            as_live(tasks("cto"), counts=held),
            tasks("tech"),
            (FieldChange("subjects", ["genbrain.agents.cto.tasks"], ["genbrain.agents.tech.tasks"]),),
            reason=f"renamed from AGENT_CTO_TASKS; {kept}",
            method=Migrate(Ref("AGENT_CTO_TASKS")),
        ),
        Replace(as_live(worker("cto")), worker("tech"), reason="renamed from AGENT_CTO_TASKS/cto-worker"),
        Replace(
            as_live(tasks("cso"), counts=held),
            tasks("law"),
            hazards=(Hazard(HazardName.DELETES_MESSAGES, "12 messages (4 KiB) in the stream", 12, 4096),),
            reason=f"renamed from AGENT_CSO_TASKS; {lost}",
        ),
    )


def impossible() -> Plan:
    """Return what cannot be done at all, change by change and as a whole."""
    return _plan(
        Blocked(
            Update(as_live(tasks("cto")), tasks("cto", num_replicas=3), (FieldChange("num_replicas", 1, 3),)),
            problems=(
                Problem(
                    "replicas",
                    "3 replicas are more than the cluster's 1 server",
                    SourcePosition("org.yaml", 12, 5),
                    "set num_replicas to 1, or add servers",
                ),
            ),
        ),
        problems=(Problem("overlap", "genbrain.agents.*.inbox overlaps stream LEGACY, which is not ours"),),
        notes=("Stream LEGACY is nobody's; it stays as it is.",),
    )


def orphans() -> Plan:
    """Return in sync, with leftovers."""
    held = StreamCounts(messages=12, bytes=4096)
    return _plan(
        orphans=(as_live(tasks("intern"), counts=held), as_live(worker("intern"))), unchanged_count=34
    )


def empty() -> Plan:
    """Return in sync."""
    return _plan(unchanged_count=34)


PLANS = {made.__name__: made() for made in (first, drift, adopt, replace, rename, impossible, orphans, empty)}


def one_of_each_per_role(roles: int) -> Plan:
    """Return of each kind of change one per role, each with a cost of its own."""
    lost = Hazard(HazardName.DELETES_MESSAGES, "7 messages (1.1 KiB)", 7)
    waiting = Hazard(HazardName.RESETS_PROGRESS, "3 waiting messages would no longer be delivered", 3)
    names = [f"role{number:05}" for number in range(roles)]
    field = FieldChange("max_age", 2 * HOUR, HOUR)
    return Plan(
        "genbrain",
        (
            *(create(tasks(f"{name}new")) for name in names),
            *(Update(as_live(tasks(name)), tasks(name), (field,)) for name in names),
            *(Delete(as_live(tasks(f"{name}old")), hazards=(lost, waiting)) for name in names),
        ),
        notes=tuple(f"Note number {number}." for number in range(roles)),
        server_info=FACTS,
    )
