"""The metadata by which streams and consumers of an organisation are known, and what a replace notes on them."""

from __future__ import annotations

OWNER_KEY = "cyborg-infra.org"

KIND_KEY = "cyborg-infra.kind"

ROLE_KEY = "cyborg-infra.role"

APPLIED_KEY = "cyborg-infra.applied"

RESOURCE_KEY = "cyborg-infra.resource"

OWNERSHIP_KEYS = (OWNER_KEY, KIND_KEY, ROLE_KEY, APPLIED_KEY, RESOURCE_KEY)
"""The metadata that says whose a resource is, which one it is, and what was last applied to it.

Clients that copy a configuration copy its labels as well (`nats stream copy`, `nats consumer copy`): RESOURCE_KEY, a Ref
in words, tells the copy. What was applied before there was this label has none, and gets it with its next change.
"""

RENAMED_FROM_KEY = "cyborg-infra.renamed-from"
"""The name that a resource's role had before, as long as the manifest says so."""

BUCKETS_KEY = "cyborg-infra.buckets"
"""On DEAD_LETTERS: the names of the buckets that were applied. Of a bucket that somebody deleted nothing else tells."""

START_KEY = "cyborg-infra.start"
"""On a consumer that was replaced on a server before 2.14: the deliver_policy that its start sequence stands for."""

STOPPED_KEY = "cyborg-infra.stopped"
"""On a consumer that is stopped: up to which number it has handed out; with a `+` behind it, perhaps a little more.

Before 2.11 also up to where it had finished all, and which server said so: `12 8 NABC`. See `StopPosition`.
"""

READ_KEY = "cyborg-infra.read"
"""On a consumer that is stopped: the filters that it had before, with spaces between."""

POSITION_KEY = "cyborg-infra.position"
"""On such a consumer: where the new one shall go on, if that is further than what the placeholder waits for."""

PAUSED_KEY = "cyborg-infra.paused"
"""On such a consumer: until when the old one was paused by hand."""

BECOMES_KEY = "cyborg-infra.becomes"
"""On such a stream: the name of the stream that its messages are for."""

JOURNAL_KEY = "cyborg-infra.journal"
"""On such a stream: what is needed to go on, or back, after an interruption."""

SERVER_VALUES_KEY = "cyborg-infra.server-values"
"""What a limit of the server's own made of fields that the manifest leaves open: `max_ack_pending=500 max_batch=100`."""

STATE_KEYS = (START_KEY, STOPPED_KEY, READ_KEY, SERVER_VALUES_KEY)
"""What an apply notes beside what was asked for; no plan is about it."""
