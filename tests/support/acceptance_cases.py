"""The acceptance table: what is on a server, a manifest, and the plan that must come of it. `test_acceptance` runs it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cyborg_infra.model.changes import Action, Cause, HazardName
from tests.support.scenario import (
    Scenario,
    Step,
    acked,
    after_apply,
    changed,
    consumer,
    deleted,
    fetched,
    nacked,
    published,
    stream,
    with_metadata,
)
from tests.support.servers import NEWEST, OLDEST


class Expected(NamedTuple):
    """One change: its action, the names of what changes beside the ownership marks, its hazards with their counts."""

    action: Action
    fields: frozenset[str]
    cause: Cause
    hazards: Mapping[str, int]


@dataclass(frozen=True)
class Row:
    """`before` happens, then the manifest is planned: exactly `plan`, for these reasons impossible, with these orphans."""

    name: str
    manifest: str
    plan: Mapping[str, Expected]
    before: Sequence[Step] = ()
    problems: frozenset[str] = frozenset()
    orphans: Sequence[str] = ()
    prune: bool = False
    targets: Sequence[str] = ()
    env: str | None = None
    after: Callable[[Scenario], bool] = field(default=lambda _: True)
    config: str = ""
    versions: Sequence[str] = (NEWEST, OLDEST)


def _change(action: Action) -> Callable[..., Expected]:
    def expected(*fields: str, cause: Cause = Cause.MANIFEST, **hazards: int) -> Expected:
        costs = {HazardName(name.replace("_", "-")).value: count for name, count in hazards.items()}
        return Expected(action, frozenset(fields), cause, costs)

    return expected


create, adopt, update, replace, delete, impossible = (_change(action) for action in Action)
drift, both = Cause.DRIFT, Cause.BOTH

# The smallest organisation, and everything that it has.
ORG = "org: gen\nroles: [cto]\n"
TASKS, INBOXES, BROADCASTS, LETTERS = "AGENT_CTO_TASKS", "AGENT_INBOXES", "ORG_BROADCASTS", "DEAD_LETTERS"
WORKER = f"{TASKS}/cto-worker"
INBOX_READER = f"{INBOXES}/cto-inbox-reader"
BROADCAST_READER = f"{BROADCASTS}/cto-broadcast-reader"
ALERTS = f"{LETTERS}/dead-letter-alerts"
STREAMS = (TASKS, INBOXES, BROADCASTS, LETTERS)
CONSUMERS = (WORKER, INBOX_READER, BROADCAST_READER, ALERTS)
FRESH = dict.fromkeys((*STREAMS, *CONSUMERS), create())
EVENTS, EVENT_READER = "ORG_EVENTS", "ORG_EVENTS/cto-event-reader"

TASK, INBOX, BROADCAST = "gen.agents.cto.tasks", "gen.agents.cto.inbox", "gen.org.broadcasts"

# The same with one more role; what a plan for ORG then finds left over.
TWO = "org: gen\nroles: [cto, ceo]\n"
CEO_TASKS, CEO_WORKER = "AGENT_CEO_TASKS", "AGENT_CEO_TASKS/ceo-worker"
CEO_INBOX_READER = f"{INBOXES}/ceo-inbox-reader"
CEO_BROADCAST_READER = f"{BROADCASTS}/ceo-broadcast-reader"
OF_CEO = (CEO_TASKS, CEO_WORKER, INBOXES + "/ceo-inbox-reader", BROADCASTS + "/ceo-broadcast-reader")

NS = 1
HOUR = 3600 * 1_000_000_000 * NS


def tasks(settings: str) -> str:
    return f"{ORG}streams: {{tasks: {{{settings}}}}}\n"


def inboxes(settings: str) -> str:
    return f"{ORG}streams: {{inboxes: {{{settings}}}}}\n"


def worker(settings: str) -> str:
    return f"{ORG}consumers: {{worker: {{{settings}}}}}\n"


def events(*durable: str) -> str:
    listed = "".join(f"  {name}: {{subscribers: [cto], durable: true}}\n" for name in durable)
    return f"{ORG}events:\n{listed}"


def account(limits: str) -> str:
    """Return a server whose one account has these JetStream limits."""
    return (
        f"accounts {{ AGENTS {{ jetstream: {{{limits}}}, users: [{{user: a, password: a}}] }} }}\n"
        "no_auth_user: a\n"
    )


def labelled_by_others(*refs: str, **labels: str) -> Step:
    """Somebody else puts labels on them."""

    def step(scenario: Scenario) -> None:
        for ref in refs:
            changed(ref, metadata=scenario.config(ref)["metadata"] | labels)(scenario)

    return step


def disowned(ref: str) -> Step:
    """Return our own labels are gone, and nothing else."""
    return with_metadata(ref, org=None, kind=None, role=None, applied=None, resource=None)


def waited(milliseconds: int) -> Step:
    """Return messages get older; nothing is measured."""
    return lambda _: time.sleep(milliseconds / 1000)


def asked(verb: str, body: str) -> Step:
    """Return a request as it stands."""
    return lambda scene: scene.ask(verb, json.loads(body))


# What `nats kv add drafts --history=5 --ttl=72h --max-bucket-size=1GB` sends.
CLI_BUCKET = json.dumps(
    {
        "name": "KV_drafts", "subjects": ["$KV.drafts.>"], "retention": "limits", "max_consumers": -1, "max_msgs": -1,
        "max_bytes": 2**30, "discard": "new", "max_age": 72 * HOUR, "max_msgs_per_subject": 5, "max_msg_size": -1,
        "storage": "file", "num_replicas": 1, "duplicate_window": 120 * 10**9, "deny_delete": True, "deny_purge": False,
        "allow_rollup_hdrs": True, "allow_direct": True,
    }
)  # fmt: skip


def _creating() -> Iterator[Row]:
    yield Row("an empty server gets everything", ORG, FRESH)
    yield Row("what was applied is in sync", ORG, {}, [after_apply(ORG)])
    yield Row(
        "everything set at once is kept and in sync afterwards",
        ORG
        + """
streams:
  tasks: {description: d, retention: workqueue, max_consumers: 7, max_msgs: 5, max_bytes: 1MB, max_age: 1h,
    max_msgs_per_subject: 3, max_msg_size: 1KB, storage: memory, discard: new, discard_new_per_subject: true,
    duplicate_window: 1m, compression: s2, first_seq: 9, allow_direct: false, deny_delete: true, deny_purge: true,
    consumer_limits: {max_ack_pending: 50, inactive_threshold: 2h}, metadata: {team: platform}}
  inboxes: {republish: {src: ">", dest: "copy.>", headers_only: true}, allow_rollup_hdrs: true, no_ack: true}
  broadcasts: {subject_transform: {src: "gen.org.*", dest: "kept.{{wildcard(1)}}"}}
