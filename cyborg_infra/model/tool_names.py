"""What other tools call JetStream's fields: `export` writes these names, `import` reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cyborg_infra.model.fields import Kind

NACK_NAMES: Mapping[Kind, Mapping[str, str]] = {
    Kind.STREAM: {
        "num_replicas": "replicas",
        "discard_new_per_subject": "discardPerSubject",
        "allow_rollup_hdrs": "allowRollup",
        "allow_atomic": "allowAtomicPublish",
        "first_seq": "firstSequence",
    },
    Kind.CONSUMER: {
        "num_replicas": "replicas",
        "idle_heartbeat": "heartbeatInterval",
        "max_batch": "maxRequestBatch",
        "max_expires": "maxRequestExpires",
        "max_bytes": "maxRequestMaxBytes",
        "priority_timeout": "pinnedTtl",
    },
}
"""What NACK calls otherwise; all else is JetStream's name in camel case."""

NACK_DELIVER_POLICIES: Mapping[str, str] = {
    "by_start_sequence": "byStartSequence",
    "by_start_time": "byStartTime",
    "last_per_subject": "lastPerSubject",
}

TERRAFORM_NAMES: Mapping[Kind, Mapping[str, str]] = {
    Kind.STREAM: {"num_replicas": "replicas"},
    Kind.CONSUMER: {
        "max_deliver": "max_delivery",
        "deliver_subject": "delivery_subject",
        "deliver_group": "delivery_group",
        "rate_limit_bps": "ratelimit",
        "idle_heartbeat": "heartbeat",
        "mem_storage": "memory",
        "num_replicas": "replicas",
    },
}
"""What the JetStream provider calls otherwise."""

TERRAFORM_STREAM_ID, TERRAFORM_CONSUMER_ID = "JETSTREAM_STREAM_", "_CONSUMER_"
"""How the provider's ids begin, and what stands between a stream and its consumer."""


def nack_name(kind: Kind, field: str) -> str:
    """Return what NACK calls a field of a stream or consumer."""
    return NACK_NAMES[kind].get(field) or re.sub(r"_(\w)", lambda found: found[1].upper(), field)
