"""Identities and what they may do: as lines for people, as data, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cyborg_infra.model.identities import EVERYTHING, Crossing, Explanation, Grant, Identity, Need
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.wording import first_few
from cyborg_infra.render.json_format import SCHEMA_VERSION
from cyborg_infra.render.markdown import prose
from cyborg_infra.render.terminal.layout import Block, Page, Table, line
from cyborg_infra.render.terminal.problems import environment

_MAX_NAMED = 10
_NOTHING = Grant(EVERYTHING, "nothing is allowed, and an empty list would allow everything")


def data(org: Org, found: Sequence[Identity], crossings: Sequence[Crossing]) -> dict[str, Any]:
    """Return every identity with what it may do and why, and what crosses between their accounts (auth-show.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "org": org.name,
        "environment": org.environment,
        "identities": [
            {
                "name": identity.name,
                "kind": str(identity.kind),
                "meaning": identity.meaning,
                "inbox_prefix": identity.inbox_prefix,
                "publish": _direction(identity.publish, identity.deny_publish),
                "subscribe": _direction(identity.subscribe, identity.deny_subscribe),
            }
            for identity in found
        ],
        "crossings": [each._asdict() | {"kind": each.kind.value} for each in crossings],
    }


def _direction(allow: Sequence[Grant], deny: Sequence[Grant]) -> dict[str, Any]:
    return {
        "allow": [grant._asdict() for grant in allow],
        "deny": [grant._asdict() for grant in (deny if allow else [*deny, _NOTHING])],
    }


def text(org: Org, found: Sequence[Identity], crossings: Sequence[Crossing], *, chosen: bool) -> Page:
    """Return one line an identity, and what crosses between their accounts; of those that were `chosen`, every subject."""
    blocks: list[Block] = [line((f"Organisation {org.name}", "bold"), environment(org.environment))]
    if chosen:
        for identity in found:
            blocks += [line(), *_one(identity)]
        return Page(tuple(blocks))
    blocks += [
        line(),
        line((f"Identities ({len(found)})", "bold")),
        Table(
            ("IDENTITY", "KIND", "PUBLISHES", "SUBSCRIBES", "INBOX PREFIX", "FOR"),
            tuple(
                (
                    identity.name,
                    str(identity.kind),
                    str(len(identity.publish)),
                    str(len(identity.subscribe)),
                    identity.inbox_prefix,
                    identity.meaning,
                )
                for identity in found
            ),
            indent=2,
        ),
        line(),
        line(
            (f"What the roles' account exchanges with the one that has JetStream ({len(crossings)})", "bold")
        ),
        Table(
            ("KIND", "SUBJECT", "REASON"),
            tuple((each.kind.value, each.subject, each.reason) for each in crossings),
            indent=2,
        ),
        line(),
        line("Each subject of one of them, with its reason: cyborg-infra auth show --identity NAME"),
    ]
    return Page(tuple(blocks))


def _one(identity: Identity) -> Iterator[Block]:
    meaning = f": {identity.meaning}" if identity.meaning else ""
    yield line((f"{identity.name} ({identity.kind}){meaning}", "bold"))
    for title, rows in _sections(identity):
        yield line(title, indent=2)
        yield Table(("SUBJECT", "REASON"), tuple((row.subject, row.reason) for row in rows), indent=4)
    yield line("Connect with", indent=2)
    for each in client_lines(identity):
        yield line(each, indent=4)


def _sections(identity: Identity) -> Iterator[tuple[str, Sequence[Grant]]]:
    for title, rows in (
        ("May publish", identity.publish),
        ("May not publish", identity.deny_publish),
        ("May subscribe", identity.subscribe),
        ("May not subscribe", identity.deny_subscribe),
    ):
        if rows:
            yield title, rows


def client_lines(identity: Identity) -> tuple[str, ...]:
    """Return the lines of client code that connect as this identity, in Python."""
    prefix = identity.inbox_prefix
    return (
        "import nats",
        f'nc = await nats.connect(url, nkeys_seed="{identity.name}.nk", inbox_prefix=b"{prefix}")',
        "js = nc.jetstream()",
    )


def markdown(org: Org, found: Sequence[Identity], crossings: Sequence[Crossing]) -> str:
    """Return a table for each identity, and one of what crosses between their accounts, for a page or a review."""
    parts = [f"# Who may do what in {org.name}"]
    for identity in found:
        rows = [
            f"| {title.lower()} | `{_cell(row.subject)}` | {_cell(row.reason)} |"
            for title, grants in _sections(identity)
            for row in grants
        ]
        about = [f"Inbox prefix `{identity.inbox_prefix}`."]
        parts += [
            f"## {identity.name}",
            " ".join(
                filter(None, (f"{prose(identity.meaning.rstrip('.'))}." if identity.meaning else "", *about))
            ),
            "\n".join(["| | subject | reason |", "|---|---|---|", *rows]),
        ]
    rows = [f"| {each.kind} | `{_cell(each.subject)}` | {_cell(each.reason)} |" for each in crossings]
    parts += [
        "## Between the accounts",
        "What the roles' account exchanges with the one that has JetStream.",
        "\n".join(["| | subject | reason |", "|---|---|---|", *rows]),
    ]
    return "\n\n".join(parts) + "\n"


def _cell(value: str) -> str:
    return value.replace("|", "\\|")


def explanation(found: Explanation) -> Page:
    """Return whether an identity may do something, and by which rows."""
    verdict = "yes" if found.is_allowed else "no"
    may = "may" if found.is_allowed else "may not"
    blocks: list[Block] = [
        line(
            (
                f"{verdict}: {found.identity} {may} {found.operation} {found.what}",
                "green" if found.is_allowed else "red",
            )
        ),
        Table(
            ("", "", "SUBJECT", "BY"),
            tuple(
                ("ok" if need.is_allowed else "no", str(need.direction), need.subject, _why(need))
                for need in found.needs
            ),
            indent=2,
        ),
    ]
    if not found.is_allowed and found.others:
        blocks.append(line(f"Who may: {first_few(found.others, _MAX_NAMED)}"))
    return Page(tuple(blocks))


def _why(need: Need) -> str:
    if need.denied_by is not None:
        return f"denied: {need.denied_by.subject} ({need.denied_by.reason})"
    if need.row is None:
        return "no row allows it"
    by = f"{need.row.subject}: " if need.row.subject != need.subject else ""
    return f"{by}{need.row.reason}"


def explanation_data(found: Explanation) -> dict[str, Any]:
    """Return the explanation as data (auth-explain.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "identity": found.identity,
        "operation": str(found.operation),
        "what": found.what,
        "allowed": found.is_allowed,
        "needs": [
            {
                "direction": str(need.direction),
                "subject": need.subject,
                "allowed": need.is_allowed,
                "row": need.row._asdict() if need.row else None,
                "denied_by": need.denied_by._asdict() if need.denied_by else None,
            }
            for need in found.needs
        ],
        "others": list(found.others),
    }
