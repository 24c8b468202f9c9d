"""The checks of `verify` as a table, and their runner: concurrent where they do not meet, each reported as it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from nats.errors import Error

from cyborg_infra.live.connection.errors import ConnectionLost, PermissionDenied
from cyborg_infra.live.verify import message_checks, restart_check, task_checks
from cyborg_infra.live.verify.agent import PullRefused
from cyborg_infra.live.verify.sandbox import CheckFailed, Inconclusive, NotConfigured, NotSupported, Sandbox
from cyborg_infra.model.problems import CyborgError
from cyborg_infra.model.verification import CheckName, CheckResult, Verdict
from cyborg_infra.model.wording import worded

ROLES_IN_PARALLEL = 16
_MAX_ATTEMPTS = 3  # of a check that missed a deadline of its own

OnResult = Callable[[CheckResult], None]


@dataclass(frozen=True, slots=True)
class RoleCheck:
    """A law about the tasks of each role by itself, in one sentence, and how it is tried."""

    name: CheckName
    law: str
    run: Callable[[Sandbox, str], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class OrgCheck:
    """A law about all roles together."""

    name: CheckName
    law: str
    run: Callable[[Sandbox], Coroutine[Any, Any, None]]


ROLE_CHECKS = (
    RoleCheck(CheckName.DELIVERED_ONCE, "a task reaches one worker once, and an acknowledged one does not come again", task_checks.check_reaches_once),
    RoleCheck(CheckName.NOT_REDELIVERED, "a task is not handed out again while it is worked on, for as long as 20 minutes", task_checks.check_not_redelivered),
    RoleCheck(CheckName.REDELIVERED, "a task that nobody acknowledges is handed out again after ack_wait", task_checks.check_redelivered),
    RoleCheck(CheckName.CRASH, "a task whose worker crashed is handed out again", task_checks.check_survives_crash),
    RoleCheck(CheckName.FAILURES, "a task that failed max_deliver times is not handed out again, and is a dead letter", task_checks.check_failures_become_dead_letter),
    RoleCheck(CheckName.TERMINATION, "a task that its worker terminated is not handed out again, and is a dead letter", task_checks.check_termination_becomes_dead_letter),
    RoleCheck(CheckName.SAME_ID, "a task that is published twice under one id, a second apart, is one task", task_checks.check_same_id),
    RoleCheck(CheckName.NOTHING_DROPPED, "every task that the stream acknowledged while the worker was away is handed out", task_checks.check_nothing_dropped),
    RoleCheck(CheckName.ORDER, "tasks are handed out in the order in which they were published", task_checks.check_order),
    RoleCheck(CheckName.BACK_PRESSURE, "a full stream refuses the next task, and a finished one makes room on a workqueue", task_checks.check_back_pressure),
)  # fmt: skip
ORG_CHECKS = (
    OrgCheck(CheckName.INBOX, "a message to an inbox reaches that role and no other", message_checks.check_inbox),
    OrgCheck(CheckName.BROADCAST, "a broadcast reaches every role once, one that was away included", message_checks.check_broadcast),
    OrgCheck(CheckName.REQUEST, "a request is answered by the agent and by no stream; without an agent it fails at once", message_checks.check_request),
    OrgCheck(CheckName.STATUS, "a subscription to the status of all roles hears every one", message_checks.check_status_subject),
    OrgCheck(CheckName.EVENT, "an event reaches its subscribers; a durable one also those that were away", message_checks.check_event),
    OrgCheck(CheckName.CHANNEL, "a message on a channel of one's own reaches each of its readers once, and nobody else", message_checks.check_channels),
)  # fmt: skip
CHAIN = OrgCheck(
    CheckName.CHAIN,
    "a finished task with on_complete becomes a task of the next role",
    message_checks.check_chain,
)
"""Uses every role's tasks, so it comes after the checks of the roles."""

RESTART_LAW = "after a restart of the server every unfinished message is handed out, and no finished one"


