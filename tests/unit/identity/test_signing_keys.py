"""Claims are planned: the manifest's rights into the keys of the organisation, and nothing else is touched."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.identity.permissions import identities
from cyborg_infra.core.identity.signing_keys import (
    Wanted,
    is_foreign_part_kept,
    keys_of,
    plan_claims,
    plan_revocation,
)
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.auth_plan import AuthPlan, Direction, LiveClaims
from cyborg_infra.model.changes import Action, Cause
from cyborg_infra.model.claims import MAX_TOKEN_BYTES, Claims, sign
from cyborg_infra.model.identities import Crossing, CrossingKind, Grant, Identity, IdentityKind
from cyborg_infra.model.key_pairs import KeyKind, KeyPair
from tests.support.draws import draws

ACCOUNT = KeyPair.of_random(KeyKind.ACCOUNT, bytes(32)).public
EMPTY: Claims = {"iss": "O", "sub": ACCOUNT, "name": "AGENTS", "nats": {"type": "account"}}


def identity(
    name: str, publish: tuple[str, ...] = ("a.b",), deny: tuple[str, ...] = (), **more: Any
) -> Identity:
    granted, denied = (tuple(Grant(each, "because") for each in those) for those in (publish, deny))
    return Identity(name, IdentityKind.ROLE, f"_INBOX.{name}", granted, (), denied, **more)


def planned(
    wanted: list[Identity],
    claims: Claims = EMPTY,
    keys: Mapping[str, str] | None = None,
    connections: Mapping[str, int] | None = None,
    **more: Any,
) -> AuthPlan:
    keys = {each.name: f"KEY-{each.name}" for each in wanted} if keys is None else keys
    live = LiveClaims(claims, "here", connections={} if connections is None else connections, **more)
    return plan_claims(live, Wanted("acme", wanted, keys))


def test_every_identity_gets_a_key_with_literal_subjects() -> None:
    found = planned([identity("cto"), identity("ceo")])
    assert [(each.action, each.identity) for each in found.changes] == [
        (Action.CREATE, "ceo"),
        (Action.CREATE, "cto"),
    ]
    key = keys_of(found.desired)["KEY-cto"]
    assert key["role"] == "cto"
    assert key["template"] == {
        "pub": {"allow": ["a.b"]},
        "sub": {"deny": [">"]},
        **dict.fromkeys(("subs", "data", "payload"), -1),
    }
    assert not planned([identity("ceo"), identity("cto")], found.desired)


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (identity("x", ("a.b",)), identity("x", ("a.b", "c")), None),
        (identity("x", ("a.b",)), identity("x", ("a.>",)), None),
        (identity("x", ("a.b", "c")), identity("x", ("c",)), "publish a.b"),
        (identity("x", ("a.>",)), identity("x", ("a.b",)), "publish a.>"),
        (identity("x", ("a.>",)), identity("x", ("a.>",), ("a.secret",)), "publish a.secret"),
        (identity("x", ("a.>",), ("a.*",)), identity("x", ("a.>",), ("a.secret",)), None),
        (identity("x", ("a.>",)), identity("x", ("a.>",), ("b",)), None),
    ],
)
def test_what_takes_a_right_is_a_hazard(before: Identity, after: Identity, lost: str | None) -> None:
    found = planned([after], planned([before]).desired, connections={"KEY-x": 2})
    (change,) = found.changes
    assert (change.action, change.cause, change.connections) == (Action.UPDATE, Cause.MANIFEST, 2)
    if lost is None:
        assert change.hazards == ()
        assert "2 connected agents come back at once" in found.notes[0]
    else:
        (hazard,) = change.hazards
        assert hazard.name == "revokes-access"
        assert f"it may no longer {lost}" in hazard.reason
        assert hazard.reason.endswith("; 2 agents use it now")


def test_who_may_do_everything_by_hand_loses_that_again() -> None:
    """A template without a list of what is allowed restricts nothing."""
    claims: Any = copy.deepcopy(planned([identity("x")]).desired)
    claims["nats"]["signing_keys"][0]["template"]["pub"] = {}
    (change,) = planned([identity("x")], claims).changes
    assert change.cause is Cause.DRIFT
    assert [(each.direction, each.subject, each.added) for each in change.subjects] == [
        (Direction.PUBLISH, "a.b", True),
        (Direction.PUBLISH, ">", False),
    ]
    assert "it may no longer publish >" in change.hazards[0].reason


def test_drift_is_told_from_what_the_manifest_wants() -> None:
    claims: Any = copy.deepcopy(planned([identity("x")]).desired)
    claims["nats"]["signing_keys"][0]["template"]["bearer_token"] = True
    (both,) = planned([identity("x", ("other",))], claims).changes
    assert both.cause is Cause.BOTH
    (drift,) = planned([identity("x")], claims).changes
    assert (drift.cause, drift.settings[0].field) == (Cause.DRIFT, "bearer_token")


def test_what_an_administrator_limits_beside_the_rights_stays() -> None:
    claims: Any = copy.deepcopy(planned([identity("x")]).desired)
    claims["nats"]["signing_keys"][0]["template"]["src"] = ["10.0.0.0/8"]
    assert not planned([identity("x")], claims)
    found = planned([identity("x", ("other",))], claims)
    assert keys_of(found.desired)["KEY-x"]["template"]["src"] == ["10.0.0.0/8"]


def test_both_keys_of_a_rotation_get_the_rights_until_one_is_ended() -> None:
    one = planned([identity("x")])
    two = planned([identity("x")], one.desired, {"x": "KEY-new"})
    assert [(each.action, each.key) for each in two.changes] == [(Action.CREATE, "KEY-new")]
    both = planned([identity("x", ("other",))], two.desired, {"x": "KEY-new"})
    assert [each.action for each in both.changes] == [Action.UPDATE, Action.UPDATE]
    early = plan_revocation(LiveClaims(one.desired, "here"), "acme", "x", "KEY-new")
    assert [problem.code for problem in early.problems] == ["not-applied"]
    used = plan_revocation(LiveClaims(two.desired, "here", connections={"KEY-x": 1}), "acme", "x", "KEY-new")
    assert [each.hazards[0].connections for each in used.changes] == [1]
    unused = plan_revocation(LiveClaims(two.desired, "here", connections={}), "acme", "x", "KEY-new")
    assert [(each.action, each.key, each.hazards) for each in unused.changes] == [
        (Action.DELETE, "KEY-x", ())
    ]
    unknown = plan_revocation(LiveClaims(two.desired, "here"), "acme", "x", "KEY-new")
    assert "it is not known how many agents use it now" in unknown.changes[0].hazards[0].reason


def test_who_left_the_manifest_is_told_and_goes_with_prune() -> None:
    claims = planned([identity("x"), identity("y")]).desired
    kept = planned([identity("x")], claims)
    assert (kept.changes, kept.orphans) == ((), ("y",))
    gone = plan_claims(
        LiveClaims(claims, "here", connections={}), Wanted("acme", [identity("x")], {}, prune=True)
    )
    assert [(each.action, each.identity) for each in gone.changes] == [(Action.DELETE, "y")]
    other = plan_claims(LiveClaims(claims, "here"), Wanted("other", [], {}, prune=True))
    assert not other


def test_a_scoped_key_that_somebody_else_made_is_adopted_and_a_plain_one_is_not() -> None:
    scope = {"kind": "user_scope", "key": "KEY-x", "role": "theirs", "template": {"pub": {"allow": ["z"]}}}
    claims = {**EMPTY, "nats": {"type": "account", "signing_keys": [scope]}}
    (change,) = planned([identity("x")], claims).changes
    assert (change.action, change.hazards[0].name) == (Action.ADOPT, "revokes-access")
    plain = {**EMPTY, "nats": {"type": "account", "signing_keys": ["KEY-x"]}}
    assert "unscoped-key" in [problem.code for problem in planned([identity("x")], plain).problems]


def test_who_has_no_key_anywhere_is_named() -> None:
    (problem,) = planned([identity("x"), identity("y")], keys={"x": "KEY-x"}).problems
    assert "no signing key for y:" in problem.message


INTEGERS = st.integers(-(2**63), 2**63 - 1)
ROWS: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=5),
    INTEGERS,
    st.dictionaries(
        st.sampled_from(["kind", "key", "role", "description", "template"]),
        st.sampled_from(["user_scope", "KEY-q", {}, {"pub": {"allow": ["x"]}}, {"pub": 3}, [], None, 7]),
    ),
)


CROSSINGS = (
    Crossing(CrossingKind.SERVICE, "$JS.API.CONSUMER.MSG.NEXT.*.*", "a consumer: pull"),
    Crossing(CrossingKind.SERVICE, "acme.agents.*.tasks", "channel tasks"),
)
CROSSING_ROWS: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=5),
    st.none(),
    st.dictionaries(
        st.sampled_from(["name", "subject", "type", "account"]),
        st.sampled_from(["metrics", "acme.agents.*.tasks", "service", None, 7, {}]),
    ),
)


def test_what_crosses_is_exported_by_one_account_and_imported_by_the_other() -> None:
    for exporter, side in (("", "exports"), ("ACCOUNT-j", "imports")):
        wanted = Wanted("acme", [], {}, crossings=CROSSINGS, exporter=exporter)
        made = plan_claims(LiveClaims(EMPTY, "here"), wanted)
        assert [(each.action, each.side, each.subject, each.hazards) for each in made.crossings] == [
            (Action.CREATE, side, each.subject, ()) for each in CROSSINGS
        ]
        pull, tasks = made.desired["nats"][side]
        assert tasks["subject"] == "acme.agents.*.tasks"
        assert tasks.get("account", "") == exporter
        assert exporter or (pull["response_type"], pull["response_threshold"]) == ("Stream", 3600 * 10**9)
        again = plan_claims(LiveClaims(made.desired, "here"), wanted)
        assert not again

        # Fewer cross: that takes a right away. What somebody else exports under the same subject is his.
        fewer = plan_claims(LiveClaims(made.desired, "here"), wanted._replace(crossings=CROSSINGS[:1]))
        assert [(each.action, each.cause, len(each.hazards)) for each in fewer.crossings] == [
            (Action.DELETE, Cause.MANIFEST, 1)
        ]
        other = plan_claims(LiveClaims(made.desired, "here"), wanted._replace(org="other"))
        assert not other.crossings
        assert other.problems == ()  # two in one account need no second row
        elsewhere: Any = copy.deepcopy(made.desired)
        for row in elsewhere["nats"][side]:
            row |= {"name": "by hand", "account": "ACCOUNT-q", "response_type": "Chunked"}
        by_hand = plan_claims(LiveClaims(elsewhere, "here"), wanted)
        assert [problem.code for problem in by_hand.problems] == ["not-ours", "not-ours"]

        # Somebody changes a row of ours.
        changed: Any = copy.deepcopy(made.desired)
        changed["nats"][side][0]["allow_trace"] = True
        (drift,) = plan_claims(LiveClaims(changed, "here"), wanted).crossings
        assert (drift.action, drift.cause) == (Action.UPDATE, Cause.DRIFT)


@draws(60)
@given(
    rows=st.lists(ROWS, max_size=4),
    rest=st.dictionaries(
        st.sampled_from(["limits", "imports", "exports", "revocations", "new"]),
        INTEGERS | st.text(max_size=3) | st.lists(CROSSING_ROWS, min_size=1, max_size=3),
    ),
    exporter=st.sampled_from(["", "ACCOUNT-j"]),
    names=st.lists(st.sampled_from("xyz"), unique=True),
    prune=st.booleans(),
)
def test_what_is_not_ours_stays_as_it_is(
    rows: list[Any], rest: dict[str, Any], names: list[str], exporter: str, *, prune: bool
) -> None:
    """Whatever other people have in the claims of the account, in whatever form."""
    claims = {**EMPTY, "nats": {"type": "account", "signing_keys": rows, **rest}}
    was = copy.deepcopy(claims)
    wanted = Wanted(
        "acme",
        [identity(name) for name in names],
        {name: f"KEY-{name}" for name in names},
        prune,
        CROSSINGS,
        exporter,
    )
    found = plan_claims(LiveClaims(claims, "here"), wanted)
    assert claims == was
    assert is_foreign_part_kept(claims, found.desired, "acme")
    assert found.desired["nats"]["signing_keys"][: len(rows)] == rows
    for key, value in {"type": "account", **rest}.items():
        kept = found.desired["nats"][key]
        assert (kept[: len(value)] if isinstance(value, list) else kept) == value
    assert set(found.desired["nats"]) - {"signing_keys", "exports", "imports"} <= {"type", *rest}
    assert not plan_claims(LiveClaims(found.desired, "here"), wanted).changes


def of_size(roles: int) -> list[Identity]:
    """Return the identities of an organisation with a chart in which nobody has more than ten below him."""
    names = [f"role-{number:04}" for number in range(roles)]
    chart = "".join(
        f"  {name}: {{reports_to: {names[(at - 1) // 10]}}}\n" if at else f"  {name}:\n"
        for at, name in enumerate(names)
    )
    org = loads(f"org: acme\nroles:\n{chart}")
    return list(identities(org, expand(org)))


def test_six_hundred_roles_fit_and_for_a_thousand_it_is_said_what_to_do() -> None:
    """Claims of 495 KB were taken by 2.10.26 and 2.15.1. Of more than 1 MiB, 2.15.1 says `token too large`."""
    many = planned(of_size(600), most_bytes=MAX_TOKEN_BYTES)
    token = sign(many.desired, KeyPair.of_random(KeyKind.OPERATOR, bytes(32)))
    assert many.problems == ()
    assert MAX_TOKEN_BYTES * 0.9 < len(token) <= MAX_TOKEN_BYTES
    few = planned(of_size(70), most_bytes=MAX_TOKEN_BYTES // 8)
    assert few.problems == ()
    (problem,) = planned(of_size(1000)).problems  # in a file too: with it a server does not start
    assert problem.code == "claims-too-long"
    assert problem.hint == (
        "give each division a manifest and an account of its own: one account has room for some 600 roles"
    )
    (small,) = planned(of_size(70), most_bytes=65_536).problems
    assert "raise max_payload" in str(small)
