"""A saved plan is applied exactly, and only to the state that it was made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.cli.files import save
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.problems import ManifestInvalid, PlanRefused, PlanStale
from cyborg_infra.operations import provision
from tests.support.acceptance_cases import (
    CEO_TASKS,
    CEO_WORKER,
    HOUR,
    INBOXES,
    LETTERS,
    OF_CEO,
    ORG,
    TASK,
    TASKS,
    TWO,
    WORKER,
    account,
    tasks,
)
from tests.support.scenario import (
    EVERY_HAZARD,
    Scenario,
    Step,
    after_apply,
    changed,
    consumer,
    deleted,
    published,
    stream,
    with_metadata,
)
from tests.support.servers import StartServer


@pytest.fixture
def scenario(server: EmbeddedServer, tmp_path: Path) -> Iterator[Scenario]:
    """Yield a server with the smallest organisation on it."""
    with Scenario(server.url, tmp_path) as found:
        found.converge(ORG)
        yield found


def saved(
    scenario: Scenario,
    path: Path,
    manifest: str,
    env: str | None = None,
    *,
    prune: bool = False,
    targets: Sequence[str] = (),
) -> Path:
    """Return the file that `plan --out` would have written."""
    save(scenario.plan(scenario.request(manifest, env, prune=prune, targets=targets)), path)
    return path


def applied_from(scenario: Scenario, path: Path, allow: Sequence[str] = EVERY_HAZARD) -> list[str]:
    """Return what `apply FILE` does: the changed resources."""
    outcomes = scenario.apply(provision.load_request(str(path)), allow=allow)
    assert [outcome for outcome in outcomes if outcome.status is not ResultStatus.SUCCEEDED] == []
    return sorted(str(outcome.change.ref) for outcome in outcomes)


def staleness(scenario: Scenario, path: Path) -> list[str]:
    """Return why the file cannot be applied any more; nothing was written."""
    before = scenario.everything()
    with scenario.requests() as made, pytest.raises(PlanStale) as stale:
        applied_from(scenario, path)
    assert [request for request in made if request.writes] == []
    assert before == scenario.everything()
    return [text for problem in stale.value.problems for text in (problem.message, problem.hint) if text]


@pytest.mark.parametrize(
    ("meanwhile", "message"),
    [
        (changed(TASKS, max_msgs=7), "AGENT_CTO_TASKS was changed since the plan was made"),
        (with_metadata(WORKER, role=None), "AGENT_CTO_TASKS/cto-worker was changed since the plan was made"),
        (stream(CEO_TASKS, "gen.agents.ceo.tasks"), "AGENT_CEO_TASKS was created since the plan was made"),
        (deleted(WORKER), "AGENT_CTO_TASKS/cto-worker was deleted since the plan was made"),
        (after_apply(ORG + "streams: {tasks: {max_age: 80h}}\n"), "AGENT_CTO_TASKS was changed since the plan was made"),
    ],
    ids=["a field", "a mark", "created", "deleted", "an apply"],
)  # fmt: skip
def test_a_plan_is_stale_once_anything_it_is_about_differs(
    meanwhile: Step, message: str, scenario: Scenario, tmp_path: Path
) -> None:
    path = saved(scenario, tmp_path / "plan", TWO)
    meanwhile(scenario)
    told = staleness(scenario, path)
    assert message in told
    assert "make a new plan" in told


def test_a_plan_is_stale_once_a_resource_was_made_anew_in_the_same_form(
    scenario: Scenario, tmp_path: Path
) -> None:
    path = saved(scenario, tmp_path / "plan", TWO)
    config = scenario.config(TASKS)
    deleted(TASKS)(scenario)
    scenario.ask(f"STREAM.CREATE.{TASKS}", config)
    assert set(staleness(scenario, path)) == {
        "the plan is stale: the server is no longer as it was",
        "make a new plan",
        f"{TASKS} was changed since the plan was made",
        f"{WORKER} was deleted since the plan was made",
    }


def test_changes_of_foreign_resources_do_not_make_a_plan_stale(scenario: Scenario, tmp_path: Path) -> None:
    path = saved(scenario, tmp_path / "plan", tasks("max_age: 80h"))
    stream("OTHER", "other.>")(scenario)
    consumer("OTHER/reader")(scenario)
    consumer(f"{TASKS}/audit")(scenario)
    published(TASK, 2)(scenario)
    assert applied_from(scenario, path) == [TASKS]


def test_a_plan_for_one_account_is_stale_in_another(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(
        config="accounts {\n"
        "  ONE { jetstream: enabled, users: [{user: one, password: one}] }\n"
        "  TWO { jetstream: enabled, users: [{user: two, password: two}] }\n}\n"
    )
    address = server.url.removeprefix("nats://")
    with (
        Scenario(f"nats://one:one@{address}", tmp_path) as one,
        Scenario(f"nats://two:two@{address}", tmp_path) as two,
    ):
        path = saved(one, tmp_path / "plan", ORG)
        assert "the plan was made for account 'ONE', and this is 'TWO'" in staleness(two, path)
        assert len(applied_from(one, path)) == 8


@pytest.mark.parametrize("names", [("one", "two"), ("", "")], ids=["named", "unnamed"])
def test_a_first_plan_is_stale_on_another_server(
    start_server: StartServer, tmp_path: Path, names: tuple[str, str]
) -> None:
    """Nothing is there that could differ: the server's own name tells."""
    with (
        Scenario(start_server(name=names[0]).url, tmp_path) as one,
        Scenario(start_server(name=names[1]).url, tmp_path) as two,
    ):
        path = saved(one, tmp_path / "plan", ORG)
        here, there = (scene.api.info["server_name"] for scene in (one, two))
        assert f"the plan was made for server {here!r}, and this is {there!r}" in staleness(two, path)
        assert len(applied_from(one, path)) == 8


