"""The reasons that warnings give are facts: what a costly setting does on a real server."""

from __future__ import annotations

import json
from typing import Any

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.units import DAY, MILLISECOND, SECOND
from tests.support.agents import until
from tests.support.nats_client import Api


def made(api: Api, name: str, **config: Any) -> dict[str, Any]:
    """Return a stream for `<name>.>` as the server made it."""
    subjects = {"name": name, "subjects": [f"{name}.>"]}
    found: dict[str, Any] = api.request(f"$JS.API.STREAM.CREATE.{name}", subjects | config)["config"]
    return found


def reader(api: Api, stream: str, name: str, **config: Any) -> None:
    body = {"name": name, "durable_name": name, "ack_policy": "explicit"} | config
    answer = api.request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": body})
    assert "error" not in answer, answer


def messages(api: Api, stream: str) -> int:
    found: int = api.request(f"$JS.API.STREAM.INFO.{stream}")["state"]["messages"]
    return found


def error(api: Api, verb: str) -> int | None:
    found: int | None = api.request(f"$JS.API.{verb}").get("error", {}).get("err_code")
    return found


def test_the_reasons_of_warnings_are_facts(any_server: EmbeddedServer) -> None:
    with Api(any_server.url) as api, Api(any_server.url) as other:
        # no-duplicate-window
        assert made(api, "plain", duplicate_window=0)["duplicate_window"] == 120 * SECOND
        # drops-unread: these two limits delete, whatever discard says
        made(api, "aging", discard="new", max_age=200 * MILLISECOND, duplicate_window=200 * MILLISECOND)
        api.request("aging.a")
        made(api, "each", discard="new", max_msgs_per_subject=2)
        assert [api.request("each.a").get("error") for _ in range(5)] == [None] * 5
        assert messages(api, "each") == 2
        # bounded-task-state
        made(api, "bucket", discard="new", max_bytes=1000, max_msgs_per_subject=1)
        assert "error" not in api.request("bucket.a", "x" * 400)
        assert api.request("bucket.b", "x" * 600)["error"]["err_code"] == ErrorCode.JSStreamStoreFailedF
        # push-to-all
        reader(api, "plain", "pushed", deliver_subject="out")
        heard = api.subscribe("out"), other.subscribe("out")
        api.request("plain.a", "task")
        assert [json.loads(each.next().data) for each in heard] == ["task", "task"]
        # short-ack-wait: a later step of backoff is the ack_wait of a later delivery
        reader(api, "plain", "stepping", max_deliver=3, backoff=[100 * MILLISECOND, DAY])
        pulled = api.subscribe("pulled")
        api.publish(
            "$JS.API.CONSUMER.MSG.NEXT.plain.stepping",
            json.dumps({"batch": 2, "expires": 10 * SECOND}).encode(),
            reply="pulled",
        )
        assert [pulled.next().reply.split(".")[4] for _ in range(2)] == ["1", "2"]
        # vanishing-consumer
        reader(api, "plain", "vanishing", inactive_threshold=100 * MILLISECOND)
        until(lambda: error(api, "CONSUMER.INFO.plain.vanishing") == ErrorCode.JSConsumerNotFoundErr)
        until(lambda: messages(api, "aging") == 0)
        # memory-storage, memory-progress
        made(api, "forgotten", storage="memory")
        reader(api, "plain", "forgetful", mem_storage=True)
    any_server.stop()
    any_server.start()
    with Api(any_server.url) as api:
        assert error(api, "STREAM.INFO.plain") is None
        assert error(api, "STREAM.INFO.forgotten") == ErrorCode.JSStreamNotFoundErr
        assert error(api, "CONSUMER.INFO.plain.stepping") is None
        assert error(api, "CONSUMER.INFO.plain.forgetful") == ErrorCode.JSConsumerNotFoundErr
