"""The parking of a stream: it takes in nothing that anybody publishes, and publishers know it. Moves nothing."""

from __future__ import annotations

from typing import Any

from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.write import write
from cyborg_infra.model.state import Ref, Resource, parking


def parked(stream: Resource) -> dict[str, Any]:
    """Its configuration with a subject that nobody uses: publishers are refused, and know it."""
    rest = {
        name: value
        for name, value in stream.config.items()
        if name not in ("subject_transform", "republish")  # what marks an end is for nobody
    }
    return {**rest, "subjects": [parking(stream.ref)], "no_ack": False}


async def mark(server: JetStream, stream: Ref) -> None:
    """A parked stream has one more message at its end."""
    await server.publish(parking(stream), {}, {}, doing=f"marking the end of {stream}")


async def unmark(server: JetStream, stream: Ref) -> None:
    """The stream has none of the messages that `mark` puts at an end, its own or another one's."""
    marks, verb, doing = "_parked.*", f"STREAM.PURGE.{stream}", f"tidying {stream}"

    async def holds() -> bool:
        info = await server.insist(f"STREAM.INFO.{stream}", {"subjects_filter": marks}, doing=doing)
        return not info["state"].get("subjects")

    await write(server, verb, {"filter": marks}, doing=doing, holds=holds)
