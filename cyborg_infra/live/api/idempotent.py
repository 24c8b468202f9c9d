"""Idempotent writes: after a lost answer read what holds, and write again only if it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cyborg_infra.live import timing
from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import Unanswered
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.metadata_keys import STATE_KEYS
from cyborg_infra.model.normalise import user_labels, without_server_labels
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, Resource
from cyborg_infra.model.units import age

SECONDS_PER_PAIR = 1e-6
"""The server compares every subject of a stream with every other: 2,000 took 1.5 s, 10,000 20 to 38 s, 20,000 3 minutes (2.15.1)."""


async def write_once(
    server: JetStream,
    verb: str,
    body: Mapping[str, Any] | None = None,
    *,
    doing: str,
    holds: Callable[[], Awaitable[bool]],
    answer_seconds: float = 0.0,
) -> Mapping[str, Any] | None:
    """Send a write until it holds. Returns the server's answer, or None where it was lost and `holds` confirms it.

    It may take so many seconds longer than most requests do.
    Raises what the server answered, or that it did not, if it is not done or cannot be read.
    """

    async def attempt() -> Mapping[str, Any] | None:
        try:
            return await server.request(verb, body, doing=doing, longer=answer_seconds)
        except (Unanswered, ApiError) as fault:
            if (
                isinstance(fault, ApiError) and fault.is_disk_failure
            ):  # what it says that it holds is not on its disk
                raise
            if not await _is_confirmed(server, holds):
                raise
            return None

    return await server.retry(attempt)


async def create_stream(server: JetStream, wanted: Resource, doing: str) -> Mapping[str, Any] | None:
    """Create the stream. Raises as `write_once` does.

    Behind the deletion of an account's last stream the server removes the account's directory. A stream that is created
    just then has no place for its store (10049, seen on 2.10.26).
    """
    verb, body = f"STREAM.CREATE.{wanted.ref}", without_server_labels(wanted.config)
    for pause in timing.STORE_BACKOFF_SECONDS:
        try:
            return await _put(server, verb, body, wanted, doing)
        except ApiError as error:
            if error.err_code != ErrorCode.JSStreamCreateErrF or not error.is_disk_failure:
                raise
        await asyncio.sleep(pause)
    return await _put(server, verb, body, wanted, doing)


async def create_empty(
    server: JetStream, wanted: Resource, doing: str, has_begun_empty: Callable[[LiveResource], bool]
) -> None:
    """Create the stream, and make sure that it is empty. Raises as `write_once` does, and ServerFault if it cannot be had empty.

    A server moves a deleted stream aside and removes it behind its answer. As long as it does, the next deletion under
    that name leaves the files, and the next stream begins with what is in them (2.10.26 to 2.15.1). To copy into that
    one would take its messages for the first of the origin. Where the answer is lost, the stream may hold by now what it
    has copied: then `has_begun_empty` tells.
    """
    for pause in (*timing.REMOVAL_BACKOFF_SECONDS, 0.0):
        answer = await create_stream(server, wanted, doing)
        if answer is not None:
            empty = not begins_with_files(answer)
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


def begins_with_files(answer: Mapping[str, Any]) -> bool:
    """Return whether a stream that was just created has held something."""
    first: int = answer["config"].get("first_seq", 0)
    state = answer["state"]
    return bool(state["messages"] or state["last_seq"] > max(0, first - 1))


def count_older_messages(answer: Mapping[str, Any]) -> int:
    """Return how many messages a stream that was just created has, if they are older than itself: see `create_empty`."""
    messages: int = answer["state"]["messages"]
    return messages if messages and age(answer["state"]["first_ts"], answer["created"]) else 0


async def update_stream(server: JetStream, wanted: Resource, doing: str) -> Mapping[str, Any] | None:
    """Update the stream. Raises as `write_once` does."""
    return await _put(
        server, f"STREAM.UPDATE.{wanted.ref}", without_server_labels(wanted.config), wanted, doing
    )


async def update_streams_together(server: JetStream, wanted: Sequence[Resource], doing: str) -> None:
    """Update the streams, each once the one before holds, with as little as there can be in between: all are sent at once.

    What is refused because it came too early, or is not answered, is sent again. Raises as `write_once` does.
    """
    requests = [(f"STREAM.UPDATE.{stream.ref}", without_server_labels(stream.config)) for stream in wanted]
    answers = await server.write_together(requests, doing=doing, longer=sum(map(_longer, wanted)))
    for stream, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, ServerFault):
            await update_stream(server, stream, doing)


async def create_consumer(server: JetStream, wanted: Resource, doing: str) -> Mapping[str, Any] | None:
    """Create the consumer. Raises as `write_once` does.

    A new stream's own server answers for it before who leads the cluster has heard of it: then there is no stream yet
    (10059, seen on 2.10.26).
    """
    for pause in timing.PROPAGATION_BACKOFF_SECONDS:
        try:
            return await _put_consumer(server, wanted, "create", doing)
        except ApiError as error:
            if error.err_code != ErrorCode.JSStreamNotFoundErr or not server.is_clustered:
                raise
        await asyncio.sleep(pause)
    return await _put_consumer(server, wanted, "create", doing)


async def update_consumer(server: JetStream, wanted: Resource, doing: str) -> Mapping[str, Any] | None:
    """Update the consumer. Raises as `write_once` does."""
    return await _put_consumer(server, wanted, "update", doing)


async def delete(server: JetStream, ref: Ref, doing: str = "") -> None:
    """Delete the stream or consumer; returns whether it was already gone. Raises as `write_once` does.

    Whoever decides in a cluster knows it first: another server may still answer for what is gone (seen on 2.15.1).
    """
    name = f"CONSUMER.DELETE.{ref.stream}.{ref.consumer}" if ref.consumer else f"STREAM.DELETE.{ref}"

    async def gone() -> bool:
        return await server.info(ref) is None

    try:
        await write_once(server, name, doing=doing or f"deleting {ref}", holds=gone)
    except ApiError as error:
        if error.err_code not in (ErrorCode.JSStreamNotFoundErr, ErrorCode.JSConsumerNotFoundErr):
            raise


def labels(resource: Resource) -> dict[str, str]:
    """Return the metadata that the plan knows of: neither the server's nor the notes of an earlier replace."""
    return user_labels(resource.metadata, *STATE_KEYS)


