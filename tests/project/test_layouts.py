"""Layouts that organisations have published are reproduced by manifests: exactly these streams, subjects and consumers, and back again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.manifest.load import load
from cyborg_infra.model.units import DAY, HOUR
from tests.support.cli import Cli
from tests.support.nats_client import Api

LAYOUTS = Path(__file__).parents[2] / "examples/layouts"
NOTICES = "$JS.EVENT.ADVISORY.CONSUMER"


class Layout(NamedTuple):
    """What a manifest has to expand to: streams with all of their subjects and some settings, consumers with their filter."""

    org: str
    streams: dict[str, tuple[tuple[str, ...], dict[str, Any]]]
    consumers: dict[str, tuple[str, ...]]


def notices(*streams: str) -> tuple[str, ...]:
    return tuple(
        f"{NOTICES}.{kind}.{stream}.*" for stream in streams for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")
    )


PLATFORM = Layout(
    "org1",
    {
        "AGENT_INBOX": (
            ("genbrain.*.agents.*.inbox",),
            {"retention": "workqueue", "max_age": 7 * DAY, "max_msgs_per_subject": 1000},
        ),
        "AGENT_TASKS": (("genbrain.*.agents.*.tasks",), {"retention": "workqueue", "max_age": 30 * DAY}),
        "AGENT_CONTROL": (("genbrain.*.agents.*.control",), {"retention": "interest", "max_age": HOUR}),
        "PLATFORM_TASKS": (("genbrain.*.tasks.*",), {"retention": "limits", "max_age": 30 * DAY}),
        "PLATFORM_EVENTS": (("genbrain.*.events.>",), {"retention": "limits", "max_age": 90 * DAY}),
        "BILLING": (("genbrain.*.billing.>",), {"retention": "limits", "max_age": 365 * DAY}),
    },
    {
        f"{stream}/agent-{role}-{channel}": (f"genbrain.org1.agents.{role}.{channel}",)
        for stream, channel in (
            ("AGENT_INBOX", "inbox"),
            ("AGENT_TASKS", "tasks"),
            ("AGENT_CONTROL", "control"),
        )
        for role in ("ceo", "engineer", "analyst")
    },
)
SUBTREES = Layout(
    "acme",
    {
        "AGENT_TASKS": (("acme.agents.*.tasks.>",), {"retention": "limits"}),
        "AGENT_INBOXES": (("acme.agents.*.inbox",), {}),
        "AGENT_OUTBOX": (("acme.agents.*.outbox",), {}),
        "ORG_EVENTS": (("acme.events.>",), {}),
        "ORG_BROADCASTS": (("acme.org.broadcast.all",), {}),
        "ORG_GROUP_BROADCASTS": (("acme.org.broadcast.engineering",), {}),
        "DEAD_LETTERS": (
            (
                "acme.org.deadletter",
                *notices("AGENT_TASKS", "AGENT_INBOXES", "AGENT_OUTBOX"),
                *notices("ORG_EVENTS", "ORG_BROADCASTS", "ORG_GROUP_BROADCASTS"),
            ),
            {"max_msgs": 10_000},
        ),
    },
    {
        "AGENT_TASKS/ceo-worker": ("acme.agents.ceo.tasks.>",),
        "AGENT_TASKS/cto-worker": ("acme.agents.cto.tasks.>",),
        "AGENT_TASKS/backend-worker": ("acme.agents.backend.tasks.>",),
        "AGENT_INBOXES/ceo-inbox-reader": ("acme.agents.ceo.inbox",),
        "AGENT_INBOXES/cto-inbox-reader": ("acme.agents.cto.inbox",),
        "AGENT_INBOXES/backend-inbox-reader": ("acme.agents.backend.inbox",),
        "AGENT_OUTBOX/ceo-outbox-reader": ("acme.agents.*.outbox",),
        "ORG_EVENTS/ceo-event-reader": ("acme.events.ci.result",),
        "ORG_EVENTS/cto-event-reader": ("acme.events.ci.result", "acme.events.deploy.complete"),
        "ORG_BROADCASTS/ceo-broadcast-reader": ("acme.org.broadcast.all",),
        "ORG_BROADCASTS/cto-broadcast-reader": ("acme.org.broadcast.all",),
        "ORG_BROADCASTS/backend-broadcast-reader": ("acme.org.broadcast.all",),
        "ORG_GROUP_BROADCASTS/cto-group-broadcast-reader": ("acme.org.broadcast.engineering",),
        "ORG_GROUP_BROADCASTS/backend-group-broadcast-reader": ("acme.org.broadcast.engineering",),
        "DEAD_LETTERS/dead-letter-alerts": (),
    },
)
SHARED_TASKS = Layout(
    "acme",
    {
        "TASKS": (("tasks.>",), {"retention": "limits"}),
        "AGENT_CARDS": (("agents.*.card",), {"max_msgs_per_subject": 1, "max_age": 0}),
        "TOPIC_STATE": (("topics.*",), {"max_msgs_per_subject": 1, "max_age": 0}),
        "TOPIC_JOURNAL": (("journal.>",), {"max_msgs_per_subject": -1, "max_age": 30 * DAY}),
        "KV_config": (("$KV.config.>",), {"max_msgs_per_subject": 1}),
        "KV_sessions": (("$KV.sessions.>",), {"max_age": DAY}),
        "KV_results": (("$KV.results.>",), {"max_msgs_per_subject": 5}),
    },
    {f"TASKS/{role}": (f"tasks.{role}",) for role in ("planner", "coder", "reviewer")},
)
ALL = {"platform": PLATFORM, "subtrees": SUBTREES, "shared-tasks": SHARED_TASKS}
EPHEMERAL = {
    "platform": ("genbrain.org1.agents.*.requests", "genbrain.org1.agents.*.status"),
    "subtrees": ("acme.agents.*.status", "acme.requests.*.action", "acme.requests.*.query"),
    "shared-tasks": (),
}


def test_every_layout_is_tried() -> None:
    assert {path.stem for path in LAYOUTS.glob("*.yaml")} == ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_a_layout_expands_to_exactly_what_it_is(name: str, cli: Cli) -> None:
    layout, path = ALL[name], str(LAYOUTS / f"{name}.yaml")
    state = expand(load(path))
    found = {stream.ref.stream: stream for stream in state.streams()}
    assert {name: {*stream.get("subjects")} for name, stream in found.items()} == {
        name: {*subjects} for name, (subjects, _) in layout.streams.items()
    }
    for stream, (_, settings) in layout.streams.items():
        assert {key: found[stream].get(key) for key in settings} == settings, stream
    assert {str(each.ref): (*each.filters,) for each in state.consumers()} == layout.consumers
    shown = cli("show", path, "--format", "json").json
    roles = shown["roles"]
    heard = {
        each["subject"].replace(f".{role}.", ".*.")
        for each in shown["subjects"]
        for role in [each["role"] or ""]
        if not each["durable"]
    }
    assert (len(roles), (*sorted(heard),)) == (3, EPHEMERAL[name])


@pytest.mark.parametrize("name", ALL)
def test_a_layout_is_applied_and_comes_back_equal(
    name: str, any_server: EmbeddedServer, cli: Cli, project: Path
) -> None:
    """Read back by the manifest's own names, of which the roles are ignored."""
    path, server = str(LAYOUTS / f"{name}.yaml"), ("--server", any_server.url)
    assert cli("validate", path, "--strict").code == 0
    assert cli("apply", path, "--yes", *server).code == 0
    assert cli("plan", path, "--detailed-exitcode", *server).code == 0
    ended = cli("import", "--org", ALL[name].org, "--naming", path, "--out", "found.yaml", *server)
    assert (ended.code, len(ended.err.splitlines())) == (0, 1), (
        ended.err
    )  # it was written, and nothing is missing
    written = {each.ref: each.normalised() for each in expand(load(path)).resources.values()}
    found = expand(load(str(project / "found.yaml")))
    assert {each.ref: each.normalised() for each in found.resources.values()} == written
    assert cli("plan", "found.yaml", "--detailed-exitcode", *server).code == 0


def test_a_stream_of_all_tenants_has_what_is_published_for_one(server: EmbeddedServer, cli: Cli) -> None:
    assert cli("apply", str(LAYOUTS / "platform.yaml"), "--yes", "--server", server.url).code == 0
    with Api(server.url) as api:
        assert api.request("genbrain.org2.agents.cto.inbox", "for another tenant")["stream"] == "AGENT_INBOX"
        assert api.request("genbrain.org1.tasks.build", "for the platform")["stream"] == "PLATFORM_TASKS"
