"""A connection as an agent has it: publishes with ids, pulls, acknowledges, asks and answers. Judges nothing.

Pull requests are written here and not by nats-py, so that each has ended on the server when it has ended here: one
that lingers would take a message from whoever pulls next. Imports nats (110 ms).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.errors import TimeoutError as NoMessage
from nats.js.api import PubAck

from cyborg_infra.live.client import SafeClient
from cyborg_infra.live.faults import ConnectionLost, PlaintextOnly, why_not_connected
from cyborg_infra.live.link import client_options
from cyborg_infra.live.target import Target
from cyborg_infra.model.fields import MESSAGE_ID
from cyborg_infra.model.problems import ConnectFailed, Problem
from cyborg_infra.model.state import Ref

_GRACE = 1.0  # seconds for closing; and for the end of a pull request after it has expired
_EMPTY = ("404", "408")  # statuses: nothing is waiting; the request has expired

Body = Mapping[str, Any]


class PullRefused(Exception):
    """The server does not hand out by this consumer; the text is its own."""


class Agent:
    """One connection. `lost` is set once the server has gone; `refusals` are what the server said of permissions."""

    def __init__(self, target: Target, url: str) -> None:
        self.url = url
        self.lost = asyncio.Event()
        self.refusals: list[str] = []
        self._target = target
        self._client = SafeClient(tls_wanted=target.tls_wanted)
        self._stream = self._client.jetstream(prefix=target.api_prefix, timeout=target.timeout)

    async def __aenter__(self) -> Self:
        """Connected. Raises ConnectFailed."""
        try:
            async with asyncio.timeout(self._target.timeout):
                await self._client.connect(
                    self.url,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_close,
                    **client_options(self._target),
                )
        except (Error, OSError, ValueError, PlaintextOnly) as error:
            await self._client.end(_GRACE)
            reason = why_not_connected(error, self._target)
            raise ConnectFailed(
                Problem("connect-failed", f"cannot connect to {self.url}: {reason}")
            ) from None
        except BaseException:
            await self._client.end(_GRACE)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.end(_GRACE)

    async def die(self) -> None:
        """Gone without a word to the server, as when a process is killed."""
        await self._client.end(0)

    async def publish(self, subject: str, body: Body, message_id: str) -> PubAck:
        """The stream's acknowledgement. Raises nats-py's errors."""
        return await self._stream.publish(subject, _encoded(body), headers={MESSAGE_ID: message_id})

    async def tell(self, subject: str, body: Body, *, reply: str = "") -> None:
        """Published, stored by nobody, and the server has it."""
        await self._client.publish(subject, _encoded(body), reply=reply)
        await self.settle()

    async def settle(self) -> None:
        """The server has seen all that we sent, and we all that it sent before."""
        await self._client.settle(self._target.timeout)

    async def listen(self, subject: str = "") -> Subscription:
        """In force on the server; without a subject a new inbox."""
        subscription = await self._client.subscribe(subject or self._client.new_inbox())
        await self.settle()
        return subscription

    async def answer(self, message: Msg, body: Body) -> None:
        """Sent to whoever asked."""
        await self._client.publish(message.reply, _encoded(body))

    async def take(self, consumer: Ref, seconds: float) -> Msg | None:
        """The consumer's next message, or None if it hands out none within `seconds`. Raises PullRefused."""
        expires = {"expires": max(int(seconds * 1e9), 1_000_000)}
        return await self._pull(consumer, expires, seconds + _GRACE)

    async def waiting(self, consumer: Ref) -> list[Msg]:
        """Everything that the consumer hands out right now, acknowledged. Raises PullRefused."""
        found: list[Msg] = []
        while message := await self._pull(consumer, {"no_wait": True}, self._target.timeout):
            await message.ack_sync(self._target.timeout)
            found.append(message)
        return found

    async def _pull(self, consumer: Ref, how: Body, patience: float) -> Msg | None:
        inbox = await self._client.subscribe(self._client.new_inbox())
        verb = f"{self._target.api_prefix}.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.consumer}"
        try:
            await self._client.publish(verb, _encoded({"batch": 1, **how}), reply=inbox.subject)
            message = await heard(inbox, patience)
        finally:
            if not self._client.is_closed:
                await inbox.unsubscribe()
        status = (message.headers or {}).get("Status") if message and not message.data else None
        if message is None or status in _EMPTY:
            return None
        if status is not None:
            said = (message.headers or {}).get("Description", "").strip().partition("\n")[0]
            raise PullRefused(f"a pull from {consumer} was answered by {status} {said}".strip())
        return message

    async def _on_error(self, error: Exception) -> None:
        if not (self._client.is_connected or self._client.is_closed):
            raise error  # still connecting: nats-py would go on trying for two minutes
        if "permissions violation" in str(error).lower():
            self.refusals.append(str(error))

    async def _on_close(self) -> None:
        self.lost.set()


async def heard(subscription: Subscription, seconds: float) -> Msg | None:
    """The next message of a subscription, or None if none comes within `seconds`."""
    try:
        return await subscription.next_msg(timeout=seconds)
    except NoMessage:
        return None


def id_of(message: Msg) -> str:
    """The id that the publisher gave to a message; empty without one."""
    return (message.headers or {}).get(MESSAGE_ID, "")


def gone(agent: Agent) -> ConnectionLost:
    """What to raise when the agent's server has gone."""
    return ConnectionLost(agent.url)


def _encoded(body: Body) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
