"""The manifest that `init` writes: the two keys that are needed, and every optional one as a commented example."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.yaml_source import is_plain

_TEMPLATE = """\
# The messaging backbone of {org} on NATS JetStream.
# `cyborg-infra validate` checks this file, `cyborg-infra plan` compares it with the server.

# The first token of every subject: {org}.agents.<role>.tasks
org: {org}

# The agents' positions. Each gets a task stream with a worker, an inbox, and a reader of the broadcasts.
roles:
{roles}
# All that follows is optional; what is left out has its default. Remove the '#' in front of what you need.

{chart}# What happens in the organisation, on {org}.events.<domain>.<event>. Durable ones wait in the stream
# ORG_EVENTS for subscribers that are away.
#
# events:
#   deploy.complete:
#     publishers: [{first}]
#     subscribers: [{last}]
#     durable: true

# Channels of your own, and built-in ones changed or left out: tasks, inbox, status, requests, broadcasts, events,
# dead_letters.
#
# channels:
#   control: {{of: role, durable: true, publishers: [{first}]}}  # {org}.agents.<role>.control, in the stream AGENT_CONTROL
#   inbox: false

# Settings of every stream. 3 replicas survive the loss of one server of a cluster.
#
# defaults:
#   replicas: 3
#   storage: file

# JetStream's own fields for every stream or consumer of a kind. Sizes are 1024-based (100MB), durations
# have a unit (30m, 72h, 7d).
#
# streams:           # tasks, inboxes, broadcasts, events, dead_letters
#   tasks:
#     max_age: 72h
#     max_bytes: 100MB
#     admission: {{max_pending: 5}}  # the server itself refuses a role's sixth unfinished task
#
# consumers:         # worker, inbox_reader, broadcast_reader, event_reader, dead_letter_alerts
#   worker:
#     ack_wait: 30m  # must exceed the longest work on one task
#     max_deliver: 3
#     max_ack_pending: 5

# Key-value buckets, which every NATS client opens by name. task_state adds {org}-tasks: every task's document, under
# its task_id.
#
# task_state: true
#
# key_value:
#   drafts:
#     history: 5
#     ttl: 72h

# The same for one role alone: write `roles` as a mapping.
#
# roles:
#   {first}:
#     tasks:
#       max_age: 7d
#     worker:
#       max_ack_pending: 1

# What differs where; chosen with --env production.
#
# environments:
#   production:
#     defaults:
#       replicas: 3

# A prefix for every stream's name, so that two organisations can share an account; other names, and another beginning
# of subjects.
#
# naming:
#   stream_prefix: MINE_
#   subject_prefix: {org}.eu
#   streams: {{tasks: "{{ROLE}}_WORK"}}

# Where this manifest belongs. A plan against another account or cluster is refused.
#
# server:
#   account: AGENTS
#   cluster: eu-west
"""

_CHART = """\
# Who gives tasks to whom: each role to those that report to it, theirs included, and to those that it assigns to.
# Without reports_to every role gives tasks to every other. A group stands wherever roles are named.
#
# roles:
#   {first}:
#   {last}: {{reports_to: {first}}}
#
# groups:
#   everybody: [{first}, {last}]

"""
"""What takes two roles."""


def template_manifest(org: str, roles: Sequence[str]) -> str:
    """Return a commented manifest of the organisation `org` with these roles, which loads as it is.

    Raises:
        ManifestInvalid: the names cannot be used; its marks are lines of the text that would have been written.
    """
    listed = "".join(f"  - {_scalar(role)}\n" for role in roles) or "  []\n"
    ends = [_scalar(role) for role in (*roles[:1], *roles[-1:])] or ["cto", "cto"]
    names = {"org": _scalar(org), "first": ends[0], "last": ends[-1]}
    chart = _CHART.format(**names) if len(roles) > 1 else ""
    text = _TEMPLATE.format(**names, roles=listed, chart=chart)
    loads(text)
    return text


def _scalar(text: str) -> str:
    """Return `text` as YAML writes it, with quotes where it needs them."""
    return text if is_plain(text) else json.dumps(text, ensure_ascii=False)