@pytest.mark.parametrize("first", [True, False], ids=["a first plan, with a name", "a later one, without"])
def test_a_plan_outlives_a_restart(start_server: StartServer, tmp_path: Path, first: bool) -> None:  # noqa: FBT001
    server = start_server(name="solo" if first else "")
    with Scenario(server.url, tmp_path) as scene:
        if not first:
            scene.converge(ORG)
        path = saved(scene, tmp_path / "plan", TWO)
        server.stop()
        server.start()
        scene.reconnect()
        assert len(applied_from(scene, path)) > 0


def test_a_plan_is_stale_after_it_was_applied(scenario: Scenario, tmp_path: Path) -> None:
    path = saved(scenario, tmp_path / "plan", TWO)
    applied_from(scenario, path)
    told = staleness(scenario, path)
    assert f"{CEO_TASKS} was created since the plan was made" in told
    assert (
        "nothing of it is left to do: it was applied, or somebody did the same" in told
    )  # as by a job of CI that is run again


def test_what_a_plan_costs_by_now_has_to_be_allowed_by_now(scenario: Scenario, tmp_path: Path) -> None:
    """Messages make no plan stale; but they are never deleted unasked."""
    path = saved(scenario, tmp_path / "plan", tasks("max_msgs: 1"))
    published(TASK, 3)(scenario)
    with pytest.raises(PlanRefused, match=r"2 oldest messages .* above 1"):
        applied_from(scenario, path, allow=())
    assert scenario.info(TASKS)["state"]["messages"] == 3


@pytest.mark.parametrize("before", [0, 3])
def test_a_plan_that_costs_more_than_was_reviewed_is_stale_whatever_is_allowed(
    scenario: Scenario, tmp_path: Path, before: int
) -> None:
    """The reviewer allowed a number: `apply FILE` holds the plan that it makes itself to the one in the file."""
    published(TASK, before)(scenario)
    path = saved(scenario, tmp_path / "plan", tasks("max_msgs: 1"))
    published(TASK, 30)(scenario)
    announced = "deletes-messages has come since" if not before else "and the plan announced 2"
    assert any(announced in problem for problem in staleness(scenario, path))
    assert scenario.info(TASKS)["state"]["messages"] == before + 30


