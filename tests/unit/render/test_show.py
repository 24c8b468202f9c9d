"""An organisation as text and JSON: every subject, stream and consumer is there, whatever the width."""

from __future__ import annotations

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.naming import list_subjects
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.naming import Subject
from cyborg_infra.model.organisation import Org, Role
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.units import MINUTE
from cyborg_infra.render import json_format
from cyborg_infra.render.terminal import show
from tests.support.plan_examples import CASES, Golden, consumer, dead_letters, tasks, worker
from tests.unit.render.test_plan import printed, validate

ORG = Org("genbrain", (Role("cto", "Technology"), Role("marketing")), description="An organisation")
RESOURCES = (
    tasks("cto"),
    worker("cto"),
    tasks("marketing"),
    worker("marketing"),
    dead_letters(),
    consumer("DEAD_LETTERS/dead-letter-alerts", ack_wait=5 * MINUTE),
)
STATE = DesiredState({each.ref: each for each in RESOURCES})


def _agent(role: str, channel: str, stream: str | None, publisher: str, reader: str, meaning: str) -> Subject:
    subject = f"genbrain.agents.{role}.{channel}"
    return Subject(
        subject, "agents", role, channel, stream is not None, stream, (publisher,), (reader,), meaning
    )


SUBJECTS = (
    *(
        subject
        for role in ("cto", "marketing")
        for subject in (
            _agent(
                role,
                "tasks",
                f"AGENT_{role.upper()}_TASKS",
                "any role",
                f"{role}-worker",
                "task assignments: each is worked on once",
            ),
            _agent(role, "status", None, role, "monitoring", "heartbeat and state"),
        )
    ),
    Subject(
        "genbrain.events.ci.result", "events", None, "ci.result", False, None, ("cto",), ("marketing",), ""
    ),
    Subject(
        "genbrain.org.deadletter",
        "org",
        None,
        "deadletter",
        True,
        "DEAD_LETTERS",
        ("the server", "any role"),
        ("dead-letter-alerts",),
        "what failed for good",
    ),
)


@pytest.mark.parametrize("width", [50, 80, 140])
def test_text_by_width(golden: Golden, width: int) -> None:
    shown = printed(show.show(ORG, SUBJECTS, STATE), width=width)
    assert all(len(row) <= width and row == row.rstrip() for row in shown.splitlines())
    golden(CASES / f"show-{width}.txt", shown)


def test_a_pipe_gets_a_row_for_each_resource() -> None:
    rows = printed(show.show(ORG, SUBJECTS, STATE), terminal=False).splitlines()
    for resource in RESOURCES:
        assert any(row.startswith(f"  {resource.ref.name} ") for row in rows), resource.ref


def test_an_organisation_without_anything_is_shown() -> None:
    assert printed(show.show(Org("empty", ()), (), DesiredState())) == "Organisation empty\n"


def test_json_fits_its_schema() -> None:
    value = json_format.show(ORG, SUBJECTS, STATE)
    validate("show", value)
    assert [subject.subject for subject in SUBJECTS] == [each["subject"] for each in value["subjects"]]


def test_buckets_have_a_table_of_their_own_in_the_clients_words() -> None:
    org = loads("org: gen\nroles: [cto]\ntask_state: true\nkey_value: {drafts: {ttl: 72h}}\n")
    state = expand(org)
    shown = printed(show.show(org, (), state), terminal=False)
    streams, _, rest = shown.partition("\nKey-value buckets (2)\n")
    buckets, _, _ = rest.partition("\n\n")
    assert "KV_" not in streams
    assert buckets.splitlines() == [
        "  All: max_bytes unlimited, max_value_size server limit, storage file, replicas 1",
        "  STREAM        HISTORY  TTL      SUBJECTS",
        "  KV_drafts     1        72h      $KV.drafts.>",
        "  KV_gen-tasks  10       forever  $KV.gen-tasks.>",
    ]
    value = json_format.show(org, (), state)
    validate("show", value)
    assert value["key_value"] == [
        {
            "bucket": "drafts",
            "stream": "KV_drafts",
            "task_state": False,
            "readers": [],
            "writers": [],
            "watchers": [],
        },
        {
            "bucket": "gen-tasks",
            "stream": "KV_gen-tasks",
            "task_state": True,
            "readers": [],
            "writers": [],
            "watchers": [],
        },
    ]


def test_what_admission_means_is_said_once() -> None:
    said = "takes max_msgs unfinished messages, and refuses the next publish"
    for settings, count in (("admission: {max_pending: 5}", 1), ("retention: workqueue, discard: new", 0)):
        org = loads(f"org: gen\nroles: [cto, ops]\nstreams: {{tasks: {{{settings}}}}}\n")
        assert printed(show.show(org, (), expand(org)), terminal=False).count(said) == count


def test_a_chart_of_heads_alone_is_shown() -> None:
    org = loads("org: acme\nroles: {cto: {reports_to: false, assigns: [cso]}, cso: }\n")
    lines = printed(show.show(org, (), DesiredState({}))).splitlines()
    assert lines[2:5] == ["Chart", "  cto, and assigns to cso", "  cso"]


def test_of_all_that_are_above_a_role_the_nearest_are_named() -> None:
    """In a line of many roles the text would else grow with their square."""
    roles = [Role("r0"), *(Role(f"r{n}", reports_to=f"r{n - 1}") for n in range(1, 300))]
    org = Org("acme", tuple(roles))
    state = expand(org)
    shown = printed(show.show(org, list_subjects(org, state), state), terminal=False)
    nearest = ", ".join(f"r{n}" for n in range(298, 286, -1))
    assert f"{nearest} (and 287 more) -> r299-worker" in shown
    assert max(shown.split("Streams (")[0].splitlines(), key=len).count("r2") < 15
