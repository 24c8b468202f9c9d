"""The rows of the field table that need a cluster: copies and placement change in place, and how one knows."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import FIELDS, Kind, UpdateEffect
from cyborg_infra.model.normalise import normalise_config
from cyborg_infra.model.server_versions import Version
from tests.support.cluster import NAME, running_cluster
from tests.support.field_cases import CLUSTERED
from tests.support.nats_client import Api
from tests.support.servers import NEWEST

POLL, PATIENCE = 0.02, 60  # seconds; a move takes one or two
VERSION = Version.parse(NEWEST)

Config = dict[str, Any]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Yield a client of a cluster that all tests here share."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as servers, Api(servers[0].url) as connected:
        yield connected


@pytest.fixture
def stream(api: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the name of a stream with one copy, gone after the test."""
    name: str = request.node.name.upper()
    _accepted(api, f"STREAM.CREATE.{name}", {"name": name, "subjects": [name]})
    yield name
    api.request(f"$JS.API.STREAM.DELETE.{name}")


def _accepted(api: Api, verb: str, body: Config) -> Config:
    answer = api.request(f"$JS.API.{verb}", body)
    assert "error" not in answer, answer["error"]
    return answer


def _updated(api: Api, stream: str, **changes: Any) -> None:
    config = api.request(f"$JS.API.STREAM.INFO.{stream}")["config"]
    _accepted(api, f"STREAM.UPDATE.{stream}", {**config, "metadata": {}, **changes})


def _settled(api: Api, stream: str, *, copies: int = 1, home: str | None = None) -> Config:
    """Return the configuration, once the cluster has done what it only accepted at first."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):  # nobody answers while a stream changes hands
            info = api.request(f"$JS.API.STREAM.INFO.{stream}", timeout=1)
            if _at_rest(info["cluster"], copies, home):
                config: Config = info["config"]
                return config
        time.sleep(POLL)
    raise TimeoutError(f"{stream} did not settle")


def _at_rest(members: Mapping[str, Any], copies: int, home: str | None) -> bool:
    leader, others = members.get("leader"), members.get("replicas") or []
    current = "desired" not in members and all(other["current"] for other in others)
    return current and len(others) == copies - 1 and leader is not None and home in (None, leader)


def test_copies_of_a_stream_come_and_go_in_place(api: Api, stream: str) -> None:
    for before, after in ((1, 3), (3, 1)):
        _updated(api, stream, num_replicas=after)
        assert _settled(api, stream, copies=after)[CLUSTERED] == after
        assert FIELDS[Kind.STREAM][CLUSTERED].update(before, after, VERSION) is UpdateEffect.IN_PLACE


def test_placement_moves_a_stream_in_place(api: Api, stream: str) -> None:
    first = api.request(f"$JS.API.STREAM.INFO.{stream}")["cluster"]["leader"]
    before = None
    for home in (*({"n0", "n1", "n2"} - {first}), first):
        after = {"cluster": NAME, "tags": [home]}
        _updated(api, stream, placement=after)
        assert normalise_config(Kind.STREAM, _settled(api, stream, home=home))["placement"] == after
        assert FIELDS[Kind.STREAM]["placement"].update(before, after, VERSION) is UpdateEffect.IN_PLACE
        before = after


def test_a_placement_that_nobody_has_is_refused(api: Api, stream: str) -> None:
    config = {"name": stream, "subjects": [stream], "placement": {"cluster": "nowhere"}}
    assert (
        api.request(f"$JS.API.STREAM.UPDATE.{stream}", config)["error"]["err_code"]
        == ErrorCode.JSClusterNoPeersErrF
    )


def test_copies_of_a_consumer_come_and_go_in_place(api: Api, stream: str) -> None:
    _updated(api, stream, num_replicas=3)
    _settled(api, stream, copies=3)
    place = f"{stream}.case"
    before = None
    for after in (0, 1, 3, 0):
        config = {"name": "case", "durable_name": "case", "ack_policy": "explicit", CLUSTERED: after}
        body = {"stream_name": stream, "config": config, "action": "create" if before is None else "update"}
        _accepted(api, f"CONSUMER.CREATE.{place}", body)
        assert api.request(f"$JS.API.CONSUMER.INFO.{place}")["config"][CLUSTERED] == after
        assert FIELDS[Kind.CONSUMER][CLUSTERED].update(before, after, VERSION) is UpdateEffect.IN_PLACE
        before = after


def test_a_mirror_takes_direct_reads_from_its_origin(api: Api, stream: str) -> None:
    """As on a single server: what it is told itself does not count."""
    mirror = f"{stream}_MIRROR"
    _updated(api, stream, allow_direct=True)
    config = {"name": mirror, "mirror": {"name": stream}, "mirror_direct": False}
    answer = _accepted(api, f"STREAM.CREATE.{mirror}", config)
    assert answer["config"]["mirror_direct"] is True
    assert normalise_config(Kind.STREAM, answer["config"]) == normalise_config(Kind.STREAM, config)
    api.request(f"$JS.API.STREAM.DELETE.{mirror}")


def test_more_copies_than_servers_are_refused(api: Api, stream: str) -> None:
    config = {"name": stream, "subjects": [stream], CLUSTERED: 5}
    assert (
        api.request(f"$JS.API.STREAM.UPDATE.{stream}", config)["error"]["err_code"]
        == ErrorCode.JSClusterNoPeersErrF
    )
