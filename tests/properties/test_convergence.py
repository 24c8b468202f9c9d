"""From any small organisation to any other: one apply leads there, a second has nothing to do, and strangers notice nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.draws import draws
from tests.support.scenario import Scenario, consumer, fetched, published, stream
from tests.support.servers import NEWEST, server_binary

ROLES = ("ceo", "cto", "data-eng", "ops")
EVENT_NAMES = ("deploy.complete", "ci.result", "pr.merged")


def chosen(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return some of these settings."""
    return st.fixed_dictionaries({}, optional=values)


def sizes(unit: str, most: int) -> st.SearchStrategy[str]:
    return st.integers(1, most).map(lambda number: f"{number}{unit}")


STREAM = chosen(
    max_age=sizes("h", 99),
    max_bytes=sizes("MB", 9),
    max_msgs=st.integers(1, 50),
    max_msgs_per_subject=st.integers(1, 9),
    storage=st.sampled_from(["file", "memory"]),
    discard=st.sampled_from(["old", "new"]),
    retention=st.sampled_from(["limits", "interest"]),
    deny_delete=st.booleans(),
    allow_msg_ttl=st.booleans(),
    compression=st.sampled_from(["none", "s2"]),
    metadata=st.dictionaries(st.sampled_from(["team", "tier"]), st.sampled_from(["a", "b"])),
)
CONSUMER = chosen(
    ack_wait=sizes("m", 99),
    max_deliver=st.integers(1, 9),
    max_ack_pending=st.integers(1, 99),
    max_waiting=st.integers(1, 99),
    replay_policy=st.sampled_from(["instant", "original"]),
    deliver_policy=st.sampled_from(["all", "last", "new"]),
    mem_storage=st.booleans(),
    headers_only=st.booleans(),
)


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    """Return a small organisation, in JSON, which YAML is."""
    roles = draw(st.lists(st.sampled_from(ROLES), min_size=1, max_size=4, unique=True))
    names = draw(st.lists(st.sampled_from(EVENT_NAMES), max_size=3, unique=True))
    return {
        "org": "gen",
        "roles": {role: draw(chosen(tasks=STREAM, worker=CONSUMER)) for role in roles},
        "streams": draw(chosen(tasks=STREAM, inboxes=STREAM, broadcasts=STREAM)),
        "consumers": draw(chosen(worker=CONSUMER, inbox_reader=CONSUMER)),
        "events": {
            name: {
                "durable": draw(st.booleans()),
                "subscribers": draw(st.lists(st.sampled_from(roles), unique=True)),
            }
            for name in names
        },
        "naming": {"stream_prefix": "GEN_"},
    }


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """Yield one server for all examples; a stranger lives there as well."""
    directory: Path = tmp_path_factory.mktemp("convergence")
    server = EmbeddedServer(directory / "server", binary=server_binary(NEWEST)).start()
    with Scenario(server.url, directory) as found:
        for step in (
            stream("STRANGER", "stranger.>", metadata={"owner": "somebody"}),
            consumer("STRANGER/reader"),
            published("stranger.a", 3),
            fetched("STRANGER/reader", 1),
        ):
            step(found)
        yield found
    server.kill()


def cleared(scenario: Scenario) -> None:
    """Nothing but the stranger is left of the example before."""
    for name in scenario.ask("STREAM.NAMES")["streams"]:
        if name != "STRANGER":
            scenario.api.request(f"$JS.API.STREAM.PURGE.{name}")  # see Scenario.clear
            scenario.ask(f"STREAM.DELETE.{name}")


def text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest)


def is_stranger(ref: str) -> bool:
    return ref.startswith("STRANGER")


@pytest.mark.server
@given(one=manifests(), other=manifests())
@draws(15, ignoring=[HealthCheck.data_too_large])
def test_one_apply_leads_from_any_organisation_to_any_other(
    scenario: Scenario, one: dict[str, Any], other: dict[str, Any]
) -> None:
    cleared(scenario)
    stranger = scenario.everything(among=is_stranger)
    scenario.converge(text(one), prune=True)
    for role in one["roles"]:
        for channel in ("tasks", "inbox"):
            scenario.api.ask(f"gen.agents.{role}.{channel}")  # a full stream may refuse it
    scenario.converge(text(other), prune=True)
    wish = scenario.request(text(other), prune=True)
    again = scenario.plan(wish)
    assert [(change.action, str(change.ref), change.fields) for change in again.changes] == []
    assert not again
    assert scenario.differences(wish.desired) == {}
    assert set(scenario.refs()) == {str(ref) for ref in wish.desired.resources} | set(stranger)
    assert stranger == scenario.everything(among=is_stranger)
