"""A server that does what it is asked and answers too late: one apply converges, nothing is lost or done twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cyborg_infra.model.changes import Action
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.operations import provision
from tests.server.migrate.test_migration import (
    STREAM,
    SUBJECT,
    WORKER,
    assert_books_balance,
    assert_in_sync,
    preload,
)
from tests.support.delayed_replies import DelayedReplies
from tests.support.faults import Faults
from tests.support.scenario import Scenario, acked, published
from tests.support.servers import NEWEST, OLDEST, StartServer
from tests.support.traffic import Publisher, Worker, eventually

READER = "AGENT_INBOXES/cto-inbox-reader"
# One from earlier, and ours.
DELETES_PLACEHOLDER = "CONSUMER.DELETE.AGENT_INBOXES.cyborg-infra-placeholder-cto-inbox-reader"
BASIC = frozenset(
    {"STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "CONSUMER.CREATE", "CONSUMER.DELETE", "STREAM.MSG"}
)


def manifest(retention: str, waiting: int, roles: str = "cto") -> str:
    return (
        f"org: acme\nroles: [{roles}]\nstreams: {{tasks: {{retention: {retention}}}, inboxes: {{max_age: {waiting}h}}}}\n"
        f"consumers: {{worker: {{max_ack_pending: 20, ack_wait: 20s}}, inbox_reader: {{max_waiting: {waiting}}}}}\n"
    )


@pytest.mark.parametrize(
    ("version", "retention", "stream", "verbs"),
    [
        (NEWEST, "workqueue", Action.REPLACE, BASIC | {"CONSUMER.PAUSE", "CONSUMER.RESET", "STREAM.PURGE"}),
        (OLDEST, "limits", None, BASIC),
    ],
    ids=["newest", "oldest"],
)
def test_no_answer_to_any_write_comes_in_time(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    version: str,
    retention: str,
    stream: Action | None,
    verbs: set[str],
) -> None:
    """Creations, updates, a consumer's replace, a deletion and (since 2.12) a stream's replace under traffic, with the lease."""
    server = start_server(version=version)
    before, after = manifest("limits", 100, "cto, ops"), manifest(retention, 200, "cto, dev")
    with Scenario(server.url, tmp_path) as scene, DelayedReplies(server.port, faults) as way:
        scene.converge(before)
        old = preload(scene, 200)
        published("acme.agents.cto.inbox", 3)(scene)
        acked(READER, 2)(scene)
        wish = scene.request(after, prune=True)
        slowly = provision.resolve(provision.Flags(server=way.url, no_context=True, timeout="60s"), {})
        with Worker(scene.url, WORKER) as worker:
            with Publisher(scene.url, SUBJECT) as publisher:
                assert eventually(lambda: len(publisher.acknowledged) > 20)
                # The first that is finished, where nothing was, is a hazard that no plan has shown.
                assert eventually(lambda: bool(scene.info(WORKER)["ack_floor"]["stream_seq"]))
                plan = scene.plan(wish)
                actions = {str(change.ref): change.action for change in plan.changes}
                assert actions.get(STREAM) == stream
                assert set(Action) - {Action.ADOPT, Action.IMPOSSIBLE} <= {*actions.values()}
                outcomes = provision.apply(
                    provision.ApplyRequest(
                        plan,
                        allow=("stops-capture", "mass-change", *(["deletes-messages"] if stream else [])),
                        drain_timeout=5,
                        lock_timeout=5,
                    ),
                    slowly,
                )
                assert [outcome for outcome in outcomes if outcome.status is not ResultStatus.SUCCEEDED] == []
                seen = len(publisher.acknowledged)
                assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
            assert_books_balance(scene, old, publisher, worker)
        assert_in_sync(scene, after)
        assert scene.info(READER)["num_pending"] == 1
        sent = Counter(way.unheard)
        assert {verb for verb, times in sent.items() if times > 1} <= {(DELETES_PLACEHOLDER, b"\r\n")}
        assert {".".join(verb.split(".")[:2]) for verb, _ in sent} >= verbs
