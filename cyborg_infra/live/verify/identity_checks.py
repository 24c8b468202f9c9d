"""Try every identity on a server: what it has to do works without one violation, and what is another's is refused.

The agents are real connections with the credentials and the inbox prefix of their identity.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from nats.aio.msg import Msg
from nats.errors import Error

from cyborg_infra.live import timing
from cyborg_infra.live.connection.connection import DENIED_PATTERN
from cyborg_infra.live.connection.target import Target
from cyborg_infra.live.verify.agent import Agent, PullRefused, next_message
from cyborg_infra.live.verify.sandbox import CheckFailed
from cyborg_infra.model.identities import Operation
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.verification import (
    USER_INFO,
    AuthCheckName,
    CheckResult,
    IdentityWork,
    Misuse,
    Verdict,
)

_NOWHERE = "cyborg-infra.trial"
"""A subject that nobody is granted."""

WORK_LAW = "an identity does all of its work without one violation"
_REFUSED_LAW = "an identity is refused whatever belongs to another"
_ANSWERS_LAW = "what the server answers an identity does nothing, wherever the answer is to go"
_PERMISSIONS_LAW = "the server lets an identity do what the manifest wants, subject by subject"


class Prober(Agent):
    """An agent that tries what it may not, and notes what was refused, in lower case as nats-py says it."""

    def __init__(self, target: Target, url: str) -> None:
        super().__init__(target, url)
        self.refused: set[tuple[Operation, str]] = set()

    async def _on_error(self, error: Exception) -> None:
        if (denied := re.search(DENIED_PATTERN, str(error))) is not None:
            direction = Operation.SUBSCRIBE if denied[1].startswith("sub") else Operation.PUBLISH
            self.refused.add((direction, denied[2].replace('\\"', '"').lower()))
        else:
            await super()._on_error(error)

    async def try_all(self, attempts: Sequence[tuple[Operation, str]]) -> list[tuple[Operation, str]]:
        """Return the attempts that the server has let through. A publish has nothing in it and wants an answer."""
        for direction, subject in attempts:
            if direction is Operation.PUBLISH:
                await self._client.publish(subject, b"", reply=self._client.new_inbox())
            else:
                await self._client.subscribe(subject, cb=_ignore)
        await self.flush_both_ways()
        return [
            (direction, subject)
            for direction, subject in attempts
            if (direction, subject.lower()) not in self.refused
        ]

    async def send_all(self, misuse: Misuse, held: Sequence[Msg], reply: str) -> None:
        """Send whatever it may that is answered, and want the answer at `reply`."""
        for message in held:
            for word in (b"+WPI", b'+NXT {"no_wait": true}'):
                await self.send(message.reply, word, reply)
        for consumer, _ in misuse.consumers:
            await self.send(self.pull_subject(consumer), b'{"no_wait": true}', reply)
        for subject in misuse.requests:
            await self.send(subject, b"", reply)

    async def may_answer_anywhere(self, subject: str) -> bool:
        """Return whether it may publish where nothing lets it, once it has asked itself with that as the reply subject."""
        asked = await self._client.subscribe(subject)
        try:
            await self._client.publish(subject, b"", reply=_NOWHERE)
            if await next_message(asked, timing.ARRIVAL_TIMEOUT_SECONDS) is None:
                return False
        finally:
            await asked.unsubscribe()
        return bool(await self.try_all([(Operation.PUBLISH, _NOWHERE)]))


async def _ignore(_message: Msg) -> None:
    """Hear what should not have come."""


@dataclass(slots=True)
class IdentityTrial:
    """The identities of an organisation on one server, by their logins; the operator puts messages into queues."""

    url: str
    targets: Mapping[str, Target]
    operator: str
    _agents: dict[str, Agent] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def agent(self, name: str) -> Agent:
        """Return the connection of an identity, opened once."""
        if name not in self._agents:
            self._agents[name] = await self._stack.enter_async_context(Agent(self.targets[name], self.url))
        return self._agents[name]

    async def check_work(self, name: str, work: IdentityWork) -> CheckResult:
        """Return whether an identity does its work."""

        async def run() -> None:
            agent = await self.agent(name)
            await agent.run_until_ended(self._do(agent, name, work))

        return await _checked(AuthCheckName.WORK, WORK_LAW, name, run)

    async def check_refused(
        self, name: str, attempts: Sequence[tuple[Operation, str]], asks_itself: str = ""
    ) -> CheckResult:
        """Return whether an identity is refused all of this, and gets no more by asking itself on a subject of its own."""

        async def run() -> None:
            async with Prober(self.targets[name], self.url) as prober:
                if let_through := await prober.try_all(attempts):
                    direction, subject = let_through[0]
                    more = f", and {len(let_through) - 1:,} more" if len(let_through) > 1 else ""
                    raise CheckFailed(f"{name} may {direction} {subject}{more}")
                if asks_itself and await prober.may_answer_anywhere(asks_itself):
                    raise CheckFailed(f"{name} may publish anywhere, as an answer to itself on {asks_itself}")

        return await _checked(AuthCheckName.REFUSED, _REFUSED_LAW, name, run)

    async def check_answers(self, name: str, misuse: Misuse) -> CheckResult:
        """Return whether the server's answers to an identity's own requests do nothing, wherever it wants them to go."""

        async def run() -> None:
            operator = await self.agent(self.operator)
            theirs: list[Msg] = []
            for consumer, subject, owner in misuse.victims:  # one works on a message, and another waits
                theirs.append(await self._held(await self.agent(owner), consumer, subject))
                await self._enqueue(consumer, subject)
            async with Prober(self.targets[name], self.url) as prober:
                held = [await self._held(prober, consumer, subject) for consumer, subject in misuse.consumers]
                before = await _seen(operator, misuse)
                for reply in (*misuse.replies, *(message.reply for message in theirs)):
                    await prober.send_all(misuse, held, reply)
                for message in held:
                    # Answered after all that was sent before.
                    await message.ack_sync(timing.ARRIVAL_TIMEOUT_SECONDS)
                await prober.ask(USER_INFO)
                if prober.refused:
                    direction, subject = min(prober.refused)
                    raise CheckFailed(f"{name} may not {direction} {subject}")
            after = await _seen(operator, misuse)
            for message in theirs:
                await message.ack()
            if changed := [what for what, was in before.items() if after.get(what) != was]:
                raise CheckFailed(f"an answer to {name} went further: {changed[0]} is no longer as it was")

        return await _checked(AuthCheckName.ANSWERS, _ANSWERS_LAW, name, run)

    async def _enqueue(self, consumer: Ref, subject: str) -> str:
        """Have the operator put a message into the consumer's queue; return its id."""
        message_id = f"trial-{consumer}-{time.monotonic_ns()}"
        operator = await self.agent(self.operator)
        await operator.publish(subject, {"trial": message_id}, message_id)
        return message_id

    async def _held(self, agent: Agent, consumer: Ref, subject: str) -> Msg:
        """Return a message that an identity works on, from a queue that is empty now."""
        await agent.pull_all(consumer)
        return await _own_message(agent, consumer, await self._enqueue(consumer, subject))

    async def check_permissions(
        self, name: str, compare: Callable[[Mapping[str, Any]], Sequence[str]]
    ) -> CheckResult:
        """Return whether the server says of an identity's permissions what `compare` wants; nothing is tried."""

        async def run() -> None:
            agent = await self.agent(name)
            if found := compare((await _told(agent)).get("permissions") or {}):
                more = f", and {len(found) - 1:,} more" if len(found) > 1 else ""
                raise CheckFailed(f"{found[0]}{more}")

        return await _checked(AuthCheckName.PERMISSIONS, _PERMISSIONS_LAW, name, run)

    async def check_account(self, name: str) -> CheckResult:
        """Return whether an identity is in another account than the operator, who is where JetStream is; nothing is tried."""

        async def run() -> None:
            account, jetstream = [
                (await _told(await self.agent(each))).get("account") for each in (name, self.operator)
            ]
            if account == jetstream:
                raise CheckFailed(
                    f"it is in account {account}, which has JetStream: the server's answers to it go to the API as well, if it says so"
                )

        return await _checked(AuthCheckName.ANSWERS, _ANSWERS_LAW, name, run)

    async def _do(self, agent: Agent, name: str, work: IdentityWork) -> None:
        """Do all of an identity's work, until the server has told of whatever it denies."""
        for consumer, subject, again in work.consumers:
            await self._work_on(agent, consumer, subject, again=again)
        for consumer, subject, _ in work.consumers[:1]:
            await self._wait_for_work(agent, consumer, subject)
        for number, subject in enumerate(work.stored):
            await agent.publish(subject, {"trial": name}, f"trial-{name}-{number}-{time.monotonic_ns()}")
        for subject, listener in work.published:
            await self._pass_on(agent, subject, listener)
        for subject, publisher in work.heard:
            await self._hear(agent, subject, publisher)
        for subject, asker in work.asked:
            await self._answer(agent, subject, asker)
        for bucket in work.written:
            await agent.put(bucket, "trial", name.encode())
        for bucket in work.read:
            await agent.read(bucket, "trial")
        for bucket in work.watched:
            await agent.watch(bucket)
        await agent.flush_both_ways()

    async def _work_on(self, agent: Agent, consumer: Ref, subject: str, *, again: bool) -> None:
        """Work on a message until it is acknowledged, after it has come again where that may be; have another one terminated."""
        message_id = await self._enqueue(consumer, subject)
        message = await _own_message(agent, consumer, message_id)
        await message.in_progress()
        if again:
            await message.nak()
            message = await _own_message(agent, consumer, message_id)
        await message.ack_sync(timing.ARRIVAL_TIMEOUT_SECONDS)
        await agent.flush_both_ways()
        other = await _own_message(agent, consumer, await self._enqueue(consumer, subject))
        await other.in_progress()
        await other.term()
        await agent.flush_both_ways()

    async def _wait_for_work(self, agent: Agent, consumer: Ref, subject: str) -> None:
        """Wait by a pull: it hears more than once that the server is there, and then gets its message."""
        await agent.pull_all(consumer)
        async with agent.pull_with_heartbeats(consumer, timing.ARRIVAL_TIMEOUT_SECONDS) as answers:
            await self._enqueue(consumer, subject)
            while (message := await next_message(answers, timing.ARRIVAL_TIMEOUT_SECONDS)) is not None:
                if message.data:
                    await message.ack_sync(timing.ARRIVAL_TIMEOUT_SECONDS)
                    return
        raise CheckFailed(f"a pull from {consumer} that waited was not handed what came")

    async def _pass_on(self, agent: Agent, subject: str, listener: str) -> None:
        if not listener:
            await agent.publish_core(subject, {"trial": True})
            return
        other = await self.agent(listener)
        heard = await other.subscribe(subject)
        try:
            await agent.publish_core(subject, {"trial": True})
            if await next_message(heard, timing.ARRIVAL_TIMEOUT_SECONDS) is None:
                raise CheckFailed(f"{listener} did not hear what was published to {subject}")
        finally:
            await heard.unsubscribe()

    async def _hear(self, agent: Agent, subject: str, publisher: str) -> None:
        heard = await agent.subscribe(subject)
        try:
            if publisher:
                await (await self.agent(publisher)).publish_core(subject, {"trial": True})
                if await next_message(heard, timing.ARRIVAL_TIMEOUT_SECONDS) is None:
                    raise CheckFailed(f"it did not hear what {publisher} published to {subject}")
        finally:
            await heard.unsubscribe()

    async def _answer(self, agent: Agent, subject: str, asker: str) -> None:
        asked = await agent.subscribe(subject)
        other = await self.agent(asker)
        try:
            question = asyncio.create_task(other.ask(subject))
            message = await next_message(asked, timing.ARRIVAL_TIMEOUT_SECONDS)
            if message is None:
                question.cancel()
                raise CheckFailed(f"it did not hear the request of {asker} on {subject}")
            await agent.respond(message, {"answer": True})
            await question
        finally:
            await asked.unsubscribe()


