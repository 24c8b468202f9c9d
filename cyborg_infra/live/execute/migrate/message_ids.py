"""Store the recent message ids of a copied stream in its copy, whose duplicate window is empty: a publisher's retry is still a duplicate.

A cluster takes its duplicate_window from every mirror, and a single server does so at its start: see
`model.normalise`. Without one no id is remembered, and no later update looks for them. What a publisher without an
answer sends again after the replace would be a second message. So for each of the newest messages one more is stored
that has its id and nothing else, on the subject of the fence; with the marks there they are taken away again.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.messages import MESSAGE_READS_IN_FLIGHT, read_messages
from cyborg_infra.model.fields import FIELDS, MESSAGE_ID, Config, Kind
from cyborg_infra.model.ref import Ref, fence_subject
from cyborg_infra.model.resources import LiveResource
from cyborg_infra.model.units import age

MAX_IDS = 10_000  # of the newest messages; each is read and stored again, some 8,000 a second

_EFFECT_FIELDS = ("no_ack", "republish", "subject_transform")
"""With one of these what is published on the subject of the fence is not answered, or does not stay there."""


def are_ids_unknown(copy: LiveResource, ingest: Config) -> bool:
    """Return whether the copy, once it takes messages in like this, does not know the ids of what it has."""
    forgetful = "mirror" in copy.config and not copy.get("duplicate_window")
    return forgetful and bool(ingest.get("subjects")) and not any(ingest.get(name) for name in _EFFECT_FIELDS)


def config_with_id_subjects(copy: Ref, ingest: Config) -> dict[str, Any]:
    """Return how the copy takes messages in, and ids beside them."""
    return {**ingest, "subjects": [*ingest["subjects"], fence_subject(copy)]}


async def store_message_ids(server: JetStream, copy: Ref, origin: Ref, ingest: Config) -> None:
    """Store in the copy the message ids of the MAX_IDS newest messages of `origin` within its duplicate_window.

    The newest first: they are the likeliest to be sent again. Raises ServerFault; then it knows some of them.
    """
    row = await server.request_with_retry(f"STREAM.INFO.{origin}", doing=f"reading {origin}")
    window = ingest.get("duplicate_window") or FIELDS[Kind.STREAM]["duplicate_window"].default
    first, last = row["state"]["first_seq"], row["state"]["last_seq"]
    numbers = range(last, max(first - 1, last - MAX_IDS, 0), -1)

    async def one(name: str) -> None:
        doing = f"telling {copy} what it has"
        await server.publish(fence_subject(copy), {}, {MESSAGE_ID: name}, doing=doing)

    for begin in range(0, len(numbers), MESSAGE_READS_IN_FLIGHT):
        places = [(origin.stream, number) for number in numbers[begin : begin + MESSAGE_READS_IN_FLIGHT]]
        found = [message for message in await read_messages(server, places) if message is not None]
        recent = [message for message in found if (age(message.time, row["ts"]) or 0) <= window]
        names = {value for message in recent for name, value in message.headers if name == MESSAGE_ID}
        await asyncio.gather(*(one(name) for name in names))
        if len(recent) < len(found):
            return
