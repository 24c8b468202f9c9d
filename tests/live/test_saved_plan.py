"""A saved plan is applied exactly, and only to the state that it was made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from acceptance import (
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
from scene import (
    EVERY_HAZARD,
    Scene,
    Step,
    applied,
    changed,
    consumer,
    deleted,
    labelled,
    published,
    stream,
)
from servers import StartServer

from cyborg_infra import pipeline
from cyborg_infra.cli.output import save
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.plan import Done
from cyborg_infra.model.problems import ManifestInvalid, PlanRefused, PlanStale


@pytest.fixture
def scene(server: EmbeddedServer, tmp_path: Path) -> Iterator[Scene]:
    """A server with the smallest organisation on it."""
    with Scene(server.url, tmp_path) as found:
        found.converge(ORG)
        yield found


def saved(
    scene: Scene,
    path: Path,
    manifest: str,
    env: str | None = None,
    *,
    prune: bool = False,
    targets: Sequence[str] = (),
) -> Path:
    """The file that `plan --out` would have written."""
    save(scene.plan(scene.wish(manifest, env, prune=prune, targets=targets)), path)
    return path


def applied_from(scene: Scene, path: Path, allow: Sequence[str] = EVERY_HAZARD) -> list[str]:
    """What `apply FILE` does: the changed resources."""
    outcomes = scene.apply(pipeline.wish(str(path)), allow=allow)
    assert [outcome for outcome in outcomes if outcome.done is not Done.DONE] == []
    return sorted(str(outcome.change.ref) for outcome in outcomes)


def staleness(scene: Scene, path: Path) -> list[str]:
    """Why the file cannot be applied any more; nothing was written."""
    before = scene.everything()
    with scene.requests() as made, pytest.raises(PlanStale) as stale:
        applied_from(scene, path)
    assert [request for request in made if request.writes] == []
    assert before == scene.everything()
    return [problem.message for problem in stale.value.problems]


@pytest.mark.parametrize(
    ("meanwhile", "message"),
    [
        (changed(TASKS, max_msgs=7), "AGENT_CTO_TASKS was changed since the plan was made"),
        (labelled(WORKER, role=None), "AGENT_CTO_TASKS/cto-worker was changed since the plan was made"),
        (stream(CEO_TASKS, "gen.agents.ceo.tasks"), "AGENT_CEO_TASKS was created since the plan was made"),
        (deleted(WORKER), "AGENT_CTO_TASKS/cto-worker was deleted since the plan was made"),
        (applied(ORG + "streams: {tasks: {max_age: 80h}}\n"), "AGENT_CTO_TASKS was changed since the plan was made"),
    ],
    ids=["a field", "a mark", "created", "deleted", "an apply"],
)  # fmt: skip
def test_a_plan_is_stale_once_anything_it_is_about_differs(
    meanwhile: Step, message: str, scene: Scene, tmp_path: Path
) -> None:
    path = saved(scene, tmp_path / "plan", TWO)
    meanwhile(scene)
    assert message in staleness(scene, path)


def test_a_plan_is_stale_once_a_resource_was_made_anew_in_the_same_form(scene: Scene, tmp_path: Path) -> None:
    path = saved(scene, tmp_path / "plan", TWO)
    config = scene.config(TASKS)
    deleted(TASKS)(scene)
    scene.ask(f"STREAM.CREATE.{TASKS}", config)
    assert set(staleness(scene, path)) == {
        "the saved plan is stale: the server is no longer as it was",
        f"{TASKS} was changed since the plan was made",
        f"{WORKER} was deleted since the plan was made",
    }


def test_a_plan_is_not_stale_for_what_strangers_do(scene: Scene, tmp_path: Path) -> None:
    path = saved(scene, tmp_path / "plan", tasks("max_age: 80h"))
    stream("OTHER", "other.>")(scene)
    consumer("OTHER/reader")(scene)
    consumer(f"{TASKS}/audit")(scene)
    published(TASK, 2)(scene)
    assert applied_from(scene, path) == [TASKS]


def test_a_plan_for_one_account_is_stale_in_another(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(
        config="accounts {\n"
        "  ONE { jetstream: enabled, users: [{user: one, password: one}] }\n"
        "  TWO { jetstream: enabled, users: [{user: two, password: two}] }\n}\n"
    )
    address = server.url.removeprefix("nats://")
    with (
        Scene(f"nats://one:one@{address}", tmp_path) as one,
        Scene(f"nats://two:two@{address}", tmp_path) as two,
    ):
        path = saved(one, tmp_path / "plan", ORG)
        assert "the plan was made for account 'ONE', and this is 'TWO'" in staleness(two, path)
        assert len(applied_from(one, path)) == 8


def test_a_plan_is_stale_after_it_was_applied(scene: Scene, tmp_path: Path) -> None:
    path = saved(scene, tmp_path / "plan", TWO)
    applied_from(scene, path)
    assert f"{CEO_TASKS} was created since the plan was made" in staleness(scene, path)


def test_what_a_plan_costs_by_now_has_to_be_allowed_by_now(scene: Scene, tmp_path: Path) -> None:
    """Messages make no plan stale; but they are never deleted unasked."""
    path = saved(scene, tmp_path / "plan", tasks("max_msgs: 1"))
    published(TASK, 3)(scene)
    with pytest.raises(PlanRefused, match=r"2 oldest messages .* above 1"):
        applied_from(scene, path, allow=())
    assert scene.info(TASKS)["state"]["messages"] == 3


def test_an_empty_plan_can_be_saved_and_applied(scene: Scene, tmp_path: Path) -> None:
    path = saved(scene, tmp_path / "plan", ORG)
    with scene.requests() as made:
        assert applied_from(scene, path) == []
    assert [request for request in made if request.writes] == []


def test_a_plan_holds_its_environment_and_needs_no_manifest(scene: Scene, tmp_path: Path) -> None:
    manifest = ORG + "environments: {production: {streams: {tasks: {max_age: 90h}}}}\n"
    path = saved(scene, tmp_path / "plan", manifest, "production")
    (tmp_path / "org.yaml").unlink()
    assert applied_from(scene, path) == [TASKS]
    assert scene.config(TASKS)["max_age"] == 90 * HOUR


def test_a_plan_holds_its_targets(scene: Scene, tmp_path: Path) -> None:
    scene.converge(TWO)
    path = saved(scene, tmp_path / "plan", TWO + "streams: {tasks: {max_age: 90h}}\n", targets=["ceo"])
    assert applied_from(scene, path) == [CEO_TASKS]


@pytest.mark.parametrize("prune", [True, False])
def test_a_plan_holds_whether_it_prunes(prune: bool, scene: Scene, tmp_path: Path) -> None:  # noqa: FBT001
    scene.converge(TWO)
    path = saved(scene, tmp_path / "plan", ORG, prune=prune)
    assert applied_from(scene, path) == sorted([LETTERS, *(OF_CEO if prune else ())])
    assert (CEO_WORKER in scene.refs()) is not prune


def test_an_impossible_plan_can_be_saved_and_is_refused(start_server: StartServer, tmp_path: Path) -> None:
    with Scene(start_server(config=account("max_streams: 2")).url, tmp_path) as scene:
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
def test_an_edited_plan_is_refused(edit: Edit, scene: Scene, tmp_path: Path) -> None:
    path = saved(scene, tmp_path / "plan", TWO)
    data = json.loads(path.read_bytes())
    edit(data)
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")
    staleness(scene, path)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_half_a_file_is_refused(kept: float, scene: Scene, tmp_path: Path) -> None:
    path = saved(scene, tmp_path / "plan", TWO)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "the saved plan cannot be read" in staleness(scene, path)[0]


def test_an_empty_file_is_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    path.touch()
    with pytest.raises(ManifestInvalid):
        pipeline.wish(str(path))