async def _told(agent: Agent) -> Mapping[str, Any]:
    """Return what the server says of the agent's user."""
    found: Mapping[str, Any] = (await agent.ask_own_server(USER_INFO)).get("data", {})
    return found


async def _seen(operator: Agent, misuse: Misuse) -> dict[str, Any]:
    """Return what a misuse must leave as it is: how far consumers are, and what streams hold."""
    seen: dict[str, Any] = {}
    for stream in misuse.streams:
        info = json.loads((await operator.ask(f"$JS.API.STREAM.INFO.{stream}")).data)
        seen[f"stream {stream}"] = (
            info.get("state", {}).get("last_seq"),
            info.get("state", {}).get("messages"),
        )
    for (stream, consumer), _, _ in misuse.victims:
        info = json.loads((await operator.ask(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}")).data)
        delivered = info.get("delivered", {}).get("consumer_seq")
        seen[f"consumer {stream}/{consumer}"] = delivered, info.get("num_ack_pending")
    return seen


async def _own_message(agent: Agent, consumer: Ref, message_id: str) -> Msg:
    """Return the message of this trial; what others have left before it is acknowledged."""
    while (message := await agent.pull(consumer, timing.ARRIVAL_TIMEOUT_SECONDS)) is not None:
        if json.loads(message.data or b"{}").get("trial") == message_id:
            return message
        await message.ack_sync(timing.ARRIVAL_TIMEOUT_SECONDS)
    raise CheckFailed(f"{consumer} did not hand out what was published")


async def _checked(check: AuthCheckName, law: str, name: str, run: Callable[[], Any]) -> CheckResult:
    began = time.monotonic()
    seen = ""
    try:
        await run()
    except (CheckFailed, PullRefused, ServerFault, Error, OSError, ValueError, TimeoutError) as error:
        seen = str(error) or type(error).__name__
    verdict = Verdict.FAILED if seen else Verdict.PASSED
    return CheckResult(check, verdict, law, seen, name, time.monotonic() - began)
