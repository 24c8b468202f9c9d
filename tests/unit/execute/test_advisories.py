"""What a notice was published on follows from what it says, wherever a stream keeps it."""

from __future__ import annotations

import json

import pytest

from cyborg_infra.live.execute.advisories import EVERY, _Entry
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource
from cyborg_infra.model.stored_messages import StoredMessage

STREAM = LiveResource(Ref("DEAD_LETTERS"), {"subjects": [EVERY, "acme.org.deadletter"]})
NOTICE = json.dumps({"type": "x.max_deliver", "id": "I1", "stream": "TASKS", "consumer": "worker"}).encode()


@pytest.mark.parametrize("subject", ["acme.org.deadletter.TASKS.worker", "dead", "worker.of.TASKS"])
def test_a_notice_is_published_where_the_server_published_it(subject: str) -> None:
    entry = _Entry.of(StoredMessage(subject, 1, "2026-01-01T00:00:00Z", NOTICE), STREAM)
    assert entry.subject == "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TASKS.worker"


@pytest.mark.parametrize("data", [NOTICE, b"no JSON", b"[" * 100_000])
def test_what_was_handed_in_stays_where_it_was(data: bytes) -> None:
    stored = StoredMessage("acme.org.deadletter", 1, "2026-01-01T00:00:00Z", data, (("Trace", "7"),))
    assert _Entry.of(stored, STREAM) == (stored.subject, data, (("Trace", "7"),))
