"""Watch an organisation: read its status and plan it, again and again, and hand what is seen to whoever shows it or tells people.

Nothing is written to the server but, where people are told of dead letters, the position of their consumer. Readings come one after the other on one connection, so that none piles up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from cyborg_infra.core.operate.dead_letters import subject as replay_subject
from cyborg_infra.core.operate.dead_letters import without_original
from cyborg_infra.core.operate.monitor import drift_alarms, drift_reading, unreadable_alarms
from cyborg_infra.live import timing
from cyborg_infra.live.api.jetstream import JetStream, connect_account
from cyborg_infra.live.connection.errors import NoReply, PermissionDenied
from cyborg_infra.live.connection.target import Target
from cyborg_infra.model.dead_letters import DeadLetter, task_named_in
from cyborg_infra.model.monitor import Attempts, Observation, WatchedLetter
from cyborg_infra.model.notifications import ReceiverStatus
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.plan import PlanRequest
from cyborg_infra.model.problems import ConnectFailed, CyborgError, Problem
from cyborg_infra.model.status import Alarm, OrgStatus
from cyborg_infra.monitor.server import HttpSettings, serve
from cyborg_infra.operations.dead_letter_store import DeadLetterStore
from cyborg_infra.operations.event_loop import run_coroutine
from cyborg_infra.operations.notifications import NotificationRequest, Notifier, load_receivers, try_receivers
from cyborg_infra.operations.provision import plan_on
from cyborg_infra.operations.status import StatusRequest, status_on

__all__ = [
    "HttpSettings",
    "Monitor",
    "MonitorRequest",
    "NotificationRequest",
    "load_receivers",
    "run",
    "try_receivers",
]

MAX_LETTERS = 20
"""So many dead letters, the newest, have their messages read."""

Companion = Callable[[JetStream], Coroutine[Any, Any, None]]
"""What runs beside the readings on the same connection. It is cancelled when that is lost, and called again with the next one."""


@dataclass(frozen=True, slots=True)
class MonitorRequest:
    """What to watch, how often, and where to show it; intervals in seconds."""

    subject: StatusRequest
    _: KW_ONLY
    interval: float = 15.0
    drift_interval: float = 300.0
    http: HttpSettings = field(default_factory=HttpSettings)
    notifications: NotificationRequest = field(default_factory=NotificationRequest)


def run(
    request: MonitorRequest, target: Target, on_listening: Callable[[str], None] = lambda _: None
) -> None:
    """Watch the organisation until Ctrl-C, SIGTERM or SIGHUP, and serve what is seen; `on_listening` hears the URL.

    A server that is down ends nothing: that is an alarm. Raises UsageInvalid where the address cannot be listened on, or the file of what was told not be used.
    """
    end = asyncio.Event()

    def ask_to_end() -> bool:
        end.set()
        return True

    async def running() -> None:
        subject = request.subject
        with contextlib.closing(Notifier(subject.org, subject.desired, request.notifications)) as notifier:
            monitor = Monitor(request, target, [notifier.tell_letters])
            await _until_first_ends(
                monitor.run(), serve(monitor, request.http, on_listening), end.wait(), notifier.run(monitor)
            )

    run_coroutine(running(), ask_to_end)


class Monitor:
    """Reads one organisation for as long as `run` runs. `observation` is what is known now."""

    def __init__(self, request: MonitorRequest, target: Target, companions: Sequence[Companion] = ()) -> None:
        self._request = request
        self._target = target
        self._companions = companions
        org = request.subject.org
        self._observation = Observation(org.name, org.environment)
        self._reported: dict[str, tuple[Alarm, ...]] = {}
        self._next_plan = 0.0  # by the loop's clock
        self._failing_since: float | None = None  # by the loop's clock
        self._expiry: asyncio.TimerHandle | None = None  # of what was read last
        self._wake_ups = set[Callable[[], object]]()

    @property
    def org(self) -> Org:
        """What is observed."""
        return self._request.subject.org

    @property
    def interval(self) -> float:
        """Seconds between two readings."""
        return self._request.interval

    @property
    def _patience(self) -> float:
        """Seconds after which a reading that failed is tried again at the latest, and after which failing is an alarm."""
        return min(self._request.interval, timing.MONITOR_RETRY_SECONDS)

    @property
    def observation(self) -> Observation:
        """What is known now."""
        return self._observation

    async def changes(self) -> AsyncIterator[Observation]:
        """Yield what is known now, and then each time that it changes. Who is slow misses what was in between, and holds nobody up.

        In any event loop, of any thread.
        """
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake_up() -> None:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(changed.set)

        self._wake_ups.add(wake_up)
        try:
            seen = None
            while True:
                changed.clear()
                if (now := self._observation) is not seen:
                    seen = now
                    yield now
                else:
                    await changed.wait()
        finally:
            self._wake_ups.discard(wake_up)

    def report_alarms(self, source: str, alarms: Iterable[Alarm]) -> None:
        """Let these alarms be active, in the place of those that the same source reported before."""
        found = tuple(alarms)
        if self._reported.get(source, ()) != found:
            self._reported[source] = found
            self._publish(self._observation)

    def report_receivers(self, receivers: Iterable[ReceiverStatus]) -> None:
        """Show how it goes with the receivers of notifications."""
        if (found := tuple(receivers)) != self._observation.receivers:
            self._publish(replace(self._observation, receivers=found))

    async def run(self) -> None:
        """Read until cancelled. What keeps a reading from succeeding is in the observation, and the next one is tried."""
        pause = first_pause = timing.MONITOR_RECONNECT_SECONDS
        self._let_expire(0.0)
        while True:
            try:
                async with connect_account(self._target) as server:
                    pause = first_pause
                    await self._watch(server)
            except ConnectFailed as error:
                self._failed(error)
            await asyncio.sleep(pause)
            # Who is not let in is no burden to the server, and whoever comes back is found no later than by a reading.
            pause = min(2 * pause, max(first_pause, self._patience))

    async def _watch(self, server: JetStream) -> None:
        """Read by way of a connection until it is lost."""
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(companion(server)) for companion in self._companions]
            letters = _Letters(server, self._request.subject.org)
            while await self._look(server, letters):
                pass
            for task in beside:
                task.cancel()

    async def _look(self, server: JetStream, letters: _Letters) -> bool:
        """Read once, and wait until the next reading is due. Returns whether the connection can still be used."""
        loop = asyncio.get_running_loop()
        began, usable = loop.time(), True
        try:
            status = await status_on(server, self._request.subject)
            found = await letters.newest(status)
        except CyborgError as error:
            self._failed(error)
            if server.is_lost:
                return False
            # Who was not allowed its inbox for a moment hears no answer on this connection any more: the server has ended the subscription.
            usable = not isinstance(error, (NoReply, PermissionDenied))
        else:
            self._publish(
                replace(
                    self._observation,
                    status=status,
                    read_at=time.time(),
                    read_seconds=loop.time() - began,
                    problem=None,
                    readings=_one_more(self._observation.readings, done=True),
                    dead_letters=found,
                )
            )
            self._let_expire(loop.time() - began)
            await self._plan(server)
        took = loop.time() - began
        interval = self._patience if self._observation.problem else self._request.interval
        # What takes longer than its interval has the server to itself for half of the time at most.
        await asyncio.sleep(max(interval - took, min(took, interval)))
        return usable

    async def _plan(self, server: JetStream) -> None:
        """Plan if that is due, after a reading that succeeded."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._next_plan:
            return
        subject = self._request.subject
        try:
            plan = await plan_on(server, PlanRequest(subject.org.name, subject.desired, subject.org))
        except CyborgError as error:
            self._publish(
                replace(
                    self._observation,
                    drift=None,
                    drift_problem=error.problems[0],
                    plans=_one_more(self._observation.plans, done=False),
                )
            )
        else:
            self._next_plan = loop.time() + self._request.drift_interval
            drift = drift_reading(plan, time.time())
            self._publish(
                replace(
                    self._observation,
                    drift=drift,
                    drift_problem=None,
                    plans=_one_more(self._observation.plans, done=True),
                )
            )

    def _let_expire(self, took: float) -> None:
        """Forget what was read, by a reading that took so many seconds, if the next one does not end in time.

        Before that come a plan and a rest. Each request may be answered, and all of them take minutes nevertheless.
        """
        if self._expiry is not None:
            self._expiry.cancel()
        seconds = self._request.interval + timing.MONITOR_RETRY_SECONDS + 4 * took
        self._expiry = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)

    def _expire(self, seconds: float) -> None:
        """Publish that no reading has ended in time, unless a problem is published already."""
        if self._observation.problem is None:
            self._failing_since = asyncio.get_running_loop().time() - seconds
            said = f"no reading has ended for {seconds:.0f}s: the server answers too slowly"
            self._forget(Problem("slow-reading", said), self._observation.readings)

    def _failed(self, error: CyborgError) -> None:
        self._forget(error.problems[0], _one_more(self._observation.readings, done=False))

    def _forget(self, problem: Problem, readings: Attempts) -> None:
        """Publish that status and drift are not known, and why; drift is read again as soon as anything is."""
        self._next_plan = 0.0
        self._publish(
            replace(
                self._observation,
                status=None,
                problem=problem,
                drift=None,
                drift_problem=None,
                readings=readings,
                dead_letters=(),
            )
        )

    def _publish(self, observation: Observation) -> None:
        """Publish the observation with all alarms that are active now."""
        now = asyncio.get_running_loop().time()
        if observation.problem is None:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        failing = now - (self._failing_since or now)
        alarms = (
            *unreadable_alarms(observation.problem, failing, self._patience),
            *(observation.status.alarms if observation.status else ()),
            *drift_alarms(observation.drift),
            *(alarm for reported in self._reported.values() for alarm in reported),
        )
        self._observation = replace(observation, alarms=alarms)
        for wake_up in tuple(self._wake_ups):
            wake_up()


class _Letters:
    """Reads the messages of the newest dead letters: again only where others are the newest."""

    def __init__(self, server: JetStream, org: Org) -> None:
        self._store = DeadLetterStore(server, org)
        self._read: tuple[DeadLetter, ...] = ()
        self._found: tuple[WatchedLetter, ...] = ()

    async def newest(self, status: OrgStatus) -> tuple[WatchedLetter, ...]:
        """Return them, newest first. Raises ServerFault."""
        entries = status.dead_letters.recent[:MAX_LETTERS]
        if entries != self._read:
            try:
                read = await self._store.with_messages(entries)
            except PermissionDenied:
                read = [without_original(letter) for letter in entries]
            self._found = tuple(
                WatchedLetter(replace(letter, message=None), *task_named_in(letter), replay_subject(letter))
                for letter in sorted(read, key=lambda letter: -letter.number)
            )
            self._read = entries
        return self._found


def _one_more(attempts: Attempts, *, done: bool) -> Attempts:
    return Attempts(attempts.done + done, attempts.failed + (not done))


async def _until_first_ends(*works: Coroutine[Any, Any, object]) -> None:
    """Run all of them until one ends, and then cancel the others. Raises what one of them raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
            raise end
