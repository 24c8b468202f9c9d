"""The scoped signing keys of an organisation in the claims of its account: one for each identity, with its rights in the template.

A user that such a key has signed may do what the template says, whatever it was when its credentials were made: another
manifest changes the template, and nobody needs new credentials. A key of ours says so in its description; everything else
in the claims is somebody else's, and stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from cyborg_infra.core.identity.claimed_crossings import (
    crossing_changes,
    crossing_problems,
    foreign_crossings,
    pull_notes,
    with_crossings,
)
from cyborg_infra.core.identity.marks import applied_digest, cause_of_difference, mark
from cyborg_infra.model.auth_plan import (
    AuthHazard,
    AuthHazardName,
    AuthPlan,
    Direction,
    KeyChange,
    LiveClaims,
    Side,
    SubjectChange,
)
from cyborg_infra.model.changes import Action, Cause, FieldChange
from cyborg_infra.model.claims import MAX_TOKEN_BYTES, Claims
from cyborg_infra.model.identities import EVERYTHING, Crossing, Identity, Rules
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.subjects import covers, overlap
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Command, Option, worded

_SCOPED = "user_scope"
_NO_LIMITS = {"subs": -1, "data": -1, "payload": -1}
_SIDES = (("pub", Direction.PUBLISH), ("sub", Direction.SUBSCRIBE))
_OWN = ("pub", "sub", "resp", *_NO_LIMITS, "bearer_token")
"""The members of a template that the manifest decides: of the rest, such as `src`, an administrator may say what he wants."""

# Header, signature, issuer and id of a token, of which the claims alone are longer in base64.
_SIGNATURE_BYTES = 150

Row = Mapping[str, Any]
"""A scoped signing key as claims have it."""


class Wanted(NamedTuple):
    """What is wanted of an account's claims. `keys` are the public keys in use, by the name of the identity.

    `prune` says that the keys of identities that the manifest no longer has go. `crossings` are exported, or imported from
    the account `exporter` if that is given.
    """

    org: str
    identities: Sequence[Identity]
    keys: Mapping[str, str]
    prune: bool = False
    crossings: Sequence[Crossing] = ()
    exporter: str = ""


class _Mark(NamedTuple):
    """Whose a key of the organisation is, and the digest of the template that was applied."""

    identity: str
    applied: str


def plan_claims(live: LiveClaims, wanted: Wanted) -> AuthPlan:
    """Return the plan from the claims as they are to those that are wanted."""
    desired = _desired_claims(live.claims, wanted)
    plan = compare_claims(live, desired, wanted.org)
    return AuthPlan(
        plan.org,
        live,
        desired,
        plan.changes,
        plan.crossings,
        plan.unchanged_count,
        orphans=tuple(sorted(_orphans(desired, wanted))),
        problems=(
            *_missing(desired, wanted),
            *_unscoped(live.claims, wanted),
            *crossing_problems(live.claims, wanted.crossings, wanted.org, wanted.exporter),
            *_too_long(live, desired),
        ),
        notes=plan.notes,
    )


def compare_claims(live: LiveClaims, desired: Claims, org: str) -> AuthPlan:
    """Return what becomes of each key of the organisation between the claims as they are and the desired ones."""
    before, after = keys_of(live.claims), keys_of(desired)
    ours = [
        key
        for key in dict.fromkeys((*before, *after))
        if _mark_of(after.get(key, {}), org) or (key not in after and _mark_of(before[key], org))
    ]
    changes = [_key_change(key, before.get(key), after.get(key), org, live.connections) for key in ours]
    made = tuple(change for change in changes if change is not None)
    return AuthPlan(
        org,
        live,
        desired,
        tuple(sorted(made, key=lambda change: (change.action is Action.DELETE, change.identity))),
        tuple(crossing_changes(live, desired, org)),
        len(ours) - len(made),
        notes=(*_notes(live, made), *pull_notes(live, desired, org)),
    )


def is_foreign_part_kept(before: Claims, after: Claims, org: str) -> bool:
    """Return whether the claims differ in the organisation's own keys, exports and imports alone."""
    return _foreign_part(before, org, keys_of(after)) == _foreign_part(after, org, keys_of(before))


