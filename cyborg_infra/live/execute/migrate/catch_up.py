"""Wait until the copy of a stream has caught up with its origin."""

from __future__ import annotations

import asyncio
import contextlib

from cyborg_infra.live import timing
from cyborg_infra.live.api.copying import CopyMethod, require_stream
from cyborg_infra.live.api.errors import ApiError, Retry, raise_for_error
from cyborg_infra.live.api.fencing import write_end_marker
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, StreamCounts, stream_counts
from cyborg_infra.model.valueclass import NamedTuple

# Messages that may still be missing when the origin is fenced: they take a few milliseconds.
NEARLY_COMPLETE_LAG = 500
COMPLETE_POLLS = 40  # so often a copy is looked at whose origin goes on: a second
TRANSIENT_CODES = (
    ErrorCode.JSStreamNotFoundErr,
    ErrorCode.JSConsumerNameExistErr,
    ErrorCode.JSMirrorConsumerSetupFailedErrF,
    ErrorCode.JSSourceConsumerSetupFailedErrF,
    ErrorCode.JSConsumerExistingActiveErr,
    ErrorCode.JSConsumerAlreadyExists,
)
"""What a copy is told while its origin changes hands, or is not known everywhere yet; it asks again by itself."""


async def wait_until_nearly_complete(server: JetStream, origin: Ref, copy: Ref, method: CopyMethod) -> None:
    """Wait until the copy misses so little that the origin can be fenced. Raises ServerFault if it stops growing."""
    watch = _Watch(server, method)
    while True:
        now = await _observe(server, origin, copy, method)
        if now.has_most():
            return
        await watch.observe(now)
        await asyncio.sleep(timing.COPY_POLL_SECONDS)


async def wait_until_complete(server: JetStream, origin: Ref, copy: Ref, method: CopyMethod) -> None:
    """Wait until the copy has every message of the fenced origin. Raises ServerFault if it stops growing before."""
    await _wait_until_fenced(server, origin)
    watch, last = _Watch(server, method), -1
    while True:
        now = await _observe(server, origin, copy, method)
        still, last = last == now.messages.last_seq, now.messages.last_seq
        if still and now.has_as_many() and await method.is_complete(server, now.origin, now.reached):
            return
        await watch.observe(now)
        await asyncio.sleep(timing.COPY_POLL_SECONDS)


async def next_number_if_complete(
    server: JetStream, origin: Ref, copy: Ref, method: CopyMethod
) -> int | None:
    """Return the next number of the origin, which goes on, at a moment when the copy has all; None if there is none soon."""
    for _ in range(COMPLETE_POLLS):
        now = await _observe(server, origin, copy, method)
        if now.has_as_many() and await method.is_complete(server, now.origin, now.reached):
            return now.messages.last_seq + 1
        await asyncio.sleep(timing.COPY_POLL_SECONDS)
    return None


async def wait_until_still(server: JetStream, origin: Ref) -> None:
    """Wait until the fenced origin has stored all that it took in before."""
    await _wait_until_fenced(server, origin)
    last, now = -1, 0
    while last != now:
        last, now = now, stream_counts(require_stream(await server.info(origin))).last_seq
        await asyncio.sleep(timing.COPY_POLL_SECONDS)


class _CopyProgress(NamedTuple):
    """An origin and its copy, a moment later; and the number in the origin of the copy's last message."""

    origin: LiveResource
    copy: LiveResource
    reached: int

    @property
    def messages(self) -> StreamCounts:
        return stream_counts(self.origin)

    def has_as_many(self) -> bool:
        return self.messages.messages <= stream_counts(self.copy).messages

    def has_most(self) -> bool:
        begun = self.reached > 0 and self.messages.last_seq - self.reached <= NEARLY_COMPLETE_LAG
        return begun or self.has_as_many()


async def _wait_until_fenced(server: JetStream, origin: Ref) -> None:
    """Wait until the origin has stored all that it took in before it was fenced, however slow its replicas are.

    They are stored in order: once it has acknowledged one more message, it has all that came before. One that is full of
    bytes, where it must keep its max_bytes, may refuse it, and has taken in nothing either. In an interest stream a
    message that nobody waits for would leave nothing but a gap: the copy does, but not while it looks for its origin.
    """
    stream = await server.info(origin)
    if stream is None or stream.get("num_replicas") == 1:
        return  # a message is stored as it comes
    if stream.get("retention") == "interest":
        await asyncio.sleep(timing.COPY_FLUSH_SECONDS)
        return
    with contextlib.suppress(ApiError):
        await write_end_marker(server, origin)


async def _observe(server: JetStream, origin: Ref, copy: Ref, method: CopyMethod) -> _CopyProgress:
    held = require_stream(await server.info(origin))  # first: what the copy has later is no less
    got = require_stream(await server.info(copy))
    return _CopyProgress(held, got, await method.origin_sequence(server, got))


async def _require_no_copy_error(server: JetStream, copy: Ref) -> None:
    """Raise what a copy says that its origin's server refused it, unless that may be of the moment: nothing will come."""
    doing = f"copying into {copy}"
    row = await server.request_with_retry(f"STREAM.INFO.{copy}", doing=doing)
    for origin in (row.get("mirror") or {}, *(row.get("sources") or ())):
        try:
            raise_for_error(origin, doing)
        except ApiError as error:
            if error.retry is Retry.NEVER and error.err_code not in TRANSIENT_CODES:
                raise


class _Watch:
    """Urges a copy that has not grown for a while, and gives up after timing.COPY_STALL_TIMEOUT_SECONDS.

    Who leads the copy in a cluster asks who leads the origin for a consumer. If that one has just died nobody answers,
    and the copy waits for 30 seconds (2.15.1: 4 of 70 deaths under load) while publishers are refused. A new leader
    asks anew.
    """

    def __init__(self, server: JetStream, method: CopyMethod) -> None:
        self._server, self._method = server, method
        self._seen, self._since, self._urged, self._led = -1, 0.0, False, 0.0

    async def observe(self, now: _CopyProgress) -> None:
        got, moment = stream_counts(now.copy).last_seq, asyncio.get_running_loop().time()
        if got != self._seen:
            self._seen, self._since, self._led = got, moment, moment
            return
        await _require_no_copy_error(self._server, now.copy.ref)
        if moment - self._since > timing.COPY_STALL_TIMEOUT_SECONDS:
            raise ServerFault(
                Problem(
                    "copy-stalled",
                    f"{now.copy.ref} stopped at message {got:,}",
                    None,
                    "is there room for a second copy of the messages? apply again",
                )
            )
        if moment - self._since >= self._method.unblock_after_seconds() and not self._urged:
            self._urged = True
            await self._method.unblock(self._server, now.origin, now.copy)
        elif moment - self._led >= timing.STEPDOWN_AFTER_SECONDS and self._server.is_clustered:
            self._led = moment
            await self._step_down_leader(now.copy.ref)

    async def _step_down_leader(self, copy: Ref) -> None:
        """Ask the copy's leader to step down, if there is another server and we are allowed to."""
        verb, doing = f"STREAM.LEADER.STEPDOWN.{copy}", f"giving {copy} another leader"
        with contextlib.suppress(ServerFault):
            await self._server.request(verb, {}, doing=doing, timeout=timing.STEPDOWN_AFTER_SECONDS)