def is_configured_like(one: Resource, other: Resource) -> bool:
    """Return whether both have the same configuration and the same labels."""
    return (one.normalised(), labels(one)) == (other.normalised(), labels(other))


async def matches_server(server: JetStream, wanted: Resource, *, with_notes: bool = False) -> bool:
    """Return whether the server has a stream or consumer like this; the notes of a replace count where asked for. Raises ServerFault if it does not say."""
    live = await server.info(wanted.ref)
    return (
        live is not None
        and is_configured_like(live, wanted)
        and live.is_ephemeral == wanted.is_ephemeral
        and (not with_notes or user_labels(live.metadata) == user_labels(wanted.metadata))
    )


async def _put_consumer(
    server: JetStream, wanted: Resource, action: str, doing: str
) -> Mapping[str, Any] | None:
    body = {
        "stream_name": wanted.ref.stream,
        "config": without_server_labels(wanted.config),
        "action": action,
    }
    verb = f"CONSUMER.CREATE.{wanted.ref.stream}.{wanted.ref.consumer}"
    return await _put(server, verb, body, wanted, doing)


async def _put(
    server: JetStream, verb: str, body: Mapping[str, Any], wanted: Resource, doing: str
) -> Mapping[str, Any] | None:
    # One whose notes were lost is not written, however alike the rest is.
    holds = partial(matches_server, server, wanted, with_notes=True)
    return await write_once(server, verb, body, doing=doing, holds=holds, answer_seconds=_longer(wanted))


def _longer(wanted: Resource) -> float:
    """Return how many seconds more than others it takes to answer."""
    return SECONDS_PER_PAIR * len(wanted.get("subjects")) ** 2


async def _is_confirmed(server: JetStream, holds: Callable[[], Awaitable[bool]]) -> bool:
    """Return True if a read confirms the write; False if it does not or cannot be read."""
    try:
        return await server.retry(holds)
    except ServerFault:
        return False