def plan_revocation(live: LiveClaims, org: str, identity: str, current: str) -> AuthPlan:
    """Return the plan that ends every key of an identity but the `current` one, and changes nothing else."""
    old = {key for key, row in keys_of(live.claims).items() if _belongs(row, org, identity)} - {current}
    rows = [row for row in _rows(live.claims) if not (_is_scoped(row) and row["key"] in old)]
    found = compare_claims(live, _with_rows(live.claims, rows), org)
    if _belongs(keys_of(live.claims).get(current, {}), org, identity):
        return found
    missing = Problem(
        "not-applied",
        f"the account does not have the new key of {identity} yet: nobody could log in as it",
        None,
        worded("push it first, with {}", Command("auth apply")),
    )
    return replace(found, problems=(missing,))


def keys_of(claims: Claims) -> dict[str, Row]:
    """Return the scoped signing keys of an account, by their public keys."""
    return {row["key"]: row for row in _rows(claims) if _is_scoped(row)}


def template_of(identity: Identity) -> dict[str, Any]:
    """Return what a scoped signing key says that its users may do. Never an empty list: that would restrict nothing."""
    template: dict[str, Any] = {}
    for side, rules in (("pub", identity.publish_rules), ("sub", identity.subscribe_rules)):
        template[side] = {
            word: list(subjects)
            for word, subjects in (("allow", rules.allow), ("deny", rules.deny))
            if subjects
        }
    return template | _NO_LIMITS


def _desired_claims(claims: Claims, wanted: Wanted) -> Claims:
    by_name = {identity.name: identity for identity in wanted.identities}
    in_use = {key: name for name, key in wanted.keys.items() if name in by_name}
    rows: list[Any] = []
    for row in _rows(claims):
        own = _mark_of(row, wanted.org) if _is_scoped(row) else None
        name = own.identity if own else in_use.get(row["key"], "") if _is_scoped(row) else ""
        if own and wanted.prune and name not in by_name:
            continue
        rows.append(_with_rights(row, by_name[name], wanted.org) if name in by_name else row)
    there = set(_public_keys(rows))
    rows += [
        _with_rights({"kind": _SCOPED, "key": key}, by_name[name], wanted.org)
        for key, name in in_use.items()
        if key not in there
    ]
    return with_crossings(_with_rows(claims, rows), wanted.crossings, wanted.org, wanted.exporter)


def _with_rows(claims: Claims, rows: list[Any]) -> Claims:
    return {**claims, "nats": {**claims["nats"], "signing_keys": rows}}


def _with_rights(row: Row, identity: Identity, org: str) -> Row:
    template = template_of(identity)
    others = {key: value for key, value in (row.get("template") or {}).items() if key not in _OWN}
    return {
        **row,
        "role": identity.name,
        "description": mark(org, _decided(template)),
        "template": template | others,
    }


def _rows(claims: Claims) -> Iterable[Any]:
    rows: Iterable[Any] = claims["nats"].get("signing_keys") or ()
    return rows


def _public_keys(rows: Iterable[Any]) -> Iterator[str]:
    """Yield the key of each row, in whatever form it is."""
    for row in rows:
        key = row.get("key") if isinstance(row, Mapping) else row
        if isinstance(key, str):
            yield key


def _is_scoped(row: Any) -> bool:
    """Return whether it is a scoped signing key that can be read. What cannot is nobody's here, and stays."""
    if not isinstance(row, Mapping) or row.get("kind") != _SCOPED or not isinstance(row.get("key"), str):
        return False
    template = row.get("template") or {}
    parts = (
        [template.get(name) or {} for name in ("pub", "sub", "resp")]
        if isinstance(template, Mapping)
        else [None]
    )
    return all(isinstance(part, Mapping) for part in parts)


def _mark_of(row: Row, org: str) -> _Mark | None:
    """Return whose a key is, if it is this organisation's."""
    applied = applied_digest(row.get("description", ""), org)
    return _Mark(str(row.get("role", "")), applied) if applied else None


def _belongs(row: Row, org: str, identity: str) -> bool:
    own = _mark_of(row, org)
    return own is not None and own.identity == identity


