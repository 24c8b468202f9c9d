"""Fence a stream: give it a subject that nobody publishes to, so that publishers are refused and know it."""

from __future__ import annotations

from typing import Any

from cyborg_infra.live.api.idempotent import create_stream, delete, write_once
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.model.changes import Change, HazardName
from cyborg_infra.model.ref import Ref, fence_subject, temporary_stream
from cyborg_infra.model.resources import LiveResource, Resource

_PROBE_STREAM = temporary_stream(Ref("trial"))


def fenced_config(stream: Resource) -> dict[str, Any]:
    """Return the stream's configuration with a subject that nobody uses: publishers are refused, and know it."""
    rest = {
        name: value
        for name, value in stream.config.items()
        if name not in ("subject_transform", "republish")  # what marks an end is for nobody
    }
    return {**rest, "subjects": [fence_subject(stream.ref)], "no_ack": False}


def parks_first(change: Change, live: LiveResource) -> bool:
    """Return whether a stream is fenced before this change deletes it: no unfinished message may be deleted, and one may arrive."""
    lost = [hazard.unfinished for hazard in change.hazards if hazard.name is HazardName.DELETES_MESSAGES]
    keeps = all(share is not None and not share.messages for share in lost)
    return keeps and bool(live.get("subjects"))


async def write_end_marker(server: JetStream, stream: Ref) -> None:
    """Write an end marker into a fenced stream."""
    await server.publish(fence_subject(stream), {}, {}, doing=f"marking the end of {stream}")


async def require_end_marker(server: JetStream) -> None:
    """Raise NotReached if no end marker would reach a fenced stream. To be called before anything is fenced."""
    await require_stored(server, fence_subject(_PROBE_STREAM))


async def require_stored(server: JetStream, subject: str) -> None:
    """Raise NotReached if a message on this subject would reach no stream; a stream of our own is created to try it.

    Through a domain or an API prefix requests may get to JetStream, and nothing else.
    """
    config = {"name": _PROBE_STREAM.stream, "subjects": [subject], "storage": "memory", "max_bytes": 1024}
    doing = f"trying whether streams get what is published on {subject}"
    await create_stream(server, Resource(_PROBE_STREAM, config), doing)
    try:
        await server.publish(subject, {}, {}, doing=doing)
    finally:
        await delete(server, _PROBE_STREAM, doing)


async def delete_end_markers(server: JetStream, stream: Ref) -> None:
    """Delete the end markers from the stream, its own or another one's."""
    marks, verb, doing = "_parked.*", f"STREAM.PURGE.{stream}", f"tidying {stream}"

    async def holds() -> bool:
        info = await server.request_with_retry(
            f"STREAM.INFO.{stream}", {"subjects_filter": marks}, doing=doing
        )
        return not info["state"].get("subjects")

    await write_once(server, verb, {"filter": marks}, doing=doing, holds=holds)
