"""Permissions in nats-server's own configuration language, and the context files of the `nats` CLI.

`nats-server -t` takes what is written here (2.10.26 and 2.15.1). A name or a subject is always quoted: what a manifest calls
something is never read as configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cyborg_infra.model.identities import Identity, Rules
from cyborg_infra.model.organisation import Org

FIRST_LINE = (
    "# Written by cyborg-infra auth config. What is changed by hand here is lost when it writes again."
)


def permissions(identity: Identity, indent: str = "") -> str:
    """Return the block `permissions: {...}` of one user."""
    lines = [
        "permissions: {",
        *_rules("publish", identity.publish_rules),
        *_rules("subscribe", identity.subscribe_rules),
    ]
    return "\n".join(f"{indent}{each}" for each in (*lines, "}"))


def _rules(direction: str, rules: Rules) -> list[str]:
    parts = [(word, subjects) for word, subjects in zip(rules._fields, rules, strict=True) if subjects]
    lines = [f"  {direction}: {{"]
    for word, subjects in parts:
        if len(subjects) == 1:
            lines.append(f"    {word}: [{_quoted(subjects[0])}]")
        else:
            lines += [f"    {word}: [", *(f"      {_quoted(each)}" for each in subjects), "    ]"]
    return [*lines, "  }"]


def _quoted(value: str) -> str:
    """Return a text as the configuration takes it, which knows JSON's escapes of quotes and backslashes."""
    return json.dumps(value, ensure_ascii=False)


def accounts(org: Org, found: Sequence[Identity], keys: Mapping[str, str], account: str) -> str:
    """Return an accounts block with a user for each identity, by its public key. It has no secret in it."""
    lines = [
        FIRST_LINE,
        f"# Organisation {org.name}: in nats-server's configuration, include this file at the top level.",
        "accounts {",
        f"  {_quoted(account)}: {{",
        "    jetstream: enabled",
        "    users: [",
    ]
    for identity in found:
        lines += [
            f"      # {identity.name}",
            "      {",
            f"        nkey: {keys[identity.name]}",
            permissions(identity, " " * 8),
            "      }",
        ]
    return "\n".join([*lines, "    ]", "  }", "}", ""])


def context(org: Org, identity: Identity, url: str, key: str) -> dict[str, Any]:
    """Return a context of the `nats` CLI: it names the file of the seed, and the inbox prefix, which no client guesses."""
    return {
        "description": f"{identity.name} of {org.name}, by cyborg-infra",
        "url": url,
        "nkey": key,
        "inbox_prefix": identity.inbox_prefix,
    }
