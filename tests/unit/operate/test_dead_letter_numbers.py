"""A dead letter's number means it and no other one, whatever the entries of DEAD_LETTERS say."""

from __future__ import annotations

import json
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.core.operate.dead_letters import Selection, decode_entry, one_per_message, select
from cyborg_infra.model.dead_letters import (
    CONSUMER_HEADER,
    NUMBER,
    SEQUENCE_HEADER,
    STORED_HEADER,
    STREAM_HEADER,
)
from cyborg_infra.model.organisation import Org, Role
from cyborg_infra.model.stored_messages import StoredMessage
from tests.support.draws import draws

ORG = Org("acme", (Role("cto"),))
TIME = "2026-01-01T00:00:00Z"
NOW = datetime.fromisoformat(TIME)


def notice(entry: int, sequence: int) -> StoredMessage:
    """Return the server's: this message of the cto's tasks used up its deliveries."""
    told = {"stream": "AGENT_CTO_TASKS", "consumer": "cto-worker", "stream_seq": sequence, "timestamp": TIME}
    return StoredMessage("acme.org.deadletter.x.y", entry, TIME, json.dumps(told).encode())


def copy(entry: int, sequence: int, number: int) -> StoredMessage:
    """Return a message that was kept."""
    told = {
        STREAM_HEADER: "AGENT_CTO_TASKS",
        CONSUMER_HEADER: "cto-worker",
        SEQUENCE_HEADER: str(sequence),
        STORED_HEADER: TIME,
        NUMBER: str(number),
    }
    return StoredMessage("acme.org.deadletter", entry, TIME, b"task", tuple(told.items()))


entries = st.lists(st.tuples(st.booleans(), st.integers(1, 6), st.integers(1, 8)), min_size=1, max_size=6)
"""Whether it is a copy; of which message; and which number it says. They are entries 1, 2, 3 and so on."""


@draws()
@given(entries)
def test_every_number_means_one_dead_letter(drawn: list[tuple[bool, int, int]]) -> None:
    messages = [
        copy(entry, sequence, number) if kept else notice(entry, sequence)
        for entry, (kept, sequence, number) in enumerate(drawn, 1)
    ]
    letters = one_per_message([decode_entry(message, ORG) for message in messages])
    numbers = [letter.number for letter in letters]
    assert len(set(numbers)) == len(numbers)
    assert numbers == sorted(numbers)
    for letter in letters:
        for number in (letter.number, letter.entry, *letter.other_numbers):
            assert select(letters, Selection((number,)), NOW) == [letter]
