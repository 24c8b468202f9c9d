"""A change that is cut off before any of its writes: `status` tells of it, and the next apply needs nothing more to be allowed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyborg_infra.live.connection.errors import ConnectionLost
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.resources import Unfinished
from cyborg_infra.model.status import Condition, OrgStatus
from cyborg_infra.operations import provision
from cyborg_infra.operations import status as operation
from tests.support.acceptance_cases import CEO_WORKER, ORG, TASK, TWO, WORKER, tasks, worker
from tests.support.agents import until
from tests.support.cli import spawn
from tests.support.faults import Faults, Send
from tests.support.scenario import DRAIN, Request, Scenario, Step, acked, fetched, published
from tests.support.servers import NEWEST, OLDEST

pytestmark = pytest.mark.servers(NEWEST, OLDEST)


EVERYTHING = os.environ.get("CYBORG_INFRA_TEST_FAULTS") == "all"


class Case(NamedTuple):
    """From one manifest to another, with this in between; or back again, after the way there was cut off."""

    before: str
    after: str
    steps: Sequence[Step] = ()
    then: str = ""
    versions: Sequence[str] = (NEWEST, OLDEST)
    every: int = 1  # write; of the many of a stream that moves, each third has to do in `make test`


BUSY = (published(TASK, 4), acked(WORKER, 2))
DONE_WITH = (published("gen.agents.ceo.tasks", 2), acked(CEO_WORKER, 2))
CASES = {
    "an empty workqueue becomes interest": Case(
        tasks("retention: workqueue"), tasks("retention: interest"), every=2
    ),
    "an empty workqueue becomes limits and does not after all": Case(
        tasks("retention: workqueue"), ORG, then=tasks("retention: workqueue"), versions=(OLDEST,)
    ),
    "a stream goes to memory": Case(ORG, tasks("storage: memory"), BUSY, every=3),
    "a consumer is replaced": Case(ORG, worker("max_waiting: 100"), BUSY),
    "the consumer of an interest stream is replaced": Case(
        tasks("retention: interest"),
        tasks("retention: interest") + "consumers: {worker: {max_waiting: 100}}\n",
        BUSY,
    ),
    "a role goes": Case(TWO, ORG),
    "a role goes and does not after all": Case(TWO, ORG, then=TWO),
    "a role goes with all that it has done": Case(TWO, ORG, DONE_WITH),
    "a role with all that it has done goes and does not after all": Case(TWO, ORG, DONE_WITH, then=TWO),
    "streams get another name": Case(
        ORG, ORG + "naming: {stream_prefix: X_}\n", BUSY, versions=(NEWEST,), every=3
    ),
}


class Cut:
    """The connection of the product is lost right before its write of this number, from 1 on, and stays so."""

    def __init__(self, number: int, faults: Faults) -> None:
        self.happened, self._left = False, number

        async def cut(request: ApiRequest, send: Send) -> dict[str, Any]:
            verb = request.verb
            self._left -= Request(verb, None).writes
            if self._left <= 0:
                self.happened = True
                raise ConnectionLost("nats://cut")
            return await send(request)

        faults.intercept(cut)


@pytest.mark.parametrize("name", CASES)
def test_after_a_cut_at_any_write_status_tells_and_the_next_apply_goes_on(
    name: str, scenario: Scenario, faults: Faults
) -> None:
    case = CASES[name]
    if scenario.api.info["version"] not in case.versions:
        return
    for number in itertools.count(1, 1 if EVERYTHING else case.every):
        scenario.clear()
        scenario.converge(case.before)
        for step in case.steps:
            step(scenario)
        wish = scenario.request(case.after, prune=True)
        plan = scenario.plan(wish)
        allowed = {hazard.name for hazard in plan.hazards}
        with faults.context() as patched:
            cut = Cut(number, patched)
            outcomes = provision.apply(
                provision.ApplyRequest(plan, allow=sorted(allowed), drain_timeout=DRAIN), scenario.target
            )
        if not cut.happened:
            assert number > 2
            return
        assert any(outcome.status is not ResultStatus.SUCCEEDED for outcome in outcomes)
        assert told(scenario, case.after)
        again = scenario.request(case.then or case.after, prune=not case.then)
        outcomes = provision.apply(
            provision.ApplyRequest(scenario.plan(again), allow=sorted(allowed), drain_timeout=DRAIN),
            scenario.target,
        )
        assert [each for each in outcomes if each.status is not ResultStatus.SUCCEEDED] == []
        assert not scenario.plan(again)
        after = seen(scenario, case.then or case.after)
        assert not after.unfinished
        assert {alarm.code for alarm in after.alarms} <= {Condition.PAUSED}  # for seconds: it ends by itself


def seen(scenario: Scenario, manifest: str) -> OrgStatus:
    scenario.request(manifest)
    return operation.status(
        operation.load_status_request(str(scenario.directory / "org.yaml")), scenario.target
    )


def told(scenario: Scenario, manifest: str) -> bool:
    """Return whether the status has an alarm for each subject that nobody stores, and each consumer that is not served."""
    found = seen(scenario, manifest)
    codes = {alarm.code for alarm in found.alarms}
    refs = scenario.refs()
    infos = [scenario.info(ref) for ref in refs]
    deaf = not scenario.ask("STREAM.NAMES", {"subject": TASK})["streams"]
    paused = [info for info in infos if info.get("paused")]
    ours = [
        ref
        for ref in refs
        if ref.startswith("cyborg-infra-temporary-") or "/cyborg-infra-placeholder-" in ref
    ]
    parked = [info for info in infos if str(info["config"].get("subjects", "")).startswith("['_parked.")]
    if deaf and not codes & {Condition.MISSING, Condition.UNFINISHED}:
        return False
    if paused and not codes & {Condition.PAUSED, Condition.UNFINISHED}:
        return False
    if len(parked) != sum(what is Unfinished.FENCED for what in found.unfinished.values()):
        return False
    return (Condition.UNFINISHED in codes) == bool(found.unfinished) and {
        str(ref) for ref in found.unfinished
    } >= set(ours)


def test_who_dies_while_work_ends_leaves_a_pause_that_ends_by_itself(
    server: EmbeddedServer, project: Path, tmp_path: Path
) -> None:
    """Of a stream that is replaced, as of a consumer; and the next apply goes on."""
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(ORG)
        published(TASK, 3)(scene)
        fetched(WORKER, 2)(scene)
        for change in (tasks("storage: memory"), worker("max_waiting: 100")):
            (project / "org.yaml").write_text(change, encoding="utf-8")
            words = ("--drain-timeout", "20s", "--allow", "repeats-work", "--allow", "mass-change")
            with spawn("apply", "--yes", "--no-lock", *words, "-s", server.url, cwd=project) as process:
                until(lambda: scene.info(WORKER).get("paused"))
                process.kill()
            found = scene.info(WORKER)
            ends, now = (
                datetime.fromisoformat(text) for text in (found["config"]["pause_until"], found["ts"])
            )
            assert ends - now < timedelta(seconds=20 + 60)
            assert WORKER in [str(each.ref) for each in scene.plan(scene.request(ORG)).changes]
            scene.converge(ORG)
            assert not scene.info(WORKER).get("paused")
            assert not scene.plan(scene.request(ORG))
