"""The names of settings by the type of their values, so that a type checker knows what `Resource.get` returns.

Written by `docs/generate.py` from the rows of `model.fields`.
"""

from __future__ import annotations

from typing import Literal

# fmt: off

NumberField = Literal[
    "max_consumers",
    "max_msgs",
    "max_bytes",
    "max_age",
    "max_msgs_per_subject",
    "max_msg_size",
    "num_replicas",
    "duplicate_window",
    "first_seq",
    "subject_delete_marker_ttl",
    "opt_start_seq",
    "ack_wait",
    "max_deliver",
    "rate_limit_bps",
    "max_ack_pending",
    "max_waiting",
    "max_batch",
    "max_expires",
    "inactive_threshold",
    "idle_heartbeat",
    "priority_timeout",
]
"""Counts, sizes in bytes and durations in nanoseconds."""

TextField = Literal[
    "description",
    "retention",
    "storage",
    "discard",
    "compression",
    "persist_mode",
    "deliver_policy",
    "opt_start_time",
    "ack_policy",
    "filter_subject",
    "replay_policy",
    "sample_freq",
    "deliver_subject",
    "deliver_group",
    "priority_policy",
    "name",
    "durable_name",
    "pause_until",
]
"""Texts, choices, single subjects and times."""

FlagField = Literal[
    "discard_new_per_subject",
    "no_ack",
    "allow_direct",
    "mirror_direct",
    "sealed",
    "deny_delete",
    "deny_purge",
    "allow_rollup_hdrs",
    "allow_msg_ttl",
    "allow_msg_counter",
    "allow_atomic",
    "allow_msg_schedules",
    "allow_batched",
    "headers_only",
    "mem_storage",
    "flow_control",
    "sourcing",
]
"""Flags."""

TextsField = Literal[
    "subjects",
    "filter_subjects",
    "priority_groups",
]
"""Lists of subjects or names."""

NumbersField = Literal[
    "backoff",
]
"""Lists of durations in nanoseconds."""

ObjectField = Literal[
    "placement",
    "mirror",
    "subject_transform",
    "republish",
    "consumer_limits",
]
"""Objects."""

ObjectsField = Literal[
    "sources",
]
"""Lists of objects."""
