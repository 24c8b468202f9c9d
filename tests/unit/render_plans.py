"""Plans built by hand, one for each thing that a reader may have to be told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyborg_infra.model.fields import Version
from cyborg_infra.model.plan import Action, Cause, Change, FieldChange, Hazard, HazardName, Plan
from cyborg_infra.model.problems import Mark, Problem
from cyborg_infra.model.state import (
    APPLIED,
    OWNER,
    ConsumerCounts,
    Facts,
    Ref,
    Resource,
    State,
    StreamCounts,
)
from cyborg_infra.model.units import HOUR, MINUTE

Golden = Callable[[Path, str], None]
CASES = Path(__file__).parents[1] / "cases" / "plan"

MIB = 1024 * 1024
FACTS = Facts(
    Version(2, 15, 1),
    5,
    server="NB7",
    url="nats://127.0.0.1:4222",
    account="$G",
    source="NATS_URL",
)
ROLES = ("ceo", "cto", "cso", "backend", "frontend", "marketing", "devops")


def stream(name: str, counts: StreamCounts | None = None, owner: str = "genbrain", **config: Any) -> Resource:
    """A stream of the organisation, or nobody's with an empty owner."""
    return _resource(Ref(name), config, counts, owner)


def consumer(
    ref: str, counts: ConsumerCounts | None = None, owner: str = "genbrain", **config: Any
) -> Resource:
    """A durable pull consumer, `STREAM/name`."""
    name, durable = ref.split("/")
    return _resource(Ref(name, durable), {"ack_policy": "explicit"} | config, counts, owner)


def _resource(
    ref: Ref, config: dict[str, Any], counts: StreamCounts | ConsumerCounts | None, owner: str
) -> Resource:
    marks = {OWNER: owner, APPLIED: "0123456789abcdef"} if owner else {}
    return Resource(ref, config | {"metadata": marks | config.get("metadata", {})}, counts=counts)


def tasks(role: str, **more: Any) -> Resource:
    """The stream of a role's tasks, as the manifest's defaults have it."""
    config: dict[str, Any] = {
        "subjects": [f"genbrain.agents.{role}.tasks"],
        "max_bytes": 100 * MIB,
        "max_age": 72 * HOUR,
        "allow_direct": True,
    }
    return stream(f"AGENT_{role.upper()}_TASKS", **(config | more))


def worker(role: str, **more: Any) -> Resource:
    """The consumer of a role's tasks, as the manifest's defaults have it."""
    config: dict[str, Any] = {
        "filter_subject": f"genbrain.agents.{role}.tasks",
        "ack_wait": 30 * MINUTE,
        "max_deliver": 3,
        "max_ack_pending": 5,
    }
    return consumer(f"AGENT_{role.upper()}_TASKS/{role}-worker", **(config | more))


def dead_letters() -> Resource:
    """The stream with two subjects for each of the others."""
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


def create(resource: Resource) -> Change:
    """A change that creates this."""
    return Change(Action.CREATE, None, resource)


def _plan(*changes: Change, **more: Any) -> Plan:
    return Plan("genbrain", changes, facts=FACTS, **more)


def first() -> Plan:
    """Everything is created."""
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
    desired = State({each.ref: each for each in created})
    return _plan(*map(create, created), desired=desired)


