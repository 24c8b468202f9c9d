# ruff: noqa
"""Organisation mini. Written by cyborg-infra: change the manifest, and export again.

Names that are not in the manifest are not in here: a type checker finds one that is wrong.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, NotRequired, TypeAlias, TypedDict

RoleName = Literal["ceo", "cto", "cso", "devops", "backend", "frontend", "marketing"]

Channel = Literal["tasks", "inbox", "status", "requests"]

ConsumerKind = Literal["worker", "inbox_reader", "broadcast_reader"]

OrgChannel = Literal["broadcasts", "dead_letters"]

GroupName = Literal[""]

GroupChannel = Literal[""]

OrgConsumerKind = Literal["dead_letter_alerts"]

EventName = Literal["deploy.complete"]

Stream = Literal["AGENT_BACKEND_TASKS", "AGENT_CEO_TASKS", "AGENT_CSO_TASKS", "AGENT_CTO_TASKS", "AGENT_DEVOPS_TASKS", "AGENT_FRONTEND_TASKS", "AGENT_INBOXES", "AGENT_MARKETING_TASKS", "DEAD_LETTERS", "KV_mini-tasks", "ORG_BROADCASTS"]

Bucket = Literal["mini-tasks"]


class Consumer(NamedTuple):
    """A durable consumer, to bind to; `ack_wait` is seconds until a message that is held comes again."""

    stream: str
    name: str
    ack_wait: float
    max_deliver: int


class Role(NamedTuple):
    """A role: the prefix of its inboxes, what it is reached by, what it reads."""

    name: RoleName
    inbox_prefix: str
    subjects: Mapping[Channel, str]
    consumers: Mapping[ConsumerKind, Consumer]


class Group(NamedTuple):
    """Roles that are named together, and what all of them hear it by."""

    members: tuple[RoleName, ...]
    subjects: Mapping[GroupChannel, str]


ORG: Final = "mini"

ROLES: Final[Mapping[RoleName, Role]] = {
    "ceo": Role(
        "ceo",
        "_INBOX.ceo",
        {
            "tasks": "mini.agents.ceo.tasks",
            "inbox": "mini.agents.ceo.inbox",
            "status": "mini.agents.ceo.status",
            "requests": "mini.agents.ceo.requests",
        },
        {
            "worker": Consumer("AGENT_CEO_TASKS", "ceo-worker", 1800, 3),
            "inbox_reader": Consumer("AGENT_INBOXES", "ceo-inbox-reader", 600, 3),
            "broadcast_reader": Consumer("ORG_BROADCASTS", "ceo-broadcast-reader", 300, 3),
        },
    ),
    "cto": Role(
        "cto",
        "_INBOX.cto",
        {
            "tasks": "mini.agents.cto.tasks",
            "inbox": "mini.agents.cto.inbox",
            "status": "mini.agents.cto.status",
            "requests": "mini.agents.cto.requests",
        },
        {
            "worker": Consumer("AGENT_CTO_TASKS", "cto-worker", 1800, 3),
            "inbox_reader": Consumer("AGENT_INBOXES", "cto-inbox-reader", 600, 3),
            "broadcast_reader": Consumer("ORG_BROADCASTS", "cto-broadcast-reader", 300, 3),
        },
    ),
    "cso": Role(
        "cso",
        "_INBOX.cso",
        {
            "tasks": "mini.agents.cso.tasks",
            "inbox": "mini.agents.cso.inbox",
            "status": "mini.agents.cso.status",
            "requests": "mini.agents.cso.requests",
        },
        {
            "worker": Consumer("AGENT_CSO_TASKS", "cso-worker", 1800, 3),
            "inbox_reader": Consumer("AGENT_INBOXES", "cso-inbox-reader", 600, 3),
            "broadcast_reader": Consumer("ORG_BROADCASTS", "cso-broadcast-reader", 300, 3),
        },
    ),
    "devops": Role(
        "devops",
        "_INBOX.devops",
        {
            "tasks": "mini.agents.devops.tasks",
            "inbox": "mini.agents.devops.inbox",
            "status": "mini.agents.devops.status",
            "requests": "mini.agents.devops.requests",
        },
        {
            "worker": Consumer("AGENT_DEVOPS_TASKS", "devops-worker", 1800, 3),
            "inbox_reader": Consumer("AGENT_INBOXES", "devops-inbox-reader", 600, 3),
            "broadcast_reader": Consumer("ORG_BROADCASTS", "devops-broadcast-reader", 300, 3),
        },
    ),
    "backend": Role(
        "backend",
        "_INBOX.backend",
        {
            "tasks": "mini.agents.backend.tasks",
            "inbox": "mini.agents.backend.inbox",
            "status": "mini.agents.backend.status",
            "requests": "mini.agents.backend.requests",
        },
        {
            "worker": Consumer("AGENT_BACKEND_TASKS", "backend-worker", 1800, 3),
            "inbox_reader": Consumer("AGENT_INBOXES", "backend-inbox-reader", 600, 3),
            "broadcast_reader": Consumer("ORG_BROADCASTS", "backend-broadcast-reader", 300, 3),
        },
    ),
    "frontend": Role(
        "frontend",
        "_INBOX.frontend",
        {
            "tasks": "mini.agents.frontend.tasks",
            "inbox": "mini.agents.frontend.inbox",
            "status": "mini.agents.frontend.status",
            "requests": "mini.agents.frontend.requests",
        },
        {
            "worker": Consumer("AGENT_FRONTEND_TASKS", "frontend-worker", 1800, 3),
            "inbox_reader": Consumer("AGENT_INBOXES", "frontend-inbox-reader", 600, 3),
            "broadcast_reader": Consumer("ORG_BROADCASTS", "frontend-broadcast-reader", 300, 3),
        },
    ),
    "marketing": Role(
        "marketing",
        "_INBOX.marketing",
        {
            "tasks": "mini.agents.marketing.tasks",
            "inbox": "mini.agents.marketing.inbox",
            "status": "mini.agents.marketing.status",
            "requests": "mini.agents.marketing.requests",
        },
        {
            "inbox_reader": Consumer("AGENT_INBOXES", "marketing-inbox-reader", 600, 3),
            "worker": Consumer("AGENT_MARKETING_TASKS", "marketing-worker", 1800, 3),
            "broadcast_reader": Consumer("ORG_BROADCASTS", "marketing-broadcast-reader", 300, 3),
        },
    ),
}

EVERY_ROLE: Final[Mapping[Channel, str]] = {
    "tasks": "mini.agents.*.tasks",
    "inbox": "mini.agents.*.inbox",
    "status": "mini.agents.*.status",
    "requests": "mini.agents.*.requests",
}

SUBJECTS: Final[Mapping[OrgChannel, str]] = {
    "broadcasts": "mini.org.broadcasts",
    "dead_letters": "mini.org.deadletter",
}

GROUPS: Final[Mapping[GroupName, Group]] = {
}

CONSUMERS: Final[Mapping[OrgConsumerKind, Consumer]] = {
    "dead_letter_alerts": Consumer("DEAD_LETTERS", "dead-letter-alerts", 300, -1),
}

EVENTS: Final[Mapping[EventName, str]] = {
    "deploy.complete": "mini.events.deploy.complete",
}

STREAMS: Final[tuple[Stream, ...]] = ("AGENT_BACKEND_TASKS", "AGENT_CEO_TASKS", "AGENT_CSO_TASKS", "AGENT_CTO_TASKS", "AGENT_DEVOPS_TASKS", "AGENT_FRONTEND_TASKS", "AGENT_INBOXES", "AGENT_MARKETING_TASKS", "DEAD_LETTERS", "KV_mini-tasks", "ORG_BROADCASTS",)

BUCKETS: Final[tuple[Bucket, ...]] = ("mini-tasks",)


def find_role(name: str) -> Role:
    """Return the role of a name that comes from outside. Raises KeyError."""
    for known, role in ROLES.items():
        if known == name:
            return role
    raise KeyError(name)



class TaskSla(TypedDict):
    """By when something has to happen."""

    ack_within_seconds: NotRequired[int]
    """Longest time from assigned to accepted, in seconds."""
    complete_within_minutes: NotRequired[int]
    """Longest time from assigned to completed, in minutes."""


class TaskContext(TypedDict):
    """What helps to do it. Members that are not named here are allowed."""

    related_tasks: NotRequired[list[str]]
    """Ids of tasks that this one builds on."""
    codebase_path: NotRequired[str]
    """Where in the code it belongs."""
    test_requirements: NotRequired[str | list[str]]
    """What has to be tested, in words."""


class TaskLifecycle(TypedDict):
    """Where the task stands when it is published."""

    status: Literal["assigned"]
    """A task is published as assigned; what comes after that is told by its statuses."""
    assigned_at: str
    """When it was published."""


class TaskOnComplete(TypedDict):
    """The task that follows once this one is completed."""

    publish_to: str
    """Where it is published: a tasks subject of the organisation, <org>.agents.<role>.tasks."""
    payload_template: NotRequired[dict[str, Any]]
    """Members of the task that follows."""


class Task(TypedDict):
    """Work for one role, on <org>.agents.<role>.tasks. Members that are not named here are allowed."""

    task_id: str
    """What every status of this task names."""
    type: str
    """What kind of work it is."""
    title: str
    """The task in one line."""
    description: str
    """The task in full."""
    assigned_by: str
    """The role that wants it done."""
    assigned_to: str
    """The role that does it; the one of the subject."""
    priority: Literal["low", "normal", "high", "critical"]
    """How much it matters, beside the other tasks of the role."""
    sla: NotRequired[TaskSla]
    """By when something has to happen."""
    context: NotRequired[TaskContext]
    """What helps to do it. Members that are not named here are allowed."""
    lifecycle: TaskLifecycle
    """Where the task stands when it is published."""
    on_complete: NotRequired[TaskOnComplete]
    """The task that follows once this one is completed."""


class StatusProgress(TypedDict):
    """How far the work is. Members that are not named here are allowed."""

    phase: NotRequired[str]
    """What is being done."""
    files_modified: NotRequired[int]
    """Files changed so far."""
    tests_written: NotRequired[int]
    """Tests written so far."""
    tests_passing: NotRequired[int]
    """How many of them pass."""


class Status(TypedDict):
    """One step of a task, told by the agent that does it, on <org>.agents.<role>.status. Members that are not named here are allowed."""

    task_id: str
    """The task."""
    agent: str
    """The role that tells it."""
    status: Literal["assigned", "accepted", "in_progress", "completed_unverified", "completed", "rejected", "failed"]
    """Where the task stands now."""
    previous_status: Literal["assigned", "accepted", "in_progress", "completed_unverified", "completed", "rejected", "failed"]
    """Where it stood before; docs/reference/messages.md has the steps that are allowed."""
    timestamp: str
    """When it took this step."""
    progress: NotRequired[StatusProgress]
    """How far the work is. Members that are not named here are allowed."""


class Alert(TypedDict):
    """What a scan found and somebody has to decide on, in an inbox, usually the ceo's. Members that are not named here are allowed."""

    type: Literal["security_alert"]
    """That it is an alert."""
    severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    """How bad the worst finding is."""
    source: str
    """Who or what found it."""
    scan_id: str
    """The scan."""
    findings_count: int
    """How many findings there are."""
    categories: NotRequired[dict[str, int]]
    """How many findings there are of each category."""
    remediation_status: NotRequired[str]
    """How far they are mended."""
    pull_requests: NotRequired[list[int | str]]
    """Pull requests that mend them: numbers or addresses."""
    recommended_action: NotRequired[str]
    """What whoever reads it should do."""
    full_report_path: NotRequired[str]
    """Where the whole report is."""


