"""Where a dead letter is published again, whatever has become of its channel since."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cyborg_infra.core.operate.dead_letters import current_subject
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.dead_letters import DeadLetter, DeathType, MessageLocation

ROLES = "org: acme\nroles: [cto, cso]\n"
TIME = "2026-01-01T00:00:00Z"
TASK = DeadLetter(
    1, 1, TIME, DeathType.TERMINATED, MessageLocation.STORED, "AGENT_CTO_TASKS", 1, "cto-worker", "cto"
)
INBOX = replace(TASK, stream="AGENT_INBOXES", consumer="cto-inbox-reader")
OWN = replace(TASK, stream="ORG_X", consumer="cto-x-reader")


@pytest.mark.parametrize(
    ("letter", "subject", "more", "expected"),
    [
        (TASK, "acme.agents.cto.tasks", "", "acme.agents.cto.tasks"),
        (TASK, "acme.agents.cto.tasks", "channels: {tasks: {subject: 'work.{role}'}}", "acme.work.cto"),
        (TASK, "acme.agents.cto.tasks", "naming: {subject_prefix: ''}", "agents.cto.tasks"),
        (TASK, "agents.cto.tasks", "", "acme.agents.cto.tasks"),
        (INBOX, "acme.agents.cto.inbox", "naming: {subject_prefix: eu.acme}", "eu.acme.agents.cto.inbox"),
        # Somebody may have made it read another role's: that is where it was sent.
        (INBOX, "acme.agents.cso.inbox", "", "acme.agents.cso.inbox"),
        (
            TASK,
            "acme.agents.cto.tasks.a.b",
            "channels: {tasks: {subject: 'agents.{role}.tasks.>', send_to: assigned}}\nnaming: {subject_prefix: eu}",
            "eu.agents.cto.tasks.a.b",
        ),
        (OWN, "acme.x.a.b", "channels: {x: {of: org, durable: true, subject: 'x.*.b'}}", "acme.x.a.b"),
        (
            OWN,
            "acme.x.a.b",
            "channels: {x: {of: org, durable: true, subject: 'y.*.b'}}",
            "acme.x.a.b",
        ),  # who knows
        (OWN, "acme.x.a.b", "", "acme.x.a.b"),
    ],
)
def test_its_channel_tells_the_subject(letter: DeadLetter, subject: str, more: str, expected: str) -> None:
    assert current_subject(subject, letter, loads(f"{ROLES}{more}\n")) == expected
