"""JetStream under a domain, or behind another API prefix."""

from __future__ import annotations

import pytest
from command import Cli
from servers import StartServer

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