class Broadcast(TypedDict):
    """What every role has to know, on <org>.org.broadcasts. Members that are not named here are allowed."""

    type: str
    """What kind of news it is."""
    policy: str
    """The policy, in words."""
    effective_immediately: bool
    """Whether it holds for work under way as well."""
    issued_by: str
    """The role that says so."""


class EventDeployComplete(TypedDict):
    """Something that happened, on <org>.events.<domain>.<event>. An open object with a time."""

    service: str
    """What was deployed."""
    version: str
    """Which version of it."""
    environment: str
    """Where to."""
    timestamp: str
    """When it was complete."""
    commit_sha: str
    """The commit that it was built from."""


class Event(TypedDict):
    """Something that happened, on <org>.events.<domain>.<event>. An open object with a time."""

    timestamp: str
    """When it happened."""


class Query(TypedDict):
    """A question that is answered at once, on <org>.agents.<role>.requests. Members that are not named here are allowed."""

    type: Literal["query"]
    """That it is a query."""
    question: str
    """The question."""
    reply_timeout_seconds: NotRequired[float]
    """How long the asker waits for the reply, in seconds."""


class Reply(TypedDict):
    """The answer to a query, on the reply subject that came with it. Members that are not named here are allowed."""

    status: str
    """The answer in a word."""


