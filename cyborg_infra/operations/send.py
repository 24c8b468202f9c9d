"""Messages on their way to a role or to all: checked, held to the limit, stored once. Sends nothing that it doubts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyborg_infra.core import outgoing as core
from cyborg_infra.live.target import Target
from cyborg_infra.manifest import messages
from cyborg_infra.manifest.load import load
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.org import Org
from cyborg_infra.model.outgoing import Channel, Outgoing, Sent
from cyborg_infra.model.problems import CyborgError, Problem, ServerFault
from cyborg_infra.model.state import Ref, Resource
from cyborg_infra.operations.place import Meet, meet
from cyborg_infra.operations.status import known_role

if TYPE_CHECKING:  # asyncio and nats cost 100 ms
    from cyborg_infra.live.jetstream import JetStream


@dataclass(frozen=True, slots=True)
class Post:
    """What shall be sent to whom."""

    org: Org
    channel: Channel
    role: str
    messages: tuple[Outgoing, ...]


def post(
    path: str, env: str | None, channel: Channel, role: str, file: str, kind: MessageKind | None = None
) -> Post:
    """The messages of the file, or of standard input if it is `-`, ready to be sent. Needs no server.

    Raises ManifestInvalid, UsageInvalid for an unknown role, MessageInvalid for what cannot be sent so.
    """
    org = load(path, env)
    if channel is not Channel.BROADCAST:
        known_role(org, role)
    found = messages.read(file, kind)
    return Post(org, channel, role, tuple(core.outgoing(org, channel, role, found)))


def send(
    post: Post, target: Target, told: Meet, *, over_limit: bool = False, dry_run: bool = False
) -> list[Sent]:
    """One result per message, in order; `told` hears of the server before. After the first that fails nothing more is sent.

    A dry run sends nothing and has sequence 0 for all. Raises SendRefused, with nothing sent, if more would wait for
    the role than `alerts.lag`, unless `over_limit` or its stream itself counts what is unfinished; and ServerFault if
    what has to store them is not there.
    """
    import asyncio

    from cyborg_infra.live.jetstream import opened
    from cyborg_infra.live.send import send as store

    async def run() -> list[Sent]:
        async with opened(target) as server:
            await meet(server, post.org, told)
            await _refuse_if_unfit(server)
            results = [Sent(message) for message in post.messages]
            for position, message in enumerate(() if dry_run else post.messages):
                try:
                    results[position] = await store(server, message)
                except CyborgError as error:
                    if len(results) == 1:
                        raise
                    results[position] = Sent(message, problem=error.problems[0])
                    break
            return results

    async def _refuse_if_unfit(server: JetStream) -> None:
        stream = await _present(server, post.messages[0].stream)
        reader = core.queue(post.org, post.channel, post.role)
        if reader is None:
            return
        found = await _present(server, reader)
        if not (over_limit or core.admits(stream)):
            core.refuse_over_limit(post.role, found, len(post.messages), post.org.alerts.lag)

    return asyncio.run(run())


async def _present(server: JetStream, ref: Ref) -> Resource:
    """It is on the server. Raises ServerFault if it is not."""
    if (found := await server.info(ref)) is None:
        raise ServerFault(
            Problem("no-stream", f"{ref} is not on the server", None, "cyborg-infra apply makes it")
        )
    return found
