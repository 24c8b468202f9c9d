"""Reads stored messages, stores new ones and deletes old ones, one at a time. Knows nothing of what they mean."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any

from cyborg_infra.live.faults import ApiError
from cyborg_infra.live.jetstream import STREAM_NOT_FOUND, JetStream
from cyborg_infra.model.dead_letter import Headers, Message

NO_MESSAGE = (10037, 10057)  # not found, to a reader and to a deleter
READS_IN_FLIGHT = 64


async def sequences(server: JetStream, stream: str) -> list[int]:
    """The sequence numbers of all messages. Raises ApiError 10059 where there is no such stream."""
    doing = f"reading {stream}"
    row = await server.call(f"STREAM.INFO.{stream}", {"deleted_details": True}, doing=doing)
    state = row["state"]
    gaps = frozenset(state.get("deleted") or ())
    return [number for number in range(state["first_seq"], state["last_seq"] + 1) if number not in gaps]


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
