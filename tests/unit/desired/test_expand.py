"""What a manifest means, field by field, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.fields import FIELDS
from cyborg_infra.model.metadata_keys import APPLIED_KEY, KIND_KEY, OWNER_KEY, ROLE_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.server_versions import LEVELS
from cyborg_infra.model.units import DAY, HOUR, MINUTE

MIB = 1024**2
ORG = "org: gen\nroles: [cto]\n"
TASKS, INBOXES, BROADCASTS, LETTERS = (
    Ref(name) for name in ("AGENT_CTO_TASKS", "AGENT_INBOXES", "ORG_BROADCASTS", "DEAD_LETTERS")
)
WORKER = Ref("AGENT_CTO_TASKS", "cto-worker")
READER = Ref("AGENT_INBOXES", "cto-inbox-reader")


def state(more: str = "", *, level: int = max(LEVELS), env: str | None = None) -> DesiredState:
    return expand(loads(ORG + more, env=env), level)


def config(ref: Ref, more: str = "", **options: Any) -> dict[str, Any]:
    return dict(state(more, **options).resources[ref].config)


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        (TASKS, {"subjects": ["gen.agents.cto.tasks"], "max_age": 72 * HOUR, "max_bytes": 100 * MIB, "max_msgs": -1}),
        (INBOXES, {"subjects": ["gen.agents.*.inbox"], "max_age": 7 * DAY, "max_bytes": 500 * MIB, "max_msgs": -1}),
        (BROADCASTS, {"subjects": ["gen.org.broadcasts"], "max_age": 30 * DAY, "max_bytes": -1, "max_msgs": -1}),
        (LETTERS, {"max_age": 0, "max_bytes": -1, "max_msgs": 10_000}),
    ],
    ids=str,
)  # fmt: skip
def test_the_streams_have_the_defaults_that_the_documentation_promises(
    ref: Ref, expected: dict[str, Any]
) -> None:
    common = {
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "duplicate_window": 2 * MINUTE,
        "num_replicas": 1,
        "allow_direct": True,
    }
    found = config(ref)
    assert {name: found[name] for name in expected | common} == expected | common


DRAFTS, DOCUMENTS = Ref("KV_drafts"), Ref("KV_gen-tasks")


def test_a_bucket_is_what_the_clients_make() -> None:
    """What `nats kv add` made of `--history=5 --ttl=1m` on 2.15.1; and allow_msg_ttl, as nats-py does."""
    found = config(DRAFTS, "key_value: {drafts: {history: 5, ttl: 1m}}\n")
    assert {name: value for name, value in found.items() if name != "metadata"} == {
        **{name: value for name, value in config(TASKS).items() if name != "metadata"},
        "name": "KV_drafts",
        "subjects": ["$KV.drafts.>"],
        "max_age": MINUTE,
        "duplicate_window": MINUTE,
        "max_bytes": -1,
        "max_msgs_per_subject": 5,
        "discard": "new",
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
    }


def test_a_server_that_knows_no_time_to_live_per_key_gets_buckets_without() -> None:
    assert "allow_msg_ttl" not in config(DRAFTS, "key_value: [drafts]\n", level=0)


def test_buckets_have_the_settings_of_all_streams_and_of_their_environment_and_no_prefix() -> None:
    more = (
        "defaults: {replicas: 3, storage: memory}\ntask_state: true\nnaming: {stream_prefix: MINE_}\n"
        "key_value: {drafts: {storage: file}, gen-tasks: {ttl: 90d}}\n"
        "environments: {dev: {key_value: {gen-tasks: {replicas: 1}}}}\n"
    )
    told = ("storage", "num_replicas", "max_age", "max_msgs_per_subject")
    found = [[config(ref, more, env="dev")[name] for name in told] for ref in (DRAFTS, DOCUMENTS)]
    assert found == [["file", 3, 0, 1], ["memory", 1, 90 * DAY, 10]]


def test_a_bucket_has_no_dead_letters_and_no_readers() -> None:
    found = state("task_state: true\n")
    assert not [subject for subject in found.resources[LETTERS].config["subjects"] if "KV_" in subject]
    assert not found.consumers(DOCUMENTS.stream)


def test_admission_stands_where_it_is_set_and_a_narrower_one_replaces_it() -> None:
    more = (
        "streams: {tasks: {max_msgs: 50, discard: new}}\n"
        "environments: {dev: {streams: {tasks: {admission: {max_pending: 5}}}, roles: {cto: {tasks: %s}}}}\n"
    )
    told = ("retention", "discard", "max_msgs", "max_age")
    found = {
        own: tuple(config(TASKS, more % own, env="dev")[name] for name in told)
        for own in ("{max_age: 1h}", "{admission: {max_pending: 2}}", "{admission: {}}", "{max_msgs: 5}")
    }
    assert found == {
        "{max_age: 1h}": ("workqueue", "new", 5, HOUR),
        "{admission: {max_pending: 2}}": ("workqueue", "new", 2, 72 * HOUR),
        "{admission: {}}": ("limits", "new", 50, 72 * HOUR),
        "{max_msgs: 5}": ("workqueue", "new", 5, 72 * HOUR),
    }


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        (WORKER, {"ack_wait": 30 * MINUTE, "max_deliver": 3, "max_ack_pending": 5}),
        (READER, {"ack_wait": 10 * MINUTE, "max_deliver": 3, "max_ack_pending": 1000}),
        (Ref("ORG_BROADCASTS", "cto-broadcast-reader"), {"ack_wait": 5 * MINUTE, "max_deliver": 3}),
        (Ref("DEAD_LETTERS", "dead-letter-alerts"), {"ack_wait": 5 * MINUTE, "max_deliver": -1}),
    ],
    ids=str,
)
def test_the_consumers_have_the_defaults_that_the_documentation_promises(
    ref: Ref, expected: dict[str, Any]
) -> None:
    common = {
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "replay_policy": "instant",
        "durable_name": ref.consumer,
    }
    found = config(ref)
    assert {name: found[name] for name in expected | common} == expected | common
    assert "deliver_subject" not in found


def test_dead_letters_are_those_of_our_streams_and_of_no_others() -> None:
    found = config(LETTERS)
    streams = {subject.split(".")[-2] for subject in found["subjects"] if subject.startswith("$JS")}
    assert streams == {"AGENT_CTO_TASKS", "AGENT_INBOXES", "ORG_BROADCASTS"}
    assert "gen.org.deadletter" in found["subjects"]


@pytest.mark.parametrize("level", LEVELS)
def test_every_field_of_the_level_is_written_out_and_no_newer_one(level: int) -> None:
    for ref, resource in state(level=level).resources.items():
        table = FIELDS[ref.kind]
        written = resource.config.keys() - {"name", "durable_name"}
        assert all(table[name].since <= level for name in written)
        said = {
            name
            for name, field in table.items()
            if field.since <= level and field.default not in (None, "", ())
        }
        assert said <= written


def test_everything_is_marked_with_whose_it_is_and_what_was_applied() -> None:
    for resource in state().resources.values():
        assert resource.metadata[OWNER_KEY] == "gen"
        assert resource.metadata[KIND_KEY]
        assert resource.metadata[APPLIED_KEY] == resource.digest()
    assert state().resources[WORKER].metadata[ROLE_KEY] == "cto"
    assert ROLE_KEY not in state().resources[INBOXES].metadata


def test_the_digest_depends_on_the_meaning_of_a_configuration_and_not_its_spelling() -> None:
    plain, same, other = (
        state(more).resources[TASKS].metadata[APPLIED_KEY]
        for more in ("", "streams: {tasks: {max_age: 3d}}", "streams: {tasks: {max_age: 4d}}")
    )
    assert plain == same != other


def test_labels_of_all_layers_add_up() -> None:
    manifest = (
        "streams: {tasks: {metadata: {a: 1, b: 1}}}\n"
        "environments: {production: {streams: {tasks: {metadata: {b: 2, c: 2}}}}}\n"
    )
    found = config(TASKS, manifest, env="production")["metadata"]
    assert {key: text for key, text in found.items() if "." not in key} == {"a": "1", "b": "2", "c": "2"}


def test_a_short_life_shortens_the_memory_for_duplicates() -> None:
    assert config(TASKS, "streams: {tasks: {max_age: 1m}}")["duplicate_window"] == MINUTE


@pytest.mark.parametrize(
    ("settings", "implied"),
    [
        ("sealed: true", {"max_age": 0, "discard": "new", "deny_delete": True, "deny_purge": True, "allow_rollup_hdrs": False}),
        ("subject_delete_marker_ttl: 1h", {"allow_msg_ttl": True, "allow_rollup_hdrs": True}),
        ("allow_msg_schedules: true", {"allow_rollup_hdrs": True}),
        ("mirror: {name: OTHER}", {"subjects": [], "duplicate_window": 0}),
    ],
)  # fmt: skip
def test_what_the_server_would_add_to_a_stream_is_wanted(settings: str, implied: dict[str, Any]) -> None:
    found = config(TASKS, f"streams: {{tasks: {{{settings}}}}}")
    assert {name: found[name] for name in implied} == implied


@pytest.mark.parametrize(
    ("settings", "implied"),
    [
        ("backoff: [45m, 1h]", {"ack_wait": 45 * MINUTE}),
        ("priority_groups: [a], priority_policy: pinned_client", {"priority_timeout": 2 * MINUTE}),
    ],
)
def test_what_the_server_would_add_to_a_consumer_is_wanted(settings: str, implied: dict[str, Any]) -> None:
    found = config(WORKER, f"consumers: {{worker: {{{settings}}}}}")
    assert {name: found[name] for name in implied} == implied


def test_a_push_consumer_says_nothing_of_pulling() -> None:
    found = config(WORKER, "consumers: {worker: {deliver_subject: push.here}}")
    assert found.keys().isdisjoint({"max_waiting", "max_batch", "max_expires", "max_bytes"})


@pytest.mark.parametrize(("roles", "level", "room"), [(1000, 5, -1), (1001, 5, 2000), (2001, 5, 3000), (1001, 4, -1)])  # fmt: skip
def test_max_consumers_of_a_stream_allows_all_its_consumers(roles: int, level: int, room: int) -> None:
    names = ", ".join(f"r{number}" for number in range(roles))
    found = expand(loads(f"org: gen\nroles: [{names}]\n"), level).resources
    assert {found[ref].config["max_consumers"] for ref in (INBOXES, BROADCASTS)} == {room}
    assert found[Ref("AGENT_R7_TASKS")].config["max_consumers"] == -1