async def run_checks(
    sandbox: Sandbox, checks: Collection[CheckName], on_result: OnResult
) -> list[CheckResult]:
    """Run the wanted checks, and return one result per check, and role where it is about one; in the order of CheckName.

    Raises ConnectionLost once the server has gone, and PermissionDenied once it has not allowed something: what a check
    saw then says nothing.
    """
    results: list[CheckResult] = []

    def told(result: CheckResult) -> None:
        results.append(result)
        on_result(result)

    letters = asyncio.create_task(_collecting_dead_letters(sandbox))
    try:
        await sandbox.agent.run_until_ended(_run_all(sandbox, checks, told))
    finally:
        letters.cancel()
        await asyncio.gather(letters, return_exceptions=True)
    return results


async def check_restart(
    sandbox: Sandbox, restart: Callable[[], Awaitable[Sandbox]], on_result: OnResult
) -> list[CheckResult]:
    """Return the result of the restart in the middle of the work, which ends the sandbox's own connections."""

    async def run() -> None:
        before = await restart_check.start_work(sandbox)
        try:
            await restart_check.check_restart_loses_nothing(before, restart)
        except (
            CyborgError,
            Error,
            OSError,
        ) as error:  # of the new connections: the old ones are lost by design
            raise CheckFailed(worded("after the restart: {}", error)) from None

    result = await _run_check(sandbox, CheckName.RESTART, RESTART_LAW, run)
    on_result(result)
    return [result]


async def _run_all(sandbox: Sandbox, requested: Collection[CheckName], on_result: OnResult) -> None:
    limit = asyncio.Semaphore(ROLES_IN_PARALLEL)

    async def one_role(role: str) -> None:
        async with limit:
            for check in ROLE_CHECKS:
                if check.name in requested:
                    on_result(
                        await _run_check(
                            sandbox, check.name, check.law, partial(check.run, sandbox, role), role
                        )
                    )

    async def of_all(checks: Sequence[OrgCheck]) -> None:
        for check in checks:
            if check.name in requested:
                on_result(await _run_check(sandbox, check.name, check.law, partial(check.run, sandbox)))

    await asyncio.gather(of_all(ORG_CHECKS), *(one_role(role) for role in sandbox.roles()))
    await of_all([CHAIN])


async def _run_check(
    sandbox: Sandbox, name: CheckName, law: str, run: Callable[[], Awaitable[None]], role: str = ""
) -> CheckResult:
    begun = sandbox.clock()
    verdict, seen = await _verdict(sandbox, run)
    return CheckResult(name, verdict, law, seen, role, sandbox.clock() - begun)


async def _verdict(sandbox: Sandbox, run: Callable[[], Awaitable[None]]) -> tuple[Verdict, str]:
    for _ in range(_MAX_ATTEMPTS):
        try:
            await run()
        except Inconclusive:
            continue
        except NotConfigured as reason:
            return Verdict.NOT_CONFIGURED, str(reason)
        except NotSupported as reason:
            return Verdict.NOT_SUPPORTED, str(reason)
        except (CheckFailed, PullRefused) as seen:
            return Verdict.FAILED, str(seen)
        except (CyborgError, Error, OSError) as error:
            if sandbox.agent.has_ended.is_set():
                raise sandbox.agent.end_reason from None
            if isinstance(error, PermissionDenied):
                raise
            return Verdict.FAILED, str(error) or type(error).__name__
        else:
            return Verdict.PASSED, ""
    return (
        Verdict.FAILED,
        f"{_MAX_ATTEMPTS} attempts took longer than ack_wait: it or this machine is too slow to tell",
    )


async def _collecting_dead_letters(sandbox: Sandbox) -> None:
    """Collect dead letters meanwhile; a failure to read them fails only the checks that need them."""
    with suppress(NotConfigured, NotSupported, PullRefused, ConnectionLost, Error):
        await sandbox.collect_dead_letters()
