"""What a plan is known to ask of the server, where no server of the tests tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.live.execute.permissions import required_permissions
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.counting import CountKind, CountQuery, MessageCount, Share
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, LiveState, StreamCounts
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import NEWEST_LEVEL, Version
from tests.support.live_resources import as_empty


def held(manifest: str) -> dict[Ref, LiveResource]:
    """Return what a server has after an apply of this manifest."""
    return {ref: as_empty(each) for ref, each in expand(loads(manifest)).resources.items()}


@pytest.mark.parametrize(("cluster", "reads"), [("", False), ("c", True)])
def test_a_renamed_stream_is_read_in_a_cluster_for_the_ids_of_its_messages(cluster: str, reads: bool) -> None:  # noqa: FBT001
    found = held("org: acme\nroles: [cto]\n")
    facts = ServerInfo(Version(2, 15, 1), NEWEST_LEVEL, cluster=cluster, peers=3)
    org = loads("org: acme\nroles: [{name: boss, renamed_from: cto}]\n")
    plan = make_plan(LiveState(found, facts), expand(org), owner="acme", org=org)
    assert any(need.kind == "STREAM.MSG.GET" for need in required_permissions(plan)) is reads


@pytest.mark.parametrize(("unfinished", "parks"), [(0, True), (1, False)])
def test_a_stream_of_finished_messages_is_parked_before_it_is_deleted(unfinished: int, parks: bool) -> None:  # noqa: FBT001
    ref = Ref("AGENT_CTO_TASKS")
    found = held("org: acme\nroles: [ceo, cto]\n")
    amount = MessageCount(2, 90, Share(unfinished))
    counts, measured = StreamCounts(messages=2), {CountQuery(ref, CountKind.STORED): amount}
    found[ref] = replace(found[ref], counts=counts, counts_by_query=measured)
    org = loads("org: acme\nroles: [ceo]\n")
    live = LiveState(found, ServerInfo(Version(2, 15, 1), NEWEST_LEVEL))
    plan = make_plan(live, expand(org), owner="acme", org=org, prune=True)
    certain = {need.verb for need in required_permissions(plan) if need.is_certain and need.change == ref}
    assert certain == {f"STREAM.DELETE.{ref}"} | ({f"STREAM.UPDATE.{ref}"} if parks else set())
