"""Read, list and delete stored messages."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.replies import BadAnswer
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.stored_messages import Headers, StoredMessage, StreamUsage
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Command, worded

NO_MESSAGE_CODES = (
    ErrorCode.JSNoMessageFoundErr,  # to a reader
    ErrorCode.JSSequenceNotFoundErrF,  # to a deleter beyond the end
    ErrorCode.JSStreamMsgDeleteFailedF,  # or in a gap
)
MESSAGE_READS_IN_FLIGHT = 64
# Messages of a stream that are looked for one by one: each is a request, so they take minutes.
MAX_SEQUENCES = 1_000_000


class SequenceList(NamedTuple):
    """The numbers of the messages of a stream; `whole` if none that came behind a given one is gone."""

    numbers: Sequence[int]
    whole: bool


async def list_sequences(server: JetStream, stream: str, *, after: int = 0) -> SequenceList:
    """Return the sequence numbers of the stream's messages that come after number `after`.

    Raises ApiError 10059 where there is no such stream, and ServerFault where it has more than MOST.
    """
    doing = f"reading {stream}"
    row = await server.request_with_retry(f"STREAM.INFO.{stream}", {"deleted_details": True}, doing=doing)
    state = row["state"]
    gaps = frozenset(state.get("deleted") or ())
    first, last = max(state["first_seq"], after + 1), state["last_seq"]
    if last - first - len(gaps) >= MAX_SEQUENCES:
        raise ServerFault(
            Problem(
                "too-many",
                f"{doing}: it holds {last + 1 - first - len(gaps):,} messages, and {MAX_SEQUENCES:,} are the most that are looked through",
                None,
                "delete what is not needed any more, with `nats stream purge` for example",
            )
        )
    numbers = [number for number in range(first, last + 1) if number not in gaps]
    return SequenceList(numbers, len(numbers) == last - after)


async def subjects(server: JetStream, stream: str, *, doing: str) -> dict[str, int]:
    """Return how many messages of every subject it holds, over all pages. Raises as `JetStream.request`."""
    found: dict[str, int] = {}
    while True:
        body = {"subjects_filter": ">", "offset": len(found)}
        row = await server.request(f"STREAM.INFO.{stream}", body, doing=doing)
        page = row["state"].get("subjects") or {}
        if not page.keys() - found.keys():
            return found
        found |= page
        if len(found) >= row.get("total", len(found)):
            return found


async def read_stream_usage(server: JetStream, stream: str, subject: str) -> StreamUsage:
    """Return how full the stream is, and of how many messages on this subject. Raises ApiError 10059 where there is none."""
    body = {"subjects_filter": subject}
    row = await server.request_with_retry(f"STREAM.INFO.{stream}", body, doing=f"reading {stream}")
    state = row["state"]
    on_subject = (state.get("subjects") or {}).get(subject, 0)
    return StreamUsage(row["config"], state["messages"], state["bytes"], state["first_seq"], on_subject)


NO_STREAM_CODE = "no-stream"


async def find_stream(server: JetStream, subject: str) -> str:
    """Return the stream that stores what is published there. Raises ServerFault if there is none."""
    names = await find_streams(server, subject)
    if not names:
        raise ServerFault(
            Problem(
                NO_STREAM_CODE, f"no stream stores {subject}", None, worded("{} makes it", Command("apply"))
            )
        )
    return names[0]


async def find_streams(server: JetStream, subject: str) -> Sequence[str]:
    """Return the streams that store what is published there, or on some subject of it where it has wildcards."""
    row = await server.request_with_retry(
        "STREAM.NAMES", {"subject": subject}, doing=f"looking for the stream of {subject}"
    )
    names: Sequence[str] = row.get("streams") or ()
    return names


async def read_messages(server: JetStream, places: Sequence[tuple[str, int]]) -> list[StoredMessage | None]:
    """Return for each (stream, sequence number) what is stored there; None where there is no message, or no stream."""
    reading = asyncio.Semaphore(MESSAGE_READS_IN_FLIGHT)

    async def one(stream: str, sequence: int) -> StoredMessage | None:
        async with reading:
            return await read_message(server, stream, sequence)

    return await asyncio.gather(*(one(stream, sequence) for stream, sequence in places))


async def read_message(server: JetStream, stream: str, sequence: int) -> StoredMessage | None:
    """Return one stored message, or None if it is not there, or its stream is not."""
    doing = f"reading {stream}/{sequence}"
    try:
        return decode_message(await get_message(server, stream, {"seq": sequence}, doing=doing))
    except ApiError as error:
        if error.err_code in (*NO_MESSAGE_CODES, ErrorCode.JSStreamNotFoundErr):
            return None
        raise


async def get_message(
    server: JetStream, stream: str, which: Mapping[str, Any], *, doing: str
) -> Mapping[str, Any]:
    """Return the message that was asked for, as STREAM.MSG.GET has it. Raises as `JetStream.request`, and BadAnswer for another one."""
    verb = f"STREAM.MSG.GET.{stream}"
    found: Mapping[str, Any] = (await server.request(verb, which, doing=doing))["message"]
    asked, number = which.get("seq", 0), found["seq"]
    if number < asked or (number > asked and "next_by_subj" not in which and asked):
        raise BadAnswer(doing, "STREAM.MSG.GET", f"with message {number} where {asked} was asked for")
    return found


def decode_message(found: Mapping[str, Any]) -> StoredMessage:
    """Return a message as STREAM.MSG.GET has it."""
    return StoredMessage(
        found["subject"],
        found["seq"],
        found["time"],
        base64.b64decode(found.get("data", "")),
        decode_headers(base64.b64decode(found.get("hdrs", ""))),
    )


async def delete_message(server: JetStream, stream: str, sequence: int) -> bool:
    """Delete the message; return whether it was there."""
    doing = f"deleting {stream}/{sequence}"
    try:
        await server.request(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence}, doing=doing)
    except ApiError as error:
        if error.err_code not in (*NO_MESSAGE_CODES, ErrorCode.JSStreamNotFoundErr):
            raise
        return False
    return True


def decode_headers(block: bytes) -> Headers:
    """Return the headers of a message as the server sends them: the lines after the first, which names the protocol."""
    lines = block.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)
