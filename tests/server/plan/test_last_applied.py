"""What the account remembers of an organisation: that it was applied, when and from which environment."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyborg_infra.model.buckets import APPLIED_BUCKET
from cyborg_infra.model.changes import Cause
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.problems import PlanRefused
from cyborg_infra.operations import provision
from tests.support.cli import SMALL, Cli
from tests.support.cluster import running_cluster
from tests.support.scenario import EVERY_HAZARD, Scenario, Step, acked, deleted, published, with_metadata
from tests.support.servers import StartServer

BUCKET = f"KV_{APPLIED_BUCKET}"
PLAIN = "org: acme\nroles: [cto, ops]\n"
MORE = "org: acme\nroles: [cto, ops, ceo]\nevents: {ci.done: {durable: true, subscribers: [cto]}}\nkey_value: [{name: drafts}]\n"
STAGED = PLAIN + "environments: {production: {streams: {tasks: {max_age: 90h}}}, staging: {}}\n"
IN_SYNC, ERROR, DIFFERENT, REFUSED = 0, 1, 2, 3


def everything_deleted(scenario: Scenario) -> None:
    for ref in scenario.refs():
        if "/" not in ref:
            deleted(ref)(scenario)


def everything_unlabelled(scenario: Scenario) -> None:
    """As an apply of another tool leaves it, which knows no labels."""
    for ref in scenario.refs():
        with_metadata(ref, org=None, kind=None, role=None, applied=None, resource=None)(scenario)


def forgotten(scenario: Scenario) -> None:
    """The data directory is lost, or it is another account."""
    everything_deleted(scenario)
    scenario.ask(f"STREAM.DELETE.{BUCKET}")


def interrupted(scenario: Scenario) -> None:
    """A first apply was interrupted after half of what it does."""
    forgotten(scenario)
    wish, told = scenario.request(PLAIN), list[object]()

    class Interrupted(BaseException):
        pass

    def tell(outcome: object) -> None:
        told.append(outcome)
        if len(told) == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        provision.apply(provision.ApplyRequest(scenario.plan(wish), on_outcome=tell), scenario.target)


def remembered(scenario: Scenario) -> dict[str, Any]:
    """Return the organisation's record, as any client reads it."""
    found = scenario.ask(f"STREAM.MSG.GET.{BUCKET}", {"last_by_subj": f"$KV.{APPLIED_BUCKET}.acme"})[
        "message"
    ]
    record: dict[str, Any] = json.loads(base64.b64decode(found["data"]))
    return record


def stored_in(scenario: Scenario) -> int:
    """Return how often something was remembered."""
    number: int = scenario.ask(f"STREAM.INFO.{BUCKET}")["state"]["last_seq"]
    return number


class Case(NamedTuple):
    """What happened after the apply, how drift ends then, and what it says."""

    step: Step
    code: int
    says: str


