"""What becomes of the rights of identities: as lines for people, and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from cyborg_infra.model.auth_plan import AuthPlan, CrossingChange, KeyChange, SubjectChange
from cyborg_infra.model.changes import Action, Cause
from cyborg_infra.model.resources import digest_of
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.render.command_line import in_command_line_words, spoken
from cyborg_infra.render.json_format import SCHEMA_VERSION
from cyborg_infra.render.terminal.layout import Block, Page, line
from cyborg_infra.render.terminal.problems import finding
from cyborg_infra.render.values import plural

_SYMBOLS = {Action.CREATE: "+", Action.UPDATE: "~", Action.ADOPT: "~", Action.DELETE: "-"}
_COLOURS = {"+": "green", "~": "yellow", "-": "red"}
_VERBS = {
    Action.CREATE: "gets a signing key",
    Action.UPDATE: "gets other rights",
    Action.ADOPT: "its signing key is marked as owned, and gets these rights",
    Action.DELETE: "loses a signing key",
}


class NextCommand(NamedTuple):
    """What has been typed that the command to type next has to repeat."""

    command: str = "plan"  # plan, apply or revoke: the last two are about to carry it out
    words: Sequence[str] = ()  # manifest and options
    allowed: Sequence[str] = ()
    saved_to: str | None = None


def plan(found: Sequence[AuthPlan], shown: NextCommand) -> Page:
    """Return the plans of all accounts for a reviewer: whose rights change how, and what that costs."""
    blocks: list[Block] = []
    for each in found:
        blocks += [*_differences(each), line((_summary(each), "" if each else "bold green")), line()]
    return Page((*blocks[:-1], *_ending(found, shown)))


def drift(found: Sequence[AuthPlan], *, changed: bool) -> Page:
    """Return what differs, and whether somebody changed the claims or only the manifest is ahead of them."""
    ahead = sum(cause is Cause.MANIFEST for each in found for cause in each.causes)
    verdict = (
        "Somebody changed the rights of an identity."
        if changed
        else "Nobody changed the rights that were applied."
    )
    waiting = (
        f" {plural(ahead, 'change')} of the manifest still {'has' if ahead == 1 else 'have'} to be applied."
        if ahead
        else ""
    )
    style = "bold red" if changed else "bold green"
    blocks = [block for each in found for block in _differences(each)]
    return Page((*blocks, line((verdict, style), waiting)))


def applied(found: Sequence[AuthPlan]) -> Page:
    """Return what was done: the claims were pushed, and read back."""
    keys = _counts([(each.count(action), action) for each in found for action in _SYMBOLS])
    crossings = _counts([(each.count_crossings(action), action) for each in found for action in _SYMBOLS])
    return Page(
        (
            line(
                ("Apply complete!", "bold green"),
                f" Signing keys: {keys}. Exports and imports: {crossings}.",
            ),
        )
    )


def _counts(those: Sequence[tuple[int, Action]]) -> str:
    added, changed, destroyed = (
        sum(count for count, action in those if action in wanted)
        for wanted in ((Action.CREATE,), (Action.UPDATE, Action.ADOPT), (Action.DELETE,))
    )
    return f"{added} added, {changed} changed, {destroyed} destroyed"


def data(found: Sequence[AuthPlan]) -> dict[str, Any]:
    """Return the whole plan (auth-plan.schema.json), account by account. `drift` prints the same."""
    return {"schema_version": SCHEMA_VERSION, "accounts": [_account(each) for each in found]}


def _account(found: AuthPlan) -> dict[str, Any]:
    return {
        "org": found.org,
        "account": found.account,
        "account_name": found.account_name,
        "claims_from": found.live.where,
        "servers": {
            "answered": found.live.servers,
            "expected": found.live.expected,
            "behind": found.live.behind,
        },
        "in_sync": not found,
        "applicable": not found.problems,
        "allow": sorted({hazard.name.value for _, hazard in found.hazards}),
        "summary": {action.value: found.count(action) for action in _SYMBOLS}
        | {"unchanged": found.unchanged_count},
        "changes": [_change(change) for change in found.changes],
        "crossings": [_crossing(change) for change in found.crossings],
        "orphans": list(found.orphans),
        "problems": [
            in_command_line_words(problem)._asdict() | {"where": None} for problem in found.problems
        ],
        "notes": [spoken(note) for note in found.notes],
    }


def saved_claims(found: Sequence[AuthPlan]) -> dict[str, Any]:
    """Return a plan to keep (saved-auth-plan.schema.json): of each account the claims that it was made from, and those that it leads to."""
    content = {
        "type": "saved-auth-plan",  # first: `auth apply` knows the file by its first bytes
        "schema_version": SCHEMA_VERSION,
        "org": found[0].org,
        "accounts": [
            {"base": dict(each.live.claims), "desired": dict(each.desired), "plan": _account(each)}
            for each in found
        ],
    }
    return content | {"digest": digest_of(content)}


def _crossing(change: CrossingChange) -> dict[str, Any]:
    return {
        "action": change.action.value,
        "side": change.side.value,
        "kind": change.kind,
        "subject": change.subject,
        "cause": change.cause.value,
        "hazards": [hazard._asdict() | {"name": hazard.name.value} for hazard in change.hazards],
    }


def _change(change: KeyChange) -> dict[str, Any]:
    return {
        "action": change.action.value,
        "identity": change.identity,
        "key": change.key,
        "cause": change.cause.value,
        "subjects": [
            {
                "direction": each.direction.value,
                "subject": each.subject,
                "effect": "deny" if each.denied else "allow",
                "change": "add" if each.added else "remove",
            }
            for each in change.subjects
        ],
        "settings": [
            {"field": each.field, "before": each.before, "after": each.after} for each in change.settings
        ],
        "connections": change.connections,
        "hazards": [hazard._asdict() | {"name": hazard.name.value} for hazard in change.hazards],
    }


def _differences(found: AuthPlan) -> Iterator[Block]:
    name = f"{found.account_name} " if found.account_name else ""
    yield line(f"Organisation {found.org}, account {name}({found.account}), claims from {found.live.where}")
    yield line()
    for change in found.changes:
        yield from _lines(change)
    for crossing in found.crossings:
        yield from _crossing_lines(crossing)
    if found.crossings:
        yield line()
    for orphan in found.orphans:
        yield line(
            ("Note: ", "bold"),
            f"{orphan} is no longer in the manifest and can still log in; --prune ends that",
        )
    for problem in found.problems:
        yield from finding(problem)
    yield from (line(("Note: ", "bold"), spoken(note)) for note in found.notes)
    if found.orphans or found.problems or found.notes:
        yield line()


def _lines(change: KeyChange) -> Iterator[Block]:
    symbol = _SYMBOLS[change.action]
    cause = f", {change.cause.value}" if change.cause is not Cause.MANIFEST else ""
    yield line(
        (f"{symbol:>3}", _COLOURS[symbol]),
        " ",
        (change.identity, "bold"),
        f": {_VERBS[change.action]} ({change.key}{cause})",
        indent=1,
    )
    if change.action is Action.CREATE:
        counts = (
            f"{direction} to {plural(len(those), 'subject')}"
            for direction in ("publish", "subscribe")
            if (
                those := [each for each in change.subjects if each.direction == direction and not each.denied]
            )
        )
        yield line(f"may {' and '.join(counts)}", indent=6)
    else:
        yield from (_subject(each) for each in change.subjects)
    for setting in change.settings:
        yield line(("~", "yellow"), f" {setting.field}: {setting.before} -> {setting.after}", indent=6)
    for hazard in change.hazards:
        yield line(("!", "red"), " ", (hazard.name.value, "bold red"), f": {hazard.reason}", indent=6)
    yield line()


def _crossing_lines(change: CrossingChange) -> Iterator[Block]:
    symbol = _SYMBOLS[change.action]
    cause = f" ({change.cause.value})" if change.cause is not Cause.MANIFEST else ""
    yield line(
        (f"{symbol:>3}", _COLOURS[symbol]), f" {change.side} {change.kind} {change.subject}{cause}", indent=1
    )
    for hazard in change.hazards:
        yield line(("!", "red"), " ", (hazard.name.value, "bold red"), f": {hazard.reason}", indent=6)


def _subject(change: SubjectChange) -> Block:
    symbol = "+" if change.added else "-"
    denied = "deny " if change.denied else ""
    return line((symbol, _COLOURS[symbol]), f" {denied}{change.direction:<9}  {change.subject}", indent=6)


def _summary(found: AuthPlan) -> str:
    if not found:
        return "No changes. The claims of the account match the manifest."
    both = {action: found.count(action) + found.count_crossings(action) for action in _SYMBOLS}
    changed = both[Action.UPDATE] + both[Action.ADOPT]
    return f"Plan: {both[Action.CREATE]} to add, {changed} to change, {both[Action.DELETE]} to destroy."


def _ending(found: Sequence[AuthPlan], shown: NextCommand) -> Iterator[Block]:
    hazards = {hazard.name.value for each in found for _, hazard in each.hazards}
    needed = sorted(hazards - set(shown.allowed))
    if shown.command != "plan" or any(each.problems for each in found) or not any(found):
        return
    words = [*([shown.saved_to] if shown.saved_to else shown.words), *(f"--allow {name}" for name in needed)]
    typed = " ".join(word if word.startswith("--allow ") else shlex.quote(word) for word in words)
    if needed:
        yield line(("This plan has hazards.", "bold red"), " Each has to be allowed by name.")
    yield line("To push these claims, run:")
    yield line(f"cyborg-infra auth apply {typed}".rstrip(), indent=2)