consumers:
  worker: {description: d, ack_wait: 1m, max_deliver: 9, sample_freq: 50, max_ack_pending: 7, max_waiting: 99,
    headers_only: true, max_batch: 5, max_expires: 1m, max_bytes: 1MB, inactive_threshold: 1h, mem_storage: true}
  inbox_reader: {deliver_policy: by_start_sequence, opt_start_seq: 5, replay_policy: original, backoff: [1m, 2m]}
  broadcast_reader: {deliver_policy: by_start_time, opt_start_time: 2026-01-31T12:00:00+02:00,
    filter_subjects: [kept.broadcasts]}
  dead_letter_alerts: {deliver_subject: push.alerts, deliver_group: people, idle_heartbeat: 15s, flow_control: false,
    rate_limit_bps: 9000}
""",
        FRESH,
    )
    yield Row(
        "fields of newer servers are kept and in sync afterwards",
        ORG
        + """
streams:
  tasks: {allow_msg_ttl: true, subject_delete_marker_ttl: 1h, allow_atomic: true, allow_batched: true}
  inboxes: {allow_msg_schedules: true}
  broadcasts: {persist_mode: async}
consumers:
  worker: {priority_groups: [a], priority_policy: pinned_client}
  inbox_reader: {priority_groups: [a], priority_policy: prioritized}
  broadcast_reader: {priority_groups: [a], priority_policy: overflow}
