"""Key-value buckets as NATS clients make them: the stream behind one, and the names of its settings.

Taken from nats-py 2.16, nats.go 1.5x and `nats kv add`, and read off buckets that they made on 2.10.26 and 2.15.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cyborg_infra.model.valueclass import NamedTuple

LEASE_BUCKET = "cyborg-infra"
"""The bucket of all organisations' leases; `nats kv get cyborg-infra <org>` shows who holds one."""

APPLIED_BUCKET = "cyborg-infra-applied"
"""The bucket that remembers what was applied; `nats kv get cyborg-infra-applied <org>` shows it. Nothing in it expires."""

TOOL_BUCKETS = (LEASE_BUCKET, APPLIED_BUCKET)
"""The buckets of the tool itself."""

BUCKET_USERS = ("readers", "writers", "watchers")
"""What a manifest says of a bucket beside its settings: lists of roles and groups."""

STREAM_PREFIX = "KV_"
_NAME = r"[a-zA-Z0-9_-]+"


def is_bucket(name: str) -> bool:
    """Return whether every client takes `name` as the name of a bucket."""
    return bool(re.fullmatch(_NAME, name))


def bucket_stream(name: str) -> str:
    """Return `KV_task-docs` for `task-docs`; clients find a bucket by this name, so no stream_prefix stands before it."""
    return f"{STREAM_PREFIX}{name}"


def bucket_subject(name: str) -> str:
    """Return `$KV.task-docs.>`: the key is what follows."""
    return f"$KV.{name}.>"


class BucketSetting(NamedTuple):
    """One setting of a bucket: the stream field that it stands for, and what is narrower than there."""

    field: str
    doc: str
    example: Any
    least: int | None = None
    most: int | None = None


BUCKET_SETTINGS: Mapping[str, BucketSetting] = {
    "description": BucketSetting("description", "What the bucket is for; at most 4096 bytes.", "Drafts of the press"),
    "history": BucketSetting("max_msgs_per_subject", "How many values of a key are kept, the latest included.", 5, 1, 64),
    "ttl": BucketSetting("max_age", "How long a value is kept; 0 is for ever.", "72h"),
    "max_bytes": BucketSetting("max_bytes", "Most bytes kept, and reserved on the server; -1 is unlimited. A full bucket refuses every put.", "1GB"),
    "max_value_size": BucketSetting("max_msg_size", "Largest value that is accepted; -1 is the server's own limit.", "1MB"),
    "storage": BucketSetting("storage", "Where values are kept.", "file"),
    "replicas": BucketSetting("num_replicas", "Copies of the bucket in the cluster; 3 survives the loss of one server.", 3),
    "placement": BucketSetting("placement", "The cluster and server tags where the bucket lives; {} is anywhere.", {"cluster": "eu-west"}),
    "compression": BucketSetting("compression", "Compression of files.", "s2"),
    "republish": BucketSetting("republish", "Publishes every stored value again on another subject.", {"src": ">", "dest": "copy.>"}),
    "limit_marker_ttl": BucketSetting("subject_delete_marker_ttl", "How long a watcher can see that a value expired.", "1h"),
    "allow_direct": BucketSetting("allow_direct", "Every replica answers reads, also one that is behind: false for the bucket of task_state. nats-py makes buckets without, others with it.", True),
    "allow_msg_ttl": BucketSetting("allow_msg_ttl", "Allow a time to live per key. nats-py makes buckets with it, others without; it can be switched on, never off.", True),
    "metadata": BucketSetting("metadata", "Text labels of your own; keys of cyborg-infra and _nats are reserved.", {"team": "platform"}),
}  # fmt: skip
"""The settings in the clients' words, which are not JetStream's: agents read about buckets in the clients' books."""

FIELD_OF: Mapping[str, str] = {word: setting.field for word, setting in BUCKET_SETTINGS.items()}
WORD_OF: Mapping[str, str] = {field: word for word, field in FIELD_OF.items()}

DEFAULTS: Mapping[str, Any] = {
    "max_msgs_per_subject": 1,
    "discard": "new",
    "deny_delete": True,
    "allow_rollup_hdrs": True,
    "allow_direct": True,
    "allow_msg_ttl": True,
}
"""What a client's stream for a bucket has beside the server's defaults.

Clients disagree in the last two. With both on, a bucket of any client is adopted by an update in place at most:
allow_msg_ttl is never switched off on a living stream.
"""

TASK_STATE_SUFFIX = "-tasks"
TASK_STATE: Mapping[str, Any] = {"max_msgs_per_subject": 10, "allow_direct": False}
"""Of the bucket of task documents, whose keys are task ids.

The straight way of a task (assigned, accepted, in_progress, completed_unverified, completed) is five values, and each
review that finds something adds two: ten keep all of it for two such reviews. No ttl: a document that vanished while
its task waits for a person would be a lost task. No max_bytes: a full bucket would refuse the next transition.
No allow_direct: a copy that is behind answers with an earlier state (measured on three replicas with other writers: 94
of 600 reads of one's own write on 2.15.1, 49 on 2.10.26; without it none), and an agent acts on it.
"""


def task_state_bucket(org: str) -> str:
    """Return the bucket of an organisation's task documents; two organisations in one account have two."""
    return f"{org}{TASK_STATE_SUFFIX}"
