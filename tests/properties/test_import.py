"""A manifest made from what another one expands to comes to the same, and says no more than it has to.

Whether a server takes all of it is not asked here: what lives on one may be older than a rule.
"""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.core.desired.expand import expand_unchecked
from cyborg_infra.core.importing.describe import describe_org
from cyborg_infra.manifest.field_values import from_wire, to_wire
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.write import write_manifest
from cyborg_infra.model.fields import CONSUMER_FIELDS, STREAM_FIELDS, Field, Unit
from cyborg_infra.model.metadata_keys import OWNERSHIP_KEYS
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.resources import DesiredState, LiveResource, LiveState, Resource, State
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import LEVELS
from cyborg_infra.model.units import MAX_INT64
from tests.support.draws import draws

ROLES = ("ceo", "cto", "data-eng", "Big_ops", "yes", "1", "ärger")
EVENTS = ("deploy.complete", "ci.result", "ci.run.done")
LABELS = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6).filter(
        lambda key: not key.startswith(("cyborg-infra.", "_nats."))
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6) | st.just("a\n\tb"),
    max_size=2,
)
COUNTS, SIZES, TIMES = st.integers(1, 10**6), st.integers(-1, 2**45), st.integers(0, 2**55)


def chosen(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return some of these settings."""
    return st.fixed_dictionaries({}, optional=values)


def duration(least: int = 0) -> st.SearchStrategy[str]:
    return st.integers(least, 10**9).map(lambda number: f"{number}ms") | st.integers(1, 99).map(
        lambda number: f"{number}h"
    )


STREAM = chosen(
    description=st.sampled_from(["", "Tasks: of the #1", "on"]),
    max_age=duration(),
    max_bytes=SIZES,
    max_msgs=COUNTS,
    storage=st.sampled_from(["file", "memory"]),
    discard=st.sampled_from(["old", "new"]),
    retention=st.sampled_from(["limits", "interest"]),
    num_replicas=st.integers(1, 5),
    allow_direct=st.booleans(),
    allow_msg_ttl=st.booleans(),
    allow_msg_schedules=st.booleans(),
    subject_delete_marker_ttl=duration(),
    sealed=st.booleans(),
    deny_delete=st.booleans(),
    placement=st.sampled_from([{"cluster": "eu"}, {"tags": ["a", "b"]}, {}]),
    consumer_limits=st.sampled_from([{"max_ack_pending": 10**6}, {"inactive_threshold": "900h"}]),
    sources=st.sampled_from([[{"name": "OTHER", "filter_subject": "a.*", "opt_start_seq": 3}]]),
    republish=st.sampled_from([{"src": "a.>", "dest": "b.>", "headers_only": True}]),
    metadata=LABELS,
)
CONSUMER = chosen(
    ack_wait=duration(1),
    max_deliver=st.integers(3, 9),
    backoff=st.lists(duration(1), max_size=3),
    max_ack_pending=COUNTS,
    inactive_threshold=duration(),
    sample_freq=st.just("100"),
    deliver_policy=st.sampled_from(["all", "new"]),
    filter_subjects=st.just([]),
    priority_groups=st.just(["one"]),
    priority_policy=st.sampled_from(["pinned_client", "overflow"]),
    max_bytes=st.integers(0, 2**45),
    metadata=LABELS,
)


BUCKET = chosen(
    description=st.sampled_from(["", "of the: press"]),
    history=st.integers(1, 64),
    ttl=duration(),
    max_bytes=SIZES,
    max_value_size=st.integers(-1, 2**20),
    storage=st.sampled_from(["file", "memory"]),
    replicas=st.integers(1, 5),
    placement=st.sampled_from([{"cluster": "eu"}, {}]),
    compression=st.sampled_from(["none", "s2"]),
    limit_marker_ttl=duration(),
    allow_direct=st.booleans(),
    allow_msg_ttl=st.booleans(),
    metadata=LABELS,
)


def elsewhere(role: str) -> list[dict[str, Any]]:
    """Return settings of a role whose tasks are admitted by number, stored under other subjects, or copied."""
    subject = f"gen.work.{role}"
    return [
        {},
        {"tasks": {"subjects": [subject, f"{subject}.>"]}, "worker": {"filter_subject": subject}},
        {"tasks": {"subjects": [subject]}, "worker": {"filter_subject": ""}},
        {"tasks": {"mirror": {"name": "ELSEWHERE"}, "sources": []}},
        {
            "tasks": {"admission": {"max_pending": 5}, "retention": "workqueue", "discard": "new"},
            "worker": {"deliver_policy": "all"},
        },
    ]


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    """Return a small organisation with all kinds of settings, in JSON, which YAML is."""
    roles = draw(st.lists(st.sampled_from(ROLES), min_size=1, max_size=4, unique=True))
    names = draw(st.lists(st.sampled_from(EVENTS), max_size=3, unique=True))
    readers = dict.fromkeys(("worker", "inbox_reader", "broadcast_reader", "event_reader"), CONSUMER)
    kinds = ("tasks", "inboxes", "broadcasts", "events", "dead_letters")
    return {
        "org": "gen",
        "roles": {
            role: draw(chosen(tasks=STREAM, **readers) | st.sampled_from(elsewhere(role))) for role in roles
        },
        "defaults": draw(chosen(replicas=st.integers(1, 5), placement=st.just({"cluster": "us"}))),
        "streams": draw(chosen(**dict.fromkeys(kinds, STREAM))),
        "task_state": draw(st.booleans()),
        "key_value": draw(st.dictionaries(st.sampled_from(["gen-tasks", "gen_drafts", "gen-1"]), BUCKET)),
        "consumers": draw(chosen(dead_letter_alerts=CONSUMER, **readers)),
        "events": {
            name: {
                "durable": draw(st.booleans()),
                "subscribers": draw(st.lists(st.sampled_from(roles), unique=True)),
            }
            for name in names
        },
        "naming": {"stream_prefix": draw(st.sampled_from(["", "GEN_"]))},
    }


def unmarked(state: DesiredState, level: int) -> LiveState:
    """Return as if it had been made by hand, on a server of this API level."""
    return LiveState(
        {
            ref: LiveResource(
                ref,
                dict(found.config)
                | {
                    "metadata": {
                        key: word for key, word in found.metadata.items() if key not in OWNERSHIP_KEYS
                    }
                },
            )
            for ref, found in state.resources.items()
        },
        ServerInfo(LEVELS[level], level),
    )


def meaning(state: State[Resource]) -> dict[str, Any]:
    return {str(ref): found.normalised() for ref, found in state.resources.items()}


def imported(state: LiveState, prefix: str) -> str:
    return write_manifest(describe_org(state, Org("gen", (), stream_prefix=prefix)), "Imported.")


@given(manifest=manifests(), level=st.sampled_from(sorted(LEVELS)))
@draws(200)
def test_what_is_imported_expands_to_what_was_there(manifest: dict[str, Any], level: int) -> None:
    first = expand_unchecked(loads(json.dumps(manifest, ensure_ascii=False)), level)
    found = imported(unmarked(first, level), manifest["naming"]["stream_prefix"])
    assert meaning(expand_unchecked(loads(found), level)) == meaning(first), found


@given(manifest=manifests())
@draws(50)
def test_an_import_of_an_import_is_the_same_text(manifest: dict[str, Any]) -> None:
    first = expand_unchecked(loads(json.dumps(manifest, ensure_ascii=False)))
    prefix = manifest["naming"]["stream_prefix"]
    found = imported(unmarked(first, 5), prefix)
    assert imported(unmarked(expand_unchecked(loads(found)), 5), prefix) == found


@given(field=st.sampled_from([*STREAM_FIELDS, *CONSUMER_FIELDS]), data=st.data())
def test_what_is_written_is_read_back_exactly(field: Field, data: st.DataObject) -> None:
    numbers = st.integers(0, MAX_INT64) | st.integers(0, 63).map(lambda power: min(2**power, MAX_INT64))
    values = {Unit.SIZE: numbers | st.just(-1), Unit.DURATION: numbers, Unit.DURATIONS: st.lists(numbers)}
    value = data.draw(values.get(field.unit, st.just(to_wire(field, field.example))))
    assert to_wire(field, from_wire(field, value)) == value


def test_a_manifest_of_defaults_is_the_smallest_one() -> None:
    first = expand_unchecked(loads("org: gen\nroles: [cto, data-eng]\n"))
    assert yaml.safe_load(imported(unmarked(first, 5), "")) == {"org": "gen", "roles": ["cto", "data-eng"]}


def test_what_all_share_is_said_once() -> None:
    first = expand_unchecked(
        loads(
            "org: gen\nroles: {cto: {tasks: {max_age: 24h, metadata: {a: b, c: d}}, worker: {max_deliver: 5}},"
            " ops: {tasks: {max_age: 24h, metadata: {a: b}}}}\ndefaults: {replicas: 3}\n"
        )
    )
    assert yaml.safe_load(imported(unmarked(first, 5), "")) == {
        "org": "gen",
        "roles": {"cto": {"tasks": {"metadata": {"c": "d"}}, "worker": {"max_deliver": 5}}, "ops": None},
        "defaults": {"replicas": 3},
        "streams": {"tasks": {"max_age": "24h", "metadata": {"a": "b"}}},
    }