""",
        FRESH,
        versions=[NEWEST],
    )
    yield Row(
        "an ephemeral event needs no stream",
        ORG + "events: {deploy.complete: {subscribers: [cto]}}\n",
        FRESH,
    )
    yield Row(
        "a durable event gets a stream and its subscriber a reader",
        events("deploy.complete"),
        {**FRESH, EVENTS: create(), EVENT_READER: create()},
    )
    yield Row(
        "an event that becomes durable is stored from now on",
        events("deploy.complete"),
        {LETTERS: update("subjects"), EVENTS: create(), EVENT_READER: create()},
        [after_apply(ORG)],
    )
    yield Row(
        "another durable event goes into the same stream and to the same reader",
        events("deploy.complete", "ci.result"),
        {EVENTS: update("subjects"), EVENT_READER: update("filter_subject", "filter_subjects")},
        [after_apply(events("deploy.complete"))],
    )
    yield Row(
        "a new role gets its own and joins the shared ones",
        TWO,
        {LETTERS: update("subjects"), **dict.fromkeys(OF_CEO, create())},
        [after_apply(ORG)],
    )
    yield Row(
        "two organisations share an account behind a prefix",
        "org: other\nroles: [cto]\nnaming: {stream_prefix: OTHER_}\n",
        {f"OTHER_{ref}": create() for ref in FRESH},
        [after_apply(ORG)],
    )


# What `nats stream add --defaults` and `nats consumer add --defaults --pull` send, to the letter.
CLI_TASKS = """{"name":"AGENT_CTO_TASKS","subjects":["genbrain.agents.cto.tasks"],"retention":"limits","max_consumers":-1,"max_msgs_per_subject":-1,"max_msgs":-1,"max_bytes":104857600,"max_age":259200000000000,"max_msg_size":-1,"storage":"file","discard":"old","num_replicas":1,"duplicate_window":120000000000,"sealed":false,"deny_delete":false,"deny_purge":false,"allow_rollup_hdrs":false,"allow_direct":true,"mirror_direct":false,"consumer_limits":{}}"""
CLI_LETTERS = """{"name":"DEAD_LETTERS","subjects":["genbrain.org.deadletter"],"retention":"limits","max_consumers":-1,"max_msgs_per_subject":-1,"max_msgs":10000,"max_bytes":-1,"max_age":0,"max_msg_size":-1,"storage":"file","discard":"old","num_replicas":1,"duplicate_window":120000000000,"sealed":false,"deny_delete":false,"deny_purge":false,"allow_rollup_hdrs":false,"allow_direct":true,"mirror_direct":false,"consumer_limits":{}}"""
CLI_WORKER = """{"stream_name":"AGENT_CTO_TASKS","config":{"ack_policy":"explicit","ack_wait":1800000000000,"deliver_policy":"all","durable_name":"cto-worker","name":"cto-worker","filter_subject":"genbrain.agents.cto.tasks","max_ack_pending":5,"max_deliver":3,"replay_policy":"instant","num_replicas":0,"pause_until":"0001-01-01T00:00:00Z"},"action":""}"""


def _adopting() -> Iterator[Row]:
    yield Row(
        "what the nats command line made is adopted; only what it lacks is changed",
        "org: genbrain\nroles: [cto]\n",
        {**FRESH, TASKS: adopt(), WORKER: adopt(), LETTERS: adopt("subjects", "subject_transform")},
        [
            asked("STREAM.CREATE.AGENT_CTO_TASKS", CLI_TASKS),
            asked("STREAM.CREATE.DEAD_LETTERS", CLI_LETTERS),
            asked("CONSUMER.CREATE.AGENT_CTO_TASKS.cto-worker.genbrain.agents.cto.tasks", CLI_WORKER),
            published("genbrain.agents.cto.tasks", 3),
        ],
        after=lambda scene: scene.info(WORKER)["num_pending"] == 3,
    )
    yield Row(
        "a stream made with the server's defaults is adopted and brought to ours",
        ORG,
        {**FRESH, TASKS: adopt("max_age", "max_bytes", "allow_direct")},
        [stream(TASKS, TASK)],
    )
    yield Row(
        "adopting may have to replace, and then keeps what a replacement keeps",
        ORG,
        {
            **FRESH,
            TASKS: replace("storage", "max_age", "max_bytes", "allow_direct"),
        },
        [stream(TASKS, TASK, storage="memory"), published(TASK, 2)],
        after=lambda scene: scene.info(TASKS)["state"]["messages"] == 2,
    )
    yield Row(
        "a consumer that nobody has to acknowledge to cannot become one",
        ORG,
        {
            WORKER: replace(
                "ack_policy", "ack_wait", "max_deliver", "max_ack_pending", "filter_subject", cause=drift
            )
        },
        [after_apply(ORG), deleted(WORKER), consumer(WORKER, ack_policy="none")],
    )
    yield Row(
        "what lost its marks is adopted again",
        ORG,
        {TASKS: adopt(cause=drift)},
        [after_apply(ORG), with_metadata(TASKS, org=None, kind=None, role=None, applied=None)],
    )
    yield Row(
        "another organisation's things are refused",
        ORG,
        {ref: impossible(*fields) for ref, fields in dict.fromkeys(FRESH, ()).items()},
        [after_apply("org: other\nroles: [cto]\n")],
        problems=frozenset({"foreign-owner"}),
    )
    yield Row(
        "one foreign consumer on our stream is refused",
        ORG,
        {WORKER: impossible(cause=drift)},
        [after_apply(ORG), with_metadata(WORKER, org="other")],
        problems=frozenset({"foreign-owner"}),
    )


def _updating() -> Iterator[Row]:
    before = [after_apply(ORG), published(TASK, 3), fetched(WORKER, 1)]
    yield Row(
        "streams change in place and keep their messages",
        tasks(
            "description: d, max_msgs: 50, max_bytes: 1MB, max_age: 1h, max_msgs_per_subject: 9, max_msg_size: 1KB,"
            " discard: new, discard_new_per_subject: true, no_ack: true, duplicate_window: 1m, compression: s2,"
            " allow_direct: false, allow_rollup_hdrs: true, consumer_limits: {max_ack_pending: 9},"
            " subject_transform: {src: 'gen.agents.*.tasks', dest: 'kept.{{wildcard(1)}}'},"
            " republish: {src: '>', dest: 'copy.>'}, metadata: {team: platform}, placement: {cluster: here}"
        ),
        {
            TASKS: update(
                "description", "max_msgs", "max_bytes", "max_age", "max_msgs_per_subject", "max_msg_size",
                "discard", "discard_new_per_subject", "no_ack", "duplicate_window", "compression", "allow_direct",
                "allow_rollup_hdrs", "consumer_limits", "subject_transform", "republish", "metadata.team",
                "placement",
            )
        },
        before,
        after=lambda scene: scene.info(TASKS)["state"]["messages"] == 3,
    )  # fmt: skip
    yield Row(
        "newer stream fields change in place",
        tasks("allow_msg_ttl: true, subject_delete_marker_ttl: 1h, allow_atomic: true, allow_batched: true"),
        {
            TASKS: update(
                "allow_msg_ttl", "subject_delete_marker_ttl", "allow_rollup_hdrs", "allow_atomic", "allow_batched"
            )
        },
        before,
        versions=[NEWEST],
    )  # fmt: skip
    yield Row(
        "consumers change in place and keep their position",
        worker(
            "description: d, ack_wait: 2h, max_deliver: 9, sample_freq: 50, max_ack_pending: 7, headers_only: true,"
            " max_batch: 5, max_expires: 1m, max_bytes: 1MB, inactive_threshold: 1h, metadata: {team: platform}"
        ),
        {
            WORKER: update(
                "description", "ack_wait", "max_deliver", "sample_freq", "max_ack_pending", "headers_only",
                "max_batch", "max_expires", "max_bytes", "inactive_threshold", "metadata.team",
            )
        },
        before,
        after=lambda scene: scene.info(WORKER)["num_ack_pending"] == 1,
    )  # fmt: skip
    yield Row(
        "backoff sets the first wait as well",
        worker("backoff: [45m, 1h]"),
        {WORKER: update("backoff", "ack_wait")},
        before,
    )
    yield Row(
        "newer consumer fields change in place",
        worker("priority_groups: [a], priority_policy: pinned_client"),
        {WORKER: update("priority_groups", "priority_policy", "priority_timeout")},
        before,
        versions=[NEWEST],
    )
    yield Row(
        "a line taken out of the manifest goes back to its default",
        ORG,
        {TASKS: update("description", "max_age", "metadata.team")},
        [after_apply(tasks("description: d, max_age: 1h, metadata: {team: platform}"))],
        after=lambda scene: "team" not in scene.config(TASKS)["metadata"],
    )
    yield Row(
        "other streams become sources in place",
        tasks("sources: [{name: OTHER}, {name: MORE, filter_subject: more.a}]"),
        {TASKS: update("sources")},
        [after_apply(ORG), stream("OTHER", "other.>"), stream("MORE", "more.>")],
    )
    yield Row(
        "the order of sources is no difference",
        tasks("sources: [{name: MORE}, {name: OTHER}]"),
        {},
        [
            stream("OTHER", "other.>"),
            stream("MORE", "more.>"),
            after_apply(tasks("sources: [{name: OTHER}, {name: MORE}]")),
        ],
    )
    yield Row(
        "limits to interest", tasks("retention: interest"), {TASKS: update("retention")}, [after_apply(ORG)]
    )
    yield Row(
        "interest to limits", ORG, {TASKS: update("retention")}, [after_apply(tasks("retention: interest"))]
    )
    yield Row("deny_delete on", tasks("deny_delete: true"), {TASKS: update("deny_delete")}, before)
    yield Row("deny_purge on", tasks("deny_purge: true"), {TASKS: update("deny_purge")}, before)
    yield Row(
        "schedules on",
        tasks("allow_msg_schedules: true"),
        {TASKS: update("allow_msg_schedules", "allow_rollup_hdrs")},
        before,
        versions=[NEWEST],
    )
    yield Row(
        "sealing closes a stream with all that the server adds to it",
        tasks("sealed: true"),
        {TASKS: update("sealed", "max_age", "discard", "deny_delete", "deny_purge", stops_capture=1)},
        before,
    )
    yield Row(
        "room for consumers changes in place since 2.12.5",
        tasks("max_consumers: 5"),
        {TASKS: update("max_consumers")},
        [after_apply(ORG)],
        versions=[NEWEST],
    )
    yield Row(
        "a mirror is promoted since 2.12",
        ORG,
        {TASKS: update("subjects", "mirror", "duplicate_window")},
        [stream("OTHER", "other.>"), after_apply(tasks("mirror: {name: OTHER}"))],
        versions=[NEWEST],
    )
    yield Row(
        "a push consumer may deliver elsewhere",
        worker("deliver_subject: push.there"),
        {WORKER: update("deliver_subject")},
        [after_apply(worker("deliver_subject: push.here"))],
    )
    yield Row(
        "consumers come under new limits before the stream gets them",
        ORG
        + "streams: {tasks: {consumer_limits: {max_ack_pending: 3}}}\nconsumers: {worker: {max_ack_pending: 3}}\n",
        {TASKS: update("consumer_limits"), WORKER: update("max_ack_pending")},
        [after_apply(ORG)],
    )
    yield Row(
        "limits give way before a consumer grows",
        ORG,
        {TASKS: update("consumer_limits"), WORKER: update("max_ack_pending")},
        [
            after_apply(
                ORG
                + "streams: {tasks: {consumer_limits: {max_ack_pending: 3}}}\nconsumers: {worker: {max_ack_pending: 3}}\n"
            )
        ],
        versions=[NEWEST],
    )
    yield Row(
        "the limits of a stream are the defaults of its consumers",
        tasks("consumer_limits: {inactive_threshold: 9h}"),
        {TASKS: update("consumer_limits"), WORKER: update("inactive_threshold")},
        [after_apply(ORG)],
        versions=[NEWEST],
    )


def _replacing() -> Iterator[Row]:
    for setting, names in (
        ("storage: memory", ("storage",)),
        ("retention: workqueue", ("retention",)),
        ("first_seq: 100", ("first_seq",)),
    ):
        yield Row(
            f"a stream is replaced with its consumers for {setting}",
            tasks(setting),
            {TASKS: replace(*names), WORKER: replace()},
            [after_apply(ORG)],
        )
    yield Row(
        "a number that the first message had is not asked for any more",
        ORG,
        {TASKS: update("first_seq")},
        [after_apply(tasks("first_seq: 100"))],
    )
    for setting in ("deny_delete: true", "deny_purge: true"):
        yield Row(
            f"{setting} cannot be taken back",
            ORG,
            {TASKS: replace(setting.split(":")[0]), WORKER: replace()},
            [after_apply(tasks(setting))],
        )
    for setting in ("allow_msg_ttl: true", "allow_msg_counter: true", "persist_mode: async"):
        name = setting.split(":")[0]
        yield Row(
            f"a stream is replaced to lose {setting}",
            ORG,
            {TASKS: replace(name), WORKER: replace()},
            [after_apply(tasks(setting))],
            versions=[NEWEST],
        )
    yield Row(
        "room for consumers needs another stream before 2.12.5",
        tasks("max_consumers: 5"),
        {TASKS: replace("max_consumers"), WORKER: replace()},
        [after_apply(ORG)],
        versions=[OLDEST],
    )
    yield Row(
        "a stream becomes a mirror only anew",
        tasks("mirror: {name: OTHER}"),
        {TASKS: replace("subjects", "mirror", "duplicate_window", stops_capture=1), WORKER: replace()},
        [after_apply(ORG), stream("OTHER", "other.>")],
    )
    yield Row(
        "streams that copy from one another, by filters",
        ORG
        + """streams:
  inboxes: {sources: [{name: ORG_BROADCASTS, filter_subject: x.only}]}
  broadcasts: {sources: [{name: AGENT_INBOXES, filter_subject: y.only}]}
