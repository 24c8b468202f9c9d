"""What KEDA is told is found where KEDA looks: in the monitoring answer of a real server, by account, stream and consumer."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cli import Cli
from tests.support.exports import exported
from tests.support.nats_client import Api
from tests.support.ports import free_port
from tests.support.servers import StartServer

MANIFEST = "org: acme\nroles: {cto: {scaling: {min: 0, max: 3}}}\n"
ACCOUNT = "accounts { ACME { jetstream: enabled, users: [{user: acme, password: acme}] } }"
TASKS = 3


def lag(trigger: dict[str, str]) -> int:
    """Return what KEDA (2.21) makes of a trigger: pending and in flight of the consumer that it finds."""
    query = urllib.parse.urlencode({"acc": trigger["account"], "consumers": "true", "config": "true"})
    with urllib.request.urlopen(f"http://{trigger['natsServerMonitoringEndpoint']}/jsz?{query}") as answer:
        (account,) = json.loads(answer.read())["account_details"]
    (stream,) = [each for each in account["stream_detail"] if each["name"] == trigger["stream"]]
    (found,) = [each for each in stream["consumer_detail"] if each["name"] == trigger["consumer"]]
    return int(found["num_pending"] + found["num_ack_pending"])


@pytest.mark.parametrize(("config", "login", "account"), [("", "", "$G"), (ACCOUNT, "acme:acme@", "ACME")])
def test_the_lag_that_keda_sees_is_what_waits_and_what_is_in_flight(  # of an account with a name and of the one without
    cli: Cli, project: Path, start_server: StartServer, config: str, login: str, account: str
) -> None:
    port = free_port()
    server = start_server(config=f"http: 127.0.0.1:{port}\n{config}")
    url = server.url.replace("://", f"://{login}")
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    assert cli("apply", "--yes", "--server", url).code == 0
    settings: dict[str, Any] = {"monitoring": f"127.0.0.1:{port}", "account": account}
    scaled = yaml.safe_load(exported("keda", MANIFEST, **settings).files["keda.yaml"])
    (trigger,) = scaled["spec"]["triggers"]
    assert lag(trigger["metadata"]) == 0
    with Api(url) as api:
        for _ in range(TASKS):
            api.publish("acme.agents.cto.tasks", b"{}")
        api.flush()
        assert lag(trigger["metadata"]) == TASKS
        handed_out = api.subscribe("_INBOX.worker")
        api.publish("$JS.API.CONSUMER.MSG.NEXT.AGENT_CTO_TASKS.cto-worker", reply="_INBOX.worker")
        handed_out.next()
        assert lag(trigger["metadata"]) == TASKS  # one of them is being worked on
