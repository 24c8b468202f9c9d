"""A scratch copy is the organisation under another name, and cannot meet it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from cyborg_infra.core.desired import sandbox
from cyborg_infra.core.desired.expand import expand
from cyborg_infra.manifest.load import load, loads
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.server_versions import NEWEST_LEVEL
from cyborg_infra.model.subjects import overlap
from cyborg_infra.model.units import MINUTE, SECOND

ROOT = Path(__file__).parents[3]
ODD = """\
org: acme
naming: {stream_prefix: ACME_}
roles:
  - {name: cto, renamed_from: boss, inbox_reader: {filter_subject: acme.agents.dev.inbox}}
  - dev
streams:
  tasks: {republish: {src: ">", dest: "watched.tasks.>"}}
  inboxes: {subjects: ["acme.agents.*.inbox", letters.in], sources: [{name: OTHER}]}
  dead_letters: {subjects: [acme.org.deadletter, "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.ACME_AGENT_CTO_TASKS.*"]}
consumers:
  worker: {backoff: [20m, 30m, 60m]}
  dead_letter_alerts: {deliver_subject: acme.alerts}
"""


def copied(org: Org) -> DesiredState:
    return expand(sandbox.sandbox_org(org, "c0ffee"))


def subjects(state: DesiredState) -> list[str]:
    return [subject for stream in state.streams() for subject in stream.config.get("subjects") or ()]


@pytest.mark.parametrize(
    "org", [load(str(ROOT / "org.yaml")), load(str(ROOT / "tests/cases/manifest/full.yaml")), loads(ODD)]
)
def test_no_subject_and_no_stream_of_the_copy_meets_the_organisation(org: Org) -> None:
    original, copy = expand(org), copied(org)
    assert [pair for pair in itertools.product(subjects(original), subjects(copy)) if overlap(*pair)] == []
    assert copy.resources.keys().isdisjoint(original.resources.keys())
    assert len(copy.resources) == len(original.resources) - len(org.buckets)
    assert {found.owner for found in copy.resources.values()} == {f"{org.name}-verify-c0ffee"}


def test_what_was_set_by_hand_means_the_same_in_the_copy() -> None:
    copy = {str(ref): found.config for ref, found in copied(loads(ODD)).resources.items()}
    own = "acme-verify-c0ffee"
    tasks, inboxes = copy["VERIFY_C0FFEE_AGENT_CTO_TASKS"], copy["VERIFY_C0FFEE_AGENT_INBOXES"]
    assert tasks["subjects"] == [f"{own}.agents.cto.tasks"]
    assert tasks["republish"] == {"src": ">", "dest": f"{own}.elsewhere.watched.tasks.>"}
    assert inboxes["subjects"] == [f"{own}.agents.*.inbox", f"{own}.elsewhere.letters.in"]
    assert "sources" not in inboxes
    assert copy["VERIFY_C0FFEE_AGENT_INBOXES/cto-inbox-reader"]["filter_subject"] == f"{own}.agents.dev.inbox"
    letters = copy["VERIFY_C0FFEE_DEAD_LETTERS"]
    assert letters["subjects"] == [
        f"{own}.org.deadletter",
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.VERIFY_C0FFEE_AGENT_CTO_TASKS.*",
    ]
    assert copy["VERIFY_C0FFEE_DEAD_LETTERS/dead-letter-alerts"]["deliver_subject"] == f"{own}.alerts"


def test_only_what_depends_on_how_long_work_takes_is_scaled() -> None:
    before = copied(loads(ODD))
    after = sandbox.scale_times(before)
    changed = {
        (ref.name, name): value
        for ref, found in after.resources.items()
        for name, value in found.config.items()
        if value != before.resources[ref].config[name]
    }
    second = SECOND
    assert changed[("cto-worker", "backoff")] == [second, second * 3 // 2, second * 3]
    assert changed[("cto-inbox-reader", "ack_wait")] == 10 * MINUTE // 1200
    assert {name for _, name in changed} == {"ack_wait", "backoff"}


def test_a_copy_is_known_by_its_name() -> None:
    org = loads(ODD)
    assert sandbox.is_sandbox_of(org, "acme-verify-c0ffee")
    assert not any(
        sandbox.is_sandbox_of(org, owner)
        for owner in (None, "acme", "acme-verify-mine", "other-verify-c0ffee", "acme-verify-c0ffee-")
    )


def test_what_an_old_server_does_not_know_is_left_out_and_named() -> None:
    org = loads("org: acme\nroles: [cto]\nstreams: {tasks: {allow_msg_ttl: true}}\n")
    state = expand(sandbox.sandbox_org(org, "c0ffee"), 0)
    kept, unknown = sandbox.supported_by(state, 0)
    assert unknown == ["VERIFY_C0FFEE_AGENT_CTO_TASKS: allow_msg_ttl needs API level 1"]
    assert "allow_msg_ttl" not in str(kept)
    assert sandbox.supported_by(state, NEWEST_LEVEL) == (state, [])


def test_alone_it_needs_no_cluster() -> None:
    org = loads("org: acme\nroles: [cto]\nserver: {cluster: eu}\ndefaults: {replicas: 3}\n")
    copy = sandbox.sandbox_org(org, "c0ffee", alone=True)
    assert copy.server.cluster is None
    assert {stream.config["num_replicas"] for stream in expand(copy).streams()} == {1}