def test_an_empty_plan_can_be_saved_and_applied(scenario: Scenario, tmp_path: Path) -> None:
    path = saved(scenario, tmp_path / "plan", ORG)
    with scenario.requests() as made:
        assert applied_from(scenario, path) == []
    assert [request for request in made if request.writes] == []


def test_a_plan_holds_its_environment_and_needs_no_manifest(scenario: Scenario, tmp_path: Path) -> None:
    manifest = ORG + "environments: {production: {streams: {tasks: {max_age: 90h}}}}\n"
    path = saved(scenario, tmp_path / "plan", manifest, "production")
    (tmp_path / "org.yaml").unlink()
    assert applied_from(scenario, path) == [TASKS]
    assert scenario.config(TASKS)["max_age"] == 90 * HOUR


def test_a_plan_holds_its_targets(scenario: Scenario, tmp_path: Path) -> None:
    scenario.converge(TWO)
    path = saved(scenario, tmp_path / "plan", TWO + "streams: {tasks: {max_age: 90h}}\n", targets=["ceo"])
    assert applied_from(scenario, path) == [CEO_TASKS]


@pytest.mark.parametrize("prune", [True, False])
def test_a_plan_holds_whether_it_prunes(prune: bool, scenario: Scenario, tmp_path: Path) -> None:  # noqa: FBT001
    scenario.converge(TWO)
    path = saved(scenario, tmp_path / "plan", ORG, prune=prune)
    # While the stream stays, DEAD_LETTERS stores its dead letters.
    assert applied_from(scenario, path) == (sorted([LETTERS, *OF_CEO]) if prune else [])
    assert (CEO_WORKER in scenario.refs()) is not prune


def test_an_impossible_plan_can_be_saved_and_is_refused(start_server: StartServer, tmp_path: Path) -> None:
    with Scenario(start_server(config=account("max_streams: 2")).url, tmp_path) as scene:
        path = saved(scene, tmp_path / "plan", ORG)
        with pytest.raises(PlanRefused, match="4 streams are needed"):
            applied_from(scene, path)
        assert scene.refs() == []


def _desired(data: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row["config"] for row in data["desired"] if row["config"]["name"] == name)
    return found


Edit = Callable[[dict[str, Any]], object]
EDITS: dict[str, Edit] = {
    "a field": lambda data: _desired(data, TASKS).update(max_age=HOUR),
    "a field taken out": lambda data: _desired(data, "cto-worker").pop("ack_wait"),
    "a label": lambda data: _desired(data, TASKS)["metadata"].update(team="red"),
    "the digest": lambda data: _desired(data, TASKS)["metadata"].update({"cyborg-infra.applied": "0" * 16}),
    "a base": lambda data: data["base"].update({INBOXES: "0" * 16}),
    "a base taken out": lambda data: data["base"].pop(INBOXES),
    "the account": lambda data: data["server"].update(account="OTHER"),
    "whether it prunes": lambda data: data.update(prune=not data["prune"]),
    "a resource taken out": lambda data: data["desired"].pop(),
    "what readers see": lambda data: data["plan"].update(changes=[]),
    "a member too many": lambda data: data.update(more=1),
    "a member too few": lambda data: data.pop("targets"),
    "a version that does not exist": lambda data: data.update(schema_version=99),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edited_plan_is_refused(edit: Edit, scenario: Scenario, tmp_path: Path) -> None:
    path = saved(scenario, tmp_path / "plan", TWO)
    data = json.loads(path.read_bytes())
    edit(data)
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")
    staleness(scenario, path)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_half_a_file_is_refused(kept: float, scenario: Scenario, tmp_path: Path) -> None:
    path = saved(scenario, tmp_path / "plan", TWO)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "the saved plan cannot be read" in staleness(scenario, path)[0]


def test_an_empty_file_is_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    path.touch()
    with pytest.raises(ManifestInvalid):
        provision.load_request(str(path))
