"""One write, made until it holds: a lost answer is no failure, and nothing is sent again before reading what was done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from cyborg_infra.live.faults import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, ApiError, Unanswered
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.canonical import written
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.state import NOTES, Ref, Resource
from cyborg_infra.model.units import age

_REMOVAL = (0.1, 0.4, 1.5, 3.0, 5.0)
"""Seconds between two tries to find what was deleted removed."""

_HEARSAY = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds until a consumer is tried again whose stream the cluster may not have heard of."""

SECONDS_PER_PAIR = 1e-6
"""The server compares every subject of a stream with every other: 2,000 took 1.5 s, 10,000 20 to 38 s, 20,000 3 minutes (2.15.1)."""


async def write(
    server: JetStream,
    verb: str,
    body: Mapping[str, Any] | None = None,
    *,
    doing: str,
    holds: Callable[[], Awaitable[bool]],
    takes: float = 0.0,
) -> Mapping[str, Any] | None:
    """What was asked is done: returns the server's answer, or None where it was lost and `holds` says so.

    It may take so many seconds longer than most requests do.
    Raises what the server answered, or that it did not, if it is not done or cannot be read.
    """

    async def attempt() -> Mapping[str, Any] | None:
        try:
            return await server.call(verb, body, doing=doing, longer=takes)
        except (Unanswered, ApiError) as fault:
            if (
                isinstance(fault, ApiError) and fault.unwritten
            ):  # what it says that it holds is not on its disk
                raise
            if not await _known(server, holds):
                raise
            return None

    return await server.patiently(attempt)


async def create_stream(server: JetStream, wanted: Resource, doing: str) -> Mapping[str, Any] | None:
    """There is a stream like this. Raises as `write` does."""
    return await _put(server, f"STREAM.CREATE.{wanted.ref}", wanted.config, wanted, doing)


async def create_empty(
    server: JetStream, wanted: Resource, doing: str, has_begun_empty: Callable[[Resource], bool]
) -> None:
    """There is a stream like this that held nothing. Raises as `write` does, and ServerFault where there is none to be had.

    A server moves a deleted stream aside and removes it behind its answer. As long as it does, the next deletion under
    that name leaves the files, and the next stream begins with what is in them (2.10.26 to 2.15.1). To copy into that
    one would take its messages for the first of the origin. Where the answer is lost, the stream may hold by now what it
    has copied: then `has_begun_empty` tells.
    """
    for pause in (*_REMOVAL, 0.0):
        answer = await create_stream(server, wanted, doing)
        if answer is not None:
            empty = not _begun(answer)
        else:
            found = await server.info(wanted.ref)
            empty = found is not None and has_begun_empty(found)
        if empty:
            return
        await delete(server, wanted.ref)
        await asyncio.sleep(pause)
    if answer is None:
        raise ServerFault(
            Problem(
                "not-known-empty",
                f"{doing}: its answers are lost, and without one it is not known whether the stream began empty",
                None,
                "apply again when the server answers in time",
            )
        )
    raise ServerFault(
        Problem(
            "not-removed",
            f"{doing}: the server still has the files of an earlier stream {wanted.ref}, and begins the new one with them",
            None,
            "apply again when it has removed them",
        )
    )


def _begun(answer: Mapping[str, Any]) -> bool:
    """Whether a stream that was just created has held something."""
    first: int = answer["config"].get("first_seq", 0)
    state = answer["state"]
    return bool(state["messages"] or state["last_seq"] > max(0, first - 1))


def older_messages(answer: Mapping[str, Any]) -> int:
    """How many messages a stream that was just created has, if they are older than itself: see `create_empty`."""
    messages: int = answer["state"]["messages"]
    return messages if messages and age(answer["state"]["first_ts"], answer["created"]) else 0


async def update_stream(server: JetStream, wanted: Resource, doing: str) -> Mapping[str, Any] | None:
    """The stream is like this. Raises as `write` does."""
    return await _put(server, f"STREAM.UPDATE.{wanted.ref}", wanted.config, wanted, doing)


async def create_consumer(server: JetStream, wanted: Resource, doing: str) -> Mapping[str, Any] | None:
    """There is a consumer like this. Raises as `write` does.

    A new stream's own server answers for it before who leads the cluster has heard of it: then there is no stream yet
    (10059, seen on 2.10.26).
    """
    for pause in _HEARSAY:
        try:
            return await _put_consumer(server, wanted, "create", doing)
        except ApiError as error:
            if error.err_code != STREAM_NOT_FOUND or not server.clustered:
                raise
        await asyncio.sleep(pause)
    return await _put_consumer(server, wanted, "create", doing)


async def update_consumer(server: JetStream, wanted: Resource, doing: str) -> Mapping[str, Any] | None:
    """The consumer is like this. Raises as `write` does."""
    return await _put_consumer(server, wanted, "update", doing)


async def delete(server: JetStream, ref: Ref, doing: str = "") -> None:
    """There is no such stream or consumer, and if there was none already. Raises as `write` does.

    Whoever decides in a cluster knows it first: another server may still answer for what is gone (seen on 2.15.1).
    """
    name = f"CONSUMER.DELETE.{ref.stream}.{ref.consumer}" if ref.consumer else f"STREAM.DELETE.{ref}"

    async def gone() -> bool:
        return await server.info(ref) is None

    try:
        await write(server, name, doing=doing or f"deleting {ref}", holds=gone)
    except ApiError as error:
        if error.err_code not in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
            raise


def labels(resource: Resource) -> dict[str, str]:
    """The metadata that the plan knows of: neither the server's nor the notes of an earlier replace."""
    return written(resource.metadata, *NOTES)


def is_like(one: Resource, other: Resource) -> bool:
    """Whether both are configured alike and carry the same marks."""
    return (one.canonical(), labels(one)) == (other.canonical(), labels(other))


async def is_held(server: JetStream, wanted: Resource) -> bool:
    """Whether the server has a stream or consumer like this. Raises ServerFault if it does not say."""
    live = await server.info(wanted.ref)
    return live is not None and is_like(live, wanted)


async def _put_consumer(
    server: JetStream, wanted: Resource, action: str, doing: str
) -> Mapping[str, Any] | None:
    body = {"stream_name": wanted.ref.stream, "config": wanted.config, "action": action}
    verb = f"CONSUMER.CREATE.{wanted.ref.stream}.{wanted.ref.consumer}"
    return await _put(server, verb, body, wanted, doing)


async def _put(
    server: JetStream, verb: str, body: Mapping[str, Any], wanted: Resource, doing: str
) -> Mapping[str, Any] | None:
    subjects = len(wanted.config.get("subjects") or ())
    takes = SECONDS_PER_PAIR * subjects**2
    return await write(server, verb, body, doing=doing, holds=partial(is_held, server, wanted), takes=takes)


async def _known(server: JetStream, holds: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it is known to hold."""
    try:
        return await server.patiently(holds)
    except ServerFault:
        return False