CASES = {
    "nothing": Case(lambda _: None, IN_SYNC, "No drift. The server is as it was applied."),
    "all streams are deleted": Case(everything_deleted, DIFFERENT, "Drift: nothing is left of what was applied on 20"),
    "all labels are taken off": Case(everything_unlabelled, DIFFERENT, "Drift: nothing is left of what was applied on 20"),
    "all is gone, and the memory with it": Case(
        forgotten, DIFFERENT, "Drift: nothing of organisation acme is here: it was never applied to this account, or all"
    ),
    "a role is deleted to the last consumer": Case(
        lambda scenario: [deleted(ref)(scenario) for ref in scenario.refs() if "ops" in ref.lower() and "OPS_TASKS/" not in ref],
        DIFFERENT,
        "Drift: 4 resources changed on the server",
    ),
    "a first apply is interrupted": Case(interrupted, IN_SYNC, "No drift, but the first apply was never completed."),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_drift_tells_what_somebody_did_also_where_nothing_is_left(
    scenario: Scenario, cli: Cli, project: Path, case: Case
) -> None:
    scenario.converge(PLAIN)
    case.step(scenario)
    (project / "org.yaml").write_text(PLAIN, encoding="utf-8")
    ended = cli("drift", "-s", scenario.url, "--no-context")
    assert (ended.code, case.says in ended.out) == (case.code, True), ended.out
    data = cli("drift", "-s", scenario.url, "--no-context", "--format", "json").json
    assert data["present"] is (case.step not in (everything_deleted, everything_unlabelled, forgotten))
    causes = {change["cause"] for change in data["changes"]}
    if (
        case.step is everything_unlabelled
    ):  # agents that update their own consumers take the labels off as well
        assert causes == {"drift", "pending"}
    else:
        assert (
            causes == ({"drift"} if case.code and case.step is not forgotten else {"pending"}) or not causes
        )
    scenario.converge(PLAIN)
    assert cli("drift", "-s", scenario.url, "--no-context", "--pending").code == IN_SYNC


def test_only_a_complete_apply_is_remembered_as_one(scenario: Scenario) -> None:
    scenario.converge(PLAIN)
    found = remembered(scenario)
    assert (found["complete"], found["environment"]) == (True, None)
    readers = ["broadcast_reader", "inbox_reader", "tasks", "worker"]
    assert {"kinds": readers, "of": ["cto", "ops"]} in found["resources"]
    changed = PLAIN + "streams: {tasks: {max_age: 90h}}\n"
    for role, stored in (("cto", 0), ("ops", 1)):  # with the second one nothing is left to do
        before = stored_in(scenario)
        scenario.apply(scenario.request(changed, targets=[role]), allow=EVERY_HAZARD)
        assert stored_in(scenario) - before == stored


def test_what_came_and_went_is_known_one_by_one(scenario: Scenario) -> None:
    """Decision 10 had to guess: of an event reader, a bucket and the last resource of a role nothing else tells."""
    scenario.converge(PLAIN)
    assert {
        change.cause for change in scenario.plan(scenario.request(MORE)).changes if not change.before
    } == {Cause.MANIFEST}
    scenario.converge(MORE)
    for ref in ("ORG_EVENTS/cto-event-reader", "KV_drafts", "AGENT_CEO_TASKS"):
        deleted(ref)(scenario)
    found = {str(change.ref): change.cause for change in scenario.plan(scenario.request(MORE)).changes}
    gone = ("AGENT_CEO_TASKS", "AGENT_CEO_TASKS/ceo-worker", "KV_drafts", "ORG_EVENTS/cto-event-reader")
    assert found == dict.fromkeys(gone, Cause.DRIFT)


def test_what_an_older_version_applied_is_remembered_once_it_is_found_in_sync(
    scenario: Scenario, cli: Cli, project: Path
) -> None:
    scenario.converge(PLAIN)
    scenario.ask(f"STREAM.DELETE.{BUCKET}")
    (project / "org.yaml").write_text(PLAIN, encoding="utf-8")
    at = ("-s", scenario.url, "--no-context")
    deleted("AGENT_CTO_TASKS/cto-worker")(scenario)
    assert cli("drift", *at).code == DIFFERENT  # as the labels of the others tell
    scenario.apply(scenario.request(PLAIN))
    scenario.ask(f"STREAM.DELETE.{BUCKET}")
    assert cli("plan", *at).code == IN_SYNC
    assert BUCKET not in scenario.ask("STREAM.NAMES")["streams"]
    assert cli("apply", "--yes", *at).code == IN_SYNC
    assert remembered(scenario)["complete"] is True
    before = stored_in(scenario)
    assert cli("apply", "--yes", *at).code == IN_SYNC
    assert stored_in(scenario) == before


def test_a_plan_for_another_environment_is_refused_unless_it_is_named(
    scenario: Scenario, cli: Cli, project: Path
) -> None:
    scenario.converge(STAGED, "production")
    (project / "org.yaml").write_text(STAGED, encoding="utf-8")
    at = ("-s", scenario.url, "--no-context", "--yes")
    before = scenario.everything()
    for env in ((), ("--env", "staging")):
        ended = cli("apply", *env, *at)
        assert ended.code == REFUSED
        assert "environment-change: acme was applied here from environment production" in ended.out
    assert cli("destroy", *at[:-1], "--confirm", "acme").code == REFUSED
    assert scenario.everything() == before
    assert cli("apply", "--env", "production", *at).code == IN_SYNC
    assert cli("apply", "--env", "staging", "--allow", "environment-change", *at).code == IN_SYNC
    assert remembered(scenario)["environment"] == "staging"
    assert cli("apply", "--env", "production", *at).code == REFUSED
    data = cli("plan", "--env", "production", "--format", "json", *at[:-1]).json
    assert (data["allow"], data["applied"]["environment"]) == (["environment-change"], "staging")


def test_another_environment_that_comes_to_the_same_is_a_note_and_changes_no_memory(
    scenario: Scenario, cli: Cli, project: Path
) -> None:
    scenario.converge(STAGED, "staging")
    (project / "org.yaml").write_text(STAGED, encoding="utf-8")
    ended = cli("apply", "--yes", "-s", scenario.url, "--no-context")
    assert (ended.code, "what was applied last was environment staging" in ended.out) == (IN_SYNC, True)
    assert remembered(scenario)["environment"] == "staging"


def test_a_saved_plan_is_for_its_environment(scenario: Scenario, cli: Cli, project: Path) -> None:
    scenario.converge(STAGED, "production")
    (project / "org.yaml").write_text(STAGED, encoding="utf-8")
    at = ("-s", scenario.url, "--no-context")
    assert cli("plan", "--env", "staging", "--out", "it.plan", *at).code == IN_SYNC
    assert cli("apply", "it.plan", "--yes", *at).code == REFUSED
    assert cli("apply", "it.plan", "--yes", "--env", "production", *at).code == ERROR
    allowed = ("--allow", "environment-change")
    assert cli("apply", "it.plan", "--yes", "--env", "staging", *allowed, *at).code == IN_SYNC
    assert remembered(scenario)["environment"] == "staging"


def test_a_destroyed_organisation_has_no_applied_record(scenario: Scenario, cli: Cli, project: Path) -> None:
    scenario.converge(STAGED, "production")
    (project / "org.yaml").write_text(STAGED, encoding="utf-8")
    at = ("-s", scenario.url, "--no-context")
    assert cli("destroy", "--env", "production", "--confirm", "acme", *at).code == IN_SYNC
    assert cli("plan", "--env", "staging", *at).code == IN_SYNC
    assert cli("plan", "--env", "staging", "--format", "json", *at).json["applied"] is None
    scenario.converge(STAGED, "production")
    everything_deleted(scenario)
    assert cli("destroy", "--env", "production", "--confirm", "acme", *at).code == IN_SYNC
    assert cli("plan", "--format", "json", *at).json["applied"] is None


def test_a_memory_that_is_none_is_a_note(scenario: Scenario) -> None:
    scenario.converge(PLAIN)
    for text in (
        b"",
        b"null",
        b"[]",
        b'{"version": 1, "complete": true}',
        b"\xff",
        b'{"version": "1", "complete": true, "resources": [{"kinds": 1}]}',
    ):
        scenario.api.ask(f"$KV.{APPLIED_BUCKET}.acme", text)
        plan = scenario.plan(scenario.request(PLAIN))
        assert not plan
        assert ["no memory of ours" in note for note in plan.notes] == [True]
    scenario.api.ask(f"$KV.{APPLIED_BUCKET}.acme", b"", headers={"KV-Operation": "DEL"})
    assert scenario.plan(scenario.request(PLAIN)).notes == ()


def _refused(make: Callable[[], object]) -> Sequence[str]:
    with pytest.raises(PlanRefused) as refused:
        make()
    return [problem.code for problem in refused.value.problems]


def test_two_organisations_of_an_account_are_remembered_each(scenario: Scenario) -> None:
    scenario.converge(STAGED, "production")
    scenario.converge("org: other\nroles: [cto]\nnaming: {stream_prefix: O_}\n")
    assert remembered(scenario)["environment"] == "production"
    assert _refused(lambda: scenario.apply(scenario.request(STAGED), allow=())) == ["environment-change"]


LIMITED = "accounts: {{ A: {{ jetstream: {{ max_streams: {most} }}, users: [{{user: a, password: a}}] }} }}\n"


def test_an_account_with_no_space_for_the_applied_record_is_applied_to_all_the_same(
    cli: Cli, project: Path, start_server: StartServer
) -> None:
    """Its last stream is the organisation's, and the user is told."""
    server = start_server(config=LIMITED.format(most=7))
    (project / "org.yaml").write_text(SMALL, encoding="utf-8")
    at = ("-s", server.url, "--user", "a", "--password", "a", "--no-context")
    ended = cli("apply", "--yes", *at)  # five streams, the lease, and one is left
    assert ended.code == IN_SYNC
    assert "Warning: the account does not remember this apply: " in ended.err
    assert cli("drift", *at).code == IN_SYNC


def test_a_cluster_remembers_in_every_copy(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as servers, Scenario(servers[0].url, tmp_path) as scene:
        outcomes = scene.apply(scene.request(PLAIN))
        assert {outcome.status for outcome in outcomes} == {ResultStatus.SUCCEEDED}
        assert scene.config(BUCKET)["num_replicas"] == 3
        assert remembered(scene)["complete"] is True


def test_a_reader_who_may_not_read_the_memory_plans_with_one_note(
    cli: Cli, start_server: StartServer
) -> None:
    server = start_server(
        config='authorization { users: [{ user: admin, password: admin }, { user: reader, password: reader, permissions: { publish: { deny: ["$JS.API.STREAM.MSG.GET.*"] } } }] }'
    )
    at = ("-s", server.url, "--no-context", "--user")
    assert cli("apply", "--yes", *at, "admin", "--password", "admin").code == IN_SYNC
    ended = cli("plan", *at, "reader", "--password", "reader")
    assert (ended.code, ended.out.count("Note: ")) == (IN_SYNC, 1)
    assert f"this user may not read it ($JS.API.STREAM.MSG.GET.{BUCKET})" in ended.out
    assert cli("drift", *at, "reader", "--password", "reader").code == IN_SYNC


def test_the_environment_may_come_from_the_environment(
    scenario: Scenario, cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "org.yaml").write_text(STAGED + "environment_required: true\n", encoding="utf-8")
    at = ("-s", scenario.url, "--no-context")
    for words in (
        ("plan",),
        ("apply", "--yes"),
        ("drift",),
        ("destroy",),
        ("status",),
        ("unlock", "--yes"),
        ("dlq", "list"),
    ):
        ended = cli(*words, *at)
        assert (ended.code, "no environment was chosen" in ended.err) == (ERROR, True), words
    assert cli("validate").code == cli("show").code == IN_SYNC
    monkeypatch.setenv("CYBORG_INFRA_ENV", "production")
    assert cli("apply", "--yes", *at).code == IN_SYNC
    assert remembered(scenario)["environment"] == "production"
    assert cli("plan", "--out", "it.plan", *at).code == IN_SYNC
    assert cli("apply", "it.plan", "--yes", *at).code == IN_SYNC
    monkeypatch.setenv("CYBORG_INFRA_ENV", "staging")
    assert cli("apply", "it.plan", "--yes", *at).code == ERROR
    assert cli("plan", "--detailed-exitcode", "--env", "production", *at).code == IN_SYNC


def test_a_role_that_was_applied_alone_is_done_although_more_is_left_to_do_of_it(scenario: Scenario) -> None:
    """Its reader is what it asked for; that the stream, which is no role's, is replaced later and takes the reader along, is another plan."""
    scenario.converge("org: acme\nroles: [cto, ceo]\n")
    after = "org: acme\nroles: [cto, ceo]\nstreams: {broadcasts: {storage: memory}}\nconsumers: {broadcast_reader: {ack_wait: 7m}}\n"
    request = scenario.request(after, targets=["cto"])
    outcomes = scenario.apply(request)
    assert [str(outcome.change.ref) for outcome in outcomes] == ["ORG_BROADCASTS/cto-broadcast-reader"]
    assert [outcome.problem for outcome in outcomes] == [None]
    assert not scenario.plan(request)
    scenario.converge(after)
    assert not scenario.plan(scenario.request(after))


@pytest.mark.parametrize(
    ("after", "ref"),
    [
        ("roles: {tech: {renamed_from: cto}, ceo: {}}", "ORG_BROADCASTS/tech-broadcast-reader"),
        ("roles: [cto, ceo]\nnaming: {stream_prefix: P_}", "P_ORG_BROADCASTS/cto-broadcast-reader"),
        ("roles: {tech: {renamed_from: cto}, ceo: {}}\nnaming: {stream_prefix: P_}", "P_ORG_BROADCASTS/tech-broadcast-reader"),
    ],
    ids=["role", "stream", "both"],
)  # fmt: skip
def test_who_was_deleted_begins_again_under_another_name_as_well(
    scenario: Scenario, after: str, ref: str
) -> None:
    scenario.converge("org: acme\nroles: [cto, ceo]\n")
    published("acme.org.broadcasts", 3)(scenario)
    acked("ORG_BROADCASTS/cto-broadcast-reader", 3)(scenario)
    deleted("ORG_BROADCASTS/cto-broadcast-reader")(scenario)
    plan = scenario.plan(scenario.request(f"org: acme\n{after}\n"))
    (change,) = [change for change in plan.changes if str(change.ref) == ref]
    assert (change.cause, [(hazard.name, hazard.count) for hazard in change.hazards]) == (
        Cause.DRIFT,
        [("repeats-work", 3)],
    )


READER = "ORG_BROADCASTS/cto-broadcast-reader"
AGAIN, SKIPPED = "repeats-work", "resets-progress"


@pytest.mark.parametrize(
    ("policy", "after", "costs"),
    [
        ("all", "", [(AGAIN, 3)]),
        ("new", "", [(SKIPPED, 3)]),
        ("last", "", [(AGAIN, 3), (SKIPPED, 3)]),
        ("all", "naming: {subject_prefix: acme.eu}\n", [(SKIPPED, 3)]),
    ],
)
def test_who_was_deleted_may_begin_behind_what_waited_for_it(
    scenario: Scenario, policy: str, after: str, costs: Sequence[tuple[str, int]]
) -> None:
    manifest = (
        f"org: acme\nroles: [cto, ceo]\nconsumers: {{broadcast_reader: {{deliver_policy: {policy}}}}}\n"
    )
    scenario.converge(manifest)
    published("acme.org.broadcasts", 3)(scenario)
    acked(READER, 1)(scenario)
    deleted(READER)(scenario)
    request = scenario.request(manifest + after)
    (change,) = [change for change in scenario.plan(request).changes if str(change.ref) == READER]
    assert [(hazard.name, hazard.count) for hazard in change.hazards] == costs
    scenario.converge(manifest + after)
    waits = {"all": 0 if after else 3, "new": 0, "last": 1}
    assert scenario.info(READER)["num_pending"] == waits[policy]


def test_who_was_deleted_is_handed_nothing_of_others_again(scenario: Scenario) -> None:
    """Of a stream of all roles the plan counts what is the reader's own."""
    scenario.converge(PLAIN)
    published("acme.agents.ops.inbox", 5)(scenario)
    published("acme.agents.cto.inbox", 2)(scenario)
    deleted("AGENT_INBOXES/cto-inbox-reader")(scenario)
    (change,) = scenario.plan(scenario.request(PLAIN)).changes
    assert [(hazard.name, hazard.count) for hazard in change.hazards] == [(AGAIN, 2)]


def test_who_was_deleted_of_an_interest_stream_is_handed_again_what_others_wait_for(
    scenario: Scenario,
) -> None:
    manifest = PLAIN + "streams: {broadcasts: {retention: interest}}\n"
    scenario.converge(manifest)
    published("acme.org.broadcasts", 3)(scenario)
    acked(READER, 3)(scenario)
    deleted(READER)(scenario)
    (change,) = scenario.plan(scenario.request(manifest)).changes
    assert [(hazard.name, hazard.count) for hazard in change.hazards] == [(AGAIN, 3)]
