"""Who copies a stream or consumer by its configuration copies its labels: the copy is nobody's of ours all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.scenario import Scenario, Step, changed, published

ORG = "org: acme\nroles: [cto, ops]\nevents: {ci.done: {durable: true, subscribers: [cto]}}\nkey_value: [{name: drafts}]\n"
LESS = "org: acme\nroles: [ops]\n"
LABEL = "cyborg-infra.resource"


@pytest.fixture
def scenario(scenario: Scenario) -> Scenario:
    scenario.converge(ORG)
    return scenario


def copied(ref: str, name: str) -> Step:
    """Return as `nats stream copy --subjects` and `nats consumer copy` do (nats CLI 0.5.0): all of the configuration."""

    def step(scenario: Scenario) -> None:
        stream, _, consumer = ref.partition("/")
        config = scenario.config(ref) | {"name": name}
        if consumer:
            body = {"stream_name": stream, "config": config | {"durable_name": name}, "action": "create"}
            scenario.ask(f"CONSUMER.CREATE.{stream}.{name}", body)
        else:
            rest = {key: value for key, value in config.items() if key != "subject_transform"}
            scenario.ask(f"STREAM.CREATE.{name}", rest | {"subjects": [f"copy.{name}"]})
            published(f"copy.{name}", 1)(scenario)

    return step


def unlabelled(ref: str) -> Step:
    """Return as a version before the label left it."""

    def step(scenario: Scenario) -> None:
        labels: Mapping[str, str] = scenario.config(ref)["metadata"]
        changed(ref, metadata={key: text for key, text in labels.items() if key != LABEL})(scenario)

    return step


def copies_of_all(scenario: Scenario) -> dict[str, Any]:
    """Return one copy of each stream and consumer that the organisation has: what the server says of them."""
    refs = [
        ref for ref in scenario.refs() if scenario.config(ref).get("metadata", {}).get("cyborg-infra.org")
    ]
    names = [
        f"{ref.partition('/')[0]}/copy-{at}" if "/" in ref else f"COPY_{at}" for at, ref in enumerate(refs)
    ]
    for ref, name in zip(refs, names, strict=True):
        copied(ref, name.rpartition("/")[2])(scenario)
    return scenario.everything(names.__contains__)


@pytest.mark.parametrize("label", [True, False], ids=["labelled", "applied by an older version"])
def test_a_copy_of_a_resource_is_foreign_whichever_labels_it_has(scenario: Scenario, label: bool) -> None:  # noqa: FBT001 - pytest's
    if not label:
        for ref in scenario.refs():
            unlabelled(ref)(scenario)
    before = copies_of_all(scenario)
    plan = scenario.plan(scenario.request(ORG, prune=True))
    assert not plan
    assert plan.orphans == ()
    assert any("copies that somebody made" in note for note in plan.notes)
    scenario.converge(LESS, prune=True)  # its streams stay, but for those of cto, the events and the bucket
    gone = ("AGENT_CTO_TASKS/", "ORG_EVENTS/", "KV_drafts/")
    kept = {ref: info for ref, info in before.items() if not ref.startswith(gone)}
    assert scenario.everything(kept.__contains__) == kept
    assert [ref for ref in scenario.refs() if "cto" in ref.lower()] == []


def test_a_consumer_that_was_copied_costs_its_stream_s_deletion_a_hazard(scenario: Scenario) -> None:
    copied("AGENT_CTO_TASKS/cto-worker", "mine")(scenario)
    plan = scenario.plan(scenario.request(LESS, prune=True))
    reasons = [hazard.reason for change in plan.changes for hazard in change.hazards]
    assert "1 consumer outside the manifest would go with the stream: mine" in reasons


def test_a_copy_under_a_name_that_the_manifest_wants_is_adopted(scenario: Scenario) -> None:
    copied("AGENT_CTO_TASKS", "AGENT_CEO_TASKS")(scenario)
    manifest = ORG.replace("[cto, ops]", "[ceo, cto, ops]")
    plan = scenario.plan(scenario.request(manifest))
    assert {str(change.ref): change.action for change in plan.changes}["AGENT_CEO_TASKS"] == "adopt"
    scenario.converge(manifest)
    assert scenario.config("AGENT_CEO_TASKS")["metadata"][LABEL] == "AGENT_CEO_TASKS"
    assert not scenario.plan(scenario.request(manifest))


def test_the_label_alone_is_no_change_and_comes_with_the_next_one(scenario: Scenario) -> None:
    for ref in scenario.refs():
        unlabelled(ref)(scenario)
    assert not scenario.plan(scenario.request(ORG))
    scenario.converge(ORG + "consumers: {worker: {ack_wait: 40m}}\n")
    found = {ref: scenario.config(ref)["metadata"].get(LABEL) for ref in scenario.refs()}
    assert {ref for ref, label in found.items() if label} == {
        "AGENT_CTO_TASKS/cto-worker",
        "AGENT_OPS_TASKS/ops-worker",
    }
    assert all(label in (None, ref) for ref, label in found.items())
