"""A consumer that a client made with a `name` and no `durable_name` is taken over for good: at no moment does it expire sooner than before."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.changes import Action
from cyborg_infra.model.units import HOUR, SECOND
from tests.support.faults import Faults, Send
from tests.support.scenario import Scenario, acked, after_apply, changed, deleted, fetched, published

TASK = "acme.agents.cto.tasks"
STREAM, WORKER = "AGENT_CTO_TASKS", "AGENT_CTO_TASKS/cto-worker"
ORG = "org: acme\nroles: {cto: {tasks: {%s}, worker: {%s}}}\n"
DEFAULT = 0  # what a client says that says nothing: the server takes 5 s
SHORT = 15 * SECOND  # so long that it is there while a busy machine plans


def make(scenario: Scenario, threshold: int, in_hand: int = 1) -> None:
    """As nats.go's `jetstream` package makes it; of ten messages five are worked, one is in hand, four wait."""
    after_apply(ORG % ("", ""))(scenario)
    deleted(WORKER)(scenario)
    config: dict[str, Any] = {"name": "cto-worker", "ack_policy": "explicit", "ack_wait": 1800 * SECOND}
    config |= {"inactive_threshold": threshold, "filter_subject": TASK}
    body = {"stream_name": STREAM, "config": config, "action": "create"}
    scenario.ask(f"CONSUMER.CREATE.{STREAM}.cto-worker", body)
    for step in published(TASK, 9 + in_hand), acked(WORKER, 5), *[fetched(WORKER, 1)] * in_hand:
        step(scenario)
    assert "durable_name" not in scenario.config(WORKER)


def lasts(config: dict[str, Any]) -> float:
    """Return for how long it does without use, in nanoseconds."""
    threshold: float = config.get("inactive_threshold", 0)
    return threshold or float("inf")


@pytest.mark.parametrize("threshold", [DEFAULT, SHORT, 30 * SECOND, 720 * HOUR])
@pytest.mark.parametrize("wanted", ["", "inactive_threshold: 20s", "inactive_threshold: 720h"])
def test_it_never_expires_sooner_than_it_would_have_or_than_the_manifest_says(
    scenario: Scenario, faults: Faults, threshold: int, wanted: str
) -> None:
    """Seen before and after every write: whoever is interrupted there leaves it was, or better."""
    make(scenario, threshold)
    before = lasts(scenario.config(WORKER))
    manifest = ORG % ("max_age: 80h", f"max_deliver: 7{f', {wanted}' if wanted else ''}")
    wish = scenario.request(manifest)
    least = {"": float("inf"), "inactive_threshold: 20s": 20 * SECOND}.get(wanted, 720 * HOUR)

    async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
        answer = await send(request)
        assert lasts(scenario.config(WORKER)) in (before, least)
        return answer

    with faults.context() as patched:
        patched.intercept(call)
        plan = scenario.plan(wish)
        (change,) = [found for found in plan.changes if str(found.ref) == WORKER]
        assert (change.action, change.hazards) == (Action.ADOPT, ())
        scenario.converge(manifest)
    found = scenario.info(WORKER)
    assert (found["config"]["durable_name"], lasts(found["config"])) == ("cto-worker", least)
    stands = (found["delivered"]["stream_seq"], found["num_ack_pending"], found["num_pending"])
    assert stands == (6, 1, 4)
    assert not scenario.plan(wish)


@pytest.mark.parametrize(
    ("tasks", "worker"),
    [("", "max_waiting: 9"), ("storage: memory", ""), ("storage: memory", "max_waiting: 9")],
    ids=["its replace", "its stream's", "both"],
)
def test_with_a_replace_in_the_same_plan_it_stands_where_it_stood(
    scenario: Scenario, tasks: str, worker: str
) -> None:
    make(scenario, DEFAULT)
    manifest = ORG % (tasks, worker)
    scenario.converge(manifest)
    found = scenario.info(WORKER)
    assert (found["config"]["durable_name"], lasts(found["config"])) == ("cto-worker", float("inf"))
    assert found["num_pending"] + found["num_ack_pending"] == 5
    assert not scenario.plan(scenario.request(manifest))


def test_it_is_there_after_the_time_that_it_had(scenario: Scenario) -> None:
    make(scenario, 4 * SECOND, in_hand=0)  # what is in hand would keep it
    scenario.converge(ORG % ("", ""))
    time.sleep(5.5)  # 4 s, and up to 1 s of jitter
    assert scenario.info(WORKER)["num_pending"] == 4


def spelt(ref: str, manifest: str, **fields: Any) -> Any:
    return pytest.param(ref, manifest, fields, id=" ".join(fields))


ALERTS = "DEAD_LETTERS/dead-letter-alerts"


@pytest.mark.parametrize(
    ("ref", "manifest", "fields"),
    [
        spelt(WORKER, ORG % ("", ""), sample_freq="0%"),
        spelt(WORKER, ORG % ("", "sample_freq: '100'"), sample_freq="100%"),
        spelt(ALERTS, ORG % ("", ""), filter_subject=">"),
        spelt(ALERTS, ORG % ("", ""), filter_subjects=[">"]),
        spelt(WORKER, ORG % ("", ""), backoff=[]),
        spelt(STREAM, ORG % ("subject_transform: {src: '>', dest: 'kept.>'}", "filter_subject: 'kept.>'"), subject_transform={"src": "", "dest": "kept.>"}),
        spelt(STREAM, ORG % ("", ""), max_msgs=-5, placement={}, sources=[]),
    ],
)  # fmt: skip
def test_what_other_tools_spell_otherwise_is_no_difference(
    scenario: Scenario, ref: str, manifest: str, fields: dict[str, Any]
) -> None:
    """The server keeps each as it is written: jsm.go's and the Terraform provider's `0%`, a filter of everything."""
    after_apply(manifest)(scenario)
    changed(ref, **fields)(scenario)
    assert not scenario.plan(scenario.request(manifest))
