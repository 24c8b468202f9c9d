"""The naming scheme: which subjects an organisation has, which stream stores them, who reads them under which name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cyborg_infra.model.buckets import bucket_stream, bucket_subject
from cyborg_infra.model.namespace import Subject, tasks_stream
from cyborg_infra.model.org import Bucket, ConsumerKind, Member, Org, Role, StreamKind
from cyborg_infra.model.state import Ref, State

STREAM_OF: Mapping[ConsumerKind, StreamKind] = {
    ConsumerKind.WORKER: StreamKind.TASKS,
    ConsumerKind.INBOX_READER: StreamKind.INBOXES,
    ConsumerKind.BROADCAST_READER: StreamKind.BROADCASTS,
    ConsumerKind.EVENT_READER: StreamKind.EVENTS,
    ConsumerKind.DEAD_LETTER_ALERTS: StreamKind.DEAD_LETTERS,
}
_SHARED_NAMES: Mapping[StreamKind, str] = {
    StreamKind.INBOXES: "AGENT_INBOXES",
    StreamKind.BROADCASTS: "ORG_BROADCASTS",
    StreamKind.EVENTS: "ORG_EVENTS",
    StreamKind.DEAD_LETTERS: "DEAD_LETTERS",
}
_SUFFIXES: Mapping[ConsumerKind, str] = {kind: kind.value.replace("_", "-") for kind in ConsumerKind}

# The server's own notices of what failed for good. Plain publishes: captured like any subject.
ADVISORIES = "$JS.EVENT.ADVISORY.CONSUMER"
_DEAD = ("MAX_DELIVERIES", "MSG_TERMINATED")


def stream_name(org: Org, kind: StreamKind, member: Member | None = None) -> str:
    """`AGENT_CTO_TASKS`, `ORG_BROADCASTS` ..., behind the organisation's stream_prefix; a bucket's `KV_drafts` alone."""
    match kind, member:
        case StreamKind.TASKS, Role(name):
            return tasks_stream(org.stream_prefix, name)
        case StreamKind.KEY_VALUE, Bucket(name):
            return bucket_stream(name)
    if kind not in _SHARED_NAMES:
        raise ValueError(f"a {kind} stream belongs to a role or is a bucket")
    return org.stream_prefix + _SHARED_NAMES[kind]


def shared_names(org: Org) -> list[str]:
    """The names of all streams that there is one each of, whether or not the organisation has them."""
    return [stream_name(org, kind) for kind in _SHARED_NAMES]


def consumer_name(kind: ConsumerKind, role: Role | None = None) -> str:
    """`cto-worker`, `cto-inbox-reader` ..., or `dead-letter-alerts`."""
    return f"{role.name}-{_SUFFIXES[kind]}" if role else _SUFFIXES[kind]


def shared_streams(org: Org) -> list[StreamKind]:
    """The streams that belong to no single role; ORG_EVENTS only where an event is durable."""
    return [kind for kind in _SHARED_NAMES if kind is not StreamKind.EVENTS or durable_events(org)]


def durable_events(org: Org) -> list[str]:
    """Subjects of the durable events, sorted."""
    return sorted(event_subject(org, event.name) for event in org.events if event.durable)


def durable_events_by_reader(org: Org) -> Mapping[str, list[str]]:
    """Role -> subjects of the durable events that it subscribes to, sorted; roles without one are absent."""
    found: dict[str, set[str]] = {}
    for event in org.events:
        if event.durable:
            for reader in event.subscribers:
                found.setdefault(reader, set()).add(event_subject(org, event.name))
    return {reader: sorted(subjects) for reader, subjects in found.items()}


def event_subject(org: Org, event: str) -> str:
    """`genbrain.events.deploy.complete`."""
    return f"{org.name}.events.{event}"


def agent_subject(org: Org, role: str, channel: str) -> str:
    """`genbrain.agents.cto.tasks`."""
    return f"{org.name}.agents.{role}.{channel}"


def org_subject(org: Org, channel: str) -> str:
    """`genbrain.org.broadcasts`."""
    return f"{org.name}.org.{channel}"


def names(role: Role) -> list[str]:
    """The role's name, and the one that it had before: what is still sent there reaches it as well."""
    return [role.name, role.renamed_from] if role.renamed_from else [role.name]


def captured(org: Org, kind: StreamKind, member: Member | None = None) -> list[str]:
    """The subjects that a stream stores."""
    match kind, member:
        case StreamKind.TASKS, Role() as role:
            return [agent_subject(org, name, "tasks") for name in names(role)]
        case StreamKind.KEY_VALUE, Bucket(name):
            return [bucket_subject(name)]
        case StreamKind.INBOXES, _:
            return [agent_subject(org, "*", "inbox")]
        case StreamKind.BROADCASTS, _:
            return [org_subject(org, "broadcasts")]
        case StreamKind.EVENTS, _:
            return durable_events(org)
    return [org_subject(org, "deadletter"), *_advisories(org)]


