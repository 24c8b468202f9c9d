"""JetStream that is not the server's one is connected to: through a leaf node, beside it, over gateways."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.agents import fetch, publish, until
from tests.support.cli import Cli
from tests.support.cluster import Clusters, running_clusters
from tests.support.faults import Faults
from tests.support.nats_client import Api
from tests.support.ports import free_port
from tests.support.servers import NEWEST, server_binary

HUB = "jetstream { domain: hub }\n"
HUB_LEAFNODES = 'leafnodes { listen: "127.0.0.1:%d" }\n'
LEAF = """
jetstream { domain: leaf }
leafnodes { remotes: [ {url: "nats://127.0.0.1:%d"} ] }
"""


class Topology(NamedTuple):
    """The clusters `east` of two servers and `west` of one, which are the domain `hub`, and a leaf node of it with a JetStream of its own."""

    clusters: Clusters
    leaf: EmbeddedServer

    @property
    def east(self) -> str:
        return self.clusters["east"][0].url

    @property
    def west(self) -> str:
        return self.clusters["west"][0].url


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    home = tmp_path_factory.mktemp("topology")
    names, port = {"east": ["e0", "e1"], "west": ["w0"]}, free_port()
    leaf = EmbeddedServer(home / "leaf", name="edge", config=LEAF % port, binary=server_binary(NEWEST))
    with running_clusters(home, names, config=HUB, own={"e0": HUB_LEAFNODES % port}) as clusters, leaf:
        reached = [(leaf.url, "hub"), (clusters["east"][0].url, "leaf"), (clusters["west"][0].url, "hub")]
        for url, domain in reached:
            with Api(url) as api:
                until(functools.partial(api.answers, f"$JS.{domain}.API.INFO"))
        yield Topology(clusters, leaf)


@pytest.fixture(autouse=True)
def _nothing_is_left(topology: Topology) -> Iterator[None]:
    yield
    for url in (topology.east, topology.leaf.url):
        with Api(url) as api:
            for name in api.request("$JS.API.STREAM.NAMES")["streams"] or ():
                api.request(f"$JS.API.STREAM.DELETE.{name}")


def write(text: str) -> None:
    Path("org.yaml").write_text("org: acme\nroles: [cto]\n" + text, encoding="utf-8")


def planned(cli: Cli, *arguments: str) -> dict[str, Any]:
    ended = cli("plan", "--format", "json", *arguments)
    assert ended.code == 0, ended.err
    told: dict[str, Any] = ended.json
    return told


@pytest.mark.parametrize("replicas", [2, 3])
def test_a_leaf_node_alone_is_a_single_server_though_it_names_a_cluster(
    topology: Topology, cli: Cli, replicas: int
) -> None:
    """It announces its own name as its cluster. With streams in the account and without it is the same."""
    here = ("--server", topology.leaf.url)
    write(f"defaults: {{replicas: {replicas}}}\n")
    for _ in range(2):
        ended = cli("apply", "--yes", *here)
        assert ended.code == 3
        assert f"{replicas} replicas need a cluster, and this is a single server" in ended.out
        write("")
        assert cli("apply", "--yes", *here).code == 0
        assert planned(cli, *here)["server"]["cluster"] == ""
        assert cli("drift", *here).code == 0
        write(f"defaults: {{replicas: {replicas}}}\n")


def test_an_expected_cluster_is_that_of_the_jetstream_that_answers(topology: Topology, cli: Cli) -> None:
    """Not what a server on the way there calls itself. With streams in the account and without it is the same."""
    through = ("--server", topology.leaf.url, "--js-domain", "hub")
    for _ in range(2):
        for expected, where, code in (
            ("edge", through[:2], 3),
            ("edge", through, 3),
            ("west", through, 3),
            ("east", through, 0),
        ):
            write(f"server: {{cluster: {expected}}}\n")
            assert cli("plan", *where).code == code
            assert cli("status", *where).code == (code and 1)
        assert cli("apply", "--yes", *through).code == 0


def test_through_a_leaf_node_a_domain_of_clusters_takes_replicas(topology: Topology, cli: Cli) -> None:
    through = ("--server", topology.leaf.url, "--js-domain", "hub")
    write("defaults: {replicas: 2}\n")
    assert planned(cli, *through, "--out", "saved.plan")["server"]["cluster"] == "east"
    assert cli("apply", "--yes", *through, "saved.plan").code == 0
    assert cli("drift", *through).code == 0
    with Api(topology.east) as api:
        told = api.request("$JS.API.STREAM.INFO.AGENT_CTO_TASKS")["cluster"]
    assert (told["name"], len(told["replicas"])) == ("east", 1)


def test_a_stream_goes_to_the_cluster_of_its_placement_and_from_there_to_another(
    topology: Topology, cli: Cli
) -> None:
    """With its messages, and with the place of its consumer; where nothing is said it is where one is connected."""
    here = ("--server", topology.east)
    with Api(topology.east) as api:
        for cluster in ("west", "east", "west"):
            write(f"streams: {{tasks: {{placement: {{cluster: {cluster}}}}}}}\n")
            assert cli("apply", "--yes", *here).code == 0
            for url, name in ((topology.east, "east"), (topology.west, "west")):
                told = planned(cli, "--server", url)
                assert (told["changes"], told["server"]["cluster"]) == ([], name)
            told = {
                stream: api.request(f"$JS.API.STREAM.INFO.{stream}")
                for stream in ("AGENT_CTO_TASKS", "AGENT_INBOXES")
            }
            assert [found["cluster"]["name"] for found in told.values()] == [cluster, "east"]
            for _ in range(3):
                publish(api, "acme.agents.cto.tasks")
            api.ask(fetch(api, "AGENT_CTO_TASKS/cto-worker").reply, b"+ACK")
        worker = api.request("$JS.API.CONSUMER.INFO.AGENT_CTO_TASKS.cto-worker")
        assert (worker["cluster"]["name"], worker["ack_floor"]["stream_seq"]) == ("west", 3)
        assert worker["num_pending"] == 6


def test_a_cluster_that_is_gone_stops_what_is_in_it_and_nothing_else(
    topology: Topology, cli: Cli, faults: Faults
) -> None:
    faults.waits(UNREACHABLE_SEARCH_SECONDS=5.0)  # the listing has waited for four of them
    here, there = ("--server", topology.east), topology.clusters["west"][0]
    write("defaults: {replicas: 2}\n")
    Path("beta.yaml").write_text(
        "org: beta\nroles: [cto]\nnaming: {stream_prefix: B_}\n"
        "defaults: {placement: {cluster: east}}\nstreams: {tasks: {placement: {cluster: west}}}\n",
        encoding="utf-8",
    )
    assert cli("apply", "--yes", *here).code == 0
    assert cli("apply", "beta.yaml", "--yes", *here).code == 0
    there.kill()
    try:
        told = planned(cli, *here)
        assert told["changes"] == []
        assert [note.partition(" ")[0] for note in told["notes"]] == ["B_AGENT_CTO_TASKS"]
        ended = cli("drift", "beta.yaml", *here)
        assert (ended.code, ended.err.count("Error")) == (1, 1)
        assert "B_AGENT_CTO_TASKS could not be read" in ended.err
    finally:
        there.start()
    with Api(topology.east) as api:
        until(lambda: api.answers("$JS.API.STREAM.INFO.B_AGENT_CTO_TASKS"))
    assert cli("drift", "beta.yaml", *here).code == 0
