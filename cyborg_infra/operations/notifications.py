"""Tell people of alarms and of dead letters, while an organisation is watched.

What is to be told is written into the outbox together with what it follows from; a dead letter is acknowledged once it was told.
The position of the consumer of dead letters is all that is written to the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cyborg_infra.core.operate import dead_letters as letters_of
from cyborg_infra.core.operate import notifications as core
from cyborg_infra.files import Unreadable, read_text
from cyborg_infra.live import timing
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.pulling import ACK, IN_PROGRESS, NAK, PulledMessage, Puller, pulling
from cyborg_infra.live.connection.errors import NoResponders, PermissionDenied, Unanswered
from cyborg_infra.model.channels import ConsumerKind
from cyborg_infra.model.dead_letters import DeadLetter
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.monitor import Observation
from cyborg_infra.model.notification_settings import NotificationSettings, ReceiverSource
from cyborg_infra.model.notifications import Notification, ReceiverStatus
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import CyborgError, Problem, ServerFault, UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.status import Alarm, Condition
from cyborg_infra.monitor.courier import GRACE_SECONDS, Courier
from cyborg_infra.monitor.feed import Feed
from cyborg_infra.monitor.outbox import Outbox
from cyborg_infra.monitor.receivers import NotTaken, Receiver
from cyborg_infra.operations.dead_letter_store import DeadLetterStore
from cyborg_infra.operations.event_loop import run_coroutine
from cyborg_infra.render import notifications as render

BATCH = 1000
"""Dead letters that are read at once."""
MAX_BATCHES = 10
"""So many times dead letters are read while what was read first has not been told yet: a receiver may refuse one message, or be slow."""


class Reports(Feed, Protocol):
    """Whoever observes, and shows how it goes with the receivers."""

    def report_alarms(self, source: str, alarms: Iterable[Alarm]) -> None:
        """Let these alarms be active, in the place of those that the same source reported before."""
        ...

    def report_receivers(self, receivers: Iterable[ReceiverStatus]) -> None:
        """Show how it goes with the receivers."""
        ...


@dataclass(frozen=True, slots=True)
class NotificationRequest:
    """Who is told, and what is remembered where: `state` is a file, or empty for none. `manifest` as commands name it."""

    settings: NotificationSettings = field(default_factory=NotificationSettings)
    receivers: Sequence[Receiver] = ()
    state: str = ""
    manifest: str = "org.yaml"


def load_receivers(sources: Iterable[ReceiverSource], environ: Mapping[str, str]) -> list[Receiver]:
    """Return the receivers with their URLs. Raises UsageInvalid with a problem for each that cannot be had; no URL is in it."""
    found: list[Receiver] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            found.append(Receiver(source.name, _url(source, environ)))
        except UsageInvalid as error:
            problems += (problem._replace(where=problem.where or source.mark) for problem in error.problems)
    names = [receiver.name for receiver in found]
    problems += (
        Problem("usage", f"two receivers are called {name}", None, "give one of them a name: NAME=URL")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    )
    if problems:
        raise UsageInvalid(*problems)
    return found


def _url(source: ReceiverSource, environ: Mapping[str, str]) -> str:
    if source.url:
        return source.url
    if "://" in source.env + source.file:  # which may have a secret in it
        raise UsageInvalid(
            Problem("no-receiver", f"receiver {source.name}: a URL is no environment variable and no file")
        )
    if source.env:
        place, text = f"the environment variable {source.env}", environ.get(source.env, "")
    else:
        place = f"the file {source.file}"
        try:
            text = read_text(source.file)
        except Unreadable as error:
            raise UsageInvalid(
                Problem("no-receiver", f"receiver {source.name}: {place} cannot be read: {error}")
            ) from None
    lines = text.split()
    if len(lines) != 1:
        what = "is not set, or empty" if not lines else "has more than one URL"
        raise UsageInvalid(Problem("no-receiver", f"receiver {source.name}: {place} {what}"))
    return lines[0]


def try_receivers(request: NotificationRequest, org: Org) -> dict[str, str]:
    """Send each receiver a message that says that nothing is wrong; return why it was not taken by name, empty if it was. Asks no server."""
    message = render.trial(render.Sender(org.name, org.environment, request.manifest), time.time())

    async def reason(receiver: Receiver) -> str:
        try:
            await receiver.deliver(message)
        except NotTaken as refused:
            return str(refused)
        return ""

    async def reasons_of_all() -> list[str]:
        return await asyncio.gather(*map(reason, request.receivers))

    reasons = run_coroutine(reasons_of_all())
    return {receiver.name: each for receiver, each in zip(request.receivers, reasons, strict=True)}


class Notifier:
    """Tells people for as long as `run` runs; `tell_letters` runs beside it for as long as there is a connection."""

    def __init__(self, org: Org, desired: DesiredState, request: NotificationRequest) -> None:
        """Open the file of what is remembered. Raises UsageInvalid where that cannot be used."""
        self._org = org
        self._settings = request.settings
        self._sender = render.Sender(org.name, org.environment, request.manifest)
        self._outbox = Outbox(request.state, org.name, [receiver.name for receiver in request.receivers])
        self._courier = Courier(self._outbox, request.receivers)
        self._episodes = self._outbox.episodes()
        self._consumer = _consumer_of_letters(desired) if request.receivers else None
        self._allowance = core.Allowance()
        self._more = 0  # dead letters that waited behind as many as are read at once
        self._unread: Problem | None = None
        self._reports: Reports | None = None

    async def run(self, reports: Reports) -> None:
        """Tell of alarms as they are observed, and deliver, until cancelled."""
        self._reports = reports
        self._report()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._courier.run(self._report))
            async for seen in reports.changes():
                self._tell_alarms(seen)

    def close(self) -> None:
        """Leave the file to others, once nothing of this runs any more."""
        self._outbox.close()

    def _tell_alarms(self, seen: Observation) -> None:
        now = time.time()
        episodes, turns = core.next_turns(self._episodes, seen.alarms, seen.told, now, self._settings)
        if episodes == self._episodes:
            return
        told = [render.message(each, self._sender, (), now) for each in core.grouped(turns)]
        self._outbox.put(told, episodes)
        self._episodes = episodes
        self._courier.wake()

    def _report(self) -> None:
        if self._reports is not None:
            self._reports.report_receivers(self._courier.statuses)
            self._reports.report_alarms("notifications", self._alarms())

    def _alarms(self) -> Iterator[Alarm]:
        yield from core.receiver_alarms(self._courier.statuses)
        if self._outbox.problem:
            yield Alarm(Condition.NOTIFICATION, self._outbox.problem, about="state")
        if self._unread is not None:
            yield Alarm(
                Condition.NOTIFICATION,
                f"dead letters cannot be read: {self._unread}",
                about="dead letters",
            )

    # Dead letters

    async def tell_letters(self, server: JetStream) -> None:
        """Read dead letters, and tell of each, by way of a connection. What keeps them from being read is an alarm, and is tried again."""
        while self._consumer is not None:
            try:
                working = await self._work_seconds(server, self._consumer)
                async with pulling(server, self._consumer) as puller:
                    self._note_unread(None)
                    await self._tell_letters(server, working, puller)
            except* Unanswered:
                pass  # the readings say so
            except* CyborgError as faults:
                self._note_unread(_first(faults).problems[0])
            await asyncio.sleep(timing.MONITOR_RECONNECT_SECONDS)

    async def _work_seconds(self, server: JetStream, consumer: Ref) -> float:
        """Return how often the server has to hear of work. Raises ServerFault for a consumer by which a dead letter could be lost."""
        found = await server.info(consumer)
        if found is None:
            raise NoResponders(str(consumer))  # the readings say so
        if problem := core.unusable_consumer(found):
            raise ServerFault(problem)
        return core.work_seconds(found)

    def _note_unread(self, problem: Problem | None) -> None:
        if problem != self._unread:
            self._unread = problem
            self._report()

    async def _tell_letters(self, server: JetStream, working: float, puller: Puller) -> None:
        store, room = DeadLetterStore(server, self._org), asyncio.Semaphore(MAX_BATCHES)

        async def tell(found: Sequence[PulledMessage]) -> None:
            try:
                await self._tell_batch(server, working, store, found)
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            while True:
                await room.acquire()
                await self._wait_until_allowed()
                found = await puller.batch(BATCH, timing.DEAD_LETTERS_PULL_SECONDS)
                self._more = found[-1].pending if len(found) == BATCH else 0
                if found and not self._is_quiet():
                    group.create_task(tell(found))
                    continue
                room.release()
                if found:  # quiet hours began while it was waited for them
                    await server.acknowledge([each.reply for each in found], NAK)

    async def _wait_until_allowed(self) -> None:
        """Wait until the quiet hours are over, and until there may be another message."""
        while self._is_quiet():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(timing.QUIET_HOURS_POLL_SECONDS)  # a clock that may be set
        self._allowance = self._allowance.as_of(time.time())
        if not self._more:  # as many as are read at once are one message, and no flood
            await asyncio.sleep(self._allowance.seconds)

    def _is_quiet(self) -> bool:
        quiet = self._settings.quiet
        return quiet is not None and quiet.holds_back(Condition.DEAD_LETTERS, time.time())

    async def _tell_batch(
        self, server: JetStream, working: float, store: DeadLetterStore, found: Sequence[PulledMessage]
    ) -> None:
        """Tell of these, and acknowledge each once it was told; until then the server is told that it is at work."""
        entries = {each.message.sequence: letters_of.decode_entry(each.message, self._org) for each in found}
        keys = {number: core.letter_key(letter) for number, letter in entries.items()}
        known = self._outbox.told(keys.values()) | self._outbox.telling()
        fresh = [letter for number, letter in entries.items() if keys[number] not in known]
        if fresh:
            await self._put_letters(store, fresh, keys, found[-1].pending)
        untold = {each.reply: keys[each.message.sequence] for each in found}
        try:
            moves = self._courier.moves
            while untold := await self._acknowledge_told(server, untold):
                await server.acknowledge(list(untold), IN_PROGRESS)
                await self._courier.wait_for_move(moves, working)
                moves = self._courier.moves
        except asyncio.CancelledError:
            with contextlib.suppress(ServerFault):
                if self._courier.under_way and not server.is_lost:
                    await self._courier.wait_for_move(moves, GRACE_SECONDS)
                if untold := await self._acknowledge_told(server, untold):
                    await server.acknowledge(list(untold), NAK)  # whoever comes next need not wait
            raise

    async def _acknowledge_told(self, server: JetStream, untold: Mapping[str, str]) -> dict[str, str]:
        """Acknowledge those that were told, and return the others: where each is answered, and what tells it from others."""
        told = self._outbox.told(untold.values())
        if done := [reply for reply, key in untold.items() if key in told]:
            await server.acknowledge(done, ACK)
        return {reply: key for reply, key in untold.items() if key not in told}

    async def _put_letters(
        self, store: DeadLetterStore, entries: Sequence[DeadLetter], keys: Mapping[int, str], more: int
    ) -> None:
        try:
            letters = await store.with_messages(entries)
        except PermissionDenied:
            letters = [letters_of.without_original(letter) for letter in entries]
        self._allowance = self._allowance.as_of(time.time())
        notifications, self._allowance = core.letter_notifications(letters, self._allowance, more)
        now = time.time()
        self._outbox.put(render.message(each, self._sender, _keys(each, keys), now) for each in notifications)
        self._courier.wake()


def _first(faults: BaseExceptionGroup[CyborgError]) -> CyborgError:
    """Return the first fault in a group, however deep the groups are nested."""
    found = faults.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _keys(notification: Notification, keys: Mapping[int, str]) -> list[str]:
    """Return what tells these dead letters from others, by every entry that tells of them."""
    numbers = (number for letter in notification.letters for number in (letter.entry, *letter.other_numbers))
    return list(dict.fromkeys(keys[number] for number in numbers if number in keys))


def _consumer_of_letters(desired: DesiredState) -> Ref | None:
    """Return the consumer by which dead letters are told; None for an organisation that has none."""
    kinds = ((found.ref, found.metadata.get(KIND_KEY)) for found in desired.consumers())
    return next((ref for ref, kind in kinds if kind == ConsumerKind.DEAD_LETTER_ALERTS), None)
