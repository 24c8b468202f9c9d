"""What counts as drift, told without a state file: by the marks and the digest of what was last applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from command import Cli
from scene import Scene, Step, changed, consumer, deleted, labelled, stream

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model import fields
from cyborg_infra.model.fields import Kind

APPLIED = "org: acme\nroles: [cto, cso]\n"
OTHER = "org: acme\nroles: [cto, cso]\nstreams: {tasks: {max_age: 48h}}\n"
MORE = "org: acme\nroles: [cto, cso, ceo]\n"
FEWER = "org: acme\nroles: [cto]\n"
TASKS = "AGENT_CTO_TASKS"
WORKER = "AGENT_CTO_TASKS/cto-worker"
IN_SYNC, DIFFERENT = 0, 2


def tagged(scene: Scene) -> None:
    """A label is put beside ours."""
    changed(TASKS, metadata={**scene.config(TASKS)["metadata"], "team": "platform"})(scene)


class Case(NamedTuple):
    """What happened on the server, what the manifest says now, and how `drift` ends, without and with --pending."""

    steps: Sequence[Step] = ()
    manifest: str = APPLIED
    drift: int = IN_SYNC
    pending: int = IN_SYNC


CASES = {
    "nothing happened": Case(),
    "a stream was changed by hand": Case([changed(TASKS, max_msgs=5)], APPLIED, DIFFERENT, DIFFERENT),
    "a consumer was changed by hand": Case([changed(WORKER, max_deliver=9)], APPLIED, DIFFERENT, DIFFERENT),
    "a field was set that the manifest leaves open": Case(
        [changed(TASKS, description="do not touch")], APPLIED, DIFFERENT, DIFFERENT
    ),
    "a label of somebody else's was added": Case([tagged], APPLIED, DIFFERENT, DIFFERENT),
    "only the manifest has changed": Case([], OTHER, IN_SYNC, DIFFERENT),
    "both have changed": Case([changed(TASKS, max_msgs=5)], OTHER, DIFFERENT, DIFFERENT),
    "the hand did what the manifest says now": Case(
        [
            changed(TASKS, max_age=172_800_000_000_000),
            changed("AGENT_CSO_TASKS", max_age=172_800_000_000_000),
        ],
        OTHER,
        DIFFERENT,
        DIFFERENT,
    ),
    "a stream was deleted by hand": Case([deleted(TASKS)], APPLIED, DIFFERENT, DIFFERENT),
    "a consumer was deleted by hand": Case([deleted(WORKER)], APPLIED, DIFFERENT, DIFFERENT),
    "a role is new in the manifest": Case([], MORE, IN_SYNC, DIFFERENT),
    "a role has left the manifest": Case([], FEWER, IN_SYNC, DIFFERENT),
    "the digest was removed": Case([labelled(TASKS, applied=None)], APPLIED, DIFFERENT, DIFFERENT),
    "the digest was altered": Case([labelled(TASKS, applied="0" * 16)], APPLIED, DIFFERENT, DIFFERENT),
    "the owner was removed": Case([labelled(TASKS, org=None)], APPLIED, DIFFERENT, DIFFERENT),
    "the owner was altered": Case([labelled(TASKS, org="other")], APPLIED, DIFFERENT, DIFFERENT),
    "all marks were removed": Case(
        [labelled(TASKS, org=None, kind=None, role=None, applied=None)], APPLIED, DIFFERENT, DIFFERENT
    ),
    "somebody reads our stream": Case([consumer(f"{TASKS}/monitor")]),
    "somebody has a stream of their own": Case([stream("THEIRS", "theirs.>")]),
}


@pytest.fixture
def scene(server: EmbeddedServer, tmp_path: Path) -> Iterator[Scene]:
    with Scene(server.url, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_drift_is_what_somebody_did_to_the_server(scene: Scene, cli: Cli, project: Path, case: Case) -> None:
    scene.converge(APPLIED)
    for step in case.steps:
        step(scene)
    (project / "org.yaml").write_text(case.manifest)
    before = scene.everything()
    ends = [cli("drift", "--server", scene.url, "--no-context", *more).code for more in ((), ("--pending",))]
    assert ends == [case.drift, case.pending]
    assert scene.everything() == before


def test_before_the_first_apply_nothing_is_drift_and_everything_is_pending(
    scene: Scene, cli: Cli, project: Path
) -> None:
    (project / "org.yaml").write_text(APPLIED)
    assert cli("drift", "--server", scene.url, "--no-context").code == IN_SYNC
    assert cli("drift", "--server", scene.url, "--no-context", "--pending").code == DIFFERENT


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Kind.STREAM, "allow_batched"), (Kind.STREAM, "compression"), (Kind.CONSUMER, "max_batch")],
)
def test_a_new_row_in_the_field_table_changes_no_digest_and_plans_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, kind: Kind, name: str
) -> None:
    """An upgrade of the tool alone leaves an organisation in sync."""
    with monkeypatch.context() as older:
        rows = {row: field for row, field in fields.FIELDS[kind].items() if row != name}
        older.setitem(fields.FIELDS, kind, rows)
        scene.converge(APPLIED)
        digests = {ref: found.digest() for ref, found in scene.wish(APPLIED).desired.resources.items()}
    wish = scene.wish(APPLIED)
    assert digests == {ref: found.digest() for ref, found in wish.desired.resources.items()}
    assert not scene.plan(wish)
