"""Permissions in nats-server's own configuration language, and the context files of the `nats` CLI.

`nats-server -t` takes what is written here (2.10.26 and 2.15.1). A name or a subject is always quoted: what a manifest calls
something is never read as configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.model.identities import (
    LONGEST_PULL_SECONDS,
    Accounts,
    Crossing,
    Identity,
    Rules,
)
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


def accounts(
    org: Org,
    found: Sequence[Identity],
    keys: Mapping[str, str],
    names: Accounts,
    crossings: Sequence[Crossing],
) -> str:
    """Return an accounts block with a user for each identity, by its public key. It has no secret in it.

    Roles, and whoever hears of dead letters, are in an account without JetStream, and everybody else in the one that has it.
    """
    standing, apart = (
        [identity for identity in found if identity.is_apart is is_apart] for is_apart in (False, True)
    )
    lines = [
        FIRST_LINE,
        f"# Organisation {org.name}: in nats-server's configuration, include this file at the top level.",
        "accounts {",
        f"  {_quoted(names.jetstream)}: {{",
        "    jetstream: enabled",
        "    exports: [",
        *(f"      {_export(each, names.agents)} # {each.reason}" for each in crossings),
        "    ]",
        *_users(standing, keys),
        "  }",
        f"  {_quoted(names.agents)}: {{ # no JetStream here: what answers an agent stays in this account",
        "    imports: [",
        *(f"      {_import(each, names.jetstream)}" for each in crossings),
        "    ]",
        *_users(apart, keys),
        "  }",
        "}",
        "",
    ]
    return "\n".join(lines)


def _export(crossing: Crossing, importer: str) -> str:
    answers = (
        f', response_type: stream, response_threshold: "{LONGEST_PULL_SECONDS}s"' * crossing.has_many_answers
    )
    return f"{{{crossing.kind}: {_quoted(crossing.subject)}, accounts: [{_quoted(importer)}]{answers}}}"


def _import(crossing: Crossing, exporter: str) -> str:
    return f"{{{crossing.kind}: {{account: {_quoted(exporter)}, subject: {_quoted(crossing.subject)}}}}}"


def _users(found: Sequence[Identity], keys: Mapping[str, str]) -> Iterator[str]:
    yield "    users: ["
    for identity in found:
        yield f"      # {identity.name}"
        yield "      {"
        yield f"        nkey: {keys[identity.name]}"
        yield permissions(identity, " " * 8)
        yield "      }"
    yield "    ]"


def context(org: Org, identity: Identity, url: str, key: str) -> dict[str, Any]:
    """Return a context of the `nats` CLI: it names the file of the seed, and the inbox prefix, which no client guesses."""
    return {
        "description": f"{identity.name} of {org.name}, by cyborg-infra",
        "url": url,
        "nkey": key,
        "inbox_prefix": identity.inbox_prefix,
    }