def _advisories(org: Org) -> list[str]:
    """The dead-letter notices of the organisation's streams and no one else's; not of DEAD_LETTERS itself: no loops."""
    watched = list(
        dict.fromkeys(tasks_stream(org.stream_prefix, name) for role in org.roles for name in names(role))
    )
    watched += [stream_name(org, kind) for kind in shared_streams(org) if kind is not StreamKind.DEAD_LETTERS]
    return [subject for stream in watched for subject in advisories_of(stream)]


def advisories_of(stream: str) -> list[str]:
    """The subjects on which the server says that a message of this stream failed for good, for any consumer."""
    return [f"{ADVISORIES}.{event}.{stream}.*" for event in _DEAD]


def watched(subject: str) -> str | None:
    """The stream whose dead-letter notices come on this subject, or None if it is no such subject."""
    tokens = subject.split(".")
    notice = len(tokens) == len(ADVISORIES.split(".")) + 3 and subject.startswith(f"{ADVISORIES}.")
    return tokens[-2] if notice and tokens[-3] in _DEAD else None


def dead_letter_transform(org: Org) -> dict[str, str]:
    """Stores a notice under `<org>.org.deadletter.<stream>.<consumer>`; messages on other subjects stay as they are."""
    return {
        "src": f"{ADVISORIES}.*.*.*",
        "dest": f"{org_subject(org, 'deadletter')}.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}",
    }


def delivered(
    org: Org, kind: ConsumerKind, role: Role | None = None, events: Sequence[str] = ()
) -> Sequence[str]:
    """The subjects that a consumer filters for, an event reader for `events`; none means all of its stream."""
    match kind:
        case ConsumerKind.WORKER if role:
            return tuple(agent_subject(org, name, "tasks") for name in names(role))
        case ConsumerKind.INBOX_READER if role:
            return tuple(agent_subject(org, name, "inbox") for name in names(role))
        case ConsumerKind.BROADCAST_READER:
            return (org_subject(org, "broadcasts"),)
        case ConsumerKind.EVENT_READER:
            return events
    return ()


def ephemeral(org: Org) -> list[str]:
    """Subjects that no stream may capture: a captured request is answered by the stream, not by the agent."""
    agents = [
        agent_subject(org, role.name, channel) for role in org.roles for channel in ("status", "requests")
    ]
    return agents + [event_subject(org, event.name) for event in org.events if not event.durable]


def subjects(org: Org, state: State) -> tuple[Subject, ...]:
    """Every subject of the organisation: what carries it, who publishes and who reads."""
    return (*_agents(org, state), *_events(org, state), *_org(org, state))


def _agents(org: Org, state: State) -> list[Subject]:
    rows: list[Subject] = []
    for role in org.roles:
        tasks, inboxes = stream_name(org, StreamKind.TASKS, role), stream_name(org, StreamKind.INBOXES)
        channels = (
            (
                "tasks",
                tasks,
                "any role",
                consumer_name(ConsumerKind.WORKER, role),
                "task assignments: each is worked on once",
            ),
            (
                "inbox",
                inboxes,
                "any role",
                consumer_name(ConsumerKind.INBOX_READER, role),
                "general messages",
            ),
            ("status", None, role.name, "monitoring", "heartbeat and state"),
            ("requests", None, "any role", role.name, "request-reply: synchronous questions"),
        )
        rows += [
            Subject(
                agent_subject(org, role.name, channel), "agents", role.name, channel,
                durable=stream is not None, stream=_existing(state, stream), publishers=(publisher,), readers=(reader,), meaning=meaning,
            )
            for channel, stream, publisher, reader, meaning in channels
        ]  # fmt: skip
        if role.renamed_from:  # what is still sent to the old name reaches the role
            rows += [
                row._replace(subject=agent_subject(org, role.renamed_from, row.channel))
                for row in rows[-len(channels) :]
                if row.durable
            ]
    return rows


def _events(org: Org, state: State) -> list[Subject]:
    stream = stream_name(org, StreamKind.EVENTS)
    return [
        Subject(
            event_subject(org, event.name), "events", None, event.name,
            durable=event.durable, stream=_existing(state, stream) if event.durable else None,
            publishers=event.publishers, readers=event.subscribers, meaning=event.description,
        )
        for event in org.events
    ]  # fmt: skip


def _org(org: Org, state: State) -> list[Subject]:
    rows = (
        ("broadcasts", StreamKind.BROADCASTS, ("any role",), ("every role",), "policy changes: every role reads all of them"),
        ("deadletter", StreamKind.DEAD_LETTERS, ("the server", "any role"), (consumer_name(ConsumerKind.DEAD_LETTER_ALERTS),), "what failed for good, for a person to look at"),
    )  # fmt: skip
    return [
        Subject(
            org_subject(org, channel), "org", None, channel,
            durable=True, stream=_existing(state, stream_name(org, kind)), publishers=publishers, readers=readers, meaning=meaning,
        )
        for channel, kind, publishers, readers, meaning in rows
    ]  # fmt: skip


def _existing(state: State, stream: str | None) -> str | None:
    return stream if stream and Ref(stream) in state.resources else None
