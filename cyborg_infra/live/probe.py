"""The checks of `verify` as a table, and their run: concurrent where they do not meet, each told as it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from nats.errors import Error

from cyborg_infra.live import probe_messages, probe_restart, probe_tasks
from cyborg_infra.live.agent import PullRefused, gone
from cyborg_infra.live.faults import ConnectionLost
from cyborg_infra.live.trial import NotConfigured, NotSupported, TooSlow, Trial, Unmet
from cyborg_infra.model.problems import CyborgError
from cyborg_infra.model.verification import CheckName, Result, Verdict

ROLES_AT_ONCE = 16
ATTEMPTS = 3  # of a check that missed a deadline of its own

Tell = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class RoleCheck:
    """A law about the tasks of each role by itself, in one sentence, and how it is tried."""

    name: CheckName
    law: str
    run: Callable[[Trial, str], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class OrgCheck:
    """A law about all roles together."""

    name: CheckName
    law: str
    run: Callable[[Trial], Coroutine[Any, Any, None]]


ROLE_CHECKS = (
    RoleCheck(CheckName.ONCE, "a task reaches one worker once, and an acknowledged one does not come again", probe_tasks.reaches_once),
    RoleCheck(CheckName.WORKED_ON, "a task is not handed out again while it is worked on, for as long as 20 minutes", probe_tasks.not_redelivered),
    RoleCheck(CheckName.REDELIVERED, "a task that nobody acknowledges is handed out again after ack_wait", probe_tasks.redelivered),
    RoleCheck(CheckName.CRASH, "a task whose worker crashed is handed out again", probe_tasks.survives_crash),
    RoleCheck(CheckName.FAILURES, "a task that failed max_deliver times is not handed out again, and is a dead letter", probe_tasks.fails_for_good),
    RoleCheck(CheckName.TERMINATION, "a task that its worker terminated is not handed out again, and is a dead letter", probe_tasks.terminated),
    RoleCheck(CheckName.SAME_ID, "a task that is published twice under one id, a second apart, is one task", probe_tasks.same_id),
    RoleCheck(CheckName.KEPT, "every task that the stream acknowledged while the worker was away is handed out", probe_tasks.nothing_dropped),
    RoleCheck(CheckName.ORDER, "tasks are handed out in the order in which they were published", probe_tasks.in_order),
    RoleCheck(CheckName.BACK_PRESSURE, "a full stream refuses the next task, and a finished one makes room on a workqueue", probe_tasks.back_pressure),
)  # fmt: skip
ORG_CHECKS = (
    OrgCheck(CheckName.INBOX, "a message to an inbox reaches that role and no other", probe_messages.inbox),
    OrgCheck(CheckName.BROADCAST, "a broadcast reaches every role once, one that was away included", probe_messages.broadcast),
    OrgCheck(CheckName.REQUEST, "a request is answered by the agent and by no stream; without an agent it fails at once", probe_messages.request),
    OrgCheck(CheckName.STATUS, "a subscription to the status of all roles hears every one", probe_messages.status),
    OrgCheck(CheckName.EVENT, "an event reaches its subscribers; a durable one also those that were away", probe_messages.event),
)  # fmt: skip
CHAIN = OrgCheck(
    CheckName.CHAIN, "a finished task with on_complete becomes a task of the next role", probe_messages.chain
)
"""Uses every role's tasks, so it comes after the checks of the roles."""

RESTART_LAW = "after a restart of the server every unfinished message is handed out, and no finished one"


async def probe(trial: Trial, wanted: Collection[CheckName], tell: Tell) -> list[Result]:
    """One result per wanted check, and role where it is about one; in the order of CheckName.

    Raises ConnectionLost once the server has gone: what a check saw then says nothing.
    """
    results: list[Result] = []

    def told(result: Result) -> None:
        results.append(result)
        tell(result)

    letters = asyncio.create_task(_letters(trial))
    try:
        await _until_lost(trial, _all(trial, wanted, told))
    finally:
        letters.cancel()
        await asyncio.gather(letters, return_exceptions=True)
    return results


async def restarted(trial: Trial, restart: Callable[[], Awaitable[Trial]], tell: Tell) -> list[Result]:
    """The result of the restart in the middle of the work, which ends the trial's own connections."""

    async def run() -> None:
        before = await probe_restart.prepare(trial)
        try:
            await probe_restart.loses_nothing(before, restart)
        except (
            CyborgError,
            Error,
            OSError,
        ) as error:  # of the new connections: the old ones are lost by design
            raise Unmet(f"after the restart: {error}") from None

    result = await _tried(trial, CheckName.RESTART, RESTART_LAW, run)
    tell(result)
    return [result]


async def _all(trial: Trial, wanted: Collection[CheckName], tell: Tell) -> None:
    limit = asyncio.Semaphore(ROLES_AT_ONCE)

    async def one_role(role: str) -> None:
        async with limit:
            for check in ROLE_CHECKS:
                if check.name in wanted:
                    tell(await _tried(trial, check.name, check.law, partial(check.run, trial, role), role))

    async def of_all(checks: Sequence[OrgCheck]) -> None:
        for check in checks:
            if check.name in wanted:
                tell(await _tried(trial, check.name, check.law, partial(check.run, trial)))

    await asyncio.gather(of_all(ORG_CHECKS), *(one_role(role) for role in trial.roles()))
    await of_all([CHAIN])


async def _tried(
    trial: Trial, name: CheckName, law: str, run: Callable[[], Awaitable[None]], role: str = ""
) -> Result:
    begun = trial.clock()
    verdict, seen = await _verdict(trial, run)
    if verdict is Verdict.FAILED and trial.agent.refusals:
        seen = f"{seen}; the server has said {trial.agent.refusals[-1]}"
    return Result(name, verdict, law, seen, role, trial.clock() - begun)


async def _verdict(trial: Trial, run: Callable[[], Awaitable[None]]) -> tuple[Verdict, str]:
    for _ in range(ATTEMPTS):
        try:
            await run()
        except TooSlow:
            continue
        except NotConfigured as reason:
            return Verdict.NOT_CONFIGURED, str(reason)
        except NotSupported as reason:
            return Verdict.NOT_SUPPORTED, str(reason)
        except (Unmet, PullRefused) as seen:
            return Verdict.FAILED, str(seen)
        except (CyborgError, Error, OSError) as error:
            if trial.agent.lost.is_set():
                raise gone(trial.agent) from None
            return Verdict.FAILED, str(error) or type(error).__name__
        else:
            return Verdict.PASSED, ""
    return (
        Verdict.FAILED,
        f"{ATTEMPTS} attempts took longer than ack_wait: it or this machine is too slow to tell",
    )


async def _letters(trial: Trial) -> None:
    """Whoever cannot read the dead letters fails the checks that need them, not this."""
    with suppress(NotSupported, PullRefused, ConnectionLost, Error):
        await trial.collect_letters()


async def _until_lost(trial: Trial, work: Coroutine[Any, Any, None]) -> None:
    """The work to its end. Raises ConnectionLost, with the work given up, as soon as the server has gone."""
    task, lost = asyncio.create_task(work), asyncio.create_task(trial.agent.lost.wait())
    try:
        await asyncio.wait([task, lost], return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            raise gone(trial.agent)
        await task
    finally:
        for each in (task, lost):
            each.cancel()
        await asyncio.gather(task, lost, return_exceptions=True)
