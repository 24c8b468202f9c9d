"""A NATS connection as an agent has it, for `verify`: publish with message ids, pull, acknowledge, request and respond.

Pull requests are written here and not by nats-py, so that each has ended on the server when it has ended here: one
that lingers would take a message from whoever pulls next. Imports nats (110 ms).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.errors import TimeoutError as NoMessage
from nats.js.api import PubAck
from nats.js.errors import KeyNotFoundError

from cyborg_infra.live import timing
from cyborg_infra.live.connection.connection import DENIED_PATTERN, client_options
from cyborg_infra.live.connection.errors import (
    ConnectionLost,
    NotNats,
    PermissionDenied,
    PlaintextOnly,
    why_not_connected,
)
from cyborg_infra.live.connection.nats_client import SafeClient
from cyborg_infra.live.connection.target import Target
from cyborg_infra.model.buckets import bucket_stream
from cyborg_infra.model.fields import MESSAGE_ID
from cyborg_infra.model.problems import ConnectFailed, Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.wording import worded

_HEARTBEAT = "100"
_EMPTY_STATUSES = ("404", "408")  # statuses: nothing is waiting; the request has expired

_HEARTBEAT_NANOSECONDS = 100_000_000  # the shortest that servers take

Body = Mapping[str, Any]


class PullRefused(Exception):
    """The server does not hand out by this consumer, or makes none; the text is its own."""


class Agent:
    """One connection. `has_ended` is set once nothing more is to be expected of it: `end_reason` says the reason.

    The server has gone, or does not allow something to this user: to this agent, or to another one of the same run.
    """

    def __init__(self, target: Target, url: str, first: Agent | None = None) -> None:
        self.url = url
        self.has_ended = asyncio.Event()
        self.end_reason: ServerFault = ConnectionLost(url)
        self._first = first
        self._asked: dict[str, str] = {}  # in lower case, as nats-py tells of a subject that is denied
        self._target = target
        self._client = SafeClient(tls_wanted=target.tls_wanted)
        self._stream = self._client.jetstream(prefix=target.api_prefix, timeout=target.timeout)

    async def __aenter__(self) -> Self:
        """Connect. Raises ConnectFailed."""
        try:
            async with asyncio.timeout(self._target.timeout):
                await self._client.connect(
                    self.url,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_close,
                    **client_options(self._target),
                )
        except (Error, OSError, ValueError, PlaintextOnly, NotNats) as error:
            await self._client.close_within(timing.AGENT_GRACE_SECONDS)
            reason = why_not_connected(error, self._target)
            raise ConnectFailed(
                Problem("connect-failed", worded("cannot connect to {}: {}", self.url, reason))
            ) from None
        except BaseException:
            await self._client.close_within(timing.AGENT_GRACE_SECONDS)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close_within(timing.AGENT_GRACE_SECONDS)

    def new_agent(self) -> Agent:
        """Return one more agent, not connected yet. What is denied to it is denied to this one."""
        return Agent(self._target, self.url, self)

    async def run_until_ended(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the work to its end. Raises `end_reason`, with the work given up, as soon as nothing more is to be expected."""
        doing, ending = asyncio.create_task(work), asyncio.create_task(self.has_ended.wait())
        try:
            await asyncio.wait((doing, ending), return_when=asyncio.FIRST_COMPLETED)
            if self.has_ended.is_set():
                raise self.end_reason
            await doing
        finally:
            for task in (doing, ending):
                task.cancel()
            await asyncio.gather(doing, ending, return_exceptions=True)

    async def abort(self) -> None:
        """Abort the connection without a word to the server, as when a process is killed."""
        await self._client.close_within(0)

    async def publish(self, subject: str, body: Body, message_id: str) -> PubAck:
        """Return the stream's acknowledgement. Raises nats-py's errors."""
        self._asks(subject)
        return await self._stream.publish(subject, _encoded(body), headers={MESSAGE_ID: message_id})

    async def publish_core(self, subject: str, body: Body, *, reply: str = "") -> None:
        """Publish on core NATS, and wait until the server has it."""
        self._asks(subject)
        await self._client.publish(subject, _encoded(body), reply=reply)
        await self.flush_both_ways()

    async def send(self, subject: str, data: bytes, reply: str) -> None:
        """Publish on core NATS, as it is, and wait for nothing."""
        self._asks(subject)
        await self._client.publish(subject, data, reply=reply)

    async def flush_both_ways(self) -> None:
        """Flush in both directions: the server has seen all that we sent, and we all that it sent before."""
        await self._client.flush_both_ways(self._target.timeout)

    async def subscribe(self, subject: str = "") -> Subscription:
        """Subscribe, in force on the server when this returns; without a subject to a new inbox."""
        wanted = subject or self._client.new_inbox()
        self._asks(wanted)
        subscription = await self._client.subscribe(wanted)
        await self.flush_both_ways()
        return subscription

    async def ask(self, subject: str, data: bytes = b"") -> Msg:
        """Return the answer to a request. Raises nats-py's errors."""
        self._asks(subject)
        return await self._client.request(subject, data, timeout=self._target.timeout)

    async def ask_own_server(self, subject: str) -> Body:
        """Return the answer of the server that this is connected to, in JSON. Raises TimeoutError, and nats-py's errors.

        Others of a cluster answer as well, and know nothing of this user; only the first answer of all arrives (2.10.26).
        """
        async with asyncio.timeout(self._target.timeout):
            while True:
                answer: Body = json.loads((await self.ask(subject)).data)
                if answer.get("server", {}).get("id") == self._client.info["server_id"]:
                    return answer

    async def put(self, bucket: str, key: str, value: bytes) -> None:
        """Write a value of a bucket. Raises nats-py's errors."""
        await (await self._stream.key_value(bucket)).put(key, value)

    async def read(self, bucket: str, key: str) -> None:
        """Read a value of a bucket, if there is one. Raises nats-py's errors."""
        with suppress(KeyNotFoundError):
            await (await self._stream.key_value(bucket)).get(key)

    async def watch(self, bucket: str) -> None:
        """Watch a bucket until it tells something, and end the watch. Raises nats-py's errors, and PullRefused.

        The watch is made here: with `js_ack_fc_v2` nats-py 2.16 stops reading once the first value comes.
        """
        stream, api = bucket_stream(bucket), f"{self._target.api_prefix}.CONSUMER"
        values = await self.subscribe()
        config = {
            "deliver_subject": values.subject,
            "ack_policy": "none",
            "mem_storage": True,
            "idle_heartbeat": _HEARTBEAT_NANOSECONDS,
        }
        wanted = _encoded({"stream_name": stream, "config": config})
        made = json.loads((await self.ask(f"{api}.CREATE.{stream}", wanted)).data)
        if "name" not in made:
            raise PullRefused(f"no watch of {bucket}: {made.get('error', {}).get('description', '')}")
        if await next_message(values, self._target.timeout) is None:  # a value, or that there is none
            raise PullRefused(f"a watch of {bucket} is told nothing")
        await self.ask(f"{api}.INFO.{stream}.{made['name']}")
        await self.ask(f"{api}.DELETE.{stream}.{made['name']}")
        await values.unsubscribe()

    async def respond(self, message: Msg, body: Body) -> None:
        """Reply to a request."""
        await self._client.publish(message.reply, _encoded(body))

    async def pull(self, consumer: Ref, seconds: float) -> Msg | None:
        """Return the consumer's next message, or None if it hands out none within `seconds`. Raises PullRefused."""
        expires = {"expires": max(int(seconds * 1e9), 1_000_000)}
        return await self._pull(consumer, expires, seconds + timing.AGENT_GRACE_SECONDS)

    @asynccontextmanager
    async def pull_with_heartbeats(self, consumer: Ref, seconds: float) -> AsyncIterator[Subscription]:
        """Yield what hears the answers to one pull from an empty queue, once the server has said that it still waits."""
        inbox = await self.subscribe()
        how = {"batch": 1, "expires": int(seconds * 1e9), "idle_heartbeat": _HEARTBEAT_NANOSECONDS}
        try:
            await self.send(self.pull_subject(consumer), _encoded(how), inbox.subject)
            first = await next_message(inbox, seconds)
            if first is None or (first.headers or {}).get("Status") != _HEARTBEAT:
                raise PullRefused(f"a pull from {consumer} that waits is not answered by heartbeats")
            yield inbox
        finally:
            if not self._client.is_closed:
                await inbox.unsubscribe()

    async def pull_all(self, consumer: Ref) -> list[Msg]:
        """Pull and acknowledge everything that the consumer hands out right now. Raises PullRefused."""
        found: list[Msg] = []
        while message := await self._pull(consumer, {"no_wait": True}, self._target.timeout):
            await message.ack_sync(self._target.timeout)
            found.append(message)
        return found

    def pull_subject(self, consumer: Ref) -> str:
        """Return where a consumer's messages are asked for."""
        return f"{self._target.api_prefix}.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.consumer}"

    async def _pull(self, consumer: Ref, how: Body, patience: float) -> Msg | None:
        inbox = await self._client.subscribe(self._client.new_inbox())
        verb = self.pull_subject(consumer)
        self._asks(verb)
        try:
            await self._client.publish(verb, _encoded({"batch": 1, **how}), reply=inbox.subject)
            message = await next_message(inbox, patience)
        finally:
            if not self._client.is_closed:
                await inbox.unsubscribe()
        status = (message.headers or {}).get("Status") if message and not message.data else None
        if message is None or status in _EMPTY_STATUSES:
            return None
        if status is not None:
            said = (message.headers or {}).get("Description", "").strip().partition("\n")[0]
            raise PullRefused(f"a pull from {consumer} was answered by {status} {said}".strip())
        self._asks(message.reply)  # by acknowledging it
        return message

    async def _on_error(self, error: Exception) -> None:
        if not (self._client.is_connected or self._client.is_closed):
            raise error  # still connecting: nats-py would go on trying for two minutes
        if (denied := re.search(DENIED_PATTERN, str(error))) is not None:
            subject = denied[2].replace('\\"', '"')
            receiving = denied[1].startswith("sub")
            (self._first or self).give_up(
                PermissionDenied(self._asked.get(subject, subject), receiving=receiving)
            )

    async def _on_close(self) -> None:
        self.give_up(ConnectionLost(self.url))

    def give_up(self, why: ServerFault) -> None:
        """Record why nothing more is to be expected of this run."""
        if not self.has_ended.is_set():
            self.end_reason = why
            self.has_ended.set()

    def _asks(self, subject: str) -> None:
        self._asked[subject.lower()] = subject


async def next_message(subscription: Subscription, seconds: float) -> Msg | None:
    """Return the next message of a subscription, or None if none comes within `seconds`."""
    try:
        return await subscription.next_msg(timeout=seconds)
    except NoMessage:
        return None


def message_id_of(message: Msg) -> str:
    """Return the id that the publisher gave to a message; empty without one."""
    return (message.headers or {}).get(MESSAGE_ID, "")


def _encoded(body: Body) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
