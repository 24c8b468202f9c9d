"""What a manifest may say and will cost, as data: one row a warning. Refuses nothing, and knows no server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from cyborg_infra.model.buckets import bucket_stream, task_state_bucket
from cyborg_infra.model.fields import Config
from cyborg_infra.model.org import ROLE_CONSUMERS, ConsumerKind, Org, StreamKind
from cyborg_infra.model.state import KIND
from cyborg_infra.model.units import DAY, HOUR, MINUTE, SECOND

Find = Callable[[Config, Org], Iterator[str]]
"""The names of the fields that cost something in this stream or consumer."""


class Lint(NamedTuple):
    """One warning: the settings that it is about, why they cost, what to do instead, and how they are found."""

    code: str  # stable: manifests ignore it by this name
    about: str
    reason: str
    advice: str
    kinds: tuple[StreamKind | ConsumerKind, ...]
    find: Find


SHORTEST_ACK_WAIT = 5 * MINUTE
"""Agents reason about a task for up to 20 minutes; what takes less than 5 is rather an answer than work."""

SHORTEST_WINDOW = 20 * SECOND
"""A publisher repeats itself while a cluster has no leader: 9 s for an election, 10 s to notice that one is needed."""

FEW_ROLES = 1000
"""Of so many the dead letters are routed one by one without anybody noticing (docs/scale.md)."""

DAYS_WORK: Mapping[str, int] = {
    "max_age": DAY,
    "max_msgs": 72,
    "max_msgs_per_subject": 72,
    "max_bytes": 1024**2,
}
"""What one agent gets done in a day at 20 minutes a task without a break; a task is a JSON object of at most 14 KiB."""

WEEKEND: Mapping[str, int] = {**DAYS_WORK, "max_age": 72 * HOUR}
"""A day's work may fail on a Friday, and a person looks on Monday; 64 hours, and a few to get to it."""

LONGEST_TASK = 144 * HOUR
"""72 hours in its stream, and as a dead letter over a weekend."""

_PRODUCTION = {"production", "prod", "live"}


def short_ack_wait(config: Config, _org: Org) -> Iterator[str]:
    """An agent has less than SHORTEST_ACK_WAIT; each step of backoff is the ack_wait of one delivery (2.10 to 2.15)."""
    steps = config.get("backoff")
    if config["ack_policy"] != "none" and min(steps or [config["ack_wait"]]) < SHORTEST_ACK_WAIT:
        yield "backoff" if steps else "ack_wait"


def endless_deliveries(config: Config, _org: Org) -> Iterator[str]:
    """No delivery is the last one."""
    if config["ack_policy"] != "none" and config["max_deliver"] <= 0:
        yield "max_deliver"


def one_delivery(config: Config, _org: Org) -> Iterator[str]:
    """The first delivery is the last one."""
    if config["max_deliver"] == 1:
        yield "max_deliver"


def implicit_ack(config: Config, _org: Org) -> Iterator[str]:
    """Messages count as done that nobody said to be done."""
    if config["ack_policy"] != "explicit":
        yield "ack_policy"


def skips_waiting(config: Config, _org: Org) -> Iterator[str]:
    """Delivery starts behind what is in the stream already."""
    if config["deliver_policy"] in ("new", "last", "last_per_subject"):
        yield "deliver_policy"


def push_to_all(config: Config, _org: Org) -> Iterator[str]:
    """Delivered on a subject, and to no queue group."""
    if config.get("deliver_subject") and not config.get("deliver_group"):
        yield "deliver_subject"


def vanishing_consumer(config: Config, _org: Org) -> Iterator[str]:
    """The server deletes the consumer when nobody uses it, durable or not."""
    if config.get("inactive_threshold"):
        yield "inactive_threshold"


def memory_progress(config: Config, _org: Org) -> Iterator[str]:
    """The consumer's state is in memory."""
    if config.get("mem_storage"):
        yield "mem_storage"


def memory_storage(config: Config, _org: Org) -> Iterator[str]:
    """The stream is in memory."""
    if config["storage"] == "memory":
        yield "storage"


def no_duplicate_window(config: Config, _org: Org) -> Iterator[str]:
    """Left to the server; a mirror has none of its own."""
    if not config.get("mirror") and not config["duplicate_window"]:
        yield "duplicate_window"


def short_duplicate_window(config: Config, _org: Org) -> Iterator[str]:
    """Shorter than publishing may fail during an election."""
    if 0 < config["duplicate_window"] < SHORTEST_WINDOW:
        yield "duplicate_window"


def unconfirmed_publish(config: Config, _org: Org) -> Iterator[str]:
    """The stream does not answer a publisher."""
    if config.get("no_ack"):
        yield "no_ack"


def async_persist(config: Config, _org: Org) -> Iterator[str]:
    """The stream answers a publisher too early."""
    if config.get("persist_mode") == "async":
        yield "persist_mode"


def drops_unread(config: Config, _org: Org) -> Iterator[str]:
    """Less than DAYS_WORK fits."""
    return _limits_below(DAYS_WORK, config)