class DeadLetterAdvisory(TypedDict):
    """What failed for good, on <org>.org.deadletter and below: the server's advisory about a message that stays in its stream, or the whole message, given up by an agent, with the reason."""

    type: Literal["io.nats.jetstream.advisory.v1.max_deliver", "io.nats.jetstream.advisory.v1.terminated"]
    """Which of the two."""
    id: NotRequired[str]
    """The advisory's id."""
    timestamp: NotRequired[str]
    """When it was given up."""
    stream: str
    """The stream that has the message."""
    consumer: str
    """The consumer that delivered it in vain."""
    stream_seq: int
    """The message's sequence number in the stream."""
    consumer_seq: NotRequired[int]
    """The delivery's sequence number of the consumer."""
    deliveries: int
    """How often it was delivered."""
    reason: NotRequired[str]
    """What the agent said when it ended the message."""
    domain: NotRequired[str]
    """The JetStream domain of the stream."""


class DeadLetterGivenUp(TypedDict):
    """What failed for good, on <org>.org.deadletter and below: the server's advisory about a message that stays in its stream, or the whole message, given up by an agent, with the reason."""

    reason: str
    """Why it was given up."""


DeadLetter: TypeAlias = DeadLetterAdvisory | DeadLetterGivenUp
"""What failed for good, on <org>.org.deadletter and below: the server's advisory about a message that stays in its stream, or the whole message, given up by an agent, with the reason."""
