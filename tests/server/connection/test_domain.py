"""JetStream under a domain, or behind another API prefix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.agents import TASK, until
from tests.support.cli import SMALL, Cli
from tests.support.nats_client import Api
from tests.support.ports import free_port
from tests.support.servers import NEWEST, StartServer, server_binary

PREFIXED = """
accounts {
  HOLDER {
    jetstream: enabled
    users: [{user: holder, password: x}]
    exports: [
      {service: "$JS.API.>", response_type: stream}
      {service: "$KV.>"}
    ]
  }
  USER {
    users: [{user: user, password: x}]
    imports: [
      {service: {account: HOLDER, subject: "$JS.API.>"}, to: "hub.API.>"}
      {service: {account: HOLDER, subject: "$KV.>"}}
    ]
  }
}
"""


def test_a_domain_is_applied_to_and_named(cli: Cli, start_server: StartServer) -> None:
    server = start_server(config="jetstream { domain: hub }")
    for domain in ((), ("--js-domain", "hub")):
        assert cli("apply", "--yes", "--server", server.url, *domain).code == 0
    ended = cli(
        "plan", "--detailed-exitcode", "--server", server.url, "--js-domain", "hub", "--format", "json"
    )
    assert (ended.code, '"domain": "hub"' in ended.out) == (0, True)


@pytest.mark.parametrize("option", ["--js-domain", "--js-api-prefix"])
def test_a_wrong_domain_or_prefix_is_one_clear_line(cli: Cli, start_server: StartServer, option: str) -> None:
    ended = cli("plan", "--server", start_server().url, option, "elsewhere")
    assert (ended.code, ended.out) == (1, "")
    assert "nobody answers on" in ended.err
    assert "check --js-domain and --js-api-prefix" in ended.err


def test_another_accounts_jetstream_is_reached_through_its_prefix(
    cli: Cli, start_server: StartServer
) -> None:
    server = start_server(config=PREFIXED)
    login = ("--server", server.url, "--user", "user", "--password", "x", "--js-api-prefix", "hub.API")
    assert cli("apply", "--yes", *login).code == 0
    assert cli("plan", "--detailed-exitcode", *login).code == 0
    holder = ("--server", server.url, "--user", "holder", "--password", "x")
    assert cli("plan", "--detailed-exitcode", *holder).code == 0


EXPORTING = """
jetstream {{ domain: hub }}
leafnodes {{ listen: "127.0.0.1:{port}" }}
accounts {{
  HOLDER {{
    jetstream: enabled
    users: [{{user: holder, password: x}}]
    exports: [{{service: "$JS.API.>", response_type: stream}}, {{service: "$KV.>"}}, {{service: "_parked.*"}}, {{service: "acme.agents.*.*"}}]
  }}
  REQUESTS {{
    users: [{{user: requests, password: x}}]
    imports: [{{service: {{account: HOLDER, subject: "$JS.API.>"}}, to: "hub.API.>"}}]
  }}
  LEASES {{
    users: [{{user: leases, password: x}}]
    imports: [
      {{service: {{account: HOLDER, subject: "$JS.API.>"}}, to: "hub.API.>"}}
      {{service: {{account: HOLDER, subject: "$KV.>"}}}}
    ]
  }}
  OWN {{
    jetstream: enabled
    users: [{{user: own, password: x}}]
    imports: [{{service: {{account: HOLDER, subject: "$JS.API.>"}}, to: "hub.API.>"}}]
  }}
  ALL {{
    users: [{{user: all, password: x}}]
    imports: [
      {{service: {{account: HOLDER, subject: "$JS.API.>"}}, to: "hub.API.>"}}
      {{service: {{account: HOLDER, subject: "$KV.>"}}}}
      {{service: {{account: HOLDER, subject: "_parked.*"}}}}
      {{service: {{account: HOLDER, subject: "acme.agents.*.*"}}}}
    ]
  }}
}}
"""
EDGE = """
leafnodes { remotes: [ {url: "nats://holder:x@127.0.0.1:%d"} ] }
"""


@pytest.fixture(scope="module")
def exporting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """Yield a single server with the domain `hub`, whose account HOLDER others import from; and a leaf node of it without JetStream."""
    home, port = tmp_path_factory.mktemp("exporting"), free_port()
    binary = server_binary(NEWEST)
    server = EmbeddedServer(home / "server", config=EXPORTING.format(port=port), binary=binary)
    edge = EmbeddedServer(home / "edge", name="edge", config=EDGE % port, jetstream=False, binary=binary)
    with server, edge:
        with Api(edge.url) as api:
            until(lambda: api.answers("$JS.hub.API.INFO"))
        yield server, edge


@pytest.fixture
def imported(exporting: tuple[EmbeddedServer, EmbeddedServer]) -> Iterator[Callable[[str], tuple[str, ...]]]:
    """Yield how one logs in as the user of an account that imports the API; all streams are gone afterwards."""
    server = exporting[0]
    yield lambda user: (
        *("--server", server.url, "--user", user, "--password", "x"),
        *(() if user == "holder" else ("--js-api-prefix", "hub.API")),
    )
    for user in ("holder", "own"):
        with Api(server.url.replace("//", f"//{user}:x@")) as api:
            for name in api.request("$JS.API.STREAM.NAMES")["streams"] or ():
                api.request(f"$JS.API.STREAM.DELETE.{name}")


Login = Callable[[str], tuple[str, ...]]


@pytest.mark.parametrize("user", ["requests", "own"])
def test_a_lease_that_an_import_does_not_let_through_is_one_clear_line(
    cli: Cli, imported: Login, user: str
) -> None:
    """Also where the importing account has a JetStream with such a bucket itself, which takes it."""
    if user == "own":
        assert cli("apply", "--yes", *imported("own")[:-2]).code == 0
    ended = cli("apply", "--yes", *imported(user))
    assert (ended.code, ended.err.count("Error")) == (1, 1)
    assert "no stream takes what is published on $KV.cyborg-infra.acme" in ended.err
    assert 'exports: [{service: "$KV.cyborg-infra.>"}]' in ended.err
    assert "8 to add" not in cli("plan", *imported("own")[:-2]).out or user == "requests"
    assert "12 to add" in cli("plan", *imported("holder")).out
    assert cli("apply", "--yes", "--no-lock", *imported(user)).code == 0


def test_a_migration_is_refused_before_it_begins_if_an_account_import_drops_its_end_markers(
    cli: Cli, imported: Login, project: Path
) -> None:
    assert cli("apply", "--yes", *imported("leases")).code == 0
    (project / "org.yaml").write_text(SMALL + "streams: {tasks: {storage: memory}}\n", encoding="utf-8")
    before = cli("plan", "--format", "json", *imported("holder")).json["changes"]
    ended = cli("apply", "--yes", "--allow", "mass-change", *imported("leases"))
    assert ended.code == 1, ended.err
    assert "no stream takes what is published on _parked.cyborg-infra-temporary-trial" in ended.err
    assert 'exports: [{service: "_parked.*"}]' in ended.err
    assert before == cli("plan", "--format", "json", *imported("holder")).json["changes"]
    assert cli("apply", "--yes", "--allow", "mass-change", *imported("all")).code == 0
    assert cli("drift", *imported("holder")).code == 0


def test_agents_whom_an_import_does_not_let_through_are_not_tried(cli: Cli, imported: Login) -> None:
    ended = cli("verify", *imported("all"))
    assert (ended.code, ended.err.count("Error")) == (1, 1)
    assert "no stream takes what is published on acme-" in ended.err
    assert "No changes" not in cli("plan", *imported("holder")).out


def test_what_an_import_does_not_let_through_to_a_role_is_one_clear_line(
    cli: Cli, imported: Login, project: Path
) -> None:
    assert cli("apply", "--yes", *imported("leases")).code == 0
    (project / "task.json").write_text(json.dumps(TASK | {"assigned_by": "backend"}), encoding="utf-8")
    ended = cli("send", "task", "cto", "-f", "task.json", *imported("leases"))
    assert (ended.code, ended.err.count("Error")) == (1, 1), ended.err
    assert "no stream takes what is published on acme.agents.cto.tasks" in ended.err
    assert cli("send", "task", "cto", "-f", "task.json", *imported("all")).code == 0


def test_a_leaf_node_without_jetstream_is_no_cluster(
    cli: Cli, exporting: tuple[EmbeddedServer, EmbeddedServer], imported: Login, project: Path
) -> None:
    """It announces its own name as one, and has another account: what counts are those of the JetStream that answers."""
    through = ("--server", exporting[1].url, "--js-domain", "hub")
    (project / "org.yaml").write_text(SMALL + "defaults: {replicas: 3}\n", encoding="utf-8")
    assert "this is a single server" in cli("plan", *through).out
    (project / "org.yaml").write_text(SMALL + "server: {account: HOLDER}\n", encoding="utf-8")
    assert cli("apply", "--yes", *through).code == 0
    told = cli("plan", "--format", "json", *through).json
    assert (told["changes"], told["server"]["cluster"]) == ([], "")
    assert cli("drift", *imported("holder")).code == 0


@pytest.mark.parametrize("granted", ["$JS.hub.API.>", "$JS.API.>"])
def test_what_a_domains_own_server_wants_to_be_granted_is_named(
    cli: Cli, start_server: StartServer, granted: str
) -> None:
    """It knows $JS.hub.API as $JS.API."""
    config = """jetstream { domain: hub }
    authorization { users: [{user: ops, password: x, permissions: {publish: {allow: ["%s", "$KV.>"]}}}] }"""
    login = ("--server", start_server(config=config % granted).url, "--user", "ops", "--password", "x")
    ended = cli("apply", "--yes", *login, "--js-domain", "hub")
    if granted == "$JS.API.>":
        assert ended.code == 0
        return
    assert (ended.code, ended.err.count("Error")) == (1, 1)
    assert "this user may not publish to $JS.API.INFO" in ended.err
    assert "$JS.hub.API.INFO is what a server of the domain itself knows as $JS.API.INFO" in ended.err