def _foreign_part(claims: Claims, org: str, theirs: Mapping[str, Row]) -> list[Any]:
    """Return all of the claims that no plan of the organisation may change; not what is signed anew with each token."""
    rows = [
        row
        for row in _rows(claims)
        if not (_is_scoped(row) and (_mark_of(row, org) or _mark_of(theirs.get(row["key"], {}), org)))
    ]
    sides = {side.value: foreign_crossings(claims, side, org) for side in Side}
    rest = {key: value for key, value in claims["nats"].items() if key not in ("signing_keys", *sides)}
    return [
        rows,
        rest,
        sides,
        {key: value for key, value in claims.items() if key not in ("nats", "iat", "jti", "iss")},
    ]


class _Rights(NamedTuple):
    """What a template says. Where it says nothing of a direction all is allowed."""

    publish: Rules
    subscribe: Rules
    rest: Mapping[str, Any]

    @classmethod
    def of(cls, row: Row) -> _Rights:
        template = row.get("template") or {}
        publish, subscribe = (
            Rules(
                tuple((template.get(side) or {}).get("allow") or (EVERYTHING,)),
                tuple((template.get(side) or {}).get("deny") or ()),
            )
            for side, _ in _SIDES
        )
        rest = {
            name: template.get(name) or None if name == "bearer_token" else template.get(name)
            for name in ("resp", *_NO_LIMITS, "bearer_token")
        }
        return cls(publish, subscribe, rest)

    @property
    def sides(self) -> Iterator[tuple[Direction, Rules]]:
        yield Direction.PUBLISH, self.publish
        yield Direction.SUBSCRIBE, self.subscribe


def _key_change(
    key: str, before: Row | None, after: Row | None, org: str, connections: Mapping[str, int] | None
) -> KeyChange | None:
    """Return what happens to a key; None if nothing does."""
    count = None if connections is None else connections.get(key, 0)
    if before is None:
        made = after or {}
        rights = _Rights.of(made)
        return KeyChange(Action.CREATE, made["role"], key, tuple(_subjects(None, rights)))
    if after is None:
        own = _mark_of(before, org)
        hazards = () if count == 0 else (_hazard("the key goes, and whoever uses it is logged out", count),)
        return KeyChange(
            Action.DELETE,
            own.identity if own else "",
            key,
            cause=Cause.MANIFEST,
            connections=count,
            hazards=hazards,
        )
    old, new = _Rights.of(before), _Rights.of(after)
    subjects, settings = tuple(_subjects(old, new)), tuple(_settings(old, new))
    if not subjects and not settings and _mark_of(before, org):
        return None
    lost = list(_lost(old, new))
    return KeyChange(
        Action.UPDATE if _mark_of(before, org) else Action.ADOPT,
        after["role"],
        key,
        subjects,
        settings,
        cause=_cause(before, after, org),
        connections=count,
        hazards=(_hazard(f"it may no longer {'; '.join(lost)}", count),) if lost else (),
    )


def _cause(before: Row, after: Row, org: str) -> Cause:
    was, wants = _mark_of(before, org), _mark_of(after, org)
    if was is None or wants is None:
        return Cause.MANIFEST
    return cause_of_difference(
        was.applied, _decided(before.get("template") or {}), _decided(after.get("template") or {})
    )


def _decided(template: Row) -> dict[str, Any]:
    """Return what the manifest decides in a template, in one order however it is written."""
    decided: dict[str, Any] = {}
    for name in _OWN:
        value = template.get(name)
        if name in ("pub", "sub"):
            decided[name] = {word: sorted((value or {}).get(word) or ()) for word in ("allow", "deny")}
        else:
            decided[name] = value or None
    return decided


def _subjects(old: _Rights | None, new: _Rights) -> Iterator[SubjectChange]:
    sides = {} if old is None else dict(old.sides)
    for direction, after in new.sides:
        before = sides.get(direction, Rules((), ()))
        for denied in (False, True):
            was, wants = ((rules.deny if denied else rules.allow) for rules in (before, after))
            yield from (SubjectChange(direction, each, True, denied) for each in wants if each not in was)
            yield from (SubjectChange(direction, each, False, denied) for each in was if each not in wants)


