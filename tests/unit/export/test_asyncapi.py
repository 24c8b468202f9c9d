"""The AsyncAPI document; the parser of AsyncAPI itself reads one in `make judges`."""

from __future__ import annotations

from typing import Any

import yaml

from tests.support.exports import exported

MANIFEST = """
org: acme
roles: {ceo: {}, cto: {reports_to: ceo}, backend: {reports_to: cto}}
channels: {meetings: {of: org, subject: "meetings.*.>", durable: true, readers: [ceo]}}
events: {deploy.complete: {durable: true, publishers: [cto], subscribers: [backend]}, ci.result: {publishers: [cto], subscribers: [ceo]}}
"""


def document(manifest: str = MANIFEST, **settings: str) -> Any:
    return yaml.safe_load(exported("asyncapi", manifest, **settings).files["asyncapi.yaml"])


def references(value: Any) -> list[str]:
    match value:
        case {"$ref": str(where)}:
            return [where]
        case dict():
            return [found for each in value.values() for found in references(each)]
        case list():
            return [found for each in value for found in references(each)]
    return []


def test_every_reference_leads_somewhere_and_no_schema_has_one() -> None:
    made = document()
    for where in references(made):
        place = made
        for part in where.removeprefix("#/").split("/"):
            place = place[part]
    assert references(made["components"]) == []


def test_a_channel_has_its_address_with_parameters_and_says_what_stores_it() -> None:
    found = document()["channels"]
    assert found["tasks"]["address"] == "acme.agents.{role}.tasks"
    assert found["tasks"]["parameters"]["role"]["enum"] == ["ceo", "cto", "backend"]
    assert found["meetings"]["address"] == "acme.meetings.{token3}.{rest}"
    assert set(found["meetings"]["parameters"]) == {"token3", "rest"}
    assert found["inbox"]["x-jetstream"]["stream"] == "AGENT_INBOXES"
    assert found["event.deploy.complete"]["x-jetstream"]["stream"] == "ORG_EVENTS"
    assert "x-jetstream" not in found["event.ci.result"]
    assert found["requests.replies"]["address"] is None


def test_a_role_sends_and_receives_what_the_chart_and_the_events_say() -> None:
    found = document()["operations"]
    cto = {name.removeprefix("cto-") for name in found if name.startswith("cto-")}
    assert cto == {
        *(
            "sends-tasks",
            "sends-inbox",
            "sends-status",
            "sends-requests",
            "sends-meetings",
            "sends-broadcasts",
        ),
        *("sends-dead_letters", "sends-event.deploy.complete", "sends-event.ci.result"),
        *("receives-tasks", "receives-inbox", "receives-requests", "receives-broadcasts"),
    }
    assert found["cto-sends-tasks"]["x-roles"] == ["backend"]
    assert "backend-sends-tasks" not in found
    assert (
        found["backend-receives-event.deploy.complete"]["x-jetstream"]["consumer"] == "backend-event-reader"
    )
    assert found["ceo-receives-event.ci.result"]["action"] == "receive"
    assert found["ceo-receives-meetings"]["x-jetstream"]["stream"] == "ORG_MEETINGS"
    assert found["cto-receives-tasks"]["x-jetstream"] == {
        "stream": "AGENT_CTO_TASKS",
        "consumer": "cto-worker",
        "ack_policy": "explicit",
        "ack_wait": "30m",
        "max_deliver": 3,
    }
    assert found["cto-sends-requests"]["reply"]["channel"] == {"$ref": "#/channels/requests.replies"}


def test_the_server_is_the_one_that_it_is_told() -> None:
    assert document(server="tls://nats.acme.example:4222")["servers"]["nats"] == {
        "host": "nats.acme.example:4222",
        "protocol": "tls",
    }
