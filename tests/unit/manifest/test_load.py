"""A valid manifest becomes the Org that it says, whichever way it is written."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cyborg_infra.manifest.load import load, loads
from cyborg_infra.model.channels import ConsumerKind, StreamKind
from cyborg_infra.model.organisation import Event, ExpectedServer, Org, Overrides, Role
from cyborg_infra.model.problems import ManifestInvalid, SourcePosition
from cyborg_infra.model.units import DAY, HOUR, MINUTE

TESTS = Path(__file__).parents[2]
CASES = TESTS / "cases/manifest"
EXAMPLE = TESTS.parent / "org.yaml"


def case(name: str, env: str | None = None) -> Org:
    return loads((CASES / f"{name}.yaml").read_text(encoding="utf-8"), env=env)


def unmarked(org: Org) -> Org:
    """Return the organisation without its places: what two spellings must have in common."""
    return replace(
        org,
        roles=tuple(role._replace(mark=None) for role in org.roles),
        events=tuple(event._replace(mark=None) for event in org.events),
        marks={},
    )


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_valid_case_loads(path: Path) -> None:
    assert load(path).roles


def test_the_smallest_manifest_sets_nothing() -> None:
    expected = Org("genbrain", (Role("ceo"), Role("cto"), Role("data-eng")), layers=(Overrides(),))
    assert expected == unmarked(case("smallest"))


def test_the_worked_example_sets_nothing() -> None:
    org = load(EXAMPLE)
    assert [role.name for role in org.roles] == [
        "ceo",
        "cto",
        "cso",
        "marketing",
        "backend",
        "frontend",
        "devops",
    ]
    assert [event.name for event in org.events] == [
        "deploy.complete",
        "ci.result",
        "security.scan",
        "pr.merged",
    ]
    assert org.events[0].publishers == ("devops",)
    assert org.events[0].subscribers == ("cso", "marketing", "ceo")
    assert org.layers == (Overrides(),)


def test_list_form_and_mapping_form_mean_the_same() -> None:
    assert unmarked(case("mappings")) == unmarked(case("lists"))


def test_list_form_and_mapping_form_have_marks_at_the_same_paths() -> None:
    written = {path for path in case("lists").marks if path[-1:] != ("name",)}
    assert set(case("mappings").marks) == written


def test_events_keep_what_is_said_of_them() -> None:
    expected = (
        Event(
            "deploy.complete", ("devops",), ("cto", "ceo"), durable=True, description="A service is running"
        ),
        Event("ci.result"),
    )
    assert expected == unmarked(case("mappings")).events


def test_sizes_durations_and_times_are_in_wire_form() -> None:
    full = case("full").layers[0]
    assert full.streams[StreamKind.TASKS]["max_age"] == 96 * HOUR
    assert full.streams[StreamKind.TASKS]["max_bytes"] == 200 * 1024**2
    assert full.streams[StreamKind.TASKS]["duplicate_window"] == 0
    assert full.streams[StreamKind.BROADCASTS]["max_bytes"] == 1048576
    assert full.streams[StreamKind.BROADCASTS]["max_msg_size"] == -1
    assert full.streams[StreamKind.EVENTS]["consumer_limits"] == {
        "inactive_threshold": DAY,
        "max_ack_pending": 9,
    }
    assert full.streams[StreamKind.EVENTS]["sources"] == [
        {
            "name": "OTHER",
            "opt_start_time": "2026-01-31T10:00:00.5Z",
            "external": {"api": "$JS.hub.API", "deliver": "deliver.hub"},
            "subject_transforms": [{"src": "a.*", "dest": "b.{{wildcard(1)}}"}],
        }
    ]
    assert full.consumers[ConsumerKind.WORKER]["backoff"] == [30 * MINUTE, HOUR]
    assert full.consumers[ConsumerKind.WORKER]["opt_start_time"] == "2026-01-31T00:00:00Z"


def test_text_may_be_written_as_a_number() -> None:
    full = case("full").layers[0]
    assert full.consumers[ConsumerKind.WORKER]["sample_freq"] == "100"
    assert full.streams[StreamKind.TASKS]["metadata"] == {"team": "platform", "cost-center": "4711"}


def test_defaults_are_stream_fields() -> None:
    expected = {"storage": "file", "num_replicas": 3, "placement": {"cluster": "eu-west", "tags": ["ssd"]}}
    assert expected == case("full").layers[0].defaults


def test_a_role_sets_its_own_stream_and_consumers() -> None:
    expected = {
        StreamKind.TASKS: {"max_age": 7 * DAY},
        ConsumerKind.WORKER: {"max_ack_pending": 1},
        ConsumerKind.INBOX_READER: {"ack_wait": HOUR},
        ConsumerKind.BROADCAST_READER: {"ack_wait": 2 * HOUR},
        ConsumerKind.EVENT_READER: {"ack_wait": 3 * HOUR},
    }
    assert expected == case("full").layers[0].roles["cto"]


def test_buckets_are_set_in_the_clients_words_and_held_in_jetstreams() -> None:
    assert [(bucket.name, bucket.task_state) for bucket in case("full").buckets] == [
        ("drafts", False),
        ("genbrain-tasks", True),
    ]
    assert case("full").layers[0].buckets == {
        "drafts": {
            "description": "Of the press",
            "max_msgs_per_subject": 5,
            "max_age": 72 * HOUR,
            "max_bytes": 1024**3,
            "max_msg_size": 1024**2,
            "compression": "s2",
        },
        "genbrain-tasks": {"max_age": 90 * DAY},
    }


def test_without_an_environment_there_is_one_layer() -> None:
    org = case("full")
    assert (org.environment, len(org.layers)) == (None, 1)
    assert org.stream_prefix == "GENBRAIN_"
    assert org.server == ExpectedServer("AGENTS", "eu-west")


def test_an_environment_is_a_layer_of_its_own() -> None:
    org, base = case("full", "staging"), case("full")
    assert org.environment == "staging"
    assert org.layers[0] == base.layers[0]
    assert org.layers[1] == Overrides(
        defaults={"num_replicas": 1},
        streams={StreamKind.TASKS: {"max_age": 24 * HOUR}},
        consumers={ConsumerKind.DEAD_LETTER_ALERTS: {"ack_wait": MINUTE}},
        roles={"cto": {StreamKind.TASKS: {"max_bytes": 1024**2, "admission": {"max_pending": 5}}}},
        buckets={"drafts": {"num_replicas": 1, "subject_delete_marker_ttl": HOUR}},
    )


def test_an_environment_replaces_naming_and_server() -> None:
    org = case("full", "staging")
    assert org.stream_prefix == ""
    assert org.server == ExpectedServer(account="STAGING")


def test_an_environment_without_a_word_changes_nothing() -> None:
    org, base = unmarked(case("full", "empty")), unmarked(case("full"))
    assert org == replace(base, environment="empty", layers=(*base.layers, Overrides()))


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("org",), 4, 6),
        (("roles", "cto"), 7, 3),
        (("roles", "cto", "tasks", "max_age"), 10, 16),
        (("streams", "tasks", "metadata"), 33, 5),
        (("events", "deploy.complete"), 70, 3),
        (("events", "deploy.complete", "publishers", 0), 71, 18),
        (("environments", "staging", "streams", "tasks", "max_age"), 87, 18),
        (("naming", "stream_prefix"), 99, 18),
        (("server", "account"), 101, 12),
    ],
)
def test_marks_lead_to_the_line(path: tuple[str | int, ...], line: int, column: int) -> None:
    assert SourcePosition("org.yaml", line, column) == case("full").marks[path]


def test_in_list_form_the_marks_stand_by_name() -> None:
    marks = case("lists").marks
    assert marks["roles", "cto", "tasks", "max_age"].line == 7
    assert marks["events", "deploy.complete", "publishers", 0].line == 12


def test_an_alias_is_a_copy_that_knows_where_it_was_written() -> None:
    org = case("aliases")
    roles = org.layers[0].roles
    assert (
        roles["ceo"]
        == roles["cto"]
        == {StreamKind.TASKS: {"max_age": 30 * DAY, "placement": {"tags": ["ssd"]}}}
    )
    assert org.marks["roles", "cto", "tasks", "max_age"].line == 5
    assert org.marks["roles", "cto", "tasks"].line == 8


def test_quoted_names_may_be_what_yaml_would_misread() -> None:
    names = [role.name for role in loads('org: "1e6"\nroles: ["on", "7", "0x1", "null", 1e6, v1]\n').roles]
    assert names == ["on", "7", "0x1", "null", "1e6", "v1"]


def test_empty_sections_are_no_sections() -> None:
    text = (
        "org: a\nroles:\n  b:\n  c: {tasks: }\nstreams:\nconsumers: {worker: }\nevents:\n"
        "environments:\ndefaults:\nnaming:\nserver:\n"
    )
    layer = loads(text).layers[0]
    assert not layer.roles
    assert not any(layer.streams.values())
    assert not any(layer.consumers.values())


def test_loading_imports_nothing_heavy_before_it_is_needed() -> None:
    code = (
        "import sys, cyborg_infra.manifest.load, cyborg_infra.manifest.template;"
        "print([name for name in ('yaml', 'jsonschema', 'nats', 'rich', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_c_library_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = case("full")
    monkeypatch.delattr("yaml.CSafeLoader")
    assert fast == case("full")


REQUIRED = "org: acme\nroles: [cto]\nenvironment_required: true\n"


def test_a_manifest_that_requires_an_environment_is_planned_with_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "org.yaml"
    path.write_text(REQUIRED + "environments: {production: {}, staging: {}}\n", encoding="utf-8")
    assert load(path, "staging").environment == "staging"
    assert load(path, offline=True).environment is None
    with pytest.raises(
        ManifestInvalid, match="choose production or staging with `env`, or with CYBORG_INFRA_ENV"
    ):
        load(path)


def test_a_required_environment_is_there_to_be_chosen() -> None:
    with pytest.raises(ManifestInvalid, match="an environment is required, and the manifest has none"):
        loads(REQUIRED)