def drift() -> Plan:
    """Somebody changed a stream, the manifest changed another, and a third changed on both sides."""
    cto, ceo = tasks("cto"), tasks("ceo", metadata={"team": "a", "old": "x"})
    shrunk = tasks("cto", max_bytes=200 * MIB, max_age=24 * HOUR)
    return _plan(
        Change(
            Action.UPDATE,
            cto,
            shrunk,
            (
                FieldChange("max_bytes", 100 * MIB, 200 * MIB),
                FieldChange("max_age", 72 * HOUR, 24 * HOUR),
            ),
            (
                Hazard(
                    HazardName.DELETES_MESSAGES,
                    "1,204 messages (3.1 MiB) older than 24h",
                    1204,
                    3250586,
                    exact=False,
                ),
            ),
            Cause.DRIFT,
        ),
        Change(
            Action.UPDATE,
            ceo,
            tasks("ceo", metadata={"team": "b"}),
            (
                FieldChange("metadata.old", "x", None),
                FieldChange("metadata.team", "a", "b"),
                FieldChange(f"metadata.{APPLIED}", "0123456789abcdef", "fedcba9876543210"),
                FieldChange("max_msgs", None, 500),
                FieldChange("description", None, "Tasks of the CEO"),
            ),
            cause=Cause.BOTH,
        ),
        Change(
            Action.UPDATE,
            worker("cto"),
            worker("cto", ack_wait=MINUTE),
            (FieldChange("ack_wait", 30 * MINUTE, MINUTE),),
            (Hazard(HazardName.REPEATS_WORK, "3 messages being worked on are delivered again", 3),),
        ),
        Change(
            Action.UPDATE,
            dead_letters(),
            dead_letters(),
            (
                FieldChange(
                    "subjects",
                    ["genbrain.org.deadletter", "genbrain.org.legacy"],
                    dead_letters().config["subjects"],
                ),
            ),
            (Hazard(HazardName.STOPS_CAPTURE, "genbrain.org.legacy is no longer stored"),),
        ),
        Change(Action.CREATE, None, worker("cso"), cause=Cause.DRIFT),
        unchanged=29,
    )


def adopt() -> Plan:
    """Streams that were there before: one alike, one different; and a mark that is out of date."""
    found = tasks("cso", owner="", max_age=48 * HOUR)
    return _plan(
        Change(
            Action.ADOPT,
            tasks("ceo", owner=""),
            tasks("ceo"),
            (FieldChange(f"metadata.{OWNER}", None, "genbrain"),),
        ),
        Change(Action.ADOPT, found, tasks("cso"), (FieldChange("max_age", 48 * HOUR, 72 * HOUR),)),
        Change(Action.UPDATE, worker("cto"), worker("cto")),
    )


def replace() -> Plan:
    """A stream that cannot be changed in place, with messages in it, a consumer of it, and deletions."""
    held = StreamCounts(messages=1204, bytes=3250586, first_seq=1, last_seq=1204)
    gone = (
        FieldChange("storage", "file", "memory", "cannot be changed on a living stream"),
        FieldChange("max_consumers", None, 10),
    )
    lost = Hazard(HazardName.DELETES_MESSAGES, "1,204 messages (3.1 MiB)", 1204, 3250586)
    waiting = ConsumerCounts(num_pending=7, num_ack_pending=2)
    return _plan(
        Change(
            Action.REPLACE,
            tasks("cto", counts=held),
            tasks("cto", storage="memory"),
            gone,
            (lost,),
            reason="its messages are carried over as far as they fit",
        ),
        Change(Action.REPLACE, worker("cto"), worker("cto"), reason="its stream is replaced"),
        Change(
            Action.DELETE,
            worker("intern", counts=waiting),
            None,
            hazards=(Hazard(HazardName.RESETS_PROGRESS, "7 messages are not read", 7),),
            reason="no longer in the manifest",
            needs=(Ref("AGENT_CTO_TASKS"),),
        ),
        Change(Action.DELETE, tasks("intern", counts=StreamCounts()), None),
        prune=True,
        targets=("cto", "intern"),
        environment="production",
    )


def impossible() -> Plan:
    """What cannot be done at all, change by change and as a whole."""
    return _plan(
        Change(
            Action.IMPOSSIBLE,
            tasks("cto"),
            tasks("cto", num_replicas=3),
            (FieldChange("num_replicas", 1, 3),),
            problems=(
                Problem(
                    "replicas",
                    "3 replicas are more than the cluster's 1 server",
                    Mark("org.yaml", 12, 5),
                    "set num_replicas to 1, or add servers",
                ),
            ),
        ),
        problems=(Problem("overlap", "genbrain.agents.*.inbox overlaps stream LEGACY, which is not ours"),),
        notes=("Stream LEGACY is nobody's; it stays as it is.",),
    )


def orphans() -> Plan:
    """In sync, with leftovers."""
    held = StreamCounts(messages=12, bytes=4096)
    return _plan(orphans=(tasks("intern", counts=held), worker("intern")), unchanged=34)


def empty() -> Plan:
    """In sync."""
    return _plan(unchanged=34)


PLANS = {made.__name__: made() for made in (first, drift, adopt, replace, impossible, orphans, empty)}
