"""A bucket of ours is a bucket to every client, and a client's bucket is ours as it is: here with nats-py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import nats
import pytest
import yaml
from nats.js.errors import KeyNotFoundError

from cyborg_infra.core.planning.diff import is_ownership_change
from cyborg_infra.model.changes import Action
from tests.support.cli import Cli
from tests.support.scenario import Scenario

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

ORG = (
    "org: acme\nroles: [cto]\ntask_state: true\nkey_value: {drafts: {history: 5, ttl: 72h, max_bytes: 1GB}}\n"
)

pytestmark = pytest.mark.versions


def test_nats_py_works_with_a_bucket_of_ours(scenario: Scenario) -> None:
    scenario.converge(ORG)

    async def used(js: JetStreamContext) -> None:
        documents = await js.key_value("acme-tasks")
        status = await documents.status()
        assert (status.bucket, status.history, status.ttl) == ("acme-tasks", 10, 0)
        watcher: Any = await documents.watchall()  # not typed in nats-py
        states = (b"assigned", b"accepted", b"in_progress", b"completed_unverified", b"completed")
        first = await documents.create("T-1", states[0])
        revision = first
        for state in states[1:]:
            revision = await documents.update("T-1", state, last=revision)
        assert (await documents.get("T-1")).value == states[-1]
        assert (await documents.get("T-1", revision=first)).value == states[0]
        assert [entry.value for entry in await documents.history("T-1")] == list(states)
        seen = [entry.value async for entry in _entries(watcher, len(states))]
        assert seen == list(states)
        await watcher.stop()
        await documents.delete("T-1")
        await documents.put("T-2", b"assigned")
        assert await documents.keys() == ["T-2"]
        await documents.purge("T-2")
        assert await _missing(documents, "T-1")
        assert await _missing(documents, "T-2")
        await documents.purge_deletes(olderthan=0)

    asyncio.run(_with(scenario.url, used))
    assert not scenario.plan(scenario.request(ORG))


async def _entries(watcher: Any, count: int) -> AsyncIterator[KeyValue.Entry]:
    while count:
        entry = await watcher.updates(timeout=60)
        if entry is not None:  # None ends what was there at the beginning
            count -= 1
            yield entry


async def _missing(bucket: KeyValue, key: str) -> bool:
    try:
        await bucket.get(key)
    except KeyNotFoundError:
        return True
    return False


async def _with(url: str, used: Callable[[JetStreamContext], Awaitable[None]]) -> None:
    connection = await nats.connect(url)
    try:
        await used(connection.jetstream())
    finally:
        await connection.close()


def test_a_bucket_of_nats_py_is_adopted_without_a_change(cli: Cli, scenario: Scenario) -> None:
    async def made(js: JetStreamContext) -> None:
        drafts = await js.create_key_value(
            bucket="drafts", history=5, ttl=72 * 3600, max_bytes=2**30, direct=True
        )
        await drafts.put("one", b"first")
        await js.create_key_value(bucket="acme-tasks", history=10)
        await js.create_key_value(bucket="acme-notes", description="short", max_value_size=1024)

    asyncio.run(_with(scenario.url, made))
    plan = scenario.plan(scenario.request(ORG))
    adopted = {str(change.ref): change for change in plan.changes if change.action is Action.ADOPT}
    assert set(adopted) == {"KV_drafts", "KV_acme-tasks"}
    assert [
        field for change in adopted.values() for field in change.fields if not is_ownership_change(field)
    ] == []

    scenario.converge("org: acme\nroles: [cto]\n")
    found = cli("import", "--org", "acme", "--server", scenario.url)
    assert yaml.safe_load(found.out) == {
        "org": "acme",
        "roles": ["cto"],
        "task_state": True,
        "key_value": {"acme-notes": {"description": "short", "max_value_size": "1KB", "allow_direct": False}},
    }
    assert "KV_drafts is a key-value bucket and is left alone" in " ".join(found.err.split())
    scenario.converge(found.out)
    scenario.converge(ORG)
    assert scenario.api.ask("$JS.API.DIRECT.GET.KV_drafts.$KV.drafts.one").data == b"first"
