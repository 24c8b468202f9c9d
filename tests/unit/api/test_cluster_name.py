"""Which cluster answers, where no server of it tells: by what JetStream itself says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from cyborg_infra.live.api.cluster_name import certain_cluster_name, cluster_name_of_streams
from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.connection.errors import PermissionDenied
from cyborg_infra.live.connection.replies import ServerIdentity
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.server import UNNAMED_CLUSTER

LEAF = ServerIdentity("A", "edge", "edge", "", jetstream=True)
THERE = ServerIdentity("A", "n1", "hub", "hub", jetstream=True)
HERE = ServerIdentity("A", "n1", "hub", "", jetstream=True)
SINGLE = ApiError("asking", code=404, err_code=ErrorCode.JSStreamNotFoundErr, description="stream not found")


def rows(**clusters: str) -> dict[str, dict[str, Any]]:
    """Return streams by name with the cluster that each is in; empty on a single server."""
    return {name: {"cluster": {"name": cluster} if cluster else None} for name, cluster in clusters.items()}


def named(
    witness: ServerIdentity, streams: Mapping[str, dict[str, Any]], answer: ServerFault | None = None
) -> str:
    async def ask(verb: str, body: Mapping[str, Any], *, doing: str) -> dict[str, Any]:
        assert (verb.split(".")[:2], body, bool(doing)) == (["CONSUMER", "LIST"], {"offset": 0}, True)
        if answer is not None:
            raise answer
        return {"consumers": [], "total": 0}

    return asyncio.run(cluster_name_of_streams(witness, "", dict(streams), ask))


def test_a_server_of_the_domain_is_certain_unless_its_cluster_is_its_own_name() -> None:
    assert (certain_cluster_name(HERE, ""), certain_cluster_name(HERE._replace(cluster=""), "")) == (
        "hub",
        "",
    )
    for unsure in (LEAF, THERE, HERE._replace(jetstream=False)):
        assert certain_cluster_name(unsure, "") is None
    assert certain_cluster_name(THERE, "hub") == "hub"


@pytest.mark.parametrize("witness", [LEAF, THERE])
def test_what_streams_say_counts(witness: ServerIdentity) -> None:
    assert named(witness, rows(A="", B="")) == ""
    assert named(witness, rows(A="far", B="far")) == "far"
    assert named(witness, rows(A="far", B="farther")) == UNNAMED_CLUSTER
    assert named(witness, rows(A="far", B="farther", KV_cyborg_infra="x")) == UNNAMED_CLUSTER
    assert (
        named(witness, {**rows(A="far", B="farther"), "KV_cyborg-infra": rows(x="farther")["x"]}) == "farther"
    )
    assert named(witness, rows(A="far", B=witness.cluster)) == witness.cluster


def test_without_a_stream_it_counts_how_jetstream_says_that_there_is_none() -> None:
    assert named(LEAF, {}, SINGLE) == named(THERE, {}, SINGLE) == ""
    assert named(LEAF, {}) == "edge"  # a cluster that is called as its server is
    assert (
        named(THERE, {}) == named(THERE, {}, PermissionDenied("$JS.API.CONSUMER.LIST.x")) == UNNAMED_CLUSTER
    )
    with pytest.raises(ApiError, match="down"):
        named(
            THERE,
            {},
            ApiError("asking", code=503, err_code=ErrorCode.JSClusterNotAvailErr, description="down"),
        )