def drops_dead_letters(config: Config, _org: Org) -> Iterator[str]:
    """Less than a WEEKEND of a failing agent fits."""
    return _limits_below(WEEKEND, config)


def _limits_below(least: Mapping[str, int], config: Config) -> Iterator[str]:
    """The limits that delete what nobody has read; max_age does under discard new as well (2.10 to 2.15)."""
    refuses: Mapping[str, bool] = {
        "max_msgs": config["discard"] == "new",
        "max_bytes": config["discard"] == "new",
        "max_msgs_per_subject": config["discard_new_per_subject"],
    }
    for name, enough in least.items():
        if 0 < config[name] < enough and not refuses.get(name):
            yield name


def many_routes(config: Config, _org: Org) -> Iterator[str]:
    """More than two for each of FEW_ROLES: the server compares each with every other."""
    if len(config.get("subjects") or ()) > 2 * FEW_ROLES:
        yield "subjects"


def no_limit(config: Config, _org: Org) -> Iterator[str]:
    """Nothing is ever deleted; named is the limit that the stream has by default."""
    limits = ("max_age", "max_msgs", "max_bytes", "max_msgs_per_subject")
    if (
        config["retention"] == "limits"
        and not config.get("sealed")
        and all(config[name] <= 0 for name in limits)
    ):
        yield "max_msgs" if config["metadata"][KIND] == StreamKind.DEAD_LETTERS else "max_age"


def endless_bucket(config: Config, org: Org) -> Iterator[str]:
    """No value is ever deleted. Of task documents that is meant: a lost one would be a lost task."""
    if not _of_tasks(config, org) and config["max_age"] <= 0 and config["max_bytes"] <= 0:
        yield "max_bytes"


def short_task_state(config: Config, org: Org) -> Iterator[str]:
    """Task documents end before the tasks."""
    if _of_tasks(config, org) and 0 < config["max_age"] < LONGEST_TASK:
        yield "max_age"


def bounded_task_state(config: Config, org: Org) -> Iterator[str]:
    """There is room for so many task documents and no more."""
    if _of_tasks(config, org) and config["max_bytes"] > 0:
        yield "max_bytes"


def _of_tasks(config: Config, org: Org) -> bool:
    """Whether it is the bucket of task documents."""
    return bool(config["name"] == bucket_stream(task_state_bucket(org.name)))


def single_replica(config: Config, org: Org) -> Iterator[str]:
    """One copy, in an environment that is called production, prod or live, alone or as a part of its name."""
    words = set(re.split(r"[^a-z]+", (org.environment or "").lower()))
    if config["num_replicas"] == 1 and words & _PRODUCTION:
        yield "num_replicas"


_MAIL = (StreamKind.TASKS, StreamKind.INBOXES)  # what is sent to one role, which nobody else reads
_KEPT = (*_MAIL, StreamKind.EVENTS, StreamKind.DEAD_LETTERS)  # what is stored for somebody who is away
_STREAMS = tuple(kind for kind in StreamKind if kind is not StreamKind.KEY_VALUE)
_MAIL_READERS = (ConsumerKind.WORKER, ConsumerKind.INBOX_READER)

