"""How a new consumer begins at the position of another one: by a start sequence, or by a reset (since 2.14).

A start sequence is part of its configuration, which stays: a label says what was asked for instead. A reset changes
no configuration; until it is done the consumer is paused, so that dead or alive nobody is served from elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.idempotent import write_once
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.consumer.pausing import PAUSED_UNTIL, require_consumer, resume
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import Config
from cyborg_infra.model.metadata_keys import START_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import consumer_counts, requested_start


class ConsumerStart(ABC):
    """One way to make a consumer begin at a sequence."""

    @abstractmethod
    def served_config(self, config: Config, position: int) -> dict[str, Any]:
        """Return the configuration with which the consumer is served for good."""

    @abstractmethod
    def unserved_fields(self) -> Mapping[str, Any]:
        """Return the fields that the new consumer has besides, from its creation until it is at its position."""

    @abstractmethod
    async def move(self, server: JetStream, ref: Ref, position: int, paused_until: str = "") -> None:
        """Move the consumer to `position` unless it was created there; then let it deliver, or stay paused as somebody had paused it."""


class _AsConfigured(ConsumerStart):
    def served_config(self, config: Config, _position: int) -> dict[str, Any]:
        return dict(config)

    def unserved_fields(self) -> Mapping[str, Any]:
        return {}

    async def move(self, _server: JetStream, _ref: Ref, _position: int, _paused_until: str = "") -> None:
        """Do nothing: the consumer was created at its position."""


class _StartSequence(_AsConfigured):
    def served_config(self, config: Config, position: int) -> dict[str, Any]:
        rest = {name: value for name, value in config.items() if name != "opt_start_time"}
        metadata = {START_KEY: requested_start(config), **(config.get("metadata") or {})}
        return {
            **rest,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": position,
            "metadata": metadata,
        }


class _Reset(_AsConfigured):
    def unserved_fields(self) -> Mapping[str, Any]:
        return {"pause_until": PAUSED_UNTIL}

    async def move(self, server: JetStream, ref: Ref, position: int, paused_until: str = "") -> None:
        """Reset the consumer; only if it is still paused indefinitely: otherwise it has been at work.

        Parked may also be what a server says that has just become its leader, and has not heard that it is served.
        """
        live = await server.info(ref)
        if live is None or live.get("pause_until") != PAUSED_UNTIL:
            return
        if consumer_counts(live).delivered_stream_seq >= position:
            await resume(server, ref, paused_until)
            return

        async def holds() -> bool:
            return consumer_counts(await require_consumer(server, ref)).delivered_stream_seq + 1 == position

        verb, doing = f"CONSUMER.RESET.{ref.stream}.{ref.consumer}", f"moving {ref} to {position}"
        try:
            await write_once(server, verb, {"seq": position}, doing=doing, holds=holds)
        except ApiError as error:
            # Before the manifest's own start: that is further on, and holds.
            if error.err_code != ErrorCode.JSConsumerInvalidResetErr:
                raise
        await resume(server, ref, paused_until)


AS_CONFIGURED: ConsumerStart = _AsConfigured()
"""It begins there by itself."""

BY_START_SEQUENCE: ConsumerStart = _StartSequence()
BY_RESET: ConsumerStart = _Reset()
