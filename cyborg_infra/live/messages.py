"""Reads stored messages, stores new ones and deletes old ones, one at a time. Knows nothing of what they mean."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cyborg_infra.live.faults import STREAM_NOT_FOUND, ApiError
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.dead_letter import Headers, Held, Message
from cyborg_infra.model.problems import Problem, ServerFault

NO_MESSAGE = (10037, 10043, 10057)  # not found: to a reader, to a deleter beyond the end or in a gap
READS_IN_FLIGHT = 64


class Stored(NamedTuple):
    """The numbers of the messages of a stream; `whole` if none that came behind a given one is gone."""

    numbers: Sequence[int]
    whole: bool


async def sequences(server: JetStream, stream: str, *, after: int = 0) -> Stored:
    """The messages behind number `after`. Raises ApiError 10059 where there is no such stream."""
    doing = f"reading {stream}"
    row = await server.insist(f"STREAM.INFO.{stream}", {"deleted_details": True}, doing=doing)
    state = row["state"]
    gaps = frozenset(state.get("deleted") or ())
    first, last = max(state["first_seq"], after + 1), state["last_seq"]
    numbers = [number for number in range(first, last + 1) if number not in gaps]
    return Stored(numbers, len(numbers) == last - after)


async def held(server: JetStream, stream: str, subject: str) -> Held:
    """How full the stream is, and of how many messages on this subject. Raises ApiError 10059 where there is none."""
    body = {"subjects_filter": subject}
    row = await server.insist(f"STREAM.INFO.{stream}", body, doing=f"reading {stream}")
    state = row["state"]
    on_subject = (state.get("subjects") or {}).get(subject, 0)
    return Held(row["config"], state["messages"], state["bytes"], state["first_seq"], on_subject)


async def stream_of(server: JetStream, subject: str) -> str:
    """The stream that stores what is published there. Raises ServerFault if there is none."""
    row = await server.insist(
        "STREAM.NAMES", {"subject": subject}, doing=f"looking for the stream of {subject}"
    )
    names = row.get("streams") or ()
    if not names:
        raise ServerFault(
            Problem("no-stream", f"no stream stores {subject}", None, "cyborg-infra apply makes it")
        )
    name: str = names[0]
    return name


async def messages(server: JetStream, places: Sequence[tuple[str, int]]) -> list[Message | None]:
    """For each (stream, sequence number) what is stored there; None where there is no message, or no stream."""
    reading = asyncio.Semaphore(READS_IN_FLIGHT)

    async def one(stream: str, sequence: int) -> Message | None:
        async with reading:
            return await message(server, stream, sequence)

    return await asyncio.gather(*(one(stream, sequence) for stream, sequence in places))


async def message(server: JetStream, stream: str, sequence: int) -> Message | None:
    """One stored message, or None if it is not there, or its stream is not."""
    doing = f"reading {stream}/{sequence}"
    try:
        row = await server.call(f"STREAM.MSG.GET.{stream}", {"seq": sequence}, doing=doing)
    except ApiError as error:
        if error.err_code in (*NO_MESSAGE, STREAM_NOT_FOUND):
            return None
        raise
    return as_message(row["message"])


def as_message(found: Mapping[str, Any]) -> Message:
    """A message as STREAM.MSG.GET has it."""
    return Message(
        found["subject"],
        found["seq"],
        found["time"],
        base64.b64decode(found.get("data", "")),
        _headers(base64.b64decode(found.get("hdrs", ""))),
    )


async def delete(server: JetStream, stream: str, sequence: int) -> None:
    """The message is gone, if it was there."""
    doing = f"deleting {stream}/{sequence}"
    try:
        await server.call(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence}, doing=doing)
    except ApiError as error:
        if error.err_code not in (*NO_MESSAGE, STREAM_NOT_FOUND):
            raise


def _headers(block: bytes) -> Headers:
    """The lines after the first, which names the protocol."""
    lines = block.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)
