"""Message ids that a copy does not know of what it has copied, told to it once it takes messages in. Moves nothing.

A cluster takes its duplicate_window from every mirror, and a single server does so at its start: see
`model.canonical`. Without one no id is remembered, and no later update looks for them. What a publisher without an
answer sends again after the replace would be a second message. So for each of the newest messages one more is stored
that has its id and nothing else, on the parking subject; with the marks there they are taken away again.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.messages import READS_IN_FLIGHT, messages
from cyborg_infra.model.fields import FIELDS, MESSAGE_ID, Config, Kind
from cyborg_infra.model.state import Ref, Resource, parking
from cyborg_infra.model.units import age

MOST = 10_000  # of the newest messages; each is read and stored again, some 8,000 a second

_ELSEWHERE = ("no_ack", "republish", "subject_transform")
"""With one of these what is published on the parking subject is not answered, or does not stay there."""


def are_unknown(copy: Resource, ingest: Config) -> bool:
    """Whether the copy, once it takes messages in like this, does not know the ids of what it has."""
    forgetful = "mirror" in copy.config and not copy.config.get("duplicate_window")
    return forgetful and bool(ingest.get("subjects")) and not any(ingest.get(name) for name in _ELSEWHERE)


def with_room(copy: Ref, ingest: Config) -> dict[str, Any]:
    """How the copy takes messages in, and ids beside them."""
    return {**ingest, "subjects": [*ingest["subjects"], parking(copy)]}


async def tell(server: JetStream, copy: Ref, origin: Ref, ingest: Config) -> None:
    """The copy knows the ids of the MOST newest messages of `origin` that are within its duplicate_window.

    The newest first: they are the likeliest to be sent again. Raises ServerFault; then it knows some of them.
    """
    row = await server.insist(f"STREAM.INFO.{origin}", doing=f"reading {origin}")
    window = ingest.get("duplicate_window") or FIELDS[Kind.STREAM]["duplicate_window"].default
    first, last = row["state"]["first_seq"], row["state"]["last_seq"]
    numbers = range(last, max(first - 1, last - MOST, 0), -1)

    async def one(name: str) -> None:
        doing = f"telling {copy} what it has"
        await server.publish(parking(copy), {}, {MESSAGE_ID: name}, doing=doing)

    for begin in range(0, len(numbers), READS_IN_FLIGHT):
        places = [(origin.stream, number) for number in numbers[begin : begin + READS_IN_FLIGHT]]
        found = [message for message in await messages(server, places) if message is not None]
        recent = [message for message in found if (age(message.time, row["ts"]) or 0) <= window]
        names = {value for message in recent for name, value in message.headers if name == MESSAGE_ID}
        await asyncio.gather(*(one(name) for name in names))
        if len(recent) < len(found):
            return
