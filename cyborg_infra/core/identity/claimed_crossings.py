"""The exports and imports of an organisation in the claims of its two accounts, beside those of others, which stay as they are.

A row of ours says so in its name. Exports are public: a private one would need a token in each import, signed by the account that
exports. Who imports is decided by whoever signs accounts, the operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.core.identity.marks import applied_digest, cause_of_difference, mark
from cyborg_infra.model.auth_plan import AuthHazard, AuthHazardName, CrossingChange, LiveClaims, Side
from cyborg_infra.model.changes import Action, Cause
from cyborg_infra.model.claims import Claims
from cyborg_infra.model.identities import LONGEST_PULL_SECONDS, Crossing
from cyborg_infra.model.problems import Problem

_Row = Mapping[str, Any]
"""An export or an import as claims have it."""


def with_crossings(claims: Claims, crossings: Sequence[Crossing], org: str, exporter: str) -> Claims:
    """Return the claims with these exports, or imports from the account `exporter`, instead of those that the organisation had."""
    nats = dict(claims["nats"])
    for side in Side:
        wanted = crossings if side is _side(exporter) else ()
        ours = [_row(each, org, exporter) for each in wanted]
        there = _rows(claims, side)
        kept = [row for row in there if not _applied_digest(row, org) or row in ours]
        new = [row for row in ours if row not in kept and _place(row) not in _taken(claims, side, org)]
        if kept + new != there and _is_readable(claims, side):
            nats[side.value] = kept + new
    return {**claims, "nats": nats}


def crossing_problems(
    claims: Claims, crossings: Sequence[Crossing], org: str, exporter: str
) -> Iterator[Problem]:
    """Yield what keeps these from being exported or imported."""
    side = _side(exporter)
    if crossings and not _is_readable(claims, side):
        yield Problem("bad-claims", f"the {side} of the account are no list, and stay as they are")
    taken = _taken(claims, side, org)
    for row in (_row(each, org, exporter) for each in crossings):
        other = taken.get(_place(row), row)
        if any(other.get(name) != value for name, value in _decided(row).items()):
            yield Problem(
                "not-ours",
                f"the account has {' '.join(_place(row))} among its {side} already, otherwise than this organisation wants it",
                None,
                "remove it there with what made it",
            )


def crossing_changes(live: LiveClaims, desired: Claims, org: str) -> Iterator[CrossingChange]:
    """Yield what becomes of each export and import of the organisation."""
    for side in Side:
        before, after = (_ours(claims, side, org) for claims in (live.claims, desired))
        for place in dict.fromkeys((*before, *after)):
            was, wants = before.get(place), after.get(place)
            if was == wants:
                continue
            action = Action.CREATE if was is None else Action.DELETE if wants is None else Action.UPDATE
            hazards = () if action is Action.CREATE else (_hazard(live, action),)
            yield CrossingChange(action, side, *place, cause=_cause(was, wants, org), hazards=hazards)


def pull_notes(live: LiveClaims, desired: Claims, org: str) -> Iterator[str]:
    """Yield what a push does to pulls: with new claims of who exports, a server forgets whom to answer (measured on 2.10.26 and 2.15.1)."""
    if live.claims != desired and _ours(live.claims, Side.EXPORTS, org):
        yield (
            "pulls that wait while these claims are pushed are answered to nobody: "
            "a task that is handed to one comes again after its ack_wait"
        )


def foreign_crossings(claims: Claims, side: Side, org: str) -> Any:
    """Return what others have among the exports or imports of an account. That there are none may be said in two ways."""
    if not _is_readable(claims, side):
        return claims["nats"][side.value]
    return [row for row in _rows(claims, side) if not _applied_digest(row, org)]


def _side(exporter: str) -> Side:
    return Side.IMPORTS if exporter else Side.EXPORTS


def _is_readable(claims: Claims, side: Side) -> bool:
    found = claims["nats"].get(side.value)
    return found is None or isinstance(found, list)


def _taken(claims: Claims, side: Side, org: str) -> dict[tuple[str, str], _Row]:
    """Return what others export or import. What another organisation exports already needs no second row."""
    rows = (row for row in _rows(claims, side) if isinstance(row, Mapping) and not _applied_digest(row, org))
    return {_place(row): row for row in rows}


def _row(crossing: Crossing, org: str, exporter: str) -> _Row:
    decided: dict[str, Any] = {"subject": crossing.subject, "type": crossing.kind.value}
    if exporter:
        decided["account"] = exporter
    elif crossing.has_many_answers:
        decided |= {"response_type": "Stream", "response_threshold": LONGEST_PULL_SECONDS * 1_000_000_000}
    elif crossing.is_request:
        decided["response_type"] = "Singleton"
    return {"name": f"{crossing.reason} {mark(org, decided)}", **decided}


def _rows(claims: Claims, side: Side) -> list[Any]:
    """Return the exports or imports as they are; none where they cannot be read, which stays as it is."""
    found = claims["nats"].get(side.value)
    return found if isinstance(found, list) else []


def _ours(claims: Claims, side: Side, org: str) -> dict[tuple[str, str], _Row]:
    return {_place(row): row for row in _rows(claims, side) if _applied_digest(row, org)}


def _place(row: _Row) -> tuple[str, str]:
    return str(row.get("type", "")), str(row.get("subject", ""))


def _applied_digest(row: Any, org: str) -> str:
    """Return the digest that a row of the organisation was applied with; empty for any other row."""
    if not isinstance(row, Mapping):
        return ""
    _reason, *own_mark = str(row.get("name", "")).rsplit(" ", 2)
    return applied_digest(" ".join(own_mark), org)


def _decided(row: _Row) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "name"}


def _cause(was: _Row | None, wants: _Row | None, org: str) -> Cause:
    if was is None:
        return Cause.MANIFEST
    return cause_of_difference(_applied_digest(was, org), _decided(was), wants and _decided(wants))


def _hazard(live: LiveClaims, action: Action) -> AuthHazard:
    count = None if live.connections is None else sum(live.connections.values())
    what = "it no longer crosses" if action is Action.DELETE else "it crosses in another way"
    return AuthHazard(AuthHazardName.REVOKES_ACCESS, f"{what} between the accounts", count)