""",
        FRESH,
    )
    yield Row(
        "a mirror of a stream that answers reads does so too",
        tasks("mirror: {name: OTHER}"),
        FRESH,
        [stream("OTHER", "other.>", allow_direct=True)],
    )
    yield Row(
        "a mirror cannot be promoted before 2.12",
        ORG,
        {TASKS: replace("subjects", "mirror", "duplicate_window"), WORKER: replace()},
        [stream("OTHER", "other.>"), after_apply(tasks("mirror: {name: OTHER}"))],
        versions=[OLDEST],
    )
    for setting in (
        "deliver_policy: new",
        "ack_policy: all",
        "replay_policy: original",
        "max_waiting: 9",
        "mem_storage: true",
        "deliver_subject: push.here",
    ):
        yield Row(
            f"a consumer is replaced for {setting}",
            worker(setting),
            {WORKER: replace(setting.split(":")[0])},
            [after_apply(ORG)],
        )
    yield Row(
        "a consumer that starts elsewhere is replaced",
        worker("deliver_policy: by_start_sequence, opt_start_seq: 3"),
        {WORKER: replace("deliver_policy", "opt_start_seq")},
        [after_apply(ORG)],
    )
    yield Row(
        "heartbeat and flow control of a push consumer are for life",
        worker("deliver_subject: push.here, idle_heartbeat: 15s, flow_control: true"),
        {WORKER: replace("idle_heartbeat", "flow_control")},
        [after_apply(worker("deliver_subject: push.here"))],
    )
    yield Row(
        "a replaced stream takes a stranger's consumer with it",
        tasks("storage: memory"),
        {TASKS: replace("storage", resets_progress=1), WORKER: replace()},
        [after_apply(ORG), published(TASK, 2), consumer(f"{TASKS}/audit")],
        versions=[NEWEST],
    )
    yield Row(
        "a stream that loses its messages takes a stranger's consumer with it",
        tasks("storage: memory, allow_msg_schedules: true"),
        {TASKS: replace("storage", deletes_messages=2, resets_progress=1), WORKER: replace()},
        [after_apply(tasks("allow_msg_schedules: true")), published(TASK, 2), consumer(f"{TASKS}/audit")],
        versions=[NEWEST],
    )


def _moving() -> Iterator[Row]:
    moving = ORG + "streams: {{tasks: {{subjects: [{0}, {1}]}}, broadcasts: {{subjects: [{2}, {3}]}}}}\n"
    yield Row(
        "a subject leaves one stream before it enters another",
        ORG + f"streams: {{broadcasts: {{subjects: [{BROADCAST}, moving.a, moving.b]}}}}\n",
        {TASKS: update("subjects"), BROADCASTS: update("subjects")},
        [after_apply(tasks(f"subjects: [{TASK}, moving.a, moving.b]"))],
    )
    yield Row(
        "a subject enters the stream that comes first in the alphabet",
        tasks(f"subjects: [{TASK}, moving.a]"),
        {TASKS: update("subjects"), BROADCASTS: update("subjects")},
        [after_apply(ORG + f"streams: {{broadcasts: {{subjects: [{BROADCAST}, moving.a]}}}}\n")],
    )
    yield Row(
        "subjects cannot move in a circle",
        moving.format(TASK, "moving.b", BROADCAST, "moving.a"),
        {TASKS: update("subjects"), BROADCASTS: update("subjects")},
        [after_apply(moving.format(TASK, "moving.a", BROADCAST, "moving.b"))],
        problems=frozenset({"order"}),
    )
    yield Row(
        "a subject stored by a stranger is refused",
        ORG,
        {**FRESH, TASKS: impossible(), INBOXES: impossible()},
        [stream("OTHER", "gen.agents.>")],
        problems=frozenset({"overlap", "capture"}),
    )
    yield Row(
        "a stranger elsewhere in the account is nobody's business",
        ORG,
        FRESH,
        [stream("OTHER", "other.>"), consumer("OTHER/reader"), published("other.a", 3)],
    )
    yield Row(
        "a stranger that came later stands in the way of a new subject only",
        tasks(f"subjects: [{TASK}, other.a]"),
        {TASKS: impossible("subjects")},
        [after_apply(ORG), stream("OTHER", "other.>")],
        problems=frozenset({"overlap"}),
    )
    renamed = ORG + "naming: {stream_prefix: NEW_}\n"
    yield Row(
        "streams and consumers go on behind a new prefix",
        renamed,
        {f"NEW_{ref}": replace() for ref in FRESH} | {f"NEW_{LETTERS}": replace("subjects")},
        [after_apply(ORG), published(TASK, 3), acked(WORKER, 1)],
        after=lambda scene: scene.info(f"NEW_{WORKER}")["num_pending"] == 2,
    )


def _drifting() -> Iterator[Row]:
    yield Row(
        "what was changed by hand is drift",
        ORG,
        {TASKS: update("max_age", cause=drift), WORKER: update("max_ack_pending", cause=drift)},
        [after_apply(ORG), changed(TASKS, max_age=HOUR * 80), changed(WORKER, max_ack_pending=77)],
    )
    yield Row(
        "what changed in the manifest is pending",
        tasks("max_age: 80h"),
        {TASKS: update("max_age")},
        [after_apply(ORG)],
    )
    yield Row(
        "what changed in both is both",
        tasks("max_age: 80h"),
        {TASKS: update("max_age", "description", cause=both)},
        [after_apply(ORG), changed(TASKS, description="mine")],
    )
    yield Row(
        "a change by hand to what the manifest says now leaves only the mark to write",
        tasks("max_age: 80h"),
        {TASKS: update(cause=both)},
        [after_apply(ORG), changed(TASKS, max_age=HOUR * 80)],
    )
    yield Row(
        "a change by hand that only a replacement undoes is drift",
        ORG,
        {TASKS: replace("deny_delete", cause=drift), WORKER: replace()},
        [after_apply(ORG), changed(TASKS, deny_delete=True)],
    )
    yield Row(
        "a consumer deleted by hand comes back",
        ORG,
        {WORKER: create(cause=drift)},
        [after_apply(ORG), deleted(WORKER)],
    )
    yield Row(
        "a stream deleted by hand comes back with its consumers",
        ORG,
        {TASKS: create(cause=drift), WORKER: create(cause=drift)},
        [after_apply(ORG), deleted(TASKS)],
    )
    yield Row(
        "a durable event's stream deleted by hand comes back",
        events("deploy.complete"),
        {EVENTS: create(cause=drift), EVENT_READER: create(cause=drift)},
        [after_apply(events("deploy.complete")), deleted(EVENTS)],
    )
    mine = labelled_by_others(TASKS, WORKER, mine="1")
    team = "metadata: {team: platform}"
    for name, manifest, plan, before in (
        ("are left alone", ORG, {}, [after_apply(ORG), mine]),
        (
            "are not taken for drift where the manifest changes something",
            tasks("max_msgs: 9"),
            {TASKS: update("max_msgs")},
            [after_apply(ORG), mine],
        ),
        (
            "stay where one of our own goes",
            ORG,
            {TASKS: update("metadata.team")},
            [after_apply(tasks(team)), mine],
        ),
        (
            "go along with a stream and a consumer that are replaced",
            tasks("first_seq: 100"),
            {TASKS: replace("first_seq"), WORKER: replace()},
            [after_apply(ORG), mine],
        ),
        (
            "are still there when a stream is adopted",
            ORG,
            {TASKS: adopt(cause=drift), WORKER: adopt()},
            [after_apply(ORG), mine, disowned(TASKS), disowned(WORKER)],
        ),
    ):
        yield Row(
            f"labels of others {name}",
            manifest,
            plan,
            before,
            after=lambda scene: all(scene.config(ref)["metadata"]["mine"] == "1" for ref in (TASKS, WORKER)),
        )
    yield Row(
        "a mark changed by hand is drift",
        ORG,
        {TASKS: update(cause=drift)},
        [after_apply(ORG), with_metadata(TASKS, role="ceo")],
    )
    yield Row(
        "the order of subjects is no difference",
        tasks(f"subjects: [{TASK}, b.c, a.b]"),
        {},
        [
            after_apply(tasks(f"subjects: [{TASK}, a.b, b.c]")),
            changed(TASKS, subjects=["b.c", "a.b", TASK]),
        ],
    )
    yield Row(
        "one filter in a list is that filter",
        worker(f"filter_subjects: [{TASK}]"),
        {},
        [after_apply(ORG)],
    )
    yield Row(
        "a paused consumer is no difference",
        ORG,
        {},
        [
            after_apply(ORG),
            lambda scene: scene.ask(
                f"CONSUMER.PAUSE.{WORKER.replace('/', '.')}", {"pause_until": "2199-01-01T00:00:00Z"}
            ),
        ],
        versions=[NEWEST],
    )
    yield Row(
        "an update leaves a consumer paused",
        worker("max_ack_pending: 6"),
        {WORKER: update("max_ack_pending")},
        [
            after_apply(ORG),
            lambda scene: scene.ask(
                f"CONSUMER.PAUSE.{WORKER.replace('/', '.')}", {"pause_until": "2199-01-01T00:00:00Z"}
            ),
        ],
        after=lambda scene: scene.info(WORKER)["paused"] is True,
        versions=[NEWEST],
    )
    yield Row(
        "a stranger's consumer on our stream is left alone",
        tasks("max_age: 80h"),
        {TASKS: update("max_age")},
        [after_apply(ORG), published(TASK, 2), consumer(f"{TASKS}/audit", ack_policy="none"), fetched(f"{TASKS}/audit", 1)],
        prune=True,
    )  # fmt: skip


def _orphans() -> Iterator[Row]:
    unrouted = update("subjects")  # a stream that is gone sends no notices
    yield Row(
        "what is no longer in the manifest is listed and left",
        ORG,
        {},
        [after_apply(TWO), published("gen.agents.ceo.tasks", 3)],
        orphans=OF_CEO,
    )
    yield Row(
        "empty orphans go with --prune",
        ORG,
        {
            LETTERS: unrouted,
            CEO_TASKS: delete(),
            **dict.fromkeys(OF_CEO[1:], delete()),
        },
        [after_apply(TWO)],
        prune=True,
    )
    yield Row(
        "orphans with messages cost them",
        ORG,
        {
            LETTERS: unrouted,
            CEO_TASKS: delete(deletes_messages=3),
            CEO_WORKER: delete(),
            CEO_INBOX_READER: delete(resets_progress=2),
            CEO_BROADCAST_READER: delete(resets_progress=1),
        },
        [
            after_apply(TWO),
            published("gen.agents.ceo.tasks", 3),
            published("gen.agents.ceo.inbox", 2),
            published(BROADCAST, 1),
            fetched(CEO_BROADCAST_READER, 1),
        ],
        prune=True,
    )
    yield Row(
        "a stranger is no orphan",
        ORG,
        {},
        [after_apply(ORG), stream("OTHER", "other.>"), consumer("OTHER/reader"), published("other.a", 1)],
        prune=True,
    )
    yield Row(
        "another organisation's things are no orphans",
        ORG,
        {},
        [after_apply(ORG), after_apply("org: other\nroles: [cto]\nnaming: {stream_prefix: OTHER_}\n")],
        prune=True,
    )
    yield Row(
        "an event that is no longer durable leaves its stream",
        ORG,
        {},
        [after_apply(events("deploy.complete"))],
        orphans=[EVENTS, EVENT_READER],
    )


def _costs() -> Iterator[Row]:
    """Yield each hazard with its number; an apply without its name is refused by `test_acceptance`."""
    stored = [after_apply(ORG), published(TASK, 5, size=1000)]
    yield Row("max_msgs", tasks("max_msgs: 2"), {TASKS: update("max_msgs", deletes_messages=3)}, stored)
    yield Row("max_bytes", tasks("max_bytes: 2KB"), {TASKS: update("max_bytes", deletes_messages=4)}, stored)
    yield Row(
        "max_age",
        tasks("max_age: 100ms"),
        {TASKS: update("max_age", "duplicate_window", deletes_messages=5)},
        [*stored, waited(150)],
    )
    yield Row("a max_age above the oldest message costs nothing", tasks("max_age: 71h"), {TASKS: update("max_age")}, stored)  # fmt: skip
    yield Row(
        "max_msgs_per_subject",
        inboxes("max_msgs_per_subject: 2"),
        {INBOXES: update("max_msgs_per_subject", deletes_messages=3)},
        [after_apply(ORG), published(INBOX, 5)],
    )
    yield Row(
        "under discard new a smaller limit deletes nothing",
        tasks("discard: new, max_msgs: 2"),
        {TASKS: update("discard", "max_msgs")},
        stored,
        after=lambda scene: scene.info(TASKS)["state"]["messages"] == 5,
    )
    yield Row(
        "back under discard old, what is above the limit goes",
        tasks("max_msgs: 2"),
        {TASKS: update("discard", deletes_messages=3)},
        [*stored, after_apply(tasks("discard: new, max_msgs: 2"))],
        after=lambda scene: scene.info(TASKS)["state"]["messages"] == 2,
    )
    yield Row(
        "interest keeps only what some consumer waits for",
        tasks("retention: interest"),
        {TASKS: update("retention", deletes_messages=2)},
        [*stored, acked(WORKER, 2)],
        after=lambda scene: scene.info(TASKS)["state"]["messages"] == 3,
    )
    yield Row(
        "a replaced stream carries its messages over",
        tasks("storage: memory"),
        {TASKS: replace("storage"), WORKER: replace()},
        [*stored, acked(WORKER, 2)],
        after=lambda scene: (
            scene.info(TASKS)["state"]["messages"] == 5 and scene.info(WORKER)["num_pending"] == 3
        ),
        versions=[NEWEST],
    )
    yield Row(
        "a replaced consumer goes on where it stood",
        worker("max_waiting: 9"),
        {WORKER: replace("max_waiting")},
        [*stored, acked(WORKER, 2)],
        after=lambda scene: scene.info(WORKER)["num_pending"] == 3,
    )
    yield Row(
        "a consumer that cannot be paused may repeat what it can hold",
        worker("max_waiting: 9"),
        {WORKER: replace("max_waiting", repeats_work=5)},  # no more than there are
        [*stored, acked(WORKER, 2), fetched(WORKER, 1)],
        after=lambda scene: scene.info(WORKER)["num_pending"] == 3,
        versions=[OLDEST],
    )
    yield Row(
        "a filter that lets waiting messages out",
        inboxes("") .replace("streams: {inboxes: {}}", "consumers: {inbox_reader: {filter_subject: gen.agents.ceo.inbox}}"),
        {INBOX_READER: update("filter_subject", resets_progress=4)},
        [after_apply(ORG), published(INBOX, 4)],
    )  # fmt: skip
    yield Row(
        "a filter that lets in what the cursor has passed",
        ORG + "consumers: {inbox_reader: {filter_subject: gen.agents.*.inbox}}\n",
        {INBOX_READER: update("filter_subject", resets_progress=2)},
        [after_apply(ORG), published("gen.agents.ceo.inbox", 2), published(INBOX, 1), acked(INBOX_READER, 1)],
    )
    yield Row(
        "fewer deliveries give up what has been tried before",
        worker("max_deliver: 2"),
        {WORKER: update("max_deliver", resets_progress=1)},
        [*stored, nacked(WORKER, 1), fetched(WORKER, 1)],
    )
    yield Row(
        "a shorter ack_wait repeats what is being worked on",
        worker("ack_wait: 10m"),
        {WORKER: update("ack_wait", repeats_work=2)},
        [*stored, fetched(WORKER, 2)],
    )
    yield Row(
        "a shorter ack_wait costs nothing where nobody works",
        worker("ack_wait: 10m"),
        {WORKER: update("ack_wait")},
        [*stored, acked(WORKER, 2)],
    )
    yield Row(
        "a durable event that nobody stores any more",
        events("deploy.complete"),
        {EVENTS: update("subjects", stops_capture=1), EVENT_READER: update("filter_subject", "filter_subjects")},
        [after_apply(events("deploy.complete", "ci.result"))],
    )  # fmt: skip


def _impossible() -> Iterator[Row]:
    yield Row(
        "replicas need a cluster",
        ORG + "defaults: {replicas: 3}\n",
        {**FRESH, **dict.fromkeys(STREAMS, impossible())},
        problems=frozenset({"replicas"}),
    )
    yield Row(
        "replicas of a living stream need a cluster",
        ORG + "defaults: {replicas: 3}\n",
        dict.fromkeys(STREAMS, impossible("num_replicas")),
        [after_apply(ORG)],
        problems=frozenset({"replicas"}),
    )
    yield Row(
        "a consumer's replicas need a cluster",
        ORG + "defaults: {replicas: 3}\nconsumers: {worker: {num_replicas: 3}}\n",
        {**FRESH, **dict.fromkeys((*STREAMS, WORKER), impossible())},
        problems=frozenset({"replicas"}),
    )
    yield Row(
        "a stream field that the server does not know",
        tasks("allow_msg_ttl: true"),
        {**FRESH, TASKS: impossible()},
        problems=frozenset({"unknown-field"}),
        versions=[OLDEST],
    )
    yield Row(
        "a consumer field that the server does not know",
        worker("priority_groups: [a], priority_policy: overflow"),
        {**FRESH, WORKER: impossible()},
        problems=frozenset({"unknown-field"}),
        versions=[OLDEST],
    )
    yield Row(
        "a stream cannot be born sealed",
        tasks("sealed: true"),
        {**FRESH, TASKS: impossible()},
        problems=frozenset({"sealed"}),
    )
    yield Row(
        "another account than the manifest expects",
        ORG + "server: {account: OTHER}\n",
        FRESH,
        problems=frozenset({"server-expectation"}),
        config=account(""),
    )
    yield Row(
        "the account that the manifest expects",
        ORG + "server: {account: AGENTS}\n",
        FRESH,
        config=account(""),
    )
    for limit, problem in (
        ("max_streams: 3", "limit-streams"),
        ("max_file: 300MB", "limit-storage"),
        ("max_bytes_required: true", "limit-max-bytes"),
    ):
        yield Row(
            f"an account with {limit}",
            ORG,
            FRESH,
            problems=frozenset({problem}),
            config=account(limit),
        )
    yield Row(
        "an account that allows streams of 200MB",
        ORG,
        {**FRESH, INBOXES: impossible()},
        problems=frozenset({"limit-max-bytes"}),
        config=account("disk_max_stream_bytes: 200MB"),
    )
    yield Row(
        "an account that allows 100 messages being worked on",
        worker("max_ack_pending: 101"),
        {**FRESH, WORKER: impossible()},
        problems=frozenset({"limit-ack-pending"}),
        config=account("max_ack_pending: 100"),
    )
    yield Row(
        "consumer_limits that a stranger's consumer exceeds",
        tasks("consumer_limits: {max_ack_pending: 9, inactive_threshold: 9h}"),
        {TASKS: impossible("consumer_limits"), WORKER: update("inactive_threshold")},
        [after_apply(ORG), consumer(f"{TASKS}/audit")],
        problems=frozenset({"consumer-limits"}),
    )
    limited = ORG + "streams: {tasks: {consumer_limits: {max_ack_pending: 5}}}\n"
    yield Row(
        "consumer_limits cannot be taken away before 2.14",
        ORG,
        {TASKS: impossible("consumer_limits")},
        [after_apply(limited)],
        problems=frozenset({"consumer-limits"}),
        versions=[OLDEST],
    )
    yield Row(
        "a full account takes only streams with max_bytes or none at all",
        ORG,
        FRESH,
        problems=frozenset({"limit-storage"}),
        config=account("max_file: 600MB"),
    )
    yield Row(
        "an account that may have no file storage at all",
        ORG,
        FRESH,
        problems=frozenset({"limit-storage"}),
        config=account("max_file: 0"),
    )
    yield Row(
        "an account that may have no memory at all",
        tasks("storage: memory"),
        FRESH,
        problems=frozenset({"limit-storage"}),
        config=account("max_mem: 0"),
    )
    yield Row(
        "an account that may have no memory, and none is wanted",
        ORG,
        FRESH,
        config=account("max_mem: 0"),
    )
    yield Row(
        "an account that allows fewer consumers of a stream than it asks for",
        tasks("max_consumers: 6"),
        {**FRESH, TASKS: impossible()},
        problems=frozenset({"limit-consumers"}),
        config=account("max_consumers: 5"),
    )
    queue = tasks("retention: workqueue")
    yield Row(
        "a stranger's consumer that reads what ours of a workqueue is to read",
        queue,
        {WORKER: impossible(cause=drift)},
        [
            after_apply(queue),
            deleted(WORKER),
            consumer(f"{TASKS}/audit", filter_subject="gen.agents.*.tasks"),
        ],
        problems=frozenset({"workqueue"}),
    )
    yield Row(
        "a stranger's consumer of a workqueue that reads something else",
        queue,
        {WORKER: create(cause=drift)},
        [after_apply(queue), deleted(WORKER), consumer(f"{TASKS}/audit", filter_subject="other")],
    )
    yield Row(
        "a stream gives its room back before another takes it",
        ORG + "streams: {tasks: {max_bytes: 500MB}, inboxes: {max_bytes: 100MB}}\n",
        {TASKS: update("max_bytes"), INBOXES: update("max_bytes")},
        [after_apply(ORG)],
        config=account("max_file: 601MB"),
    )
    yield Row(
        "a reader goes before another takes its place",
        "org: gen\nroles: [cto, dev]\nstreams: {inboxes: {max_consumers: 2}, broadcasts: {max_consumers: 2}}\n",
        {
            LETTERS: update("subjects"),
            CEO_TASKS: delete(),
            **dict.fromkeys(OF_CEO[1:], delete()),
            **{ref.replace("ceo", "dev").replace("CEO", "DEV"): create() for ref in OF_CEO},
        },
        [after_apply(TWO + "streams: {inboxes: {max_consumers: 2}, broadcasts: {max_consumers: 2}}\n")],
        prune=True,
    )
    yield Row(
        "readers that are left and strangers' count as well",
        TWO + "streams: {inboxes: {max_consumers: 2}}\n",
        {
            LETTERS: update("subjects"),
            **dict.fromkeys(OF_CEO, create()),
        },
        [after_apply(ORG + "streams: {inboxes: {max_consumers: 2}}\n"), consumer(f"{INBOXES}/audit")],
        problems=frozenset({"limit-consumers"}),
    )
    yield Row(
        "an account with room for one consumer per stream",
        TWO,
        {**FRESH, **dict.fromkeys(OF_CEO, create())},
        problems=frozenset({"limit-consumers"}),
        config=account("max_consumers: 1"),
    )
    yield Row(
        "limits that are just kept",
        ORG,
        FRESH,
        config=account("max_streams: 4, max_consumers: 1, max_file: 601MB, max_ack_pending: 1000"),
    )
    yield Row(
        "an account whose limits a change exceeds",
        tasks("max_bytes: 110MB"),
        {TASKS: update("max_bytes")},
        [after_apply(ORG)],
        problems=frozenset({"limit-storage"}),
        config=account("max_file: 605MB"),
    )
    yield Row(
        "an account that is full after a stranger came",
        TWO,
        {LETTERS: update("subjects"), **dict.fromkeys(OF_CEO, create())},
        [after_apply(ORG), stream("OTHER", "other.>")],
        problems=frozenset({"limit-streams"}),
        config=account("max_streams: 5"),
    )
    yield Row(
        "what is pruned makes room",
        "org: gen\nroles: [ceo]\n",
        {
            LETTERS: update("subjects"),
            **dict.fromkeys(OF_CEO, create()),
            TASKS: delete(),
            **dict.fromkeys((WORKER, INBOX_READER, BROADCAST_READER), delete()),
        },
        [after_apply(ORG)],
        prune=True,
        config=account("max_streams: 4"),
    )


LAYERS = (
    TWO.replace("[cto, ceo]", "{cto: {tasks: {max_age: 2h}}, ceo: {tasks: {max_age: 5h}}}")
    + "defaults: {storage: memory}\n"
    + "streams: {tasks: {max_age: 1h, max_msgs: 7}, inboxes: {storage: file}}\n"
    + "environments: {production: {defaults: {storage: file}, streams: {tasks: {max_age: 3h}, broadcasts: {storage: memory}},"
    + " roles: {cto: {tasks: {max_age: 4h}}}}}\n"
)


DRAFTS, DOCUMENTS = "KV_drafts", "KV_gen-tasks"
BUCKET = f"{ORG}key_value: {{drafts: {{history: 3}}}}\n"


def bucket(settings: str) -> str:
    return f"{ORG}key_value: {{drafts: {{{settings}}}}}\n"


def _keeping() -> Iterator[Row]:
    yield Row(
        "buckets come with the organisation",
        f"{ORG}task_state: true\nkey_value: [drafts]\n",
        {**FRESH, DRAFTS: create(), DOCUMENTS: create()},
        after=lambda scene: (
            [scene.config(ref)["max_msgs_per_subject"] for ref in (DRAFTS, DOCUMENTS)] == [1, 10]
            and scene.config(DOCUMENTS)["subjects"] == ["$KV.gen-tasks.>"]
        ),
    )
    yield Row(
        "a bucket more is pending, and DEAD_LETTERS remembers it",
        BUCKET,
        {DRAFTS: create(), LETTERS: update("metadata.cyborg-infra.buckets")},
        [after_apply(ORG)],
    )
    yield Row(
        "a bucket that somebody deleted is drift",
        BUCKET,
        {DRAFTS: create(cause=drift)},
        [after_apply(BUCKET), deleted(DRAFTS)],
    )
    yield Row(
        "a bucket that somebody changed is drift",
        BUCKET,
        {DRAFTS: update("max_msgs_per_subject", "allow_rollup_hdrs", cause=drift)},
        [after_apply(BUCKET), changed(DRAFTS, max_msgs_per_subject=9, allow_rollup_hdrs=False)],
    )
    yield Row(
        "less history, a shorter ttl and less room cost what they delete: room nothing, since a full bucket refuses",
        bucket("history: 2, ttl: 24h, max_bytes: 1KB"),
        {DRAFTS: update("max_msgs_per_subject", "max_age", "max_bytes", deletes_messages=1)},
        [after_apply(BUCKET), published("$KV.drafts.one", 4), published("$KV.drafts.two", 1, 900)],
        after=lambda scene: scene.info(DRAFTS)["state"]["messages"] == 3,
    )
    yield Row(
        "a bucket that moves to memory takes its values along",
        bucket("history: 3, storage: memory"),
        {DRAFTS: replace("storage")},
        [after_apply(BUCKET), published("$KV.drafts.one", 4)],
        after=lambda scene: scene.info(DRAFTS)["state"]["messages"] == 3,
        versions=[NEWEST],
    )
    yield Row(
        "a bucket with another name is another bucket; the old one is left alone",
        BUCKET.replace("drafts", "papers"),
        {"KV_papers": create(), LETTERS: update("metadata.cyborg-infra.buckets")},
        [after_apply(BUCKET), published("$KV.drafts.one", 1)],
        orphans=[DRAFTS],
    )
    yield Row(
        "a bucket left over is pruned, and its values are a hazard",
        ORG,
        {
            DRAFTS: delete(deletes_messages=1),
            LETTERS: update("metadata.cyborg-infra.buckets"),
        },
        [after_apply(BUCKET), published("$KV.drafts.one", 1)],
        prune=True,
    )
    yield Row(
        "another organisation's bucket is not taken",
        BUCKET,
        {**dict.fromkeys(FRESH, create(cause=drift)), DRAFTS: impossible(cause=drift)},
        [after_apply(BUCKET), with_metadata(DRAFTS, org="other"), *map(deleted, STREAMS)],
        problems=frozenset({"foreign-owner"}),
    )
    yield Row(
        "what `nats kv add` made is adopted; a time to live per key is switched on",
        bucket("history: 5, ttl: 72h, max_bytes: 1GB"),
        {DRAFTS: adopt("allow_msg_ttl"), LETTERS: update("metadata.cyborg-infra.buckets")},
        [after_apply(ORG), asked("STREAM.CREATE.KV_drafts", CLI_BUCKET)],
        versions=[NEWEST],
    )
    yield Row(
        "what `nats kv add` made is adopted as it is",
        bucket("history: 5, ttl: 72h, max_bytes: 1GB"),
        {DRAFTS: adopt(), LETTERS: update("metadata.cyborg-infra.buckets")},
        [after_apply(ORG), asked("STREAM.CREATE.KV_drafts", CLI_BUCKET)],
        versions=[OLDEST],
    )


def _admitting() -> Iterator[Row]:
    admission = tasks("admission: {max_pending: 2}")
    yield Row(
        "admission of a living stream is a replace that keeps what is unfinished, also where that is too much, and no history",
        admission,
        {TASKS: replace("retention", "discard", "max_msgs", deletes_messages=1), WORKER: replace()},
        [after_apply(ORG), published(TASK, 5), acked(WORKER, 1)],
        after=lambda scene: scene.info(TASKS)["state"]["messages"] == 4,
        versions=[NEWEST],
    )
    yield Row(
        "admission of what is a workqueue already is an update in place, and deletes nothing",
        admission,
        {TASKS: update("discard", "max_msgs")},
        [after_apply(tasks("retention: workqueue")), published(TASK, 5)],
        after=lambda scene: scene.info(TASKS)["state"]["messages"] == 5,
    )


def _narrowing() -> Iterator[Row]:
    yield Row(
        "a role wins over its kind, and its kind over the defaults",
        LAYERS,
        {**FRESH, **dict.fromkeys(OF_CEO, create())},
        after=lambda scene: (
            [(scene.config(ref)["max_age"] // HOUR, scene.config(ref)["max_msgs"]) for ref in (TASKS, CEO_TASKS)]
            == [(2, 7), (5, 7)]
            and [scene.config(ref)["storage"] for ref in STREAMS] == ["memory", "file", "memory", "memory"]
        ),
    )  # fmt: skip
    yield Row(
        "an environment wins over all of the manifest",
        LAYERS,
        {**FRESH, **dict.fromkeys(OF_CEO, create())},
        env="production",
        after=lambda scene: (
            [scene.config(ref)["max_age"] // HOUR for ref in (TASKS, CEO_TASKS)] == [4, 3]
            and [scene.config(ref)["storage"] for ref in STREAMS] == ["file", "file", "memory", "file"]
        ),
    )
    both_changed = TWO + "streams: {tasks: {max_age: 80h}, inboxes: {max_age: 80h}}\n"
    yield Row(
        "--target leaves everything else as it is",
        both_changed,
        {TASKS: update("max_age")},
        [after_apply(TWO)],
        targets=["cto"],
        after=lambda scene: scene.config(CEO_TASKS)["max_age"] == 72 * HOUR,
    )
    yield Row(
        "--target of a role whose shared streams do not exist",
        ORG,
        {TASKS: create(), **dict.fromkeys((WORKER, INBOX_READER, BROADCAST_READER), create())},
        targets=["cto"],
        problems=frozenset({"target"}),
    )


ROWS: tuple[Row, ...] = tuple(
    row
    for group in (
        _creating, _adopting, _updating, _replacing, _moving, _drifting, _orphans, _costs, _impossible, _narrowing,
        _keeping, _admitting,
    )
    for row in group()
)  # fmt: skip