def _settings(old: _Rights, new: _Rights) -> Iterator[FieldChange]:
    for name, after in new.rest.items():
        if old.rest[name] != after:
            yield FieldChange(name, old.rest[name], after)


def _lost(old: _Rights, new: _Rights) -> Iterator[str]:
    """Yield what an identity may no longer do: a subject that it had, and that neither this nor a wider one gives it now."""
    for (direction, before), (_, after) in zip(old.sides, new.sides, strict=True):
        allowed = [each for each in before.allow if not any(covers(wider, each) for wider in after.allow)]
        denied = [
            each
            for each in after.deny
            if not any(covers(wider, each) for wider in before.deny)
            and any(overlap(had, each) for had in before.allow)
        ]
        if subjects := [*allowed, *denied]:
            yield f"{direction} {', '.join(dict.fromkeys(subjects))}"
    if _answers(new) < _answers(old):
        yield "answer as often or as late as it may now"


def _answers(rights: _Rights) -> tuple[float, float]:
    """Return how many answers are allowed, and for how many nanoseconds; below 0 in claims is without end."""
    limits = rights.rest["resp"] or {}
    return tuple(float("inf") if limits.get(word, 0) < 0 else limits.get(word, 0) for word in ("max", "ttl"))  # type: ignore[return-value] # two of them


def _hazard(reason: str, connections: int | None) -> AuthHazard:
    if connections is None:
        used = "it is not known how many agents use it now"
    elif connections:
        used = f"{connections} {'agents use' if connections > 1 else 'agent uses'} it now"
    else:
        used = "no agent uses it now"
    return AuthHazard(AuthHazardName.REVOKES_ACCESS, f"{reason}; {used}", connections)


def _notes(live: LiveClaims, changes: Sequence[KeyChange]) -> Iterator[str]:
    reconnecting = sum(
        change.connections or 0
        for change in changes
        if change.action is not Action.DELETE and not change.hazards
    )
    if reconnecting:
        yield (
            f"{reconnecting} connected {'agents come' if reconnecting > 1 else 'agent comes'} back at once with the new rights: "
            "a server ends the connections of a key whose template has changed, and of no other"
        )
    if live.behind:
        yield f"{live.behind} of {live.servers} servers have older claims than these"
    if live.servers < live.expected:
        yield f"{live.servers} of {live.expected} servers answered"


def _orphans(desired: Claims, wanted: Wanted) -> set[str]:
    names = {identity.name for identity in wanted.identities}
    ours = (_mark_of(row, wanted.org) for row in keys_of(desired).values())
    return {own.identity for own in ours if own and own.identity not in names}


def _missing(desired: Claims, wanted: Wanted) -> Iterator[Problem]:
    having = {own.identity for row in keys_of(desired).values() if (own := _mark_of(row, wanted.org))}
    missing = [identity.name for identity in wanted.identities if identity.name not in having]
    if missing:
        yield Problem(
            "no-signing-key",
            f"no signing key for {', '.join(missing)}: there is none in the account and none in the directory of keys",
            None,
            worded(
                "make them with {}, and name the directory with {}", Command("auth creds"), Option("keys")
            ),
        )


def _unscoped(claims: Claims, wanted: Wanted) -> Iterator[Problem]:
    plain = {row for row in _rows(claims) if isinstance(row, str)}
    for name, key in wanted.keys.items():
        if key in plain:
            yield Problem(
                "unscoped-key",
                f"the signing key of {name} is in the account without a scope: whoever it has signed may do what his own claims say",
                None,
                f"remove {key} from the account's signing keys, or use another key for {name}",
            )


def _too_long(live: LiveClaims, desired: Claims) -> Iterator[Problem]:
    length = len(orjson.dumps(desired)) * 4 // 3 + _SIGNATURE_BYTES * 4 // 3
    if length > live.most_bytes:
        larger = "raise max_payload in the server's configuration to 1MB, or " * (
            live.most_bytes < MAX_TOKEN_BYTES
        )
        yield Problem(
            "claims-too-long",
            f"the claims would take {length:,} bytes, and a server takes {live.most_bytes:,}",
            None,
            f"{larger}give each division a manifest and an account of its own: one account has room for some 600 roles",
        )
