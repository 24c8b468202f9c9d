"""What KEDA is told is found where KEDA looks: in the monitoring answer of a real server, by account, stream and consumer."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.support.cli import Cli
from tests.support.exports import exported
from tests.support.nats_client import Api
from tests.support.operator_mode import Operator
from tests.support.ports import free_port
from tests.support.servers import StartServer

MANIFEST = "org: acme\nroles: {cto: {scaling: {min: 0, max: 3}}}\n"
ACCOUNT = "accounts { ACME { jetstream: enabled, users: [{user: acme, password: acme}] } }"
TASKS = 3


def lag(looked_at: dict[str, str]) -> int:
    """Return what KEDA (2.21) makes of a trigger: pending and in flight of the consumer that it finds."""
    query = urllib.parse.urlencode({"acc": looked_at["account"], "consumers": "true", "config": "true"})
    with urllib.request.urlopen(f"http://{looked_at['natsServerMonitoringEndpoint']}/jsz?{query}") as answer:
        (account,) = json.loads(answer.read())["account_details"]
    (stream,) = [each for each in account["stream_detail"] if each["name"] == looked_at["stream"]]
    (found,) = [each for each in stream["consumer_detail"] if each["name"] == looked_at["consumer"]]
    return int(found["num_pending"] + found["num_ack_pending"])


def trigger(port: int, account: str) -> dict[str, str]:
    """Return what the one scaled role's trigger says of where to look."""
    text = exported("keda", MANIFEST, monitoring=f"127.0.0.1:{port}", account=account).files["keda.yaml"]
    (found,) = yaml.safe_load(text)["spec"]["triggers"]
    said: dict[str, str] = found["metadata"]
    return said


@pytest.mark.parametrize(("config", "login", "account"), [("", "", "$G"), (ACCOUNT, "acme:acme@", "ACME")])
def test_the_lag_that_keda_sees_is_what_waits_and_what_is_in_flight(  # of an account with a name and of the one without
    cli: Cli, project: Path, start_server: StartServer, config: str, login: str, account: str
) -> None:
    port = free_port()
    server = start_server(config=f"http: 127.0.0.1:{port}\n{config}")
    url = server.url.replace("://", f"://{login}")
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    assert cli("apply", "--yes", "--server", url).code == 0
    looked_at = trigger(port, account)
    assert lag(looked_at) == 0
    with Api(url) as api:
        for _ in range(TASKS):
            api.publish("acme.agents.cto.tasks", b"{}")
        api.flush()
        assert lag(looked_at) == TASKS
        handed_out = api.subscribe("_INBOX.worker")
        api.publish("$JS.API.CONSUMER.MSG.NEXT.AGENT_CTO_TASKS.cto-worker", reply="_INBOX.worker")
        handed_out.next()
        assert lag(looked_at) == TASKS  # one of them is being worked on


def test_in_operator_mode_keda_looks_by_the_account_s_public_key(
    cli: Cli, project: Path, start_server: StartServer
) -> None:
    port, operator = free_port(), Operator()
    server = start_server(config=f"http: 127.0.0.1:{port}\n{operator.config}")
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    creds = operator.creds(project / "ops.creds", "AGENTS")
    assert cli("apply", "--yes", "--server", server.url, "--creds", str(creds)).code == 0
    assert lag(trigger(port, operator.accounts["AGENTS"].public)) == 0
