"""How changes are carried out: what is waited for, what may come again, who is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from cyborg_infra.live.execute.consumer.ack_listener import AckListener
from cyborg_infra.live.records.stream_backups import StreamBackups
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource
from cyborg_infra.model.server_versions import Version


async def _archive_nothing(_stream: Ref, _becomes: Ref) -> None:
    """Do nothing: there are no dead letters."""


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """Options of an apply: server version, drain timeout in seconds, announced redeliveries, callbacks.

    `allowed_redeliveries`: old consumer -> how many messages the plan has announced, and was allowed, to be handed out again.
    `on_wait` hears of what takes long. `max_bytes_required`: the account takes no stream without max_bytes. `archive_dead_letters` keeps elsewhere the
    messages of a stream, which becomes another one, that have failed for good: no position tells them from what is done.
    `is_interrupted`: somebody wants no more, so that no wait for others is worth it. `stream_backups` are what this apply has the account
    remember. `stopped_consumers`: each consumer that this apply has stopped, or was about to -> what it was right before.
    """

    version: Version
    drain_timeout: float = 60.0
    allowed_redeliveries: Mapping[Ref, int] = field(default_factory=dict)
    on_wait: Callable[[str], None] = lambda _: None
    max_bytes_required: bool = False
    archive_dead_letters: Callable[[Ref, Ref], Awaitable[None]] = _archive_nothing
    is_interrupted: Callable[[], bool] = lambda: False
    ack_listener: AckListener = field(default_factory=AckListener)
    stream_backups: StreamBackups = field(default_factory=StreamBackups)
    stopped_consumers: dict[Ref, LiveResource] = field(default_factory=dict)