LINTS: tuple[Lint, ...] = (
    Lint(
        "short-ack-wait",
        "`ack_wait`, or a step of `backoff`, of a worker under 5m",
        "a task is handed out again while its agent still works on it, and the work is paid for twice",
        "agents reason for up to 20 minutes: 30m is the default",
        (ConsumerKind.WORKER,),
        short_ack_wait,
    ),
    Lint(
        "endless-deliveries",
        "`max_deliver` -1 of a role's consumer",
        "a message that makes its agent fail is worked on again for ever, and never becomes a dead letter",
        "3 is the default",
        ROLE_CONSUMERS,
        endless_deliveries,
    ),
    Lint(
        "one-delivery",
        "`max_deliver` 1 of a worker",
        "the first crash makes a task a dead letter, which only a person sends again",
        "3 is the default",
        (ConsumerKind.WORKER,),
        one_delivery,
    ),
    Lint(
        "implicit-ack",
        "`ack_policy` none or all of a worker or an inbox reader",
        "none counts a message as done when it is handed out, all counts those before it that others work on:"
        " a crash loses them",
        "use ack_policy: explicit",
        _MAIL_READERS,
        implicit_ack,
    ),
    Lint(
        "skips-waiting",
        "`deliver_policy` new, last or last_per_subject of a worker or an inbox reader",
        "what waits in the stream when the consumer is created, also for a second time, is never handed out",
        "use deliver_policy: all",
        _MAIL_READERS,
        skips_waiting,
    ),
    Lint(
        "push-to-all",
        "`deliver_subject` without `deliver_group` of a worker",
        "every agent that listens is handed every task, and each does the work",
        "name a deliver_group, or let agents pull",
        (ConsumerKind.WORKER,),
        push_to_all,
    ),
    Lint(
        "vanishing-consumer",
        "`inactive_threshold` of a role's consumer, its own or by its stream's `consumer_limits`",
        "a role that is away for longer loses its consumer, and a new one starts over with what was done long ago",
        "leave inactive_threshold out",
        ROLE_CONSUMERS,
        vanishing_consumer,
    ),
    Lint(
        "memory-progress",
        "`mem_storage` of a role's consumer",
        "a restart of its server forgets the consumer, and a new one starts over with what was done long ago",
        "leave mem_storage out",
        ROLE_CONSUMERS,
        memory_progress,
    ),
    Lint(
        "memory-storage",
        "`storage` memory for tasks, inboxes, durable events or dead letters",
        "what waits is gone when its servers stop; a single server forgets even the stream",
        "use storage: file",
        _KEPT,
        memory_storage,
    ),
    Lint(
        "no-duplicate-window",
        "`duplicate_window` 0 for tasks, inboxes or durable events",
        "0 leaves it to the server, which takes 2m, or none at all for a stream with sources since 2.14:"
        " what is published twice is then done twice",
        "say how long ids are remembered, such as 2m",
        (*_MAIL, StreamKind.EVENTS),
        no_duplicate_window,
    ),
    Lint(
        "short-duplicate-window",
        "`duplicate_window` under 20s for tasks, inboxes or durable events",
        "a publisher without an answer repeats itself for up to 20s while a cluster elects a leader:"
        " what is stored twice is done twice",
        "2m is the default",
        (*_MAIL, StreamKind.EVENTS),
        short_duplicate_window,
    ),
    Lint(
        "unconfirmed-publish",
        "`no_ack` for tasks or inboxes",
        "a publisher is never told that its message was stored, or that it was refused",
        "leave no_ack out",
        _MAIL,
        unconfirmed_publish,
    ),
    Lint(
        "async-persist",
        "`persist_mode` async for tasks, inboxes or dead letters",
        "a publisher is told that its message is stored before the disk has it: a crash of the server loses it",
        "leave persist_mode out",
        (*_MAIL, StreamKind.DEAD_LETTERS),
        async_persist,
    ),
    Lint(
        "drops-unread",
        "a limit that deletes tasks or messages in an inbox before a day's work is done: `max_age` under 24h;"
        " `max_msgs` or `max_msgs_per_subject` under 72, or `max_bytes` under 1 MiB, where the oldest go",
        "a role that is away for a day loses what it was sent, without a dead letter",
        "raise the limit; max_msgs and max_bytes can also refuse what is new, with discard: new",
        _MAIL,
        drops_unread,
    ),
    Lint(
        "drops-dead-letters",
        "a limit that deletes dead letters over a weekend: `max_age` under 72h; `max_msgs` or"
        " `max_msgs_per_subject` under 72, or `max_bytes` under 1 MiB, where the oldest go",
        "a dead letter waits for a person, and is gone before one looks on Monday",
        "raise the limit; the default is 10000 messages of any age",
        (StreamKind.DEAD_LETTERS,),
        drops_dead_letters,
    ),
    Lint(
        "many-routes",
        "two subjects of `DEAD_LETTERS` for each of more than 1,000 streams",
        "the server compares each with every other, at every change and at every start: 1.5 s for 1,000 roles, more than"
        " 20 s for 5,000, and from about 7,000 on no request has room for them",
        "in an account that nobody else uses, set streams.dead_letters.subjects to <org>.org.deadletter and"
        " $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.*.* and $JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.*.*",
        (StreamKind.DEAD_LETTERS,),
        many_routes,
    ),
    Lint(
        "no-limit",
        "a stream without `max_age`, `max_msgs`, `max_bytes` and `max_msgs_per_subject`",
        "it grows until the account's storage is full, and then no stream of the account stores anything",
        "set one of them",
        _STREAMS,
        no_limit,
    ),
    Lint(
        "memory-bucket",
        "`storage` memory of a bucket",
        "its values are gone when its servers stop; a single server forgets even the bucket",
        "use storage: file, except for a cache",
        (StreamKind.KEY_VALUE,),
        memory_storage,
    ),
    Lint(
        "endless-bucket",
        "a bucket without `ttl` and `max_bytes`, other than that of `task_state`",
        "it grows with every new key until the account's storage is full,"
        " and then no stream of the account stores anything",
        "set one of them",
        (StreamKind.KEY_VALUE,),
        endless_bucket,
    ),
    Lint(
        "short-task-state",
        "`ttl` under 144h of the bucket of `task_state`",
        "a task that waits for longer, as a dead letter over a weekend, has no document when somebody gets to it",
        "leave ttl out, or take one that is longer than any task waits",
        (StreamKind.KEY_VALUE,),
        short_task_state,
    ),
    Lint(
        "bounded-task-state",
        "`max_bytes` of the bucket of `task_state`",
        "a full bucket refuses every put: no task can change its state any more",
        "leave max_bytes out, and watch the account's storage",
        (StreamKind.KEY_VALUE,),
        bounded_task_state,
    ),
    Lint(
        "single-replica",
        "`num_replicas` 1 in an environment that is called production, prod or live",
        "while its server is down nothing is stored or handed out, and what its disk loses is lost",
        "use replicas: 3 in defaults; a cluster of three servers survives the loss of one",
        (*StreamKind, *ConsumerKind),
        single_replica,
    ),
)
"""Each warning. A further one is one function and one row, and a case in tests/cases/lint."""
