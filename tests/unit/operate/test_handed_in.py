"""Whose a dead letter is that an agent handed in: his own word for it, and no more."""

from __future__ import annotations

import pytest

from cyborg_infra.core.operate.dead_letters import decode_entry
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.dead_letters import DeathType
from cyborg_infra.model.stored_messages import StoredMessage

ORG = loads(
    """
org: acme
roles:
  cto:
  backend: {renamed_from: coder}
naming: {subject_prefix: acme.eu}
channels:
  control: {of: role, durable: true, publishers: [cto]}
"""
)


@pytest.mark.parametrize(
    ("body", "subject", "role"),
    [
        (b"{}", "acme.eu.agents.cto.tasks", "cto"),
        (b"no JSON", "acme.eu.agents.backend.inbox", "backend"),
        (b"{}", "acme.eu.agents.coder.tasks", "backend"),
        (b"{}", "acme.eu.agents.cto.control", "cto"),
        (b'{"assigned_to": "backend"}', "acme.eu.agents.cto.tasks", "backend"),
        (b'{"assigned_to": "nobody"}', "acme.eu.agents.cto.tasks", "cto"),
        (b'{"assigned_to": "backend"}', "", "backend"),
        (b"{}", "", ""),
        (b"{}", "acme.eu.agents.nobody.tasks", ""),
        (b"{}", "acme.eu.agents.*.tasks", ""),
        (b"{}", "acme.agents.cto.tasks", ""),
        (b"{}", "acme.eu.org.broadcast", ""),
        (b"{}", "acme b", ""),
    ],
)
def test_its_role_is_the_one_that_it_is_assigned_to_or_whose_channel_it_names(
    body: bytes, subject: str, role: str
) -> None:
    said = (("Cyborg-Infra-Subject", subject),) if subject else ()
    entry = StoredMessage("acme.eu.org.deadletter", 1, "2026-01-01T00:00:00Z", body, said)
    letter = decode_entry(entry, ORG)
    assert (letter.role, letter.type) == (role, DeathType.GIVEN_UP)
