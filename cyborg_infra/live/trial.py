"""What the checks of `verify` stand on: a provisioned scratch copy, agents on it, its dead letters; and how a check ends."""

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

from cyborg_infra.live.agent import Agent, id_of
from cyborg_infra.live.faults import ApiError
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.namespace import Subject
from cyborg_infra.model.org import ConsumerKind
from cyborg_infra.model.state import KIND, Ref, State
from cyborg_infra.model.units import SECOND

PATIENCE = 3.0  # seconds for what is expected at once; only a check that fails takes so long
LOOK = 0.05  # seconds between two looks at what is about to happen

Notice = Mapping[str, Any]


class Unmet(Exception):
    """The law does not hold; the text is what was seen instead."""


class NotSupported(Exception):
    """It cannot be tried here; the text says why."""


class NotConfigured(Exception):
    """The manifest asks for nothing of the kind; the text says what it says instead."""


class TooSlow(Exception):
    """The check missed a deadline of its own, so that what it saw proves nothing; it can be tried again."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A scratch copy on a server. `agent` acts for every role; `hire` connects one more."""

    subjects: Sequence[Subject]
    state: State
    server: JetStream
    agent: Agent
    hire: Callable[[], Agent]
    stored_requests: Sequence[
        str
    ] = ()  # streams on the server that store requests of the organisation itself
    letters: dict[tuple[str, int], Notice] = field(default_factory=dict)
    _ids: Iterator[int] = field(default_factory=itertools.count)

    def roles(self) -> list[str]:
        """The names of the roles, in the manifest's order."""
        return list(dict.fromkeys(row.role for row in self.subjects if row.role))

    def reader(self, kind: ConsumerKind, role: str | None = None) -> Ref:
        """A consumer that `verify` can pull from. Raises NotSupported for one of another kind, Unmet without acknowledgements."""
        (consumer,) = (
            found
            for found in self.state.consumers()
            if found.metadata.get(KIND) == kind and found.role == role
        )
        if consumer.config.get("ack_policy") == "none":
            raise Unmet(f"{consumer.ref} has ack_policy none: what it has handed out is forgotten at once")
        for name in ("deliver_subject", "priority_groups"):
            if consumer.config.get(name):
                raise NotSupported(f"{consumer.ref} has {name}, and verify only pulls")
        return consumer.ref

    def subject(self, role: str, channel: str) -> str:
        """`<org>.agents.<role>.<channel>`; without a role that of all, such as `<org>.org.broadcasts`."""
        (found,) = (
            row.subject for row in self.subjects if (row.role or "") == role and row.channel == channel
        )
        return found

    def setting(self, ref: Ref, name: str, default: Any = None) -> Any:
        """A field of the scratch copy as it was provisioned."""
        return self.state.resources[ref].config.get(name, default)

    def ack_wait(self, ref: Ref) -> float:
        """In seconds, of the scratch copy."""
        wait: int = self.setting(ref, "ack_wait", 30 * SECOND)
        return wait / SECOND

    def new_id(self, what: str) -> str:
        """An id that no other message of this run has."""
        return f"{what}-{next(self._ids)}"

    async def publish_task(self, role: str, *, task_id: str = "", **more: Any) -> str:
        """A task of a new id, or `task_id`, is stored for the role; returns its id. Raises nats-py's errors."""
        task_id = task_id or self.new_id(f"task-{role}")
        task = {
            "task_id": task_id,
            "type": "verification",
            "title": "Prove that tasks arrive",
            "description": "Published by cyborg-infra verify to a scratch copy of the organisation.",
            "assigned_by": self.roles()[0],
            "assigned_to": role,
            "priority": "normal",
            "lifecycle": {"status": "assigned", "assigned_at": now()},
        }
        await self.agent.publish(self.subject(role, "tasks"), task | more, task_id)
        return task_id

    async def publish_broadcast(self, message_id: str) -> None:
        """A broadcast of this id is stored. Raises nats-py's errors."""
        broadcast = {
            "type": "policy_update",
            "policy": "verification",
            "effective_immediately": True,
            "issued_by": self.roles()[0],
        }
        await self.agent.publish(self.subject("", "broadcasts"), broadcast, message_id)

    async def take(self, ref: Ref, message_id: str = "", *, agent: Agent | None = None) -> Msg:
        """The consumer's next message, which has this id. Raises Unmet if none comes, or another one.

        Raises TooSlow for one that comes again because it was not acknowledged in time.
        """
        message = await (agent or self.agent).take(ref, PATIENCE)
        if message is None:
            raise Unmet(f"{ref} handed out nothing within {PATIENCE:g}s")
        if message_id and id_of(message) != message_id:
            if message.metadata.num_delivered > 1:
                raise TooSlow
            raise Unmet(f"{ref} handed out {named(message)} instead of {message_id}")
        return message

    async def nothing_more(self, ref: Ref, since: float) -> None:
        """Raises Unmet if the consumer has anything to hand out now.

        Raises TooSlow for what comes again rightly: more than ack_wait has gone by `since` it was pulled.
        """
        more = await self.agent.waiting(ref)
        late = self.clock() - since >= self.ack_wait(ref)
        if late and any(message.metadata.num_delivered > 1 for message in more):
            raise TooSlow
        if more:
            raise Unmet(f"{ref} also handed out {', '.join(named(message) for message in more)}")

    def clock(self) -> float:
        """Seconds, for differences."""
        return asyncio.get_running_loop().time()

    async def emptied(self, stream: str) -> None:
        """Nothing is left in it of an earlier check."""
        with suppress(ApiError):  # deny_purge: then an earlier failure may be seen twice
            await self.server.call(f"STREAM.PURGE.{stream}", doing=f"emptying {stream}")

    async def worker(self, role: str) -> Ref:
        """The role's worker, with nothing left of an earlier check."""
        ref = self.reader(ConsumerKind.WORKER, role)
        await self.emptied(ref.stream)
        return ref

    async def dead_letter(self, ref: Ref, sequence: int) -> Notice:
        """The notice of this message, pulling meanwhile: the server sends it only while somebody does.

        Raises Unmet if the message is handed out again, or no notice comes.
        """
        deadline = self.clock() + PATIENCE
        while (found := self.letters.get((str(ref), sequence))) is None:
            if again := await self.agent.take(ref, LOOK):
                raise Unmet(f"{ref} handed out {named(again)} once more")
            if self.clock() > deadline:
                letters = self.reader(ConsumerKind.DEAD_LETTER_ALERTS)
                raise Unmet(f"{letters} handed out no notice of it within {PATIENCE:g}s")
        return found

    async def collect_letters(self) -> None:
        """Reads the dead letters into `letters` until it is cancelled, as whoever is alerted by them would."""
        ref = self.reader(ConsumerKind.DEAD_LETTER_ALERTS)
        while True:
            message = await self.agent.take(ref, PATIENCE)
            if message is not None:
                notice = json.loads(message.data)
                self.letters[f"{notice['stream']}/{notice['consumer']}", notice["stream_seq"]] = notice
                await message.ack()


def named(message: Msg) -> str:
    """A message for people: its id and where it came from."""
    return f"{id_of(message) or 'a message'} of {message.subject}"


def now() -> str:
    """RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
