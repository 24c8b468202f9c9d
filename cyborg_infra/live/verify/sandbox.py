"""The sandbox that the checks of `verify` use: a provisioned copy of the organisation, agents on it, its dead letters."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg

from cyborg_infra.live import timing
from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.verify.agent import Agent, message_id_of
from cyborg_infra.model.channels import (
    BROADCASTS,
    DEAD_LETTERS,
    EVENTS,
    INBOX,
    REQUESTS,
    STATUS,
    TASKS,
    Channel,
    ConsumerKind,
    Party,
)
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.naming import Subject
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.units import SECOND

Advisory = Mapping[str, Any]

_TRIED_BY_NAME = frozenset({TASKS, INBOX, STATUS, REQUESTS, BROADCASTS, EVENTS, DEAD_LETTERS})
"""Channels that mean more than that a message reaches its readers: each has checks of its own."""


class CheckFailed(Exception):
    """The law does not hold; the text is what was seen instead."""


class NotSupported(Exception):
    """It cannot be tried here; the text says why."""


class NotConfigured(Exception):
    """The manifest asks for nothing of the kind; the text says what it says instead."""


class Inconclusive(Exception):
    """The check missed a deadline of its own, so that what it saw proves nothing; it can be tried again."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A scratch copy on a server. `agent` acts for every role; `connect_agent` connects one more."""

    org: Org
    subjects: Sequence[Subject]
    state: DesiredState
    server: JetStream
    agent: Agent
    connect_agent: Callable[[], Agent]
    # Streams on the server that store requests of the organisation itself.
    stored_requests: Sequence[str] = ()
    dead_letters: dict[tuple[str, int], Advisory] = field(default_factory=dict)
    _ids: Iterator[int] = field(default_factory=itertools.count)

    def roles(self) -> list[str]:
        """Return the names of the roles, in the manifest's order."""
        return [role.name for role in self.org.roles]

    def reader(self, kind: ConsumerKind, role: str | None = None) -> Ref:
        """Return a consumer that `verify` can pull from.

        Raises NotConfigured if there is none, NotSupported for one of another kind, CheckFailed without acknowledgements.
        """
        consumer = next(
            (
                found
                for found in self.state.consumers()
                if found.metadata.get(KIND_KEY) == kind and found.role == role
            ),
            None,
        )
        if consumer is None:
            raise NotConfigured(f"the organisation has no {kind}")
        if consumer.get("ack_policy") == "none":
            raise CheckFailed(
                f"{consumer.ref} has ack_policy none: what it has handed out is forgotten at once"
            )
        for name in ("deliver_subject", "priority_groups"):
            if consumer.get(name):
                raise NotSupported(f"{consumer.ref} has {name}, and verify only pulls")
        return consumer.ref

    def subject(self, role: str, channel: str) -> str:
        """Return where a message of this channel is published, for a role or for all. Raises NotConfigured if there is no such channel."""
        return self.org.subject(self.channel(channel).send_subject_of(role, "verification"))

    def channel(self, name: str) -> Channel:
        """Return the channel of this name. Raises NotConfigured if the organisation has none."""
        found = self.org.channel(name)
        if found is None:
            raise NotConfigured(f"the organisation has no {name}")
        return found

    def other_channels(self) -> list[Channel]:
        """Return the channels that no check of their own is about: whichever there are, they are tried alike."""
        return [
            channel
            for channel in self.org.channels
            if channel.name not in _TRIED_BY_NAME and self.org.each_of(channel)
        ]

    def setting(self, ref: Ref, name: str) -> Any:
        """Return a field of the scratch copy as it was provisioned."""
        return self.state.resources[ref].get(name)

    def ack_wait(self, ref: Ref) -> float:
        """Return the ack_wait of the copy's consumer, in seconds."""
        return self.state.resources[ref].get("ack_wait") / SECOND

    def new_id(self, what: str) -> str:
        """Return an id that no other message of this run has."""
        return f"{what}-{next(self._ids)}"

    async def publish_task(self, role: str, *, task_id: str = "", **more: Any) -> str:
        """Publish a task for the role, and return its id: a new one, or `task_id`. Raises nats-py's errors."""
        task_id = task_id or self.new_id(f"task-{role}")
        task = {
            "task_id": task_id,
            "type": "verification",
            "title": "Prove that tasks arrive",
            "description": "Published by cyborg-infra verify to a scratch copy of the organisation.",
            "assigned_by": self.roles()[0],
            "assigned_to": role,
            "priority": "normal",
            "lifecycle": {"status": "assigned", "assigned_at": utc_now()},
        }
        await self.agent.publish(self.subject(role, "tasks"), task | more, task_id)
        return task_id

    async def publish_to_readers(self, channel: Channel) -> dict[Ref, set[str]]:
        """Publish one message under each of the channel's subjects, and return what each of its consumers is to be handed. Raises nats-py's errors."""
        readers = [
            found
            for found in self.state.consumers()
            if channel.reader and found.metadata.get(KIND_KEY) == channel.reader.kind
        ]
        for stream in {reader.ref.stream for reader in readers}:
            await self.purge(stream)
        sent: dict[str, str] = {}
        for member in self.org.each_of(channel):
            sent[member] = self.new_id(f"{channel.name}-{member}" if member else channel.name)
            body = {"type": "verification", "timestamp": utc_now()}
            await self.agent.publish(self.subject(member, channel.name), body, sent[member])
        to_self = channel.readers == (Party.SELF,)
        return {
            reader.ref: {
                message
                for member, message in sent.items()
                if not to_self or reader.role in self.org.members([member])
            }
            for reader in readers
        }

    async def publish_broadcast(self, message_id: str) -> None:
        """Publish a broadcast with this id. Raises nats-py's errors."""
        broadcast = {
            "type": "policy_update",
            "policy": "verification",
            "effective_immediately": True,
            "issued_by": self.roles()[0],
        }
        await self.agent.publish(self.subject("", "broadcasts"), broadcast, message_id)

    async def expect_message(self, ref: Ref, message_id: str = "", *, agent: Agent | None = None) -> Msg:
        """Return the consumer's next message, which has this id. Raises CheckFailed if none comes, or another one.

        Raises Inconclusive for one that comes again because it was not acknowledged in time.
        """
        message = await (agent or self.agent).pull(ref, timing.CHECK_WAIT_SECONDS)
        if message is None:
            raise CheckFailed(f"{ref} handed out nothing within {timing.CHECK_WAIT_SECONDS:g}s")
        if message_id and message_id_of(message) != message_id:
            if message.metadata.num_delivered > 1:
                raise Inconclusive
            raise CheckFailed(f"{ref} handed out {describe_message(message)} instead of {message_id}")
        return message

    async def expect_no_more(self, ref: Ref, since: float) -> None:
        """Raise CheckFailed if the consumer has anything to hand out now.

        Raises Inconclusive for what comes again rightly: more than ack_wait has gone by `since` it was pulled.
        """
        more = await self.agent.pull_all(ref)
        late = self.clock() - since >= self.ack_wait(ref)
        if late and any(message.metadata.num_delivered > 1 for message in more):
            raise Inconclusive
        if more:
            raise CheckFailed(
                f"{ref} also handed out {', '.join(describe_message(message) for message in more)}"
            )

    def clock(self) -> float:
        """Return seconds of a monotonic clock."""
        return asyncio.get_running_loop().time()

    async def purge(self, stream: str) -> None:
        """Purge from the stream what an earlier check left."""
        with suppress(ApiError):  # deny_purge: then an earlier failure may be seen twice
            await self.server.request(f"STREAM.PURGE.{stream}", doing=f"emptying {stream}")

    async def worker(self, role: str) -> Ref:
        """Return the role's worker, with nothing left of an earlier check."""
        ref = self.reader(ConsumerKind.WORKER, role)
        await self.purge(ref.stream)
        return ref

    async def expect_dead_letter(self, ref: Ref, sequence: int) -> Advisory:
        """Return the notice of this message, pulling meanwhile: the server sends it only while somebody does.

        Raises CheckFailed if the message is handed out again, or no notice comes.
        """
        deadline = self.clock() + timing.CHECK_WAIT_SECONDS
        while (found := self.dead_letters.get((str(ref), sequence))) is None:
            if again := await self.agent.pull(ref, timing.CHECK_POLL_SECONDS):
                raise CheckFailed(f"{ref} handed out {describe_message(again)} once more")
            if self.clock() > deadline:
                letters = self.reader(ConsumerKind.DEAD_LETTER_ALERTS)
                raise CheckFailed(
                    f"{letters} handed out no notice of it within {timing.CHECK_WAIT_SECONDS:g}s"
                )
        return found

    async def collect_dead_letters(self) -> None:
        """Read the dead letters into `dead_letters` until it is cancelled, as whoever is alerted by them would."""
        ref = self.reader(ConsumerKind.DEAD_LETTER_ALERTS)
        while True:
            message = await self.agent.pull(ref, timing.CHECK_WAIT_SECONDS)
            if message is not None:
                notice = json.loads(message.data)
                self.dead_letters[f"{notice['stream']}/{notice['consumer']}", notice["stream_seq"]] = notice
                await message.ack()


def describe_message(message: Msg) -> str:
    """Return a message for people: its id and where it came from."""
    return f"{message_id_of(message) or 'a message'} of {message.subject}"


def utc_now() -> str:
    """Return the time as RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
