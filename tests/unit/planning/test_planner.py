"""Laws of a plan, from states made by hand: no server decides anything here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.planning.applied_before import members_of
from cyborg_infra.core.planning.gate import refuse_unless_allowed, refuse_unless_same, verify_outcomes
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.changes import Action, Cause
from cyborg_infra.model.last_applied import AppliedRecord
from cyborg_infra.model.metadata_keys import APPLIED_KEY, OWNER_KEY
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.problems import PlanRefused, PlanStale, UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, LiveResource, LiveState, StreamCounts
from cyborg_infra.model.server import Limits, ServerInfo
from cyborg_infra.model.server_versions import Version
from tests.support.live_resources import as_empty

FACTS = ServerInfo(Version(2, 15, 1), 5, account="A")
TASKS, WORKER, LETTERS = Ref("AGENT_CTO_TASKS"), Ref("AGENT_CTO_TASKS", "cto-worker"), Ref("DEAD_LETTERS")


def wished(more: str = "", roles: str = "cto") -> DesiredState:
    return expand(loads(f"org: gen\nroles: [{roles}]\n{more}"))


def live(state: DesiredState, **changed: Callable[[LiveResource], LiveResource | None]) -> LiveState:
    """Return a server that holds the state; `TASKS=...` changes one resource, or takes it away."""
    edits = {globals()[name]: edit for name, edit in changed.items()}
    found = {}
    for ref, resource in state.resources.items():
        held: LiveResource | None = as_empty(resource)
        if ref in edits and held:
            held = edits[ref](held)
        if held:
            found[ref] = held
    return LiveState(found, FACTS)


def configured(**fields: Any) -> Callable[[LiveResource], LiveResource]:
    return lambda found: replace(found, config={**found.config, **fields})


def marked(**marks: str | None) -> Callable[[LiveResource], LiveResource]:
    def edit(found: LiveResource) -> LiveResource:
        new = {**found.metadata, **{f"cyborg-infra.{key}": text for key, text in marks.items()}}
        return configured(metadata={key: text for key, text in new.items() if text is not None})(found)

    return edit


def gone(_found: LiveResource) -> None:
    return None


def planned(now: LiveState, desired: DesiredState, **options: Any) -> Plan:
    return make_plan(now, desired, owner="gen", **options)


def only(plan: Plan) -> tuple[Ref, Action, Cause]:
    (change,) = plan.changes
    return change.ref, change.action, change.cause


def test_a_server_that_holds_the_desired_state_needs_no_change() -> None:
    plan = planned(live(wished()), wished())
    assert not plan
    assert plan.unchanged_count == 8


def test_nothing_to_everything_and_back() -> None:
    assert planned(LiveState(server_info=FACTS), wished()).count(Action.CREATE) == 8
    assert planned(live(wished()), DesiredState(), prune=True).count(Action.DELETE) == 8
    assert len(planned(live(wished()), DesiredState()).orphans) == 8


@pytest.mark.parametrize(
    ("edit", "action", "cause"),
    [
        (configured(max_age=1), Action.UPDATE, Cause.DRIFT),
        (configured(storage="memory"), Action.REPLACE, Cause.DRIFT),
        (marked(role="ceo"), Action.UPDATE, Cause.DRIFT),
        (marked(applied="0" * 16), Action.UPDATE, Cause.BOTH),
        (gone, Action.CREATE, Cause.DRIFT),
    ],
    ids=["a field", "an immutable field", "a mark", "the digest", "deleted"],
)
def test_what_the_server_lost_since_is_told_from_what_the_manifest_gained(
    edit: Callable[[LiveResource], LiveResource | None], action: Action, cause: Cause
) -> None:
    plan = planned(live(wished(), TASKS=edit), wished())
    (change,) = [change for change in plan.changes if change.ref == TASKS]
    assert (change.action, change.cause) == (action, cause)


def _as_told(found: LiveResource) -> LiveResource:
    """Return the resource as a server tells of it: without what says nothing, with its own field and label."""
    told = {name: value for name, value in found.config.items() if value not in (None, False, 0, -1)}
    metadata = {**found.metadata, "_nats.req.level": "0"}
    return replace(found, config={**told, "compression": "none", "metadata": metadata})


@pytest.mark.parametrize(
    ("edit", "differs"),
    [
        (configured(max_age=1), True),
        (configured(subjects=["gen.agents.ceo.tasks"]), True),
        (configured(allow_rollup_hdrs=True), True),
        (configured(compression="s2"), True),
        (configured(unknown_to_us=1), False),
        (configured(allow_rollup_hdrs=False), False),
        (marked(role="ceo"), True),
        (marked(applied="0" * 16), True),
        (marked(org=None), True),
        (lambda found: configured(metadata={**found.metadata, "_nats.req.level": "1"})(found), False),
        (lambda found: configured(metadata={**found.metadata, "_nats.ver": "2.15.1"})(found), False),
        (lambda found: configured(metadata={**found.metadata, "theirs": "1"})(found), False),
    ],
    ids=[
        "a field",
        "a subject",
        "a field that the others do not have",
        "a field of the server",
        "an unknown field",
        "a default",
        "the role",
        "the digest",
        "the owner",
        "another label of the server",
        "a second label of the server",
        "a label of others",
    ],
)
@pytest.mark.parametrize("role", ["ceo", "cto", "dev"])
def test_of_many_that_are_set_alike_the_one_that_differs_is_found(
    edit: Callable[[LiveResource], LiveResource], role: str, *, differs: bool
) -> None:
    desired, ref = wished(roles="ceo, cto, dev"), Ref(f"AGENT_{role.upper()}_TASKS")
    held = {each: _as_told(as_empty(resource)) for each, resource in desired.resources.items()}
    assert not planned(LiveState(held, FACTS), desired)
    same = held[ref].config == edit(held[ref]).config
    plan = planned(LiveState({**held, ref: edit(held[ref])}, FACTS), desired)
    assert [change.ref for change in plan.changes] == [ref] * (differs and not same)


def test_that_something_is_missing_is_told_by_its_cause_alone() -> None:
    plan = planned(live(wished(), TASKS=gone), wished())
    (change,) = [change for change in plan.changes if change.ref == TASKS]
    assert (change.cause, change.reason) == (Cause.DRIFT, "")


def test_a_changed_manifest_is_pending() -> None:
    plan = planned(live(wished()), wished("streams: {tasks: {max_age: 1h}}"))
    assert only(plan) == (TASKS, Action.UPDATE, Cause.MANIFEST)


def test_a_change_on_both_sides_is_both() -> None:
    plan = planned(live(wished(), TASKS=configured(max_msgs=7)), wished("streams: {tasks: {max_age: 1h}}"))
    assert only(plan) == (TASKS, Action.UPDATE, Cause.BOTH)


def test_another_organisation_keeps_what_is_its_own() -> None:
    plan = planned(live(wished(), TASKS=marked(org="other")), wished())
    (change,) = plan.changes
    assert (change.action, [problem.code for problem in change.problems]) == (
        Action.IMPOSSIBLE,
        ["foreign-owner"],
    )
    with pytest.raises(PlanRefused, match="belongs to organisation other"):
        refuse_unless_allowed(plan, ["deletes-messages"])


def test_an_organisation_that_has_it_all_is_named_once() -> None:
    """As when the `org:` of a manifest is renamed: eight times the same would hide that it is one thing."""
    plan = make_plan(live(wished()), expand(loads("org: other\nroles: [cto]\n")), owner="other")
    assert {change.action for change in plan.changes} == {Action.IMPOSSIBLE}
    (problem,) = plan.blocking_problems
    first = plan.changes[0].ref
    assert problem.message == f"{first} belongs to organisation gen, and so do {len(plan.changes) - 1} more"
    assert problem.hint
    with pytest.raises(PlanRefused) as refused:
        refuse_unless_allowed(plan, ["deletes-messages"])
    assert len(refused.value.problems) == 1


def test_a_replaced_stream_takes_its_consumers_with_it() -> None:
    plan = planned(live(wished()), wished("streams: {tasks: {storage: memory}}"))
    assert [(change.ref, change.action) for change in plan.changes] == [
        (TASKS, Action.REPLACE),
        (WORKER, Action.REPLACE),
    ]
    assert plan.changes[1].depends_on == (TASKS,)


def test_a_target_is_a_role_of_the_manifest_or_of_what_it_left() -> None:
    two = live(wished(roles="cto, ceo"))
    assert {orphan.role for orphan in planned(two, wished(), targets=["ceo"]).orphans} == {"ceo"}
    with pytest.raises(UsageInvalid, match="no role is called dev, ops"):
        planned(two, wished(), targets=["cto", "ops", "dev"])


def test_a_target_changes_nothing_else() -> None:
    desired = wished("streams: {tasks: {max_age: 1h}, inboxes: {max_age: 1h}}", roles="cto, ceo")
    plan = planned(live(wished(roles="cto, ceo")), desired, targets=["cto"])
    assert only(plan) == (TASKS, Action.UPDATE, Cause.MANIFEST)


def test_a_prefix_is_another_name_and_no_deletion() -> None:
    plan = planned(live(wished()), wished("naming: {stream_prefix: NEW_}"), prune=True)
    assert {(change.action, change.cause) for change in plan.changes} == {(Action.REPLACE, Cause.MANIFEST)}
    assert {change.ref.stream for change in plan.changes} == {
        f"NEW_{change.current_ref.stream}" for change in plan.changes
    }


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (configured(max_age=1), "AGENT_CTO_TASKS was changed"),
        (marked(role=None), "AGENT_CTO_TASKS was changed"),
        (lambda found: replace(found, created="2026-01-02T00:00:00Z"), "AGENT_CTO_TASKS was changed"),
        (gone, "AGENT_CTO_TASKS was deleted"),
    ],
    ids=["a field", "a mark", "made anew", "deleted"],
)
def test_a_plan_holds_for_the_state_that_it_was_made_from(
    edit: Callable[[LiveResource], LiveResource | None], message: str
) -> None:
    before = planned(live(wished()), wished())
    refuse_unless_same(before, planned(live(wished()), wished()))
    with pytest.raises(PlanStale, match=message):
        refuse_unless_same(before, planned(live(wished(), TASKS=edit), wished()))


LEASE = LiveResource(Ref("KV_cyborg-infra"), {}, counts=StreamCounts(messages=1))
OTHER = LiveResource(Ref("OTHER"), {"subjects": ["gen.agents.cto.tasks"]}, counts=StreamCounts())
BUSIER = FACTS._replace(limits=Limits(streams=1, storage=1 << 20))


@pytest.mark.parametrize(
    ("then", "now", "holds"),
    [
        (LiveState(server_info=FACTS), LiveState(server_info=FACTS), True),
        (LiveState(server_info=FACTS), LiveState({LEASE.ref: LEASE}, BUSIER), True),
        (LiveState(server_info=FACTS), LiveState({OTHER.ref: OTHER}, FACTS), False),
        (LiveState(server_info=FACTS), LiveState(server_info=FACTS._replace(account="B")), False),
        (LiveState(server_info=FACTS), LiveState(), False),
        (
            LiveState(server_info=FACTS._replace(limits=Limits(max_streams=9))),
            LiveState({LEASE.ref: LEASE}, FACTS._replace(limits=Limits(max_streams=9, streams=1))),
            False,
        ),
        (live(wished(), TASKS=configured(max_age=1)), live(wished(), TASKS=configured(max_age=1)), False),
    ],
    ids=["same", "lease", "stream", "account", "unknown", "limits", "touches"],
)
def test_a_plan_that_is_still_valid_would_be_planned_again(
    *, then: LiveState, now: LiveState, holds: bool
) -> None:
    """An apply plans again unless it only creates, in an account without limits, where nothing came but its lease."""
    found = planned(then, wished())
    assert found.is_valid_for(now) is holds
    if holds:
        assert planned(now, wished()).changes == found.changes


def test_messages_make_no_plan_stale() -> None:
    before = planned(live(wished()), wished())
    busy = live(wished(), TASKS=lambda found: replace(found, counts=StreamCounts(messages=7)))
    refuse_unless_same(before, planned(busy, wished()))


def test_every_hazard_has_to_be_named() -> None:
    full = live(wished(), TASKS=lambda found: replace(found, counts=StreamCounts(messages=7, bytes=70)))
    plan = planned(full, wished("streams: {tasks: {max_msgs: 2}}"))
    refuse_unless_allowed(plan, ["deletes-messages"])
    for allow in ([], ["resets-progress"], ["all"]):
        with pytest.raises(PlanRefused, match="5 oldest messages above 2"):
            refuse_unless_allowed(plan, allow)


def test_done_means_that_it_holds() -> None:
    desired = wished("streams: {tasks: {max_age: 1h}}")
    plan = planned(live(wished()), desired)
    done = [Outcome(change, ResultStatus.SUCCEEDED) for change in plan.changes]
    assert verify_outcomes(done, planned(live(desired), desired)) == done
    (outcome,) = verify_outcomes(done, planned(live(desired, TASKS=configured(max_msgs=7)), desired))
    assert outcome.status is ResultStatus.FAILED
    assert outcome.problem is not None
    assert "differs in max_msgs" in outcome.problem.message


def test_what_the_server_adds_to_metadata_is_nothing() -> None:
    labels = {**wished().resources[TASKS].metadata, "_nats.ver": "2.15.1", "_nats.level": "5"}
    assert not planned(live(wished(), TASKS=configured(metadata=labels)), wished())


def test_marks_alone_are_no_change_of_what_a_stream_does() -> None:
    unowned = live(wished(), TASKS=configured(metadata={}))
    (change,) = planned(unowned, wished()).changes
    assert change.action is Action.ADOPT
    assert {field.field.removeprefix("metadata.") for field in change.fields} >= {OWNER_KEY, APPLIED_KEY}
    assert all(field.field.startswith("metadata.cyborg-infra.") for field in change.fields)


def test_what_a_role_that_goes_gives_up_meanwhile_is_told_to_become_no_dead_letter() -> None:
    """DEAD_LETTERS no longer takes its notices in before its stream is gone."""
    plan = planned(live(wished(roles="cto, dev")), wished(), prune=True)
    assert list(plan.notes) == [
        "a message of AGENT_DEV_TASKS that fails for good during this apply becomes no dead letter"
    ]


@pytest.mark.parametrize(
    ("version", "cluster", "is_told"),
    [
        ((2, 10, 26), "c", False),
        ((2, 11, 9), "c", False),
        ((2, 11, 10), "c", True),
        ((2, 11, 17), "c", True),
        ((2, 12, 0), "c", False),
        ((2, 12, 2), "c", True),
        ((2, 12, 2), "", False),
        ((2, 12, 3), "c", False),
        ((2, 15, 1), "c", False),
    ],
)
def test_streams_that_a_killed_server_forgets_are_told(
    version: tuple[int, int, int], cluster: str, *, is_told: bool
) -> None:
    """Only what is updated: a stream that is new and no more is kept."""
    facts = FACTS._replace(version=Version(*version), cluster=cluster, peers=3 if cluster else 0)
    now = replace(live(wished(), TASKS=configured(max_age=1)), server_info=facts)
    told = [
        note for note in planned(now, wished()).notes if "AGENT_CTO_TASKS, and deletes its copies" in note
    ]
    assert bool(told) is is_told
    new = planned(LiveState(server_info=facts), wished())
    assert not [note for note in new.notes if "deletes its copies" in note]


def test_a_cluster_of_which_too_few_servers_are_known_is_no_reason_to_refuse() -> None:
    """Those that are down are not counted; if there are really too few, the server says so."""
    facts = FACTS._replace(cluster="c", peers=2)
    plan = planned(LiveState(server_info=facts), wished("defaults: {replicas: 3}\n"))
    assert plan.blocking_problems == ()
    assert [note.partition(":")[0] for note in plan.notes] == [
        "3 replicas need 3 servers, and 2 of the cluster are known of"
    ]
    assert not planned(LiveState(server_info=facts), wished("defaults: {replicas: 2}\n")).notes


def test_an_account_limit_of_pending_messages_refuses_what_says_more_and_is_the_value_of_what_says_nothing() -> (
    None
):
    """It does not concern a push consumer without acknowledgements."""
    account = LiveState(server_info=FACTS._replace(limits=Limits(max_ack_pending=100)))
    silent = "inbox_reader: {ack_policy: none, deliver_subject: push.inbox}"
    desired = wished(f"consumers: {{{silent}, broadcast_reader: {{max_ack_pending: 101}}}}")
    changes = [change for change in planned(account, desired).changes if change.ref.consumer]
    refused = {change.ref for change in changes if change.problems}
    assert refused == {reader.ref for reader in desired.consumers() if reader.get("max_ack_pending") == 101}
    wanted = [change.after for change in changes if change.after and not change.problems]
    assert {reader.config.get("max_ack_pending") for reader in wanted} == {None, 5, 100}  # a worker's is 5


def _captured(live_streams: DesiredState, manifest: str, *foreign: LiveResource, prune: bool = False) -> Plan:
    now = live(live_streams)
    now = replace(now, resources={**now.resources, **{stream.ref: stream for stream in foreign}})
    org = loads(f"org: gen\nroles: [cto]\n{manifest}")
    return planned(now, expand(org), org=org, prune=prune)


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("channels: {jobs: {of: role, durable: true}}", "channels: {jobs: {of: role}}", "AGENT_JOBS"),
        (
            "events: {build.done: {publishers: [cto], subscribers: [cto], durable: true}}",
            "events: {build.done: {publishers: [cto], subscribers: [cto]}}",
            "ORG_EVENTS",
        ),
    ],
)
def test_a_stream_that_left_the_manifest_may_not_answer_what_became_ephemeral(
    before: str, after: str, name: str
) -> None:
    left = _captured(wished(before), after)
    (problem,) = left.blocking_problems
    assert (problem.code, name in problem.message) == ("capture", True)
    assert f"{name} is no longer in the manifest: apply with prune=True deletes it" in str(problem)
    with pytest.raises(PlanRefused):
        refuse_unless_allowed(left, ())
    pruned = _captured(wished(before), after, prune=True)
    assert not pruned.blocking_problems
    assert Ref(name) in {change.ref for change in pruned.changes if change.action is Action.DELETE}


def test_a_stream_of_somebody_else_may_not_answer_requests() -> None:
    """One problem a stream; what is destroyed needs no requests."""
    theirs = LiveResource(
        Ref("EARS"), {"subjects": ["gen.agents.*.requests"], "metadata": {OWNER_KEY: "other"}}
    )
    strange = LiveResource(Ref("WIDE"), {"subjects": ["gen.agents.*.status", "gen.agents.cto.requests"]})
    plan = _captured(wished(), "", theirs, strange)
    assert not plan.changes
    assert [problem.message.partition(":")[0] for problem in plan.blocking_problems] == [
        "stream EARS of organisation other captures gen.agents.cto.requests with gen.agents.*.requests",
        "stream WIDE, which is not managed, captures gen.agents.cto.status with gen.agents.*.status (and 1 more like it)",
    ]
    org = loads("org: gen\nroles: [cto]\n")
    assert not planned(live(wished()), DesiredState(), org=org, prune=True).blocking_problems


@pytest.mark.parametrize(("most", "one_by_one"), [(0, False), (5, True), (6, False)])
def test_streams_are_moved_one_by_one_where_not_all_have_room_at_once(most: int, *, one_by_one: bool) -> None:
    """And a new one comes after them where it would take the place that they need."""
    facts = FACTS._replace(limits=Limits(max_streams=most, streams=4))
    now = replace(live(wished()), server_info=facts)
    names = "naming: {streams: {tasks: '{ROLE}_W', inboxes: MAIL}}\n"
    moved = [Ref("CTO_W"), Ref("MAIL")]
    needs = {change.ref: set(change.depends_on) for change in planned(now, wished(names)).changes}
    assert [bool(needs[ref] & set(moved)) for ref in moved] == [False, one_by_one]
    more = planned(now, wished(names + "channels: {news: {of: org, durable: true, readers: [cto]}}\n"))
    assert not more.problems
    (new,) = (change for change in more.changes if change.ref == Ref("ORG_NEWS"))
    assert set(new.depends_on) == (set(moved) if most == 5 else set())


def _remembered(state: DesiredState) -> LiveState:
    """Return a server that holds the state, and an account that remembers it."""
    record = AppliedRecord("1", complete=True, members=members_of(state))
    return replace(live(state), server_info=FACTS._replace(applied_record=record))


def test_one_stream_for_all_roles_instead_of_one_for_each_is_no_drift_nor_the_other_way_round() -> None:
    each = wished(roles="cto, dev")
    shared = wished("naming: {streams: {tasks: WORK}}", roles="cto, dev")
    for before, after in ((each, shared), (shared, each)):
        plan = planned(_remembered(before), after, prune=True)
        assert {change.cause for change in plan.changes} == {Cause.MANIFEST}
        assert not [note for note in plan.notes if "renamed_from" in note]


def test_a_name_that_another_stream_gives_up_in_the_same_plan_is_refused_with_the_order() -> None:
    names = "naming: {{streams: {{inboxes: {}, broadcasts: {}}}}}".format
    plan = planned(_remembered(wished(names("P", "Q"))), wished(names("Q", "R")), prune=True)
    assert {change.ref: change.cause for change in plan.changes} == dict.fromkeys(
        (Ref("Q"), LETTERS), Cause.MANIFEST
    )
    (problem,) = plan.blocking_problems
    assert problem.code == "order"
    assert problem.hint == "rename in two applies: first Q to R, then what shall be called Q"
    assert not plan.orphans
    first = planned(_remembered(wished(names("P", "Q"))), wished(names("P", "R")))
    assert not first.blocking_problems
    assert Ref("R") in {found.ref for found in first.changes if found.is_rename}
